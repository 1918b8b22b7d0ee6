//! What commands need to know of the program, the same for every monitor.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backends::FdSets;
use block::{Disk, Node};
use clock::{ShiftedClock, TimerQueue};
use engine::{Engine, JobControl};
use migration::Migrations;
use migration::snapshot::Snapshots;
use qmp::CommandSet;
use qmp::types::{VersionInfo, VersionTriple};

use crate::commands::{self, ChardevInfo, CommandLineOptionInfo, CpuModel, MachineInfo, Objects, Qmp};
use crate::lines::Lines;

/// The version of QEMU that is spoken. Managers derive from it what they may use (`spec/clients.md` 2a).
const QEMU: VersionTriple = VersionTriple { major: 10, minor: 0, micro: 2 };
/// What `query-uuid` answers when none was given.
const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// Has the gdb stub listen at a place, or nowhere for `none`; the error is for people.
pub type GdbServer = Box<dyn Fn(&str) -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync>;

/// What the program tells its monitors.
pub struct Config {
    /// The machine.
    pub engine: Engine,
    /// Name and version of the program, for greetings and `query-version`: `dormouse 0.1.0`.
    pub program: String,
    /// `-name`.
    pub name: Option<String>,
    /// `-uuid`, in its canonical form.
    pub uuid: Option<String>,
    /// Whether the guest can look up its generation id.
    pub vmgenid: bool,
    /// The kinds of machine that this program has.
    pub machines: Vec<MachineInfo>,
    /// The options of the command line, as `query-command-line-options` lists them.
    pub options: Vec<CommandLineOptionInfo>,
    /// The processor models that this program has.
    pub cpu_models: Vec<CpuModel>,
    /// The types of objects that this program has, and the objects.
    pub objects: Objects,
    /// The machine's memory in bytes.
    pub memory: u64,
    /// The character devices as they are now. Called on monitors' threads.
    pub chardevs: Box<dyn Fn() -> Vec<ChardevInfo> + Send + Sync>,
    /// The descriptor sets that paths `/dev/fdset/N` name.
    pub fdsets: FdSets,
    /// What the human monitor's `gdbserver` does with its word.
    pub gdbserver: GdbServer,
    /// Puts a BREAK on the line of the character device with this id; gives whether there is such a device.
    pub send_break: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// The block nodes, those below before those above.
    pub nodes: Vec<Arc<Node>>,
    /// The disks of the machine's devices.
    pub disks: Vec<Arc<Disk>>,
    /// The machine's snapshots.
    pub snapshots: Snapshots,
    /// The host's clocks, when tests may move them (`-x-test-clock`); it is what makes `x-test-clock-advance` exist.
    pub test_clock: Option<TestClock>,
    /// How long a command waits for the machine before its connection looks for a `quit` behind it.
    pub patience: Duration,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("program", &self.program)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Host clocks that a test moves, and the timers that go by them.
#[derive(Clone)]
pub struct TestClock {
    /// The clocks.
    pub clock: Arc<ShiftedClock>,
    /// The timers.
    pub timers: Arc<TimerQueue>,
}

/// [`Config`] and what follows from it.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) version: VersionInfo,
    /// Every command that this program offers by QMP.
    pub(crate) commands: Arc<CommandSet<&'static Qmp>>,
    /// The machine's migrations.
    pub(crate) migrations: Migrations,
    /// The dump of guest memory under way, or the last one.
    pub(crate) dump: Mutex<Option<JobControl>>,
    /// Its monitors on sockets.
    pub(crate) lines: Lines,
}

impl Context {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let version = VersionInfo { qemu: QEMU, package: config.program.clone() };
        let commands = Arc::new(commands::offered(&config));
        let migrations = Migrations::new(config.engine.clone());
        let dump = Mutex::default();
        Arc::new(Self { config, version, commands, migrations, dump, lines: Lines::default() })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.config.engine
    }

    pub(crate) fn uuid(&self) -> &str {
        self.config.uuid.as_deref().unwrap_or(NO_UUID)
    }

    /// `10.0.2`.
    pub(crate) fn qemu_version(&self) -> String {
        let VersionTriple { major, minor, micro } = &self.version.qemu;
        format!("{major}.{minor}.{micro}")
    }
}
