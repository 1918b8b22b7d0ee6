//! What travels when the machine's life changes: one record for each publication, numbered without a gap.

use std::fmt;
use std::sync::Arc;

use clock::{GuestClock, HostClock};
use runstate::{
    Actions, DeviceRequest, EngineReport, Epoch, Event, Fault, Holds, Job, Lifecycle, Power, Request,
    RunState, ShutdownCause, WakeFate, WakePolicy, WakeSource,
};
use vmcore::IoError;

use crate::job::JobReport;

/// A moment on the three clocks that are never the same. All in ns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stamp {
    /// Guest monotonic time: stands while the machine is held.
    pub guest_ns: u64,
    /// The host's monotonic time, since a moment that is fixed for the life of the process.
    pub host_ns: u64,
    /// The host's wall clock, since 1970-01-01 UTC. May be set back.
    pub wall_ns: u64,
}

/// The clocks that stamps are read from.
#[derive(Clone)]
pub(crate) struct Clocks {
    pub(crate) host: Arc<dyn HostClock>,
    pub(crate) guest: Arc<GuestClock>,
}

impl Clocks {
    pub(crate) fn now(&self) -> Stamp {
        Stamp {
            guest_ns: self.guest.now_ns(),
            host_ns: self.host.monotonic_ns(),
            wall_ns: self.host.realtime_ns(),
        }
    }
}

/// Which mouth a request came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The program, when it made the machine.
    Start,
    /// A manager, an operator, a debugger, a signal.
    Management,
    /// The guest, on one of its harts.
    Guest,
    /// A device, or the host's side of a hart.
    Device,
    /// A job: dump, snapshot, migration.
    Job,
    /// The engine itself, which could not carry out a step.
    Engine,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Management, Self::Guest, Self::Device, Self::Job, Self::Engine];

    /// Wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Management => "management",
            Self::Guest => "guest",
            Self::Device => "device",
            Self::Job => "job",
            Self::Engine => "engine",
        }
    }
}

/// Who made a request, as far as that is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum By {
    /// Nobody in particular.
    #[default]
    Unnamed,
    /// A client of the engine, by its name.
    Client(Arc<str>),
    /// The debugger.
    Debugger,
    /// A hart, by its id.
    Hart(u32),
    /// A wake source.
    Wake(WakeSource),
    /// A device, by its number, and by its name where it keeps data.
    Device(runstate::DeviceId, Option<Arc<str>>),
    /// What failed.
    Fault(Failure),
}

/// A fault, and its reason where there is more to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What failed.
    pub what: Fault,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
}

impl From<Fault> for Failure {
    fn from(what: Fault) -> Self {
        Self { what, reason: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {reason}", self.what),
            None => self.what.fmt(f),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => Ok(()),
            Self::Client(name) => f.write_str(name),
            Self::Debugger => f.write_str("debugger"),
            Self::Hart(id) => write!(f, "hart{id}"),
            Self::Wake(source) => source.fmt(f),
            Self::Device(_, Some(name)) => f.write_str(name),
            Self::Device(id, None) => write!(f, "device{}", id.0),
            Self::Fault(failure) => failure.fmt(f),
        }
    }
}

/// Why something happened: the request that led to it, and who made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// Which mouth it came from.
    pub origin: Origin,
    /// What was asked, as [`Request::name`] calls it; `start` for the machine's beginning.
    pub request: &'static str,
    /// Who asked.
    pub by: By,
}

impl Cause {
    /// The machine's beginning.
    pub(crate) const START: Self = Self { origin: Origin::Start, request: "start", by: By::Unnamed };

    /// The cause that a request is. Who asked is what the request itself says.
    pub(crate) fn of(request: &Request) -> Self {
        let (origin, by) = match request {
            Request::Management(_) => (Origin::Management, By::Unnamed),
            Request::Guest(_) => (Origin::Guest, By::Unnamed),
            Request::Device(stamped) => (Origin::Device, By::maker_of(&stamped.request)),
            Request::Migration(_) => (Origin::Job, By::Unnamed),
            Request::Engine(_) => (Origin::Engine, By::Unnamed),
        };
        Self { origin, request: request.name(), by }
    }

    /// The cause of a request that the engine makes while it carries out another: a report belongs to what it reports on.
    pub(crate) fn of_follow_up(request: &Request) -> Option<Self> {
        let own = !matches!(request, Request::Engine(report) if *report != EngineReport::EffectFailed);
        own.then(|| Self::of(request))
    }
}

impl By {
    /// Who makes a device's request, as far as that says.
    pub(crate) fn maker_of(request: &DeviceRequest) -> Self {
        match request {
            DeviceRequest::Wake(source) | DeviceRequest::MaskedWake(source) => By::Wake(*source),
            DeviceRequest::IoError { device, .. } => By::Device(*device, None),
            DeviceRequest::HartFailed { what } => By::Fault((*what).into()),
            DeviceRequest::Watchdog => By::Unnamed,
        }
    }
}

/// The whole life at one moment, without its history: what clients may know of a [`Lifecycle`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Situation {
    /// The QMP run state.
    pub state: RunState,
    /// What the guest did to itself.
    pub power: Power,
    /// Why the host holds the machine, earliest first.
    pub holds: Holds,
    /// The wake that waits for the last hold to go.
    pub latched: Option<WakeSource>,
    /// The reset that waits for the end of a job.
    pub pending_reset: Option<ShutdownCause>,
    /// The job under way.
    pub job: Option<Job>,
    /// Counts resets and loads.
    pub epoch: Epoch,
    /// The exit status that the process will have.
    pub exit_code: i32,
    /// Whether the process is ending.
    pub exiting: bool,
    /// What is done about reboot, shutdown, panic and watchdog.
    pub actions: Actions,
    /// Whether the guest can suspend to RAM and be woken.
    pub wakeup_supported: bool,
    /// Which wake sources the operator allows.
    pub wake_policy: WakePolicy,
}

impl Situation {
    /// Whether `cont` is refused until a reset.
    pub fn needs_reset(&self) -> bool {
        matches!(self.power, Power::Off { .. } | Power::Broken { .. })
    }

    /// Suspended to RAM, live or held.
    pub fn is_asleep(&self) -> bool {
        matches!(self.power, Power::Asleep(_))
    }
}

impl From<&Lifecycle> for Situation {
    fn from(life: &Lifecycle) -> Self {
        Self {
            state: life.view(),
            power: life.power(),
            holds: *life.holds(),
            latched: life.latched(),
            pending_reset: life.pending_reset(),
            job: life.job(),
            epoch: life.epoch(),
            exit_code: life.exit_code(),
            exiting: life.is_exiting(),
            actions: life.actions(),
            wakeup_supported: life.wakeup_supported(),
            wake_policy: life.wake_policy(),
        }
    }
}

/// What the engine knows beside the value: told with the next record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notes {
    /// The guest was woken, by this.
    pub woken: Option<WakeSource>,
    /// A wake came that the operator's policy forbids, or that the guest has masked. Told once a sleep for each source.
    pub refused: Option<(WakeSource, WakeFate)>,
    /// A flush of the disks has ended: well, or with this error.
    pub flushed: Option<Result<(), Arc<str>>>,
    /// BLOCK_IO_ERROR: what failed.
    pub io_error: Option<Arc<IoError>>,
    /// DUMP_COMPLETED: how it went.
    pub job: Option<JobReport>,
}

/// One change of what is published, or one event told, or both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its number: 1 for the machine's beginning, then one more for each record.
    pub sequence: u64,
    /// When it was made.
    pub at: Stamp,
    /// What led to it.
    pub cause: Cause,
    /// The QMP event that goes with it.
    pub event: Option<Event>,
    /// The situation before it: the `to` of the record before.
    pub from: Arc<Situation>,
    /// The situation from it on.
    pub to: Arc<Situation>,
    /// What else is new.
    pub notes: Notes,
}
