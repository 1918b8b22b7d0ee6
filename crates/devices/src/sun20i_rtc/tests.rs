//! The D1's RTC as Linux's driver and the machine see it.

use clock::RtcClock;
use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, SECOND, TODAY, act_out, acts, read, write};

const DAY_NUMBER: u32 = 20_780;

fn make(bench: &Bench, clock: RtcClock) -> Arc<Sun20iRtc> {
    Sun20iRtc::new("rtc0", bench.wall(clock), &bench.timers, bench.line())
}

fn hms(hours: u32, minutes: u32, seconds: u32) -> u32 {
    hours << 16 | minutes << 8 | seconds
}

/// What the driver does to set an alarm at a second of today.
fn set_alarm(rtc: &Sun20iRtc, day: u32, time: u32) {
    write(rtc, ALARM_STATUS, 1);
    for register in [ALARM_ENABLE, ALARM_IRQ_ENABLE, ALARM_WAKE, ALARM_DAY, ALARM_TIME] {
        write(rtc, register, 0);
    }
    write(rtc, ALARM_DAY, day);
    write(rtc, ALARM_TIME, time);
    for register in [ALARM_ENABLE, ALARM_IRQ_ENABLE, ALARM_WAKE] {
        write(rtc, register, 1);
    }
}

/// What the driver does in its interrupt.
fn acknowledge(rtc: &Sun20iRtc) -> bool {
    let status = read(rtc, ALARM_STATUS);
    write(rtc, ALARM_STATUS, status);
    status & 1 != 0
}

#[test]
fn keeps_the_promises_of_a_device() {
    for clock in [RtcClock::Host, RtcClock::Vm] {
        vmcore::testing::conformance(|| make(&Bench::new(), clock), Sun20iRtc::WINDOW);
    }
}

#[test]
fn all_registers_read_zero_after_power_on_but_the_time() {
    let rtc = make(&Bench::new(), RtcClock::Host);
    for offset in (0..Sun20iRtc::WINDOW).step_by(4).filter(|offset| *offset != DAY) {
        assert_eq!(read(&*rtc, offset), 0, "{offset:#x}");
    }
    assert_eq!(read(&*rtc, DAY), DAY_NUMBER);
}

#[test]
fn shows_day_and_time_of_day() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    bench.pass((13 * 3600 + 59 * 60 + 7) * SECOND + SECOND / 2);
    assert_eq!((read(&*rtc, DAY), read(&*rtc, TIME)), (DAY_NUMBER, hms(13, 59, 7)));
    bench.pass(SECOND / 2);
    assert_eq!(read(&*rtc, TIME), hms(13, 59, 8));
}

#[test]
fn setting_the_time_starts_its_second_and_survives_midnight() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    bench.pass(SECOND / 3);
    write(&*rtc, TIME, hms(23, 59, 59));
    bench.pass(SECOND + SECOND / 4);
    assert_eq!((read(&*rtc, DAY), read(&*rtc, TIME)), (DAY_NUMBER + 1, hms(0, 0, 0)));
    write(&*rtc, DAY, 400);
    assert_eq!((read(&*rtc, DAY), read(&*rtc, TIME)), (401, hms(0, 0, 0)), "23:59:59 and 1.25 s of day 400");
    bench.pass(3 * SECOND / 4 - 1);
    assert_eq!(read(&*rtc, TIME), hms(0, 0, 0));
    bench.pass(1);
    assert_eq!(read(&*rtc, TIME), hms(0, 0, 1));
}

#[test]
fn the_whole_range_of_days_can_be_set() {
    for day in [0, 24_837, 47_647, 65_535] {
        let rtc = make(&Bench::new(), RtcClock::Host);
        write(&*rtc, TIME, hms(12, 34, 56));
        write(&*rtc, DAY, day);
        assert_eq!((read(&*rtc, DAY), read(&*rtc, TIME)), (day, hms(12, 34, 56)));
    }
}

#[test]
fn an_alarm_fires_once_per_arming() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    set_alarm(&rtc, DAY_NUMBER, hms(0, 0, 10));
    bench.pass(10 * SECOND - 1);
    assert!(!bench.wire.is_high());
    bench.pass(1);
    assert!(bench.wire.is_high());
    assert!(acknowledge(&rtc));
    assert!(!bench.wire.is_high(), "clearing the status lowers the line, and the past alarm does not refire");
    bench.pass(SECOND);
    assert!(!acknowledge(&rtc));
    write(&*rtc, ALARM_ENABLE, 1);
    assert!(bench.wire.is_high(), "arming again does");
}

#[test]
fn an_alarm_that_is_past_fires_at_once_and_is_not_lost_between_the_enables() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    bench.pass(100 * SECOND);
    write(&*rtc, ALARM_DAY, DAY_NUMBER);
    write(&*rtc, ALARM_TIME, hms(0, 1, 40));
    write(&*rtc, ALARM_ENABLE, 1);
    assert!(!bench.wire.is_high());
    assert_eq!(read(&*rtc, ALARM_STATUS), 1);
    write(&*rtc, ALARM_IRQ_ENABLE, 1);
    assert!(bench.wire.is_high());
}

#[test]
fn writing_the_alarm_while_it_is_enabled_arms_it() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    set_alarm(&rtc, DAY_NUMBER, hms(0, 0, 1));
    bench.pass(SECOND);
    assert!(acknowledge(&rtc));
    write(&*rtc, ALARM_TIME, hms(0, 0, 3));
    bench.pass(2 * SECOND);
    assert!(bench.wire.is_high());
}

#[test]
fn a_disabled_alarm_does_not_fire() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    set_alarm(&rtc, DAY_NUMBER, hms(0, 0, 1));
    write(&*rtc, ALARM_ENABLE, 0);
    bench.pass(5 * SECOND);
    assert_eq!(read(&*rtc, ALARM_STATUS), 0);
}

#[test]
fn storage_and_busy_bits() {
    let rtc = make(&Bench::new(), RtcClock::Host);
    write(&*rtc, OSCILLATOR, 0x16aa_ffff);
    assert_eq!(read(&*rtc, OSCILLATOR), 0xfc7f, "the key and the busy bits read 0");
    for offset in [CALIBRATION, CLOCK_OUTPUT, OSCILLATOR_GATE, GENERAL, GENERAL + 28, WEEKLY_ENABLE] {
        write(&*rtc, offset, 0xdead_beef);
        assert_eq!(read(&*rtc, offset), 0xdead_beef, "{offset:#x}");
    }
    for offset in [0x008, 0x04c, GENERAL_END, 0x3fc] {
        write(&*rtc, offset, !0);
        assert_eq!(read(&*rtc, offset), 0, "{offset:#x}");
    }
    assert_eq!(rtc.read(DAY, AccessSize::Byte), 0, "32-bit accesses only");
}

#[test]
fn reset_clears_the_alarm_and_keeps_the_time_and_the_general_words() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, TIME, hms(1, 2, 3));
    write(&*rtc, DAY, 7);
    write(&*rtc, GENERAL + 4, 42);
    set_alarm(&rtc, 7, hms(1, 2, 3));
    assert!(bench.wire.is_high());
    rtc.reset();
    assert!(!bench.wire.is_high());
    for register in [ALARM_DAY, ALARM_TIME, ALARM_ENABLE, ALARM_IRQ_ENABLE, ALARM_STATUS, ALARM_WAKE] {
        assert_eq!(read(&*rtc, register), 0);
    }
    assert_eq!((read(&*rtc, DAY), read(&*rtc, TIME), read(&*rtc, GENERAL + 4)), (7, hms(1, 2, 3), 42));
}

#[test]
fn an_alarm_that_fell_due_while_held_raises_the_line_at_start() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    set_alarm(&rtc, DAY_NUMBER, hms(0, 0, 5));
    bench.timers.freeze();
    rtc.stop();
    bench.pass(6 * SECOND);
    assert!(!bench.wire.is_high());
    assert_eq!(rtc.start(), None, "the interrupt controller reports the wake");
    assert!(bench.wire.is_high());
}

#[test]
fn an_alarm_that_fell_due_before_the_sleep_raises_the_line_then() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Vm);
    set_alarm(&rtc, DAY_NUMBER, hms(0, 0, 5));
    bench.host.advance(5 * SECOND);
    rtc.sleep();
    assert!(bench.wire.is_high());
}

#[test]
fn the_clock_does_not_go_back_with_the_hosts() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    bench.pass(100 * SECOND);
    assert_eq!(read(&*rtc, TIME), hms(0, 1, 40));
    bench.host.set_realtime(TODAY);
    assert_eq!(read(&*rtc, TIME), hms(0, 1, 40));
}

#[test]
fn an_armed_alarm_travels() {
    let (here, there) = (Bench::new(), Bench::new());
    let from = make(&here, RtcClock::Host);
    set_alarm(&from, DAY_NUMBER, hms(0, 0, 30));
    let to = make(&there, RtcClock::Host);
    to.load(&from.save()).unwrap();
    there.pass(29 * SECOND);
    assert!(!there.wire.is_high());
    there.pass(SECOND);
    assert!(there.wire.is_high());
    assert_eq!(there.port.take(), []);
    assert_eq!(to.name(), from.name());
}

proptest! {
    /// Whatever a driver and the clocks do: the line is status and enable, and day and time read consistently.
    #[test]
    fn the_line_follows_the_registers(acts in acts(0x64), vm in any::<bool>()) {
        let bench = Bench::new();
        let rtc = make(&bench, if vm { RtcClock::Vm } else { RtcClock::Host });
        act_out(&bench, &*rtc, 0x64, &acts, || {
            assert_eq!(bench.wire.is_high(), lock(&rtc.inner).state.line());
            let read = |offset| read(&*rtc, offset);
            assert_eq!((read(DAY), read(TIME)), (read(DAY), read(TIME)));
            let time = read(TIME);
            assert!(time & 0x3f < 60 && time >> 8 & 0x3f < 60 && time >> 16 < 24);
        });
    }
}
