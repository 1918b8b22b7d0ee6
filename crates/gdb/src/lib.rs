//! The gdb stub: gdb's remote serial protocol on a byte stream, and what it asks for done by [`engine::Debugger`].
//!
//! ```text
//!   gdb ──► reader thread ──► Inbox ──► Session ──► engine::Debugger ──► machine thread, parked harts
//!    ▲                          ▲          │
//!    │                 engine's publication│
//!    └──────── replies, stop replies ◄─────┘
//! ```
//!
//! One client at a time; the next one waits in the kernel. Its session has two states. *Answering*: gdb takes the
//! machine for stopped and asks one thing after another. *Waiting*: gdb has let the machine go on, and the next thing that it hears
//! is a stop reply. What else happens to the machine meanwhile does not change whose turn it is:
//!
//! | | answering | waiting |
//! |---|---|---|
//! | a manager's `cont` | told nothing; the next request that needs parked harts stops the machine again | – |
//! | a manager's `stop`, a breakpoint, an error | – | stop reply |
//! | the guest falls asleep, wakes, resets | – | goes on waiting; gdb may interrupt |
//! | a refusal to go on | – | its text, then a stop reply at once |
//! | the machine ends | connection closed | exit reply |
//! | the connection is lost | points and the debugger's own hold go | the same |
//!
//! Threads of the protocol are harts: thread N is hart N-1. Where gdb steps one thread and lets the others go on, only
//! the one is unparked: that is indistinguishable from others that are slow, and takes the noise out of a step.
//!
//! # Invariants
//! * Any bytes at any moment give replies, errors or silence; nothing here panics or grows: a packet has at most
//!   [`PACKET_SIZE`] bytes, input waits in the kernel beyond 64 KiB, and there are at most 1024 points.
//! * A reply follows each packet, but for those that let the machine go on.
//!
//! # Why the packets are our own
//! The `gdbstub` crate (0.7) ends the session at the first malformed or oversized packet, answers `?` from its own idea of a
//! reasonable stop, and has no door for packets that it does not know (`qqemu.PhyMemMode`).
#![forbid(unsafe_code)]

mod command;
mod hex;
mod inbox;
mod packet;
mod resume;
mod server;
mod session;
mod stop;
mod target;

pub use packet::PACKET_SIZE;
pub use server::{MonitorLine, OpenError, Server, serve};
