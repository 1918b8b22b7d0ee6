//! `dormouse migrate` and `dormouse snapshot`: what takes a while, asked of another process over its QMP monitor, with a
//! progress bar.
//!
//! ```text
//!   arguments ──► Task ──► migrate, snapshot ──► Monitor ◄──► the process that has the machine (this program or QEMU)
//!                                  └─► Bar (standard error, if it is a terminal)
//! ```
//! An interrupt (Ctrl-C) cancels what was asked for and waits for its end; a second one leaves it alone.

mod bar;
mod migrate;
mod monitor;
mod snapshot;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use monitor::{Monitor, Place};

/// The first arguments that ask for it.
pub(crate) const NAMES: [&str; 2] = [MIGRATE, SNAPSHOT];

const MIGRATE: &str = "migrate";
const SNAPSHOT: &str = "snapshot";

const USAGE: &str = "\
usage: dormouse migrate MONITOR URI
       dormouse snapshot save|load|delete MONITOR NAME

Has the machine whose QMP monitor is at MONITOR (the path of a unix socket, or tcp:HOST:PORT) move to URI (unix:, tcp:,
file:, exec:), or save, load or delete a snapshot of itself, and shows how far it is. An interrupt cancels; a second one
goes away and leaves it going. The exit status is 1 if it fails or is cancelled.
";

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error("cannot reach the monitor at {place}")]
    Unreachable { place: String, source: io::Error },
    #[error("the monitor says nothing; does it serve another client?")]
    Silent,
    #[error("the monitor is gone")]
    Gone(#[source] io::Error),
    #[error("what answers is no QMP monitor: {0}")]
    NoMonitor(String),
    /// In the monitor's words.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
    #[error("cancelled")]
    Cancelled,
    #[error("left alone, it goes on")]
    Left,
    #[error("signals cannot be heard")]
    Signals(#[source] io::Error),
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Migrate { place: Place, uri: String },
    Snapshot { deed: snapshot::Deed, place: Place, name: String },
}

/// Carries out what the arguments, of which the first is one of [`NAMES`], ask for.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, RemoteError> {
    match parse(args)? {
        // Whoever closed the other end does not want the text.
        Task::Help => drop(io::stdout().write_all(USAGE.as_bytes())),
        Task::Migrate { place, uri } => migrate::run(&mut Monitor::connect(&place)?, &uri)?,
        Task::Snapshot { deed, place, name } => {
            snapshot::run(&mut Monitor::connect(&place)?, deed, &name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Task, RemoteError> {
    let usage = |text: &str| Err(RemoteError::Usage(text.to_owned()));
    let mut words = Vec::new();
    for arg in args {
        let Ok(word) = arg.into_string() else { return usage("not UTF-8") };
        words.push(word);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.iter().any(|word| matches!(*word, "-h" | "-help" | "--help")) {
        return Ok(Task::Help);
    }
    match *words.as_slice() {
        [MIGRATE, place, uri] => Ok(Task::Migrate { place: Place::parse(place), uri: uri.to_owned() }),
        [MIGRATE, ..] => usage("migrate wants the monitor and the place to go to"),
        [SNAPSHOT, deed, place, name] => {
            let deed = snapshot::Deed::parse(deed)
                .ok_or_else(|| RemoteError::Usage(format!("snapshot does not know '{deed}'")))?;
            Ok(Task::Snapshot { deed, place: Place::parse(place), name: name.to_owned() })
        }
        _ => usage("snapshot wants save, load or delete, the monitor and a name"),
    }
}
