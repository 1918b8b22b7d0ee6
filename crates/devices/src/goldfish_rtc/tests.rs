//! The goldfish RTC as Linux's driver and the machine see it.

use clock::RtcClock;
use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, SECOND, TODAY, act_out, acts, read, write};

fn make(bench: &Bench, clock: RtcClock) -> Arc<GoldfishRtc> {
    let (wall, port) = (bench.wall(clock), Arc::clone(&bench.port) as _);
    GoldfishRtc::new("rtc1", 1, wall, &bench.timers, bench.line(), port)
}

fn time(rtc: &GoldfishRtc) -> u64 {
    let low = u64::from(read(rtc, TIME_LOW));
    u64::from(read(rtc, TIME_HIGH)) << 32 | low
}

fn arm(rtc: &GoldfishRtc, ns: u64) {
    write(rtc, ALARM_HIGH, (ns >> 32) as u32);
    write(rtc, ALARM_LOW, ns as u32);
}

const WAKE: DeviceRequest = DeviceRequest::Wake(WakeSource::Rtc(1));

#[test]
fn keeps_the_promises_of_a_device() {
    for clock in [RtcClock::Host, RtcClock::Vm] {
        vmcore::testing::conformance(|| make(&Bench::new(), clock), GoldfishRtc::WINDOW);
    }
}

#[test]
fn shows_and_takes_the_time() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    assert_eq!(time(&rtc), TODAY);
    let low = read(&*rtc, TIME_LOW);
    bench.pass(1 << 33);
    assert_eq!(u64::from(read(&*rtc, TIME_HIGH)) << 32 | u64::from(low), TODAY, "the halves belong together");
    let set = 4_000_000_000 * SECOND + 7;
    write(&*rtc, TIME_HIGH, (set >> 32) as u32);
    write(&*rtc, TIME_LOW, set as u32);
    bench.pass(5);
    assert_eq!(time(&rtc), set + 5);
}

#[test]
fn the_alarm_fires_once_at_its_moment() {
    for clock in [RtcClock::Host, RtcClock::Vm] {
        let bench = Bench::new();
        let rtc = make(&bench, clock);
        write(&*rtc, IRQ_ENABLED, 1);
        arm(&rtc, TODAY + SECOND);
        assert_eq!(read(&*rtc, ALARM_STATUS), 1);
        bench.pass(SECOND - 1);
        assert!(!bench.wire.is_high());
        bench.pass(1);
        assert!(bench.wire.is_high());
        assert_eq!(bench.port.take(), [WAKE]);
        assert_eq!(read(&*rtc, ALARM_STATUS), 0);
        write(&*rtc, CLEAR_INTERRUPT, 1);
        assert!(!bench.wire.is_high());
        bench.pass(10 * SECOND);
        assert!(!bench.wire.is_high(), "an arming fires once");
    }
}

#[test]
fn an_alarm_that_is_past_fires_at_once() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    arm(&rtc, TODAY);
    assert!(!bench.wire.is_high(), "not enabled");
    write(&*rtc, IRQ_ENABLED, 1);
    assert!(bench.wire.is_high(), "pending since it was armed");
}

#[test]
fn a_cleared_alarm_does_not_fire() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + SECOND);
    write(&*rtc, CLEAR_ALARM, 1);
    bench.pass(2 * SECOND);
    assert!(!bench.wire.is_high());
    assert_eq!(bench.port.take(), []);
}

#[test]
fn an_alarm_that_cannot_interrupt_is_no_wake() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    arm(&rtc, TODAY + SECOND);
    bench.pass(SECOND);
    assert_eq!(bench.port.take(), []);
    assert_eq!(rtc.sleep(), None);
}

#[test]
fn an_alarm_that_fell_due_before_the_sleep_is_reported_by_it() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + SECOND);
    bench.host.advance(SECOND);
    assert_eq!(rtc.sleep(), Some(WakeSource::Rtc(1)), "though no timer has run");
}

#[test]
fn with_the_hosts_clock_an_alarm_falls_due_while_held_and_is_judged_at_start() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + 5 * SECOND);
    bench.timers.freeze();
    rtc.stop();
    bench.pass(10 * SECOND);
    assert!(!bench.wire.is_high());
    assert_eq!(rtc.start(), Some(WakeSource::Rtc(1)));
    assert!(bench.wire.is_high());
}

#[test]
fn with_guest_time_a_hold_does_not_bring_the_alarm_nearer() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Vm);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + 5 * SECOND);
    bench.timers.freeze();
    rtc.stop();
    bench.pass(10 * SECOND);
    assert_eq!(rtc.start(), None);
    bench.timers.thaw();
    bench.pass(4 * SECOND);
    assert!(!bench.wire.is_high());
    bench.pass(SECOND);
    assert!(bench.wire.is_high());
}

#[test]
fn a_step_of_the_hosts_clock_moves_the_alarm_with_it() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + 3600 * SECOND);
    bench.host.step_realtime(3600 * SECOND as i64);
    bench.timers.run_due();
    assert!(bench.wire.is_high());
}

#[test]
fn setting_the_time_past_the_alarm_fires_it() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, TODAY + 100 * SECOND);
    let later = TODAY + 101 * SECOND;
    write(&*rtc, TIME_HIGH, (later >> 32) as u32);
    assert!(!bench.wire.is_high());
    write(&*rtc, TIME_LOW, later as u32);
    assert!(bench.wire.is_high());
}

#[test]
fn time_and_alarm_travel_and_a_late_one_fires_on_arrival() {
    let (here, there) = (Bench::new(), Bench::new());
    let from = make(&here, RtcClock::Host);
    let shifted = TODAY + 1_000 * SECOND;
    write(&*from, TIME_HIGH, (shifted >> 32) as u32);
    write(&*from, TIME_LOW, shifted as u32);
    write(&*from, IRQ_ENABLED, 1);
    arm(&from, shifted + 20 * SECOND);
    let to = make(&there, RtcClock::Host);
    to.stop();
    there.host.advance(30 * SECOND);
    to.load(&from.save()).unwrap();
    assert!(!there.wire.is_high());
    assert_eq!(to.start(), Some(WakeSource::Rtc(1)));
    assert_eq!(time(&to), shifted + 30 * SECOND);
}

#[test]
fn another_source_of_time_is_refused() {
    let from = make(&Bench::new(), RtcClock::Host);
    let to = make(&Bench::new(), RtcClock::Vm);
    assert!(to.load(&from.save()).is_err());
}

#[test]
fn reset_forgets_the_alarm_and_keeps_the_time() {
    let bench = Bench::new();
    let rtc = make(&bench, RtcClock::Host);
    write(&*rtc, TIME_HIGH, 9);
    write(&*rtc, TIME_LOW, 9);
    write(&*rtc, IRQ_ENABLED, 1);
    arm(&rtc, 0);
    assert!(bench.wire.is_high());
    rtc.reset();
    assert!(!bench.wire.is_high());
    assert_eq!(time(&rtc), 9 << 32 | 9);
    assert_eq!([ALARM_LOW, IRQ_ENABLED, ALARM_STATUS].map(|at| read(&*rtc, at)), [0; 3]);
}

proptest! {
    /// Whatever a driver and the clocks do: the line is pending and enabled, and what the guest reads goes back only when
    /// the guest sets it.
    #[test]
    fn the_line_follows_the_registers(acts in acts(0x20), vm in any::<bool>()) {
        let bench = Bench::new();
        let rtc = make(&bench, if vm { RtcClock::Vm } else { RtcClock::Host });
        act_out(&bench, &*rtc, 0x20, &acts, || {
            let state = lock(&rtc.inner).state;
            assert_eq!(bench.wire.is_high(), state.pending && state.enabled);
            let first = time(&rtc);
            assert!(time(&rtc) >= first);
        });
    }
}
