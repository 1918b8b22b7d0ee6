//! The button as a driver, an operator and a sleeping guest see it.

use proptest::prelude::*;
use virtio_bindings::virtio_mmio::*;

use super::*;
use crate::test_support::{Bench, act_out, acts, read, write};

const BASE: u64 = 0x8000_0000;
const DESC: u64 = BASE;
const AVAIL: u64 = BASE + 0x1000;
const USED: u64 = BASE + 0x2000;
const DATA: u64 = BASE + 0x3000;
const SIZE: u16 = 16;

struct Set {
    bench: Bench,
    ram: Arc<Ram>,
    button: PowerButton,
}

/// Type, code and value, as the driver reads them.
type Event = (u16, u16, u32);

const PRESSED: [Event; 4] = [(1, 116, 1), (0, 0, 0), (1, 116, 0), (0, 0, 0)];

impl Set {
    fn new() -> Self {
        let bench = Bench::new();
        let ram = Arc::new(Ram::new(BASE, 0x1_0000).unwrap());
        let button = PowerButton::new("power-button", bench.line(), Arc::clone(&ram));
        Self { bench, ram, button }
    }

    /// With a driver that has given as many buffers.
    fn driven(buffers: u16) -> Self {
        let set = Self::new();
        set.drive(buffers);
        set
    }

    fn write(&self, register: u32, value: u32) {
        write(&self.button, register.into(), value);
    }

    fn drive(&self, buffers: u16) {
        self.ram.write(USED, &[0; 4]).unwrap();
        self.ram.write(AVAIL, &[0; 4]).unwrap();
        for status in [0, 1, 3] {
            self.write(VIRTIO_MMIO_STATUS, status);
        }
        self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(VIRTIO_MMIO_STATUS, 0xb);
        self.write(VIRTIO_MMIO_QUEUE_SEL, 0);
        self.write(VIRTIO_MMIO_QUEUE_NUM, SIZE.into());
        for (low, addr) in [
            (VIRTIO_MMIO_QUEUE_DESC_LOW, DESC),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
            (VIRTIO_MMIO_QUEUE_USED_LOW, USED),
        ] {
            self.write(low, addr as u32);
            self.write(low + 4, (addr >> 32) as u32);
        }
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
        for index in 0..SIZE {
            let addr = DATA + 8 * u64::from(index);
            let descriptor =
                [&addr.to_le_bytes()[..], &8_u32.to_le_bytes(), &2_u16.to_le_bytes(), &[0; 2]].concat();
            self.ram.write(DESC + 16 * u64::from(index), &descriptor).unwrap();
            self.ram.write(AVAIL + 4 + 2 * u64::from(index), &index.to_le_bytes()).unwrap();
        }
        self.offer(buffers);
        self.write(VIRTIO_MMIO_STATUS, 0xf);
    }

    /// The driver has given this many buffers in all.
    fn offer(&self, buffers: u16) {
        self.ram.write(AVAIL + 2, &buffers.to_le_bytes()).unwrap();
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    /// What the driver has got since it took over.
    fn events(&self) -> Vec<Event> {
        let mut used = [0; 4];
        self.ram.read(USED, &mut used).unwrap();
        let count = u16::from_le_bytes([used[2], used[3]]);
        let event = |index: u16| {
            let mut bytes = [0; 8];
            self.ram.read(DATA + 8 * u64::from(index), &mut bytes).unwrap();
            let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            (half(0), half(2), u32::from(half(4)) | u32::from(half(6)) << 16)
        };
        (0..count).map(event).collect()
    }

    fn press(&self) {
        assert!(self.button.press_power_button());
    }
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(Set::new().button), PowerButton::WINDOW);
    let pressed = || {
        let set = Set::new();
        set.press();
        Arc::new(set.button)
    };
    vmcore::testing::conformance(pressed, PowerButton::WINDOW);
}

#[test]
fn a_press_is_the_key_down_and_up() {
    let set = Set::driven(SIZE);
    assert!(!set.bench.wire.is_high());
    set.press();
    assert_eq!(set.events(), PRESSED);
    assert!(set.bench.wire.is_high());
    set.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert!(!set.bench.wire.is_high());
    set.press();
    assert_eq!(set.events(), [PRESSED, PRESSED].concat());
}

#[test]
fn presses_before_there_is_a_driver_are_one() {
    let set = Set::new();
    (0..1000).for_each(|_| set.press());
    assert!(!set.bench.wire.is_high());
    set.drive(SIZE);
    assert_eq!(set.events(), PRESSED);
}

#[test]
fn a_press_while_held_is_seen_at_the_start() {
    let set = Set::driven(SIZE);
    set.button.stop();
    set.press();
    assert_eq!(set.events(), []);
    assert!(!set.bench.wire.is_high());
    assert_eq!(set.button.start(), None);
    assert_eq!(set.events(), PRESSED);
}

#[test]
fn events_wait_for_buffers() {
    let set = Set::driven(1);
    set.press();
    set.press();
    assert_eq!(set.events(), PRESSED[..1]);
    set.offer(3);
    assert_eq!(set.events(), PRESSED[..3]);
    set.offer(SIZE);
    assert_eq!(set.events(), PRESSED, "the second press met the first");
}

#[test]
fn a_driver_that_takes_over_in_the_middle_gets_the_whole_press() {
    let set = Set::driven(2);
    set.press();
    assert_eq!(set.events(), PRESSED[..2]);
    set.drive(SIZE);
    assert_eq!(set.events(), PRESSED);
}

#[test]
fn a_buffer_too_small_for_an_event_is_given_back_empty() {
    let set = Set::driven(0);
    set.ram.write(DESC + 8, &7_u32.to_le_bytes()).unwrap();
    set.ram.write(DESC + 16, &u64::MAX.to_le_bytes()).unwrap();
    set.ram.write(DESC + 32 + 12, &0_u16.to_le_bytes()).unwrap();
    set.press();
    set.offer(7);
    assert_eq!(set.events().split_off(3), PRESSED, "short, outside RAM, and not to be written");
}

#[test]
fn a_press_on_the_way_to_sleep_is_a_wake_that_is_due_once() {
    let set = Set::driven(SIZE);
    set.press();
    assert_eq!(set.button.sleep(), None, "the driver has it");
    set.write(VIRTIO_MMIO_STATUS, 0);
    assert_eq!(set.button.sleep(), None);
    set.press();
    assert!(set.button.wake_state().due);
    assert_eq!(set.button.sleep(), Some(WakeSource::PowerButton));
    set.button.wake();
    assert_eq!(set.button.sleep(), None, "it has woken the guest");
    set.button.wake();
    set.drive(SIZE);
    assert_eq!(set.events(), PRESSED, "which sees the key then");
}

#[test]
fn a_press_that_no_driver_ever_looks_at_keeps_no_guest_awake() {
    let set = Set::new();
    set.press();
    assert_eq!(set.button.sleep(), None);
}

#[test]
fn a_reset_of_the_machine_forgets_the_press_and_the_state_travels() {
    let (set, there) = (Set::new(), Set::new());
    set.press();
    there.button.load(&set.button.save()).unwrap();
    there.drive(SIZE);
    assert_eq!(there.events(), PRESSED);
    set.button.reset();
    set.drive(SIZE);
    assert_eq!(set.events(), []);
}

proptest! {
    /// Whatever a driver does, presses in between do no harm, and a driver that comes after it all finds a button.
    #[test]
    fn no_driver_breaks_it(rounds in proptest::collection::vec(acts(PowerButton::WINDOW), 1..4)) {
        let set = Set::driven(SIZE);
        for acts in rounds {
            act_out(&set.bench, &set.button, PowerButton::WINDOW, &acts, || {});
            set.press();
        }
        set.button.reset();
        set.drive(SIZE);
        set.press();
        prop_assert_eq!(set.events(), PRESSED);
        prop_assert_eq!(read(&set.button, VIRTIO_MMIO_DEVICE_ID.into()), 18);
    }
}
