//! The host's side of character devices: terminal, files, sockets, pseudo-terminals, and a multiplexer over one of them.
//!
//! ```text
//!            device's lock                      threads of this crate
//!  UART ── try_write ──▶ output queue (bounded) ──▶ writer thread ──▶ descriptor
//!       ◀── receive ──── gate (pause) ◀─────────── reader thread ◀── descriptor
//!       ── poll_input ─▶ wakes the reader
//! ```
//! A [`Frontend`] is the device's (or the monitor's) end, a [`Backend`] the host's end that it talks to: a [`CharDev`], or
//! one [`MuxPort`] of a [`Mux`]. Monitors that serve clients one after another use [`stream`] instead and run their own
//! threads.
//!
//! # Invariants
//! * Nothing that a device calls blocks on the host ([`Backend::try_write`], [`Backend::poll_input`]): lifecycle rule 5.6.
//! * Every queue is bounded. A full output queue is told to the device, which keeps its own "not ready" state; input that
//!   the device has no room for waits on the host's side, and in the end in the client.
//! * After [`Backend::pause`]`(true)` has returned, and until `pause(false)`, the frontend gets no input and no
//!   [`Frontend::writable`]: a held machine's devices do not change (lifecycle rule 4.8).
//! * Lock order: gate, then the device's lock (a callback takes it), then the output queue. A device that holds its lock may
//!   therefore call `try_write` and `poll_input`, but never `pause` or `attach`.
#![forbid(unsafe_code)]

mod chardev;
mod fdset;
mod frontend;
pub mod keyval;
mod mux;
mod open;
mod output;
mod pty;
mod reader;
mod socket;
mod spec;
pub mod stream;
pub mod tty;
mod wake;

pub use chardev::CharDev;
pub use fdset::{FdInfo, FdSetError, FdSets};
pub use frontend::{Backend, CharEvent, Frontend};
pub use mux::{Mux, MuxPort};
pub use open::{Notice, OpenError, open};
pub use socket::{BindError, SocketFile, listen_tcp, listen_unix};
pub use spec::{CharKind, CharSpec, SocketAddress, SocketSpec, SpecError};

/// Leaves the host as it was found: terminals out of raw mode, our socket files removed.
///
/// For exits that run no destructors. Idempotent, takes no lock that a device holds, and is also registered with
/// [`sys::at_exit`] by whatever first needs it.
pub fn clean_up() {
    tty::restore_all();
    socket::remove_all();
}

/// Registers [`clean_up`] with the end of the process, once.
fn clean_up_at_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn hook() {
        clean_up();
    }
    // Without the registration the destructors still do the work on every ordinary way out.
    ONCE.call_once(|| drop(sys::at_exit(hook)));
}
