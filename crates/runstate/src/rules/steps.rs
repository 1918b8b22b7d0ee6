//! What the rules are made of: halt, lift, wake, reset, shut down, exit (lifecycle rules, section 1).
//!
//! A [`Step`] is a copy of the value that is being changed and the list of effects that goes with the change. Order
//! everywhere: the state is published, then the event that tells of it goes out.

use crate::hold::HoldKind;
use crate::job::{Lift, Phase, Takes};
use crate::{
    Effect, Effects, Event, Hold, IncomingStage, Job, Lifecycle, MigrationStatus, Outcome, Owner, Power,
    RebootAction, ShutdownAction, ShutdownCause, WakeFate, WakeSource,
};

/// One request being carried out.
pub(super) struct Step {
    pub(super) value: Lifecycle,
    effects: Effects,
}

/// What follows when a job's hold, or the job, goes.
#[derive(Clone, Copy, Default)]
pub(super) struct JobEnd {
    /// What the job becomes; `None` ends it.
    pub(super) job: Option<Job>,
    /// Wake the guest if it sleeps and the machine becomes live.
    pub(super) wake: bool,
    /// MIGRATION event after everything else.
    pub(super) tail: Option<MigrationStatus>,
}

impl Step {
    pub(super) fn new(value: &Lifecycle) -> Step {
        Step { value: value.clone(), effects: Effects::default() }
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome { next: self.value, effects: self.effects, dropped: false }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.effects.push(Effect::Emit(event));
    }

    pub(super) fn emit_status(&mut self, status: Option<MigrationStatus>) {
        if let Some(status) = status {
            self.emit(Event::Migration { status });
        }
    }

    pub(super) fn publish(&mut self) {
        self.effects.push(Effect::PublishState);
    }

    /// **hold**: adds a hold; the first one halts the machine. `why` is the event that explains it, told before STOP.
    pub(super) fn hold(&mut self, hold: Hold, why: Option<Event>) {
        let was_live = self.value.is_live();
        self.value.holds.add(hold);
        self.halted(was_live, why);
    }

    /// **halt**, if the machine was live and now is not. STOP comes before the flush: a hung disk must not hide that
    /// the guest stands.
    pub(super) fn halted(&mut self, was_live: bool, why: Option<Event>) {
        self.publish();
        if let Some(why) = why {
            self.emit(why);
        }
        if was_live {
            self.stand_still();
            self.emit(Event::Stop);
            self.effect(Effect::Flush);
        }
    }

    /// Freeze before parking: no timer can fall due after the moment of the stop, and neither the slowest hart nor a
    /// long device access adds guest time.
    fn stand_still(&mut self) {
        self.effect(Effect::FreezeClock);
        self.effect(Effect::ParkHarts);
        self.effect(Effect::QuiesceTimers);
        self.effect(Effect::StopDevices);
    }

    /// **lift**, first part: asks for the fallible preparation. The holds stay until it has succeeded.
    pub(super) fn lift(&mut self, lift: Lift) {
        self.value.phase = Phase::Preparing(lift);
        self.effect(Effect::Prepare);
    }

    /// A lift of everything that `cont` may lift.
    pub(super) fn lift_liftable(&mut self, step: Option<u32>) {
        self.lift(Lift { takes: Takes::Liftable, step, wake: false, tail: None, job: None });
    }

    /// A job's hold goes, or a job that has none ends: the pending reset first, then the lift if nothing else holds.
    pub(super) fn end_job(&mut self, end: JobEnd) {
        if let Some(cause) = self.value.pending_reset.take() {
            self.reset(cause);
        }
        let JobEnd { job, wake, tail } = end;
        if self.value.holds.has_kind(HoldKind::Job) && self.value.holds.len() == 1 {
            return self.lift(Lift { takes: Takes::Job, step: None, wake, tail, job });
        }
        self.drop_job(job);
        self.publish();
        self.emit_status(tail);
    }

    /// The job becomes `job`, and its hold goes.
    pub(super) fn drop_job(&mut self, job: Option<Job>) {
        self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Job);
        self.value.job = job;
    }

    /// **wake**: only for a live machine. Without effect on a guest that does not sleep.
    pub(super) fn wake(&mut self, source: WakeSource) {
        let Some(sleep) = self.value.power.sleep() else { return };
        self.value.power = Power::Awake;
        self.value.latched = None;
        self.publish();
        self.effect(Effect::WakeHart(sleep));
        self.effect(Effect::WakeDevices(source));
        self.effect(Effect::UnparkHarts);
        self.emit(Event::Wakeup);
    }

    /// A wake from outside: now if live, latched if held (the first one wins), counted if the operator forbids it.
    /// Only for a sleeping guest.
    pub(super) fn wake_or_latch(&mut self, source: WakeSource) {
        if !self.value.wake_policy.allows(source) {
            self.effect(Effect::NoteWake { source, fate: WakeFate::Forbidden });
        } else if self.value.is_live() {
            self.wake(source);
        } else if self.value.latched.is_none() {
            self.value.latched = Some(source);
            self.publish();
            self.effect(Effect::NoteWake { source, fate: WakeFate::Latched });
        }
    }

    /// A reset is asked for: now, later, or a shutdown instead.
    pub(super) fn request_reset(&mut self, cause: ShutdownCause) {
        if self.value.actions.reboot == RebootAction::Shutdown {
            return self.shut_down(cause, 0);
        }
        if self.value.job.is_some_and(|job| job.delays_reset()) {
            if self.value.pending_reset.is_none() {
                self.value.pending_reset = Some(cause);
                self.publish();
            }
            return;
        }
        self.reset(cause);
    }

    /// **reset**. A live machine runs on; one that something other than a job holds waits in prelaunch.
    pub(super) fn reset(&mut self, cause: ShutdownCause) {
        use IncomingStage::{Listening, Waiting};
        let waits_for_guest = matches!(self.value.job, Some(Job::Incoming { stage: Waiting | Listening }));
        if !waits_for_guest {
            self.value.holds.replace(|hold| hold.owner.kind() != HoldKind::Job, Hold::of(Owner::Boot));
        }
        self.power_on();
        self.publish();
        self.emit(Event::reset(cause));
        if self.value.is_live() {
            self.effect(Effect::UnparkHarts);
        }
    }

    /// Guest part to power-on; the clock is left as it is.
    pub(super) fn power_on(&mut self) {
        self.effect(Effect::ParkHarts);
        self.effect(Effect::ResetMachine);
        self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Power);
        self.value.power = Power::Awake;
        self.value.latched = None;
        self.value.epoch = self.value.epoch.wrapping_add(1);
    }

    /// **shut down**: the process ends, or the machine stays off.
    pub(super) fn shut_down(&mut self, cause: ShutdownCause, exit_code: i32) {
        if exit_code != 0 {
            self.value.exit_code = exit_code;
        }
        if self.value.actions.shutdown == ShutdownAction::Poweroff {
            return self.exit(cause);
        }
        let was_live = self.value.is_live();
        self.set_dead(Power::Off { cause, exit_code: self.value.exit_code }, Owner::Off);
        self.halted(was_live, Some(Event::shutdown(cause)));
        if !was_live {
            self.effect(Effect::Flush);
        }
    }

    /// The power becomes `Off` or `Broken`, with the hold that stands for it.
    pub(super) fn set_dead(&mut self, power: Power, owner: Owner) {
        self.value.power = power;
        self.value.latched = None;
        self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Power);
        self.value.holds.add(Hold::of(owner));
    }

    /// **exit**: no STOP, the last word is SHUTDOWN.
    pub(super) fn exit(&mut self, cause: ShutdownCause) {
        self.end(cause, Some(Event::shutdown(cause)));
    }

    /// The process ends, with `word` as the last event.
    pub(super) fn end(&mut self, cause: ShutdownCause, word: Option<Event>) {
        let was_live = self.value.is_live();
        if let Some(job) = self.value.job {
            self.effect(Effect::CancelJob(job.kind()));
        }
        self.drop_job(None);
        self.value.phase = Phase::Settled;
        self.value.pending_reset = None;
        self.value.exiting = true;
        self.set_dead(Power::Off { cause, exit_code: self.value.exit_code }, Owner::Off);
        self.publish();
        if let Some(word) = word {
            self.emit(word);
        }
        if was_live {
            self.stand_still();
        }
        self.effect(Effect::Flush);
        self.effect(Effect::Exit { code: self.value.exit_code });
    }

    /// Whether an outgoing migration has its hold.
    pub(super) fn switched_over(&self) -> bool {
        self.value.holds.has(Owner::Outgoing)
    }
}
