//! What the debugger does (lifecycle rules 2.3). Interrupting is `stop` with another owner.

use super::steps::Step;
use crate::hold::HoldKind;
use crate::job::{Lift, Takes};
use crate::{Hold, Owner, Refusal};

impl Step {
    /// Continue and detach: exactly `cont`, except that a machine which waits for a guest is not told to start it.
    pub(super) fn debug_continue(&mut self) -> Result<(), Refusal> {
        if self.value.holds.has(Owner::Incoming) {
            self.may_continue()?;
            self.debug_lost();
            return Ok(());
        }
        self.cont()
    }

    /// Step: as `cont`, but one hart alone executes. Asleep there is nothing to step: it stays asleep (B11).
    pub(super) fn debug_step(&mut self, hart: u32) -> Result<(), Refusal> {
        self.may_continue()?;
        if self.value.holds.has_kind(HoldKind::Job) {
            return Err(Refusal::StepDuringJob);
        }
        if !self.value.is_live() {
            self.lift_liftable(Some(hart));
        }
        Ok(())
    }

    /// A lost connection: nobody said "go on", so only the debugger's own hold goes.
    pub(super) fn debug_lost(&mut self) {
        if !self.value.holds.has(Owner::Debugger) {
            return;
        }
        if self.value.holds.len() == 1 {
            return self.lift(Lift {
                takes: Takes::Debugger,
                step: None,
                wake: false,
                tail: None,
                job: None,
            });
        }
        self.value.holds.remove(Owner::Debugger);
        self.publish();
    }

    /// A breakpoint, a watchpoint, the end of a step. One that meets an interrupt changes no name.
    pub(super) fn debug_stop(&mut self) {
        if !self.value.holds.has(Owner::Debugger) {
            self.hold(Hold::debug_stop(), None);
        }
    }
}
