//! The host's clocks, passed in.
//!
//! Nothing else in the workspace reads a host clock, so a test decides what time it is and no test sleeps.
//!
//! Host monotonic time is `CLOCK_MONOTONIC`: it does not count while the host itself is suspended. A sleeping
//! host is therefore a pause of the guest that nobody ordered, without STOP (lifecycle-rules 4.5).

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

/// A function called when something has changed; it must only post or kick, never block.
pub type Hook = Arc<dyn Fn() + Send + Sync>;

/// The host's clocks as the rest of the program sees them.
pub trait HostClock: Send + Sync {
    /// Host monotonic time in ns since an arbitrary moment that is fixed for the life of the process. Never
    /// goes back, on any thread.
    fn monotonic_ns(&self) -> u64;

    /// Host wall time in ns since 1970-01-01T00:00:00Z (saturating at 0 and at `u64::MAX`, the year 2554).
    /// May be stepped forward and back at any moment.
    fn realtime_ns(&self) -> u64;

    /// What the operating system's `CLOCK_REALTIME` shows when this clock's
    /// [`realtime_ns`](Self::realtime_ns) shows `at_ns`. Differs from `at_ns` only for clocks that are moved;
    /// for arming an absolute timer of the operating system.
    fn os_realtime_ns(&self, at_ns: u64) -> u64 {
        at_ns
    }

    /// Asks to be called after every jump that this clock itself makes. The system's clocks make none that
    /// they know of (the operating system cancels absolute timers when its wall clock is set), hence nothing
    /// to do by default.
    fn on_change(&self, hook: Hook) {
        drop(hook);
    }
}

impl<T: HostClock + ?Sized> HostClock for Arc<T> {
    fn monotonic_ns(&self) -> u64 {
        (**self).monotonic_ns()
    }
    fn realtime_ns(&self) -> u64 {
        (**self).realtime_ns()
    }
    fn os_realtime_ns(&self, at_ns: u64) -> u64 {
        (**self).os_realtime_ns(at_ns)
    }
    fn on_change(&self, hook: Hook) {
        (**self).on_change(hook);
    }
}

/// The operating system's clocks: `CLOCK_MONOTONIC` (`std::time::Instant`) and `CLOCK_REALTIME`
/// (`std::time::SystemTime`).
///
/// Monotonic values count from the first use in this process, the same moment for every instance. They are
/// not the kernel's raw values: arm a timer with the time that is left, which is exact, as both are the same
/// clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl HostClock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let origin = *ORIGIN.get_or_init(Instant::now);
        u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn realtime_ns(&self) -> u64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            Err(_before_1970) => 0,
        }
    }
}

/// Hooks of a clock that can be moved.
#[derive(Default)]
struct Hooks(Mutex<Vec<Hook>>);

impl Hooks {
    fn add(&self, hook: Hook) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Calls every hook without the lock, so that a hook may read or even move the clock.
    fn call(&self) {
        let hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in hooks {
            hook();
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

#[derive(Debug, Default)]
struct TestInner {
    monotonic: AtomicU64,
    realtime: AtomicU64,
    hooks: Hooks,
}

/// A host clock that stands until a test moves it. Clones share the same time.
#[derive(Clone, Debug, Default)]
pub struct TestClock(Arc<TestInner>);

impl TestClock {
    /// A clock showing `monotonic_ns` and, as wall time, `realtime_ns`.
    #[must_use]
    pub fn new(monotonic_ns: u64, realtime_ns: u64) -> Self {
        let clock = Self::default();
        clock.0.monotonic.store(monotonic_ns, SeqCst);
        clock.0.realtime.store(realtime_ns, SeqCst);
        clock
    }

    /// Lets `ns` pass on both clocks. Saturates.
    pub fn advance(&self, ns: u64) {
        add(&self.0.monotonic, ns);
        add(&self.0.realtime, ns);
        self.0.hooks.call();
    }

    /// Lets `ns` pass on the monotonic clock alone. Saturates.
    pub fn advance_monotonic(&self, ns: u64) {
        add(&self.0.monotonic, ns);
        self.0.hooks.call();
    }

    /// Sets the monotonic clock, unless it shows more already: it never goes back.
    pub fn set_monotonic(&self, ns: u64) {
        self.0.monotonic.fetch_max(ns, SeqCst);
        self.0.hooks.call();
    }

    /// Sets the wall clock, forward or back.
    pub fn set_realtime(&self, ns: u64) {
        self.0.realtime.store(ns, SeqCst);
        self.0.hooks.call();
    }

    /// Steps the wall clock by `ns`, forward or back. Saturates.
    pub fn step_realtime(&self, ns: i64) {
        update(&self.0.realtime, |now| now.saturating_add_signed(ns));
        self.0.hooks.call();
    }
}

impl HostClock for TestClock {
    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic.load(SeqCst)
    }
    fn realtime_ns(&self) -> u64 {
        self.0.realtime.load(SeqCst)
    }
    fn on_change(&self, hook: Hook) {
        self.0.hooks.add(hook);
    }
}

fn add(cell: &AtomicU64, ns: u64) {
    update(cell, |now| now.saturating_add(ns));
}

fn update(cell: &AtomicU64, f: impl Fn(u64) -> u64) {
    // The closure never declines, so there is no failure to look at.
    let _ = cell.fetch_update(SeqCst, SeqCst, |now| Some(f(now)));
}

/// Another host clock plus two offsets that can be moved while the machine runs: the clock behind
/// `-x-test-clock`, with which a test outside the process makes ten seconds pass, or sets the host's wall
/// clock, without waiting.
///
/// The monotonic offset only grows, so monotonic time never goes back. Each move raises the
/// [`generation`](Self::generation) and then calls the hooks, so that a timer thread looks at its deadlines
/// again.
#[derive(Debug)]
pub struct ShiftedClock<C = SystemClock> {
    inner: C,
    monotonic: AtomicI64,
    realtime: AtomicI64,
    generation: AtomicU64,
    hooks: Hooks,
}

impl ShiftedClock<SystemClock> {
    /// The system's clocks with both offsets at zero.
    #[must_use]
    pub fn system() -> Self {
        Self::new(SystemClock)
    }
}

impl<C: HostClock> ShiftedClock<C> {
    /// `inner` with both offsets at zero.
    #[must_use]
    pub fn new(inner: C) -> Self {
        Self {
            inner,
            monotonic: AtomicI64::new(0),
            realtime: AtomicI64::new(0),
            generation: AtomicU64::new(0),
            hooks: Hooks::default(),
        }
    }

    /// Lets `ns` pass at once on both clocks, as if the process had slept so long. Each offset saturates at
    /// `i64::MAX`.
    pub fn advance(&self, ns: u64) {
        self.grow_monotonic(ns);
        self.step(i64::try_from(ns).unwrap_or(i64::MAX));
        self.changed();
    }

    /// Lets `ns` pass at once on the monotonic clock alone. The offset saturates at `i64::MAX`.
    pub fn advance_monotonic(&self, ns: u64) {
        self.grow_monotonic(ns);
        self.changed();
    }

    /// Steps the wall clock by `ns`, forward or back. The offset saturates.
    pub fn step_realtime(&self, ns: i64) {
        self.step(ns);
        self.changed();
    }

    /// Sets the wall clock's distance from the inner one.
    pub fn set_realtime_offset(&self, ns: i64) {
        self.realtime.store(ns, SeqCst);
        self.changed();
    }

    /// The monotonic offset in ns, never negative.
    #[must_use]
    pub fn monotonic_offset(&self) -> i64 {
        self.monotonic.load(SeqCst)
    }

    /// The wall clock's offset in ns.
    #[must_use]
    pub fn realtime_offset(&self) -> i64 {
        self.realtime.load(SeqCst)
    }

    /// How many times the offsets have been moved.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    fn grow_monotonic(&self, ns: u64) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        let _ = self.monotonic.fetch_update(SeqCst, SeqCst, |now| Some(now.saturating_add(ns)));
    }

    fn step(&self, ns: i64) {
        let _ = self.realtime.fetch_update(SeqCst, SeqCst, |now| Some(now.saturating_add(ns)));
    }

    fn changed(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.hooks.call();
    }
}

impl<C: HostClock> HostClock for ShiftedClock<C> {
    fn monotonic_ns(&self) -> u64 {
        // Both parts only grow and are read one after the other, so a later read is never smaller.
        self.inner.monotonic_ns().saturating_add_signed(self.monotonic_offset())
    }
    fn realtime_ns(&self) -> u64 {
        self.inner.realtime_ns().saturating_add_signed(self.realtime_offset())
    }
    fn os_realtime_ns(&self, at_ns: u64) -> u64 {
        let offset = self.realtime_offset();
        let shifted = if offset >= 0 {
            at_ns.saturating_sub(offset.unsigned_abs())
        } else {
            at_ns.saturating_add(offset.unsigned_abs())
        };
        self.inner.os_realtime_ns(shifted)
    }
    fn on_change(&self, hook: Hook) {
        self.hooks.add(hook);
    }
}
