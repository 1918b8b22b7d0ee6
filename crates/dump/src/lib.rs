//! Dumps of guest memory: a core file that debuggers read, written by a job while the machine stands.
//!
//! ```text
//!   Dump::begin ──► Engine::begin(DumpStart) ── halt ──► job's thread: registers of each hart, then memory in pieces
//!                                                          │  (no lock is held, nobody waits for it but who asked)
//!   Progress ◄─────────────────────────────────────────────┘
//!                                                        DumpEnd ──► DUMP_COMPLETED if detached, RESUME if it ran
//! ```
//!
//! Invariants:
//! * a dump that is refused has changed nothing, the target included;
//! * a target that is full, closed or does not read fails the dump alone: the machine goes on as before;
//! * `quit` does not wait for it.

#![forbid(unsafe_code)]

mod elf;
mod target;

use std::io;
use std::os::fd::OwnedFd;

use engine::{By, Engine, Job, JobControl, JobWork, ManageError};
use ram::Ram;
use runstate::{ManagementRequest, MigrationRequest, Refusal};

use target::Target;

/// Bytes of memory that are written at once.
const PIECE: u64 = 1 << 20;

/// A range of guest physical addresses: the first, and how many.
pub type Range = (u64, u64);

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The machine refuses, cannot, or is gone.
    #[error(transparent)]
    Manage(#[from] ManageError),
    /// Nothing of the range is memory.
    #[error("Invalid parameter 'begin'")]
    NoMemory,
}

/// Whether a dump may begin now, by what is published: to be asked before a target is opened.
pub fn may_begin(engine: &Engine) -> Result<(), DumpError> {
    match engine.status().job {
        Some(runstate::Job::Dump { .. }) => Err(ManageError::from(Refusal::DumpInProgress).into()),
        Some(runstate::Job::Incoming { .. }) => Err(ManageError::from(Refusal::DumpDuringIncoming).into()),
        _ => Ok(()),
    }
}

/// Begins a dump of all memory, or of `range`, to `target`. Detached, its end is told by DUMP_COMPLETED. How it went is
/// with the [`Job`].
pub fn begin(
    engine: &Engine,
    by: By,
    target: OwnedFd,
    range: Option<Range>,
    detached: bool,
) -> Result<Job, DumpError> {
    let ram = engine.ram().ok_or(DumpError::NoMemory)?;
    let (base, len) = clip(&ram, range).ok_or(DumpError::NoMemory)?;
    let own = engine.clone();
    let work = move |control: &JobControl| {
        control.set_total(len);
        let done = write(&own, &ram, target, (base, len), control);
        if let Err(error) = &done {
            tracing::error!(%error, "a dump failed");
            control.fail(&format!("dump: failed to save memory: {}", reason(error)));
        }
        MigrationRequest::DumpEnd { ok: done.is_ok() }
    };
    let work = JobWork::new(work, MigrationRequest::DumpEnd { ok: false });
    let job = engine.begin(by, ManagementRequest::DumpStart { detached }, work)?;
    // Its thread may not have come to it yet, and whoever asks after the answer is to know.
    job.control().set_total(len);
    Ok(job)
}

/// What is memory of a range; all of it if there is none.
fn clip(ram: &Ram, range: Option<Range>) -> Option<Range> {
    let end = ram.base() + ram.size();
    let Some((begin, len)) = range else { return Some((ram.base(), ram.size())) };
    let from = begin.max(ram.base());
    let until = begin.saturating_add(len).min(end);
    (from < until).then(|| (from, until - from))
}

fn write(
    engine: &Engine,
    ram: &Ram,
    target: OwnedFd,
    (base, len): Range,
    control: &JobControl,
) -> io::Result<()> {
    let mut target = Target::new(target)?;
    // Asked of the machine thread behind the halt: what the harts had posted before it is handled first.
    let harts = engine.capture().ok_or_else(|| io::Error::other("the machine has ended"))?;
    target.write(&elf::head(&harts, base, len), control)?;
    let lost = ram.host_errors();
    let mut piece = Vec::new();
    let mut done = 0;
    while done < len {
        if control.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let part = PIECE.min(len - done);
        piece.resize(part as usize, 0);
        ram.read(base + done, &mut piece).map_err(io::Error::other)?;
        if ram.host_errors() != lost {
            return Err(io::Error::other("the host has lost a page of guest memory"));
        }
        target.write(&piece, control)?;
        done += part;
        control.advance(part);
    }
    target.finish()
}

/// What the host said, in its own words (as `strerror` has them).
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}
