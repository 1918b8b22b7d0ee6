//! Every option there is, once: name, value, help, and what it does.

use super::error::ValueError;
use super::options::Apply;
use super::{devices, disks, help, machine, session};
use runstate::{RebootAction, ShutdownAction};

/// One option.
pub(super) struct OptionDef {
    /// Its name, without dashes.
    pub(super) name: &'static str,
    /// Other names.
    pub(super) aliases: &'static [&'static str],
    pub(super) argument: Argument,
    /// A line of help.
    pub(super) help: &'static str,
    /// It has its name from QEMU but does nothing yet.
    pub(super) later: bool,
    pub(super) apply: Apply,
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    /// What to call it in the help.
    Required(&'static str),
    /// `on` or `off`, if the next argument is one of them; else `on`.
    OnOff,
}

const fn flag(name: &'static str, help: &'static str, apply: Apply) -> OptionDef {
    OptionDef { name, aliases: &[], argument: Argument::None, help, later: false, apply }
}

const fn value(name: &'static str, what: &'static str, help: &'static str, apply: Apply) -> OptionDef {
    OptionDef { name, aliases: &[], argument: Argument::Required(what), help, later: false, apply }
}

const fn later(name: &'static str, argument: Option<&'static str>, help: &'static str) -> OptionDef {
    let argument = match argument {
        Some(what) => Argument::Required(what),
        None => Argument::None,
    };
    OptionDef { name, aliases: &[], argument, help, later: true, apply: |_, _| Err(ValueError::Unsupported) }
}

const fn also(option: OptionDef, aliases: &'static [&'static str]) -> OptionDef {
    OptionDef { aliases, ..option }
}

/// The table, in the order of the help.
#[rustfmt::skip]
pub(super) static OPTIONS: &[OptionDef] = &[
    also(flag("h", "show this help", |b, _| { b.print = Some(help::options()); Ok(()) }), &["help"]),
    flag("version", "show the version", |b, _| { b.print = Some(help::version()); Ok(()) }),
    // The machine.
    also(value("machine", "NAME[,PROP=VALUE...]", "choose the machine: virt, none, help", machine::machine), &["M"]),
    value("accel", "NAME", "choose the accelerator: tcg; several are tried in turn", machine::accel),
    value("cpu", "MODEL[,EXT=on|off...]", "choose the processor: rv64, max, help", machine::cpu),
    value("smp", "[cpus=]N[,maxcpus=,sockets=,cores=,threads=]", "number of harts and how they are grouped", machine::smp),
    value("m", "[size=]SIZE", "guest memory, in MiB or with a unit (512M, 2G)", machine::memory),
    value("device", "DRIVER[,PROP=VALUE...]", "add a device: virtio-blk-device, virtio-rng-device, virtio-serial-device, virtserialport, virtconsole, vmgenid", devices::device),
    value("drive", "file=FILE[,format=raw][,if=virtio|none][,id=ID][,...]", "a disk", disks::drive),
    value("blockdev", "[driver=]file|raw,node-name=NAME[,...]", "a block node", disks::blockdev),
    value("object", "TYPE,id=ID[,PROP=VALUE...]", "add an object: memory-backend-ram, rng-random, rng-builtin, tls-creds-x509, authz-simple", devices::object),
    value("rtc", "[base=utc|localtime|DATE][,clock=host|vm]", "where the real-time clock starts and what drives it", machine::rtc),
    value("icount", "[shift=]N", "guest time counts instructions, of 2^N ns each", machine::icount),
    value("uuid", "UUID", "the machine's UUID", session::uuid),
    value("name", "[guest=]NAME", "the guest's name", session::name),
    // What it starts from.
    value("kernel", "FILE", "the kernel, an Image or an ELF file", |b, v| { b.boot.kernel = Some(v.into()); Ok(()) }),
    value("initrd", "FILE", "the initial RAM disk", |b, v| { b.boot.initrd = Some(v.into()); Ok(()) }),
    value("append", "TEXT", "the kernel's command line", |b, v| { b.boot.append = Some(v.into()); Ok(()) }),
    value("dtb", "FILE", "a device tree in place of the generated one", |b, v| { b.boot.dtb = Some(v.into()); Ok(()) }),
    value("bios", "default|none|FILE", "the built-in SBI, nothing, or M-mode firmware", machine::bios),
    value("boot", "LIST", "accepted; there is one thing to start from", session::boot),
    // Its life.
    flag("S", "wait for 'cont' before the guest runs", |b, _| { b.start_stopped = true; Ok(()) }),
    value("incoming", "defer|unix:PATH|tcp:HOST:PORT|fd:N|exec:COMMAND|file:PATH", "wait for a migration", session::incoming),
    value("loadvm", "NAME", "start from a snapshot of the directory of -x-snapshots", |b, v| { b.load = Some(v.into()); Ok(()) }),
    flag("no-reboot", "a reboot shuts down", |b, _| { b.actions.reboot = Some(RebootAction::Shutdown); Ok(()) }),
    flag("no-shutdown", "stay when the guest has shut down", |b, _| { b.actions.shutdown = Some(ShutdownAction::Pause); Ok(()) }),
    value("gdb", "WHERE", "a gdb stub: tcp::PORT, unix:PATH,server=on, stdio, chardev:ID, none", session::gdb),
    flag("s", "the same as -gdb tcp::1234", |b, _| session::gdb(b, "tcp::1234")),
    value("action", "EVENT=ACTION[,...]", "what to do on reboot, shutdown, panic, watchdog", session::action),
    value("x-wake", "SOURCE=on|off[,...]", "what may wake the guest: rtc0, rtc1, serial0, power-button, interrupt, device", session::wake),
    value("watchdog-action", "ACTION", "the same as -action watchdog=ACTION", session::watchdog_action),
    // Consoles.
    flag("nographic", "console and monitor on the terminal; there is no window anyway", |b, _| { b.nographic = true; Ok(()) }),
    value("display", "none", "accepted; there is no window", session::only_none),
    value("serial", "WHERE", "the serial line: stdio, mon:stdio, pty, null, none, file:, unix:, tcp:, chardev:", session::serial),
    value("monitor", "WHERE", "a monitor for people, places as for -serial", session::monitor),
    value("qmp", "WHERE", "a QMP monitor, places as for -serial", session::qmp),
    value("qmp-pretty", "WHERE", "the same, with indented answers", session::qmp_pretty),
    value("chardev", "KIND,id=ID[,...]", "a character device: null, stdio, file, pty, socket", session::chardev),
    value("mon", "[chardev=]ID[,mode=control|readline][,x-allow=NAMES][,x-peer-uid=N]", "a monitor on a character device", session::mon),
    value("add-fd", "fd=FD,set=SET[,opaque=TEXT]", "put an inherited descriptor into a set", session::add_fd),
    // The process.
    flag("daemonize", "go to the background once everything is open", |b, _| { b.daemonize = true; Ok(()) }),
    value("pidfile", "FILE", "write the process number to a file", |b, v| { b.pidfile = Some(v.into()); Ok(()) }),
    flag("nodefaults", "no console or monitor but those asked for", |b, _| { b.nodefaults = true; Ok(()) }),
    flag("no-user-config", "accepted; there is no configuration file", |_, _| Ok(())),
    value("msg", "timestamp=on|off", "put the time before messages", session::msg),
    value("d", "ITEM[,...]", "what to log", |b, v| { b.logging.items = Some(v.into()); Ok(()) }),
    value("D", "FILE", "where to log to", |b, v| { b.logging.file = Some(v.into()); Ok(()) }),
    value("overcommit", "LIST", "accepted", session::overcommit),
    value("sandbox", "LIST", "accepted", session::sandbox),
    value("audiodev", "LIST", "accepted", |_, _| Ok(())),
    value("vga", "none", "accepted", session::only_none),
    value("net", "none", "accepted", session::only_none),
    value("nic", "none", "accepted", session::only_none),
    value("parallel", "none", "accepted", session::only_none),
    // Ours.
    OptionDef {
        name: "x-test-clock", aliases: &[], argument: Argument::OnOff, later: false,
        help: "let a test move the host's clocks as the machine sees them",
        apply: |b, v| { b.test_clock = v == "on"; Ok(()) },
    },
    value("x-event-log", "FILE", "write each record of the machine's life to a file, for 'dormouse timeline'", |b, v| { b.event_log = Some(v.into()); Ok(()) }),
    value("x-snapshots", "DIR", "the directory that snapshots are saved in and loaded from", |b, v| { b.snapshots = Some(v.into()); Ok(()) }),
    value("x-snapshot-fork", "NAME", "start as one of many from a snapshot, sharing its memory with them, under an identity of its own", |b, v| { b.fork = Some(v.into()); Ok(()) }),
    value("x-hart-nice", "N", "give the harts' threads less weight (0 to 19): quicker answers, slower guest beside other load", session::hart_nice),
    // Later.
    later("hda", Some("FILE"), "a disk"),
    later("cdrom", Some("FILE"), "a disk"),
    later("snapshot", None, "write to temporary files"),
    later("netdev", Some("LIST"), "a network backend"),
    later("fsdev", Some("LIST"), "a shared directory"),
    later("virtfs", Some("LIST"), "a shared directory"),
    later("trace", Some("LIST"), "trace events"),
    later("global", Some("LIST"), "a default of a property"),
    later("set", Some("LIST"), "an argument of an item"),
    later("readconfig", Some("FILE"), "options from a file"),
    later("run-with", Some("LIST"), "how the process runs"),
    later("numa", Some("LIST"), "memory nodes"),
    later("mem-path", Some("FILE"), "guest memory from a file"),
    later("fw_cfg", Some("LIST"), "a firmware file"),
    later("semihosting", None, "system calls of the guest"),
    later("tpmdev", Some("LIST"), "a TPM backend"),
    later("vnc", Some("WHERE"), "a screen over the network"),
    later("spice", Some("LIST"), "a screen over the network"),
    later("plugin", Some("FILE"), "a plugin"),
    later("preconfig", None, "configure before the machine is made"),
];
