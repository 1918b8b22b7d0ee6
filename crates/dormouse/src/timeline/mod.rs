//! `dormouse timeline LOG -o FILE.svg`: a picture of a machine's life, guest time against host time.
//!
//! ```text
//!   LOG ──► log (records, checked) ──► scale, picture (what is where) ──► svg (text)
//! ```
//!
//! Not an option of the machine but a use of its own, looked for before options are parsed.

mod log;
mod picture;
mod scale;
mod svg;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// The first argument that asks for it.
pub(crate) const NAME: &str = "timeline";

const USAGE: &str = "usage: dormouse timeline LOG [-o FILE.svg]\n\n\
    Draws the life of a machine, guest time against host time, as an SVG picture. LOG is what -x-event-log wrote, or\n\
    lines recorded from a QMP monitor after x-lifecycle-events or x-query-events; - is the standard input.\n\
    Without -o the picture goes to the standard output.\n";

/// The most of a log that is read.
const MOST: u64 = 512 << 20;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimelineError {
    #[error("timeline: {0}\n{USAGE}")]
    Usage(String),
    #[error("timeline: cannot read '{}'", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("timeline: '{}'", path.display())]
    Log { path: PathBuf, source: log::LogError },
    #[error("timeline: cannot write '{}'", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Draw { log: PathBuf, out: Option<PathBuf> },
}

/// Carries out what the arguments after `timeline` ask for.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, TimelineError> {
    match parse(args)? {
        Task::Help => say(USAGE, None),
        Task::Draw { log, out } => say(&draw(&log)?, out),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Task, TimelineError> {
    let usage = |text: String| Err(TimelineError::Usage(text));
    let (mut log, mut out) = (None, None);
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-h" | "-help" | "--help") => return Ok(Task::Help),
            Some("-o") => match args.next() {
                Some(path) => out = Some(PathBuf::from(path)).filter(|path| path.as_os_str() != "-"),
                None => return usage("-o needs a file".to_owned()),
            },
            Some(option) if option.len() > 1 && option.starts_with('-') => {
                return usage(format!("no option '{option}'"));
            }
            _ if log.is_some() => return usage("more than one log".to_owned()),
            _ => log = Some(PathBuf::from(arg)),
        }
    }
    match log {
        Some(log) => Ok(Task::Draw { log, out }),
        None => usage("no log".to_owned()),
    }
}

fn draw(path: &PathBuf) -> Result<String, TimelineError> {
    let open = |source| TimelineError::Open { path: path.clone(), source };
    let moments = if path.as_os_str() == "-" {
        log::read(BufReader::new(io::stdin().lock().take(MOST)))
    } else {
        log::read(BufReader::new(File::open(path).map_err(open)?.take(MOST)))
    };
    let moments = moments.map_err(|source| TimelineError::Log { path: path.clone(), source })?;
    Ok(picture::draw(&moments))
}

fn say(text: &str, out: Option<PathBuf>) -> Result<(), TimelineError> {
    match out {
        Some(path) => std::fs::write(&path, text).map_err(|source| TimelineError::Write { path, source }),
        None => {
            // Whoever closed the other end does not want the text.
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(())
        }
    }
}
