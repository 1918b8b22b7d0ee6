//! The console device as a driver and as back ends see it, well and badly behaved.

use proptest::prelude::*;
use ram::Ram;
use virtio_bindings::virtio_mmio::*;
use vmcore::Device;

use super::*;
use crate::lock;
use crate::test_support::{Bench, act_out, acts, read, write};
use crate::virtio::MmioSlot;

const BASE: u64 = 0x8000_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Takes up to `room` bytes of output; counts how often it was asked for input.
#[derive(Default)]
struct Host {
    got: std::sync::Mutex<Vec<u8>>,
    room: std::sync::Mutex<usize>,
    resumed: std::sync::Mutex<usize>,
}

impl PortBackend for Host {
    fn try_write(&self, bytes: &[u8]) -> usize {
        let mut room = lock(&self.room);
        let taken = bytes.len().min(*room);
        *room -= taken;
        lock(&self.got).extend(&bytes[..taken]);
        taken
    }

    fn resume_input(&self) {
        *lock(&self.resumed) += 1;
    }
}

#[derive(Default)]
struct Watch(std::sync::Mutex<Vec<bool>>);

impl PortWatcher for Watch {
    fn guest_open(&self, open: bool) {
        lock(&self.0).push(open);
    }
}

/// A console on port 0 and an agent on port 1, with a driver's memory: queue N has its rings and 2 KiB buffers at
/// `BASE + N * 0x8000`.
struct Set {
    bench: Bench,
    ram: Arc<Ram>,
    slot: MmioSlot,
    host: Arc<Host>,
    line: Arc<PortLine>,
    watch: Arc<Watch>,
    /// Buffers made available so far.
    offered: std::sync::Mutex<[u16; 8]>,
}

const RX: u32 = 4;
const TX: u32 = 5;
const SIZE: u16 = 8;

impl Set {
    fn new() -> Self {
        let bench = Bench::new();
        let ram = Arc::new(Ram::new(BASE, 0x10_0000).unwrap());
        let (host, watch) = (Arc::new(Host::default()), Arc::new(Watch::default()));
        *lock(&host.room) = usize::MAX;
        let port = |nr, name: Option<&str>| PortConfig {
            nr,
            name: name.map(str::to_owned),
            console: nr == 0,
            backend: Arc::clone(&host) as _,
            watcher: (nr == 1).then(|| Arc::clone(&watch) as _),
        };
        let (console, lines) = Console::new(2, vec![port(0, None), port(1, Some("agent"))]).unwrap();
        let line = Arc::clone(&lines[1]);
        let slot = MmioSlot::new("virtio0", bench.line(), Arc::clone(&ram), Some(Box::new(console)));
        Self { bench, ram, slot, host, line, watch, offered: Default::default() }
    }

    fn write(&self, register: u32, value: u32) {
        write(&self.slot, register.into(), value);
    }

    fn at(queue: u32) -> u64 {
        BASE + u64::from(queue) * 0x8000
    }

    /// What a driver does up to DRIVER_OK (section 3.1.1), with or without the ports feature.
    fn drive(&self, features: u32) {
        self.write(VIRTIO_MMIO_STATUS, 0);
        self.write(VIRTIO_MMIO_STATUS, 3);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, features);
        self.write(VIRTIO_MMIO_STATUS, 0xb);
        for queue in 0..6 {
            let at = Self::at(queue);
            self.ram.write(at, &[0; 0x3000]).unwrap();
            self.write(VIRTIO_MMIO_QUEUE_SEL, queue);
            self.write(VIRTIO_MMIO_QUEUE_NUM, SIZE.into());
            let parts = [VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_USED_LOW];
            for (low, offset) in parts.into_iter().zip([0, 0x1000, 0x2000]) {
                self.write(low, (at + offset) as u32);
                self.write(low + 4, 0);
            }
            self.write(VIRTIO_MMIO_QUEUE_READY, 1);
        }
        *lock(&self.offered) = [0; 8];
        self.write(VIRTIO_MMIO_STATUS, 0xf);
    }

    fn descriptor(&self, queue: u32, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let parts = [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.ram.write(Self::at(queue) + 16 * u64::from(index), &parts.concat()).unwrap();
    }

    /// Makes the chain of `head` available and notifies.
    fn offer(&self, queue: u32, head: u16) {
        let index = {
            let mut offered = lock(&self.offered);
            offered[queue as usize] += 1;
            offered[queue as usize]
        };
        let avail = Self::at(queue) + 0x1000;
        self.ram.write(avail + 4 + 2 * u64::from((index - 1) % SIZE), &head.to_le_bytes()).unwrap();
        self.ram.write(avail + 2, &index.to_le_bytes()).unwrap();
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    }

    /// Gives the device a buffer of `len` bytes to write, as descriptor and buffer `index`.
    fn room(&self, queue: u32, index: u16, len: u32) {
        self.descriptor(queue, index, Self::at(queue) + 0x3000 + 0x800 * u64::from(index), len, WRITE, 0);
        self.offer(queue, index);
    }

    /// Gives the device `bytes`, as descriptor and buffer 0.
    fn send(&self, queue: u32, bytes: &[u8]) {
        let addr = Self::at(queue) + 0x3000;
        self.ram.write(addr, bytes).unwrap();
        self.descriptor(queue, 0, addr, bytes.len() as u32, 0, 0);
        self.offer(queue, 0);
    }

    fn say(&self, port: u32, event: u16, value: u16) {
        self.send(3, &[&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat());
    }

    fn used(&self, queue: u32) -> u16 {
        let mut bytes = [0; 2];
        self.ram.read(Self::at(queue) + 0x2002, &mut bytes).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// What the device wrote into the `index`th buffer that it used.
    fn written(&self, queue: u32, index: u16) -> Vec<u8> {
        let mut entry = [0; 8];
        self.ram.read(Self::at(queue) + 0x2004 + 8 * u64::from(index % SIZE), &mut entry).unwrap();
        let (head, len) = entry.split_at(4);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let mut bytes = vec![0; word(len) as usize];
        self.ram.read(Self::at(queue) + 0x3000 + 0x800 * u64::from(word(head)), &mut bytes).unwrap();
        bytes
    }

    /// All that the device has said on the control queue, as port, event, value and name.
    fn said(&self) -> Vec<(u32, u16, u16, String)> {
        let message = |bytes: Vec<u8>| {
            let short = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
            let port = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            (port, short(4), short(6), String::from_utf8(bytes[8..].to_vec()).unwrap())
        };
        (0..self.used(2)).map(|index| message(self.written(2, index))).collect()
    }

    /// Brings both ports up, with port 1 open in the guest.
    fn up(&self) {
        self.drive(2);
        (0..8).for_each(|index| self.room(2, index, 64));
        self.say(0, event::DEVICE_READY, 1);
        self.say(0, event::PORT_READY, 1);
        self.say(1, event::PORT_READY, 1);
        self.say(1, event::PORT_OPEN, 1);
    }
}

fn said(port: u32, event: u16, value: u16, name: &str) -> (u32, u16, u16, String) {
    (port, event, value, name.to_owned())
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(Set::new().slot), MmioSlot::WINDOW);
    let up = || {
        let set = Set::new();
        set.up();
        Arc::new(set.slot)
    };
    vmcore::testing::conformance(up, MmioSlot::WINDOW);
}

#[test]
fn ports_are_numbered_below_the_most_and_differ() {
    let ports = |numbers: &[u32]| -> Vec<PortConfig> {
        let port = |&nr| PortConfig {
            nr,
            name: None,
            console: false,
            backend: Arc::new(Host::default()),
            watcher: None,
        };
        numbers.iter().map(port).collect()
    };
    assert_eq!(Console::new(4, ports(&[3, 1, 3])).err(), Some(ConsoleError::Taken(3)));
    assert_eq!(Console::new(4, ports(&[4])).err(), Some(ConsoleError::OutOfRange { nr: 4, max: 4 }));
    let set = Set::new();
    assert_eq!(read(&set.slot, VIRTIO_MMIO_DEVICE_ID.into()), 3);
    assert_eq!(read(&set.slot, VIRTIO_MMIO_DEVICE_FEATURES.into()), 2);
    assert_eq!(read(&set.slot, u64::from(VIRTIO_MMIO_CONFIG) + 4), 2, "max_nr_ports");
}

#[test]
fn the_driver_is_told_of_ports_names_and_the_hosts_side() {
    let set = Set::new();
    set.up();
    let ports = [
        said(0, event::PORT_ADD, 1, ""),
        said(1, event::PORT_ADD, 1, ""),
        said(0, event::CONSOLE_PORT, 1, ""),
        said(1, event::PORT_NAME, 1, "agent"),
    ];
    assert_eq!(set.said(), ports);
    set.line.set_open(true);
    assert_eq!(set.said()[4..], [said(1, event::PORT_OPEN, 1, "")]);
    set.line.set_open(true);
    assert_eq!(set.used(2), 5, "it is told once");
    set.line.set_open(false);
    assert_eq!(set.said()[5..], [said(1, event::PORT_OPEN, 0, "")]);
}

#[test]
fn a_driver_that_comes_back_from_sleep_hears_of_its_port_again() {
    let set = Set::new();
    set.up();
    set.line.set_open(true);
    set.drive(2);
    assert_eq!(*lock(&set.watch.0), [true, false], "the reset closed the port");
    (0..8).for_each(|index| set.room(2, index, 64));
    set.say(1, event::PORT_READY, 1);
    set.say(1, event::PORT_OPEN, 1);
    assert_eq!(set.said(), [said(1, event::PORT_NAME, 1, "agent"), said(1, event::PORT_OPEN, 1, "")]);
    assert_eq!(*lock(&set.watch.0), [true, false, true]);
}

#[test]
fn what_is_to_be_said_waits_for_buffers_and_does_not_grow() {
    let set = Set::new();
    set.drive(2);
    set.say(0, event::DEVICE_READY, 1);
    for _ in 0..1000 {
        set.say(1, event::PORT_READY, 1);
        set.line.set_open(true);
        set.line.set_open(false);
    }
    assert_eq!(set.used(2), 0);
    (0..8).for_each(|index| set.room(2, index, 64));
    let all = [
        said(0, event::PORT_ADD, 1, ""),
        said(1, event::PORT_ADD, 1, ""),
        said(1, event::PORT_NAME, 1, "agent"),
    ];
    assert_eq!(set.said(), all);
}

#[test]
fn input_waits_until_the_guest_opens_the_port() {
    let set = Set::new();
    set.drive(2);
    set.room(RX, 0, 4);
    set.room(RX, 1, 100);
    set.line.receive(b"hello world");
    assert_eq!(set.used(RX), 0);
    assert_eq!(set.line.can_receive(), 4096 - 11);
    set.say(1, event::PORT_OPEN, 1);
    assert_eq!((set.written(RX, 0), set.written(RX, 1)), (b"hell".to_vec(), b"o world".to_vec()));
    assert_eq!((set.line.can_receive(), *lock(&set.host.resumed)), (4096, 1));
    assert!(set.bench.wire.is_high());
    set.say(1, event::PORT_OPEN, 0);
    set.room(RX, 2, 4);
    set.line.receive(b"late");
    assert_eq!(set.used(RX), 2);
    assert_eq!(*lock(&set.watch.0), [true, false]);
}

#[test]
fn input_is_bounded_and_waits_for_buffers() {
    let set = Set::new();
    set.up();
    set.line.receive(&[b'x'; 5000]);
    assert_eq!(set.line.can_receive(), 0);
    set.room(RX, 0, 1000);
    assert_eq!(set.written(RX, 0).len(), 1000);
    assert_eq!(set.line.can_receive(), 1000);
}

#[test]
fn while_held_nothing_moves() {
    let set = Set::new();
    set.up();
    set.room(RX, 0, 100);
    set.slot.stop();
    let before = set.slot.save();
    set.line.receive(b"waits");
    set.line.set_open(true);
    set.line.writable();
    assert_eq!((set.slot.save(), set.used(RX), set.used(2)), (before, 0, 4));
    set.slot.start();
    assert_eq!(set.written(RX, 0), b"waits");
    assert_eq!(set.said()[4..], [said(1, event::PORT_OPEN, 1, "")]);
}

#[test]
fn output_that_is_not_taken_stays_in_the_queue() {
    let set = Set::new();
    set.up();
    *lock(&set.host.room) = 1500;
    let text: Vec<u8> = (0..2000_u32).map(|n| n as u8).collect();
    set.send(TX, &text);
    assert_eq!((set.used(TX), lock(&set.host.got).len()), (0, 1500));
    *lock(&set.host.room) = 10_000;
    set.line.writable();
    assert_eq!((set.used(TX), &*lock(&set.host.got)), (1, &text));
}

#[test]
fn output_half_taken_travels() {
    let (from, to) = (Set::new(), Set::new());
    from.up();
    *lock(&from.host.room) = 3;
    from.send(TX, b"abcdef");
    let mut memory = vec![0; 0x10_0000];
    from.ram.read(BASE, &mut memory).unwrap();
    to.ram.write(BASE, &memory).unwrap();
    to.slot.stop();
    to.slot.load(&from.slot.save()).unwrap();
    assert_eq!(*lock(&to.watch.0), [true], "whoever watches the port knows");
    to.slot.start();
    assert_eq!((&lock(&to.host.got)[..], to.used(TX)), (&b"def"[..], 1));
    to.line.receive(b"x");
    to.room(RX, 0, 8);
    assert_eq!(to.written(RX, 0), b"x", "the port is open there too");
}

#[test]
fn without_the_ports_feature_port_0_is_a_plain_console() {
    let set = Set::new();
    set.drive(0);
    set.send(1, b"$ ");
    assert_eq!(*lock(&set.host.got), b"$ ");
    set.say(1, event::PORT_OPEN, 1);
    set.send(TX, b"nobody");
    assert_eq!((&lock(&set.host.got)[..], set.used(TX)), (&b"$ "[..], 0));
}

#[test]
fn hostile_chains_cost_a_bounded_amount_and_break_nothing() {
    let set = Set::new();
    set.up();
    let used = set.used(3);
    set.send(3, b"short");
    set.say(77, event::PORT_OPEN, 1);
    set.say(1, 0xffff, 0xffff);
    assert_eq!(set.used(3), used + 3);
    // A loop, a buffer outside of RAM, four gigabytes.
    set.descriptor(TX, 0, Set::at(TX) + 0x3000, 0x1000, NEXT, 0);
    set.offer(TX, 0);
    set.descriptor(TX, 1, u64::MAX - 3, 8, 0, 0);
    set.offer(TX, 1);
    set.descriptor(TX, 2, BASE, u32::MAX, 0, 0);
    set.offer(TX, 2);
    assert_eq!(set.used(TX), 3);
    assert!(lock(&set.host.got).len() <= 3 << 20);
    set.room(RX, 0, 0);
    set.descriptor(RX, 1, 16, 100, WRITE, 0);
    set.offer(RX, 1);
    set.line.receive(b"lost to buffers that are not there");
    assert_eq!(set.used(RX), 2);
    assert_eq!(read(&set.slot, VIRTIO_MMIO_STATUS.into()), 0xf);
}

proptest! {
    /// Whatever a driver writes into registers and rings, and whatever comes from outside meanwhile: no panic, and the
    /// line is the interrupt status.
    #[test]
    fn the_line_follows_the_interrupt_status(acts in acts(0x110), rings in proptest::collection::vec(any::<u8>(), 0x100), queue in 0..6_u32) {
        let set = Set::new();
        set.up();
        set.ram.write(Set::at(queue), &rings).unwrap();
        set.ram.write(Set::at(queue) + 0x1000, &rings[..0x40]).unwrap();
        for act in &acts {
            set.line.receive(b"input");
            act_out(&set.bench, &set.slot, 0x110, std::slice::from_ref(act), || {
                assert_eq!(set.bench.wire.is_high(), read(&set.slot, VIRTIO_MMIO_INTERRUPT_STATUS.into()) != 0);
            });
            set.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
            set.line.set_open(queue % 2 == 0);
        }
    }
}
