//! The commands that a connection offers, made from their definitions.
//!
//! From the set come the checks of [`crate::session`], `query-commands` and `query-qmp-schema`. What runs a command is
//! the caller's affair: the set carries a `C` for each, and a [`crate::Call`] brings it back.

use crate::Args;
use crate::check;
use crate::error::QmpError;
use crate::introspect::{self, Schema};
use crate::schema::{CommandDef, EventDef, Qapi, QapiEnum, opt};
use crate::types::{CommandInfo, QMPCapability};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The one command that the protocol runs itself.
pub static QMP_CAPABILITIES: CommandDef = CommandDef {
    name: "qmp_capabilities",
    doc: "Ends the negotiation, which every connection begins with, and switches capabilities on.",
    args: &[opt("enable", <Vec<QMPCapability>>::TYPE, "The capabilities to switch on.")],
    returns: <()>::TYPE,
    allow_oob: false,
};

/// A command of the set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<C> {
    pub(crate) def: &'static CommandDef,
    /// What runs it; nothing for the protocol's own.
    pub(crate) run: Option<C>,
    /// Whether this connection may use it.
    pub(crate) enabled: bool,
}

/// The commands that a connection offers, and the events that there are.
#[derive(Debug)]
pub struct CommandSet<C> {
    by_name: HashMap<&'static str, usize>,
    entries: Vec<Entry<C>>,
    events: Vec<&'static EventDef>,
    /// Made when it is first asked for.
    schema: OnceLock<Schema>,
}

impl<C: Copy> CommandSet<C> {
    /// `qmp_capabilities` and these commands, each with what runs it, and these events.
    pub fn new(
        commands: impl IntoIterator<Item = (&'static CommandDef, C)>,
        events: impl IntoIterator<Item = &'static EventDef>,
    ) -> Self {
        let own = Entry { def: &QMP_CAPABILITIES, run: None, enabled: true };
        let others = commands.into_iter().map(|(def, run)| Entry { def, run: Some(run), enabled: true });
        Self::from_entries(std::iter::once(own).chain(others).collect(), events.into_iter().collect())
    }

    fn from_entries(entries: Vec<Entry<C>>, events: Vec<&'static EventDef>) -> Self {
        let by_name = entries.iter().enumerate().map(|(at, entry)| (entry.def.name, at)).collect();
        Self { by_name, entries, events, schema: OnceLock::new() }
    }

    /// The same set for a connection that may use only some of it. The others are neither listed nor run;
    /// `qmp_capabilities` is always allowed.
    #[must_use]
    pub fn restricted(&self, allowed: impl Fn(&str) -> bool) -> Self {
        let restrict = |entry: &Entry<C>| Entry {
            enabled: entry.enabled && (entry.run.is_none() || allowed(entry.def.name)),
            ..*entry
        };
        Self::from_entries(self.entries.iter().map(restrict).collect(), self.events.clone())
    }

    /// The command of that name; names are case-sensitive, and `_` is not `-`.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry<C>> {
        self.entries.get(*self.by_name.get(name)?)
    }

    /// Whether there is a command of that name and this connection may use it.
    pub fn offers(&self, name: &str) -> bool {
        self.find(name).is_some_and(|entry| entry.enabled)
    }

    /// The definitions of the commands that this connection may use, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &'static CommandDef> + '_ {
        self.entries.iter().filter(|entry| entry.enabled).map(|entry| entry.def)
    }

    /// Checks the arguments of a command.
    ///
    /// # Errors
    /// The first fault in the order in which QEMU looks: the arguments in the order of the definition
    /// (missing, type, range, value), then members that the command does not have.
    pub(crate) fn check(&self, def: &CommandDef, arguments: Map<String, Value>) -> Result<Args, QmpError> {
        check::check_arguments(def.args, &arguments)?;
        Ok(Args::new(arguments))
    }

    /// The answer of `query-commands`.
    pub fn query_commands(&self) -> Vec<CommandInfo> {
        self.iter().map(|def| CommandInfo { name: def.name.to_owned() }).collect()
    }

    /// The answer of `query-qmp-schema`: these commands, every event, and the types that they use.
    pub fn query_qmp_schema(&self) -> &Schema {
        self.schema.get_or_init(|| introspect::schema(&self.iter().collect::<Vec<_>>(), &self.events))
    }
}

impl Args {
    /// The capabilities that `qmp_capabilities` switches on.
    pub(crate) fn capabilities(&self) -> Vec<QMPCapability> {
        let names = self.value("enable").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(|name| QMPCapability::from_name(name.as_str()?)).collect()
    }
}
