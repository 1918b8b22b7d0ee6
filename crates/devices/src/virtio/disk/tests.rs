//! The block device as a driver sees it, on a real file, with a host that fails and hangs.

use std::time::{Duration, Instant};

use block::{DiskConfig, Fault, FaultRule, FileOptions, Kind, Node, NodeOptions, OnError, Policy};
use proptest::prelude::*;
use ram::Ram;
use runstate::{DeviceRequest, IoErrorAction};
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::*;
use vmcore::{AccessSize, Device};

use super::*;
use crate::test_support::{Bench, act_out, acts, read, write};
use crate::virtio::MmioSlot;

mod tracked;

const BASE: u64 = 0x8000_0000;
const DESC: u64 = BASE;
const AVAIL: u64 = BASE + 0x1_0000;
const USED: u64 = BASE + 0x2_0000;
/// A kilobyte for the header, the ranges and the status of each request.
const HEADERS: u64 = BASE + 0x3_0000;
const DATA: u64 = BASE + 0x8_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const SECTORS: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(20);
/// A status that no device writes.
const NONE: u8 = 0xff;

/// Address, length, flags.
type Buffer = (u64, u32, u16);

struct Set {
    bench: Bench,
    ram: Arc<Ram>,
    slot: MmioSlot,
    disk: Arc<Disk>,
    image: tempfile::NamedTempFile,
    /// Requests made so far.
    made: std::sync::Mutex<u16>,
}

#[derive(Clone, Copy, Default)]
struct Options {
    policy: Policy,
    read_only: bool,
    no_cache: bool,
}

const STOP: Policy = Policy { write: OnError::Stop, read: OnError::Stop };

impl Set {
    fn with(options: Options) -> Self {
        let bench = Bench::new();
        let ram = Arc::new(Ram::new(BASE, 0x20_0000).unwrap());
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(SECTORS * SECTOR).unwrap();
        let path = image.path().to_owned();
        let file = FileOptions { path, read_only: options.read_only, ..FileOptions::default() };
        let node = NodeOptions { name: "node0".to_owned(), discard: true, ..NodeOptions::default() };
        let node = Node::file(node, &file, false).unwrap();
        let config = DiskConfig {
            name: "drive0".into(),
            qdev: "disk0".into(),
            node,
            policy: options.policy,
            writeback: !options.no_cache,
        };
        let disk = Arc::new(Disk::new(config).unwrap());
        let device = Block::new(BlockConfig {
            disk: Arc::clone(&disk),
            id: DeviceId(3),
            qom_path: "/machine/peripheral/disk0".to_owned(),
            serial: "serial".to_owned(),
            port: Arc::clone(&bench.port) as _,
        });
        let slot = MmioSlot::new("virtio0", bench.line(), Arc::clone(&ram), Some(Box::new(device)));
        let set = Self { bench, ram, slot, disk, image, made: std::sync::Mutex::default() };
        set.drive(u32::MAX);
        set
    }

    fn new() -> Self {
        Self::with(Options::default())
    }

    fn stopping() -> Self {
        Self::with(Options { policy: STOP, ..Options::default() })
    }

    fn read(&self, register: u32) -> u32 {
        read(&self.slot, register.into())
    }

    fn write(&self, register: u32, value: u32) {
        write(&self.slot, register.into(), value);
    }

    /// What a driver does up to DRIVER_OK, with those of `features` that there are.
    fn drive(&self, features: u32) {
        for status in [0, 1, 3] {
            self.write(VIRTIO_MMIO_STATUS, status);
        }
        self.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, self.read(VIRTIO_MMIO_DEVICE_FEATURES) & features);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(VIRTIO_MMIO_STATUS, 0xb);
        self.write(VIRTIO_MMIO_QUEUE_NUM, QUEUE.into());
        for (low, addr) in [
            (VIRTIO_MMIO_QUEUE_DESC_LOW, DESC),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
            (VIRTIO_MMIO_QUEUE_USED_LOW, USED),
        ] {
            self.write(low, addr as u32);
            self.write(low + 4, (addr >> 32) as u32);
        }
        self.ram.write(AVAIL, &[0; 4]).unwrap();
        self.ram.write(USED, &[0; 4]).unwrap();
        *crate::lock(&self.made) = 0;
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
        self.write(VIRTIO_MMIO_STATUS, 0xf);
        assert_eq!(self.read(VIRTIO_MMIO_STATUS), 0xf);
    }

    fn descriptor(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let parts = [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.ram.write(DESC + 16 * u64::from(index), &parts.concat()).unwrap();
    }

    /// A chain of these buffers (address, length, flags) from descriptor `head` on.
    fn chain(&self, head: u16, buffers: &[Buffer]) {
        for (index, (addr, len, flags)) in buffers.iter().enumerate() {
            let at = head + index as u16;
            let more = if index + 1 < buffers.len() { NEXT } else { 0 };
            self.descriptor(at, *addr, *len, flags | more, at + 1);
        }
    }

    /// Makes the chain at `head` available and notifies.
    fn offer(&self, head: u16) {
        let mut made = crate::lock(&self.made);
        self.ram.write(AVAIL + 4 + 2 * u64::from(*made % QUEUE), &head.to_le_bytes()).unwrap();
        *made += 1;
        self.ram.write(AVAIL + 2, &made.to_le_bytes()).unwrap();
        drop(made);
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    /// Makes request number `number` (its descriptors and memory are its own) and offers it.
    fn ask(&self, number: u16, kind: u32, sector: u64, data: &[Buffer]) {
        let header = HEADERS + 1024 * u64::from(number);
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.ram.write(header, &bytes).unwrap();
        self.ram.write(header + 16, &[NONE]).unwrap();
        let mut buffers = vec![(header, 16, 0)];
        buffers.extend(data);
        buffers.push((header + 16, 1, WRITE));
        self.chain(number * 8, &buffers);
        self.offer(number * 8);
    }

    fn ask_write(&self, number: u16, sector: u64, byte: u8) {
        let at = DATA + u64::from(number) * SECTOR;
        self.ram.write(at, &[byte; SECTOR as usize]).unwrap();
        self.ask(number, VIRTIO_BLK_T_OUT, sector, &[(at, SECTOR as u32, 0)]);
    }

    fn status(&self, number: u16) -> u8 {
        self.bytes(HEADERS + 1024 * u64::from(number) + 16, 1)[0]
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(at, &mut bytes).unwrap();
        bytes
    }

    fn used(&self) -> u16 {
        let bytes = self.bytes(USED + 2, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// Waits until `count` requests are answered; gives head and length of the last.
    fn wait(&self, count: u16) -> (u32, u32) {
        self.until("requests to be answered", || self.used() >= count);
        assert_eq!(self.used(), count);
        let element = self.bytes(USED + 4 + 8 * u64::from(count - 1), 8);
        let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "waited in vain for {what}; {} are used", self.used());
            std::thread::yield_now();
        }
    }

    /// Waits until what was asked has failed, and gives what was posted.
    fn failures(&self, count: usize) -> Vec<DeviceRequest> {
        let posted = std::cell::RefCell::new(Vec::new());
        self.until("errors", || {
            posted.borrow_mut().extend(self.bench.port.take());
            posted.borrow().len() >= count
        });
        posted.into_inner()
    }

    fn fault(&self, kind: Kind, fault: Fault, times: Option<u64>) {
        self.disk.node().faults().set(kind, Some(FaultRule { fault, times }));
    }

    fn lift(&self, kind: Kind) {
        self.disk.node().faults().set(kind, None);
    }

    fn stored(&self, sector: u64) -> u8 {
        std::fs::read(self.image.path()).unwrap()[(sector * SECTOR) as usize]
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.slot.storage().unwrap()
    }
}

const STOPPED: DeviceRequest = DeviceRequest::IoError { device: DeviceId(3), action: IoErrorAction::Stop };

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(Set::new().slot), MmioSlot::WINDOW);
}

#[test]
fn a_driver_finds_a_disk() {
    let set = Set::new();
    assert_eq!(set.read(VIRTIO_MMIO_DEVICE_ID), 2);
    set.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    let bits = [1, 2, 6, 9, 11, 13, 14, 28];
    assert_eq!(set.read(VIRTIO_MMIO_DEVICE_FEATURES), bits.iter().map(|bit| 1 << bit).sum::<u32>());
    let config = |at: u64, size| set.slot.read(0x100 + at, size);
    assert_eq!(config(0, AccessSize::Word), SECTORS);
    assert_eq!(config(8, AccessSize::Word), 65536);
    assert_eq!(config(12, AccessSize::Word), 254);
    assert_eq!(config(20, AccessSize::Word), 512);
    assert_eq!(config(32, AccessSize::Byte), 1);
    assert_eq!(config(36, AccessSize::Word), 4_194_303);
    let read_only = Set::with(Options { read_only: true, ..Options::default() });
    read_only.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    let features = read_only.read(VIRTIO_MMIO_DEVICE_FEATURES);
    assert_eq!((features >> 5 & 1, features >> 13 & 3), (1, 0), "read-only, nothing to discard");
}

#[test]
fn what_is_written_is_flushed_and_read_again() {
    let set = Set::new();
    set.ask_write(0, 5, 0xa5);
    assert_eq!(set.wait(1), (0, 1));
    set.ask(1, VIRTIO_BLK_T_FLUSH, 0, &[]);
    assert_eq!(set.wait(2), (8, 1));
    set.ask(2, VIRTIO_BLK_T_IN, 4, &[(DATA + 0x8000, 700, WRITE), (DATA + 0x9000, 836, WRITE)]);
    assert_eq!(set.wait(3), (16, 3 * 512 + 1));
    assert_eq!([set.status(0), set.status(1), set.status(2)], [0, 0, 0]);
    let data = [set.bytes(DATA + 0x8000, 700), set.bytes(DATA + 0x9000, 836)].concat();
    let expected: Vec<u8> = (0..1536).map(|at| if at / 512 == 1 { 0xa5 } else { 0 }).collect();
    assert_eq!(data, expected);
    assert_eq!(set.stored(5), 0xa5);
    set.until("the interrupt", || set.bench.wire.is_high());
    let counts = set.disk.stats().snapshot();
    assert_eq!((counts.of(Kind::Write).bytes, counts.of(Kind::Read).bytes), (512, 1536));
    assert_eq!(counts.of(Kind::Flush).operations, 1);
}

#[test]
fn a_request_may_be_cut_into_buffers_anywhere() {
    let set = Set::new();
    let at = HEADERS;
    let header = [&VIRTIO_BLK_T_IN.to_le_bytes()[..], &[0; 4], &7_u64.to_le_bytes()].concat();
    set.ram.write(at, &header[..3]).unwrap();
    set.ram.write(at + 64, &header[3..]).unwrap();
    set.ram.write(DATA, &[1; 600]).unwrap();
    set.chain(0, &[(at, 3, 0), (at + 64, 13, 0), (DATA, 513, WRITE)]);
    set.offer(0);
    assert_eq!(set.wait(1), (0, 513));
    assert_eq!(set.bytes(DATA, 514), [vec![0; 513], vec![1]].concat(), "the status is the last byte");
}

#[test]
fn the_name_is_told() {
    let set = Set::new();
    set.ask(0, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20, WRITE)]);
    assert_eq!(set.wait(1), (0, 21));
    assert_eq!(set.bytes(DATA, 20), b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    set.ask(1, VIRTIO_BLK_T_GET_ID, 0, &[(DATA + 64, 3, WRITE)]);
    assert_eq!(set.wait(2), (8, 4));
    assert_eq!(set.bytes(DATA + 64, 4), b"ser\0");
}

#[test]
fn discards_and_zeroes() {
    let set = Set::new();
    set.ask_write(0, 8, 1);
    set.ask_write(1, 9, 1);
    set.wait(2);
    let range = |number: u16, sector: u64, count: u32, flags: u32| {
        let at = HEADERS + 1024 * u64::from(number) + 32;
        let bytes = [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat();
        set.ram.write(at, &bytes).unwrap();
        vec![(at, 16, 0)]
    };
    set.ask(2, VIRTIO_BLK_T_DISCARD, 0, &range(2, 8, 8, 0));
    set.wait(3);
    set.ask(3, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(3, 9, 1, 1));
    set.wait(4);
    assert_eq!([set.status(2), set.status(3), set.stored(8), set.stored(9)], [0, 0, 0, 0]);
    assert_eq!(set.disk.stats().snapshot().of(Kind::Unmap).bytes, 8 * 512);
    let wrong = [
        (VIRTIO_BLK_T_DISCARD, range(4, 8, 1, 1), VIRTIO_BLK_S_UNSUPP),
        (VIRTIO_BLK_T_WRITE_ZEROES, range(4, 8, 1, 2), VIRTIO_BLK_S_UNSUPP),
        (VIRTIO_BLK_T_DISCARD, range(4, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_DISCARD, range(4, u64::MAX, 1, 0), VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![(DATA, 32, 0)], VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![(DATA, 15, 0)], VIRTIO_BLK_S_IOERR),
    ];
    for (index, (kind, data, status)) in wrong.into_iter().enumerate() {
        range(
            4,
            if index == 2 {
                SECTORS
            } else if index == 3 {
                u64::MAX
            } else {
                8
            },
            1,
            [1, 2, 0, 0, 0, 0][index],
        );
        set.ask(4, kind, 0, &data);
        set.wait(5 + index as u16);
        assert_eq!(u32::from(set.status(4)), status, "case {index}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_counted() {
    let set = Set::new();
    let sector = [(DATA, 512, WRITE)];
    let cases: [(u32, u64, &[Buffer], u32); 7] = [
        (VIRTIO_BLK_T_IN, SECTORS, &sector, VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_IN, u64::MAX, &sector, VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_IN, SECTORS - 1, &[(DATA, 1024, WRITE)], VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_IN, 0, &[(DATA, 100, WRITE)], VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_IN, 0, &[(0x1000, 512, WRITE)], VIRTIO_BLK_S_IOERR),
        (VIRTIO_BLK_T_OUT, 0, &[(u64::MAX - 100, 512, 0)], VIRTIO_BLK_S_IOERR),
        (99, 0, &sector, VIRTIO_BLK_S_UNSUPP),
    ];
    for (number, (kind, at, data, status)) in (0..).zip(cases) {
        set.ask(number, kind, at, data);
        set.wait(number + 1);
        assert_eq!(u32::from(set.status(number)), status, "case {number}");
    }
    let counts = set.disk.stats().snapshot();
    assert_eq!((counts.of(Kind::Read).invalid, counts.of(Kind::Write).invalid), (5, 1));
    let read_only = Set::with(Options { read_only: true, ..Options::default() });
    read_only.ask_write(0, 0, 1);
    read_only.wait(1);
    assert_eq!(u32::from(read_only.status(0)), VIRTIO_BLK_S_IOERR);
    assert_eq!(set.bench.port.take(), [], "none of this is an error of the host");
}

#[test]
fn a_request_without_header_or_status_breaks_the_device() {
    let broken: [&[Buffer]; 5] = [
        &[(HEADERS, 16, 0)],
        &[(HEADERS, 15, 0), (HEADERS + 16, 1, WRITE)],
        &[(HEADERS + 16, 1, WRITE), (HEADERS, 16, 0)],
        &[(0, 16, 0), (HEADERS + 16, 1, WRITE)],
        &[(HEADERS, 16, 0), (0, 1, WRITE)],
    ];
    for (case, buffers) in broken.into_iter().enumerate() {
        let set = Set::new();
        set.ram.write(HEADERS, &99_u32.to_le_bytes()).unwrap();
        set.chain(0, buffers);
        set.offer(0);
        assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0x4f, "case {case}");
        set.drive(u32::MAX);
        set.ask_write(1, 1, 1);
        set.wait(1);
    }
}

#[test]
fn errors_are_told_to_guest_and_machine_as_the_policy_says() {
    let cases = [
        (OnError::Report, IoErrorAction::Report, VIRTIO_BLK_S_IOERR),
        (OnError::Ignore, IoErrorAction::Ignore, VIRTIO_BLK_S_OK),
        (OnError::Enospc, IoErrorAction::Report, VIRTIO_BLK_S_IOERR),
    ];
    for (write, action, status) in cases {
        let set = Set::with(Options { policy: Policy { write, ..Policy::default() }, ..Options::default() });
        set.fault(Kind::Write, Fault::Io, Some(1));
        set.ask_write(0, 1, 1);
        set.wait(1);
        assert_eq!(u32::from(set.status(0)), status);
        assert_eq!(set.failures(1), [DeviceRequest::IoError { device: DeviceId(3), action }]);
    }
    let set = Set::new();
    set.fault(Kind::Write, Fault::NoSpace, Some(1));
    set.ask_write(0, 1, 1);
    assert_eq!(set.failures(1), [STOPPED]);
    let error = set.storage().io_error().unwrap();
    assert_eq!((error.device.as_str(), error.node_name.as_deref()), ("drive0", Some("node0")));
    assert_eq!((error.read, error.no_space), (false, true));
    assert_eq!(error.reason, "No space left on device");
    assert_eq!(error.qom_path, "/machine/peripheral/disk0");
    assert_eq!(set.disk.io_status(), block::IoStatus::NoSpace);
}

#[test]
fn what_failed_is_made_again_in_order_each_time_the_machine_goes_on() {
    let set = Set::stopping();
    set.fault(Kind::Write, Fault::Io, None);
    set.fault(Kind::Read, Fault::Io, Some(1));
    for number in 0..3 {
        set.ask_write(number, 7, number as u8 + 1);
    }
    set.ask(3, VIRTIO_BLK_T_IN, 0, &[(DATA + 0x8000, 512, WRITE)]);
    assert_eq!(set.failures(4), [STOPPED; 4]);
    set.slot.stop();
    set.storage().flush().unwrap();
    let held = set.slot.save();
    assert_eq!(set.used(), 0, "the guest is told nothing");
    set.storage().prepare().unwrap();
    assert_eq!(set.disk.io_status(), block::IoStatus::Ok);
    set.slot.start();
    assert_eq!(set.failures(3), [STOPPED; 3], "they fail again, and it is told again");
    set.wait(1);
    assert_eq!(set.status(3), 0, "the read does not");
    set.slot.stop();
    assert_ne!(set.slot.save(), held, "one less is outstanding");
    set.lift(Kind::Write);
    set.slot.start();
    set.wait(4);
    assert_eq!([set.status(0), set.status(1), set.status(2)], [0, 0, 0]);
    assert_eq!(set.bench.port.take(), []);
}

#[test]
fn what_ends_while_the_machine_is_held_is_seen_when_it_goes_on() {
    let set = Set::stopping();
    set.fault(Kind::Write, Fault::Hang, None);
    set.ask_write(0, 7, 9);
    set.slot.stop();
    let held = set.slot.save();
    set.lift(Kind::Write);
    set.storage().flush().unwrap();
    assert_eq!((set.stored(7), set.used(), set.bench.wire.is_high()), (9, 0, false));
    assert_eq!(set.slot.save(), held, "nothing changes while it is held");
    set.slot.start();
    set.wait(1);
    assert!(set.bench.wire.is_high());

    // An error that comes then is told at once, and what failed is made again when the machine goes on.
    set.fault(Kind::Read, Fault::Hang, None);
    set.ask(1, VIRTIO_BLK_T_IN, 7, &[(DATA + 0x8000, 512, WRITE)]);
    set.slot.stop();
    set.image.as_file().set_len(512).unwrap();
    set.lift(Kind::Read);
    assert_eq!(set.failures(1), [STOPPED]);
    set.image.as_file().set_len(SECTORS * SECTOR).unwrap();
    set.slot.start();
    set.wait(2);
    assert_eq!(set.status(1), 0);
}

#[test]
fn what_is_outstanding_travels() {
    let from = Set::stopping();
    from.fault(Kind::Write, Fault::Io, None);
    from.ask_write(0, 1, 1);
    assert_eq!(from.failures(1), [STOPPED]);
    from.fault(Kind::Write, Fault::Hang, None);
    from.ask_write(1, 2, 2);
    from.slot.stop();
    let to = Set::stopping();
    to.slot.stop();
    to.ram.write(BASE, &from.bytes(BASE, 0x20_0000)).unwrap();
    to.slot.load(&from.slot.save()).unwrap();
    assert_eq!(to.slot.save(), from.slot.save());
    to.slot.start();
    to.wait(2);
    assert_eq!((to.stored(1), to.stored(2)), (1, 2));
    assert_eq!((from.stored(1), from.stored(2)), (0, 0));
    from.lift(Kind::Write);
}

#[test]
fn a_disk_that_was_somebody_elses_does_nothing_before_it_is_back_and_then_has_the_size_it_was_given() {
    let set = Set::stopping();
    let capacity = || set.read(VIRTIO_MMIO_CONFIG);
    set.slot.stop();
    set.storage().inactivate().unwrap();
    assert!(!set.disk.node().is_active());
    set.image.as_file().set_len(2 * SECTORS * SECTOR).unwrap();
    set.storage().activate().unwrap();
    set.storage().prepare().unwrap();
    assert_eq!(u64::from(capacity()), SECTORS, "nothing changes while the machine is held");
    set.slot.start();
    assert_eq!(u64::from(capacity()), 2 * SECTORS);
    assert_eq!(set.read(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG);
    set.ask_write(0, 2 * SECTORS - 1, 5);
    set.wait(1);
    assert_eq!(set.stored(2 * SECTORS - 1), 5);
}

#[test]
fn a_reset_forgets_what_failed_and_waits_for_what_hangs() {
    let set = Set::stopping();
    set.fault(Kind::Read, Fault::Io, None);
    set.ask(0, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, WRITE)]);
    assert_eq!(set.failures(1), [STOPPED]);
    set.fault(Kind::Write, Fault::Hang, None);
    set.ask_write(1, 7, 1);
    set.slot.stop();
    set.slot.reset();
    set.slot.start();
    set.drive(u32::MAX);
    set.ask_write(2, 7, 2);
    assert_eq!(set.used(), 0);
    set.lift(Kind::Write);
    set.wait(1);
    set.storage().flush().unwrap();
    assert_eq!(set.stored(7), 2, "what was asked before the reset is not done after what was asked then");
    assert_eq!((set.status(2), set.status(1), set.status(0)), (0, NONE, NONE));
    assert_eq!(set.bench.port.take(), [], "nor told");
}

#[test]
fn few_requests_are_with_the_host_at_once_and_all_are_served() {
    let set = Set::new();
    set.fault(Kind::Write, Fault::Hang, None);
    for number in 0..31 {
        set.ask_write(number, number.into(), 1);
    }
    let save_of_16 = set.slot.save().data.len();
    set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_eq!(set.slot.save().data.len(), save_of_16);
    assert!(save_of_16 < 17 * 30, "{save_of_16} bytes are more than 16 requests have");
    set.lift(Kind::Write);
    set.wait(31);
}

#[test]
fn a_driver_without_flushes_has_its_writes_durable() {
    let durable = |set: &Set| {
        set.fault(Kind::Flush, Fault::Io, None);
        set.ask_write(0, 1, 1);
        set.wait(1);
        u32::from(set.status(0)) == VIRTIO_BLK_S_IOERR
    };
    assert!(!durable(&Set::new()));
    let old = Set::new();
    old.drive(!(1 << VIRTIO_BLK_F_FLUSH));
    assert!(durable(&old));
    let through = Set::with(Options { no_cache: true, ..Options::default() });
    assert_eq!(through.slot.read(0x120, AccessSize::Byte), 0);
    assert!(durable(&through));
    let set = Set::new();
    set.slot.write(0x120, AccessSize::Byte, 0);
    assert!(durable(&set), "the driver's choice");
    set.slot.reset();
    assert_eq!(set.slot.read(0x120, AccessSize::Byte), 1);
}

#[test]
fn a_device_may_go_while_requests_are_under_way() {
    let set = Set::new();
    set.fault(Kind::Write, Fault::Hang, None);
    set.ask_write(0, 0, 1);
    let Set { slot, disk, .. } = set;
    drop(slot);
    disk.node().faults().set(Kind::Write, None);
    disk.flush().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a driver writes into registers, rings and buffers: no panic, and after a reset the disk works.
    #[test]
    fn no_driver_breaks_it_for_good(
        acts in acts(0x140),
        table in proptest::collection::vec((0..0x3000_u64, prop_oneof![0..64_u32, any::<u32>()], 0..8_u16, 0..64_u16), 64),
        heads in proptest::collection::vec(0..70_u16, 16),
        headers in proptest::collection::vec((0..16_u32, 0..3000_u64), 16),
    ) {
        let set = Set::stopping();
        set.fault(Kind::Write, Fault::Io, Some(1));
        for (number, (kind, sector)) in headers.iter().enumerate() {
            let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
            set.ram.write(DATA + 0x100 * number as u64, &bytes).unwrap();
        }
        for (index, (addr, len, flags, next)) in table.iter().enumerate() {
            set.descriptor(index as u16, DATA + addr, *len, *flags, *next);
        }
        for head in heads {
            set.offer(head);
        }
        for act in &acts {
            act_out(&set.bench, &set.slot, 0x140, std::slice::from_ref(act), || {});
            set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        }
        set.lift(Kind::Write);
        set.slot.stop();
        set.storage().flush().unwrap();
        set.slot.start();
        set.drive(u32::MAX);
        set.ask_write(0, 1, 0x77);
        set.wait(1);
        prop_assert_eq!(set.stored(1), 0x77);
    }
}
