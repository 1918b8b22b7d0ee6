//! The commands of the human monitor. Parsing, completion and `help` all read this table.

use super::{Env, HmpError, commands};

/// A command.
pub(crate) struct Entry {
    /// Its name, and others that mean the same.
    pub(crate) names: &'static [&'static str],
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
    /// The name of a command, perhaps with that of a sub-command.
    Commands,
}

/// What a command does.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// This.
    Command(fn(&mut Env<'_>, &[&str]) -> Result<(), HmpError>),
    /// What its sub-command does; alone it lists them.
    Table(&'static [Entry]),
}

impl Entry {
    /// Whether it goes by this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// All its names: `cont|c`.
    pub(crate) fn names(&self) -> String {
        self.names.join("|")
    }
}

/// The command of that name.
pub(crate) fn find(table: &'static [Entry], name: &str) -> Option<&'static Entry> {
    table.iter().find(|entry| entry.is(name))
}

const fn plain(
    names: &'static [&'static str],
    help: &'static str,
    run: fn(&mut Env<'_>, &[&str]) -> Result<(), HmpError>,
) -> Entry {
    Entry { names, params: "", help, words: Words::None, run: Run::Command(run) }
}

/// The actions of an expired watchdog.
pub(crate) const WATCHDOG: &[&str] =
    &["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

/// Every command, by name.
pub(crate) const COMMANDS: &[Entry] = &[
    plain(&["cont", "c"], "let the machine go on", commands::cont),
    Entry {
        names: &["help", "?"],
        params: "[cmd]",
        help: "list the commands, or say what one does",
        words: Words::Commands,
        run: Run::Command(commands::help),
    },
    Entry {
        names: &["info"],
        params: "[subcommand]",
        help: "show something about the machine",
        words: Words::None,
        run: Run::Table(INFO),
    },
    plain(&["nmi"], "send a non-maskable interrupt to CPU 0", commands::nmi),
    plain(&["quit", "q"], "end the machine and the program", commands::quit),
    plain(&["stop", "s"], "stop the machine", commands::stop),
    plain(&["system_powerdown"], "press the power button", commands::system_powerdown),
    plain(&["system_reset"], "reset the machine", commands::system_reset),
    plain(&["system_wakeup"], "wake the guest from suspend", commands::system_wakeup),
    Entry {
        names: &["watchdog_action"],
        params: "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
        help: "say what an expired watchdog does",
        words: Words::One(WATCHDOG),
        run: Run::Command(commands::watchdog_action),
    },
];

/// The sub-commands of `info`.
pub(crate) const INFO: &[Entry] = &[
    plain(&["chardev"], "show the character devices", commands::info_chardev),
    plain(&["cpus"], "show the CPUs and their threads", commands::info_cpus),
    plain(&["history"], "show the lines typed before", commands::info_history),
    plain(&["kvm"], "show whether KVM is used", commands::info_kvm),
    plain(&["name"], "show the name of the machine", commands::info_name),
    Entry {
        names: &["registers"],
        params: "[-a|vcpu]",
        help: "show the registers of a CPU (-a: of all)",
        words: Words::Optional(&["-a"]),
        run: Run::Command(commands::info_registers),
    },
    plain(&["status"], "show the state of the machine", commands::info_status),
    plain(&["uuid"], "show the identity of the machine", commands::info_uuid),
    plain(&["version"], "show the version of QEMU that is spoken, and the program's", commands::info_version),
];
