//! Every command, each defined in one place in all its forms.
//!
//! A [`Command`] says what QMP knows of it (name, purpose, arguments, return type, whether it may run out of band, and what
//! runs it) and, where people have a use for it, its human form (names, words, help, and what runs that). Everything else
//! follows from these definitions: the parser and its checks, `query-commands`, `query-qmp-schema`, the lists and the
//! completion of the human monitor, and `docs/qmp-reference.md`.
//!
//! ```text
//!  commands/SUBJECT.rs   types, COMMANDS, what runs them
//!        │
//!  SUBJECTS ──► CommandSet (QMP)    ──► checks, query-commands, query-qmp-schema
//!        ├────► hmp::table (people) ──► parsing, help, completion
//!        └────► reference           ──► docs/qmp-reference.md
//! ```
//!
//! A new command is an entry in the `COMMANDS` of its subject; a new subject is a file here and a line in [`SUBJECTS`].

mod actions;
mod block;
mod chardev;
mod control;
mod cpu_models;
mod cpus;
mod dump;
mod fds;
mod gdb;
mod human;
mod identity;
mod introspection;
mod jobs;
mod lifecycle;
mod machine;
mod memory;
mod metrics;
mod migration;
mod objects;
mod snapshots;
mod test_clock;
mod user_objects;
mod wakes;
mod yank;

pub(crate) use actions::{PanicAction, RebootAction, ShutdownAction, WatchdogAction};
pub use chardev::ChardevInfo;
pub(crate) use control::{QUIT, RunState};
pub use cpu_models::CpuModel;
pub(crate) use dump::DumpQueryResult;
pub use identity::uuid_text;
pub use introspection::{CommandLineOptionInfo, CommandLineParameterInfo, CommandLineParameterType};
pub(crate) use jobs::JobStatus;
pub use machine::MachineInfo;
pub(crate) use migration::MigrationStatus;
pub use objects::{Object, ObjectType, Objects};
pub use user_objects::object_options;

use std::cell::OnceCell;
use std::sync::{Arc, LazyLock};

use engine::{By, Engine, ManageError, Status, WakeReport};
use qmp::schema::CommandDef;
use qmp::{Args, CommandSet, QmpError};
use runstate::ManagementRequest;
use serde_json::Value;

use crate::client::Client;
use crate::context::{Config, Context};
use crate::events;
use crate::hmp::Human;

/// Every subject: what the reference calls it, and its commands. The order is that of `query-commands`.
pub(crate) static SUBJECTS: &[(&str, &[Command])] = &[
    ("What there is to ask", introspection::COMMANDS),
    ("State and control", control::COMMANDS),
    ("Actions", actions::COMMANDS),
    ("The whole life", lifecycle::COMMANDS),
    ("Figures", metrics::COMMANDS),
    ("Wakes", wakes::COMMANDS),
    ("The machine", machine::COMMANDS),
    ("CPUs", cpus::COMMANDS),
    ("CPU models", cpu_models::COMMANDS),
    ("Memory", memory::COMMANDS),
    ("Objects", objects::COMMANDS),
    ("Objects of users", user_objects::COMMANDS),
    ("Identity", identity::COMMANDS),
    ("Dumps", dump::COMMANDS),
    ("Character devices", chardev::COMMANDS),
    ("Migration", migration::COMMANDS),
    ("Snapshots", snapshots::COMMANDS),
    ("Jobs", jobs::COMMANDS),
    ("Descriptors", fds::COMMANDS),
    ("Connections that hang", yank::COMMANDS),
    ("Disks", block::COMMANDS),
    ("The human monitor", human::COMMANDS),
    ("Debugging", gdb::COMMANDS),
    ("Tests", test_clock::COMMANDS),
];

/// A command: at least one of its two forms.
pub(crate) struct Command {
    /// Its form in QMP.
    pub(crate) qmp: Option<Qmp>,
    /// Its form in the human monitor.
    pub(crate) human: Option<Human>,
}

/// A command as programs know it.
pub(crate) struct Qmp {
    /// Name, arguments, return type.
    pub(crate) def: CommandDef,
    /// What runs it.
    pub(crate) run: fn(&Env<'_>, &Args) -> Result<Value, QmpError>,
    /// Whether, with these arguments, it looks at nothing but [`Env::status`]. Such a query is answered on the connection's
    /// thread in agreement with the events that the client has been sent, and may be run again for that.
    pub(crate) is_lifecycle_query: fn(&Args) -> bool,
    /// Whether a program of this configuration has it.
    pub(crate) exists: fn(&Config) -> bool,
}

impl Qmp {
    /// Whether it is the one that ends everything.
    pub(crate) fn is_quit(&self) -> bool {
        self.def.name == "quit"
    }
}

/// What a command may look at and use.
pub(crate) struct Env<'a> {
    /// The program.
    pub(crate) context: &'a Context,
    /// What the client knows of the machine: the status that goes with the events that it has been sent.
    pub(crate) status: &'a Status,
    /// The connection that asks.
    pub(crate) client: &'a Client,
    /// What was looked at for this command: see [`Env::wakes`].
    pub(crate) looks: &'a Looks,
}

/// What a command has looked at beside the status. A query that is run again looks once: the last time it runs under the lock
/// of the connection's output, where no device may be asked.
#[derive(Default)]
pub(crate) struct Looks {
    wakes: OnceCell<WakeReport>,
}

impl Env<'_> {
    pub(crate) fn config(&self) -> &Config {
        &self.context.config
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.context.engine()
    }

    /// Asks something of the machine's life.
    pub(crate) fn manage(&self, request: ManagementRequest) -> Result<(), QmpError> {
        self.ask(request).map_err(refused)
    }

    /// The same, for those who tell a refusal in their own way.
    pub(crate) fn ask(&self, request: ManagementRequest) -> Result<(), ManageError> {
        self.engine().manage_by(self.by(), request)
    }

    /// All about wakes, as of the first look.
    pub(crate) fn wakes(&self) -> &WakeReport {
        self.looks.wakes.get_or_init(|| self.engine().wakes())
    }

    /// Who asks, for the machine's records.
    pub(crate) fn by(&self) -> By {
        By::Client(Arc::clone(&self.client.name))
    }
}

/// A refusal's own words are what clients see (`spec/run-state.md` section 3).
pub(crate) fn refused(error: ManageError) -> QmpError {
    QmpError::generic(error.to_string())
}

impl Command {
    /// See `command!`, which ties the return type to what runs the command.
    pub(crate) const fn of_qmp(def: CommandDef, run: fn(&Env<'_>, &Args) -> Result<Value, QmpError>) -> Self {
        let qmp = Qmp { def, run, is_lifecycle_query: |_| false, exists: |_| true };
        Self { qmp: Some(qmp), human: None }
    }

    /// A command of the human monitor alone.
    pub(crate) const fn of_human(human: Human) -> Self {
        Self { qmp: None, human: Some(human) }
    }

    /// The same command, with a form for people.
    pub(crate) const fn human(self, human: Human) -> Self {
        Self { human: Some(human), ..self }
    }

    /// The same command, which looks at nothing but the status when `when` is true for its arguments.
    pub(crate) const fn lifecycle_query(mut self, when: fn(&Args) -> bool) -> Self {
        if let Some(qmp) = &mut self.qmp {
            qmp.is_lifecycle_query = when;
        }
        self
    }

    /// The same command, which only some configurations have.
    pub(crate) const fn exists(mut self, when: fn(&Config) -> bool) -> Self {
        if let Some(qmp) = &mut self.qmp {
            qmp.exists = when;
        }
        self
    }
}

/// Always: for [`Command::lifecycle_query`].
pub(crate) fn always(_: &Args) -> bool {
    true
}

/// Defines a command of QMP:
///
/// ```text
/// command! {
///     /// Purpose.
///     "name" [arg("path", Type::Str, "Where to."), opt("append", Type::Bool, "Whether to append.")] -> Return = function
/// }
/// ```
///
/// `function` takes `&Env` and `&Args`, which have been checked, and gives `Result<Return, QmpError>`. Before the name may
/// stand `oob`: then `exec-oob` may run it, on the connection's thread ahead of what waits.
macro_rules! command {
    ($(#[doc = $doc:literal])+ oob $name:literal $($rest:tt)*) => {
        $crate::commands::command!(@ true, concat!($($doc),+), $name $($rest)*)
    };
    ($(#[doc = $doc:literal])+ $name:literal $($rest:tt)*) => {
        $crate::commands::command!(@ false, concat!($($doc),+), $name $($rest)*)
    };
    (@ $oob:literal, $doc:expr, $name:literal [$($arg:expr),* $(,)?] -> $ret:ty = $run:expr) => {{
        const ARGS: &[::qmp::schema::ArgDef] = &[$($arg),*];
        const DEF: ::qmp::schema::CommandDef = ::qmp::schema::CommandDef {
            name: $name,
            doc: $doc.trim_ascii(),
            args: ARGS,
            returns: <$ret as ::qmp::schema::Qapi>::TYPE,
            allow_oob: $oob,
        };
        $crate::commands::Command::of_qmp(DEF, |env, args| {
            let result: Result<$ret, ::qmp::QmpError> = $run(env, args);
            result.map(|value| ::qmp::schema::Qapi::to_value(&value))
        })
    }};
}

pub(crate) use command;

/// Every command, in the order of the subjects.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    SUBJECTS.iter().flat_map(|(_, commands)| commands.iter())
}

/// Every name that an allow-list may have: those of QMP, and of what only people have.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let name = |command: &'static Command| match (&command.qmp, &command.human) {
            (Some(qmp), _) => Some(qmp.def.name.to_owned()),
            (None, human) => human.as_ref().map(Human::full_name),
        };
        all().filter_map(name).collect()
    });
    NAMES.iter().map(String::as_str)
}

/// The commands that a program of this configuration offers by QMP.
pub(crate) fn offered(config: &Config) -> CommandSet<&'static Qmp> {
    let commands = all().filter_map(|command| command.qmp.as_ref()).filter(|qmp| (qmp.exists)(config));
    CommandSet::new(commands.map(|qmp| (&qmp.def, qmp)), events::ALL.iter().copied())
}

#[cfg(test)]
mod tests;
