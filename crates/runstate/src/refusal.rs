//! Why a request is refused. A refusal changes nothing at all.

use thiserror::Error;

/// A refusal. What it displays is the text that a QMP client sees (class `GenericError`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// `cont` of a machine that is off or broken.
    #[error("Resetting the Virtual Machine is required")]
    ResetRequired,
    /// `system_wakeup` where the machine offers no suspend.
    #[error("wake-up from suspend is not supported by this guest")]
    WakeupUnsupported,
    /// `system_wakeup` of a machine that is not live and asleep.
    #[error("Unable to wake up: guest is not in suspended state")]
    NotSuspended,
    /// `stop`, `cont` or another dump during a dump.
    #[error("There is a dump in process, please wait.")]
    DumpInProgress,
    /// `cont` in the switch-over of an outgoing migration; `system_powerdown` once its devices have been captured.
    #[error("Migration is not finalized yet")]
    MigrationNotFinalized,
    /// A job is asked for while a migration or a snapshot runs.
    #[error("There's a migration process in progress")]
    MigrationInProgress,
    /// `migrate` during a dump.
    #[error("Live migration disabled: dump-guest-memory in progress")]
    MigrationBlockedByDump,
    /// `migrate` of a machine that waits for an incoming one.
    #[error("Guest is waiting for an incoming migration")]
    IncomingPending,
    /// `migrate` of a machine that has gone to another host.
    #[error("Can't migrate the vm that was paused due to previous migration")]
    AlreadyMigrated,
    /// `dump-guest-memory` of a machine that waits for an incoming one.
    #[error("Dump not allowed during incoming migration.")]
    DumpDuringIncoming,
    /// `migrate_cancel` after the destination has started.
    #[error("Postcopy migration in progress, cannot cancel.")]
    PostcopyInProgress,
    /// `migrate-incoming` a second time.
    #[error("The incoming migration has already been started")]
    IncomingStarted,
    /// `migrate-incoming` without `-incoming`.
    #[error("'-incoming' was not specified on the command line")]
    NoIncoming,
    /// `inject-nmi`.
    #[error("machine does not provide NMIs")]
    NoNmi,
    /// A debugger's step while a job holds the machine.
    #[error("The machine is held by a job, cannot step")]
    StepDuringJob,
    /// `quit` for a cause that is not one.
    #[error("not a cause for ending the process")]
    NotAQuitCause,
    /// The process is ending.
    #[error("The machine is shutting down")]
    Exiting,
    /// A report of the engine is awaited: the request must wait in the queue. Clients never see it.
    #[error("The machine is between two states, the request must wait")]
    AwaitingReport,
    /// A report that nobody awaits. Clients never see it.
    #[error("no such report is awaited")]
    UnexpectedReport,
    /// A job's step that does not follow from the job under way. Clients never see it.
    #[error("this step does not belong to the job under way")]
    UnexpectedStep,
    /// A job goes on although it was cancelled; it must report its end instead. Clients never see it.
    #[error("the job was cancelled")]
    JobCancelled,
    /// A saved value asleep cannot go into a machine without suspend.
    #[error("The saved machine is suspended, but this one does not support suspend")]
    SavedAsleep,
}
