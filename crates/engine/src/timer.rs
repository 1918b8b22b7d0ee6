//! The timer thread: sleeps until the next deadline that may fire, and fires it.
//!
//! Deadlines on guest time are waited for on the host's monotonic clock. Deadlines on the host's wall clock use an
//! absolute timer that the kernel cancels when somebody sets that clock, so that they are judged again at once. No
//! polling: with nothing armed the thread sleeps for good.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clock::{HostClock, TimerQueue};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// The descriptors that the thread sleeps on.
pub(crate) struct TimerThread {
    queue: Arc<TimerQueue>,
    host: Arc<dyn HostClock>,
    bell: Arc<Bell>,
    monotonic: OwnedFd,
    realtime: OwnedFd,
    awake: Box<dyn FnMut() + Send>,
    failed: Box<dyn Fn() + Send>,
}

/// Wakes the thread.
pub(crate) struct Bell {
    event: OwnedFd,
    exit: AtomicBool,
}

impl Bell {
    /// Something has changed: look again.
    pub(crate) fn ring(&self) {
        // The counter of an eventfd is full after 2^64 - 2 rings: then it is readable anyway.
        let _ = write(&self.event, &1_u64.to_ne_bytes());
    }

    /// The thread is to end.
    pub(crate) fn exit(&self) {
        self.exit.store(true, Ordering::SeqCst);
        self.ring();
    }
}

impl TimerThread {
    /// Makes the descriptors and hooks the thread to changes of the queue and of the host's clocks. `sooner` is called
    /// too when something comes sooner than it did; `failed` when timers cannot be relied on any more. `awake` each
    /// time that the thread is.
    pub(crate) fn new(
        queue: Arc<TimerQueue>,
        host: Arc<dyn HostClock>,
        sooner: impl Fn() + Send + Sync + 'static,
        awake: impl FnMut() + Send + 'static,
        failed: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell { event, exit: AtomicBool::new(false) });
        let monotonic = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let realtime = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let (one, other) = (Arc::clone(&bell), Arc::clone(&bell));
        queue.set_waker(Arc::new(move || {
            one.ring();
            sooner();
        }));
        host.on_change(Arc::new(move || other.ring()));
        Ok(Self { queue, host, bell, monotonic, realtime, awake: Box::new(awake), failed: Box::new(failed) })
    }

    /// The means to wake and end the thread.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// The thread's body.
    pub(crate) fn run(mut self) {
        while !self.bell.exit.load(Ordering::SeqCst) {
            // The panic hook has said what happened in whose callback. The guest cannot be trusted any more, but what
            // comes after its reset can.
            if catch_unwind(AssertUnwindSafe(|| self.queue.run_due())).is_err() {
                (self.failed)();
            }
            (self.awake)();
            if let Err(error) = self.sleep() {
                tracing::error!(%error, "the timer thread cannot wait for its next deadline");
                (self.failed)();
                return;
            }
        }
    }

    fn sleep(&self) -> Result<(), Errno> {
        let next = self.queue.next();
        let relative = next
            .monotonic_deadline_ns
            // Zero would disarm the descriptor: a deadline that is due fires one nanosecond from now.
            .map(|deadline| deadline.saturating_sub(self.host.monotonic_ns()).max(1));
        timerfd_settime(&self.monotonic, TimerfdTimerFlags::empty(), &once(relative))?;
        let absolute = next.realtime_deadline_ns.map(|deadline| self.host.os_realtime_ns(deadline).max(1));
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.realtime, flags, &once(absolute)) {
            // The clock was set since the last time; the timer is armed all the same (timerfd_settime(2)).
            Ok(_) | Err(Errno::CANCELED) => {}
            Err(error) => return Err(error),
        }
        let mut fds =
            [&self.bell.event, &self.monotonic, &self.realtime].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for fd in [&self.bell.event, &self.monotonic, &self.realtime] {
            // Only to make it unreadable again; nothing to read and "the clock was set" are both fine.
            let _ = read(fd, &mut [0_u8; 8]);
        }
        Ok(())
    }
}

fn once(ns: Option<u64>) -> Itimerspec {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ns = ns.unwrap_or(0);
    let tv_sec = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    // Below a thousand million, so it fits any integer type that the field has.
    let tv_nsec = (ns % 1_000_000_000) as _;
    Itimerspec { it_interval: zero, it_value: Timespec { tv_sec, tv_nsec } }
}
