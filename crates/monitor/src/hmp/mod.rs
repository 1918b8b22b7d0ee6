//! The human monitor: lines of words for people, and for `human-monitor-command`.
//!
//! [`table`] says which commands there are, from the definitions in [`crate::commands`]; [`run_line`] parses and runs one,
//! [`complete`] completes one, [`editor`] and [`session`] put them on a terminal. What a line prints is text with `\r\n` ends;
//! a line that is wrong is told so in words and never is an error of anything around it.

mod complete;
mod editor;
mod help;
mod session;
mod table;

pub(crate) use help::help;
pub(crate) use session::{Focus, Terminal};
pub(crate) use table::{Entry, Human, Run, Words, commands};

use runstate::ManagementRequest;

use crate::commands::Env;
use table::find;

/// Where a command prints, and what it may look at.
pub(crate) struct Screen<'a> {
    /// The program, and what the client knows of the machine.
    pub(crate) env: &'a Env<'a>,
    /// The CPU that commands about a CPU mean when they are not told.
    pub(crate) cpu: u32,
    /// Earlier lines, the oldest first.
    pub(crate) history: &'a [String],
    /// Printed so far, with bare `\n`.
    out: String,
}

/// What goes into the text after `Error: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HmpError {
    /// The machine's refusal.
    #[error(transparent)]
    Manage(#[from] engine::ManageError),
    /// What QMP says of the same command.
    #[error(transparent)]
    Qmp(#[from] qmp::QmpError),
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
    Command { entry: Entry, typed: String, words: Vec<&'a str> },
}

/// Finds the command, through sub-commands, that a line names.
fn parse(line: &str) -> Parsed<'_> {
    let mut words = line.split_whitespace().peekable();
    let Some(first) = words.next() else { return Parsed::Empty };
    let mut typed = first.to_owned();
    let Some(mut entry) = find(None, first) else { return Parsed::Unknown(typed) };
    while let (Run::Table, Some(word)) = (entry.human.run, words.peek()) {
        typed = format!("{typed} {word}");
        match find(Some(entry.human), word) {
            Some(found) => entry = found,
            None => return Parsed::Unknown(typed),
        }
        words.next();
    }
    Parsed::Command { entry, typed, words: words.collect() }
}

/// Whether a line only looks at the machine's status.
pub(crate) fn is_lifecycle_query(line: &str) -> bool {
    let Parsed::Command { entry, .. } = parse(line) else { return false };
    let qmp = entry.command.qmp.as_ref();
    qmp.is_some_and(|qmp| qmp.def.args.is_empty() && (qmp.is_lifecycle_query)(&qmp::Args::default()))
}

/// Runs a line and gives what it prints.
pub(crate) fn run_line(env: &Env<'_>, cpu: u32, history: &[String], line: &str) -> String {
    let mut screen = Screen { env, cpu, history, out: String::new() };
    match parse(line) {
        Parsed::Empty => {}
        Parsed::Unknown(typed) => screen.print(&format!("unknown command: '{}'", shorten(&typed))),
        Parsed::Command { entry, .. } if !is_allowed(env, entry) => {
            screen.print(&format!("Error: Command {} has been disabled", entry.human.full_name()));
        }
        Parsed::Command { entry, typed, words } => run(&mut screen, entry.human, &typed, &words),
    }
    screen.out.replace('\n', "\r\n")
}

/// Whether the monitor's list of commands lets its clients use this one; see [`crate::access::AllowList`].
fn is_allowed(env: &Env<'_>, entry: Entry) -> bool {
    let Some(allow) = &env.client.allow else { return true };
    match &entry.command.qmp {
        Some(qmp) => allow.allows(qmp.def.name),
        None => entry.human.only_shows() || allow.allows(&entry.human.full_name()),
    }
}

fn run(screen: &mut Screen<'_>, human: &'static Human, typed: &str, words: &[&str]) {
    let most = match human.words {
        Words::None => 0,
        Words::One(_) | Words::Optional(_) => 1,
        Words::Any(_, most) => most,
        Words::Commands => usize::MAX,
    };
    let least = match human.words {
        Words::One(_) => 1,
        Words::Any(least, _) => least,
        Words::None | Words::Optional(_) | Words::Commands => 0,
    };
    let fault = if words.len() < least {
        Some("string expected")
    } else if words.len() > most {
        Some("extraneous characters at the end of line")
    } else {
        None
    };
    if let Some(fault) = fault {
        screen.print(&format!("{}: {fault}", human.names()));
        return screen.print(&format!("Try \"help {typed}\" for more information"));
    }
    let result = match human.run {
        Run::Command(run) => run(screen, words),
        Run::Table => {
            help::list(screen, Some(human));
            Ok(())
        }
    };
    if let Err(error) = result {
        screen.print(&format!("Error: {error}"));
    }
}

impl Screen<'_> {
    /// Prints a line.
    pub(crate) fn print(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// Asks something of the machine's life.
    pub(crate) fn manage(&self, request: ManagementRequest) -> Result<(), HmpError> {
        Ok(self.env.ask(request)?)
    }
}

/// A client's own words as they are shown back to it: without control characters, and not endless.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}
