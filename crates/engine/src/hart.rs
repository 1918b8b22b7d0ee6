//! A hart's thread: executes while it may, sleeps outside its gate otherwise, and posts what the guest asks.
//!
//! ```text
//!             ┌──────────── start, wake ────────────┐
//!             ▼                                     │
//!   Runs ── wfi ──► Waits ── interrupt ──► Runs     │
//!     │                                             │
//!     ├── hart_stop ─────────────► Stopped ─────────┤
//!     └── request to the machine ► AwaitsAnswer ── taken up ──► Rests ── answer, start, wake ──► Runs
//! ```
//!
//! The thread holds the lock of its [`Slot`] while it executes and for the moments between; whoever has parked it may
//! take the lock. It posts a request only after it has let go of the lock (lifecycle rule: no thread waits for the
//! machine thread while it holds one; posting does not even wait).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::{CountedSource, TimerQueue};
use ram::Ram;
use runstate::{Fault, GuestRequest};
use vmcore::park::flag;
use vmcore::{DebugHit, Exit, HartShared, Harts, HsmState, SbiReturn, Vcpu};

use crate::lost;
use crate::metrics::Exits;
use crate::queue::Sender;
use crate::record::Failure;

/// What a hart's thread is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Doing {
    /// STOPPED, or broken: nothing until it is started or reset.
    Stopped,
    /// Executes.
    Runs,
    /// In `wfi` or a retentive suspend.
    Waits,
    /// Has posted a request that is not handled yet. `ecall`: the pc stands on the `ecall` that the answer retires.
    AwaitsAnswer {
        /// Whether there is an `ecall` to retire.
        ecall: bool,
    },
    /// The machine thread has taken its request up. It stays so where there is no answer: the guest sleeps, is off, or is
    /// about to be reset.
    Rests {
        /// As of the request.
        ecall: bool,
    },
}

/// The hart itself, guarded.
pub(crate) struct Slot {
    pub(crate) vcpu: Box<dyn Vcpu>,
    pub(crate) doing: Doing,
    pub(crate) step: Stepping,
    /// Met a point of the debugger's, or ended a step: the machine thread is told, and nothing is done until it takes this.
    pub(crate) hit: Option<DebugHit>,
}

/// Whether the hart stops after one instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stepping {
    /// It does not.
    No,
    /// It does, and has not executed it yet.
    Wanted,
    /// It has, but what that instruction asked for came first.
    Done,
}

impl Slot {
    /// Power-on: whatever the hart was about is over.
    pub(crate) fn reset(&mut self) {
        self.vcpu.reset();
        self.doing = Doing::Stopped;
        self.forget_debugger();
    }

    /// What the debugger wanted of the guest before is over. Its points stay.
    pub(crate) fn forget_debugger(&mut self) {
        self.step = Stepping::No;
        self.hit = None;
    }

    /// Starts the hart if that was asked since the last look. Whoever looks at a parked hart does this first: the hart
    /// may have been started while it was parked, and its thread has not seen it.
    pub(crate) fn apply_start(&mut self, shared: &HartShared) {
        if let Some(params) = shared.take_start() {
            self.vcpu.start_supervisor(params);
            self.doing = Doing::Runs;
        }
    }
}

/// One hart as the engine knows it.
pub(crate) struct Hart {
    pub(crate) shared: Arc<HartShared>,
    slot: Mutex<Slot>,
    /// Host thread id, 0 before the thread has begun; for `query-cpus-fast`.
    pub(crate) thread_id: AtomicI32,
    /// The thread is to panic, for a test.
    pub(crate) fails: AtomicBool,
    /// Returns from guest execution, for statistics.
    pub(crate) exits: Exits,
    /// Instructions retired, as of the last return.
    pub(crate) retired: AtomicU64,
}

impl Hart {
    pub(crate) fn new(shared: Arc<HartShared>, vcpu: Box<dyn Vcpu>) -> Arc<Self> {
        let slot = Slot { vcpu, doing: Doing::Stopped, step: Stepping::No, hit: None };
        let slot = Mutex::new(slot);
        Arc::new(Self {
            shared,
            slot,
            thread_id: AtomicI32::new(0),
            fails: AtomicBool::new(false),
            exits: Exits::default(),
            retired: AtomicU64::new(0),
        })
    }

    /// The hart, for one who has parked it or knows that it awaits an answer.
    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that the hart has posted is taken up.
    pub(crate) fn rest(&self) {
        let mut slot = self.slot();
        if let Doing::AwaitsAnswer { ecall } = slot.doing {
            slot.doing = Doing::Rests { ecall };
        }
    }

    /// Lets the hart go on after the request that was taken up. Does nothing if it does not wait for that (it was reset
    /// meanwhile).
    pub(crate) fn answer(&self, result: SbiReturn) {
        let mut slot = self.slot();
        let Doing::Rests { ecall } = slot.doing else { return };
        if ecall {
            slot.vcpu.answer(result);
        }
        slot.doing = Doing::Runs;
        drop(slot);
        self.shared.gate().raise(flag::CONTROL);
    }
}

/// How instructions are counted when time is made of them (`-icount`).
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) source: CountedSource,
    pub(crate) timers: Arc<TimerQueue>,
}

/// What a hart's thread needs.
pub(crate) struct HartThread {
    pub(crate) hart: Arc<Hart>,
    pub(crate) harts: Harts,
    pub(crate) queue: Sender,
    pub(crate) counted: Option<Counted>,
    pub(crate) ram: Option<Arc<Ram>>,
}

/// What the thread does next, decided under the slot's lock.
enum Next {
    /// Look again.
    Again,
    /// Sleep until one of these flags is raised.
    Sleep(u32),
    /// Post a request that the guest made in this epoch.
    Post(u64, GuestRequest),
    /// The hart cannot go on since this epoch, and why.
    Broken(u64, Failure),
    /// No instruction can be executed: counted time jumps to what comes next.
    Idle,
}

/// Flags that keep a hart from going in. An interrupt or a fence it serves itself, at its first block boundary.
const BLOCKING: u32 = flag::PARK | flag::CONTROL | flag::EXIT | flag::REST;

impl HartThread {
    /// The thread's body: returns when the machine ends.
    pub(crate) fn run(self) {
        sys::memory::answer_for_own_errors();
        loop {
            let gate = self.hart.shared.gate();
            let flags = gate.flags();
            if flags & flag::EXIT != 0 {
                return;
            }
            if flags & flag::PARK != 0 {
                gate.wait_cleared(flag::PARK, flag::EXIT);
                continue;
            }
            if flags & flag::REST != 0 {
                gate.wait_cleared(flag::REST, flag::EXIT);
                continue;
            }
            gate.take(flag::CONTROL);
            match self.look() {
                Next::Again => {}
                Next::Sleep(mask) => gate.wait_raised(mask | flag::CONTROL | flag::EXIT),
                Next::Post(epoch, request) => self.queue.post_guest(self.hart.shared.id(), epoch, request),
                Next::Broken(epoch, failure) => self.queue.post_failure(epoch, failure),
                Next::Idle => self.idle(),
            }
        }
    }

    /// One step under the slot's lock. A panic in it breaks the hart and nothing else: the panic hook has said what
    /// happened, and nothing of this hart is trusted until it is reset.
    fn look(&self) -> Next {
        let mut slot = self.hart.slot();
        let step = catch_unwind(AssertUnwindSafe(|| {
            assert!(!self.hart.fails.swap(false, Ordering::SeqCst), "a test has asked for this");
            self.step(&mut slot)
        }));
        step.unwrap_or_else(|_panic| {
            // Before it is outside: see `execute`.
            let epoch = self.harts.epoch();
            self.hart.shared.gate().leave();
            self.broken(&mut slot, epoch, Fault::HartThread { hart: self.hart.shared.id() }.into())
        })
    }

    /// Nothing more is done with this hart until it is reset.
    fn broken(&self, slot: &mut Slot, epoch: u64, failure: Failure) -> Next {
        slot.doing = Doing::Stopped;
        slot.step = Stepping::No;
        Next::Broken(epoch, failure)
    }

    /// What this thread has found lost of the guest's memory since it last asked.
    fn take_own_lost(&self) -> Option<Failure> {
        lost::take_own(self.ram.as_ref()?, Some(self.hart.shared.id()))
    }

    fn step(&self, slot: &mut Slot) -> Next {
        let shared = &self.hart.shared;
        // Where time is counted, timers fire on this thread.
        if let Some(failure) = self.take_own_lost() {
            return self.broken(slot, self.harts.epoch(), failure);
        }
        slot.apply_start(shared);
        if slot.hit.is_some() {
            return Next::Sleep(0);
        }
        if slot.step == Stepping::Done
            && !matches!(slot.doing, Doing::AwaitsAnswer { .. } | Doing::Rests { .. })
        {
            return self.stop_for_debugger(slot, DebugHit::Step);
        }
        match slot.doing {
            // The hart may go on from `wfi` whenever it likes (privileged specification, 3.3.3), so a step always ends.
            Doing::Waits if slot.step == Stepping::Wanted && shared.hsm_state() == HsmState::Started => {
                slot.doing = Doing::Runs;
                Next::Again
            }
            Doing::Runs => self.execute(slot),
            Doing::Waits => {
                shared.gate().take(flag::IRQ);
                if slot.vcpu.interrupt_pending() {
                    if shared.hsm_state() == HsmState::Suspended {
                        shared.hsm_resume();
                    }
                    slot.doing = Doing::Runs;
                    return Next::Again;
                }
                if self.counted.is_some() { Next::Idle } else { Next::Sleep(flag::IRQ) }
            }
            // The only hart has stopped itself: counted time goes on all the same, or no watchdog would ever bite.
            Doing::Stopped if self.counted.is_some() && self.harts.len() == 1 => {
                shared.gate().take(flag::IRQ);
                Next::Idle
            }
            Doing::Stopped | Doing::AwaitsAnswer { .. } | Doing::Rests { .. } => Next::Sleep(0),
        }
    }

    fn execute(&self, slot: &mut Slot) -> Next {
        let shared = &self.hart.shared;
        if self.counted.as_ref().is_some_and(|counted| counted.timers.clock().is_frozen()) {
            // Counted time: what is due now fires only after the thaw, so nothing may be executed before. The park that
            // follows every freeze is on its way. Should it be over before this thread sleeps, then the thaw, which
            // always raises CONTROL, wakes it.
            return Next::Sleep(flag::PARK);
        }
        if !shared.gate().enter(BLOCKING) {
            return Next::Again;
        }
        let limit = self.limit(slot);
        let alone = slot.step == Stepping::Wanted;
        let exit = if alone { slot.vcpu.step() } else { slot.vcpu.run(limit) };
        // Read before the hart is outside, because from then on the machine may be reset: what the guest asks now must
        // not pass for a request of the guest that comes after.
        let epoch = self.harts.epoch();
        if let Some(counted) = &self.counted {
            counted.source.publish(slot.vcpu.retired());
        }
        self.hart.retired.store(slot.vcpu.retired(), Ordering::Relaxed);
        self.hart.exits.count(&exit);
        let lost = match exit {
            Exit::MemoryLost => Some(lost::content(self.ram.as_ref(), shared.id())),
            _ => self.take_own_lost(),
        };
        shared.gate().leave();
        if let Some(failure) = lost {
            // Whatever made the hart leave: it may have seen zeros that the guest did not write.
            return self.broken(slot, epoch, failure);
        }
        if alone && !matches!(exit, Exit::Signal | Exit::Limit) {
            slot.step = Stepping::Done;
        }
        match exit {
            Exit::Debug(hit) => {
                slot.hit = Some(hit);
                slot.step = Stepping::No;
                Next::Post(epoch, GuestRequest::DebugStop)
            }
            // The second is dealt with above.
            Exit::Signal | Exit::MemoryLost => Next::Again,
            Exit::Limit => {
                self.run_due();
                Next::Again
            }
            Exit::Wait => {
                slot.doing = Doing::Waits;
                Next::Again
            }
            Exit::Stopped => {
                slot.doing = Doing::Stopped;
                Next::Again
            }
            Exit::Request { request, ecall } => {
                slot.doing = Doing::AwaitsAnswer { ecall };
                Next::Post(epoch, request)
            }
        }
    }

    /// Outside: the hart has ended its step some time ago.
    fn stop_for_debugger(&self, slot: &mut Slot, hit: DebugHit) -> Next {
        slot.hit = Some(hit);
        slot.step = Stepping::No;
        Next::Post(self.harts.epoch(), GuestRequest::DebugStop)
    }

    /// How many instructions the hart may have retired when it has to look at the time again.
    fn limit(&self, slot: &Slot) -> u64 {
        let Some(counted) = &self.counted else { return u64::MAX };
        // From here on the queue calls its waker for whatever comes sooner than what it says now.
        counted.timers.next();
        // First of all `next`, which says that this much is known: whatever is armed to come sooner raises CONTROL.
        counted.timers.next();
        let Some(deadline) = counted.timers.next_guest_ns() else { return u64::MAX };
        let budget = counted.timers.clock().budget_until(deadline).unwrap_or(u64::MAX);
        slot.vcpu.retired().saturating_add(budget.max(1))
    }

    fn run_due(&self) {
        if let Some(counted) = &self.counted {
            counted.timers.run_due();
        }
    }

    /// The hart waits and time is counted: it jumps to the next deadline, or, if there is none, the hart sleeps.
    fn idle(&self) {
        let Some(counted) = &self.counted else { return };
        // As in `limit`: what is armed from here on raises CONTROL.
        counted.timers.next();
        if counted.timers.advance_idle(None).is_none() {
            self.hart.shared.gate().wait_raised(flag::IRQ | flag::CONTROL | flag::PARK | flag::EXIT);
        }
        counted.timers.run_due();
    }
}
