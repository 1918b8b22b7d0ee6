//! The machine's life in the protocol's types.

use engine::{Status, TimedEvent};
use qmp::Timestamp;
use qmp::schema::QapiEnum;
use qmp::types::{self, StatusInfo};
use runstate::{Event, RunState};

/// The answer of `query-status`.
pub(crate) fn status_info(status: &Status) -> StatusInfo {
    StatusInfo { running: status.state.is_running(), status: run_state(status.state) }
}

fn run_state(state: RunState) -> types::RunState {
    use types::RunState as Wire;
    match state {
        RunState::Debug => Wire::Debug,
        RunState::InMigrate => Wire::InMigrate,
        RunState::InternalError => Wire::InternalError,
        RunState::IoError => Wire::IoError,
        RunState::Paused => Wire::Paused,
        RunState::PostMigrate => Wire::PostMigrate,
        RunState::Prelaunch => Wire::PreLaunch,
        RunState::FinishMigrate => Wire::FinishMigrate,
        RunState::RestoreVm => Wire::RestoreVm,
        RunState::Running => Wire::Running,
        RunState::SaveVm => Wire::SaveVm,
        RunState::Shutdown => Wire::Shutdown,
        RunState::Suspended => Wire::Suspended,
        RunState::Watchdog => Wire::Watchdog,
        RunState::GuestPanicked => Wire::GuestPanicked,
        RunState::Colo => Wire::Colo,
    }
}

/// The line that tells of an event, the same for every monitor; `None` for those of devices and jobs that the protocol
/// does not define yet.
pub(crate) fn event_line(event: &TimedEvent) -> Option<String> {
    let when = Timestamp {
        seconds: i64::try_from(event.at.as_secs()).unwrap_or(i64::MAX),
        microseconds: event.at.subsec_micros(),
    };
    Some(wire_event(&event.event)?.render(when))
}

fn wire_event(event: &Event) -> Option<qmp::Event> {
    Some(match event {
        Event::Stop => qmp::Event::stop(),
        Event::Resume => qmp::Event::resume(),
        Event::Suspend => qmp::Event::suspend(),
        Event::Wakeup => qmp::Event::wakeup(),
        Event::Reset { reason, .. } => qmp::Event::reset(same_name(reason.as_str())?),
        Event::Shutdown { reason, .. } => qmp::Event::shutdown(same_name(reason.as_str())?),
        Event::Powerdown => qmp::Event::powerdown(),
        Event::Watchdog { action } => qmp::Event::watchdog(same_name(action.as_str())?),
        Event::GuestPanicked { action } => qmp::Event::guest_panicked(same_name(action.as_str())?),
        Event::GuestCrashloaded { .. }
        | Event::GuestPvshutdown
        | Event::BlockIoError { .. }
        | Event::Migration { .. }
        | Event::DumpCompleted { .. } => return None,
    })
}

/// The protocol's value of that name. Both sides list the same names, which the tests hold.
fn same_name<E: QapiEnum>(name: &str) -> Option<E> {
    E::from_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstate::{PanicOutcome, ShutdownCause, WatchdogAction};
    use std::time::Duration;

    #[test]
    fn every_state_keeps_its_name() {
        for state in RunState::ALL {
            assert_eq!(run_state(state).name(), state.as_str());
        }
    }

    #[test]
    fn every_cause_and_action_has_its_event() {
        for cause in types::ShutdownCause::ALL {
            // The names of the protocol are those that a lifecycle is saved with.
            let reason: ShutdownCause = serde_json::from_value(cause.name().into()).unwrap();
            for event in [Event::reset(reason), Event::shutdown(reason)] {
                let wire = wire_event(&event).unwrap();
                let data = wire.data().unwrap();
                assert_eq!((wire.def().name, data["reason"].as_str()), (event.name(), Some(reason.as_str())));
                assert_eq!(data["guest"].as_bool(), Some(reason.is_guest()));
            }
        }
        for &action in WatchdogAction::ALL {
            let wire = wire_event(&Event::Watchdog { action }).unwrap();
            assert_eq!(wire.data().unwrap()["action"].as_str(), Some(action.as_str()));
        }
        for action in [PanicOutcome::Pause, PanicOutcome::Poweroff, PanicOutcome::Run] {
            let wire = wire_event(&Event::GuestPanicked { action }).unwrap();
            assert_eq!(wire.data().unwrap()["action"].as_str(), Some(action.as_str()));
        }
        for event in [Event::Stop, Event::Resume, Event::Suspend, Event::Wakeup, Event::Powerdown] {
            let wire = wire_event(&event).unwrap();
            assert_eq!((wire.def().name, wire.data()), (event.name(), None));
        }
    }

    #[test]
    fn stamps_are_seconds_and_microseconds() {
        let event = TimedEvent { event: Event::Stop, at: Duration::new(1_795_396_495, 751_023_999) };
        let line =
            "{\"timestamp\": {\"seconds\": 1795396495, \"microseconds\": 751023}, \"event\": \"STOP\"}\r\n";
        assert_eq!(event_line(&event).unwrap(), line);
    }
}
