//! The life of a machine as a pure value: `(lifecycle, request) -> (lifecycle, effects)`, or a typed refusal that
//! changes nothing. No clock, no thread, no lock, no I/O.
//!
//! # Two axes
//!
//! What the guest did to itself and why the host keeps it from running are two different things. A single list of run
//! states cannot say "asleep *and* stopped", "off *and* moved away", "stopped by two who do not know of each other", so
//! an engine that has only the list keeps the rest in hidden flags, which then disagree. Here both are kept:
//!
//! ```text
//!            guest power                                    holds (an ordered set, keyed by owner)
//!
//!             SUSP                          liftable   boot manager debugger device(n) watchdog panic moved
//!   Awake ───────────▶ Asleep                          `cont` takes them all; reset puts boot in their place
//!     │  ◀───────────    │                  power      off (while Off), fault (while Broken)
//!     │      wake        │                             reset or load takes them
//!     │ SRST, failure    │                  job        incoming outgoing dump save load background
//!     ▼                  ▼                             the job alone takes its own
//!   Off, Broken ◀────────┘
//!     │  reset: from any power to Awake                empty  ⇔  live
//!     └──────────▶ Awake
//!
//!   first hold comes: halt, STOP                last hold goes: lift, RESUME
//! ```
//!
//! The sixteen names of QMP are a *view* of the two ([`Lifecycle::view`]). `stop` on a sleeping guest adds a hold, `cont`
//! takes it away, and the guest is asleep again: nothing has to be remembered, because nothing was overwritten. Every
//! combination is legal, so no transition can be missing and nothing has to abort.
//!
//! # Invariants
//!
//! 1. Every request in every value gives an outcome or a [`Refusal`]; a refusal changes nothing.
//! 2. Live exactly when there is no hold. STOP and RESUME alternate until an exit ends the sequence, and so do the
//!    effects that stop and start devices and clock.
//! 3. An `off` hold exactly while `Off`; a `fault` hold exactly while `Broken`; a job's hold exactly when
//!    [`Job::hold`] says so; at most one job.
//! 4. A latched wake only while asleep; it is delivered once, when the last hold goes, or never after a reset.
//! 5. A request of the guest or a device from another epoch changes nothing.
//! 6. Once an outgoing migration has committed, nothing that the job does makes the machine live.
//! 7. A reset is never refused while the process lives, and when it is done only holds of a job and prelaunch are left; of a
//!    machine that moves away with it, postmigrate.
//!
//! `tests/walk.rs` visits every reachable value under every request and checks them. `tests/tables` derives from the same values
//! the tables and the diagram in `ARCHITECTURE.md` and `docs/states.md`.
//!
//! # Effects: the contract for engines
//!
//! The engine owns one [`Lifecycle`]. For each request it calls [`Lifecycle::apply`], replaces its value by
//! [`Outcome::next`], and carries out [`Outcome::effects`] strictly in order. It decides nothing.
//!
//! * [`Effect::PublishState`] makes `next` the answer of all queries; events that follow it in the list are told after it.
//!   A list publishes once for each change, always with the value that came with the list.
//! * Effects on clock, harts, timers and devices are idempotent: parking parked harts does nothing.
//! * Two effects ask for an answer, and they are always the last of their list ([`Effects::awaits_report`]):
//!   [`Effect::Prepare`] is answered by [`EngineReport::Prepared`] or, with all undone,
//!   [`EngineReport::PrepareFailed`]; [`Effect::StartDevices`] by [`EngineReport::DevicesStarted`]. The report is the
//!   next request. Until then everything but `quit`, [`EngineReport::EffectFailed`] and what is stale anyway is refused
//!   with [`Refusal::AwaitingReport`], which is not an answer for clients: the request stays in the queue. The preparation may
//!   therefore run on a worker, and `quit` never waits for it. A `quit` in between makes the report void: it is then dropped.
//! * A lift is therefore three lists:
//!
//! ```text
//!   cont ──▶ [Prepare]                                             held, nothing told yet
//!              ├─ PrepareFailed ──▶ []                             held as before; `cont` is answered with the engine's error
//!              └─ Prepared ──▶ [PublishState, RESUME, StartDevices]
//!                                └─ DevicesStarted{due} ──▶ awake:   [ThawClock, UnparkHarts]
//!                                                           a wake:  [ThawClock, PublishState, WakeHart, WakeDevices,
//!                                                                     UnparkHarts, WAKEUP]
//!                                                           asleep:  [ThawClock, SUSPEND]
//! ```
//!
//! * When a job's own hold is the last and its lift cannot be prepared, the manager's hold takes its place, so that
//!   `cont` tries again.
//! * [`Effect::SleepDevices`] asks every wake source whether it is due already. Each that is becomes a
//!   [`DeviceRequest::Wake`] of the current epoch, handled before anything else in the queue. [`Effect::AskWakeSources`]
//!   asks those again that the policy allows.
//! * Of several wakes that devices find due as they start, the report carries one that the policy allows, if there is one;
//!   the others follow as [`DeviceRequest::Wake`].
//! * All that an effect yields is handled before the reply of the request that caused it.
//! * [`Effect::BeginJob`] follows the halt: what parked harts had posted before is handled first, then the job captures.
//! * [`Effect::Flush`] runs on a worker and reports nothing here. [`Effect::Exit`] happens after the reply has been sent.
//! * An effect that fails although it cannot is [`EngineReport::EffectFailed`]: the rest of the list is abandoned, and
//!   the machine becomes [`Power::Broken`], halted once more from wherever it was.
//! * [`Outcome::dropped`] on a SUSP of the current epoch: the hart gets "denied" in `a0`. Of an older epoch: the hart that
//!   asked no longer exists.
//!
//! Since when a hold lasts, how often a wake was forbidden, whether the last flush failed: the engine keeps these, since
//! they need a clock or a counter.
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
pub use event::{Event, IoErrorAction, MigrationStatus, PanicOutcome};
pub use hold::{DeviceId, Hold, HoldKind, Holds, Owner};
pub use job::{BackgroundStage, IncomingStage, Job, JobKind, Lift, OutgoingStage, Phase};
pub use lifecycle::{Config, Inconsistent, Lifecycle, SavedLifecycle};
pub use names::RunState;
pub use power::{Fault, Power, ShutdownCause, Sleep};
pub use refusal::Refusal;
pub use request::{
    DeviceRequest, EngineReport, Epoch, GuestRequest, ManagementRequest, MigrationRequest, Request, Stamped,
};
pub use wake::{UnknownWakeSwitch, WakeChange, WakeFate, WakePolicy, WakeSource, WakeSwitch};
