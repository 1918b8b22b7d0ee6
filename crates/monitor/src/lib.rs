//! Monitors: what managers (QMP) and people (the human monitor) ask, command by command onto the engine.
//!
//! ```text
//!              connection's thread                                  machine thread
//!  client ──► read ──► qmp::Session ──► commands ─► Engine::manage ───►┐
//!               │          │                              │           publish(status, event)
//!               │    queries: from the stored status      │            │ one lock a connection
//!               │          ▼                              ▼            ▼
//!  client ◄── send ◄──────────────────────── Outbox: one queue of lines + the status that goes with them
//!               └──── writer thread, only when the client does not take it at once
//! ```
//!
//! Invariants (`spec/lifecycle-rules.md` section 3):
//!
//! 1. An outbox is the one order that its client sees: an event and the status that goes with it enter it under one lock,
//!    and a lifecycle query is answered only if that status is still the stored one when its reply enters. Folding events
//!    and asking agree.
//! 2. Events that a command causes are in every outbox before its reply is in any, because the reply is made after
//!    [`engine::Engine::manage`] has returned.
//! 3. The machine thread never waits for a client: it appends, and sends only what the kernel takes at once.
//! 4. Bounded: past [`READ_BOUND`] waiting bytes a client's commands are no longer read, past [`CLOSE_BOUND`] its
//!    connection is closed, with one log line. No event is dropped in silence.
//! 5. A command is defined once (`commands`), an event once (`events`): what is parsed, checked, listed, completed and
//!    described follows from that.
//!
//! One thread serves a monitor, one client after the other; the next client waits in the kernel and hears nothing. Another
//! one reads for it while a command waits for the machine for seconds, so that a `quit` behind it is heard (`lane`).

#![forbid(unsafe_code)]

mod access;
mod client;
mod commands;
mod context;
mod control;
mod event_log;
mod events;
mod hmp;
mod lane;
mod lifecycle;
mod lines;
mod monitors;
mod outbox;
mod reference;

pub use access::{AllowError, AllowList, MonitorOptions};
pub use commands::{
    ChardevInfo, CommandLineOptionInfo, CommandLineParameterInfo, CommandLineParameterType, CpuModel,
    MachineInfo, Object, ObjectType, Objects, object_options, uuid_text,
};
pub use context::{Config, GdbServer, TestClock};
pub use event_log::EventLog;
pub use monitors::{AddError, Announcer, MOST_MONITORS, Monitors};
pub use outbox::{BEHIND_BOUND, CLOSE_BOUND, READ_BOUND};
pub use reference::reference;
