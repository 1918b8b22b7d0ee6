//! The typed outcome of the command line, and what is gathered on the way to it.

use super::disks::{BlkBuilder, DiskBuilder};
use super::error::ValueError;
use backends::CharSpec;
use block::{FileOptions, NodeOptions, Policy};
use clock::{IcountShift, RtcOptions};
use migration::{Address, ObjectOptions};
use monitor::AllowList;
use runstate::{ActionChange, Actions, WakePolicy};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Everything that the program needs to know to make and run a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The guest's name (`-name`).
    pub name: Option<String>,
    /// The machine's UUID, in the order of its text.
    pub uuid: Option<[u8; 16]>,
    /// The machine and its properties.
    pub machine: MachineOptions,
    /// The processor model.
    pub cpu: CpuModel,
    /// Extensions and other processor properties set by name, in order.
    pub cpu_properties: Vec<(String, bool)>,
    /// How many harts.
    pub smp: Smp,
    /// Guest memory in bytes, a multiple of 4096.
    pub memory: u64,
    /// What the guest starts from.
    pub boot: BootFiles,
    /// Wait for `cont` before the guest runs (`-S`).
    pub start_stopped: bool,
    /// Wait for an incoming migration.
    pub incoming: Option<Incoming>,
    /// What to do when the guest reboots, shuts down, panics or its watchdog expires.
    pub actions: Actions,
    /// What may wake the guest.
    pub wake_policy: WakePolicy,
    /// A file to write the process number to.
    pub pidfile: Option<PathBuf>,
    /// Go to the background.
    pub daemonize: bool,
    /// `-nographic` was given.
    pub nographic: bool,
    /// `-nodefaults` was given.
    pub nodefaults: bool,
    /// The serial lines, defaults applied; at most one. One with `mux` also carries the human monitor, unless it is a reference.
    pub serials: Vec<CharSpec>,
    /// The monitors of their own, in order. [`backends::CharKind::Ref`] means one of `chardevs`.
    pub monitors: Vec<Monitor>,
    /// Where gdb finds the machine (`-gdb`, `-s`).
    pub gdb: Option<CharSpec>,
    /// Character devices by id, in order.
    pub chardevs: Vec<(String, CharSpec)>,
    /// Descriptors to put into sets.
    pub inherited: Vec<InheritedFd>,
    /// The objects by id (`-object`).
    pub objects: Vec<(String, ObjectOptions)>,
    /// The real-time clock.
    pub rtc: RtcOptions,
    /// Counted time instead of the host's.
    pub icount: Option<IcountShift>,
    /// The block nodes, those below before those above.
    pub nodes: Vec<NodeOption>,
    /// The virtio devices, in the order of their options; no two in one slot.
    pub virtio: Vec<VirtioOption>,
    /// The device of the generation id, if there is one.
    pub vmgenid: Option<VmgenidOption>,
    /// Where records of the machine's life go (`-x-event-log`).
    pub event_log: Option<PathBuf>,
    /// Where snapshots are kept (`-x-snapshots`).
    pub snapshots: Option<PathBuf>,
    /// The snapshot to start from (`-loadvm`, `-x-snapshot-fork`).
    pub load: Option<Load>,
    /// Let a test move the host's clocks (`-x-test-clock`).
    pub test_clock: bool,
    /// The nice value of hart threads (`-x-hart-nice`), 0 to 19.
    pub hart_nice: Option<i32>,
    /// Messages and logs.
    pub logging: Logging,
    /// What to tell the user, in order.
    pub warnings: Vec<Warning>,
}

/// `-machine`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineOptions {
    /// Which machine.
    pub kind: MachineKind,
    /// Write the device tree to this file and end.
    pub dumpdtb: Option<PathBuf>,
    /// Whether the guest may suspend to RAM.
    pub suspend: bool,
    /// Whether the M-mode timer and software interrupt device is there.
    pub aclint: bool,
    /// Whether the wake-capable RTC is there, beside the goldfish RTC.
    pub wakeup_rtc: bool,
}

/// The machines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MachineKind {
    /// The RISC-V board with virtio devices.
    #[default]
    Virt,
    /// No machine: for those who ask the program about itself.
    None,
}

/// The processor models there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuModel {
    /// RV64GC and what Debian's kernel likes.
    #[default]
    Rv64,
    /// Everything that is implemented.
    Max,
}

/// `-smp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smp {
    /// Harts.
    pub cpus: u32,
    /// Harts at most; there is no hot-plug, so it only bounds.
    pub maxcpus: u32,
    /// Sockets.
    pub sockets: u32,
    /// Cores a socket.
    pub cores: u32,
    /// Threads a core.
    pub threads: u32,
}

/// What the guest starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootFiles {
    /// `-kernel`; without it and without firmware the embedded guest runs.
    pub kernel: Option<PathBuf>,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`.
    pub append: Option<String>,
    /// `-dtb`.
    pub dtb: Option<PathBuf>,
    /// `-bios`.
    pub bios: Bios,
}

/// `-bios`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Bios {
    /// The built-in SBI.
    #[default]
    Default,
    /// Neither: the kernel starts in M-mode.
    None,
    /// This firmware, in M-mode.
    File(PathBuf),
}

/// A monitor of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// For whom.
    pub kind: MonitorKind,
    /// On what.
    pub on: CharSpec,
    /// The commands that may be used on it (`x-allow=`), if not all.
    pub allow: Option<AllowList>,
    /// The user that its clients must belong to (`x-peer-uid=`), if not any.
    pub peer_uid: Option<u32>,
}

impl Monitor {
    /// Without restrictions.
    pub(crate) const fn plain(kind: MonitorKind, on: CharSpec) -> Self {
        Self { kind, on, allow: None, peer_uid: None }
    }
}

/// For whom a monitor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorKind {
    /// QMP.
    Control {
        /// With indented answers.
        pretty: bool,
    },
    /// For people.
    Readline,
}

/// `-incoming`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// `migrate-incoming` says from where.
    Defer,
    /// From there: as typed, and what it means.
    From(String, Address),
}

/// `-add-fd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InheritedFd {
    /// The set.
    pub set: u32,
    /// The descriptor's number in this process.
    pub fd: i32,
    /// What the manager calls it.
    pub opaque: Option<String>,
}

/// `-device`, one that goes into a virtio slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtioOption {
    /// Its name.
    pub id: Option<String>,
    /// The slot's number.
    pub slot: usize,
    /// What it is.
    pub kind: VirtioKind,
}

/// The virtio devices there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VirtioKind {
    /// `virtio-rng-device`.
    Rng(RngSource),
    /// `virtio-serial-device`.
    Serial {
        /// How many ports there may be.
        max_ports: u32,
        /// Those that there are.
        ports: Vec<PortOption>,
    },
    /// `virtio-blk-device`.
    Block(DiskOption),
}

/// `-device vmgenid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmgenidOption {
    /// Its name.
    pub id: Option<String>,
    /// The generation id, in the order of its text. None: one is drawn.
    pub guid: Option<[u8; 16]>,
}

/// The snapshot that a machine starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Whether the machine is one of several that start from it.
    pub fork: bool,
}

/// `-device`, a port of a virtio console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOption {
    /// Its name for managers.
    pub id: Option<String>,
    /// Its number.
    pub nr: u32,
    /// Its name for the guest.
    pub name: Option<String>,
    /// Whether the guest is to use it as a terminal.
    pub console: bool,
    /// The character device at its other end.
    pub chardev: Option<String>,
}

/// What a disk device has of its drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOption {
    /// The drive's id, empty if it is a node's.
    pub drive: String,
    /// The node on top.
    pub node: String,
    /// What is done about errors.
    pub policy: Policy,
    /// What the guest reads as its serial number.
    pub serial: String,
    /// Whether the guest finds the cache in write-back mode, if not as the node says.
    pub writeback: Option<bool>,
}

/// `-blockdev`, or a part of `-drive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOption {
    /// Name, and what is allowed.
    pub options: NodeOptions,
    /// What it is.
    pub kind: NodeKind,
}

/// The block nodes there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A file.
    File {
        /// Which, and how it is opened.
        file: FileOptions,
        /// Nobody said what is in it.
        probed: bool,
    },
    /// The raw format.
    Raw {
        /// The node below.
        child: String,
    },
}

/// Where an entropy device takes its bytes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RngSource {
    /// The host's generator.
    Builtin,
    /// A file.
    File(PathBuf),
}

/// Messages and logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logging {
    /// Messages carry the time (`-msg timestamp=on`).
    pub timestamps: bool,
    /// What to log (`-d`), as given.
    pub items: Option<String>,
    /// Where to (`-D`); else the standard error.
    pub file: Option<PathBuf>,
}

/// Something to tell the user that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// An accelerator in front of the one used.
    InvalidAccelerator(String),
    /// The one used after all.
    FallingBack(&'static str),
    /// A run with counted time that is not the same the next time, because the real-time clock is not.
    CountedRtc,
    /// The same, because input comes when the host has it.
    CountedInput,
    /// Lost ticks are not made up for, because none is lost.
    Driftfix,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidAccelerator(name) => write!(f, "invalid accelerator {name}"),
            Self::FallingBack(name) => write!(f, "falling back to {name}"),
            Self::CountedRtc => {
                f.write_str("warning: -icount repeats exactly only with -rtc base=DATE,clock=vm")
            }
            Self::CountedInput => {
                f.write_str("warning: -icount repeats exactly only without input, which comes in host time")
            }
            Self::Driftfix => f.write_str("warning: -rtc driftfix=slew has no effect on this machine"),
        }
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The answer of `-help` and its like.
    pub(super) print: Option<String>,
    pub(super) name: Option<String>,
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) machine: MachineBuilder,
    /// Candidates in order.
    pub(super) accels: Vec<String>,
    pub(super) cpu: CpuModel,
    pub(super) cpu_properties: Vec<(String, bool)>,
    pub(super) smp: Option<Smp>,
    pub(super) memory: Option<u64>,
    pub(super) boot: BootFiles,
    pub(super) start_stopped: bool,
    pub(super) incoming: Option<Incoming>,
    pub(super) actions: ActionChange,
    pub(super) wake_policy: WakePolicy,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) daemonize: bool,
    pub(super) nographic: bool,
    pub(super) nodefaults: bool,
    pub(super) serials: Vec<CharSpec>,
    pub(super) monitors: Vec<Monitor>,
    pub(super) gdb: Option<CharSpec>,
    /// `-monitor` or `-mon` was given, if only to say `none`.
    pub(super) monitor_given: bool,
    pub(super) chardevs: Vec<(String, CharSpec)>,
    pub(super) inherited: Vec<InheritedFd>,
    pub(super) rtc: RtcOptions,
    pub(super) icount: Option<IcountShift>,
    pub(super) virtio: Vec<VirtioBuilder>,
    pub(super) vmgenid: Option<VmgenidOption>,
    pub(super) ports: Vec<PortBuilder>,
    pub(super) disks: DiskBuilder,
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) event_log: Option<PathBuf>,
    pub(super) snapshots: Option<PathBuf>,
    pub(super) load: Option<String>,
    pub(super) fork: Option<String>,
    pub(super) test_clock: bool,
    pub(super) hart_nice: Option<i32>,
    pub(super) logging: Logging,
    pub(super) warnings: Vec<Warning>,
}

/// `-machine`, as far as read.
#[derive(Debug, Default)]
pub(super) struct MachineBuilder {
    pub(super) kind: MachineKind,
    pub(super) dumpdtb: Option<PathBuf>,
    pub(super) suspend: Option<bool>,
    pub(super) aclint: Option<bool>,
    pub(super) wakeup_rtc: Option<bool>,
    pub(super) memory_backend: Option<String>,
}

/// `-device`, as far as read.
#[derive(Debug)]
pub(super) struct VirtioBuilder {
    pub(super) id: Option<String>,
    /// The slot that it asks for.
    pub(super) slot: Option<usize>,
    pub(super) kind: VirtioKindBuilder,
}

/// The virtio devices, with the names of what they refer to.
#[derive(Debug)]
pub(super) enum VirtioKindBuilder {
    /// With the object that it names.
    Rng(Option<String>),
    /// With how many ports there may be.
    Serial(u32),
    Block(BlkBuilder),
}

/// `-device`, a port of a virtio console, as far as read.
#[derive(Debug, Clone, Default)]
pub(super) struct PortBuilder {
    pub(super) id: Option<String>,
    /// The console that it is for.
    pub(super) bus: Option<String>,
    pub(super) nr: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) console: bool,
    pub(super) chardev: Option<String>,
}

impl Builder {
    /// An id names one device.
    pub(super) fn claim_device_id(&self, id: Option<&str>) -> Result<(), ValueError> {
        let ports = self.ports.iter().map(|port| &port.id);
        let vmgenid = self.vmgenid.iter().map(|device| &device.id);
        let mut others = self.virtio.iter().map(|device| &device.id).chain(ports).chain(vmgenid);
        match id {
            Some(id) if others.any(|other| other.as_deref() == Some(id)) => {
                Err(ValueError::DuplicateId { id: id.to_owned(), kind: "device" })
            }
            _ => Ok(()),
        }
    }
}

/// `-object`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    /// Guest memory of this many bytes.
    Memory(u64),
    Rng(RngSource),
    /// Accepted for managers that always give one; nothing uses it.
    Ignored,
    /// What users may also make later.
    Made(ObjectOptions),
}

impl Object {
    /// As it is listed among those that users make.
    pub(super) fn options(self) -> ObjectOptions {
        match self {
            Self::Memory(_) => ObjectOptions::Fixed("memory-backend-ram"),
            Self::Rng(RngSource::File(_)) => ObjectOptions::Fixed("rng-random"),
            Self::Rng(RngSource::Builtin) => ObjectOptions::Fixed("rng-builtin"),
            Self::Ignored => ObjectOptions::Fixed("secret"),
            Self::Made(options) => options,
        }
    }
}

/// What an option does with its value.
pub(super) type Apply = fn(&mut Builder, &str) -> Result<(), ValueError>;
