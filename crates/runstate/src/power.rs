//! What the guest did to itself: guest power, and why it shut down or broke.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Guest power, the first of the two axes. The other is the list of [`Holds`](crate::Holds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Harts execute whenever nothing holds the machine.
    Awake,
    /// Suspended to RAM by SBI SUSP; says where to go on.
    Asleep(Sleep),
    /// Powered down; only a reset or a snapshot leads out.
    Off {
        /// Why it is off.
        cause: ShutdownCause,
        /// Exit status that the process will have.
        exit_code: i32,
    },
    /// A hart cannot go on; only a reset or a snapshot leads out.
    Broken {
        /// What failed.
        what: Fault,
    },
}

impl Power {
    /// The sleep, if asleep.
    pub const fn sleep(&self) -> Option<Sleep> {
        match self {
            Power::Asleep(sleep) => Some(*sleep),
            _ => None,
        }
    }
}

/// Arguments of the SBI call that put the machine to sleep (SBI 2.0, chapter 13): where and how the hart resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sleep {
    /// The hart that called and that will resume, by its hart id.
    pub hart: u32,
    /// Physical address at which it resumes in S-mode.
    pub resume_addr: u64,
    /// Handed back to it in `a1`.
    pub opaque: u64,
}

/// What made the machine [`Power::Broken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The host thread of a hart panicked.
    HartThread {
        /// Hart id.
        hart: u32,
    },
    /// Host memory behind the guest's RAM could not be read or written.
    HostMemory {
        /// Id of the hart that met it; `None`: a device, a job or the machine itself did.
        hart: Option<u32>,
    },
    /// The engine could not carry out an effect that has no way back.
    Effect,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::HartThread { hart } => write!(f, "the thread of hart {hart} failed"),
            Fault::HostMemory { hart: Some(hart) } => write!(f, "hart {hart} met an error of host memory"),
            Fault::HostMemory { hart: None } => f.write_str("an error of host memory"),
            Fault::Effect => f.write_str("a step of the machine could not be carried out"),
        }
    }
}

/// QMP `ShutdownCause`: the `reason` of SHUTDOWN and RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownCause {
    /// No cause.
    None,
    /// An error of the host.
    HostError,
    /// QMP `quit`.
    HostQmpQuit,
    /// QMP `system_reset`.
    HostQmpSystemReset,
    /// A signal such as SIGTERM.
    HostSignal,
    /// A window was closed, or C-a x on the terminal.
    HostUi,
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself, or its watchdog did.
    GuestReset,
    /// The guest panicked, or reported failure to the test finisher.
    GuestPanic,
    /// A part of the machine was reset.
    SubsystemReset,
    /// A snapshot was loaded.
    SnapshotLoad,
}

impl ShutdownCause {
    /// The wire name, for example `"host-qmp-quit"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ShutdownCause::None => "none",
            ShutdownCause::HostError => "host-error",
            ShutdownCause::HostQmpQuit => "host-qmp-quit",
            ShutdownCause::HostQmpSystemReset => "host-qmp-system-reset",
            ShutdownCause::HostSignal => "host-signal",
            ShutdownCause::HostUi => "host-ui",
            ShutdownCause::GuestShutdown => "guest-shutdown",
            ShutdownCause::GuestReset => "guest-reset",
            ShutdownCause::GuestPanic => "guest-panic",
            ShutdownCause::SubsystemReset => "subsystem-reset",
            ShutdownCause::SnapshotLoad => "snapshot-load",
        }
    }

    /// The member `guest` of the event: true from `guest-shutdown` on in the order of the enumeration.
    pub const fn is_guest(self) -> bool {
        matches!(
            self,
            ShutdownCause::GuestShutdown
                | ShutdownCause::GuestReset
                | ShutdownCause::GuestPanic
                | ShutdownCause::SubsystemReset
                | ShutdownCause::SnapshotLoad
        )
    }
}

impl fmt::Display for ShutdownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
