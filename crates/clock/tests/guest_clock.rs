//! Guest monotonic and awake time: exact over any walk, never backwards on any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use clock::*;
use proptest::prelude::*;

fn on_test_clock() -> (TestClock, GuestClock) {
    let host = TestClock::new(1_000, 0);
    let guest = GuestClock::new(Arc::new(host.clone()));
    (host, guest)
}

fn counted(shift: u64) -> (CountedSource, GuestClock) {
    let count = CountedSource::default();
    let guest = GuestClock::icount(count.clone(), IcountShift::try_from(shift).unwrap());
    (count, guest)
}

#[test]
fn starts_frozen_at_zero() {
    let (host, guest) = on_test_clock();
    host.advance(77);
    assert!(guest.is_frozen());
    assert_eq!((guest.now_ns(), guest.awake_ns()), (0, 0));
}

#[test]
fn freeze_thaw_and_sleep_say_whether_they_changed_something() {
    let (_, guest) = on_test_clock();
    assert!(!guest.freeze());
    assert!(guest.thaw());
    assert!(!guest.thaw());
    assert!(guest.freeze());
    assert!(!guest.freeze());
    assert!(!guest.set_asleep(false));
    assert!(guest.set_asleep(true));
    assert!(!guest.set_asleep(true));
    assert!(guest.set_asleep(false));
}

#[test]
fn the_worked_table_of_the_crate_documentation() {
    let host = TestClock::new(100, 0);
    let guest = Arc::new(GuestClock::new(Arc::new(host.clone())));
    let rtc = |clock| {
        let options = RtcOptions { base: RtcBase::Utc, clock };
        WallClock::new(options, 0, Arc::new(host.clone()), guest.clone())
    };
    let (rtc_host, rtc_vm) = (rtc(RtcClock::Host), rtc(RtcClock::Vm));
    let row = || {
        let now = (host.monotonic_ns(), host.realtime_ns(), guest.now_ns(), guest.awake_ns());
        (now, rtc_host.now_ns(), rtc_vm.now_ns())
    };
    guest.thaw();
    assert_eq!(row(), ((100, 0, 0, 0), 0, 0));
    host.advance(10);
    guest.set_asleep(true);
    assert_eq!(row(), ((110, 10, 10, 10), 10, 10));
    host.advance(5);
    guest.freeze();
    assert_eq!(row(), ((115, 15, 15, 10), 15, 15));
    host.advance(5);
    host.step_realtime(60);
    assert_eq!(row(), ((120, 80, 15, 10), 80, 15));
    host.advance(15);
    guest.thaw();
    assert_eq!(row(), ((135, 95, 15, 10), 95, 15));
    host.advance(1);
    guest.set_asleep(false);
    assert_eq!(row(), ((136, 96, 16, 10), 96, 16));
    host.advance(1);
    assert_eq!(row(), ((137, 97, 17, 11), 97, 17));
}

#[test]
fn a_thousand_stops_and_continues_lose_no_nanosecond() {
    let (host, guest) = on_test_clock();
    let mut live = 0;
    for round in 0..1_000_u64 {
        guest.thaw();
        host.advance(round * 7 + 1);
        live += round * 7 + 1;
        guest.freeze();
        host.advance(round * 13 + 3);
        assert_eq!(guest.now_ns(), live);
    }
}

#[test]
fn set_and_restore_begin_a_timeline_only_while_frozen() {
    let (host, guest) = on_test_clock();
    guest.thaw();
    assert_eq!(guest.set(5), Err(SetError::Live));
    assert_eq!(guest.restore(&GuestClockState { guest_ns: 5, awake_ns: 5 }), Err(SetError::Live));
    guest.freeze();
    let hostile = GuestClockState { guest_ns: 4, awake_ns: 5 };
    assert_eq!(guest.restore(&hostile), Err(SetError::AwakeAboveGuest { guest_ns: 4, awake_ns: 5 }));
    assert_eq!(guest.save(), GuestClockState::default());
    guest.restore(&GuestClockState { guest_ns: 50, awake_ns: 20 }).unwrap();
    guest.thaw();
    host.advance(3);
    assert_eq!((guest.now_ns(), guest.awake_ns()), (53, 23));
    guest.freeze();
    guest.set(10).unwrap();
    assert_eq!((guest.now_ns(), guest.awake_ns()), (10, 10));
}

#[test]
fn a_sleeping_clock_is_restored_asleep() {
    let (host, guest) = on_test_clock();
    guest.set_asleep(true);
    guest.restore(&GuestClockState { guest_ns: 50, awake_ns: 20 }).unwrap();
    guest.thaw();
    host.advance(5);
    assert_eq!((guest.now_ns(), guest.awake_ns()), (55, 20));
    guest.set_asleep(false);
    host.advance(5);
    assert_eq!((guest.now_ns(), guest.awake_ns()), (60, 25));
}

#[test]
fn the_saved_form_survives_its_encoding() {
    let state = GuestClockState { guest_ns: u64::MAX, awake_ns: 1 };
    let bytes = postcard::to_stdvec(&state).unwrap();
    assert_eq!(postcard::from_bytes::<GuestClockState>(&bytes), Ok(state));
}

#[test]
fn the_end_of_time_saturates() {
    let (host, guest) = on_test_clock();
    guest.restore(&GuestClockState { guest_ns: u64::MAX - 1, awake_ns: 0 }).unwrap();
    guest.thaw();
    host.advance(u64::MAX);
    assert_eq!(guest.now_ns(), u64::MAX);
    guest.set_asleep(true);
    guest.set_asleep(false);
    guest.freeze();
    guest.thaw();
    assert_eq!(guest.now_ns(), u64::MAX);
    assert_eq!(guest.guest_of_awake(u64::MAX), u64::MAX);
    assert!(guest.awake_ns() <= 1, "only the last nanosecond was spent awake");
}

#[test]
fn host_deadlines_point_at_the_instant_and_only_while_live() {
    let (host, guest) = on_test_clock();
    assert_eq!(guest.host_deadline(5), None);
    guest.thaw();
    host.advance(10);
    assert_eq!(guest.host_deadline(5), Some(1_005));
    assert_eq!(guest.host_deadline(25), Some(1_025));
    assert_eq!(guest.host_deadline(u64::MAX), Some(u64::MAX));
    guest.freeze();
    host.advance(100);
    guest.thaw();
    assert_eq!(guest.host_deadline(25), Some(1_125));
    assert_eq!(guest.host_deadline(5), Some(1_105), "the past is the past, if not the exact one");
}

#[test]
fn counted_time_follows_instructions_and_ignores_the_host() {
    let (count, guest) = counted(3);
    guest.thaw();
    count.publish(10);
    assert_eq!(guest.now_ns(), 80);
    count.publish(4);
    assert_eq!(guest.now_ns(), 80, "a count that shrinks is ignored");
    assert_eq!(guest.host_deadline(100), None);
    assert_eq!(guest.budget_until(80), Some(0));
    assert_eq!(guest.budget_until(81), Some(1));
    assert_eq!(guest.budget_until(88), Some(1));
    assert_eq!(guest.budget_until(89), Some(2));
    assert_eq!(guest.budget_until(u64::MAX), Some(u64::MAX));
    count.publish(11);
    assert_eq!(guest.now_ns(), 88);
}

#[test]
fn counted_time_jumps_only_forward_and_only_live() {
    let (count, guest) = counted(0);
    assert_eq!(guest.advance_to(100), Err(AdvanceError::Frozen));
    guest.thaw();
    assert_eq!(guest.advance_to(100), Ok(true));
    assert_eq!(guest.advance_to(100), Ok(false));
    assert_eq!(guest.advance_to(50), Ok(false));
    count.publish(7);
    assert_eq!(guest.now_ns(), 107);
    let (_, host_driven) = on_test_clock();
    host_driven.thaw();
    assert_eq!(host_driven.advance_to(100), Err(AdvanceError::NotCounted));
    assert_eq!(host_driven.budget_until(100), None);
}

#[test]
fn counted_time_is_the_same_with_and_without_stops() {
    // The hart executes on for a few instructions between the freeze and its park.
    let run = |stops: bool| {
        let (count, guest) = counted(2);
        guest.thaw();
        let mut seen = Vec::new();
        for retired in 0..100 {
            if stops && retired % 7 == 3 {
                guest.freeze();
            }
            count.publish(retired);
            seen.push(guest.now_ns());
            if stops && retired % 7 == 5 {
                guest.thaw();
            }
        }
        seen
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn counted_time_at_the_extremes() {
    let (count, guest) = counted(10);
    guest.thaw();
    count.publish(u64::MAX);
    assert_eq!(guest.now_ns(), u64::MAX);
    assert_eq!(guest.budget_until(u64::MAX - 1), Some(0));
    assert!(IcountShift::try_from(11).is_err());
    assert_eq!(
        IcountShift::try_from(u64::MAX).unwrap_err().to_string(),
        "icount shift 18446744073709551615 is out of range, it must be 0 to 10"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Freeze,
    Thaw,
    Asleep(bool),
    SaveLoad,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..10_000_000_000_u64).prop_map(Step::Pass),
        Just(Step::Freeze),
        Just(Step::Thaw),
        any::<bool>().prop_map(Step::Asleep),
        Just(Step::SaveLoad),
    ]
}

proptest! {
    /// Design section 5, invariant 8: guest time error is exactly zero over any walk.
    #[test]
    fn guest_time_is_exactly_the_live_host_time(steps in prop::collection::vec(step(), 0..200)) {
        let (host, guest) = on_test_clock();
        let (mut live, mut asleep) = (false, false);
        let (mut expected, mut awake) = (0, 0);
        for step in steps {
            match step {
                Step::Pass(ns) => {
                    host.advance(ns);
                    if live {
                        expected += ns;
                        if !asleep {
                            awake += ns;
                        }
                    }
                }
                Step::Freeze => {
                    prop_assert_eq!(guest.freeze(), live);
                    live = false;
                }
                Step::Thaw => {
                    prop_assert_eq!(guest.thaw(), !live);
                    live = true;
                }
                Step::Asleep(now) => {
                    prop_assert_eq!(guest.set_asleep(now), asleep != now);
                    asleep = now;
                }
                Step::SaveLoad => {
                    let state = guest.save();
                    if !live {
                        guest.set(12_345).unwrap();
                        guest.restore(&state).unwrap();
                    }
                    prop_assert_eq!(guest.save(), state);
                }
            }
            prop_assert_eq!((guest.now_ns(), guest.awake_ns()), (expected, awake));
            prop_assert_eq!(guest.guest_of_awake(awake), expected);
        }
    }
}

/// A host clock during whose first reading by a reader the owner freezes the guest clock.
#[derive(Default)]
struct FreezesInTheMiddle {
    now: AtomicU64,
    armed: AtomicBool,
    guest: OnceLock<Arc<GuestClock>>,
}

impl HostClock for FreezesInTheMiddle {
    fn monotonic_ns(&self) -> u64 {
        if self.armed.swap(false, SeqCst) {
            self.guest.get().unwrap().freeze();
            // The reader's own reading comes after the freeze's: it must be thrown away.
            self.now.fetch_add(1_000, SeqCst);
        }
        self.now.load(SeqCst)
    }
    fn realtime_ns(&self) -> u64 {
        0
    }
}

#[test]
fn a_reading_that_a_freeze_overtook_is_thrown_away() {
    let host = Arc::new(FreezesInTheMiddle::default());
    let guest = Arc::new(GuestClock::new(host.clone()));
    assert!(host.guest.set(guest.clone()).is_ok());
    guest.thaw();
    host.now.store(50, SeqCst);
    host.armed.store(true, SeqCst);
    assert_eq!(guest.now_ns(), 50);
    assert!(guest.is_frozen());
}

/// A host clock that, when the owner reads it for a freeze, lets a reader begin and gives it every chance to
/// finish before it answers.
#[derive(Default)]
struct LetsAReaderIn {
    now: AtomicU64,
    armed: AtomicBool,
    reader_may_begin: AtomicBool,
    reader_begins: AtomicBool,
    reader_ended: AtomicBool,
}

impl LetsAReaderIn {
    /// Yields until `flag` is set, for a bounded number of times.
    fn wait(flag: &AtomicBool, times: u32) {
        for _ in 0..times {
            if flag.load(SeqCst) {
                return;
            }
            thread::yield_now();
        }
    }
}

impl HostClock for LetsAReaderIn {
    fn monotonic_ns(&self) -> u64 {
        let now = self.now.load(SeqCst);
        if self.armed.swap(false, SeqCst) {
            self.now.store(now + 1_000, SeqCst);
            self.reader_may_begin.store(true, SeqCst);
            Self::wait(&self.reader_begins, 1_000_000);
            Self::wait(&self.reader_ended, 2_000);
        }
        now
    }
    fn realtime_ns(&self) -> u64 {
        0
    }
}

/// Lifecycle-rules 4.3: had the owner read the host's clock before its write section, the reader would return
/// a later time than the one at which time stops.
#[test]
fn a_reader_cannot_pass_a_freeze_that_has_read_the_host_clock() {
    let host = Arc::new(LetsAReaderIn::default());
    let guest = GuestClock::new(host.clone());
    guest.thaw();
    host.now.store(50, SeqCst);
    host.armed.store(true, SeqCst);
    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            LetsAReaderIn::wait(&host.reader_may_begin, u32::MAX);
            host.reader_begins.store(true, SeqCst);
            let read = guest.now_ns();
            host.reader_ended.store(true, SeqCst);
            read
        });
        guest.freeze();
        reader.join().unwrap()
    });
    assert_eq!((read, guest.now_ns()), (50, 50));
}

/// Lifecycle-rules 4.3, with real threads: whoever has seen a time, no one on any thread reads an earlier one
/// after that.
#[test]
fn no_thread_sees_time_go_back_across_many_freezes() {
    const READERS: usize = 3;
    const READS: u64 = 100_000;
    const STOPS: u64 = 20_000;
    let guest = GuestClock::new(Arc::new(SystemClock));
    let seen = AtomicU64::new(0);
    let reading = AtomicUsize::new(READERS);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let _done = Countdown(&reading);
                for _ in 0..READS {
                    let before = seen.load(SeqCst);
                    let state = guest.save();
                    assert!(state.guest_ns >= before, "{} after {before}", state.guest_ns);
                    assert!(state.awake_ns <= state.guest_ns);
                    seen.fetch_max(state.guest_ns, SeqCst);
                }
            });
        }
        let mut stops = 0_u64;
        while stops < STOPS || reading.load(SeqCst) > 0 {
            guest.thaw();
            guest.set_asleep(stops.is_multiple_of(3));
            guest.freeze();
            let stopped = guest.now_ns();
            assert!(seen.load(SeqCst) <= stopped, "a reader is ahead of the freeze");
            assert_eq!(guest.now_ns(), stopped, "time moves while frozen");
            stops += 1;
        }
    });
}

/// Counts one down when dropped, so that a failing reader ends the test too.
struct Countdown<'a>(&'a AtomicUsize);

impl Drop for Countdown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
