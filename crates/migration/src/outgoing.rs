//! The machine goes away: memory while it runs, then the rest of it while it stands.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use engine::{JobControl, JobWork, Status};
use runstate::{Hold, Job, MigrationRequest, Owner, Refusal};

use crate::open::Target;
use crate::{MigrationError, Shared, Underway};

/// Where a migration waits for `migrate-continue`.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets it go on.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

/// What refuses `migrate`, by what is published: asked before anything is opened, in QEMU's order.
pub(crate) fn may_begin(status: &Status) -> Result<(), MigrationError> {
    let refusal = match status.job {
        Some(Job::Dump { .. }) => Refusal::MigrationBlockedByDump,
        Some(Job::Incoming { .. }) => Refusal::IncomingPending,
        Some(_) => Refusal::MigrationInProgress,
        None if status.holds.iter().any(|hold: &Hold| hold.owner == Owner::Moved) => Refusal::AlreadyMigrated,
        None => return Ok(()),
    };
    Err(refusal.into())
}

/// The job.
pub(crate) fn work(_shared: &Arc<Shared>, underway: &Underway, target: Target) -> JobWork {
    let Underway { progress, cutter, .. } = underway.clone();
    let work = move |control: &JobControl| {
        let opened = target.open(&cutter);
        let reason = match opened {
            Ok(_) => "this program cannot send a machine yet".to_owned(),
            Err(error) => error.to_string(),
        };
        progress.fail(&reason);
        control.fail(&reason);
        progress.ended(Instant::now());
        MigrationRequest::OutgoingFailed
    };
    JobWork::new(work, MigrationRequest::OutgoingFailed)
}
