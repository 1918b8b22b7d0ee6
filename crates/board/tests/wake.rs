//! The alarm of the D1's RTC reaches a sleeping guest through the interrupt controller, as the lifecycle rules have it.

mod common;

use std::sync::Arc;

use board::{Board, map};
use common::{Ground, bytes, image};
use runstate::{DeviceRequest, WakeSource};
use vmcore::{AccessSize, Machine, StartParams};

const SECOND: u64 = 1_000_000_000;
const RTC0: WakeSource = WakeSource::Rtc(0);

struct Asleep {
    ground: Ground,
    board: Arc<Board>,
}

impl Asleep {
    /// A guest that has set the alarm for five seconds from now and suspended, its line unmasked or not.
    fn new(unmasked: bool) -> Self {
        let ground = Ground::new();
        let (board, _harts) = Board::build(ground.config(Some(bytes("k", image(64, 64))))).unwrap();
        let write = |addr, value| {
            board.bus().write(addr, AccessSize::Word, value).unwrap();
        };
        let (plic, rtc) = (map::PLIC.base, map::SUN_RTC.base);
        write(plic + 4 * u64::from(map::SUN_RTC.irq), 1);
        write(plic + 0x2080, u64::from(unmasked) << map::SUN_RTC.irq);
        write(rtc + 0x20, common::TODAY / (86_400 * SECOND));
        write(rtc + 0x24, 5);
        for enable in [0x28, 0x2c, 0x50] {
            write(rtc + enable, 1);
        }
        let hart = board.harts().get(0).unwrap();
        hart.force_start(StartParams { pc: 0, opaque: 0 });
        hart.hsm_suspend();
        ground.timers.set_asleep(true);
        let asleep = Self { ground, board };
        assert_eq!(asleep.each(|device| device.sleep()), []);
        asleep
    }

    /// What the devices report, in the order in which they are asked.
    fn each(&self, ask: impl Fn(&dyn vmcore::Device) -> Option<WakeSource>) -> Vec<WakeSource> {
        self.board.devices().iter().filter_map(|device| ask(&**device)).collect()
    }

    fn pass(&self, ns: u64) -> Vec<DeviceRequest> {
        self.ground.host.advance(ns);
        self.ground.timers.run_due();
        self.ground.port.take()
    }

    fn stop(&self) {
        self.ground.timers.freeze();
        self.board.devices().iter().rev().for_each(|device| device.stop());
    }
}

#[test]
fn the_alarm_wakes_at_its_second() {
    let asleep = Asleep::new(true);
    assert_eq!(asleep.pass(5 * SECOND - 1), []);
    assert_eq!(asleep.pass(1), [DeviceRequest::Wake(RTC0)]);
    assert!(asleep.board.plic().supervisor_output(0));
}

#[test]
fn an_alarm_that_the_guest_masked_does_not_wake() {
    let asleep = Asleep::new(false);
    assert_eq!(asleep.pass(10 * SECOND), []);
    asleep.stop();
    assert_eq!(asleep.each(|device| device.start()), []);
}

#[test]
fn an_alarm_that_falls_due_while_held_is_reported_once_by_the_start() {
    let asleep = Asleep::new(true);
    asleep.stop();
    assert_eq!(asleep.pass(10 * SECOND), [], "nothing happens while the machine is held");
    assert_eq!(asleep.each(|device| device.start()), [RTC0]);
    assert_eq!(asleep.ground.port.take(), [], "returned, and not posted besides");
}

#[test]
fn a_hold_without_an_alarm_is_nothing() {
    let asleep = Asleep::new(true);
    asleep.stop();
    asleep.pass(4 * SECOND);
    assert_eq!(asleep.each(|device| device.start()), []);
    asleep.ground.timers.thaw();
    assert_eq!(asleep.pass(SECOND), [DeviceRequest::Wake(RTC0)]);
}

#[test]
fn a_reset_forgets_the_alarm() {
    let asleep = Asleep::new(true);
    asleep.board.devices().iter().for_each(|device| device.reset());
    assert_eq!(asleep.pass(10 * SECOND), []);
    assert!(!asleep.board.plic().supervisor_output(0));
}

#[test]
fn an_alarm_due_in_the_moment_of_falling_asleep_is_not_lost() {
    let asleep = Asleep::new(true);
    asleep.board.devices().iter().for_each(|device| device.wake());
    asleep.ground.host.advance(5 * SECOND);
    let reported = asleep.each(|device| device.sleep());
    assert_eq!(reported, [RTC0], "though no timer has run yet");
}
