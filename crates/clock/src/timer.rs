//! The timer queue: deadlines on four axes, looked at or not according to what the machine does.
//!
//! Invariants
//! * Nothing fires while the clock is frozen, and when [`TimerQueue::freeze`] has returned no callback runs
//!   (lifecycle-rules 4.4). The frozen flag is looked at under the queue's lock, before every single
//!   callback.
//! * Callbacks run without the queue's lock: they may arm, disarm, add and drop any timer, their own
//!   included.
//! * A timer fires once for each time it was armed. What falls due while it is not looked at fires when it is
//!   looked at again.
//! * One [`TimerQueue::run_due`] fires each timer at most once for each arming that was there when it began,
//!   so a timer that re-arms itself in the past cannot hold up its caller.
//! * The same calls in the same order fire the same timers in the same order; no hash order, no host time
//!   beside the clocks passed in.
//!
//! `expired` means "look again", not "it is so": between taking a timer out and calling its target the world
//! may go on, and [`Timer::disarm`] does not wait for a callback in flight (it would deadlock with a target
//! that waits for the disarmer's own lock). A target compares its own deadline with its own clock under its
//! own lock.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};

use crate::class::{Next, TimerClass};
use crate::guest::GuestClock;
use crate::host::{Hook, HostClock};

mod table;

use table::{Table, Target};

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// Names a timer within its queue; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u64);

/// What a timer calls.
pub trait TimerTarget: Send + Sync {
    /// A deadline has passed; the timer is disarmed. Runs on the thread that called [`TimerQueue::run_due`],
    /// with no lock of this crate held. A hint to look again: see the module's documentation.
    fn expired(&self);
}

/// The first deadlines that count in the machine's present mode: guest ns, and host wall ns; `NEVER` for
/// none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Earliest {
    guest: u64,
    wall: u64,
}

impl Earliest {
    const NONE: Self = Self { guest: NEVER, wall: NEVER };
}

struct State {
    timers: Table,
    /// The thread inside `run_due`. Whoever finds it set while holding the lock knows that a callback runs.
    runner: Option<ThreadId>,
    waker: Option<Hook>,
    /// What the keeper of time was told last, so that it is called only when it must look sooner.
    told: Earliest,
}

/// The timers of one machine. Shared as an `Arc`.
///
/// The machine's owner stops and starts time through the queue, so that clock and timers never disagree. One
/// thread, the keeper of time, waits until [`next`](Self::next) and calls [`run_due`](Self::run_due); under
/// counted time the hart does, whenever its [budget](GuestClock::budget_until) is used up.
pub struct TimerQueue {
    clock: Arc<GuestClock>,
    host: Arc<dyn HostClock>,
    state: Mutex<State>,
    /// Signalled when `runner` is cleared.
    idle: Condvar,
}

impl TimerQueue {
    /// A queue without timers on the axes of `clock` and of `host`'s wall clock.
    #[must_use]
    pub fn new(clock: Arc<GuestClock>, host: Arc<dyn HostClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            host,
            state: Mutex::new(State {
                timers: Table::default(),
                runner: None,
                waker: None,
                told: Earliest::NONE,
            }),
            idle: Condvar::new(),
        })
    }

    /// The guest clock that this queue goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<GuestClock> {
        &self.clock
    }

    /// Adds a disarmed timer that keeps its target alive. A target that owns its own timer uses
    /// [`add_weak`](Self::add_weak), or neither is ever freed.
    #[must_use = "dropping the handle removes the timer"]
    pub fn add(self: &Arc<Self>, class: TimerClass, target: Arc<dyn TimerTarget>) -> Timer {
        self.insert(class, Target::Strong(target))
    }

    /// Adds a disarmed timer that does nothing once its target is gone.
    #[must_use = "dropping the handle removes the timer"]
    pub fn add_weak(self: &Arc<Self>, class: TimerClass, target: Weak<dyn TimerTarget>) -> Timer {
        self.insert(class, Target::Weak(target))
    }

    fn insert(self: &Arc<Self>, class: TimerClass, target: Target) -> Timer {
        let id = self.lock().timers.insert(class, target);
        Timer { queue: self.clone(), id, class }
    }

    /// Sets what is called, on any thread and without this queue's lock, whenever the keeper of time must
    /// look again: a deadline came before what [`next`](Self::next) answered last, be it because time was started or the
    /// guest fell asleep or woke (where time is counted, these always call it). It must only kick the keeper: the caller
    /// may be a hart inside a device access.
    pub fn set_waker(&self, waker: Hook) {
        let old = self.lock().waker.replace(waker);
        // Without the lock: it may own timers.
        drop(old);
    }

    /// Freezes the clock, then waits for the callback in flight; none starts until [`thaw`](Self::thaw).
    /// Returns whether the clock was running. Called from inside a callback it does not wait for that
    /// callback.
    pub fn freeze(&self) -> bool {
        let state = self.lock();
        let changed = self.clock.freeze();
        drop(self.wait_idle(state));
        changed
    }

    /// Waits for the callback in flight, if there is one, unless called from inside it. A part of
    /// [`freeze`](Self::freeze); alone it promises nothing about the next callback.
    pub fn quiesce(&self) {
        drop(self.wait_idle(self.lock()));
    }

    /// Thaws the clock and has the keeper of time look at what is due. Returns whether the clock was frozen.
    pub fn thaw(&self) -> bool {
        let state = self.lock();
        let changed = self.clock.thaw();
        self.mode_changed(state, changed);
        changed
    }

    /// The guest fell asleep, or is awake: switches the classes that are looked at, and stops or starts awake
    /// time. Returns whether that changed anything. What is already due, in the moment of falling asleep too,
    /// fires in the next [`run_due`](Self::run_due).
    pub fn set_asleep(&self, asleep: bool) -> bool {
        let state = self.lock();
        let changed = self.clock.set_asleep(asleep);
        self.mode_changed(state, changed);
        changed
    }

    /// Fires every timer that is due and looked at in the present mode, the most overdue first (on one axis:
    /// in the order of deadlines), among equals the one that was armed first. Returns how many fired.
    ///
    /// Timers armed in the past by the callbacks are left to the next call. A second thread that calls this
    /// waits for the first; from inside a callback it does nothing.
    pub fn run_due(&self) -> usize {
        let me = thread::current().id();
        let mut state = self.lock();
        while let Some(runner) = state.runner {
            if runner == me {
                return 0;
            }
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.runner = Some(me);
        let limit = state.timers.armings();
        drop(state);
        // Clears `runner` even if a callback panics: a freezer must not wait for ever.
        let _running = Running(self);
        let mut fired = 0;
        loop {
            let target = {
                let mut state = self.lock();
                let Some(id) = self.most_overdue(&state, limit) else { return fired };
                state.timers.take(id)
            };
            if let Some(target) = target {
                target.expired();
                fired += 1;
            }
        }
    }

    /// When [`run_due`](Self::run_due) must be called next, in the present mode: nothing while held.
    pub fn next(&self) -> Next {
        let mut state = self.lock();
        let earliest = self.earliest(&state);
        state.told = earliest;
        let some = |deadline| (deadline != NEVER).then_some(deadline);
        Next {
            monotonic_deadline_ns: some(earliest.guest).and_then(|ns| self.clock.host_deadline(ns)),
            realtime_deadline_ns: some(earliest.wall),
        }
    }

    /// The first guest time in ns at which a timer of the guest's axes fires in the present mode; `None` when
    /// none will. For [`GuestClock::budget_until`] under counted time.
    #[must_use]
    pub fn next_guest_ns(&self) -> Option<u64> {
        let earliest = self.earliest(&self.lock());
        (earliest.guest != NEVER).then_some(earliest.guest)
    }

    /// How many timers would fire if the last hold went now. Changes nothing (lifecycle-rules 4.8): for a
    /// query while held.
    #[must_use]
    pub fn due_when_lifted(&self) -> usize {
        let state = self.lock();
        let looked_at = self.looked_at(self.clock.is_asleep());
        looked_at.map(|(class, now)| state.timers.count_due(class, now)).sum()
    }

    /// Counted time only: no hart can execute, so time jumps to the next deadline that may fire in the
    /// present mode, without host time passing (lifecycle-rules 4.11). `hart_deadline_ns` is the earliest
    /// compare value, in guest ns, of the harts that are not timers of this queue; it counts only while the
    /// guest is awake. Returns where time now stands, at a deadline that is due; `None` when there is none,
    /// or time is frozen or not counted: then it stands.
    pub fn advance_idle(&self, hart_deadline_ns: Option<u64>) -> Option<u64> {
        let state = self.lock();
        if self.clock.icount_shift().is_none() || self.clock.is_frozen() {
            return None;
        }
        let mut deadline = self.earliest(&state).guest;
        if !self.clock.is_asleep() {
            deadline = deadline.min(hart_deadline_ns.unwrap_or(NEVER));
        }
        if deadline == NEVER || self.clock.advance_to(deadline).is_err() {
            return None;
        }
        Some(self.clock.now_ns())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The classes that are looked at while live, each with the time on its axis.
    fn looked_at(&self, asleep: bool) -> impl Iterator<Item = (TimerClass, u64)> {
        TimerClass::ALL
            .into_iter()
            .filter(move |class| class.wakes() || !asleep)
            .map(|class| (class, self.now_ns(class)))
    }

    fn now_ns(&self, class: TimerClass) -> u64 {
        match class {
            TimerClass::AwakeTime => self.clock.awake_ns(),
            TimerClass::GuestTime | TimerClass::Wake => self.clock.now_ns(),
            TimerClass::HostWall => self.host.realtime_ns(),
        }
    }

    fn most_overdue(&self, state: &State, limit: u64) -> Option<TimerId> {
        if self.clock.is_frozen() {
            return None;
        }
        self.looked_at(self.clock.is_asleep())
            .filter_map(|(class, now)| state.timers.due(class, now, limit))
            .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
            .map(|(.., id)| id)
    }

    fn earliest(&self, state: &State) -> Earliest {
        if self.clock.is_frozen() {
            return Earliest::NONE;
        }
        let mut guest = state.timers.first(TimerClass::Wake);
        if !self.clock.is_asleep() {
            guest = guest.min(state.timers.first(TimerClass::GuestTime));
            let awake = state.timers.first(TimerClass::AwakeTime);
            if awake != NEVER {
                guest = guest.min(self.clock.guest_of_awake(awake));
            }
        }
        Earliest { guest, wall: state.timers.first(TimerClass::HostWall) }
    }

    /// Calls the waker, without the lock, if a deadline came before what the keeper knows.
    fn deadline_changed(&self, mut state: MutexGuard<'_, State>) {
        let earliest = self.earliest(&state);
        if earliest.guest >= state.told.guest && earliest.wall >= state.told.wall {
            return;
        }
        state.told = earliest;
        self.wake(state);
    }

    fn mode_changed(&self, mut state: MutexGuard<'_, State>, changed: bool) {
        if !changed {
            return;
        }
        if self.clock.icount_shift().is_some() {
            // A hart that found counted time frozen sleeps until it is told that it goes on.
            state.told = self.earliest(&state);
            self.wake(state);
        } else {
            // What the keeper waits for now comes later than it knows, or not at all: then it looks once in vain.
            self.deadline_changed(state);
        }
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker();
        }
    }

    fn wait_idle<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let me = thread::current().id();
        while state.runner.is_some_and(|runner| runner != me) {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

impl fmt::Debug for TimerQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue").field("clock", &self.clock).finish_non_exhaustive()
    }
}

struct Running<'a>(&'a TimerQueue);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().runner = None;
        self.0.idle.notify_all();
    }
}
/// A timer of a [`TimerQueue`]; dropping it removes it. A callback of its in flight may still be running
/// then.
#[derive(Debug)]
pub struct Timer {
    queue: Arc<TimerQueue>,
    id: TimerId,
    class: TimerClass,
}

impl Timer {
    /// Arms the timer, or moves it, to `deadline_ns` on the axis of its class. A deadline that is past is due
    /// at once; `u64::MAX` never is.
    pub fn arm(&self, deadline_ns: u64) {
        let mut state = self.queue.lock();
        state.timers.arm(self.id, deadline_ns);
        self.queue.deadline_changed(state);
    }

    /// Disarms the timer. Returns whether it was armed. Does not wait for a callback in flight.
    pub fn disarm(&self) -> bool {
        self.queue.lock().timers.disarm(self.id)
    }

    /// The deadline it is armed to, in ns on the axis of its class.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.queue.lock().timers.deadline(self.id)
    }

    /// What time it is on the axis of its class, in ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.queue.now_ns(self.class)
    }

    /// The class it was added with.
    #[must_use]
    pub fn class(&self) -> TimerClass {
        self.class
    }

    /// Its name within the queue.
    #[must_use]
    pub fn id(&self) -> TimerId {
        self.id
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let entry = self.queue.lock().timers.remove(self.id);
        // Without the lock: it may be the last owner of a target that drops timers of its own.
        drop(entry);
    }
}
