//! The human forms of the commands, as one table that parsing, completion and `help` read.

use std::sync::LazyLock;

use super::{HmpError, Screen};
use crate::commands::{self, Command};

/// A command as people know it.
pub(crate) struct Human {
    /// Its name, and others that mean the same.
    pub(crate) names: &'static [&'static str],
    /// The command that it is a sub-command of, if any.
    pub(crate) parent: Option<&'static str>,
    /// Its arguments, for `help`.
    pub(crate) params: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
    /// The words that follow.
    pub(crate) words: Words,
    /// What runs it.
    pub(crate) run: Run,
}

/// The words that a command takes.
#[derive(Clone, Copy)]
pub(crate) enum Words {
    /// None.
    None,
    /// One, of these.
    One(&'static [&'static str]),
    /// One or none; these are proposed.
    Optional(&'static [&'static str]),
    /// Any, which the command looks at itself: at least so many, at most so many.
    Any(usize, usize),
    /// The name of a command, perhaps with that of a sub-command.
    Commands,
}

/// What a command does.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// This.
    Command(HumanFn),
    /// What its sub-command does; alone it lists them.
    Table,
}

/// Runs a command with the words that follow its name.
pub(crate) type HumanFn = fn(&mut Screen<'_>, &[&str]) -> Result<(), HmpError>;

impl Human {
    /// A command without words.
    pub(crate) const fn new(names: &'static [&'static str], help: &'static str, run: HumanFn) -> Self {
        Self { names, parent: None, params: "", help, words: Words::None, run: Run::Command(run) }
    }

    /// A command that sub-commands belong to.
    pub(crate) const fn table(
        names: &'static [&'static str],
        help: &'static str,
        params: &'static str,
    ) -> Self {
        Self { names, parent: None, params, help, words: Words::None, run: Run::Table }
    }

    /// A sub-command of `info` without words.
    pub(crate) const fn info(names: &'static [&'static str], help: &'static str, run: HumanFn) -> Self {
        Self { parent: Some("info"), ..Self::new(names, help, run) }
    }

    /// The same command with words, which `help` shows as `params`.
    pub(crate) const fn words(self, params: &'static str, words: Words) -> Self {
        Self { params, words, ..self }
    }

    /// Whether it goes by this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Whether it is `help`, `info`, or a sub-command of `info`: what only shows something.
    pub(crate) fn only_shows(&self) -> bool {
        self.is("help") || self.is("info") || self.parent == Some("info")
    }

    /// All its names: `cont|c`.
    pub(crate) fn names(&self) -> String {
        self.names.join("|")
    }

    /// Its name with that of its parent: `info status`.
    pub(crate) fn full_name(&self) -> String {
        let name = self.names.first().copied().unwrap_or_default();
        self.parent.map_or_else(|| name.to_owned(), |parent| format!("{parent} {name}"))
    }
}

/// A line of the table: the human form, and the command that it is a form of.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) human: &'static Human,
    pub(crate) command: &'static Command,
}

/// Every command that has a human form, by name.
static TABLE: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let entry = |command: &'static Command| command.human.as_ref().map(|human| Entry { human, command });
    let mut table: Vec<Entry> = commands::all().filter_map(entry).collect();
    table.sort_unstable_by_key(|entry| entry.human.names);
    table
});

/// The commands without a parent, or the sub-commands of `parent`, by name.
pub(crate) fn commands(parent: Option<&Human>) -> impl Iterator<Item = Entry> {
    let belongs = move |human: &Human| match (parent, human.parent) {
        (Some(parent), Some(name)) => parent.is(name),
        (None, None) => true,
        _ => false,
    };
    TABLE.iter().copied().filter(move |entry| belongs(entry.human))
}

/// The command of that name without a parent, or of `parent`.
pub(crate) fn find(parent: Option<&Human>, name: &str) -> Option<Entry> {
    commands(parent).find(|entry| entry.human.is(name))
}
