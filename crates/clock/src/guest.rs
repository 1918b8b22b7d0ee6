//! The guest clock: guest monotonic time, read without a lock, frozen and thawed by one owner.
//!
//! Invariants
//! * `g = frozen ? F : F0 + (host_monotonic - H0)`, in ns (lifecycle-rules 4.1). The advance between a thaw
//!   and the next freeze is exactly the host's monotonic time between the two, so the error of guest time is
//!   zero by definition.
//! * Within one timeline no reader on any thread ever sees it go back. [`GuestClock::set`] and
//!   [`GuestClock::restore`] begin a new timeline.
//! * Awake time is guest time less what was spent asleep: `awake <= g`.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::host::HostClock;
use crate::icount::{CountedSource, IcountShift};

/// "Awake" as a moment of falling asleep: never yet.
const AWAKE: u64 = u64::MAX;

/// The saved form of a [`GuestClock`].
///
/// Whether the guest is asleep belongs to the lifecycle's own saved value and is not repeated here; the owner
/// calls [`GuestClock::set_asleep`] after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestClockState {
    /// Guest monotonic time, ns.
    pub guest_ns: u64,
    /// Awake time, ns; at most `guest_ns`.
    pub awake_ns: u64,
}

/// Why a guest clock could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Only a frozen clock may be set: a live one would jump under the guest's eyes.
    #[error("the guest clock is live; it can be set only while it is frozen")]
    Live,
    /// The saved form contradicts itself.
    #[error("saved awake time {awake_ns} ns is more than saved guest time {guest_ns} ns")]
    AwakeAboveGuest {
        /// Saved guest time, ns.
        guest_ns: u64,
        /// Saved awake time, ns.
        awake_ns: u64,
    },
}

/// Why an instruction-counted clock could not jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The clock follows the host's.
    #[error("guest time follows the host's clock and cannot jump")]
    NotCounted,
    /// The machine is held, and time stands.
    #[error("the guest clock is frozen")]
    Frozen,
}

enum Source {
    Host(Arc<dyn HostClock>),
    Counted { count: CountedSource, shift: IcountShift },
}

/// Guest monotonic time and, derived from it, awake time. Shared as an `Arc`; starts frozen at 0.
///
/// Reads take no lock: the clock is a sequence lock made of atomics (lifecycle-rules 4.3). The writer reads
/// the host's clock *inside* the write section, after a full fence; a reader reads it *before* it validates
/// the sequence. So every host time that a validated reader used lies before the one that the next freeze
/// used.
///
/// **Counted time** (`-icount`): `g = (retired << shift) + bias`. Time then follows the instructions and
/// nothing else. A hart that executes on for a few instructions between the freeze and its park takes them
/// into account, because a stop must not make the same program see other times; jumps and timers are off from
/// the freeze on, and a hart whose budget is used up while the clock is frozen must wait instead of executing
/// on.
pub struct GuestClock {
    source: Source,
    /// Odd while a writer is at work.
    seq: AtomicU64,
    /// F0: guest time at `input_base`, ns.
    guest_base: AtomicU64,
    /// H0: the source's value that belongs to `guest_base`, ns.
    input_base: AtomicU64,
    /// Guest time spent asleep before now, ns.
    asleep_total: AtomicU64,
    /// Guest time at which the guest fell asleep, or `AWAKE`.
    asleep_since: AtomicU64,
    frozen: AtomicBool,
    writer: Mutex<()>,
}

/// One consistent reading of all fields.
#[derive(Clone, Copy)]
struct View {
    guest: u64,
    guest_base: u64,
    input_base: u64,
    asleep_total: u64,
    asleep_since: u64,
}

impl View {
    fn awake(&self) -> u64 {
        self.guest.min(self.asleep_since).saturating_sub(self.asleep_total)
    }
}

impl GuestClock {
    /// A clock that follows the monotonic clock of `host` while it is not frozen.
    #[must_use]
    pub fn new(host: Arc<dyn HostClock>) -> Self {
        Self::with_source(Source::Host(host))
    }

    /// A clock that follows the instructions published through `count`, each `2^shift` ns long.
    #[must_use]
    pub fn icount(count: CountedSource, shift: IcountShift) -> Self {
        let clock = Self::with_source(Source::Counted { count, shift });
        clock.input_base.store(clock.input(), Relaxed);
        clock
    }

    fn with_source(source: Source) -> Self {
        Self {
            source,
            seq: AtomicU64::new(0),
            guest_base: AtomicU64::new(0),
            input_base: AtomicU64::new(0),
            asleep_total: AtomicU64::new(0),
            asleep_since: AtomicU64::new(AWAKE),
            frozen: AtomicBool::new(true),
            writer: Mutex::new(()),
        }
    }

    /// Guest monotonic time in ns. Takes no lock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.view().guest
    }

    /// Guest time as the `time` CSR shows it, in ticks of [`TIMEBASE_HZ`](crate::TIMEBASE_HZ).
    #[must_use]
    pub fn now_ticks(&self) -> u64 {
        crate::ticks(self.now_ns())
    }

    /// Awake time in ns: guest time less what was spent asleep. Stands while the guest is asleep or held.
    /// Takes no lock.
    #[must_use]
    pub fn awake_ns(&self) -> u64 {
        self.view().awake()
    }

    /// Whether time stands because the machine is held.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(SeqCst)
    }

    /// Whether awake time stands because the guest is asleep.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep_since.load(SeqCst) != AWAKE
    }

    /// The shift of counted time; `None` when time follows the host's clock.
    #[must_use]
    pub fn icount_shift(&self) -> Option<IcountShift> {
        match self.source {
            Source::Host(_) => None,
            Source::Counted { shift, .. } => Some(shift),
        }
    }

    /// Stops time; this moment is *the* moment of the stop. Returns whether it was running.
    ///
    /// The machine's owner uses [`TimerQueue::freeze`](crate::TimerQueue::freeze), which quiesces the timers
    /// too.
    pub fn freeze(&self) -> bool {
        let write = self.write();
        if self.is_frozen() {
            return false;
        }
        write.rebase(write.guest());
        self.frozen.store(true, SeqCst);
        true
    }

    /// Lets time run on from where it stopped. Returns whether it was frozen.
    ///
    /// The machine's owner uses [`TimerQueue::thaw`](crate::TimerQueue::thaw), which starts the timers too.
    pub fn thaw(&self) -> bool {
        let write = self.write();
        if !self.is_frozen() {
            return false;
        }
        write.rebase(write.guest());
        self.frozen.store(false, SeqCst);
        true
    }

    /// Notes that the guest fell asleep or woke: awake time stands from now on, or runs on. Returns whether
    /// that changed anything. Allowed while frozen, where neither kind of time advances.
    ///
    /// The machine's owner uses [`TimerQueue::set_asleep`](crate::TimerQueue::set_asleep).
    pub fn set_asleep(&self, asleep: bool) -> bool {
        let write = self.write();
        if self.is_asleep() == asleep {
            return false;
        }
        let guest = write.guest();
        if asleep {
            // `AWAKE` itself is out of reach: the clock would have to run for 584 years.
            self.asleep_since.store(guest.min(AWAKE - 1), SeqCst);
        } else {
            let slept = guest.saturating_sub(self.asleep_since.load(Relaxed));
            let total = self.asleep_total.load(Relaxed).saturating_add(slept);
            self.asleep_total.store(total, Relaxed);
            self.asleep_since.store(AWAKE, SeqCst);
        }
        true
    }

    /// Sets guest time to `ns` and so begins a new timeline. Awake time keeps its value as far as `ns`
    /// allows.
    ///
    /// # Errors
    /// [`SetError::Live`] unless the clock is frozen.
    pub fn set(&self, ns: u64) -> Result<(), SetError> {
        let write = self.write();
        if !self.is_frozen() {
            return Err(SetError::Live);
        }
        let awake = self.locked_view(write.guest()).awake().min(ns);
        write.begin_timeline(ns, awake);
        Ok(())
    }

    /// What a load needs to go on from here.
    #[must_use]
    pub fn save(&self) -> GuestClockState {
        let view = self.view();
        GuestClockState { guest_ns: view.guest, awake_ns: view.awake() }
    }

    /// Takes over a saved clock and so begins a new timeline. Whether the guest is asleep stays as it is.
    ///
    /// # Errors
    /// [`SetError`] when the clock is live or the state contradicts itself; nothing is changed then.
    pub fn restore(&self, state: &GuestClockState) -> Result<(), SetError> {
        let GuestClockState { guest_ns, awake_ns } = *state;
        if awake_ns > guest_ns {
            return Err(SetError::AwakeAboveGuest { guest_ns, awake_ns });
        }
        let write = self.write();
        if !self.is_frozen() {
            return Err(SetError::Live);
        }
        write.begin_timeline(guest_ns, awake_ns);
        Ok(())
    }

    /// Counted time only: jumps to `ns` if that is ahead, because no hart can execute until then
    /// (lifecycle-rules 4.11). Returns whether it moved.
    /// [`TimerQueue::advance_idle`](crate::TimerQueue::advance_idle) finds the right `ns`.
    ///
    /// # Errors
    /// [`AdvanceError`] when time follows the host's clock, or is frozen.
    pub fn advance_to(&self, ns: u64) -> Result<bool, AdvanceError> {
        let write = self.write();
        if self.icount_shift().is_none() {
            return Err(AdvanceError::NotCounted);
        }
        if self.is_frozen() {
            return Err(AdvanceError::Frozen);
        }
        if ns <= write.guest() {
            return Ok(false);
        }
        write.rebase(ns);
        Ok(true)
    }

    /// Counted time only: how many instructions may retire before guest time reaches `deadline_ns`; 0 when it
    /// is past, `u64::MAX` for *never*. `None` when time follows the host's clock.
    #[must_use]
    pub fn budget_until(&self, deadline_ns: u64) -> Option<u64> {
        let shift = self.icount_shift()?;
        if deadline_ns == u64::MAX {
            return Some(u64::MAX);
        }
        Some(shift.instructions(deadline_ns.saturating_sub(self.now_ns())))
    }

    /// The host monotonic time at which guest time reaches `guest_ns` if the machine stays live. `None` when
    /// time is frozen or counted: then no host time leads there. Saturates, in the past as in the future.
    #[must_use]
    pub fn host_deadline(&self, guest_ns: u64) -> Option<u64> {
        if self.icount_shift().is_some() || self.is_frozen() {
            return None;
        }
        let view = self.view();
        Some(if guest_ns >= view.guest_base {
            view.input_base.saturating_add(guest_ns - view.guest_base)
        } else {
            view.input_base.saturating_sub(view.guest_base - guest_ns)
        })
    }

    /// The guest time at which awake time reaches `awake_ns` if the guest stays awake; `u64::MAX` stays
    /// *never*.
    #[must_use]
    pub fn guest_of_awake(&self, awake_ns: u64) -> u64 {
        let view = self.view();
        // What was slept so far, a sleep that still lasts included: right if the guest is awake from now on.
        awake_ns.saturating_add(view.guest.saturating_sub(view.awake()))
    }

    /// The source's value, ns.
    fn input(&self) -> u64 {
        match &self.source {
            Source::Host(host) => host.monotonic_ns(),
            Source::Counted { count, shift } => shift.ns(count.retired()),
        }
    }

    /// Guest time from the fields: the one place where the formula stands.
    fn guest(&self, frozen: bool, guest_base: u64, input_base: u64) -> u64 {
        if frozen && matches!(self.source, Source::Host(_)) {
            guest_base
        } else {
            // A source that goes back against its contract makes time stand, not wrap.
            guest_base.saturating_add(self.input().saturating_sub(input_base))
        }
    }

    fn locked_view(&self, guest: u64) -> View {
        View {
            guest,
            guest_base: self.guest_base.load(Relaxed),
            input_base: self.input_base.load(Relaxed),
            asleep_total: self.asleep_total.load(Relaxed),
            asleep_since: self.asleep_since.load(Relaxed),
        }
    }

    fn view(&self) -> View {
        let mut tries = 0_u32;
        loop {
            let seq = self.seq.load(Acquire);
            if seq.is_multiple_of(2) {
                let frozen = self.frozen.load(Relaxed);
                let mut view = self.locked_view(0);
                view.guest = self.guest(frozen, view.guest_base, view.input_base);
                // The source was read above: it must not slip behind the validation.
                fence(SeqCst);
                if self.seq.load(Relaxed) == seq {
                    return view;
                }
            }
            // A write section is one clock read long, unless its thread was preempted in it.
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    fn write(&self) -> WriteSection<'_> {
        let lock = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.seq.load(Relaxed);
        self.seq.store(seq.wrapping_add(1), Relaxed);
        // Odd must be seen by everyone before the source is read or a field changes.
        fence(SeqCst);
        // The section exists before the source is read: it ends even if the source panics.
        let mut section = WriteSection { clock: self, input: 0, seq, _lock: lock };
        section.input = self.input();
        section
    }
}

impl fmt::Debug for GuestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_struct("GuestClock")
            .field("guest_ns", &view.guest)
            .field("awake_ns", &view.awake())
            .field("frozen", &self.is_frozen())
            .field("asleep", &(view.asleep_since != AWAKE))
            .field("icount_shift", &self.icount_shift())
            .finish()
    }
}

/// The write side of the sequence lock; the sequence becomes even again when it is dropped, whatever
/// happened.
struct WriteSection<'a> {
    clock: &'a GuestClock,
    /// The source's value, read inside the section.
    input: u64,
    seq: u64,
    _lock: MutexGuard<'a, ()>,
}

impl WriteSection<'_> {
    /// Guest time at this section's moment.
    fn guest(&self) -> u64 {
        let clock = self.clock;
        let base = clock.guest_base.load(Relaxed);
        if clock.is_frozen() && clock.icount_shift().is_none() {
            return base;
        }
        base.saturating_add(self.input.saturating_sub(clock.input_base.load(Relaxed)))
    }

    /// Makes guest time `guest` at this section's moment.
    fn rebase(&self, guest: u64) {
        self.clock.guest_base.store(guest, Relaxed);
        self.clock.input_base.store(self.input, Relaxed);
    }

    fn begin_timeline(&self, guest: u64, awake: u64) {
        self.rebase(guest);
        self.clock.asleep_total.store(guest - awake, Relaxed);
        if self.clock.is_asleep() {
            self.clock.asleep_since.store(guest.min(AWAKE - 1), SeqCst);
        }
    }
}

impl Drop for WriteSection<'_> {
    fn drop(&mut self) {
        self.clock.seq.store(self.seq.wrapping_add(2), Release);
    }
}
