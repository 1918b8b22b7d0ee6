//! What managers and operators ask (lifecycle rules 2.1, and the beginnings of jobs in 2.4).

use super::steps::Step;
use crate::hold::HoldKind;
use crate::{
    BackgroundStage, Effect, Event, Hold, IncomingStage, Job, JobKind, ManagementRequest, MigrationStatus,
    OutgoingStage, Owner, Power, Refusal, ShutdownAction, ShutdownCause, WakeChange, WakeSource,
};

impl Step {
    pub(super) fn management(&mut self, request: ManagementRequest) -> Result<(), Refusal> {
        match request {
            ManagementRequest::Stop => self.stop(Owner::Manager),
            ManagementRequest::Cont => self.cont(),
            ManagementRequest::SystemWakeup => self.system_wakeup(),
            ManagementRequest::SystemReset => {
                self.request_reset(ShutdownCause::HostQmpSystemReset);
                Ok(())
            }
            ManagementRequest::SystemPowerdown if self.is_sealed() => Err(Refusal::MigrationNotFinalized),
            ManagementRequest::SystemPowerdown => {
                self.power_button();
                Ok(())
            }
            ManagementRequest::Quit { cause } => self.quit(cause),
            ManagementRequest::SetActions(change) => {
                let actions = self.value.actions.with(change);
                if actions != self.value.actions {
                    self.value.actions = actions;
                    self.publish();
                }
                Ok(())
            }
            ManagementRequest::SetWakePolicy(change) => {
                self.set_wake_policy(change);
                Ok(())
            }
            ManagementRequest::InjectNmi => Err(Refusal::NoNmi),
            ManagementRequest::DumpStart { detached } => self.dump_start(detached),
            ManagementRequest::SaveStart => self.start_holding(Job::Save, JobKind::Save),
            ManagementRequest::LoadStart { keep_asleep } => {
                let was_running = self.value.is_live() && self.value.power == Power::Awake;
                self.start_holding(Job::Load { was_running, keep_asleep }, JobKind::Load)
            }
            ManagementRequest::BackgroundStart => self.background_start(),
            ManagementRequest::MigrateStart => self.migrate_start(),
            ManagementRequest::MigrateCancel => self.migrate_cancel(),
            ManagementRequest::MigrateIncoming => self.migrate_incoming(),
            ManagementRequest::DebugInterrupt => self.stop(Owner::Debugger),
            ManagementRequest::DebugContinue => self.debug_continue(),
            ManagementRequest::DebugStep { hart } => self.debug_step(hart),
            ManagementRequest::DebugDetach => self.debug_continue(),
            ManagementRequest::DebugLost => {
                self.debug_lost();
                Ok(())
            }
        }
    }

    /// `stop`, of the manager or the debugger. Flushes also when nothing was live, as in QEMU.
    fn stop(&mut self, owner: Owner) -> Result<(), Refusal> {
        if matches!(self.value.job, Some(Job::Dump { .. })) {
            return Err(Refusal::DumpInProgress);
        }
        if self.value.is_live() {
            self.hold(Hold::of(owner), None);
            return Ok(());
        }
        if self.value.holds.add(Hold::of(owner)) {
            self.publish();
        }
        if !self.value.holds.has(Owner::Incoming) {
            self.effect(Effect::Flush);
        }
        Ok(())
    }

    /// `cont`. The order of the checks is QEMU's, except that a machine which needs a reset never gets past them (B9).
    pub(super) fn cont(&mut self) -> Result<(), Refusal> {
        self.may_continue()?;
        if self.value.is_live() {
            return Ok(());
        }
        if self.value.holds.has(Owner::Incoming) {
            let changed =
                self.value.holds.retain(|hold| !matches!(hold.owner, Owner::Manager | Owner::Debugger));
            if changed {
                self.publish();
            }
            return Ok(());
        }
        if self.value.holds.has_kind(HoldKind::Job) {
            if self.value.holds.retain(|hold| hold.owner.kind() != HoldKind::Liftable) {
                self.publish();
            }
            return Ok(());
        }
        self.lift_liftable(None);
        Ok(())
    }

    /// The refusals that `cont` and the debugger's continue and step have in common.
    pub(super) fn may_continue(&self) -> Result<(), Refusal> {
        if matches!(self.value.job, Some(Job::Dump { .. })) {
            Err(Refusal::DumpInProgress)
        } else if self.value.needs_reset() {
            Err(Refusal::ResetRequired)
        } else if self.switched_over() {
            Err(Refusal::MigrationNotFinalized)
        } else {
            Ok(())
        }
    }

    /// What the guest's devices hold has been taken for the other side: a key that is pressed now would be lost.
    fn is_sealed(&self) -> bool {
        use OutgoingStage::{Committed, Sealed};
        matches!(self.value.job, Some(Job::Outgoing { stage: Sealed | Committed { postcopy: true }, .. }))
    }

    fn system_wakeup(&mut self) -> Result<(), Refusal> {
        if !self.value.wakeup_supported {
            return Err(Refusal::WakeupUnsupported);
        }
        if !self.value.is_live() || !self.value.is_asleep() {
            return Err(Refusal::NotSuspended);
        }
        self.wake(WakeSource::Management);
        Ok(())
    }

    /// A source that becomes allowed while its wake is due wakes the guest at once, or, if the machine is held, when that is
    /// over. A wake that is latched already was allowed when it came, and stays.
    fn set_wake_policy(&mut self, change: WakeChange) {
        let old = self.value.wake_policy;
        self.value.wake_policy = old.with(change);
        if self.value.wake_policy == old {
            return;
        }
        self.publish();
        if self.value.is_live() && self.value.is_asleep() && self.value.wake_policy.allows_more_than(old) {
            self.effect(Effect::AskWakeSources);
        }
    }

    /// The button's device latches the press in every state; a sleeping guest is woken by policy (B17).
    pub(super) fn power_button(&mut self) {
        self.effect(Effect::PressPowerButton);
        self.emit(Event::Powerdown);
        if self.value.is_asleep() {
            self.wake_or_latch(WakeSource::PowerButton);
        }
    }

    pub(super) fn quit(&mut self, cause: ShutdownCause) -> Result<(), Refusal> {
        if !matches!(cause, ShutdownCause::HostQmpQuit | ShutdownCause::HostSignal | ShutdownCause::HostUi) {
            return Err(Refusal::NotAQuitCause);
        }
        self.value.actions.shutdown = ShutdownAction::Poweroff;
        self.exit(cause);
        Ok(())
    }

    fn dump_start(&mut self, detached: bool) -> Result<(), Refusal> {
        match self.value.job {
            Some(Job::Incoming { .. }) => Err(Refusal::DumpDuringIncoming),
            Some(Job::Dump { .. }) => Err(Refusal::DumpInProgress),
            _ => self.start_holding(Job::Dump { detached }, JobKind::Dump),
        }
    }

    /// Begins a job that holds the machine from its first moment, asleep or not (B21).
    fn start_holding(&mut self, job: Job, kind: JobKind) -> Result<(), Refusal> {
        self.no_job()?;
        self.value.job = Some(job);
        if let Some(owner) = job.hold() {
            self.hold(Hold::of(owner), None);
        }
        self.effect(Effect::BeginJob(kind));
        Ok(())
    }

    fn no_job(&self) -> Result<(), Refusal> {
        match self.value.job {
            None => Ok(()),
            Some(Job::Dump { .. }) => Err(Refusal::DumpInProgress),
            Some(Job::Incoming { stage: IncomingStage::Postcopy }) => Err(Refusal::MigrationInProgress),
            Some(Job::Incoming { .. }) => Err(Refusal::IncomingPending),
            Some(_) => Err(Refusal::MigrationInProgress),
        }
    }

    /// What refuses `migrate`, plain or as a background snapshot.
    fn may_migrate(&self) -> Result<(), Refusal> {
        match self.no_job() {
            Err(Refusal::DumpInProgress) => return Err(Refusal::MigrationBlockedByDump),
            other => other?,
        }
        if self.value.holds.has(Owner::Moved) {
            return Err(Refusal::AlreadyMigrated);
        }
        Ok(())
    }

    /// STOP and RESUME of a background snapshot lie inside MIGRATION setup, active … completed.
    fn background_start(&mut self) -> Result<(), Refusal> {
        self.migrate(Job::Background { stage: BackgroundStage::Opening, cancelling: false })
    }

    fn migrate_start(&mut self) -> Result<(), Refusal> {
        self.migrate(Job::Outgoing { stage: OutgoingStage::Copying, cancelling: false })
    }

    /// Begins a job that does not hold the machine yet.
    fn migrate(&mut self, job: Job) -> Result<(), Refusal> {
        self.may_migrate()?;
        self.value.job = Some(job);
        self.publish();
        self.emit(Event::Migration { status: MigrationStatus::Setup });
        self.effect(Effect::BeginJob(job.kind()));
        Ok(())
    }

    /// Only asks the job to stop; it reports by [`OutgoingFailed`](crate::MigrationRequest) when it has. Too late for
    /// a precopy that has committed, where it succeeds without effect as it does when nothing runs.
    fn migrate_cancel(&mut self) -> Result<(), Refusal> {
        let cancelled = match self.value.job {
            Some(Job::Outgoing { stage: OutgoingStage::Committed { postcopy: true }, .. }) => {
                return Err(Refusal::PostcopyInProgress);
            }
            Some(Job::Outgoing { stage, cancelling: false })
                if !matches!(stage, OutgoingStage::Committed { .. }) =>
            {
                Job::Outgoing { stage, cancelling: true }
            }
            Some(Job::Background { stage, cancelling: false }) => Job::Background { stage, cancelling: true },
            _ => return Ok(()),
        };
        self.value.job = Some(cancelled);
        self.publish();
        self.emit(Event::Migration { status: MigrationStatus::Cancelling });
        self.effect(Effect::CancelJob(cancelled.kind()));
        Ok(())
    }

    fn migrate_incoming(&mut self) -> Result<(), Refusal> {
        match self.value.job {
            Some(Job::Incoming { stage: IncomingStage::Waiting }) => {
                self.value.job = Some(Job::Incoming { stage: IncomingStage::Listening });
                self.publish();
                self.emit(Event::Migration { status: MigrationStatus::Setup });
                self.effect(Effect::BeginJob(JobKind::Incoming));
                Ok(())
            }
            Some(Job::Incoming { .. }) => Err(Refusal::IncomingStarted),
            _ => Err(Refusal::NoIncoming),
        }
    }
}
