//! From options to a machine: clocks, board, engine.

use std::sync::Arc;

use board::{Board, BoardConfig, GenerationId, ImageSource, Vcpus};
use clock::{
    CountedSource, GuestClock, HostClock, IcountShift, RtcBase, ShiftedClock, SystemClock, TimerQueue,
};
use devices::virtio::{Block, BlockConfig, Entropy, EntropySource, VirtioDevice};
use engine::{Builder, Engine, EngineConfig};
use hart::Extensions;
use ram::Ram;
use runstate::{Config, DeviceId, Lifecycle};
use vmcore::{BoardInfo, BootEntry, Device, Harts, Identity, Machine, PlaceError, Vcpu};

use crate::channels::Channels;
use crate::cli::{Bios, CpuModel, MachineKind, Options, RngSource, VirtioKind, VmgenidOption};
use crate::consoles::Consoles;
use crate::disks::{self, Disks};
use crate::host::{FileEntropy, HostEntropy, RepeatableEntropy};

/// The guest that runs when none is given. Source and build script are in `guest/`.
const EMBEDDED_GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The board cannot be built.
    #[error(transparent)]
    Board(#[from] board::BoardError),
    /// The processor has no such property.
    #[error(transparent)]
    Cpu(#[from] hart::ExtensionError),
    /// The engine cannot be started.
    #[error(transparent)]
    Engine(#[from] engine::StartError),
    /// The ports of a virtio console do not go together.
    #[error("virtio-serial-bus: {0}")]
    Console(#[from] devices::virtio::ConsoleError),
    /// The file of an entropy source cannot be read.
    #[error("cannot open '{path}' as a source of entropy: {source}")]
    Entropy {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The clocks of a machine.
pub(crate) struct Clocks {
    pub(crate) host: Arc<dyn HostClock>,
    /// The host's clocks, where a test may move them.
    pub(crate) shifted: Option<Arc<ShiftedClock>>,
    pub(crate) counted: Option<CountedSource>,
    pub(crate) guest: Arc<GuestClock>,
    pub(crate) timers: Arc<TimerQueue>,
}

impl Clocks {
    /// The clocks that `-icount` and `-x-test-clock` ask for.
    pub(crate) fn new(icount: Option<IcountShift>, test_clock: bool) -> Self {
        let shifted = test_clock.then(|| Arc::new(ShiftedClock::system()));
        let host: Arc<dyn HostClock> = match &shifted {
            Some(shifted) => Arc::clone(shifted) as Arc<dyn HostClock>,
            None => Arc::new(SystemClock),
        };
        let counted = icount.map(|_| CountedSource::default());
        let guest = match (&counted, icount) {
            (Some(source), Some(shift)) => GuestClock::icount(source.clone(), shift),
            _ => GuestClock::new(Arc::clone(&host)),
        };
        let guest = Arc::new(guest);
        let timers = TimerQueue::new(Arc::clone(&guest), Arc::clone(&host));
        Self { host, shifted, counted, guest, timers }
    }
}

/// Builds the board that `options` describe. `consoles` has the host's ends of its lines; ports are noted in `channels`.
pub(crate) fn board(
    options: &Options,
    clocks: &Clocks,
    builder: &Builder,
    consoles: Option<&Consoles>,
    channels: &mut Channels,
    disks: &Disks,
) -> Result<(Arc<Board>, Vcpus), SetupError> {
    let boot = &options.boot;
    let firmware = match &boot.bios {
        Bios::File(path) => Some(ImageSource::File(path.clone())),
        Bios::Default | Bios::None => None,
    };
    let embedded = || ImageSource::Bytes("embedded guest".to_owned(), EMBEDDED_GUEST.into());
    let kernel = match &boot.kernel {
        Some(path) => Some(ImageSource::File(path.clone())),
        None => firmware.is_none().then(embedded),
    };
    Ok(Board::build(BoardConfig {
        ram_size: options.memory,
        harts: options.smp.cpus,
        extensions: extensions(options)?,
        count: clocks.counted.clone(),
        firmware,
        kernel,
        initrd: boot.initrd.clone().map(ImageSource::File),
        device_tree: boot.dtb.clone().map(ImageSource::File),
        bootargs: boot.append.clone().unwrap_or_default(),
        rtc: options.rtc,
        local_offset_s: if options.rtc.base == RtcBase::Localtime { host_offset_s() } else { 0 },
        sun_rtc: options.machine.wakeup_rtc,
        suspend: options.machine.suspend,
        identity: identity(options)?,
        vmgenid: match &options.vmgenid {
            None => GenerationId::Absent,
            Some(VmgenidOption { guid: None, .. }) => GenerationId::Present,
            Some(VmgenidOption { guid: Some(_), .. }) => GenerationId::Given,
        },
        virtio: virtio(options, consoles, channels, disks, builder)?,
        clock: Arc::clone(&clocks.guest),
        timers: Arc::clone(&clocks.timers),
        host: Arc::clone(&clocks.host),
        port: builder.port(),
        serial: consoles.and_then(Consoles::serial_port).into_iter().collect(),
        entropy: entropy(options, &RngSource::Builtin)?,
    })?)
}

/// What the board is run with; `M-mode` firmware has no suspend.
pub(crate) fn start(
    options: &Options,
    clocks: Clocks,
    builder: Builder,
    machine: Arc<dyn Machine>,
    vcpus: Vec<Box<dyn Vcpu>>,
) -> Result<Engine, SetupError> {
    let suspend = options.machine.kind == MachineKind::Virt
        && options.machine.suspend
        && options.boot.bios == Bios::Default;
    let lifecycle = Lifecycle::new(Config {
        wakeup_supported: suspend,
        actions: options.actions,
        wake_policy: options.wake_policy,
        autostart: !options.start_stopped,
        incoming: options.incoming.is_some(),
    });
    Ok(builder.start(EngineConfig {
        machine,
        vcpus,
        timers: clocks.timers,
        host: clocks.host,
        lifecycle,
        counted: clocks.counted,
        hart_nice: options.hart_nice,
    })?)
}

fn extensions(options: &Options) -> Result<Extensions, SetupError> {
    let mut extensions = match options.cpu {
        CpuModel::Rv64 | CpuModel::Max => Extensions::ALL,
    };
    for (name, on) in &options.cpu_properties {
        extensions.set(name, *on)?;
    }
    Ok(extensions)
}

/// The devices in the virtio slots, from slot 0 on.
fn virtio(
    options: &Options,
    consoles: Option<&Consoles>,
    channels: &mut Channels,
    disks: &Disks,
    builder: &Builder,
) -> Result<Vec<Option<Box<dyn VirtioDevice>>>, SetupError> {
    let mut slots: Vec<Option<Box<dyn VirtioDevice>>> = Vec::new();
    for option in &options.virtio {
        let device: Box<dyn VirtioDevice> = match &option.kind {
            VirtioKind::Rng(source) => Box::new(Entropy::new(entropy(options, source)?)),
            VirtioKind::Serial { max_ports, ports } => {
                Box::new(channels.console(*max_ports, ports, consoles)?)
            }
            VirtioKind::Block(disk) => {
                // Opened, or the program only looks at the machine.
                let Some(host) = disks.in_slot(option.slot) else { continue };
                Box::new(Block::new(BlockConfig {
                    disk: Arc::clone(host),
                    id: DeviceId(u32::try_from(option.slot).unwrap_or(u32::MAX)),
                    qom_path: disks::qom_path(options, option),
                    serial: disk.serial.clone(),
                    port: builder.port(),
                }))
            }
        };
        if slots.len() <= option.slot {
            slots.resize_with(option.slot + 1, || None);
        }
        if let Some(slot) = slots.get_mut(option.slot) {
            *slot = Some(device);
        }
    }
    Ok(slots)
}

/// Where an entropy device's bytes or the device tree's seed come from. Counted time asks for runs that repeat.
fn entropy(options: &Options, source: &RngSource) -> Result<Arc<dyn EntropySource>, SetupError> {
    if options.icount.is_some() {
        return Ok(Arc::new(RepeatableEntropy::default()));
    }
    match source {
        RngSource::File(path) => match FileEntropy::open(path) {
            Ok(source) => Ok(Arc::new(source)),
            Err(source) => Err(SetupError::Entropy { path: path.display().to_string(), source }),
        },
        RngSource::Builtin => Ok(Arc::new(HostEntropy)),
    }
}

/// The identity that the machine begins with.
fn identity(options: &Options) -> Result<Identity, SetupError> {
    let entropy = entropy(options, &RngSource::Builtin)?;
    let mut identity = Identity { generation: [0; 16], mac_seed: [0; 8] };
    entropy.fill(&mut identity.generation);
    entropy.fill(&mut identity.mac_seed);
    if let Some(guid) = options.vmgenid.as_ref().and_then(|device| device.guid) {
        identity.generation = guid;
    }
    Ok(identity)
}

/// The host's local time less UTC in s, for `-rtc base=localtime`: as `date` says, 0 where it cannot be had.
fn host_offset_s() -> i32 {
    let Ok(output) = std::process::Command::new("date").arg("+%z").output() else { return 0 };
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.trim();
    let parsed = text.get(..3).zip(text.get(3..5)).and_then(|(hours, minutes)| {
        let hours: i32 = hours.parse().ok()?;
        let minutes: i32 = minutes.parse().ok()?;
        let sign = if text.starts_with('-') { -1 } else { 1 };
        Some(hours * 3600 + sign * minutes * 60)
    });
    parsed.unwrap_or(0)
}

/// `-machine none`: no hart and no device, for those who ask the program about itself.
pub(crate) struct NoMachine {
    harts: Harts,
}

impl NoMachine {
    /// The machine without anything.
    pub(crate) fn new(clocks: &Clocks) -> Arc<Self> {
        Arc::new(Self { harts: Harts::new(0, &clocks.guest, &clocks.timers) })
    }
}

impl Machine for NoMachine {
    fn harts(&self) -> &Harts {
        &self.harts
    }

    fn devices(&self) -> &[Arc<dyn Device>] {
        &[]
    }

    fn board(&self) -> BoardInfo {
        BoardInfo::new("none", None, &self.harts, &[])
    }

    fn ram(&self) -> Option<&Arc<Ram>> {
        None
    }

    fn place_images(&self) -> Result<BootEntry, PlaceError> {
        Ok(BootEntry::Supervisor { pc: 0, device_tree: 0 })
    }
}
