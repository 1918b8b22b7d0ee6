//! A machine arrives.

use std::sync::Arc;
use std::time::Instant;

use engine::{JobControl, JobWork, Status};
use runstate::{IncomingStage, Job, MigrationRequest, Refusal};

use crate::open::{Source, reason};
use crate::{MigrationError, Shared, Underway};

/// What refuses `migrate-incoming`, by what is published: asked before anything is opened.
pub(crate) fn may_begin(status: &Status) -> Result<(), MigrationError> {
    match status.job {
        Some(Job::Incoming { stage: IncomingStage::Waiting }) => Ok(()),
        Some(Job::Incoming { .. }) => Err(Refusal::IncomingStarted.into()),
        _ => Err(Refusal::NoIncoming.into()),
    }
}

/// The job.
pub(crate) fn work(_shared: &Arc<Shared>, underway: &Underway, mut source: Source, exit: bool) -> JobWork {
    let Underway { progress, cutter, .. } = underway.clone();
    let work = move |control: &JobControl| {
        let reason = match source.open(&cutter) {
            Ok(_) => "load of migration failed: this program cannot take in a machine yet".to_owned(),
            Err(error) => format!("load of migration failed: {}", reason(&error)),
        };
        tracing::error!("{reason}");
        progress.fail(&reason);
        control.fail(&reason);
        progress.ended(Instant::now());
        MigrationRequest::IncomingFailed { exit }
    };
    JobWork::new(work, MigrationRequest::IncomingFailed { exit })
}
