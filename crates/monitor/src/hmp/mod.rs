//! The human monitor: lines of words for people, and for `human-monitor-command`.
//!
//! [`table`] says which commands there are; [`run_line`] parses and runs one, [`complete`] completes one, [`editor`] and
//! [`session`] put them on a terminal. What a line prints is text with `\r\n` ends; a line that is wrong is told so in words
//! and never is an error of anything around it.

mod commands;
mod complete;
mod editor;
mod session;
mod table;

pub(crate) use session::{Focus, Human};

use engine::Status;

use crate::context::Context;
use table::{COMMANDS, Entry, Run, Words};

/// What a command may look at, and where it prints.
pub(crate) struct Env<'a> {
    pub(crate) context: &'a Context,
    /// What the client knows of the machine.
    pub(crate) status: &'a Status,
    /// The CPU that commands about a CPU mean when they are not told.
    pub(crate) cpu: u32,
    /// Earlier lines, the oldest first.
    pub(crate) history: &'a [String],
    /// Printed so far, with bare `\n`.
    pub(crate) out: String,
}

/// What goes into the text after `Error: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HmpError {
    /// The machine's refusal.
    #[error(transparent)]
    Manage(#[from] engine::ManageError),
    /// A word that is not one of those which the argument takes.
    #[error("invalid parameter value: {0}")]
    BadValue(String),
    /// No CPU has that number.
    #[error("there is no CPU '{0}'")]
    NoCpu(String),
}

/// A line, looked up in the table.
enum Parsed<'a> {
    /// Nothing to do.
    Empty,
    /// No such command; with what was typed to name it.
    Unknown(String),
    /// Run this with these words.
    Command { entry: &'static Entry, typed: String, words: Vec<&'a str> },
}

/// Finds the command, through sub-commands, that a line names.
fn parse(line: &str) -> Parsed<'_> {
    let mut words = line.split_whitespace().peekable();
    let Some(first) = words.next() else { return Parsed::Empty };
    let mut typed = first.to_owned();
    let Some(mut entry) = table::find(COMMANDS, first) else { return Parsed::Unknown(typed) };
    while let (Run::Table(sub), Some(word)) = (entry.run, words.peek()) {
        typed = format!("{typed} {word}");
        match table::find(sub, word) {
            Some(found) => entry = found,
            None => return Parsed::Unknown(typed),
        }
        words.next();
    }
    Parsed::Command { entry, typed, words: words.collect() }
}

/// Whether a line only looks at the machine's status.
pub(crate) fn is_lifecycle_query(line: &str) -> bool {
    matches!(parse(line), Parsed::Command { entry, .. } if entry.is("status"))
}

/// Runs a line and gives what it prints.
pub(crate) fn run_line(
    context: &Context,
    status: &Status,
    cpu: u32,
    history: &[String],
    line: &str,
) -> String {
    let mut env = Env { context, status, cpu, history, out: String::new() };
    match parse(line) {
        Parsed::Empty => {}
        Parsed::Unknown(typed) => env.print(&format!("unknown command: '{}'", shorten(&typed))),
        Parsed::Command { entry, typed, words } => run(&mut env, entry, &typed, &words),
    }
    env.out.replace('\n', "\r\n")
}

fn run(env: &mut Env<'_>, entry: &'static Entry, typed: &str, words: &[&str]) {
    let most = match entry.words {
        Words::None => 0,
        Words::One(_) | Words::Optional(_) => 1,
        Words::Commands => usize::MAX,
    };
    let fault = if matches!(entry.words, Words::One(_)) && words.is_empty() {
        Some("string expected")
    } else if words.len() > most {
        Some("extraneous characters at the end of line")
    } else {
        None
    };
    if let Some(fault) = fault {
        env.print(&format!("{}: {fault}", entry.names()));
        return env.print(&format!("Try \"help {typed}\" for more information"));
    }
    let result = match entry.run {
        Run::Command(run) => run(env, words),
        Run::Table(sub) => {
            commands::list(env, typed, sub);
            Ok(())
        }
    };
    if let Err(error) = result {
        env.print(&format!("Error: {error}"));
    }
}

impl Env<'_> {
    /// Prints a line.
    pub(crate) fn print(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }
}

/// A client's own words as they are shown back to it: without control characters, and not endless.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}
