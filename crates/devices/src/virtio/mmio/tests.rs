//! The transport and the entropy device as a driver sees them, well and badly behaved.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, act_out, acts, read, write};
use crate::virtio::{Entropy, EntropySource};

const BASE: u64 = 0x8000_0000;
const DESC: u64 = BASE;
const AVAIL: u64 = BASE + 0x1000;
const USED: u64 = BASE + 0x2000;
const DATA: u64 = BASE + 0x3000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Counts up; says how many bytes were taken of it.
#[derive(Default)]
struct Counting(AtomicUsize);

impl EntropySource for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::SeqCst) as u8 | 0x80;
        }
    }
}

struct Set {
    bench: Bench,
    ram: Arc<Ram>,
    source: Arc<Counting>,
    slot: MmioSlot,
}

impl Set {
    fn new() -> Self {
        let bench = Bench::new();
        let ram = Arc::new(Ram::new(BASE, 0x10_0000).unwrap());
        let source = Arc::new(Counting::default());
        let device = Box::new(Entropy::new(Arc::clone(&source) as _));
        let slot = MmioSlot::new("virtio0", bench.line(), Arc::clone(&ram), Some(device));
        Self { bench, ram, source, slot }
    }

    fn read(&self, register: u32) -> u32 {
        read(&self.slot, register.into())
    }

    fn write(&self, register: u32, value: u32) {
        write(&self.slot, register.into(), value);
    }

    /// What a driver does up to DRIVER_OK (section 3.1.1), with `size` descriptors.
    fn drive(&self, size: u32) {
        self.write(VIRTIO_MMIO_STATUS, 0);
        self.write(VIRTIO_MMIO_STATUS, 1);
        self.write(VIRTIO_MMIO_STATUS, 3);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(VIRTIO_MMIO_STATUS, 0xb);
        self.write(VIRTIO_MMIO_QUEUE_SEL, 0);
        self.write(VIRTIO_MMIO_QUEUE_NUM, size);
        for (low, addr) in [
            (VIRTIO_MMIO_QUEUE_DESC_LOW, DESC),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
            (VIRTIO_MMIO_QUEUE_USED_LOW, USED),
        ] {
            self.write(low, addr as u32);
            self.write(low + 4, (addr >> 32) as u32);
        }
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
        self.write(VIRTIO_MMIO_STATUS, 0xf);
    }

    fn descriptor(&self, index: u64, addr: u64, len: u32, flags: u16, next: u16) {
        self.descriptor_at(DESC + 16 * index, addr, len, flags, next);
    }

    fn descriptor_at(&self, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
        let parts = [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.ram.write(at, &parts.concat()).unwrap();
    }

    /// Makes `heads` available and notifies.
    fn offer(&self, heads: &[u16]) {
        for (index, head) in heads.iter().enumerate() {
            self.ram.write(AVAIL + 4 + 2 * index as u64, &head.to_le_bytes()).unwrap();
        }
        self.ram.write(AVAIL + 2, &(heads.len() as u16).to_le_bytes()).unwrap();
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    /// Buffers used so far, and head and length of the first.
    fn used(&self) -> (u16, u32, u32) {
        let mut ring = [0; 12];
        self.ram.read(USED, &mut ring).unwrap();
        (u16_of(&ring[2..]), u32_of(&ring[4..]), u32_of(&ring[8..]))
    }

    fn data(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(DATA, &mut bytes).unwrap();
        bytes
    }
}

fn u16_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(*bytes.first_chunk().unwrap())
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().unwrap())
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(Set::new().slot), MmioSlot::WINDOW);
    let empty = || {
        let bench = Bench::new();
        Arc::new(MmioSlot::new("virtio1", bench.line(), Set::new().ram, None))
    };
    vmcore::testing::conformance(empty, MmioSlot::WINDOW);
}

#[test]
fn an_empty_slot_says_so() {
    let bench = Bench::new();
    let slot = MmioSlot::new("virtio1", bench.line(), Set::new().ram, None);
    write(&slot, VIRTIO_MMIO_STATUS.into(), 0xff);
    let all: Vec<u32> = (0..0x200).step_by(4).map(|offset| read(&slot, offset)).collect();
    assert_eq!(all[..4], [MAGIC, 2, 0, VENDOR]);
    assert!(all[4..].iter().all(|word| *word == 0));
}

#[test]
fn a_driver_finds_the_device_and_negotiates() {
    let set = Set::new();
    assert_eq!(set.read(VIRTIO_MMIO_DEVICE_ID), 4);
    assert_eq!(set.read(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    set.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_eq!(set.read(VIRTIO_MMIO_DEVICE_FEATURES), 1, "VERSION_1");
    set.write(VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(set.read(VIRTIO_MMIO_STATUS), 3, "FEATURES_OK without VERSION_1 is not accepted");
    set.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set.write(VIRTIO_MMIO_DRIVER_FEATURES, 3);
    set.write(VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(set.read(VIRTIO_MMIO_STATUS), 3, "nor with a feature that was not offered");
    set.drive(8);
    assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0xf);
    assert_eq!(set.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 8);
    set.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(set.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 0, "no such queue");
    assert_eq!(set.read(VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn buffers_are_filled_and_the_driver_interrupted() {
    let set = Set::new();
    set.drive(8);
    set.descriptor(0, DATA, 10, NEXT | WRITE, 1);
    set.descriptor(1, DATA + 10, 6, WRITE, 0);
    set.offer(&[0]);
    assert_eq!(set.used(), (1, 0, 16));
    assert!(set.data(16).iter().all(|byte| *byte >= 0x80));
    assert_eq!(set.data(17)[16], 0, "no byte behind the buffer");
    assert!(set.bench.wire.is_high());
    assert_eq!(set.read(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    set.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert!(!set.bench.wire.is_high());
}

#[test]
fn nothing_happens_before_the_driver_is_ready() {
    let set = Set::new();
    set.drive(8);
    set.write(VIRTIO_MMIO_STATUS, 0);
    set.descriptor(0, DATA, 10, WRITE, 0);
    set.offer(&[0]);
    assert_eq!(set.used().0, 0);
    assert_eq!(set.read(VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn a_reset_and_a_new_start_work_as_after_a_suspend() {
    let set = Set::new();
    for _ in 0..2 {
        set.drive(8);
        set.ram.write(USED, &[0; 12]).unwrap();
        set.descriptor(0, DATA, 4, WRITE, 0);
        set.offer(&[0]);
        assert_eq!(set.used(), (1, 0, 4));
    }
}

#[test]
fn a_request_is_bounded_however_large_its_buffers() {
    let set = Set::new();
    set.drive(8);
    for index in 0..8 {
        set.descriptor(index, DATA, 0x8_0000, WRITE, 0);
    }
    set.offer(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(set.used(), (8, 0, 4096));
    assert_eq!(set.source.0.load(Ordering::SeqCst), 8 * 4096);
}

#[test]
fn a_chain_without_end_or_of_countless_parts_is_cut() {
    let set = Set::new();
    set.drive(8);
    set.descriptor(0, DATA, 0, NEXT | WRITE, 0);
    set.offer(&[0]);
    assert_eq!(set.used(), (1, 0, 0), "a loop");
    set.drive(8);
    set.ram.write(USED, &[0; 12]).unwrap();
    let table = BASE + 0x8000;
    for index in 0..4000_u16 {
        set.descriptor_at(table + 16 * u64::from(index), DATA, 1, NEXT | WRITE, index + 1);
    }
    set.descriptor(0, table, 16 * 4000, INDIRECT, 0);
    set.offer(&[0]);
    assert_eq!(set.used(), (1, 0, 64), "an indirect table");
}

#[test]
fn a_buffer_outside_ram_is_given_back_empty() {
    let set = Set::new();
    set.drive(8);
    for (index, addr) in [0, u64::MAX - 3, BASE + 0x10_0000 - 2].into_iter().enumerate() {
        set.descriptor(index as u64, addr, 8, WRITE, 0);
    }
    set.offer(&[0, 1, 2]);
    assert_eq!(set.used(), (3, 0, 0));
    assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0xf);
}

#[test]
fn a_broken_queue_needs_a_reset() {
    type Breaking = fn(&Set);
    let broken: [(&str, Breaking); 3] = [
        ("index far ahead", |set| {
            set.ram.write(AVAIL + 2, &100_u16.to_le_bytes()).unwrap();
            set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        }),
        ("head that does not exist", |set| set.offer(&[8])),
        ("rings outside RAM", |set| {
            set.write(VIRTIO_MMIO_QUEUE_READY, 0);
            set.write(VIRTIO_MMIO_QUEUE_USED_HIGH, 1);
            set.write(VIRTIO_MMIO_QUEUE_READY, 1);
            set.offer(&[0]);
        }),
    ];
    for (what, act) in broken {
        let set = Set::new();
        set.drive(8);
        act(&set);
        assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0x4f, "{what}");
        assert_eq!(set.read(VIRTIO_MMIO_INTERRUPT_STATUS), 2, "{what}");
        assert!(set.bench.wire.is_high(), "{what}");
        set.drive(8);
        assert_eq!(set.read(VIRTIO_MMIO_STATUS), 0xf, "{what}");
        assert!(!set.bench.wire.is_high(), "{what}");
    }
}

#[test]
fn a_queue_in_use_is_not_changed() {
    let set = Set::new();
    set.drive(8);
    set.write(VIRTIO_MMIO_QUEUE_NUM, 2);
    set.write(VIRTIO_MMIO_QUEUE_DESC_HIGH, 7);
    set.descriptor(7, DATA, 4, WRITE, 0);
    set.offer(&[7]);
    assert_eq!(set.used(), (1, 7, 4));
}

#[test]
fn a_live_device_travels() {
    let (from, to) = (Set::new(), Set::new());
    from.drive(4);
    from.descriptor(0, DATA, 4, WRITE, 0);
    from.offer(&[0]);
    to.slot.load(&from.slot.save()).unwrap();
    assert!(to.bench.wire.is_high());
    to.descriptor(0, DATA, 4, WRITE, 0);
    to.offer(&[0, 0]);
    assert_eq!(to.used().0, 2, "it goes on behind the buffer that was used there");
}

/// Two queues and a configuration space. Gives the buffers of queue 1 back when its bell is rung, and says so in its
/// configuration.
struct Toy {
    bell: Arc<Mutex<Bell>>,
    config: [u8; 6],
}

impl VirtioDevice for Toy {
    fn device_id(&self) -> u32 {
        3
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn queue_sizes(&self) -> &[u16] {
        &[8, 4]
    }

    fn plugged(&mut self, bell: Bell) {
        *lock(&self.bell) = bell;
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.config.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    fn notified(&mut self, _index: usize, _transport: &mut Transport<'_>) -> Result<(), Broken> {
        Ok(())
    }

    fn rung(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        if let Some(chain) = transport.pop(1)? {
            transport.unpop(1);
            let again = transport.pop(1)?.map(|chain| chain.head_index());
            assert_eq!(again, Some(chain.head_index()), "what was put back comes again");
            transport.add_used(1, chain.head_index(), 0)?;
            self.config[0] += 1;
            transport.config_changed();
        }
        Ok(())
    }

    fn reset(&mut self) {}

    fn stop(&mut self) {}

    fn start(&mut self) {}

    fn save(&self) -> Section {
        Section::encode("toy", 1, &self.config)
    }

    fn kind(&self) -> String {
        "a toy".to_owned()
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode::<[u8; 6]>("toy", 1).map(drop)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.config = section.decode("toy", 1)?;
        Ok(())
    }
}

fn toy() -> (Set, Arc<Mutex<Bell>>) {
    let mut set = Set::new();
    let bell = Arc::default();
    let device = Box::new(Toy { bell: Arc::clone(&bell), config: [0, 1, 2, 3, 4, 5] });
    set.slot = MmioSlot::new("virtio0", set.bench.line(), Arc::clone(&set.ram), Some(device));
    set.drive(8);
    set.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(set.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 4);
    set.write(VIRTIO_MMIO_QUEUE_NUM, 4);
    for (low, addr) in [
        (VIRTIO_MMIO_QUEUE_DESC_LOW, DESC),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
        (VIRTIO_MMIO_QUEUE_USED_LOW, USED),
    ] {
        set.write(low, addr as u32);
    }
    set.write(VIRTIO_MMIO_QUEUE_READY, 1);
    set.descriptor(2, DATA, 1, 0, 0);
    (set, bell)
}

#[test]
fn a_device_keeps_its_promises_with_several_queues_and_a_configuration() {
    vmcore::testing::conformance(|| Arc::new(toy().0.slot), MmioSlot::WINDOW);
}

#[test]
fn the_configuration_space_takes_every_width() {
    let (set, _) = toy();
    let read = |offset: u64, size| set.slot.read(0x100 + offset, size);
    assert_eq!(read(0, AccessSize::Word), 0x0302_0100);
    assert_eq!(read(4, AccessSize::Word), 0x0504, "what is behind it reads as 0");
    assert_eq!(read(2, AccessSize::Half), 0x0302);
    assert_eq!(read(5, AccessSize::Byte), 5);
    assert_eq!(read(0xefc, AccessSize::Word), 0);
    set.slot.write(0x101, AccessSize::Byte, 0xaa);
    set.slot.write(0x104, AccessSize::Word, 0xffff_ffff);
    assert_eq!(read(0, AccessSize::Word), 0x0302_aa00);
    assert_eq!(read(4, AccessSize::Word), 0xffff);
}

#[test]
fn a_bell_rung_by_another_thread_serves_the_queue_and_interrupts() {
    let (set, bell) = toy();
    set.offer(&[2]);
    assert_eq!(set.used().0, 0);
    let ringer = lock(&bell).clone();
    std::thread::spawn(move || ringer.ring()).join().unwrap();
    assert_eq!(set.used(), (1, 2, 0));
    assert_eq!(set.read(VIRTIO_MMIO_INTERRUPT_STATUS), 3, "a buffer and the configuration");
    assert_eq!(set.read(VIRTIO_MMIO_CONFIG_GENERATION), 1);
    assert!(set.bench.wire.is_high());
}

#[test]
fn a_bell_rung_while_held_or_without_a_driver_is_heard_later() {
    let (set, bell) = toy();
    let ring = || lock(&bell).clone().ring();
    set.offer(&[2]);
    set.slot.stop();
    let held = set.slot.save();
    ring();
    assert_eq!(set.slot.save(), held);
    assert_eq!((set.used().0, set.bench.wire.is_high()), (0, false));
    set.slot.start();
    assert_eq!((set.used().0, set.bench.wire.is_high()), (1, true));

    let (set, bell) = toy();
    set.slot.shared.inner.lock().unwrap().registers.status = 0xb;
    set.offer(&[2]);
    lock(&bell).clone().ring();
    assert_eq!(set.used().0, 0);
    set.write(VIRTIO_MMIO_STATUS, 0xf);
    assert_eq!(set.used().0, 1, "the driver is ready");
}

#[test]
fn a_bell_outlives_its_slot() {
    let (set, bell) = toy();
    drop(set);
    lock(&bell).clone().ring();
}

proptest! {
    /// Whatever a driver writes into registers and rings: no panic, and the line is the interrupt status.
    #[test]
    fn the_line_follows_the_interrupt_status(acts in acts(0x110), rings in proptest::collection::vec(any::<u8>(), 0x100), ready in any::<bool>()) {
        let set = Set::new();
        if ready {
            set.drive(8);
        }
        set.ram.write(AVAIL, &rings[..0x40]).unwrap();
        set.ram.write(DESC, &rings).unwrap();
        for act in &acts {
            act_out(&set.bench, &set.slot, 0x110, std::slice::from_ref(act), || {
                assert_eq!(set.bench.wire.is_high(), set.read(VIRTIO_MMIO_INTERRUPT_STATUS) != 0);
            });
            set.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        }
    }
}
