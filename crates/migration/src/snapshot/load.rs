//! A snapshot loaded: judged, swapped in, and its memory read behind the machine.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{By, JobControl, JobWork, ManageError, Staged};
use ram::{Portion, Ram};
use runstate::{ManagementRequest, MigrationRequest};
use stream::FileId;
use vmcore::{Identity, Renewal};

use super::directory::Name;
use super::restore::Base;
use super::{LoadOptions, SnapshotError, Snapshots, Tracked, restore};
use crate::behind;
use crate::jobs::Work;

impl Tracked {
    /// Of a memory that is as a snapshot has it, and whose harts are outside and drop what they have cached before they execute.
    fn from(ram: &Ram, base: Base) -> Option<Self> {
        let log = ram.start_log(|| {}).ok()?;
        Some(Self { log, since: base.it, depth: base.depth })
    }
}

/// What of the machine's identity begins anew with a load.
fn renewal(options: &LoadOptions) -> Result<Renewal, SnapshotError> {
    let random = || FileId::random().map(|id| id.0).map_err(|_| SnapshotError::Host("random bytes"));
    let generation = options.generation.map_or_else(random, Ok)?;
    if !options.fork {
        return Ok(Renewal::Generation(generation));
    }
    let seed = random()?;
    Ok(Renewal::All(Identity { generation, mac_seed: std::array::from_fn(|at| seed[at]) }))
}

impl Snapshots {
    /// Loads. `takes_long` is called if all of memory is to be read before the machine goes on.
    pub(super) fn load_with(
        &self,
        by: By,
        options: &LoadOptions,
        work: &Arc<Work>,
        takes_long: &dyn Fn(),
    ) -> Result<(), SnapshotError> {
        let shared = &self.shared;
        let directory = shared.directory()?;
        let found = Name::new(&options.name).ok();
        let name = found.ok_or_else(|| SnapshotError::NotFound(options.name.clone()))?;
        let busy = shared.claim("loaded", work)?;
        let engine = &shared.engine;
        let ram = engine.ram();
        let size = ram.as_ref().map_or(0, |ram| ram.size());
        let opened = restore::open(directory, &name, size, options.prefault, work, takes_long)?;
        let misfit = |error| SnapshotError::misfit(&name, error);
        engine.check_state(&opened.state).map_err(misfit)?;
        engine.check_lifecycle(&opened.saved).map_err(misfit)?;
        let shares = options.fork && opened.lazy.is_some();
        if opened.lazy.is_none() {
            let (name, fork) = (name.as_str(), options.fork);
            tracing::info!(name, fork, "the whole snapshot has been read before the machine goes on");
        }
        let before = shared.state().tracked.take();
        let (tracked, swapped) = self.swap_in(by, options, opened, before, work);
        shared.state().tracked = tracked;
        swapped?;
        drop(busy);
        // A fork has what nobody needs where it is.
        if let Some(ram) = ram.filter(|_| !shares) {
            behind::fill(&ram);
        }
        Ok(())
    }

    /// Holds the machine, and lets it go on with what was opened and has been judged. Gives what the next difference is from:
    /// `before`, unless memory is another one now.
    fn swap_in(
        &self,
        by: By,
        options: &LoadOptions,
        opened: restore::Opened,
        before: Option<Tracked>,
        work: &Arc<Work>,
    ) -> (Option<Tracked>, Result<(), SnapshotError>) {
        let tracked = Arc::new(Mutex::new(before));
        let swapped = self.hold_and_swap(by, options, opened, Arc::clone(&tracked), work);
        let tracked = tracked.lock().unwrap_or_else(PoisonError::into_inner).take();
        (tracked, swapped)
    }

    fn hold_and_swap(
        &self,
        by: By,
        options: &LoadOptions,
        opened: restore::Opened,
        tracked: Arc<Mutex<Option<Tracked>>>,
        work: &Arc<Work>,
    ) -> Result<(), SnapshotError> {
        let restore::Opened { state, saved, source, lazy, base } = opened;
        let renewal = Some(renewal(options)?);
        let shared_file = lazy.filter(|_| options.fork);
        let (engine, cancelled) = (self.shared.engine.clone(), Arc::clone(work));
        let run = move |control: &JobControl| {
            if control.is_cancelled() || cancelled.is_cancelled() {
                control.fail(&SnapshotError::Cancelled.to_string());
                return MigrationRequest::LoadFailed;
            }
            // Whoever adopts has every hart drop what it has cached.
            let replace = move |ram: &Ram| {
                let mut tracked = tracked.lock().unwrap_or_else(PoisonError::into_inner);
                // The log of before goes first: there are not so many.
                *tracked = None;
                ram.replace(Portion::All, source, || {});
                *tracked = base.and_then(|base| Tracked::from(ram, base));
                if let Some(file) = shared_file {
                    let shared = ram.share(restore::runs(&file));
                    tracing::info!(
                        shared,
                        "chunks of memory are shared with whoever begins from the snapshot"
                    );
                }
            };
            engine.stage(Staged { state, memory: Some(Box::new(replace)), renewal });
            MigrationRequest::LoadDone { saved }
        };
        let request = ManagementRequest::LoadStart { keep_asleep: options.keep_asleep };
        let job = self.shared.engine.begin(by, request, JobWork::new(run, MigrationRequest::LoadFailed))?;
        let control = job.control().clone();
        if !job.wait() {
            return Err(ManageError::Ended.into());
        }
        control.report().error.map_or(Ok(()), |error| Err(SnapshotError::Refused(error)))
    }
}
