//! What can be wrong with a command line: one line of text each, without the program's name.

use super::disks::DiskError;
use backends::SpecError;
use backends::keyval::KeyValError;
use clock::{IcountShiftError, RtcOptionError};
use monitor::AllowError;

/// A command line that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No such option.
    #[error("{0}: invalid option")]
    InvalidOption(String),
    /// An option without its value.
    #[error("{0}: requires an argument")]
    MissingArgument(String),
    /// Something that is no option where one was expected.
    #[error("{0}: not an option (a disk is given with -drive file=...)")]
    Stray(String),
    /// An argument that is not UTF-8.
    #[error("{0}: arguments must be valid UTF-8")]
    NotText(String),
    /// An option's value.
    #[error("{option}: {source}")]
    Value {
        /// The option and its value as typed.
        option: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// Options that do not go together, or that name something that is not there.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// What is wrong with one option's value.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The list or a value in it.
    #[error(transparent)]
    KeyVal(#[from] KeyValError),
    /// Where a migration comes from.
    #[error(transparent)]
    Migration(#[from] migration::AddressError),
    /// A character device.
    #[error(transparent)]
    CharDev(#[from] SpecError),
    /// The commands that a monitor allows.
    #[error("x-allow: {0}")]
    Allow(#[from] AllowError),
    /// Indentation is of JSON.
    #[error("'pretty' is not compatible with HMP monitors")]
    PrettyForPeople,
    /// The number of a user.
    #[error("x-peer-uid expects the number of a user")]
    Uid,
    /// The text of JSON.
    #[error("JSON parse error: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but not an object of plain values.
    #[error("JSON object with plain members expected")]
    JsonShape,
    /// An option for something that comes later.
    #[error("not supported by this program yet")]
    Unsupported,
    /// A value for something that comes later.
    #[error("'{0}' is not supported by this program yet")]
    UnsupportedValue(String),
    /// No such machine.
    #[error("unsupported machine type: \"{0}\". Use -machine help to list supported machines")]
    MachineType(String),
    /// No such property of a machine, processor or accelerator.
    #[error("Property '{class}.{name}' not found")]
    NoSuchProperty {
        /// Of what.
        class: &'static str,
        /// The property.
        name: String,
    },
    /// No such processor.
    #[error("unable to find CPU model '{0}'")]
    CpuModel(String),
    /// No such device.
    #[error("'{0}' is not a valid device model name")]
    DeviceModel(String),
    /// Disks.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No such slot.
    #[error("Bus '{0}' not found")]
    Bus(String),
    /// More ports than a console can have, or none.
    #[error("a virtio console has 1 to {most} ports, and max_ports asks for {max}")]
    MaxPorts {
        /// How many were asked for.
        max: u64,
        /// How many there can be.
        most: u64,
    },
    /// More harts than the machine can have.
    #[error("Invalid SMP CPUs {cpus}. The max CPUs supported by machine 'virt' is {max}")]
    TooManyCpus {
        /// How many were asked for.
        cpus: u64,
        /// How many there can be.
        max: u64,
    },
    /// A zero where none makes sense.
    #[error("Invalid CPU topology: CPU topology parameters must be greater than zero")]
    ZeroTopology,
    /// Sockets, cores and threads that do not multiply to the number of harts.
    #[error(
        "Invalid CPU topology: product of the hierarchy must match maxcpus: \
         sockets ({sockets}) * cores ({cores}) * threads ({threads}) != maxcpus ({maxcpus})"
    )]
    Topology {
        /// Sockets.
        sockets: u64,
        /// Cores a socket.
        cores: u64,
        /// Threads a core.
        threads: u64,
        /// Harts at most.
        maxcpus: u64,
    },
    /// Fewer at most than at first.
    #[error(
        "Invalid CPU topology: maxcpus must be equal to or greater than smp: maxcpus ({maxcpus}) < smp_cpus ({cpus})"
    )]
    TooFewMaxCpus {
        /// Harts at most.
        maxcpus: u64,
        /// Harts at first.
        cpus: u64,
    },
    /// No memory at all, or more than can be counted.
    #[error("a memory size of {0} bytes is not possible")]
    MemorySize(u64),
    /// Not a UUID.
    #[error("failed to parse UUID string: wrong format")]
    Uuid,
    /// Not a generation id.
    #[error("Property 'vmgenid.guid' doesn't take value '{0}'")]
    Guid(String),
    /// A second generation id.
    #[error("at most one vmgenid device is permitted")]
    TwoVmgenids,
    /// The real-time clock.
    #[error(transparent)]
    Rtc(#[from] RtcOptionError),
    /// Counted time.
    #[error(transparent)]
    Icount(#[from] IcountShiftError),
    /// `-icount` without a shift that is a number.
    #[error("icount: Invalid shift value")]
    IcountShift,
    /// `-add-fd` without a usable number.
    #[error("{0} option is required and must be non-negative")]
    AddFd(&'static str),
    /// A nice value out of range.
    #[error("a nice value is a number from 0 to 19")]
    Nice,
    /// An id used twice.
    #[error("Duplicate ID '{id}' for {kind}")]
    DuplicateId {
        /// The id.
        id: String,
        /// Of what.
        kind: &'static str,
    },
}

/// Options that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A monitor asks for its clients' user where that cannot be known.
    #[error("-mon chardev={0}: x-peer-uid needs a unix socket")]
    PeerUid(String),
    /// More monitors than there may be.
    #[error("there cannot be more than {most} monitors, and {0} were given", most = monitor::MOST_MONITORS - 1)]
    TooManyMonitors(usize),
    /// An argument for a kernel that is not there.
    #[error("{0} only allowed with -kernel option")]
    NeedsKernel(&'static str),
    /// None of the accelerators asked for exists here.
    #[error("-accel {0}: invalid accelerator {0}")]
    Accelerator(String),
    /// A reference to a character device.
    #[error("chardev \"{0}\" not found")]
    NoSuchChardev(String),
    /// A character device with two users and no multiplexer.
    #[error("chardev \"{0}\" is already in use; mux=on lets several share it")]
    ChardevInUse(String),
    /// The terminal with two users.
    #[error("cannot use stdio by multiple character devices")]
    StdioTwice,
    /// The background has no terminal.
    #[error("cannot use stdio with -daemonize")]
    StdioDaemonized,
    /// The background has no terminal.
    #[error("-nographic cannot be used with -daemonize")]
    NographicDaemonized,
    /// A reference to a memory backend.
    #[error("Memory backend '{0}' not found")]
    NoSuchMemoryBackend(String),
    /// Two sizes.
    #[error("Size specified by -m option must match size of explicitly specified 'memory-backend' property")]
    MemoryBackendSize,
    /// A reference to a source of randomness.
    #[error("Device 'virtio-rng-device': object '{0}' not found")]
    NoSuchRng(String),
    /// Disks.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// More virtio devices than slots, or two in one.
    #[error("No 'virtio-bus' bus found for device '{0}'")]
    NoFreeSlot(&'static str),
    /// A port without a console that it could be of.
    #[error("No 'virtio-serial-bus' bus found for device '{0}'")]
    NoSerialBus(&'static str),
    /// A port of a console that is not there.
    #[error("Bus '{0}' not found")]
    NoSuchBus(String),
    /// Two ports of one number.
    #[error("virtio-serial-bus: A port already exists at id {0}")]
    PortTaken(u32),
    /// A port number that is too large.
    #[error("virtio-serial-bus: Out-of-range port id specified, max. allowed: {0}")]
    PortRange(u32),
    /// No number is left.
    #[error("virtio-serial-bus: Maximum port limit for this device reached ({0})")]
    PortsFull(u32),
    /// A port that is no console in a console's place.
    #[error(
        "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."
    )]
    PortZero,
    /// A port's character device.
    #[error("Property '{class}.chardev' can't find value '{id}'")]
    PortChardev {
        /// The port's model.
        class: &'static str,
        /// The character device that it names.
        id: String,
    },
    /// The same, with another user.
    #[error("Property '{class}.chardev' can't take value '{id}', it's in use")]
    PortChardevInUse {
        /// The port's model.
        class: &'static str,
        /// The character device that it names.
        id: String,
    },
    /// Counted time needs one hart.
    #[error("-icount is supported with one CPU only, and -smp asks for {0}")]
    IcountSmp(u32),
    /// Two ways to start from a snapshot.
    #[error("-x-snapshot-fork and -loadvm both name a snapshot to start from")]
    LoadAndFork,
    /// More serial lines than the machine has.
    #[error("the machine has one serial line, and -serial was given {0} times")]
    TooManySerials(usize),
}
