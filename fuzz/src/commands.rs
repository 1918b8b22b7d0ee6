//! The command line and its `key=value` lists.

use backends::keyval::KeyVals;

use crate::program::cli;

/// Arguments, one a line. An error is one line of text. The lists are parsed by themselves too.
pub fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let arguments: Vec<&str> = text.split('\n').collect();
    for argument in &arguments {
        let _ = KeyVals::parse(argument, None);
        let _ = KeyVals::parse(argument, Some("implied"));
    }
    if let Err(error) = cli::parse(arguments) {
        assert!(!error.to_string().is_empty(), "an error says what is wrong");
    }
}
