//! Every command, defined once: name, purpose, arguments, return type.
//!
//! From the table come the checks of [`crate::session`], `query-commands` and `query-qmp-schema`. [`Command`]
//! is an enum so that whoever executes commands can match on it exhaustively: a command that is defined
//! cannot be left without an implementation.

use crate::check;
use crate::error::QmpError;
use crate::introspect;
use crate::schema::{ArgDef, CommandDef, Qapi, QapiEnum, Type, arg, opt};
use crate::types::{
    ChardevInfo, CommandInfo, CommandLineOptionInfo, CpuInfoFast, CurrentMachineParams, KvmInfo, MachineInfo,
    NameInfo, PanicAction, QMPCapability, RebootAction, ShutdownAction, StatusInfo, TargetInfo, UuidInfo,
    VersionInfo, WatchdogAction,
};
use crate::{Args, event};
use serde_json::{Map, Value};
use std::collections::HashMap;

const NOTHING: Type = <()>::TYPE;

macro_rules! commands {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal [$($arg:expr),* $(,)?] -> $ret:expr;)*) => {
        /// A command of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Command {
            $($(#[doc = $doc])+ $id,)*
        }

        impl Command {
            /// Every command, in the order of the table.
            pub const ALL: &'static [Command] = &[$(Self::$id),*];

            /// Its definition.
            pub fn def(self) -> &'static CommandDef {
                match self {
                    $(Self::$id => {
                        static ARGS: &[ArgDef] = &[$($arg),*];
                        static DEF: CommandDef = CommandDef {
                            name: $name,
                            doc: concat!($($doc),+).trim_ascii(),
                            args: ARGS,
                            returns: $ret,
                            allow_oob: false,
                        };
                        &DEF
                    })*
                }
            }
        }
    };
}

commands! {
    /// Ends the negotiation and switches capabilities on.
    QmpCapabilities = "qmp_capabilities" [opt("enable", <Vec<QMPCapability>>::TYPE)] -> NOTHING;
    /// The version of QEMU that is spoken, and the name of this program.
    QueryVersion = "query-version" [] -> VersionInfo::TYPE;
    /// The commands that there are.
    QueryCommands = "query-commands" [] -> <Vec<CommandInfo>>::TYPE;
    /// Commands, events and types, for programs to read.
    QueryQmpSchema = "query-qmp-schema" [] -> Type::Array(&introspect::SCHEMA_INFO);
    /// The state of the machine.
    QueryStatus = "query-status" [] -> StatusInfo::TYPE;
    /// What the present machine can do.
    QueryCurrentMachine = "query-current-machine" [] -> CurrentMachineParams::TYPE;
    /// The virtual CPUs, without disturbing them.
    QueryCpusFast = "query-cpus-fast" [] -> <Vec<CpuInfoFast>>::TYPE;
    /// The name of the machine.
    QueryName = "query-name" [] -> NameInfo::TYPE;
    /// The identity of the machine.
    QueryUuid = "query-uuid" [] -> UuidInfo::TYPE;
    /// Whether KVM is there and used.
    QueryKvm = "query-kvm" [] -> KvmInfo::TYPE;
    /// The instruction set that is emulated.
    QueryTarget = "query-target" [] -> TargetInfo::TYPE;
    /// The character devices.
    QueryChardev = "query-chardev" [] -> <Vec<ChardevInfo>>::TYPE;
    /// The kinds of machine that there are.
    QueryMachines = "query-machines" [] -> <Vec<MachineInfo>>::TYPE;
    /// The options of the command line, all or one.
    QueryCommandLineOptions = "query-command-line-options" [opt("option", Type::Str)]
        -> <Vec<CommandLineOptionInfo>>::TYPE;
    /// Stops the machine.
    Stop = "stop" [] -> NOTHING;
    /// Lets the machine go on.
    Cont = "cont" [] -> NOTHING;
    /// Wakes a guest that is suspended to RAM.
    SystemWakeup = "system_wakeup" [] -> NOTHING;
    /// Resets the machine.
    SystemReset = "system_reset" [] -> NOTHING;
    /// Presses the power button.
    SystemPowerdown = "system_powerdown" [] -> NOTHING;
    /// Says what reboot, shutdown, panic and watchdog do.
    SetAction = "set-action" [
        opt("reboot", RebootAction::TYPE),
        opt("shutdown", ShutdownAction::TYPE),
        opt("panic", PanicAction::TYPE),
        opt("watchdog", WatchdogAction::TYPE),
    ] -> NOTHING;
    /// Ends the program.
    Quit = "quit" [] -> NOTHING;
    /// Runs a line of the human monitor and returns what it prints.
    HumanMonitorCommand = "human-monitor-command" [arg("command-line", Type::Str), opt("cpu-index", Type::Int)]
        -> Type::Str;
    /// Sends a non-maskable interrupt; boards without one refuse.
    InjectNmi = "inject-nmi" [] -> NOTHING;
    /// Moves the host clocks that the machine sees; only with the test option.
    XTestClockAdvance = "x-test-clock-advance" [opt("monotonic-ns", Type::Int), opt("realtime-ns", Type::Int)]
        -> NOTHING;
}

/// The commands that one program offers.
#[derive(Debug)]
pub struct CommandSet {
    by_name: HashMap<&'static str, Command>,
    ordered: Vec<Command>,
}

impl CommandSet {
    /// The commands of the table for which `offered` is true.
    pub fn new(offered: impl Fn(Command) -> bool) -> Self {
        let ordered: Vec<Command> =
            Command::ALL.iter().copied().filter(|&command| offered(command)).collect();
        Self { by_name: ordered.iter().map(|&command| (command.def().name, command)).collect(), ordered }
    }

    /// Every command, those for tests only with `test_clock`.
    pub fn standard(test_clock: bool) -> Self {
        Self::new(|command| test_clock || command != Command::XTestClockAdvance)
    }

    /// The command of that name; names are case-sensitive, and `_` is not `-`.
    pub fn find(&self, name: &str) -> Option<Command> {
        self.by_name.get(name).copied()
    }

    /// The commands, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = Command> + '_ {
        self.ordered.iter().copied()
    }

    /// Checks the arguments of a command.
    ///
    /// # Errors
    /// The first fault in the order in which QEMU looks: the arguments in the order of the definition
    /// (missing, type, range, value), then members that the command does not have.
    pub fn check(&self, command: Command, arguments: Map<String, Value>) -> Result<Args, QmpError> {
        check::check_arguments(command.def().args, &arguments)?;
        Ok(Args::new(arguments))
    }

    /// The answer of `query-commands`.
    pub fn query_commands(&self) -> Value {
        let list: Vec<CommandInfo> =
            self.iter().map(|command| CommandInfo { name: command.def().name.to_owned() }).collect();
        list.to_value()
    }

    /// The answer of `query-qmp-schema`: these commands, every event, and the types that they use.
    pub fn query_qmp_schema(&self) -> Value {
        let commands: Vec<&CommandDef> = self.iter().map(Command::def).collect();
        introspect::schema(&commands, event::ALL)
    }
}

impl Args {
    /// The capabilities that `qmp_capabilities` switches on.
    pub(crate) fn capabilities(&self) -> Vec<QMPCapability> {
        let names = self.value("enable").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(|name| QMPCapability::from_name(name.as_str()?)).collect()
    }
}
