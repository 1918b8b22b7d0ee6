//! The life of a machine as a pure value.
#![forbid(unsafe_code)]

mod actions;
mod effect;
mod event;
mod hold;
mod job;
mod lifecycle;
mod names;
mod power;
mod refusal;
mod request;
mod rules;
mod wake;

pub use actions::{
    ActionChange, Actions, PanicAction, RebootAction, ShutdownAction, UnknownAction, WatchdogAction,
};
pub use effect::{Effect, Effects, Outcome};
pub use event::{Event, MigrationStatus, PanicOutcome};
pub use hold::{DeviceId, Hold, HoldKind, Holds, Owner};
pub use job::{IncomingStage, Job, JobKind, Lift, OutgoingStage, Phase};
pub use lifecycle::{Config, Inconsistent, Lifecycle, SavedLifecycle};
pub use names::RunState;
pub use power::{Fault, Power, ShutdownCause, Sleep};
pub use refusal::Refusal;
pub use request::{
    DeviceRequest, EngineReport, Epoch, GuestRequest, ManagementRequest, MigrationRequest, Request, Stamped,
};
pub use wake::{WakePolicy, WakeSource};
