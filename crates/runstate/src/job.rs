//! Jobs: the longer undertakings of which at most one is under way, and which may hold the machine.

use crate::{MigrationStatus, Owner};
use serde::{Deserialize, Serialize};

/// The job under way and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// `dump-guest-memory`. Holds until its end.
    Dump {
        /// Whether the command was answered at once and DUMP_COMPLETED tells the end.
        detached: bool,
    },
    /// A snapshot is saved. Holds until its end.
    Save,
    /// A snapshot is loaded. Holds until its end.
    Load {
        /// Whether the machine was running (live and awake) when the load began.
        was_running: bool,
        /// Whether a sleeping snapshot stays asleep even then (`x-snapshot-load`).
        keep_asleep: bool,
    },
    /// A background snapshot. Holds while the device state is captured.
    Background {
        /// How far.
        stage: BackgroundStage,
        /// `migrate_cancel` was given.
        cancelling: bool,
    },
    /// An outgoing migration. Holds from the switch-over.
    Outgoing {
        /// How far.
        stage: OutgoingStage,
        /// `migrate_cancel` was given.
        cancelling: bool,
    },
    /// An incoming migration. Holds until the guest has arrived.
    Incoming {
        /// How far.
        stage: IncomingStage,
    },
}

/// How far a background snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackgroundStage {
    /// The place that it goes to is opened while the machine goes on. No hold.
    Opening,
    /// The machine is held for the capture of its state.
    Held,
    /// The state is captured; memory is written while the machine goes on. No hold.
    Captured,
}

/// How far an outgoing migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutgoingStage {
    /// RAM is copied while the machine goes on. No hold.
    Copying,
    /// The machine is held for the last pages.
    SwitchedOver,
    /// Device capture has begun: a reset has to wait.
    Sealed,
    /// The destination may run. Nothing that this job does may lift a hold any more.
    Committed {
        /// Pages still follow; the hold stays until the last one is gone.
        postcopy: bool,
    },
}

/// How far an incoming migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncomingStage {
    /// Nobody has said where the guest comes from.
    Waiting,
    /// It is listened for; nothing of it has come.
    Listening,
    /// A stream is being loaded.
    Loading,
    /// The guest has arrived; its pages still follow. No hold.
    Postcopy,
}

/// Which job, without its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Memory dump.
    Dump,
    /// Snapshot save.
    Save,
    /// Snapshot load.
    Load,
    /// Background snapshot.
    Background,
    /// Outgoing migration.
    Outgoing,
    /// Incoming migration.
    Incoming,
}

impl Job {
    /// Which job this is.
    pub const fn kind(&self) -> JobKind {
        match self {
            Job::Dump { .. } => JobKind::Dump,
            Job::Save => JobKind::Save,
            Job::Load { .. } => JobKind::Load,
            Job::Background { .. } => JobKind::Background,
            Job::Outgoing { .. } => JobKind::Outgoing,
            Job::Incoming { .. } => JobKind::Incoming,
        }
    }

    /// The hold that this job has at this point, if any.
    pub const fn hold(&self) -> Option<Owner> {
        match self {
            Job::Dump { .. } => Some(Owner::Dump),
            Job::Save => Some(Owner::Save),
            Job::Load { .. } => Some(Owner::Load),
            Job::Background { stage: BackgroundStage::Held, .. } => Some(Owner::Background),
            Job::Outgoing {
                stage:
                    OutgoingStage::SwitchedOver
                    | OutgoingStage::Sealed
                    | OutgoingStage::Committed { postcopy: true },
                ..
            } => Some(Owner::Outgoing),
            Job::Incoming {
                stage: IncomingStage::Waiting | IncomingStage::Listening | IncomingStage::Loading,
            } => Some(Owner::Incoming),
            Job::Background { .. } | Job::Outgoing { .. } | Job::Incoming { .. } => None,
        }
    }

    /// Whether a reset has to wait for the end of this job, or of this part of it.
    pub(crate) const fn delays_reset(&self) -> bool {
        match self {
            Job::Dump { .. } | Job::Save | Job::Load { .. } => true,
            Job::Outgoing { stage, .. } => {
                matches!(stage, OutgoingStage::Sealed | OutgoingStage::Committed { postcopy: true })
            }
            Job::Incoming { stage } => matches!(stage, IncomingStage::Loading),
            Job::Background { stage, .. } => matches!(stage, BackgroundStage::Held),
        }
    }
}

/// A lift that is under way: the engine has been asked and will report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lift {
    /// Which holds go when the preparation has succeeded.
    pub(crate) takes: Takes,
    /// A debugger's step: only this hart executes.
    pub(crate) step: Option<u32>,
    /// A sleeping guest is woken (a sleeping snapshot was loaded into a running machine).
    pub(crate) wake: bool,
    /// MIGRATION event that ends the list.
    pub(crate) tail: Option<MigrationStatus>,
    /// For `Takes::Job`: what the job becomes.
    pub(crate) job: Option<Job>,
}

/// Which holds a lift takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Takes {
    /// All liftable ones.
    Liftable,
    /// The debugger's alone.
    Debugger,
    /// The job's alone.
    Job,
}

/// Where the machine is within a lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No report is awaited.
    #[default]
    Settled,
    /// Held; [`Effect::Prepare`](crate::Effect) is under way.
    Preparing(Lift),
    /// RESUME is out; [`Effect::StartDevices`](crate::Effect) is under way.
    Starting(Lift),
}
