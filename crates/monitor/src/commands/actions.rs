//! What is done when the machine reboots, shuts down, panics, or its watchdog expires.

use std::str::FromStr;

use qmp::schema::{Qapi as _, QapiEnum as _, arg, opt};
use qmp::{Args, QmpError, qapi_enum};
use runstate::{ActionChange, ManagementRequest};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words, shorten};

qapi_enum! {
    /// What a reset of the machine does.
    RebootAction {
        /// It resets.
        Reset = "reset",
        /// It shuts down instead.
        Shutdown = "shutdown",
    }
}

qapi_enum! {
    /// What a shutdown of the machine does.
    ShutdownAction {
        /// The process ends.
        Poweroff = "poweroff",
        /// The machine stays, stopped.
        Pause = "pause",
    }
}

qapi_enum! {
    /// What a panic of the guest does.
    PanicAction {
        /// The machine is stopped.
        Pause = "pause",
        /// It is shut down.
        Shutdown = "shutdown",
        /// It is shut down with exit status 1.
        ExitFailure = "exit-failure",
        /// Nothing.
        None = "none",
    }
}

qapi_enum! {
    /// What an expired watchdog does.
    WatchdogAction {
        /// Reset.
        Reset = "reset",
        /// The power button.
        Shutdown = "shutdown",
        /// The process ends.
        Poweroff = "poweroff",
        /// The machine is stopped.
        Pause = "pause",
        /// A line in the log.
        Debug = "debug",
        /// Nothing.
        None = "none",
        /// A non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Says what reboot, shutdown, panic and watchdog do. What is not given stays as it is.
        "set-action" [
            opt("reboot", RebootAction::TYPE, "What a reset does."),
            opt("shutdown", ShutdownAction::TYPE, "What a shutdown does."),
            opt("panic", PanicAction::TYPE, "What a panic of the guest does."),
            opt("watchdog", WatchdogAction::TYPE, "What an expired watchdog does."),
        ] -> () = set_action
    },
    command! {
        /// Says what an expired watchdog does.
        "watchdog-set-action" [arg("action", WatchdogAction::TYPE, "What it does.")] -> () = watchdog_set_action
    }
    .human(
        Human::new(&["watchdog_action"], "say what an expired watchdog does", watchdog_action)
            .words("[reset|shutdown|poweroff|pause|debug|none|inject-nmi]", Words::One(WatchdogAction::DEF.values)),
    ),
];

fn set_action(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let change = ActionChange {
        reboot: action(args, "reboot")?,
        shutdown: action(args, "shutdown")?,
        panic: action(args, "panic")?,
        watchdog: action(args, "watchdog")?,
    };
    env.manage(ManagementRequest::SetActions(change))
}

fn watchdog_set_action(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    env.manage(watchdog(action(args, "action")?))
}

fn watchdog_action(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let word = words.first().copied().unwrap_or_default();
    let action = word.parse().map_err(|_| HmpError::BadValue(shorten(word)))?;
    screen.manage(watchdog(Some(action)))
}

fn watchdog(action: Option<runstate::WatchdogAction>) -> ManagementRequest {
    ManagementRequest::SetActions(ActionChange { watchdog: action, ..ActionChange::default() })
}

/// An optional action. Its name has passed the checks of the protocol, which lists the same names.
fn action<T: FromStr>(args: &Args, name: &str) -> Result<Option<T>, QmpError> {
    let parse = |value: &str| value.parse().map_err(|_| QmpError::bad_value(name, value));
    args.opt_str(name).map(parse).transpose()
}
