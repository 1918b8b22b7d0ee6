//! The sixteen run states of QMP, as a client sees them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What `query-status` calls the machine. A *view* of [`Lifecycle`](crate::Lifecycle), never stored.
///
/// The order is that of the QMP enumeration `RunState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// A breakpoint, a watchpoint or the end of a single step.
    Debug,
    /// Waits for, or loads, an incoming migration. Wire name `inmigrate`.
    #[serde(rename = "inmigrate")]
    InMigrate,
    /// A hart cannot go on; needs a reset.
    InternalError,
    /// A device with error policy "stop" met a failed request.
    IoError,
    /// Stopped by a manager or a debugger, or frozen for a background snapshot.
    Paused,
    /// The guest has gone to another host. Wire name `postmigrate`.
    #[serde(rename = "postmigrate")]
    PostMigrate,
    /// Never started, or reset while held. Wire name `prelaunch`.
    Prelaunch,
    /// Held for the last phase of an outgoing migration.
    FinishMigrate,
    /// A snapshot is being loaded.
    RestoreVm,
    /// The guest executes.
    Running,
    /// A snapshot is being saved, or the memory dumped.
    SaveVm,
    /// The guest powered off; needs a reset.
    Shutdown,
    /// Live and suspended to RAM: guest time advances, no hart executes.
    Suspended,
    /// The watchdog expired with action "pause".
    Watchdog,
    /// The guest reported a panic.
    GuestPanicked,
    /// Reserved: a checkpoint pause. Never reached here.
    Colo,
}

impl RunState {
    /// All names, in the order of the QMP enumeration.
    pub const ALL: [RunState; 16] = [
        RunState::Debug,
        RunState::InMigrate,
        RunState::InternalError,
        RunState::IoError,
        RunState::Paused,
        RunState::PostMigrate,
        RunState::Prelaunch,
        RunState::FinishMigrate,
        RunState::RestoreVm,
        RunState::Running,
        RunState::SaveVm,
        RunState::Shutdown,
        RunState::Suspended,
        RunState::Watchdog,
        RunState::GuestPanicked,
        RunState::Colo,
    ];

    /// The wire name, for example `"inmigrate"` or `"finish-migrate"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RunState::Debug => "debug",
            RunState::InMigrate => "inmigrate",
            RunState::InternalError => "internal-error",
            RunState::IoError => "io-error",
            RunState::Paused => "paused",
            RunState::PostMigrate => "postmigrate",
            RunState::Prelaunch => "prelaunch",
            RunState::FinishMigrate => "finish-migrate",
            RunState::RestoreVm => "restore-vm",
            RunState::Running => "running",
            RunState::SaveVm => "save-vm",
            RunState::Shutdown => "shutdown",
            RunState::Suspended => "suspended",
            RunState::Watchdog => "watchdog",
            RunState::GuestPanicked => "guest-panicked",
            RunState::Colo => "colo",
        }
    }

    /// The member `running` of `query-status`: true in `running` alone, not in `suspended`.
    pub const fn is_running(self) -> bool {
        matches!(self, RunState::Running)
    }

    /// Whether the guest clock advances under this name: `running` and `suspended`.
    pub const fn is_live(self) -> bool {
        matches!(self, RunState::Running | RunState::Suspended)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
