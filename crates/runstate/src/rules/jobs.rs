//! What jobs report (lifecycle rules 2.4): dump, snapshots, migration out and in.

use super::steps::{JobEnd, Step};
use crate::{
    BackgroundStage, Effect, Event, Hold, HoldKind, IncomingStage, Job, MigrationRequest, MigrationStatus,
    OutgoingStage, Owner, Power, Refusal, SavedLifecycle, ShutdownCause,
};

impl Step {
    pub(super) fn migration(&mut self, request: MigrationRequest) -> Result<(), Refusal> {
        match (request, self.value.job) {
            (MigrationRequest::DumpEnd { ok }, Some(Job::Dump { detached })) => {
                if detached {
                    self.emit(Event::DumpCompleted { ok });
                }
                self.end_job(JobEnd::default());
            }
            (MigrationRequest::SaveEnd, Some(Job::Save))
            | (MigrationRequest::LoadFailed, Some(Job::Load { .. })) => {
                self.end_job(JobEnd::default());
            }
            (MigrationRequest::LoadDone { saved }, Some(Job::Load { was_running, keep_asleep })) => {
                self.value.accepts(&saved)?;
                self.load_done(&saved, was_running && !keep_asleep);
            }
            (
                MigrationRequest::BackgroundHold
                | MigrationRequest::BackgroundCaptured
                | MigrationRequest::BackgroundEnd { .. },
                Some(Job::Background { stage, cancelling }),
            ) => return self.background_step(request, stage, cancelling),
            (
                MigrationRequest::Announce(_),
                Some(Job::Outgoing { cancelling: true, .. } | Job::Background { cancelling: true, .. }),
            ) => return Err(Refusal::JobCancelled),
            (
                MigrationRequest::Announce(status),
                Some(Job::Outgoing { .. } | Job::Incoming { .. } | Job::Background { .. }),
            ) => self.announce(status),
            (MigrationRequest::Pass(pass), Some(Job::Outgoing { .. })) => {
                self.emit(Event::MigrationPass { pass });
            }
            (_, Some(Job::Outgoing { stage, cancelling })) => {
                return self.outgoing_step(request, stage, cancelling);
            }
            (_, Some(Job::Incoming { stage })) => return self.incoming_step(request, stage),
            _ => return Err(Refusal::UnexpectedStep),
        }
        Ok(())
    }

    /// The guest part is replaced as a whole. The file's liftable holds say nothing about this machine and stay out;
    /// one that needed a reset is paused instead, so that the snapshot can be used (B10).
    fn load_done(&mut self, saved: &SavedLifecycle, wake: bool) {
        self.effect(Effect::AdoptGuest);
        if self.value.holds.has_kind(HoldKind::Power) {
            if self.value.holds.has(Owner::Manager) {
                self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Power);
            } else {
                self.value
                    .holds
                    .replace(|hold| hold.owner.kind() == HoldKind::Power, Hold::of(Owner::Manager));
            }
        }
        for hold in saved.holds().iter().filter(|hold| hold.owner.kind() == HoldKind::Power) {
            self.value.holds.add(*hold);
        }
        self.adopt(saved);
        self.end_job(JobEnd { wake, ..JobEnd::default() });
    }

    /// Takes over what belongs to the guest, once the caller has seen to the holds.
    fn adopt(&mut self, saved: &SavedLifecycle) {
        self.value.power = saved.power;
        self.value.latched = saved.latched;
        self.value.pending_reset = self.value.pending_reset.or(saved.pending_reset);
        self.value.epoch = self.value.epoch.wrapping_add(1);
        if let Power::Off { exit_code, .. } = saved.power
            && exit_code != 0
        {
            self.value.exit_code = exit_code;
        }
        self.publish();
    }

    fn background_step(
        &mut self,
        request: MigrationRequest,
        stage: BackgroundStage,
        cancelling: bool,
    ) -> Result<(), Refusal> {
        use BackgroundStage::{Captured, Held, Opening};
        match (request, stage) {
            (MigrationRequest::BackgroundHold, Opening) if cancelling => return Err(Refusal::JobCancelled),
            (MigrationRequest::BackgroundHold, Opening) => {
                self.value.job = Some(Job::Background { stage: Held, cancelling });
                self.hold(Hold::of(Owner::Background), None);
            }
            (MigrationRequest::BackgroundCaptured, Held) => {
                let job = Some(Job::Background { stage: Captured, cancelling });
                self.end_job(JobEnd { job, ..JobEnd::default() });
            }
            (MigrationRequest::BackgroundEnd { ok: true }, Captured) => {
                self.end_job(JobEnd { tail: Some(ended(true, cancelling)), ..JobEnd::default() });
            }
            (MigrationRequest::BackgroundEnd { ok: false }, _) => {
                self.end_job(JobEnd { tail: Some(ended(false, cancelling)), ..JobEnd::default() });
            }
            _ => return Err(Refusal::UnexpectedStep),
        }
        Ok(())
    }

    fn outgoing_step(
        &mut self,
        request: MigrationRequest,
        stage: OutgoingStage,
        cancelling: bool,
    ) -> Result<(), Refusal> {
        use OutgoingStage::{Committed, Copying, Sealed, SwitchedOver};
        match (request, stage) {
            (MigrationRequest::OutgoingFailed, Committed { .. }) => {
                self.committed_end(MigrationStatus::Failed)
            }
            (MigrationRequest::OutgoingFailed, _) => self.outgoing_failed(cancelling),
            (MigrationRequest::OutgoingDone, Committed { .. }) => {
                self.committed_end(MigrationStatus::Completed)
            }
            (MigrationRequest::LinkLost, Committed { postcopy: true }) => {
                self.emit(Event::Migration { status: MigrationStatus::PostcopyPaused });
            }
            (MigrationRequest::LinkLost, Committed { postcopy: false }) => {
                self.committed_end(MigrationStatus::Failed)
            }
            (MigrationRequest::LinkLost, _) => self.outgoing_failed(cancelling),
            (MigrationRequest::SwitchOver, Copying) if !cancelling => {
                self.value.job = Some(Job::Outgoing { stage: SwitchedOver, cancelling });
                self.hold(Hold::of(Owner::Outgoing), None);
            }
            (MigrationRequest::Seal, SwitchedOver) if !cancelling => {
                self.value.job = Some(Job::Outgoing { stage: Sealed, cancelling });
                self.publish();
            }
            (MigrationRequest::Commit { postcopy }, Sealed) if !cancelling => self.commit(postcopy),
            (MigrationRequest::SwitchOver, Copying)
            | (MigrationRequest::Seal, SwitchedOver)
            | (MigrationRequest::Commit { .. }, Sealed) => return Err(Refusal::JobCancelled),
            _ => return Err(Refusal::UnexpectedStep),
        }
        Ok(())
    }

    /// From here the destination may run. A reset that waited goes with the guest, and what stays behind is reset too: a
    /// hart that asked for it would otherwise wait for ever once somebody continues the machine here. Memory of a
    /// postcopy is still needed as it is, so there it waits for the end.
    fn commit(&mut self, postcopy: bool) {
        self.value.job =
            Some(Job::Outgoing { stage: OutgoingStage::Committed { postcopy }, cancelling: false });
        if !postcopy {
            self.moved();
            if let Some(cause) = self.value.pending_reset.take() {
                self.value.holds.retain(|hold| hold.owner == Owner::Moved);
                self.power_on();
                self.publish();
                return self.emit(Event::reset(cause));
            }
        }
        self.publish();
    }

    fn moved(&mut self) {
        self.value.holds.replace(|hold| hold.owner == Owner::Outgoing, Hold::of(Owner::Moved));
    }

    /// The end of a job that has committed lifts nothing, however it ends: the same machine never runs twice.
    fn committed_end(&mut self, status: MigrationStatus) {
        self.moved();
        self.value.job = None;
        self.publish();
        self.emit(Event::Migration { status });
        if let Some(cause) = self.value.pending_reset.take() {
            self.reset(cause);
        }
    }

    /// Before COMMIT the machine is ours: back to whatever else holds it (B5). QEMU's order: failed comes before
    /// RESUME, cancelled after it.
    fn outgoing_failed(&mut self, cancelling: bool) {
        let tail = cancelling.then_some(MigrationStatus::Cancelled);
        if !cancelling {
            self.emit(Event::Migration { status: MigrationStatus::Failed });
        }
        self.end_job(JobEnd { tail, ..JobEnd::default() });
    }

    /// An incoming migration that becomes active has a guest on its way; a reset has to wait from then on.
    fn announce(&mut self, status: MigrationStatus) {
        let listening = Job::Incoming { stage: IncomingStage::Listening };
        if status == MigrationStatus::Active && self.value.job == Some(listening) {
            self.value.job = Some(Job::Incoming { stage: IncomingStage::Loading });
            self.publish();
        }
        self.emit(Event::Migration { status });
    }

    fn incoming_step(&mut self, request: MigrationRequest, stage: IncomingStage) -> Result<(), Refusal> {
        use IncomingStage::{Listening, Loading};
        match (request, stage) {
            (MigrationRequest::IncomingLoaded { saved, postcopy }, Listening | Loading) => {
                self.value.accepts(&saved)?;
                self.value.job = Some(Job::Incoming { stage: Loading });
                self.arrived(&saved, postcopy);
            }
            (MigrationRequest::IncomingFailed { exit }, Listening | Loading) => self.incoming_failed(exit),
            (MigrationRequest::IncomingDone, IncomingStage::Postcopy) => {
                self.value.job = None;
                self.publish();
                self.emit(Event::Migration { status: MigrationStatus::Completed });
            }
            (MigrationRequest::LinkLost, IncomingStage::Postcopy) => {
                self.emit(Event::Migration { status: MigrationStatus::PostcopyPaused });
            }
            // The guest stays; whether it can go on without what has not come it finds out itself.
            (MigrationRequest::IncomingFailed { .. }, IncomingStage::Postcopy) => {
                self.value.job = None;
                self.publish();
                self.emit(Event::Migration { status: MigrationStatus::Failed });
            }
            _ => return Err(Refusal::UnexpectedStep),
        }
        Ok(())
    }

    /// What held the guest over there comes first, then what holds it here; one rule for precopy and postcopy (B7).
    fn arrived(&mut self, saved: &SavedLifecycle, postcopy: bool) {
        self.effect(Effect::AdoptGuest);
        let local = self.value.holds;
        self.value.holds = *saved.holds();
        for hold in local.iter().filter(|hold| hold.owner.kind() != HoldKind::Power) {
            self.value.holds.add(*hold);
        }
        self.adopt(saved);
        let (job, tail) = if postcopy {
            (Some(Job::Incoming { stage: IncomingStage::Postcopy }), Some(MigrationStatus::PostcopyActive))
        } else {
            (None, Some(MigrationStatus::Completed))
        };
        self.end_job(JobEnd { job, wake: false, tail });
    }

    /// The attempt fails alone: unless the process is to end, another one may follow (B14, B25). What was half loaded
    /// goes; a reset that waited has thereby happened.
    fn incoming_failed(&mut self, exit: bool) {
        if exit {
            self.value.exit_code = 1;
            return self
                .end(ShutdownCause::HostError, Some(Event::Migration { status: MigrationStatus::Failed }));
        }
        self.value.job = Some(Job::Incoming { stage: IncomingStage::Waiting });
        match self.value.pending_reset.take() {
            Some(cause) => self.reset(cause),
            None => {
                self.power_on();
                self.publish();
            }
        }
        self.emit(Event::Migration { status: MigrationStatus::Failed });
    }
}

fn ended(ok: bool, cancelling: bool) -> MigrationStatus {
    match (ok, cancelling) {
        (true, _) => MigrationStatus::Completed,
        (false, true) => MigrationStatus::Cancelled,
        (false, false) => MigrationStatus::Failed,
    }
}
