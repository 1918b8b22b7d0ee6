//! The command line, in QEMU's spelling.
//!
//! ```text
//! argv ── table (one definition an option) ──▶ Builder ── finish: what several options say together ──▶ Options
//! ```
//! Options have a long name behind one dash (two are accepted) and at most one value, which is the next argument; nothing is
//! bundled. Values are mostly `key=value` lists ([`backends::keyval`]). [`table::OPTIONS`] is the only list of options: it drives the
//! parsing and the text of `-help`.
//!
//! # Invariants
//! * Any argument list gives [`Command`] or a [`CliError`] of one line; nothing is opened, printed or started here.
//! * The order of options matters only between repetitions of one option.

mod devices;
mod disks;
mod error;
mod finish;
mod help;
mod machine;
mod options;
mod parameters;
mod ports;
mod session;
mod table;

pub use error::CliError;
pub use finish::MAX_CPUS;
pub use options::{
    Bios, CpuModel, Incoming, Load, MachineKind, MonitorKind, NodeKind, NodeOption, Options, PortOption,
    RngSource, VirtioKind, VirtioOption, VmgenidOption,
};
pub use parameters::command_line_options;
pub use session::gdb_place;

use table::{Argument, OptionDef};

/// What the program shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run a machine.
    Run(Box<Options>),
    /// Print this on the standard output and end with success.
    Print(String),
}

/// Reads the arguments, the program's name left out.
///
/// # Errors
/// [`CliError`], one line of text to follow the program's name and a colon.
pub fn parse<I>(arguments: I) -> Result<Command, CliError>
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString>,
{
    let mut builder = options::Builder::default();
    let mut arguments = arguments.into_iter().map(|argument| {
        let argument: std::ffi::OsString = argument.into();
        argument.into_string().map_err(|raw| CliError::NotText(raw.to_string_lossy().into_owned()))
    });
    let mut next = arguments.next().transpose()?;
    while let Some(argument) = next.take() {
        let option = lookup(&argument)?;
        next = arguments.next().transpose()?;
        let value = match option.argument {
            Argument::None => String::new(),
            Argument::Required(_) => {
                next.take().ok_or_else(|| CliError::MissingArgument(argument.clone()))?
            }
            Argument::OnOff => {
                next.take_if(|word| matches!(word.as_str(), "on" | "off")).unwrap_or_else(|| "on".to_owned())
            }
        };
        if next.is_none() {
            next = arguments.next().transpose()?;
        }
        (option.apply)(&mut builder, &value).map_err(|source| match option.argument {
            Argument::Required(_) => CliError::Value { option: format!("{argument} {value}"), source },
            _ => CliError::Value { option: argument.clone(), source },
        })?;
        if let Some(text) = builder.print.take() {
            return Ok(Command::Print(text));
        }
    }
    Ok(Command::Run(Box::new(finish::finish(builder)?)))
}

/// The definition of an option as typed.
fn lookup(argument: &str) -> Result<&'static OptionDef, CliError> {
    let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else {
        return Err(CliError::Stray(argument.to_owned()));
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    table::OPTIONS
        .iter()
        .find(|option| option.name == name || option.aliases.contains(&name))
        .ok_or_else(|| CliError::InvalidOption(argument.to_owned()))
}

#[cfg(test)]
mod tests;
