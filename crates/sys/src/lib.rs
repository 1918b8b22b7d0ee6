//! The few system calls that no crate wraps safely for us.
//!
//! Everything else in the program goes through `rustix` or the standard library. What is here is here because it touches
//! state of the whole process that a borrow checker cannot see: the signal mask ([`signals`]), a fork ([`daemon`]),
//! descriptor numbers inherited from a parent process ([`fd`]), functions that run when the process ends
//! ([`at_exit`]), locks of open files ([`ofd`]), and errors of host memory ([`memory`]).
//!
//! # Invariants
//! * Every `unsafe` block states what makes it sound, in terms that can be checked at the place.
//! * Nothing here keeps a thread or starts one.

pub mod daemon;
pub mod exit;
pub mod fd;
pub mod memory;
pub mod ofd;
pub mod sched;
pub mod signals;

pub use daemon::{Daemon, daemonize};
pub use exit::at_exit;
pub use fd::{AdoptError, adopt_fd, note_inherited};
pub use sched::{set_thread_nice, set_thread_slice};
pub use signals::{SignalFd, SignalInfo};
