//! What comes to the board: register accesses of the guest, device trees and kernels of the user.

use std::sync::{Arc, OnceLock};

use block::{Disk, DiskConfig, Fault, FaultRule, FileOptions, Kind, Node, NodeOptions, OnError, Policy};
use board::{Board, BoardConfig, BoardError, ImageSource};
use clock::{GuestClock, HostClock, RtcOptions, TestClock, TimerQueue};
use devices::virtio::{Block, BlockConfig, Console, Entropy, EntropySource};
use runstate::{DeviceId, DeviceRequest};
use vmcore::{AccessSize, Device, DevicePort, Machine as _};

/// 2026-11-23T00:00:00Z in ns since 1970.
const TODAY: u64 = 20_780 * 86_400 * 1_000_000_000;
const KERNEL: &[u8] = &[0x13; 64];
const RAM: u64 = 0x8000_0000;
/// Registers of a virtio device over MMIO (virtio 1.2, section 4.2.2).
const FEATURES: u64 = 0x20;
const FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
/// Where descriptors, available and used ring are told, and where they are in RAM.
const QUEUE_PARTS: [(u64, u64); 3] = [(0x80, 0), (0x90, 0x100), (0xa0, 0x200)];

/// Gives what is no surprise.
struct Still;

impl EntropySource for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }
}

impl DevicePort for Still {
    fn post(&self, _request: DeviceRequest) {}
}

struct Ground {
    host: TestClock,
    timers: Arc<TimerQueue>,
    board: Arc<Board>,
}

fn build(change: impl FnOnce(&mut BoardConfig)) -> Result<Ground, BoardError> {
    let host = TestClock::new(1, TODAY);
    let shared: Arc<dyn HostClock> = Arc::new(host.clone());
    let clock = Arc::new(GuestClock::new(Arc::clone(&shared)));
    let timers = TimerQueue::new(Arc::clone(&clock), Arc::clone(&shared));
    timers.thaw();
    let console = Console::new(2, Vec::new()).expect("a console without ports").0;
    let disk = Block::new(BlockConfig {
        disk: Arc::clone(disk()),
        id: DeviceId(2),
        qom_path: "/machine/peripheral/disk0".to_owned(),
        serial: "serial".to_owned(),
        port: Arc::new(Still),
    });
    let mut config = BoardConfig {
        ram_size: 4 << 20,
        harts: 2,
        extensions: hart::Extensions::default(),
        count: None,
        firmware: Some(ImageSource::Bytes("firmware".to_owned(), KERNEL.into())),
        kernel: None,
        initrd: None,
        device_tree: None,
        bootargs: "console=ttyS0".to_owned(),
        rtc: RtcOptions::default(),
        local_offset_s: 0,
        sun_rtc: true,
        suspend: true,
        identity: vmcore::Identity { generation: [1; 16], mac_seed: [2; 8] },
        vmgenid: board::GenerationId::Present,
        virtio: vec![
            Some(Box::new(Entropy::new(Arc::new(Still)))),
            Some(Box::new(console)),
            Some(Box::new(disk)),
        ],
        clock,
        timers: Arc::clone(&timers),
        host: shared,
        port: Arc::new(Still),
        serial: Vec::new(),
        entropy: Arc::new(Still),
    };
    change(&mut config);
    let (board, _harts) = Board::build(config)?;
    Ok(Ground { host, timers, board })
}

/// A small image that every board has, which stops the machine when it fails. What is in it does not matter.
fn disk() -> &'static Arc<Disk> {
    static DISK: OnceLock<Arc<Disk>> = OnceLock::new();
    DISK.get_or_init(|| {
        let image = tempfile::NamedTempFile::new().expect("a temporary file");
        image.as_file().set_len(1 << 20).expect("there is room for it");
        let file = FileOptions { path: image.path().to_owned(), ..FileOptions::default() };
        let node = NodeOptions { name: "node0".to_owned(), discard: true, ..NodeOptions::default() };
        let config = DiskConfig {
            name: "drive0".into(),
            qdev: "disk0".into(),
            node: Node::file(node, &file, false).expect("the image opens"),
            policy: Policy { write: OnError::Stop, read: OnError::Stop },
            writeback: true,
        };
        Arc::new(Disk::new(config).expect("the disk can be made"))
    })
}

impl Ground {
    /// Does something while everything stands.
    fn held(&self, meanwhile: impl FnOnce()) {
        self.timers.freeze();
        self.board.devices().iter().for_each(|device| device.stop());
        meanwhile();
        for device in self.board.devices() {
            let _ = device.start();
        }
        self.timers.thaw();
    }
}

/// What a driver does to a virtio device until it is ready, its first queue at the beginning of RAM. To another device these
/// are writes like any.
fn drive(device: &dyn Device) {
    let write = |register: u64, value: u64| {
        let _ = device.write(register, AccessSize::Word, value);
    };
    for status in [0, 1, 3] {
        write(STATUS, status);
    }
    write(FEATURES_SELECT, 1);
    write(FEATURES, 1);
    write(STATUS, 0xb);
    write(QUEUE_SELECT, 0);
    write(QUEUE_SIZE, 8);
    for (register, place) in QUEUE_PARTS {
        write(register, RAM + place);
        write(register + 4, 0);
    }
    write(QUEUE_READY, 1);
    write(STATUS, 0xf);
}

/// Takes numbers off the input; zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u64 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        u64::from(*first)
    }

    fn many(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |value, _| value << 8 | self.next())
    }
}

/// Whatever a guest writes and reads in whatever order: reads are as wide as asked, nothing changes while held, and what
/// is saved loads.
pub fn registers(bytes: &[u8]) {
    let ground = build(|_| ()).expect("this board can be built");
    let bus = ground.board.bus();
    let mut bytes = Bytes(bytes);
    while !bytes.0.is_empty() {
        let act = bytes.next();
        let mappings = bus.mappings();
        let mapping = &mappings[(act as usize >> 3) % mappings.len()];
        let device = &mapping.device;
        match act & 7 {
            kind @ 0..=4 => {
                let size = AccessSize::from_bytes(1 << (bytes.next() & 3)).expect("a power of two to 8");
                // Most registers are at small offsets; a window may be large.
                let offset = (if kind == 4 { bytes.many(4) } else { bytes.next() }) % mapping.size;
                let offset = offset & !(size.bytes() - 1);
                if kind == 0 {
                    let value = device.read(offset, size);
                    assert_eq!(value & !size.mask(), 0, "{}: a read is wider than asked", device.name());
                } else {
                    let value = if kind == 1 { bytes.many(8) } else { bytes.many(2) };
                    let _ = device.write(offset, size, value & size.mask());
                }
            }
            5 => {
                ground.host.advance(bytes.many(3) << 12);
                ground.timers.run_due();
            }
            6 => ground.held(|| {
                let held = device.save();
                ground.host.advance(1 << 30);
                assert_eq!(device.save(), held, "{}: something changes while held", device.name());
            }),
            _ => match bytes.next() & 7 {
                0 | 2 => {
                    let _ = device.sleep();
                    device.wake();
                }
                1 | 3 => ground.held(|| {
                    let saved = device.save();
                    device.load(&saved).expect("what is saved loads");
                    assert_eq!(device.save(), saved, "{}: save, load, save differ", device.name());
                }),
                4 => {
                    let button = ground.board.devices().iter().any(|device| device.press_power_button());
                    assert!(button, "this board has a power button");
                }
                5 => drive(&**device),
                6 => {
                    // Rings and buffers: the first pages.
                    let ram = ground.board.ram();
                    let place = RAM + (bytes.many(2) & 0x3ff8);
                    ram.write(place, &bytes.many(8).to_le_bytes()).expect("it is in RAM");
                    let _ = device.write(QUEUE_NOTIFY, AccessSize::Word, 0);
                }
                _ => {
                    let kind = if bytes.next() & 1 == 0 { Kind::Write } else { Kind::Read };
                    let rule = FaultRule { fault: Fault::Io, times: Some(1) };
                    disk().node().faults().set(kind, Some(rule));
                }
            },
        }
    }
    for kind in [Kind::Read, Kind::Write] {
        disk().node().faults().set(kind, None);
    }
    for mapping in bus.mappings() {
        mapping.device.reset();
    }
}

/// A user's device tree is refused, or gives one that is accepted again.
pub fn tree(bytes: &[u8]) {
    let with = |blob: &[u8]| {
        let tree = ImageSource::Bytes("tree".to_owned(), blob.into());
        build(|config| config.device_tree = Some(tree))?.board.device_tree()
    };
    if let Ok(written) = with(bytes) {
        with(&written).expect("what was written can be read");
    }
}

/// A kernel, an initrd or firmware is refused, or can be placed; twice, because a reset does it again.
pub fn kernel(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (kind, bytes): (u8, Arc<[u8]>) = (*kind, bytes.into());
    let source = ImageSource::Bytes("image".to_owned(), bytes);
    let ground = build(|config| match kind % 4 {
        0 => config.firmware = Some(source),
        1 => config.kernel = Some(source),
        2 => (config.firmware, config.kernel) = (None, Some(source)),
        _ => (config.firmware, config.kernel, config.initrd) = (None, Some(source.clone()), Some(source)),
    });
    if let Ok(ground) = ground {
        let first = ground.board.place_images().map_err(|error| error.to_string());
        let second = ground.board.place_images().map_err(|error| error.to_string());
        assert_eq!(first.is_ok(), second.is_ok(), "a reset finds other images");
    }
}
