//! Every event that is sent, defined once, and how the machine's become the protocol's.
//!
//! A new event is a line of `events!` and, when the machine is what tells of it, an arm of [`of_machine`]. One with a rate of
//! its own that is the reason of another says so by [`Event::explaining`].

use std::time::Duration;

use engine::{Notes, Record};
use qmp::schema::{ArgDef, EventDef, ObjectDef, Qapi, QapiEnum, Rate, Type};
use qmp::{Event, Timestamp, qapi_enum, qapi_struct};

use crate::commands::{DumpQueryResult, JobStatus, MigrationStatus, WatchdogAction};
use crate::lifecycle::XLifecycleRecord;

qapi_enum! {
    /// Why the machine is reset or shut down. Those from `GuestShutdown` on come from the guest.
    ShutdownCause {
        /// No cause.
        None = "none",
        /// A fault of the host.
        HostError = "host-error",
        /// The command `quit`.
        HostQmpQuit = "host-qmp-quit",
        /// The command `system_reset`.
        HostQmpSystemReset = "host-qmp-system-reset",
        /// A signal to the process.
        HostSignal = "host-signal",
        /// The user interface.
        HostUi = "host-ui",
        /// The guest has shut down.
        GuestShutdown = "guest-shutdown",
        /// The guest has reset itself.
        GuestReset = "guest-reset",
        /// The guest has panicked.
        GuestPanic = "guest-panic",
        /// A part of the machine is reset.
        SubsystemReset = "subsystem-reset",
        /// A snapshot is loaded.
        SnapshotLoad = "snapshot-load",
    }
}

impl ShutdownCause {
    /// Whether the cause lies in the guest: the `guest` member of SHUTDOWN and RESET.
    pub fn is_guest(self) -> bool {
        self as u8 >= Self::GuestShutdown as u8
    }
}

qapi_enum! {
    /// What was done about a panic of the guest.
    GuestPanicAction {
        /// The machine was stopped.
        Pause = "pause",
        /// It is shut down.
        Poweroff = "poweroff",
        /// It runs on.
        Run = "run",
    }
}

qapi_struct! {
    /// The data of SHUTDOWN and RESET.
    ShutdownInfo {
        /// Whether the guest asked for it.
        guest: bool = "guest",
        /// Why.
        reason: ShutdownCause = "reason",
    }
}

qapi_struct! {
    /// The data of WATCHDOG.
    WatchdogInfo {
        /// What is done.
        action: WatchdogAction = "action",
    }
}

qapi_struct! {
    /// The data of GUEST_PANICKED and GUEST_CRASHLOADED.
    GuestPanicInfo {
        /// What was done.
        action: GuestPanicAction = "action",
    }
}

qapi_enum! {
    /// The direction of a request that failed.
    IoOperationType {
        /// A read.
        Read = "read",
        /// A write, a flush or a discard.
        Write = "write",
    }
}

qapi_enum! {
    /// What is done about a request that failed.
    BlockErrorAction {
        /// The guest is told that it succeeded.
        Ignore = "ignore",
        /// The guest is told.
        Report = "report",
        /// The machine is stopped; the request is made again when it goes on.
        Stop = "stop",
    }
}

qapi_struct! {
    /// The data of BLOCK_IO_ERROR.
    BlockIoErrorInfo {
        /// Path of the device in the object tree.
        qom_path: String = "qom-path",
        /// Name of the back end, empty if it has none.
        device: String = "device",
        /// Name of the block node.
        node_name: Option<String> = "node-name",
        /// What failed.
        operation: IoOperationType = "operation",
        /// What is done about it.
        action: BlockErrorAction = "action",
        /// Whether the host had no space left.
        nospace: Option<bool> = "nospace",
        /// What the host said, for people.
        reason: String = "reason",
    }
}

qapi_struct! {
    /// The data of VSERPORT_CHANGE.
    VserportInfo {
        /// The port's id.
        id: String = "id",
        /// Whether the guest has it open.
        open: bool = "open",
    }
}

qapi_struct! {
    /// The data of MIGRATION.
    MigrationEventInfo {
        /// How it stands now.
        status: MigrationStatus = "status",
    }
}

qapi_struct! {
    /// The data of MIGRATION_PASS.
    MigrationPassInfo {
        /// Which time it is, from 1.
        pass: i64 = "pass",
    }
}

qapi_struct! {
    /// The data of DUMP_COMPLETED.
    DumpCompletedInfo {
        /// How it went.
        result: DumpQueryResult = "result",
        /// Why it has failed.
        error: Option<String> = "error",
    }
}

qapi_struct! {
    /// The data of JOB_STATUS_CHANGE.
    JobStatusInfo {
        /// The job's id.
        id: String = "id",
        /// Where it stands now.
        status: JobStatus = "status",
    }
}

/// The members of an event's data, taken from its Rust type.
pub(crate) const fn members(ty: Type) -> &'static [ArgDef] {
    match ty {
        Type::Object(ObjectDef { members, .. }) => members,
        _ => &[],
    }
}

/// `NAME (type of the data) rate`.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident ($data:ty) $rate:expr;)*) => {
        $($(#[doc = $doc])+
        pub(crate) static $name: EventDef = EventDef {
            name: stringify!($name),
            doc: concat!($($doc),+).trim_ascii(),
            data: members(<$data>::TYPE),
            rate: $rate,
        };)*

        /// Every event.
        pub(crate) static ALL: &[&EventDef] = &[$(&$name),*];
    };
}

events! {
    /// The machine has stopped.
    STOP (()) Rate::Free;
    /// The machine goes on; a guest that slept sleeps on.
    RESUME (()) Rate::Free;
    /// The guest is suspended to RAM.
    SUSPEND (()) Rate::Free;
    /// The guest has woken.
    WAKEUP (()) Rate::Free;
    /// The machine was reset.
    RESET (ShutdownInfo) Rate::Free;
    /// The machine shuts down.
    SHUTDOWN (ShutdownInfo) Rate::Free;
    /// The power button was pressed.
    POWERDOWN (()) Rate::Free;
    /// The guest has panicked.
    GUEST_PANICKED (GuestPanicInfo) Rate::Free;
    /// The guest has panicked and runs a crash kernel.
    GUEST_CRASHLOADED (GuestPanicInfo) Rate::Free;
    /// The guest has asked for a shutdown through the panic device; a SHUTDOWN follows.
    GUEST_PVSHUTDOWN (()) Rate::Free;
    /// The watchdog has expired.
    WATCHDOG (WatchdogInfo) Rate::OneASecond;
    /// A dump of guest memory that was asked for as detached has ended.
    DUMP_COMPLETED (DumpCompletedInfo) Rate::Free;
    /// A migration stands differently. Only with the migration capability `events`.
    MIGRATION (MigrationEventInfo) Rate::Free;
    /// A migration begins to go through memory once more. Only with the migration capability `events`.
    MIGRATION_PASS (MigrationPassInfo) Rate::Free;
    /// A request of a disk has failed. Told each time, so that every STOP has its reason.
    BLOCK_IO_ERROR (BlockIoErrorInfo) Rate::Free;
    /// The guest has opened or closed a port of a virtio console.
    VSERPORT_CHANGE (VserportInfo) Rate::OneASecondEach("id");
    /// A job stands differently.
    JOB_STATUS_CHANGE (JobStatusInfo) Rate::Free;
    /// A record of the machine's life, before the event that goes with it. Only on connections that have asked for it
    /// (`x-lifecycle-events`).
    X_LIFECYCLE (XLifecycleRecord) Rate::Free;
}

/// The event that tells clients of it, and when it was, the same for every monitor; `None` if there is none.
pub(crate) fn of_engine(record: &Record) -> Option<(Event, Timestamp)> {
    Some((of_machine(record.event.as_ref()?, &record.notes)?, stamp(record)))
}

/// Whether the record tells of a migration, which clients hear only if they want to.
pub(crate) fn is_of_migration(record: &Record) -> bool {
    use runstate::Event as Machine;
    matches!(record.event, Some(Machine::Migration { .. } | Machine::MigrationPass { .. }))
}

/// X_LIFECYCLE for a record.
pub(crate) fn lifecycle(record: &Record) -> (Event, Timestamp) {
    (Event::with(&X_LIFECYCLE, &XLifecycleRecord::from(record)), stamp(record))
}

fn stamp(record: &Record) -> Timestamp {
    stamp_of(Duration::from_nanos(record.at.wall_ns))
}

/// The time stamp of events: the host's wall clock, since 1970.
pub(crate) fn stamp_of(at: Duration) -> Timestamp {
    Timestamp { seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), microseconds: at.subsec_micros() }
}

fn of_machine(event: &runstate::Event, notes: &Notes) -> Option<Event> {
    use runstate::Event as Machine;
    Some(match event {
        Machine::Stop => Event::plain(&STOP),
        Machine::Resume => Event::plain(&RESUME),
        Machine::Suspend => Event::plain(&SUSPEND),
        Machine::Wakeup => Event::plain(&WAKEUP),
        Machine::Reset { reason, .. } => Event::with(&RESET, &ShutdownInfo::new(reason.as_str())?),
        Machine::Shutdown { reason, .. } => Event::with(&SHUTDOWN, &ShutdownInfo::new(reason.as_str())?),
        Machine::Powerdown => Event::plain(&POWERDOWN),
        Machine::Watchdog { action } => {
            let action = same_name(action.as_str())?;
            let event = Event::with(&WATCHDOG, &WatchdogInfo { action });
            match action {
                WatchdogAction::None | WatchdogAction::Debug | WatchdogAction::InjectNmi => event,
                // STOP, RESET, SHUTDOWN or POWERDOWN follows.
                _ => event.explaining(),
            }
        }
        Machine::GuestPanicked { action } => {
            Event::with(&GUEST_PANICKED, &GuestPanicInfo { action: same_name(action.as_str())? })
        }
        Machine::BlockIoError { action, .. } => {
            let error = notes.io_error.as_ref()?;
            let info = BlockIoErrorInfo {
                qom_path: error.qom_path.clone(),
                device: error.device.clone(),
                node_name: error.node_name.clone(),
                operation: if error.read { IoOperationType::Read } else { IoOperationType::Write },
                action: same_name(action.as_str())?,
                nospace: Some(error.no_space),
                reason: error.reason.clone(),
            };
            Event::with(&BLOCK_IO_ERROR, &info)
        }
        Machine::GuestCrashloaded { action } => {
            Event::with(&GUEST_CRASHLOADED, &GuestPanicInfo { action: same_name(action.as_str())? })
        }
        Machine::GuestPvshutdown => Event::plain(&GUEST_PVSHUTDOWN),
        Machine::DumpCompleted { .. } => {
            let report = notes.job.as_ref()?;
            let error = report.error.as_deref().map(str::to_owned);
            Event::with(&DUMP_COMPLETED, &DumpCompletedInfo { result: report.into(), error })
        }
        Machine::Migration { status } => {
            Event::with(&MIGRATION, &MigrationEventInfo { status: (*status).into() })
        }
        Machine::MigrationPass { pass } => {
            Event::with(&MIGRATION_PASS, &MigrationPassInfo { pass: i64::from(*pass) })
        }
    })
}

/// VSERPORT_CHANGE.
pub(crate) fn port_changed(id: &str, open: bool) -> Event {
    Event::with(&VSERPORT_CHANGE, &VserportInfo { id: id.to_owned(), open })
}

/// JOB_STATUS_CHANGE.
pub(crate) fn job_changed(id: &str, status: JobStatus) -> Event {
    Event::with(&JOB_STATUS_CHANGE, &JobStatusInfo { id: id.to_owned(), status })
}

impl ShutdownInfo {
    /// Whether the guest asked follows from the cause.
    fn new(reason: &str) -> Option<Self> {
        let reason: ShutdownCause = same_name(reason)?;
        Some(Self { guest: reason.is_guest(), reason })
    }
}

/// The protocol's value of that name. Both sides list the same names, which the tests hold.
fn same_name<E: QapiEnum>(name: &str) -> Option<E> {
    E::from_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{By, Cause, Origin, Situation, Stamp};
    use runstate::{Config, Event as Machine, Lifecycle};
    use std::sync::Arc;

    fn plainly(event: Machine) -> Event {
        of_machine(&event, &Notes::default()).unwrap()
    }

    #[test]
    fn every_cause_and_action_has_its_event() {
        for cause in ShutdownCause::ALL {
            // The names of the protocol are those that a lifecycle is saved with.
            let reason: runstate::ShutdownCause = serde_json::from_value(cause.name().into()).unwrap();
            for event in [Machine::reset(reason), Machine::shutdown(reason)] {
                let wire = plainly(event);
                let data = wire.data().unwrap();
                assert_eq!((wire.def().name, data["reason"].as_str()), (event.name(), Some(reason.as_str())));
                assert_eq!(data["guest"].as_bool(), Some(reason.is_guest()));
            }
        }
        for &action in runstate::WatchdogAction::ALL {
            let wire = plainly(Machine::Watchdog { action });
            assert_eq!(wire.data().unwrap()["action"].as_str(), Some(action.as_str()));
        }
        use runstate::PanicOutcome;
        for action in [PanicOutcome::Pause, PanicOutcome::Poweroff, PanicOutcome::Run] {
            let wire = plainly(Machine::GuestPanicked { action });
            assert_eq!(wire.data().unwrap()["action"].as_str(), Some(action.as_str()));
        }
        let crashloaded = plainly(Machine::GuestCrashloaded { action: PanicOutcome::Run });
        assert_eq!(crashloaded.data().unwrap()["action"].as_str(), Some("run"));
        for event in [
            Machine::Stop,
            Machine::Resume,
            Machine::Suspend,
            Machine::Wakeup,
            Machine::Powerdown,
            Machine::GuestPvshutdown,
        ] {
            let wire = plainly(event);
            assert_eq!((wire.def().name, wire.data()), (event.name(), None));
        }
    }

    #[test]
    fn a_failed_request_is_told_with_what_failed() {
        let error = vmcore::IoError {
            device: "drive0".to_owned(),
            node_name: Some("node0".to_owned()),
            qom_path: "/machine/peripheral/disk".to_owned(),
            read: false,
            no_space: true,
            reason: "No space left on device".to_owned(),
        };
        for &action in runstate::IoErrorAction::ALL {
            let event = Machine::BlockIoError { device: runstate::DeviceId(1), action };
            let notes = Notes { io_error: Some(Arc::new(error.clone())), ..Notes::default() };
            let expected = serde_json::json!({
                "qom-path": "/machine/peripheral/disk", "device": "drive0", "node-name": "node0",
                "operation": "write", "action": action.as_str(), "nospace": true,
                "reason": "No space left on device",
            });
            assert_eq!(of_machine(&event, &notes).unwrap().data(), Some(&expected));
        }
    }

    #[test]
    fn causes_have_qemus_order() {
        let names: Vec<&str> = ShutdownCause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names[2], "host-qmp-quit");
        let guest: Vec<&str> =
            ShutdownCause::ALL.iter().filter(|cause| cause.is_guest()).map(|cause| cause.name()).collect();
        assert_eq!(
            guest,
            ["guest-shutdown", "guest-reset", "guest-panic", "subsystem-reset", "snapshot-load"]
        );
    }

    #[test]
    fn stamps_are_seconds_and_microseconds() {
        let situation = Arc::new(Situation::from(&Lifecycle::new(Config::default())));
        let record = Record {
            sequence: 1,
            at: Stamp { wall_ns: 1_795_396_495_751_023_999, ..Stamp::default() },
            cause: Cause { origin: Origin::Management, request: "stop", by: By::Unnamed },
            event: Some(Machine::Stop),
            from: Arc::clone(&situation),
            to: situation,
            notes: Notes::default(),
        };
        let text =
            "{\"timestamp\": {\"seconds\": 1795396495, \"microseconds\": 751023}, \"event\": \"STOP\"}\r\n";
        let (event, when) = of_engine(&record).unwrap();
        assert_eq!(event.render(when), text);
    }
}
