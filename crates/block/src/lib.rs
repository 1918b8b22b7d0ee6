//! The host's side of disks.
//!
//! ```text
//!   device ── Disk::submit ──► queue ──► workers ──► Node: raw ──► Node: file ──► [Faults] ──► RawFile
//!      ▲                                    │
//!      └────────── completion ◄─────────────┘  (on the worker's thread)
//! ```
//!
//! A [`Node`] is an image or a view of one, as `-blockdev` makes it; a [`Disk`] is what a device has of a node: workers
//! that do its I/O, an error policy, counters. Nothing here knows of guests.
//!
//! Invariants:
//! * [`Disk::submit`] never blocks; a request is done by one of a fixed number of workers, in any order, and its
//!   completion is called exactly once;
//! * data moves through buffers of this process alone, so an operation that hangs holds no guest memory;
//! * what a node does not allow (writes to a read-only one, bytes behind its end) never reaches the host;
//! * an image is read and written only while it is active, and of processes that know the locks only one has it active
//!   to write: who opens it for a machine that is still to come, or has given one away, keeps off it;
//! * [`Disk::flush`] returns after all that was submitted before has ended on the host and is durable.

#![forbid(unsafe_code)]

mod backend;
mod disk;
mod faults;
mod file;
mod lock;
mod node;
mod policy;
mod stats;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use backend::{BlockBackend, SECTOR};
pub use disk::{Disk, DiskConfig, Operation, Outcome};
pub use faults::{Fault, FaultRule, Faults};
pub use file::{FileOptions, OpenError, RawFile, text as error_text};
pub use lock::LockError;
pub use node::{Cache, Driver, Node, NodeOptions};
pub use policy::{Action, IoStatus, OnError, Policy, is_no_space};
pub use stats::{Kind, Snapshot, Stats};

/// A lock whose holder panicked still guards plain values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
