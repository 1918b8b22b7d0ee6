//! What the engine reports about effects: the second and third part of a lift.

use super::steps::Step;
use crate::job::{Lift, Phase, Takes};
use crate::{Effect, EngineReport, Event, Fault, Hold, HoldKind, Owner, Refusal, WakeFate, WakeSource};

impl Step {
    pub(super) fn report(&mut self, report: EngineReport) -> Result<(), Refusal> {
        match (report, self.value.phase) {
            (EngineReport::Prepared, Phase::Preparing(lift)) => self.prepared(lift),
            (EngineReport::PrepareFailed, Phase::Preparing(lift)) => self.prepare_failed(lift),
            (EngineReport::DevicesStarted { due }, Phase::Starting(lift)) => self.started(lift, due),
            (EngineReport::EffectFailed, phase) => self.effect_failed(phase),
            _ => return Err(Refusal::UnexpectedReport),
        }
        Ok(())
    }

    /// Nothing can fail any more: the holds go, RESUME is told before anything moves.
    fn prepared(&mut self, lift: Lift) {
        match lift.takes {
            Takes::Liftable => {
                self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Liftable);
            }
            Takes::Debugger => {
                self.value.holds.remove(Owner::Debugger);
            }
            Takes::Job => self.drop_job(lift.job),
        }
        self.value.phase = Phase::Starting(lift);
        self.publish();
        self.emit(Event::Resume);
        self.effect(Effect::StartDevices);
    }

    /// The holds are as they were. A job's own cannot stay once the job is over: the manager's takes its place, and
    /// `cont` tries again.
    fn prepare_failed(&mut self, lift: Lift) {
        self.value.phase = Phase::Settled;
        if lift.takes == Takes::Job {
            self.drop_job(lift.job);
            self.value.holds.add(Hold::of(Owner::Manager));
            self.publish();
        }
        self.emit_status(lift.tail);
    }

    /// The clock goes before the harts. A wake that waited, or that a device found due, is delivered now, once;
    /// otherwise a sleeping guest is announced as asleep again, so that whoever follows events knows where RESUME led.
    fn started(&mut self, lift: Lift, due: Option<WakeSource>) {
        self.value.phase = Phase::Settled;
        self.effect(Effect::ThawClock);
        if self.value.is_asleep() {
            let allowed = due.filter(|source| self.value.wake_policy.allows(*source));
            if let (Some(source), None) = (due, allowed) {
                self.effect(Effect::NoteWake { source, fate: WakeFate::Forbidden });
            }
            let asked = lift.wake.then_some(WakeSource::Management);
            match self.value.latched.or(allowed).or(asked) {
                Some(source) => self.wake(source),
                None => self.emit(Event::Suspend),
            }
        } else {
            self.effect(match lift.step {
                Some(hart) => Effect::UnparkOne { hart },
                None => Effect::UnparkHarts,
            });
        }
        self.emit_status(lift.tail);
    }

    /// No way back: the machine is broken, from wherever it was. A lift under way ends here, with the word that it owed.
    fn effect_failed(&mut self, phase: Phase) {
        self.value.phase = Phase::Settled;
        if !self.value.needs_reset() {
            self.break_down(Fault::Effect);
        }
        if let Phase::Preparing(lift) | Phase::Starting(lift) = phase {
            if lift.takes == Takes::Job && self.value.holds.has_kind(HoldKind::Job) {
                self.drop_job(lift.job);
                self.publish();
            }
            self.emit_status(lift.tail);
        }
    }
}
