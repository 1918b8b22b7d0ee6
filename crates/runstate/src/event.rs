//! The lifecycle events of QMP, without their timestamps.

use crate::{DeviceId, ShutdownCause, WatchdogAction};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What clients are told. [`Event::name`] is the QMP name; the fields are the members of `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The machine was live and is now held.
    Stop,
    /// The machine was held and is now live (running, or asleep again).
    Resume,
    /// The guest suspended itself to RAM, or is asleep again after a RESUME.
    Suspend,
    /// The guest was woken.
    Wakeup,
    /// The machine was reset.
    Reset {
        /// Whether the guest asked.
        guest: bool,
        /// Who or what asked.
        reason: ShutdownCause,
    },
    /// The machine powers off or the process ends.
    Shutdown {
        /// Whether the guest asked.
        guest: bool,
        /// Who or what asked.
        reason: ShutdownCause,
    },
    /// The power button was pressed.
    Powerdown,
    /// The watchdog expired.
    Watchdog {
        /// What is done about it.
        action: WatchdogAction,
    },
    /// The guest reported a panic.
    GuestPanicked {
        /// What is done about it.
        action: PanicOutcome,
    },
    /// The guest reported a panic and runs a crash kernel.
    GuestCrashloaded {
        /// Always `run`.
        action: PanicOutcome,
    },
    /// The guest asked for a power-off through the panic device; a SHUTDOWN follows.
    GuestPvshutdown,
    /// A request of a device failed on the host's side. The engine adds the details that it keeps by device.
    BlockIoError {
        /// Which device.
        device: DeviceId,
        /// What is done about it.
        action: IoErrorAction,
    },
    /// A migration or background snapshot changed its status. Sent only where capability `events` is on.
    Migration {
        /// The new status.
        status: MigrationStatus,
    },
    /// An outgoing migration begins to go through memory once more. Sent only where capability `events` is on.
    MigrationPass {
        /// Which time it is, from 1.
        pass: u32,
    },
    /// A detached memory dump ended.
    DumpCompleted {
        /// Whether it succeeded.
        ok: bool,
    },
}

impl Event {
    /// The QMP name, for example `"GUEST_PANICKED"`.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Stop => "STOP",
            Event::Resume => "RESUME",
            Event::Suspend => "SUSPEND",
            Event::Wakeup => "WAKEUP",
            Event::Reset { .. } => "RESET",
            Event::Shutdown { .. } => "SHUTDOWN",
            Event::Powerdown => "POWERDOWN",
            Event::Watchdog { .. } => "WATCHDOG",
            Event::GuestPanicked { .. } => "GUEST_PANICKED",
            Event::GuestCrashloaded { .. } => "GUEST_CRASHLOADED",
            Event::GuestPvshutdown => "GUEST_PVSHUTDOWN",
            Event::BlockIoError { .. } => "BLOCK_IO_ERROR",
            Event::Migration { .. } => "MIGRATION",
            Event::MigrationPass { .. } => "MIGRATION_PASS",
            Event::DumpCompleted { .. } => "DUMP_COMPLETED",
        }
    }

    /// RESET for this reason.
    pub const fn reset(reason: ShutdownCause) -> Event {
        Event::Reset { guest: reason.is_guest(), reason }
    }

    /// SHUTDOWN for this reason.
    pub const fn shutdown(reason: ShutdownCause) -> Event {
        Event::Shutdown { guest: reason.is_guest(), reason }
    }
}

/// The event's name, then what tells it apart: `SHUTDOWN{true,guest-panic}`, `MIGRATION{failed}`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Event::Reset { guest, reason } | Event::Shutdown { guest, reason } => {
                write!(f, "{{{guest},{reason}}}")
            }
            Event::Watchdog { action } => write!(f, "{{{action}}}"),
            Event::GuestPanicked { action } | Event::GuestCrashloaded { action } => {
                write!(f, "{{{}}}", action.as_str())
            }
            Event::BlockIoError { device, action } => write!(f, "{{{},{}}}", device.0, action.as_str()),
            Event::Migration { status } => write!(f, "{{{}}}", status.as_str()),
            Event::MigrationPass { pass } => write!(f, "{{{pass}}}"),
            _ => Ok(()),
        }
    }
}

/// QMP `GuestPanicAction`: what is done about a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PanicOutcome {
    /// The machine is held.
    Pause,
    /// The machine powers off.
    Poweroff,
    /// Nothing.
    Run,
}

impl PanicOutcome {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            PanicOutcome::Pause => "pause",
            PanicOutcome::Poweroff => "poweroff",
            PanicOutcome::Run => "run",
        }
    }
}

/// QMP `BlockErrorAction`: what is done about a request that failed, by the device's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoErrorAction {
    /// The guest is told that it succeeded.
    Ignore,
    /// The guest is told.
    Report,
    /// The machine is held, and the request is made again when it goes on.
    Stop,
}

impl IoErrorAction {
    /// Every action, in QMP's order.
    pub const ALL: &[IoErrorAction] = &[IoErrorAction::Ignore, IoErrorAction::Report, IoErrorAction::Stop];

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            IoErrorAction::Ignore => "ignore",
            IoErrorAction::Report => "report",
            IoErrorAction::Stop => "stop",
        }
    }
}

/// QMP `MigrationStatus`, as far as this machine reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// Connecting and preparing.
    Setup,
    /// Cancel was asked for.
    Cancelling,
    /// Cancelled.
    Cancelled,
    /// RAM is copied.
    Active,
    /// The destination runs and fetches pages.
    PostcopyActive,
    /// The link was lost after the destination started.
    PostcopyPaused,
    /// About to connect again after that.
    PostcopyRecoverSetup,
    /// Connected again after that.
    PostcopyRecover,
    /// Done.
    Completed,
    /// Failed.
    Failed,
    /// Waits for `migrate-continue`.
    PreSwitchover,
    /// Device state is captured.
    Device,
}

impl MigrationStatus {
    /// Every status, in QMP's order.
    pub const ALL: &[MigrationStatus] = &[
        MigrationStatus::Setup,
        MigrationStatus::Cancelling,
        MigrationStatus::Cancelled,
        MigrationStatus::Active,
        MigrationStatus::PostcopyActive,
        MigrationStatus::PostcopyPaused,
        MigrationStatus::PostcopyRecoverSetup,
        MigrationStatus::PostcopyRecover,
        MigrationStatus::Completed,
        MigrationStatus::Failed,
        MigrationStatus::PreSwitchover,
        MigrationStatus::Device,
    ];

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            MigrationStatus::Setup => "setup",
            MigrationStatus::Cancelling => "cancelling",
            MigrationStatus::Cancelled => "cancelled",
            MigrationStatus::Active => "active",
            MigrationStatus::PostcopyActive => "postcopy-active",
            MigrationStatus::PostcopyPaused => "postcopy-paused",
            MigrationStatus::PostcopyRecoverSetup => "postcopy-recover-setup",
            MigrationStatus::PostcopyRecover => "postcopy-recover",
            MigrationStatus::Completed => "completed",
            MigrationStatus::Failed => "failed",
            MigrationStatus::PreSwitchover => "pre-switchover",
            MigrationStatus::Device => "device",
        }
    }
}
