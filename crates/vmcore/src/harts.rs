//! The part of each hart that others touch: its gate, its pending interrupts, its timers and its HSM state.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::{GuestClock, Timer, TimerClass, TimerQueue, TimerTarget, ns_of_tick, ticks};

use crate::park::{Gate, fence_kind, flag};

/// Bits of the interrupt-pending register `mip` (privileged specification, section 3.1.9).
pub mod mip {
    /// Supervisor software interrupt.
    pub const SSIP: u64 = 1 << 1;
    /// Machine software interrupt.
    pub const MSIP: u64 = 1 << 3;
    /// Supervisor timer interrupt.
    pub const STIP: u64 = 1 << 5;
    /// Machine timer interrupt.
    pub const MTIP: u64 = 1 << 7;
    /// Supervisor external interrupt.
    pub const SEIP: u64 = 1 << 9;
    /// Machine external interrupt.
    pub const MEIP: u64 = 1 << 11;
}

/// HSM hart states (SBI specification, section 9). The transient ones are never seen from outside here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum HsmState {
    /// Executing, or waiting in `wfi`.
    Started = 0,
    /// Not executing; may be started.
    Stopped = 1,
    /// In a retentive suspend, or the whole system is suspended.
    Suspended = 4,
}

/// Where and with what a hart starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StartParams {
    /// First pc, a physical address.
    pub pc: u64,
    /// What the hart finds in a1.
    pub opaque: u64,
}

/// The hart was not STOPPED.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotStopped;

/// The shared part of one hart.
pub struct HartShared {
    id: u32,
    gate: Gate,
    pending: AtomicU64,
    hsm: AtomicU32,
    start: Mutex<Option<StartParams>>,
    clock: Arc<GuestClock>,
    supervisor_timer: Compare,
    machine_timer: Compare,
}

/// A compare register against guest time, in ticks, with the timer that watches it.
struct Compare {
    value: AtomicU64,
    timer: Mutex<Option<Timer>>,
}

impl HartShared {
    /// The shared part of hart `id`, stopped, with nothing pending. Its timers live in `timers`.
    pub fn new(id: u32, clock: Arc<GuestClock>, timers: &Arc<TimerQueue>) -> Arc<Self> {
        let compare = || Compare { value: AtomicU64::new(u64::MAX), timer: Mutex::new(None) };
        let hart = Arc::new(Self {
            id,
            gate: Gate::new(),
            pending: AtomicU64::new(0),
            hsm: AtomicU32::new(HsmState::Stopped as u32),
            start: Mutex::new(None),
            clock,
            supervisor_timer: compare(),
            machine_timer: compare(),
        });
        for bit in [mip::STIP, mip::MTIP] {
            let target = Arc::new(CompareExpired { hart: Arc::downgrade(&hart), bit });
            let timer = timers.add(TimerClass::GuestTime, target);
            *lock(&hart.compare(bit).timer) = Some(timer);
        }
        hart
    }

    /// Hart id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where the hart's thread and everybody else meet.
    #[inline]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The pending interrupts: bits of [`mip`].
    #[inline]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::SeqCst)
    }

    /// Sets or clears pending bits from outside the hart, or by its own CSR writes; kicks the hart if one is newly set.
    pub fn set_pending(&self, bits: u64, level: bool) {
        if !level {
            self.pending.fetch_and(!bits, Ordering::SeqCst);
        } else if self.pending.fetch_or(bits, Ordering::SeqCst) & bits != bits {
            self.gate.raise(flag::IRQ);
        }
    }

    // ---- time ----

    /// The `time` CSR: guest time in ticks of [`clock::TIMEBASE_HZ`].
    #[inline]
    pub fn time(&self) -> u64 {
        ticks(self.clock.now_ns())
    }

    /// The guest clock.
    pub fn clock(&self) -> &Arc<GuestClock> {
        &self.clock
    }

    /// `stimecmp`: the supervisor timer interrupt is pending while time >= this, in ticks.
    pub fn stimecmp(&self) -> u64 {
        self.supervisor_timer.value.load(Ordering::SeqCst)
    }

    /// Writes `stimecmp` (Sstc), or does what SBI `set_timer` asks.
    pub fn set_stimecmp(&self, value: u64) {
        self.set_compare(mip::STIP, value);
    }

    /// `mtimecmp` of this hart: the machine timer interrupt is pending while time >= this, in ticks.
    pub fn mtimecmp(&self) -> u64 {
        self.machine_timer.value.load(Ordering::SeqCst)
    }

    /// Writes `mtimecmp`.
    pub fn set_mtimecmp(&self, value: u64) {
        self.set_compare(mip::MTIP, value);
    }

    fn compare(&self, bit: u64) -> &Compare {
        if bit == mip::STIP { &self.supervisor_timer } else { &self.machine_timer }
    }

    fn set_compare(&self, bit: u64, value: u64) {
        let compare = self.compare(bit);
        // The timer's lock also orders this against the timer's expiry, which judges the register again.
        let timer = lock(&compare.timer);
        compare.value.store(value, Ordering::SeqCst);
        let due = self.time() >= value;
        self.set_pending(bit, due);
        let Some(timer) = timer.as_ref() else { return };
        if due || value == u64::MAX {
            timer.disarm();
        } else {
            timer.arm(ns_of_tick(value));
        }
    }

    fn judge_compare(&self, bit: u64) {
        let compare = self.compare(bit);
        let timer = lock(&compare.timer);
        let value = compare.value.load(Ordering::SeqCst);
        if self.time() >= value {
            self.set_pending(bit, true);
        } else if let (Some(timer), true) = (timer.as_ref(), value != u64::MAX) {
            timer.arm(ns_of_tick(value));
        }
    }

    // ---- hart state management (HSM) ----

    /// The HSM state that the other harts see.
    pub fn hsm_state(&self) -> HsmState {
        match self.hsm.load(Ordering::SeqCst) {
            0 => HsmState::Started,
            1 => HsmState::Stopped,
            _ => HsmState::Suspended,
        }
    }

    /// Starts a STOPPED hart: one compare-exchange that publishes `params` with it. From here on the hart counts as
    /// STARTED, though its thread may not have executed anything yet.
    pub fn hsm_start(&self, params: StartParams) -> Result<(), NotStopped> {
        let mut slot = lock(&self.start);
        self.hsm
            .compare_exchange(
                HsmState::Stopped as u32,
                HsmState::Started as u32,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .map_err(|_| NotStopped)?;
        *slot = Some(params);
        drop(slot);
        self.gate.raise(flag::CONTROL);
        Ok(())
    }

    /// The hart has stopped itself. The last store that it makes on its way.
    pub fn hsm_stop(&self) {
        self.hsm.store(HsmState::Stopped as u32, Ordering::SeqCst);
    }

    /// The hart has entered a retentive suspend, or the system suspend.
    pub fn hsm_suspend(&self) {
        self.hsm.store(HsmState::Suspended as u32, Ordering::SeqCst);
    }

    /// The hart has left a retentive suspend.
    pub fn hsm_resume(&self) {
        self.hsm.store(HsmState::Started as u32, Ordering::SeqCst);
    }

    /// Starts the hart whatever its state: how the machine boots it, and wakes it from the system suspend.
    pub fn force_start(&self, params: StartParams) {
        let mut slot = lock(&self.start);
        *slot = Some(params);
        self.hsm.store(HsmState::Started as u32, Ordering::SeqCst);
        drop(slot);
        self.gate.raise(flag::CONTROL);
    }

    /// Takes over a saved HSM state; a start that was published for the guest before is void. The hart is parked.
    pub fn set_hsm(&self, state: HsmState) {
        let mut slot = lock(&self.start);
        *slot = None;
        self.hsm.store(state as u32, Ordering::SeqCst);
    }

    /// Takes the start that was published last, for the hart's thread to apply.
    pub fn take_start(&self) -> Option<StartParams> {
        lock(&self.start).take()
    }

    /// Power-on: stopped, nothing pending, no start published, timers disarmed.
    pub fn reset(&self) {
        *lock(&self.start) = None;
        self.hsm.store(HsmState::Stopped as u32, Ordering::SeqCst);
        for bit in [mip::STIP, mip::MTIP] {
            self.set_compare(bit, u64::MAX);
        }
        self.pending.store(0, Ordering::SeqCst);
    }
}

/// The expiry of a compare register's timer.
struct CompareExpired {
    hart: std::sync::Weak<HartShared>,
    bit: u64,
}

impl TimerTarget for CompareExpired {
    fn expired(&self) {
        if let Some(hart) = self.hart.upgrade() {
            hart.judge_compare(self.bit);
        }
    }
}

/// All harts of the machine.
#[derive(Clone)]
pub struct Harts {
    harts: Arc<[Arc<HartShared>]>,
    epoch: Arc<AtomicU64>,
}

/// How a remote fence ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FenceWait {
    /// Every target has dropped, or will have before it executes anything.
    Done,
    /// The caller is wanted elsewhere (to park, say) before its targets were done. It may be outside its gate: it must
    /// not execute anything before it has entered again.
    Interrupted,
}

impl Harts {
    /// `count` stopped harts with ids from 0.
    pub fn new(count: u32, clock: &Arc<GuestClock>, timers: &Arc<TimerQueue>) -> Self {
        let harts = (0..count).map(|id| HartShared::new(id, Arc::clone(clock), timers)).collect();
        Self { harts, epoch: Arc::new(AtomicU64::new(0)) }
    }

    /// Number of harts.
    pub fn len(&self) -> usize {
        self.harts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.harts.is_empty()
    }

    /// Hart `id`, if there is one.
    pub fn get(&self, id: u32) -> Option<&Arc<HartShared>> {
        self.harts.get(usize::try_from(id).ok()?)
    }

    /// All, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HartShared>> {
        self.harts.iter()
    }

    /// The machine's epoch: the number of resets and loads. Changes only while every hart is outside.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The machine thread publishes a new epoch, with all harts parked.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// Whether all harts but `caller` are STOPPED.
    pub fn others_stopped(&self, caller: u32) -> bool {
        self.iter().all(|hart| hart.id == caller || hart.hsm_state() == HsmState::Stopped)
    }

    /// Asks every hart but `caller` to drop its write entries of pages that have become code, and does not wait.
    pub fn drop_write_entries(&self, caller: u32) {
        for hart in self.iter().filter(|hart| hart.id != caller) {
            hart.gate.post_fence(fence_kind::WRITE_ENTRIES);
        }
    }

    /// Has `kinds` dropped at every hart and waits until that is done: each has dropped them, or is outside and will before
    /// it executes anything. The caller is no hart, and holds no lock that one may want.
    pub fn fence_all(&self, kinds: u32) {
        let posted: Vec<_> = self.iter().map(|hart| (hart, hart.gate.post_fence(kinds))).collect();
        for (hart, ticket) in posted {
            hart.gate.wait_fence(ticket);
        }
    }

    /// Has `kinds` dropped at each hart of `targets` (ids) and waits until that is done. Hart `caller` is executing and
    /// holds no lock; while it waits it counts as outside, so that two harts fencing one another get through. A fence
    /// at the caller itself is served at its next block boundary, before it executes another instruction.
    pub fn remote_fence(&self, caller: u32, targets: impl Iterator<Item = u32>, kinds: u32) -> FenceWait {
        let mut waiting: Vec<_> = targets
            .filter_map(|id| self.get(id))
            .map(|hart| (hart, hart.gate.post_fence(kinds)))
            .filter(|(hart, _)| hart.id != caller)
            .collect();
        // A target that was outside once after the post has it done, whatever it does later: it serves before it executes.
        let mut all_done = || {
            waiting.retain(|(hart, ticket)| !hart.gate.fence_done(*ticket));
            waiting.is_empty()
        };
        if all_done() {
            return FenceWait::Done;
        }
        let Some(caller) = self.get(caller) else { return FenceWait::Done };
        const ELSEWHERE: u32 = flag::PARK | flag::EXIT;
        caller.gate.leave();
        let mut turns = 0_u32;
        while !all_done() && caller.gate.flags() & ELSEWHERE == 0 {
            // A target needs one block's time, unless the host has taken its thread off: then let it run.
            turns = turns.saturating_add(1);
            if turns < 200 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if caller.gate.enter(ELSEWHERE) && all_done() { FenceWait::Done } else { FenceWait::Interrupted }
    }
}

/// A lock whose holder panicked still guards a consistent value here: each critical section is a few stores.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
