//! The dormouse program: reads the command line, puts board, engine and monitors together, and ends in an orderly way.
//!
//! ```text
//!   cli ──► Options ──► setup::Machine (clocks, board, engine) ──► consoles (serial, multiplexer, monitors) ──► run
//! ```
//!
//! Every failure before the machine runs is one line on the standard error, with the program's name in front, and exit
//! status 1.
#![forbid(unsafe_code)]

mod channels;
mod cli;
mod consoles;
mod disks;
mod host;
mod inspect;
mod objects;
mod remote;
mod run;
mod setup;
mod stub;
mod timeline;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// The name in front of messages.
const PROGRAM: &str = "dormouse";

/// How long threads that answer, move bytes or fire timers execute at a time where others want their processor. The least
/// that the kernel takes: they have little to do and much waits for it.
const CONTROL_SLICE: Duration = Duration::from_micros(100);

fn main() -> ExitCode {
    // Before anything is opened: what a manager has left open for us may be named much later. Without it such a descriptor
    // has to be named before we open files of our own.
    let _ = sys::note_inherited();
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == timeline::NAME).is_some() {
        return timeline::run(arguments).unwrap_or_else(|error| complain(&error));
    }
    if arguments.next_if(|first| first == inspect::NAME).is_some() {
        return inspect::run(arguments).unwrap_or_else(|error| complain(&error));
    }
    if arguments.peek().is_some_and(|first| remote::NAMES.iter().any(|name| first == name)) {
        return remote::run(arguments).unwrap_or_else(|error| complain(&error));
    }
    let options = match cli::parse(arguments) {
        Ok(cli::Command::Run(options)) => options,
        Ok(cli::Command::Print(text)) => {
            // Whoever closed the other end does not want the text.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return complain(&error),
    };
    // First of all, so that every thread inherits it. The kernel may not know it: then answers wait for a tick more often.
    let _ = sys::set_thread_slice(CONTROL_SLICE);
    match run::run(&options) {
        Ok(status) => status,
        Err(error) => complain(&*error),
    }
}

/// One line: what went wrong, and why, down to the last cause.
fn complain(error: &dyn std::error::Error) -> ExitCode {
    let mut line = format!("{PROGRAM}: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        // Some messages carry their cause's text already, without its number perhaps.
        let bare = text.split(" (os error ").next().unwrap_or(&text);
        if !line.ends_with(&text) && !line.ends_with(bare) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = source.source();
    }
    backends::clean_up();
    say_raw(&line);
    ExitCode::FAILURE
}

/// Tells the user something on the standard error. If nobody reads that any more, nobody is told: that is no reason to
/// fail, least of all on the way to the end.
fn say(what: impl std::fmt::Display) {
    say_raw(&format!("{PROGRAM}: {what}"));
}

fn say_raw(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
