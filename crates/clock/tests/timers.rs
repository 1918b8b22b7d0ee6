//! The timer queue: which class fires in which mode, in what order, and what callbacks may do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use TimerClass::*;
use clock::*;

const START: u64 = 1_000;
const WALL: u64 = 50_000;

struct Rig {
    host: TestClock,
    clock: Arc<GuestClock>,
    queue: Arc<TimerQueue>,
    log: Arc<Mutex<Vec<&'static str>>>,
}

fn rig() -> Rig {
    let host = TestClock::new(START, WALL);
    let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
    rig_on(host, clock)
}

fn counted_rig() -> (CountedSource, Rig) {
    let count = CountedSource::default();
    let clock = GuestClock::icount(count.clone(), IcountShift::try_from(0).unwrap());
    (count, rig_on(TestClock::new(START, WALL), Arc::new(clock)))
}

fn rig_on(host: TestClock, clock: Arc<GuestClock>) -> Rig {
    let queue = TimerQueue::new(clock.clone(), Arc::new(host.clone()));
    Rig { host, clock, queue, log: Arc::default() }
}

struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl TimerTarget for Named {
    fn expired(&self) {
        self.1.lock().unwrap().push(self.0);
    }
}

impl Rig {
    fn timer(&self, class: TimerClass, name: &'static str) -> Timer {
        self.queue.add(class, Arc::new(Named(name, self.log.clone())))
    }
    fn armed(&self, class: TimerClass, name: &'static str, after: u64) -> Timer {
        let timer = self.timer(class, name);
        timer.arm(timer.now_ns() + after);
        timer
    }
    /// What fires now.
    fn fired(&self) -> Vec<&'static str> {
        let count = self.queue.run_due();
        let fired = std::mem::take(&mut *self.log.lock().unwrap());
        assert_eq!(fired.len(), count);
        fired
    }
    fn wakes(&self) -> Arc<AtomicUsize> {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        self.queue.set_waker(Arc::new(move || {
            counter.fetch_add(1, SeqCst);
        }));
        wakes
    }
}

struct Calls<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> TimerTarget for Calls<F> {
    fn expired(&self) {
        (self.0)();
    }
}

/// Lifecycle-rules 4.6, the table of `TimerClass`: each class in each mode for 20 ns with a deadline after
/// 10, then live and awake for 0 and again for 20 ns.
#[test]
fn each_class_in_each_mode() {
    #[derive(Debug, PartialEq)]
    enum Fires {
        InMode,
        OnReturn,
        Later,
    }
    // (held, asleep)
    const AWAKE: (bool, bool) = (false, false);
    const ASLEEP: (bool, bool) = (false, true);
    const HELD: (bool, bool) = (true, false);
    const HELD_ASLEEP: (bool, bool) = (true, true);
    for (class, mode, expected) in [
        (AwakeTime, AWAKE, Fires::InMode),
        (AwakeTime, ASLEEP, Fires::Later),
        (AwakeTime, HELD, Fires::Later),
        (AwakeTime, HELD_ASLEEP, Fires::Later),
        (GuestTime, AWAKE, Fires::InMode),
        (GuestTime, ASLEEP, Fires::OnReturn),
        (GuestTime, HELD, Fires::Later),
        (GuestTime, HELD_ASLEEP, Fires::Later),
        (Wake, AWAKE, Fires::InMode),
        (Wake, ASLEEP, Fires::InMode),
        (Wake, HELD, Fires::Later),
        (Wake, HELD_ASLEEP, Fires::Later),
        (HostWall, AWAKE, Fires::InMode),
        (HostWall, ASLEEP, Fires::InMode),
        (HostWall, HELD, Fires::OnReturn),
        (HostWall, HELD_ASLEEP, Fires::OnReturn),
    ] {
        let rig = rig();
        rig.queue.thaw();
        rig.host.advance(7);
        let timer = rig.armed(class, "timer", 10);
        let (held, asleep) = mode;
        rig.queue.set_asleep(asleep);
        if held {
            rig.queue.freeze();
        }
        rig.host.advance(20);
        let in_mode = rig.fired().len();
        assert_eq!(timer.deadline().is_none(), in_mode == 1);
        rig.queue.set_asleep(false);
        rig.queue.thaw();
        let on_return = rig.fired().len();
        rig.host.advance(20);
        let later = rig.fired().len();
        let got = match (in_mode, on_return, later) {
            (1, 0, 0) => Fires::InMode,
            (0, 1, 0) => Fires::OnReturn,
            (0, 0, 1) => Fires::Later,
            other => panic!("{class:?} in {mode:?} fired {other:?} times"),
        };
        assert_eq!(got, expected, "{class:?}, (held, asleep) = {mode:?}");
    }
}

#[test]
fn next_names_only_what_the_mode_looks_at() {
    let rig = rig();
    let _timers = [
        rig.armed(AwakeTime, "awake", 10),
        rig.armed(GuestTime, "guest", 20),
        rig.armed(Wake, "wake", 30),
        rig.armed(HostWall, "wall", 40),
    ];
    let next = |mono: Option<u64>, wall: Option<u64>| Next {
        monotonic_deadline_ns: mono,
        realtime_deadline_ns: wall,
    };
    assert_eq!(rig.queue.next(), next(None, None), "held");
    rig.queue.thaw();
    assert_eq!(rig.queue.next(), next(Some(START + 10), Some(WALL + 40)));
    assert_eq!(rig.queue.next_guest_ns(), Some(10));
    rig.queue.set_asleep(true);
    assert_eq!(rig.queue.next(), next(Some(START + 30), Some(WALL + 40)));
    rig.host.advance(5);
    rig.queue.set_asleep(false);
    assert_eq!(rig.queue.next(), next(Some(START + 15), Some(WALL + 40)), "awake time stood for 5 ns");
    rig.queue.freeze();
    assert_eq!(rig.queue.next(), next(None, None));
}

#[test]
fn due_timers_fire_in_order_of_deadline_then_of_arming() {
    let rig = rig();
    rig.queue.thaw();
    let _timers = [
        rig.armed(GuestTime, "30", 30),
        rig.armed(Wake, "10", 10),
        rig.armed(AwakeTime, "20 first", 20),
        rig.armed(HostWall, "20 second", 20),
        rig.armed(GuestTime, "20 third", 20),
        rig.armed(GuestTime, "99", 99),
    ];
    rig.host.advance(50);
    assert_eq!(rig.fired(), ["10", "20 first", "20 second", "20 third", "30"]);
    assert!(rig.fired().is_empty());
}

#[test]
fn arming_again_moves_a_timer_and_disarming_stops_it() {
    let rig = rig();
    rig.queue.thaw();
    let timer = rig.armed(GuestTime, "timer", 10);
    timer.arm(30);
    assert_eq!(timer.deadline(), Some(30));
    rig.host.advance(20);
    assert!(rig.fired().is_empty());
    assert!(timer.disarm());
    assert!(!timer.disarm());
    rig.host.advance(20);
    assert!(rig.fired().is_empty());
    timer.arm(0);
    drop(timer);
    assert!(rig.fired().is_empty(), "a dropped timer is gone");
}

#[test]
fn a_periodic_callback_arms_its_own_timer() {
    let rig = rig();
    let timer = Arc::new(OnceLock::<Timer>::new());
    let (own, log) = (timer.clone(), rig.log.clone());
    let periodic = rig.queue.add(
        GuestTime,
        Arc::new(Calls(move || {
            let timer = own.get().unwrap();
            assert_eq!(timer.deadline(), None, "disarmed while it is called");
            log.lock().unwrap().push("tick");
            timer.arm(timer.now_ns() + 10);
        })),
    );
    periodic.arm(10);
    timer.set(periodic).unwrap();
    rig.queue.thaw();
    for _ in 0..100 {
        rig.host.advance(10);
        assert_eq!(rig.fired(), ["tick"]);
    }
}

#[test]
fn a_callback_that_arms_in_the_past_cannot_hold_up_its_caller() {
    let rig = rig();
    let timer = Arc::new(OnceLock::<Timer>::new());
    let own = timer.clone();
    let restless = rig.queue.add(GuestTime, Arc::new(Calls(move || own.get().unwrap().arm(0))));
    restless.arm(0);
    timer.set(restless).unwrap();
    rig.queue.thaw();
    assert_eq!(rig.queue.run_due(), 1);
    assert_eq!(rig.queue.next().monotonic_deadline_ns, Some(START), "due again, at once");
    assert_eq!(rig.queue.run_due(), 1);
}

#[test]
fn a_callback_may_disarm_add_and_drop_timers_and_freeze_the_queue() {
    let rig = rig();
    let victim = Arc::new(Mutex::new(Some(rig.armed(GuestTime, "victim", 2))));
    let (queue, log) = (rig.queue.clone(), rig.log.clone());
    let born = Arc::new(Mutex::new(None));
    let (kill, keep) = (victim.clone(), born.clone());
    let killer = rig.queue.add(
        GuestTime,
        Arc::new(Calls(move || {
            log.lock().unwrap().push("killer");
            kill.lock().unwrap().take();
            let timer = queue.add(GuestTime, Arc::new(Named("born", log.clone())));
            timer.arm(3);
            *keep.lock().unwrap() = Some(timer);
            assert_eq!(queue.run_due(), 0, "not from inside a callback");
            assert!(queue.freeze());
        })),
    );
    killer.arm(1);
    rig.queue.thaw();
    rig.host.advance(10);
    assert_eq!(rig.fired(), ["killer"]);
    assert!(rig.fired().is_empty(), "frozen by the callback");
    rig.queue.thaw();
    assert_eq!(rig.fired(), ["born"]);
}

#[test]
fn nothing_fires_after_a_freeze_in_the_midst_of_due_timers() {
    let rig = rig();
    let queue = rig.queue.clone();
    let freezer = rig.queue.add(
        GuestTime,
        Arc::new(Calls(move || {
            queue.clock().freeze();
        })),
    );
    freezer.arm(1);
    let _later = rig.armed(GuestTime, "later", 2);
    rig.queue.thaw();
    rig.host.advance(10);
    assert_eq!(rig.queue.run_due(), 1);
    assert!(rig.log.lock().unwrap().is_empty());
    rig.queue.thaw();
    assert_eq!(rig.fired(), ["later"], "and then it is not lost");
}

#[test]
fn a_target_that_is_gone_is_passed_over() {
    let rig = rig();
    let target: Arc<dyn TimerTarget> = Arc::new(Named("gone", rig.log.clone()));
    let timer = rig.queue.add_weak(GuestTime, Arc::downgrade(&target));
    rig.queue.thaw();
    timer.arm(0);
    assert_eq!(rig.fired(), ["gone"]);
    timer.arm(0);
    drop(target);
    assert!(rig.fired().is_empty());
    assert_eq!(timer.deadline(), None);
}

#[test]
fn a_device_may_own_its_timer() {
    struct Device {
        timer: Timer,
        expiries: AtomicUsize,
    }
    impl TimerTarget for Device {
        fn expired(&self) {
            self.expiries.fetch_add(1, SeqCst);
            self.timer.arm(u64::MAX);
        }
    }
    let rig = rig();
    let device = Arc::new_cyclic(|me: &Weak<Device>| Device {
        timer: rig.queue.add_weak(Wake, me.clone()),
        expiries: AtomicUsize::new(0),
    });
    device.timer.arm(5);
    rig.queue.thaw();
    rig.host.advance(5);
    assert_eq!(rig.queue.run_due(), 1);
    assert_eq!(device.expiries.load(SeqCst), 1);
    let gone = Arc::downgrade(&device);
    drop(device);
    assert!(gone.upgrade().is_none(), "no cycle keeps it alive");
}

#[test]
fn host_wall_timers_go_by_the_wall_as_it_is_now() {
    let rig = rig();
    rig.queue.thaw();
    let timer = rig.armed(HostWall, "wall", 100);
    rig.host.advance(90);
    rig.host.step_realtime(-50);
    rig.host.advance(10);
    assert!(rig.fired().is_empty(), "stepped back before it was due");
    assert_eq!(rig.queue.next().realtime_deadline_ns, Some(WALL + 100), "the deadline is absolute");
    rig.host.step_realtime(49);
    assert!(rig.fired().is_empty());
    rig.host.step_realtime(1);
    assert_eq!(rig.fired(), ["wall"], "stepped forward past it, with no monotonic time");
    timer.arm(WALL + 1_000);
    rig.host.set_realtime(0);
    rig.host.advance(900);
    assert!(rig.fired().is_empty());
    rig.queue.freeze();
    rig.host.set_realtime(WALL + 1_000);
    assert!(rig.fired().is_empty(), "held");
    assert_eq!(rig.queue.due_when_lifted(), 1);
    rig.queue.thaw();
    assert_eq!(rig.fired(), ["wall"], "judged at start");
}

#[test]
fn asking_what_is_due_when_lifted_changes_nothing() {
    let rig = rig();
    let _timers =
        [rig.armed(GuestTime, "a", 0), rig.armed(Wake, "b", 0), rig.armed(AwakeTime, "never", u64::MAX)];
    assert_eq!(rig.queue.due_when_lifted(), 2);
    rig.queue.set_asleep(true);
    assert_eq!(rig.queue.due_when_lifted(), 1, "asleep only what wakes");
    rig.queue.set_asleep(false);
    rig.queue.thaw();
    assert_eq!(rig.fired(), ["a", "b"]);
}

#[test]
fn the_waker_is_called_when_the_keeper_must_look_sooner() {
    let rig = rig();
    let wakes = rig.wakes();
    let timer = rig.armed(GuestTime, "timer", 100);
    assert_eq!(wakes.load(SeqCst), 0, "held: nothing to look at");
    rig.queue.thaw();
    assert_eq!(wakes.load(SeqCst), 1, "thaw");
    rig.queue.thaw();
    assert_eq!(wakes.load(SeqCst), 1, "thaw again is nothing");
    let _ = rig.queue.next();
    timer.arm(200);
    assert_eq!(wakes.load(SeqCst), 1, "later: the keeper finds out when it looks");
    timer.arm(99);
    assert_eq!(wakes.load(SeqCst), 2, "sooner");
    let _wall = rig.armed(HostWall, "wall", 5);
    assert_eq!(wakes.load(SeqCst), 3, "sooner on the wall");
    rig.queue.set_asleep(true);
    assert_eq!(wakes.load(SeqCst), 3, "less to look at: the keeper finds out when it looks");
    timer.arm(1);
    assert_eq!(wakes.load(SeqCst), 3, "not looked at while asleep");
    rig.queue.set_asleep(false);
    assert_eq!(wakes.load(SeqCst), 4, "awake, and sooner than what the keeper knows");
    rig.queue.freeze();
    let _ = rig.queue.next();
    rig.queue.thaw();
    assert_eq!(wakes.load(SeqCst), 5, "the keeper has seen that nothing comes");
    rig.queue.freeze();
    rig.queue.thaw();
    assert_eq!(wakes.load(SeqCst), 5, "the keeper has not even looked");
}

#[test]
fn the_waker_may_use_the_queue() {
    let rig = rig();
    let (queue, nexts) = (rig.queue.clone(), Arc::new(Mutex::new(Vec::new())));
    let out = nexts.clone();
    rig.queue.set_waker(Arc::new(move || out.lock().unwrap().push(queue.next().monotonic_deadline_ns)));
    rig.queue.thaw();
    let _timer = rig.armed(GuestTime, "timer", 5);
    assert_eq!(*nexts.lock().unwrap(), [Some(START + 5)]);
}

#[test]
fn the_largest_deadline_never_comes_and_none_overflows() {
    for class in TimerClass::ALL {
        let rig = rig();
        rig.clock.restore(&GuestClockState { guest_ns: u64::MAX - 5, awake_ns: u64::MAX - 5 }).unwrap();
        rig.host.set_realtime(u64::MAX - 5);
        rig.queue.thaw();
        let never = rig.timer(class, "never");
        never.arm(u64::MAX);
        assert_eq!(rig.queue.next(), Next::default());
        rig.host.advance(u64::MAX);
        assert!(rig.fired().is_empty(), "{class:?}");
        assert_eq!(rig.queue.due_when_lifted(), 0);
        let last = rig.timer(class, "last");
        last.arm(u64::MAX - 1);
        assert_eq!(rig.fired(), ["last"], "{class:?}");
    }
}

#[test]
fn awake_deadlines_beyond_the_guest_axis_are_never() {
    let rig = rig();
    rig.clock.restore(&GuestClockState { guest_ns: u64::MAX - 5, awake_ns: 0 }).unwrap();
    rig.queue.thaw();
    let _timer = rig.armed(AwakeTime, "timer", u64::MAX - 1);
    assert_eq!(rig.queue.next(), Next::default());
}

#[test]
fn idle_time_jumps_to_what_may_fire_and_no_further() {
    let (count, rig) = counted_rig();
    let _timers = [
        rig.armed(AwakeTime, "watchdog", 100),
        rig.armed(GuestTime, "compare", 200),
        rig.armed(Wake, "alarm", 300),
        rig.armed(HostWall, "wall", 400),
    ];
    assert_eq!(rig.queue.advance_idle(None), None, "held: time stands");
    rig.queue.thaw();
    assert_eq!(rig.queue.next().monotonic_deadline_ns, None, "no host time leads there");
    assert_eq!(rig.queue.next_guest_ns(), Some(100));
    rig.queue.set_asleep(true);
    assert_eq!(
        rig.queue.advance_idle(Some(10)),
        Some(300),
        "asleep: only what wakes, no compare value of a hart"
    );
    assert_eq!(rig.fired(), ["alarm"]);
    assert_eq!(rig.clock.awake_ns(), 0, "the watchdog's time stood");
    assert_eq!(rig.queue.advance_idle(None), None, "nothing else can wake it: time stands");
    rig.queue.set_asleep(false);
    assert_eq!(rig.fired(), ["compare"], "due on wake");
    assert_eq!(rig.queue.advance_idle(Some(350)), Some(350), "awake: a hart's compare value counts");
    count.publish(20);
    assert_eq!(rig.queue.advance_idle(None), Some(400), "the watchdog, 100 ns of awake time after the start");
    assert_eq!(rig.fired(), ["watchdog"]);
    assert_eq!(rig.queue.advance_idle(None), None);
    assert_eq!(rig.queue.advance_idle(Some(3)), Some(400), "a deadline that is past is due now");
}

#[test]
fn host_time_does_not_move_counted_timers() {
    let (count, rig) = counted_rig();
    rig.queue.thaw();
    let _timer = rig.armed(GuestTime, "timer", 10);
    rig.host.advance(1_000_000);
    assert!(rig.fired().is_empty());
    count.publish(9);
    assert!(rig.fired().is_empty());
    count.publish(10);
    assert_eq!(rig.fired(), ["timer"]);
}

#[test]
fn a_time_that_follows_the_host_does_not_jump() {
    let rig = rig();
    rig.queue.thaw();
    let _timer = rig.armed(GuestTime, "timer", 10);
    assert_eq!(rig.queue.advance_idle(Some(5)), None);
    assert_eq!(rig.clock.now_ns(), 0);
}

/// Lifecycle-rules 4.4: when `freeze` has returned no callback runs and none begins.
#[test]
fn the_freezer_waits_for_the_callback_in_flight() {
    const ROUNDS: usize = 2_000;
    let rig = rig();
    let inside = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let (flag, called) = (inside.clone(), calls.clone());
    let clock = rig.clock.clone();
    let timer = Arc::new(OnceLock::<Timer>::new());
    let own = timer.clone();
    let busy = rig.queue.add(
        GuestTime,
        Arc::new(Calls(move || {
            flag.store(true, SeqCst);
            called.fetch_add(1, SeqCst);
            own.get().unwrap().arm(0);
            thread::yield_now();
            let _ = clock.now_ns();
            flag.store(false, SeqCst);
        })),
    );
    busy.arm(0);
    timer.set(busy).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    rig.queue.run_due();
                }
            });
        }
        let _done = Done(&done);
        for _ in 0..ROUNDS {
            let before = calls.load(SeqCst);
            rig.queue.thaw();
            // So that the freeze meets a callback; bounded, should there be none.
            for _ in 0..1_000_000 {
                if calls.load(SeqCst) != before {
                    break;
                }
                thread::yield_now();
            }
            assert_ne!(calls.load(SeqCst), before, "nothing fires");
            rig.queue.freeze();
            for _ in 0..20 {
                assert!(!inside.load(SeqCst), "a callback runs while frozen");
            }
        }
    });
}

#[test]
fn a_callback_that_panics_does_not_hang_the_freezer() {
    let rig = rig();
    let bad = rig.queue.add(GuestTime, Arc::new(Calls(|| panic!("on purpose"))));
    bad.arm(0);
    rig.queue.thaw();
    let queue = rig.queue.clone();
    assert!(thread::spawn(move || queue.run_due()).join().is_err());
    assert!(rig.queue.freeze());
    rig.queue.thaw();
    assert_eq!(rig.queue.run_due(), 0);
}
