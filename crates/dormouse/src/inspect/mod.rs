//! `dormouse inspect FILE`: what is in a saved machine, and whether all of it is as it was written.
//!
//! ```text
//!   FILE ──► stream::Survey (everything but memory; every checksum compared) ──► report (JSON) ──► text
//! ```
//!
//! Not an option of the machine but a use of its own, looked for before options are parsed.

mod report;
mod sections;
#[cfg(test)]
mod tests;
mod text;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use stream::{Limits, Survey, SurveyError};

/// The first argument that asks for it.
pub(crate) const NAME: &str = "inspect";

const USAGE: &str = "usage: dormouse inspect FILE [--json]\n\n\
    Shows what is in a saved machine (a snapshot, or what 'migrate file:' or 'migrate exec:' wrote) and compares every\n\
    checksum in it. - is the standard input. --json (or -o json) is for programs. The exit status is 1 if something is\n\
    wrong with it. Of an incremental snapshot only what it holds itself is looked at, not its parent.\n";

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("inspect: {0}\n{USAGE}")]
    Usage(String),
    #[error("inspect: cannot read '{}'", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("inspect: '{}'", path.display())]
    Form { path: PathBuf, source: SurveyError },
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Show { path: PathBuf, json: bool },
}

/// Carries out what the arguments after `inspect` ask for.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, InspectError> {
    let text = match parse(args)? {
        Task::Help => USAGE.to_owned(),
        Task::Show { path, json } => {
            let report = report::of(&survey(&path)?);
            if json { format!("{report:#}\n") } else { text::of(&report) }
        }
    };
    // Whoever closed the other end does not want the text.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Task, InspectError> {
    let usage = |text: String| Err(InspectError::Usage(text));
    let (mut path, mut json) = (None, false);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-h" | "-help" | "--help") => return Ok(Task::Help),
            Some("--json" | "-json") => json = true,
            Some("-o") => match args.next().as_ref().and_then(|format| format.to_str()) {
                Some("json") => json = true,
                Some("text") => json = false,
                _ => return usage("-o is json or text".to_owned()),
            },
            Some(option) if option.len() > 1 && option.starts_with('-') => {
                return usage(format!("no option '{option}'"));
            }
            _ if path.is_some() => return usage("more than one file".to_owned()),
            _ => path = Some(PathBuf::from(arg)),
        }
    }
    match path {
        Some(path) => Ok(Task::Show { path, json }),
        None => usage("no file".to_owned()),
    }
}

fn survey(path: &Path) -> Result<Survey, InspectError> {
    let form = |source| InspectError::Form { path: path.to_owned(), source };
    if path.as_os_str() == "-" {
        return Survey::of(io::stdin().lock(), &Limits::default()).map_err(|error| form(error.into()));
    }
    let file = File::open(path).map_err(|source| InspectError::Open { path: path.to_owned(), source })?;
    Survey::of_file(file, &Limits::default()).map_err(form)
}
