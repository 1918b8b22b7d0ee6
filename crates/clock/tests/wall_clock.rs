//! The RTC's policy: base, source, clamp, alarm, saved form; and the host clocks that a test can move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use clock::*;
use proptest::prelude::*;

const S: u64 = 1_000_000_000;
const WALL: u64 = 1_700_000_000 * S;

struct Rig {
    host: TestClock,
    guest: Arc<GuestClock>,
}

impl Rig {
    fn new() -> Self {
        let host = TestClock::new(0, WALL);
        let guest = Arc::new(GuestClock::new(Arc::new(host.clone())));
        Self { host, guest }
    }
    fn rtc(&self, options: &str, local_offset_s: i32) -> WallClock {
        WallClock::new(
            options.parse().unwrap(),
            local_offset_s,
            Arc::new(self.host.clone()),
            self.guest.clone(),
        )
    }
}

#[test]
fn bases_on_the_host_clock() {
    let rig = Rig::new();
    let rtcs = [rig.rtc("", 7200), rig.rtc("base=localtime", -3600), rig.rtc("base=2000-01-01", 7200)];
    let now = || rtcs.each_ref().map(WallClock::now_ns);
    let date = 946_684_800 * S;
    assert_eq!(now(), [WALL, WALL - 3600 * S, date]);
    rig.host.advance(10 * S);
    assert_eq!(now(), [WALL + 10 * S, WALL - 3590 * S, date + 10 * S], "goes on while the guest is held");
    rig.host.step_realtime(5 * S as i64);
    assert_eq!(
        now(),
        [WALL + 15 * S, WALL - 3585 * S, date + 15 * S],
        "follows when the host's clock is set"
    );
}

#[test]
fn the_guest_time_rtc_stands_with_the_guest() {
    let rig = Rig::new();
    let rtc = rig.rtc("base=2000-01-01,clock=vm", 0);
    let date = 946_684_800 * S;
    rig.host.advance(10 * S);
    assert_eq!(rtc.now_ns(), date);
    rig.guest.thaw();
    rig.host.advance(10 * S);
    rig.host.step_realtime(-100);
    assert_eq!(rtc.now_ns(), date + 10 * S);
    rig.guest.freeze();
    rig.host.advance(10 * S);
    assert_eq!(rtc.now_ns(), date + 10 * S);
}

#[test]
fn stepping_the_host_back_clamps_and_counts() {
    let rig = Rig::new();
    let rtc = rig.rtc("", 0);
    assert_eq!(rtc.now_ns(), WALL);
    rig.host.step_realtime(-(30 * S as i64));
    assert_eq!((rtc.now_ns(), rtc.now_ns()), (WALL, WALL));
    assert_eq!((rtc.clamped(), rtc.behind_ns()), (2, 30 * S));
    rig.host.advance(29 * S);
    assert_eq!(rtc.peek_ns(), WALL);
    assert_eq!(rtc.clamped(), 2, "a query is not a read");
    rig.host.advance(2 * S);
    assert_eq!(rtc.now_ns(), WALL + S);
    assert_eq!((rtc.clamped(), rtc.behind_ns()), (2, 0));
}

#[test]
fn a_query_hands_nothing_out() {
    let rig = Rig::new();
    let rtc = rig.rtc("", 0);
    let before = rtc.save();
    assert_eq!(rtc.peek_ns(), WALL);
    rig.host.step_realtime(-5);
    assert_eq!(rtc.save(), before);
    assert_eq!(rtc.now_ns(), WALL - 5, "what only a query saw does not clamp");
}

#[test]
fn the_guest_sets_it_even_back() {
    for options in ["", "clock=vm"] {
        let rig = Rig::new();
        rig.guest.thaw();
        let rtc = rig.rtc(options, 0);
        assert_eq!(rtc.now_ns(), WALL);
        for set in [5 * S, u64::MAX - 1, 0] {
            rtc.set(set);
            assert_eq!(rtc.now_ns(), set);
            rig.host.advance(1);
            assert_eq!(rtc.now_ns(), set + 1);
        }
        assert_eq!(rtc.clamped(), 0);
    }
}

#[test]
fn arriving_on_a_host_whose_clock_is_behind_does_not_go_back() {
    let source = Rig::new();
    let rtc = source.rtc("base=localtime", 3600);
    let last = rtc.now_ns();
    let state = rtc.save();
    let destination = Rig::new();
    destination.host.step_realtime(-(9 * S as i64));
    let arrived = destination.rtc("base=2000-01-01", 0);
    arrived.load(&state).unwrap();
    assert_eq!(arrived.save(), state, "save, load, save is equal");
    assert_eq!(arrived.now_ns(), last);
    assert_eq!(arrived.clamped(), 1);
    destination.host.advance(10 * S);
    assert_eq!(arrived.now_ns(), last + S);
}

#[test]
fn foreign_and_hostile_states_are_refused() {
    let rig = Rig::new();
    let (host, vm) = (rig.rtc("", 0), rig.rtc("clock=vm", 0));
    let before = host.save();
    assert_eq!(
        host.load(&vm.save()),
        Err(WallLoadError::OtherClock { saved: RtcClock::Vm, here: RtcClock::Host })
    );
    for offset_ns in [i128::MIN, i128::MAX, i128::from(u64::MAX) * 2] {
        let state = WallClockState { offset_ns, ..before };
        assert_eq!(host.load(&state), Err(WallLoadError::Offset(offset_ns)));
    }
    assert_eq!(host.save(), before);
}

#[test]
fn alarms_follow_the_policy_of_the_clock() {
    let rig = Rig::new();
    rig.guest.thaw();
    rig.host.advance(3 * S);
    let host = rig.rtc("base=2000-01-01", 0);
    let vm = rig.rtc("base=2000-01-01,clock=vm", 0);
    let date = 946_684_800 * S;
    assert_eq!((host.alarm_timer_class(), vm.alarm_timer_class()), (TimerClass::HostWall, TimerClass::Wake));
    assert_eq!(host.alarm_deadline_ns(date + 7 * S), WALL + 10 * S);
    assert_eq!(vm.alarm_deadline_ns(date + 7 * S), 10 * S);
    for rtc in [&host, &vm] {
        assert_eq!(rtc.alarm_deadline_ns(date), 0, "reached: due at once");
        assert_eq!(rtc.alarm_deadline_ns(0), 0);
    }
    vm.set(u64::MAX - 2);
    assert_eq!(vm.alarm_deadline_ns(u64::MAX), 3 * S + 2);
    host.set(0);
    assert_eq!(host.alarm_deadline_ns(u64::MAX), u64::MAX, "never");
}

#[test]
fn an_alarm_that_a_clamped_value_has_reached_is_due() {
    let rig = Rig::new();
    let rtc = rig.rtc("", 0);
    rtc.now_ns();
    rig.host.step_realtime(-(60 * S as i64));
    assert_eq!(rtc.alarm_deadline_ns(WALL), 0);
    assert_eq!(rtc.alarm_deadline_ns(WALL + 1), WALL + 1);
}

#[test]
fn when_an_alarm_fires_the_rtc_has_reached_it() {
    for options in ["base=localtime", "base=2000-01-01,clock=vm"] {
        let rig = Rig::new();
        let rtc = Arc::new(rig.rtc(options, 1234));
        let queue = TimerQueue::new(rig.guest.clone(), Arc::new(rig.host.clone()));
        let alarm = rtc.now_ns() + 5 * S;
        struct Alarm(Arc<WallClock>, u64, AtomicUsize);
        impl TimerTarget for Alarm {
            fn expired(&self) {
                assert_eq!(self.0.now_ns(), self.1);
                self.2.fetch_add(1, SeqCst);
            }
        }
        let target = Arc::new(Alarm(rtc.clone(), alarm, AtomicUsize::new(0)));
        let timer = queue.add(rtc.alarm_timer_class(), target.clone());
        timer.arm(rtc.alarm_deadline_ns(alarm));
        queue.thaw();
        queue.set_asleep(true);
        rig.host.advance(5 * S - 1);
        assert_eq!(queue.run_due(), 0);
        rig.host.advance(1);
        assert_eq!(queue.run_due(), 1, "{options}: wakes a sleeping guest");
        assert_eq!(target.2.load(SeqCst), 1);
    }
}

proptest! {
    #[test]
    fn the_rtc_never_goes_back_unless_it_is_set(
        start: u64,
        steps in prop::collection::vec((any::<i64>(), any::<u32>(), any::<Option<u64>>()), 0..50),
    ) {
        let rig = Rig::new();
        rig.host.set_realtime(start);
        let rtc = rig.rtc("", 0);
        let mut last = 0;
        for (step, pass, set) in steps {
            rig.host.step_realtime(step);
            rig.host.advance(pass.into());
            if let Some(ns) = set.filter(|ns| ns % 4 == 0) {
                rtc.set(ns);
                last = ns;
            }
            let now = rtc.now_ns();
            prop_assert!(now >= last);
            last = now;
            let state = rtc.save();
            let bytes = postcard::to_stdvec(&state).unwrap();
            prop_assert_eq!(postcard::from_bytes::<WallClockState>(&bytes), Ok(state));
            rtc.load(&state).unwrap();
            prop_assert_eq!(rtc.save(), state);
        }
    }
}

#[test]
fn the_system_clocks_are_what_they_say() {
    let (first, second) = (SystemClock.monotonic_ns(), SystemClock.monotonic_ns());
    assert!(first <= second, "instances share one origin");
    assert!(SystemClock.realtime_ns() > 1_600_000_000 * S);
    assert_eq!(SystemClock.os_realtime_ns(7), 7);
}

#[test]
fn a_shifted_clock_moves_and_tells() {
    let inner = TestClock::new(100, 1_000);
    let clock = Arc::new(ShiftedClock::new(inner.clone()));
    let told = Arc::new(AtomicUsize::new(0));
    let counter = told.clone();
    clock.on_change(Arc::new(move || {
        counter.fetch_add(1, SeqCst);
    }));
    assert_eq!((clock.monotonic_ns(), clock.realtime_ns()), (100, 1_000));
    clock.advance(10);
    assert_eq!((clock.monotonic_ns(), clock.realtime_ns()), (110, 1_010));
    clock.advance_monotonic(5);
    assert_eq!((clock.monotonic_ns(), clock.realtime_ns()), (115, 1_010));
    clock.step_realtime(-500);
    assert_eq!((clock.monotonic_ns(), clock.realtime_ns()), (115, 510));
    inner.advance(1);
    assert_eq!((clock.monotonic_ns(), clock.realtime_ns()), (116, 511));
    assert_eq!((clock.monotonic_offset(), clock.realtime_offset()), (15, -490));
    assert_eq!(clock.os_realtime_ns(600), 1_090, "when the shifted wall shows 600 the inner one shows 1090");
    clock.set_realtime_offset(200);
    assert_eq!((clock.realtime_ns(), clock.os_realtime_ns(600)), (1_201, 400));
    assert_eq!((clock.generation(), told.load(SeqCst)), (4, 4));
}

#[test]
fn a_shifted_clock_at_the_extremes() {
    let clock = ShiftedClock::new(TestClock::new(u64::MAX - 1, 5));
    clock.advance(u64::MAX);
    clock.advance(u64::MAX);
    assert_eq!((clock.monotonic_ns(), clock.monotonic_offset()), (u64::MAX, i64::MAX));
    clock.set_realtime_offset(i64::MIN);
    assert_eq!((clock.realtime_ns(), clock.os_realtime_ns(u64::MAX)), (0, u64::MAX));
    clock.step_realtime(i64::MIN);
    assert_eq!(clock.realtime_offset(), i64::MIN);
    clock.set_realtime_offset(i64::MAX);
    assert_eq!(clock.os_realtime_ns(1), 0);
}
