//! The machine's state, and what changes it.

use engine::ManageError;
use qmp::{Args, QmpError, qapi_enum, qapi_struct};
use runstate::ManagementRequest as Ask;

use super::{Command, Env, always, command, refused};
use crate::hmp::{HmpError, Human, Screen};

qapi_enum! {
    /// The sixteen names of the machine's state (`spec/run-state.md` 1.1), in the enumeration's order.
    RunState {
        /// Stopped by a debugger.
        Debug = "debug",
        /// Waits for, or takes in, an incoming migration.
        InMigrate = "inmigrate",
        /// A fault that only a reset mends.
        InternalError = "internal-error",
        /// Stopped by an I/O error.
        IoError = "io-error",
        /// Stopped by a manager.
        Paused = "paused",
        /// Stopped, since its state has gone elsewhere.
        PostMigrate = "postmigrate",
        /// Not started yet, or reset while stopped.
        PreLaunch = "prelaunch",
        /// Stopped for the last part of an outgoing migration.
        FinishMigrate = "finish-migrate",
        /// A snapshot is being restored.
        RestoreVm = "restore-vm",
        /// Runs.
        Running = "running",
        /// A snapshot is being saved.
        SaveVm = "save-vm",
        /// Shut down by the guest, the process still being here.
        Shutdown = "shutdown",
        /// Suspended to RAM by the guest.
        Suspended = "suspended",
        /// Stopped by the watchdog.
        Watchdog = "watchdog",
        /// The guest has panicked.
        GuestPanicked = "guest-panicked",
        /// Held by fault tolerance.
        Colo = "colo",
    }
}

qapi_struct! {
    /// The state of the machine.
    StatusInfo {
        /// Whether it runs: true exactly in state running.
        running: bool = "running",
        /// The state.
        status: RunState = "status",
    }
}

qapi_struct! {
    /// What the present machine can do.
    CurrentMachineParams {
        /// Whether the guest can be suspended and woken.
        wakeup_suspend_support: bool = "wakeup-suspend-support",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The state of the machine. The answer agrees with the events that this connection has been sent.
        "query-status" [] -> StatusInfo = |env: &Env<'_>, _: &Args| Ok(StatusInfo::from(env.status))
    }
    .lifecycle_query(always)
    .human(Human::info(&["status"], "show the state of the machine", info_status)),
    command! {
        /// What the present machine can do.
        "query-current-machine" [] -> CurrentMachineParams = |env: &Env<'_>, _: &Args| {
            Ok(CurrentMachineParams { wakeup_suspend_support: env.status.wakeup_supported })
        }
    }
    .lifecycle_query(always),
    command! {
        /// Stops the machine.
        "stop" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::Stop)
    }
    .human(Human::new(&["stop", "s"], "stop the machine", |screen, _| screen.manage(Ask::Stop))),
    command! {
        /// Lets the machine go on. A guest that slept when it was stopped sleeps on.
        "cont" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::Cont)
    }
    .human(Human::new(&["cont", "c"], "let the machine go on", |screen, _| screen.manage(Ask::Cont))),
    command! {
        /// Wakes a guest that is suspended to RAM.
        "system_wakeup" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::SystemWakeup)
    }
    .human(Human::new(&["system_wakeup"], "wake the guest from suspend", |screen, _| {
        screen.manage(Ask::SystemWakeup)
    })),
    command! {
        /// Resets the machine.
        "system_reset" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::SystemReset)
    }
    .human(Human::new(&["system_reset"], "reset the machine", |screen, _| screen.manage(Ask::SystemReset))),
    command! {
        /// Presses the power button.
        "system_powerdown" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::SystemPowerdown)
    }
    .human(Human::new(&["system_powerdown"], "press the power button", |screen, _| {
        screen.manage(Ask::SystemPowerdown)
    })),
    command! {
        /// Sends a non-maskable interrupt; machines without one refuse.
        "inject-nmi" [] -> () = |env: &Env<'_>, _: &Args| env.manage(Ask::InjectNmi)
    }
    .human(Human::new(&["nmi"], "send a non-maskable interrupt to CPU 0", |screen, _| {
        screen.manage(Ask::InjectNmi)
    })),
    command! {
        /// Ends the machine and the program.
        "quit" [] -> () = quit
    }
    .human(Human::new(&["quit", "q"], "end the machine and the program", |screen, _| screen.manage(QUIT))),
];

pub(crate) const QUIT: Ask = Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit };

/// What is asked for has happened also when the machine has ended already.
fn quit(env: &Env<'_>, _: &Args) -> Result<(), QmpError> {
    match env.ask(QUIT) {
        Err(ManageError::Ended) => Ok(()),
        answer => answer.map_err(refused),
    }
}

impl From<&engine::Status> for StatusInfo {
    fn from(status: &engine::Status) -> Self {
        Self { running: status.state.is_running(), status: status.state.into() }
    }
}

impl From<runstate::RunState> for RunState {
    fn from(state: runstate::RunState) -> Self {
        use runstate::RunState as Engine;
        match state {
            Engine::Debug => Self::Debug,
            Engine::InMigrate => Self::InMigrate,
            Engine::InternalError => Self::InternalError,
            Engine::IoError => Self::IoError,
            Engine::Paused => Self::Paused,
            Engine::PostMigrate => Self::PostMigrate,
            Engine::Prelaunch => Self::PreLaunch,
            Engine::FinishMigrate => Self::FinishMigrate,
            Engine::RestoreVm => Self::RestoreVm,
            Engine::Running => Self::Running,
            Engine::SaveVm => Self::SaveVm,
            Engine::Shutdown => Self::Shutdown,
            Engine::Suspended => Self::Suspended,
            Engine::Watchdog => Self::Watchdog,
            Engine::GuestPanicked => Self::GuestPanicked,
            Engine::Colo => Self::Colo,
        }
    }
}

/// `VM status: ...`, in the words of `spec/run-state.md` 1.4.
fn info_status(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    use runstate::RunState as State;
    let text = match screen.env.status.state {
        State::Running => "VM status: running".to_owned(),
        State::Paused => "VM status: paused".to_owned(),
        other => format!("VM status: paused ({other})"),
    };
    screen.print(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmp::schema::QapiEnum as _;

    #[test]
    fn every_state_keeps_its_name() {
        assert_eq!(RunState::ALL.len(), runstate::RunState::ALL.len());
        for state in runstate::RunState::ALL {
            assert_eq!(RunState::from(state).name(), state.as_str());
        }
        assert_eq!(RunState::from_name("Running"), None);
    }
}
