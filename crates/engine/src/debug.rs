//! What a debugger asks of the machine (lifecycle rules 2.3): one at a time, each request through the machine thread.
//!
//! ```text
//!   Debugger ── attach, resume, detach ──► Lifecycle (holds, effects)
//!            ── hart, set_points ────────► harts, while they are parked
//!   hart ──── DebugStop (breakpoint, watchpoint, end of a step) ──► hold of the debugger, STOP
//! ```
//!
//! Invariants:
//! * a hart is looked at only while the machine is held;
//! * a step that was asked for ends with the next stop, whatever caused it;
//! * the stop of one hart is told; others that have met a point at the same time meet it again when they go on;
//! * without a debugger no hart has points, and a stop that one has still posted does nothing.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use runstate::{GuestRequest, ManagementRequest, Owner, Refusal, RunState};
use vmcore::park::{fence_kind, flag};
use vmcore::{DebugHit, Point, Space, Vcpu};

use crate::hart::Stepping;
use crate::machine::MachineThread;
use crate::queue::Reply;
use crate::record::By;
use crate::{Engine, ManageError};

/// How the machine goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resume {
    /// As `cont`: all harts.
    All,
    /// This hart alone, for one instruction.
    Step(u32),
    /// This hart alone, until something stops it.
    One(u32),
}

/// The last stop that a hart has caused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DebugStop {
    /// Hart id.
    pub hart: u32,
    /// What it met.
    pub hit: DebugHit,
}

/// The machine as its debugger sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DebugStatus {
    /// Nothing holds the machine, though the guest may be asleep.
    pub live: bool,
    /// The QMP run state.
    pub state: RunState,
    /// What has stopped it, if that was a hart and it has not gone on since.
    pub stop: Option<DebugStop>,
}

/// Why a hart cannot be looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DebugError {
    /// The machine runs.
    #[error("the machine is running")]
    Running,
    /// There is no such hart.
    #[error("there is no hart {0}")]
    NoHart(u32),
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
}

/// The machine thread's part.
#[derive(Default)]
pub(crate) struct DebugState {
    /// There is a debugger, or one is on its way out.
    attached: bool,
    /// It is told what harts meet.
    listens: bool,
    stop: Option<DebugStop>,
    /// The hart that is to stop after one instruction.
    armed: Option<u32>,
}

/// The one who debugs the machine. Dropping it is a lost connection: its points and its hold go, nobody else's.
pub struct Debugger {
    engine: Engine,
    attached: bool,
}

impl Engine {
    /// Becomes the machine's debugger and stops it, which may be refused: then the machine goes on, watched. `None`:
    /// there is a debugger already, or the machine has ended.
    pub fn debug(&self) -> Option<(Debugger, Result<(), Refusal>)> {
        let free = self.on_machine(|machine| {
            let free = !machine.debug.attached;
            machine.debug.attached = true;
            machine.debug.listens |= free;
            free
        })?;
        if !free {
            return None;
        }
        let debugger = Debugger { engine: self.clone(), attached: true };
        match debugger.interrupt() {
            Ok(()) => Some((debugger, Ok(()))),
            Err(ManageError::Refused(refusal)) => Some((debugger, Err(refusal))),
            Err(_) => None,
        }
    }

    /// Has the machine thread call `ask`, and waits for it; `None` once the machine has ended.
    pub(crate) fn on_machine<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut MachineThread) -> T + Send + 'static,
    ) -> Option<T> {
        self.inner.sender.on_machine(ask)
    }
}

impl Debugger {
    /// Stops the machine, as `stop` does.
    pub fn interrupt(&self) -> Result<(), ManageError> {
        self.engine.manage_by(By::Debugger, ManagementRequest::DebugInterrupt)
    }

    /// Lets the machine go on. A machine that runs already is stopped first where one hart is to go on alone.
    pub fn resume(&self, resume: Resume) -> Result<(), ManageError> {
        let (Resume::Step(hart) | Resume::One(hart)) = resume else {
            return self.engine.manage_by(By::Debugger, ManagementRequest::DebugContinue);
        };
        let step = matches!(resume, Resume::Step(_));
        // Others may let it go on again in between.
        while !self.ask(move |machine, reply| machine.debug_one(hart, step, reply))? {
            self.interrupt()?;
        }
        Ok(())
    }

    /// Ends debugging: points go, and the machine goes on. A refusal to do so ends it all the same.
    pub fn detach(mut self) -> Result<(), ManageError> {
        self.attached = false;
        // First of all, or what a hart has met already would stop the machine once more.
        self.engine.on_machine(MachineThread::stop_listening).ok_or(ManageError::Ended)?;
        let detached = self.engine.manage_by(By::Debugger, ManagementRequest::DebugDetach);
        self.forget(detached.is_err());
        detached
    }

    /// Nobody is there any more; with `lost`, nor anybody to lift the debugger's hold.
    fn forget(&self, lost: bool) {
        if lost {
            // Refused only if the machine ends, and then there is no hold to lift.
            let _ = self.engine.manage_by(By::Debugger, ManagementRequest::DebugLost);
        }
        let _ = self.engine.on_machine(|machine| machine.debug.attached = false);
    }

    /// How the machine is.
    pub fn status(&self) -> Result<DebugStatus, DebugError> {
        self.engine.on_machine(|machine| machine.debug_status()).ok_or(DebugError::Ended)
    }

    /// Looks at hart `hart` of a machine that is held.
    pub fn hart<T: Send + 'static>(
        &self,
        hart: u32,
        look: impl FnOnce(&mut dyn Vcpu) -> T + Send + 'static,
    ) -> Result<T, DebugError> {
        let looked = self.engine.on_machine(move |machine| {
            if machine.lifecycle.is_live() {
                return Err(DebugError::Running);
            }
            machine.look_at(hart, |slot| look(slot.vcpu.as_mut())).ok_or(DebugError::NoHart(hart))
        });
        looked.unwrap_or(Err(DebugError::Ended))
    }

    /// Writes guest memory as hart `hart` sees it; gives how many bytes could be written. All harts fetch anew after it.
    pub fn write_memory(
        &self,
        hart: u32,
        space: Space,
        addr: u64,
        bytes: Vec<u8>,
    ) -> Result<usize, DebugError> {
        let written = self.hart(hart, move |vcpu| vcpu.write_memory(space, addr, &bytes))?;
        self.engine
            .on_machine(|machine| {
                for hart in machine.machine.harts().iter() {
                    hart.gate().post_fence(fence_kind::INSTRUCTION);
                }
            })
            .ok_or(DebugError::Ended)?;
        Ok(written)
    }

    /// From now on every hart stops at these points and no others, also after a reset.
    pub fn set_points(&self, points: Vec<Point>) -> Result<(), DebugError> {
        self.engine.on_machine(move |machine| machine.set_points(points.into())).ok_or(DebugError::Ended)
    }

    /// Has the machine thread call `ask`, which gives the reply on or says no, and waits for the answer.
    fn ask(
        &self,
        ask: impl FnOnce(&mut MachineThread, Reply) -> bool + Send + 'static,
    ) -> Result<bool, ManageError> {
        let (reply, answer) = sync_channel(1);
        let accepted = self.engine.on_machine(move |machine| ask(machine, reply));
        match accepted {
            Some(true) => answer.recv().unwrap_or(Err(ManageError::Ended)).map(|()| true),
            Some(false) => Ok(false),
            None => Err(ManageError::Ended),
        }
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        if self.attached {
            let _ = self.engine.on_machine(MachineThread::stop_listening);
            self.forget(true);
        }
    }
}

impl MachineThread {
    fn debug_status(&self) -> DebugStatus {
        DebugStatus { live: self.lifecycle.is_live(), state: self.lifecycle.view(), stop: self.debug.stop }
    }

    /// Lets hart `hart` go on alone, for one instruction if `step`. `false`: the machine has to be stopped first.
    fn debug_one(&mut self, hart: u32, step: bool, reply: Reply) -> bool {
        if self.lifecycle.is_live() {
            return false;
        }
        if step {
            self.look_at(hart, |slot| slot.step = Stepping::Wanted);
            self.debug.armed = Some(hart);
            if let Some(hart) = self.hart(hart) {
                // It may sleep in `wfi`, which the step ends.
                hart.shared.gate().raise(flag::CONTROL);
            }
        }
        self.manage(ManagementRequest::DebugStep { hart }, By::Debugger, reply);
        if !self.lifecycle.is_live() && !self.awaits_worker() {
            // Refused.
            self.disarm();
        }
        true
    }

    /// A step that was asked for is not to happen any more. Its hart is parked.
    pub(crate) fn disarm(&mut self) {
        if let Some(hart) = self.debug.armed.take().and_then(|hart| self.hart(hart)) {
            hart.slot().step = Stepping::No;
        }
    }

    /// Harts go on: what stopped them is past.
    pub(crate) fn forget_stop(&mut self) {
        self.debug.stop = None;
    }

    /// Nobody is told any more what harts meet.
    fn stop_listening(&mut self) {
        self.debug.listens = false;
        self.debug.stop = None;
        self.set_points(Arc::new([]));
    }

    fn set_points(&self, points: Arc<[Point]>) {
        for hart in self.machine.harts().iter() {
            let points = Arc::clone(&points);
            self.look_at(hart.id(), |slot| slot.vcpu.set_points(points));
        }
    }

    /// A hart has met a point or ended its step, and executes nothing until it has been seen to.
    pub(crate) fn debug_stop(&mut self, id: u32, epoch: u64) {
        // A hart that was reset meanwhile has forgotten it.
        let Some(hart) = self.hart(id).filter(|_| epoch == self.lifecycle.epoch()).map(Arc::clone) else {
            return;
        };
        // It stays there until the harts are parked: without it this one would execute on.
        let hit = hart.slot().hit;
        let news = self.debug.listens && !self.lifecycle.holds().has(Owner::Debugger);
        if let (true, Some(hit)) = (news, hit) {
            match self.apply(GuestRequest::DebugStop.at(epoch)) {
                Ok(false) => {
                    self.debug.stop = Some(DebugStop { hart: id, hit });
                    hart.slot().vcpu.pass_breakpoint();
                }
                Ok(true) => {}
                Err(refusal) => tracing::debug!(%refusal, "a hart's stop for the debugger was refused"),
            }
        }
        hart.slot().hit = None;
        hart.shared.gate().raise(flag::CONTROL);
    }
}
