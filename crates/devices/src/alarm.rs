//! What the real-time clocks share: an alarm on a [`WallClock`], watched by a timer.

use std::sync::{Arc, Weak};

use clock::{Timer, TimerQueue, TimerTarget, WallClock, WallClockState, WallLoadError};
use vmcore::AlarmTime;

/// A wall clock with the timer that watches for one moment of it.
///
/// The timer is a hint to look again: whether the moment has come is judged by [`Alarm::reached`] alone.
pub(crate) struct Alarm {
    wall: Arc<WallClock>,
    timer: Timer,
}

impl Alarm {
    /// An alarm on `wall` that calls `target`. The timer's class follows the clock's source, so that the alarm may end a
    /// sleep with either.
    pub(crate) fn new(wall: Arc<WallClock>, timers: &Arc<TimerQueue>, target: Weak<dyn TimerTarget>) -> Self {
        let timer = timers.add_weak(wall.alarm_timer_class(), target);
        Self { wall, timer }
    }

    /// The time in ns since 1970, as the guest sees it.
    pub(crate) fn now_ns(&self) -> u64 {
        self.wall.now_ns()
    }

    /// The guest sets the time. The alarm is to be judged again.
    pub(crate) fn set_time(&self, ns: u64) {
        self.wall.set(ns);
    }

    /// Whether the clock has reached `ns`. Only a yes counts as a value handed out: after it the guest never reads an
    /// earlier time, and a no changes nothing that is saved.
    pub(crate) fn reached(&self, ns: u64) -> bool {
        let reached = self.wall.peek_ns() >= ns;
        if reached {
            self.wall.now_ns();
        }
        reached
    }

    /// Has the target called when the clock reaches `ns`.
    pub(crate) fn watch(&self, ns: u64) {
        self.timer.arm(self.wall.alarm_deadline_ns(ns));
    }

    /// When the clock reaches `ns`. Hands out no value.
    pub(crate) fn time(&self, ns: u64) -> AlarmTime {
        AlarmTime { rtc_ns: ns, left_ns: self.wall.until_ns(ns) }
    }

    /// Watches no longer.
    pub(crate) fn unwatch(&self) {
        self.timer.disarm();
    }

    pub(crate) fn save(&self) -> WallClockState {
        self.wall.save()
    }

    pub(crate) fn check(&self, saved: &WallClockState) -> Result<(), WallLoadError> {
        self.wall.check(saved)
    }

    pub(crate) fn load(&self, saved: &WallClockState) -> Result<(), WallLoadError> {
        self.wall.load(saved)
    }
}
