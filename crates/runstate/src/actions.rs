//! What to do when the guest reboots, shuts down, panics or lets its watchdog expire: `-action`, `set-action`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A word that is no value of the action it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of: {accepted}")]
pub struct UnknownAction {
    /// The values that would have been accepted, separated by commas.
    pub accepted: &'static str,
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident, $accepted:literal { $($(#[$vdoc:meta])* $variant:ident = $wire:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in the order of the QMP enumeration.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The wire name.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $wire),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownAction;
            fn from_str(word: &str) -> Result<$name, UnknownAction> {
                match word {
                    $($wire => Ok($name::$variant),)+
                    _ => Err(UnknownAction { accepted: $accepted }),
                }
            }
        }
    };
}

action! {
    /// On a reset that the guest or a manager asks for.
    RebootAction, "reset, shutdown" {
        /// Reset.
        #[default]
        Reset = "reset",
        /// Shut down instead (`-no-reboot`); also for a manager's `system_reset`.
        Shutdown = "shutdown",
    }
}
action! {
    /// On a power-off.
    ShutdownAction, "poweroff, pause" {
        /// The process ends.
        #[default]
        Poweroff = "poweroff",
        /// The machine stays, in state `shutdown` (`-no-shutdown`).
        Pause = "pause",
    }
}
action! {
    /// On a guest panic.
    PanicAction, "pause, shutdown, exit-failure, none" {
        /// Hold the machine in `guest-panicked`.
        Pause = "pause",
        /// Shut down, or hold in `guest-panicked` when the shutdown action is `pause`.
        #[default]
        Shutdown = "shutdown",
        /// Shut down with exit status 1.
        ExitFailure = "exit-failure",
        /// Only tell.
        None = "none",
    }
}
action! {
    /// On an expired watchdog.
    WatchdogAction, "reset, shutdown, poweroff, pause, debug, none, inject-nmi" {
        /// Reset, as the guest would.
        #[default]
        Reset = "reset",
        /// Press the power button.
        Shutdown = "shutdown",
        /// End the process.
        Poweroff = "poweroff",
        /// Hold the machine in `watchdog`.
        Pause = "pause",
        /// Only tell.
        Debug = "debug",
        /// Only tell.
        None = "none",
        /// Inject an NMI; this machine has none, so it only tells.
        InjectNmi = "inject-nmi",
    }
}

/// The four actions in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Actions {
    /// On a reset.
    pub reboot: RebootAction,
    /// On a power-off.
    pub shutdown: ShutdownAction,
    /// On a guest panic.
    pub panic: PanicAction,
    /// On an expired watchdog.
    pub watchdog: WatchdogAction,
}

/// The arguments of `set-action`: any subset, also none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionChange {
    /// New action on a reset.
    pub reboot: Option<RebootAction>,
    /// New action on a power-off.
    pub shutdown: Option<ShutdownAction>,
    /// New action on a guest panic.
    pub panic: Option<PanicAction>,
    /// New action on an expired watchdog.
    pub watchdog: Option<WatchdogAction>,
}

impl Actions {
    /// These actions with `change` on top.
    pub fn with(self, change: ActionChange) -> Actions {
        Actions {
            reboot: change.reboot.unwrap_or(self.reboot),
            shutdown: change.shutdown.unwrap_or(self.shutdown),
            panic: change.panic.unwrap_or(self.panic),
            watchdog: change.watchdog.unwrap_or(self.watchdog),
        }
    }
}
