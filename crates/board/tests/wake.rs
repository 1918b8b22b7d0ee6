//! The alarm of the D1's RTC reaches a sleeping guest through the interrupt controller, as the lifecycle rules have it.

mod common;

use std::sync::Arc;

use board::{Board, map};
use common::{Ground, bytes, image};
use runstate::{DeviceRequest, WakeSource};
use vmcore::{AccessSize, AlarmTime, ArmedBy, Machine, StartParams, WakeState};

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

    fn state(&self, source: WakeSource) -> WakeState {
        let states = self.board.wake_sources();
        *states.iter().find(|state| state.source == source).expect("is listed")
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
    assert_eq!(asleep.pass(10 * SECOND), [DeviceRequest::MaskedWake(RTC0)]);
    asleep.stop();
    assert_eq!(asleep.each(|device| device.start()), []);
}

#[test]
fn an_alarm_that_falls_due_while_held_is_reported_once_by_the_start() {
    let asleep = Asleep::new(true);
    asleep.stop();
    assert!(!asleep.state(RTC0).due);
    assert_eq!(asleep.pass(10 * SECOND), [], "nothing happens while the machine is held");
    assert!(asleep.state(RTC0).due, "it wakes as soon as the machine goes on, and says so");
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

#[test]
fn each_source_says_whether_and_by_whom_it_is_armed() {
    let asleep = Asleep::new(true);
    asleep.pass(2 * SECOND);
    let alarm = Some(AlarmTime { rtc_ns: common::TODAY + 5 * SECOND, left_ns: 3 * SECOND });
    let armed = Some(ArmedBy::InterruptController);
    assert_eq!(asleep.state(RTC0), WakeState { source: RTC0, armed, due: false, alarm });
    let none = |source| WakeState { source, armed: None, due: false, alarm: None };
    for source in [WakeSource::Rtc(1), WakeSource::Serial(0)] {
        assert_eq!(asleep.state(source), none(source));
    }
    assert_eq!(asleep.state(WakeSource::PowerButton).armed, Some(ArmedBy::Always));
    assert_eq!(asleep.board.wake_sources().len(), 4, "and nothing else");
    asleep.stop();
    asleep.pass(4 * SECOND);
    let due = asleep.state(RTC0);
    assert_eq!((due.due, due.alarm.map(|alarm| alarm.left_ns)), (true, Some(0)), "told, and not delivered");
    assert_eq!(asleep.each(|device| device.start()), [RTC0]);
    assert!(asleep.state(RTC0).due);
}

#[test]
fn a_masked_source_is_not_armed() {
    let asleep = Asleep::new(false);
    let state = asleep.state(RTC0);
    assert_eq!(state.armed, None);
    assert!(state.alarm.is_some(), "the alarm is there all the same");
}

#[test]
fn goldfish_is_armed_by_itself() {
    let asleep = Asleep::new(false);
    let write = |offset, value| {
        asleep.board.bus().write(map::GOLDFISH_RTC.base + offset, AccessSize::Word, value).unwrap();
    };
    let at = common::TODAY + 7 * SECOND;
    write(0x10, 1);
    write(0x0c, at >> 32);
    write(0x08, at & 0xffff_ffff);
    let source = WakeSource::Rtc(1);
    let alarm = Some(AlarmTime { rtc_ns: at, left_ns: 7 * SECOND });
    assert_eq!(asleep.state(source), WakeState { source, armed: Some(ArmedBy::Device), due: false, alarm });
    let posted = asleep.pass(7 * SECOND);
    assert_eq!(
        posted,
        [DeviceRequest::MaskedWake(RTC0), DeviceRequest::Wake(source)],
        "its masked line is no matter"
    );
    assert!(asleep.state(source).due);
}

/// QEMU forgets after a migration which sources may wake (B6): here that is what the devices' registers say.
#[test]
fn b6_an_armed_alarm_wakes_the_guest_that_was_saved_and_loaded() {
    let saved = Asleep::new(true);
    saved.stop();
    let sections: Vec<_> = saved.board.devices().iter().map(|device| device.save()).collect();
    let there = Asleep::new(false);
    there.stop();
    for (device, section) in there.board.devices().iter().zip(&sections) {
        device.load(section).unwrap();
    }
    assert_eq!(there.state(RTC0).armed, Some(ArmedBy::InterruptController));
    assert_eq!(there.each(|device| device.sleep()), []);
    assert_eq!(there.each(|device| device.start()), []);
    there.ground.timers.thaw();
    assert_eq!(there.pass(5 * SECOND), [DeviceRequest::Wake(RTC0)]);
}

#[test]
fn typing_wakes_when_the_guest_has_armed_it_and_says_so_when_not() {
    let source = WakeSource::Serial(0);
    for (interrupts, unmasked) in [(false, false), (false, true), (true, false), (true, true)] {
        let asleep = Asleep::new(true);
        let write = |addr, value| {
            asleep.board.bus().write(addr, AccessSize::Word, value).unwrap();
        };
        let (plic, irq) = (map::PLIC.base, map::UART.irq);
        write(plic + 4 * u64::from(irq), 1);
        write(plic + 0x2080, u64::from(unmasked) << irq);
        asleep.board.bus().write(map::UART.base + 1, AccessSize::Byte, interrupts.into()).unwrap();
        let armed = interrupts && unmasked;
        assert_eq!(asleep.state(source).armed.is_some(), armed);
        asleep.board.uart().receive(b"x");
        let posted = asleep.ground.port.take();
        let wake = if armed { DeviceRequest::Wake(source) } else { DeviceRequest::MaskedWake(source) };
        assert_eq!(posted, [wake]);
    }
}
