//! Snapshots: a machine saved into a directory while it runs, and restored from there within milliseconds.
//!
//! ```text
//!   save    SaveStart ─► STOP ─► state taken, copy before write begins ─► SaveEnd ─► RESUME
//!                                     │ chunks: from harts that are about to write them, the rest from the job
//!                                     ▼
//!                               .unfinished-… ─► all on the disk ─► NAME.snapshot
//!
//!   load    file, board, every section, the life judged ─► LoadStart ─► STOP ─► staged, LoadDone ─► RESUME
//!                                                                                  │
//!                                          memory comes as it is touched, and from a thread behind
//!
//!   fork    the same, but that memory is mapped from the file, judged as it is touched, and the machine's identity is new
//! ```
//!
//! Invariants:
//! * the machine is held for the switch alone, and nothing of the file's memory is read or written meanwhile;
//! * a load that fails has touched nothing: all that can be wrong is found before the machine is held, but for memory that
//!   is read later. That is found before the guest sees it, and the machine stands with `internal-error` and the reason;
//! * a name is of a complete file (see the module `directory`), and a file that others build on stays;
//! * one save or load is under way at a time;
//! * the end of the process waits for what is being written, and that leaves nothing behind.

mod directory;
mod error;
mod image;
mod list;
mod load;
mod restore;
mod save;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use engine::{By, Engine};
use ram::DirtyLog;
use stream::Parent;

use crate::jobs::{JobKind, Jobs, Running, Work};
pub use directory::DirectoryError;
use directory::{Directory, Name};
pub use error::SnapshotError;

/// How a snapshot is to be saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// Its name.
    pub name: String,
    /// What the user says of it.
    pub description: String,
    /// Smaller, but to be read as a whole before the machine goes on.
    pub compress: bool,
    /// Only what has changed since the last one that was loaded, or saved so, if there is such a one.
    pub incremental: bool,
    /// In the place of one that has the name.
    pub replace: bool,
}

/// How a snapshot is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Its name.
    pub name: String,
    /// All memory is read before the machine is touched.
    pub prefault: bool,
    /// A guest that slept is left asleep even if the machine was running.
    pub keep_asleep: bool,
    /// The machine is one of many that begin from the snapshot: it shares memory with the others until it writes it, and its
    /// identity is its own.
    pub fork: bool,
    /// The generation that begins. None: one is drawn.
    pub generation: Option<[u8; 16]>,
}

/// A snapshot as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// What it says of itself, if that can be read.
    pub content: Option<SnapshotContent>,
    /// Why it cannot be loaded, as far as that can be told without reading all of it.
    pub error: Option<String>,
    /// Bytes on the disk.
    pub size: u64,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotContent {
    /// What the user said of it.
    pub description: String,
    /// When it was begun, in ms since 1970 by the host's clock.
    pub created_ms: u64,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// The machine's memory in bytes.
    pub memory: u64,
    /// QMP's name of the machine's state, if it says.
    pub state: Option<String>,
    /// The guest's power.
    pub power: Option<String>,
    /// Guest time in ns.
    pub guest_ns: Option<u64>,
    /// What it is the difference from.
    pub parent: Option<String>,
    /// Whether it is read as a whole.
    pub compressed: bool,
}

/// The snapshots of a machine. Clones are the same.
#[derive(Clone)]
pub struct Snapshots {
    shared: Arc<Shared>,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

struct Shared {
    engine: Engine,
    directory: Option<Directory>,
    /// Name and version of the program.
    program: String,
    jobs: Jobs,
    state: Mutex<State>,
    /// Something in `state` has come to its end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The save or load under way.
    busy: Option<(&'static str, Arc<Work>)>,
    /// What has been written to memory since an incremental snapshot, or one that was loaded.
    tracked: Option<Tracked>,
    /// The process ends.
    over: bool,
}

/// The pages that have been written since a snapshot.
struct Tracked {
    log: DirtyLog,
    since: Parent,
    /// How many snapshots that one builds on.
    depth: usize,
}

/// The one save or load under way, until it is dropped.
struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state().busy = None;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> Result<&Directory, SnapshotError> {
        self.directory.as_ref().ok_or(SnapshotError::NoDirectory)
    }

    fn claim(&self, what: &'static str, work: &Arc<Work>) -> Result<Busy<'_>, SnapshotError> {
        let mut state = self.state();
        if state.over {
            return Err(SnapshotError::Cancelled);
        }
        if let Some((what, _)) = state.busy {
            return Err(SnapshotError::Busy(what));
        }
        state.busy = Some((what, Arc::clone(work)));
        Ok(Busy(self))
    }

    /// Refuses to take away a snapshot that another one builds on. To be asked under the directory's lock.
    fn check_unused(&self, directory: &Directory, name: &Name) -> Result<(), SnapshotError> {
        for other in directory.names()?.into_iter().filter(|other| other != name) {
            let Some(file) = directory.find(&other)? else { continue };
            // One that cannot be read cannot be loaded either.
            let parent = restore::card(file).ok().and_then(|card| card.header.parent);
            if parent.is_some_and(|parent| parent.name == name.as_str()) {
                let (name, child) = (name.as_str().to_owned(), other.as_str().to_owned());
                return Err(SnapshotError::InUse { name, child });
            }
        }
        Ok(())
    }
}

impl Snapshots {
    /// The snapshots in `directory`, if there is one, of the machine that `engine` runs. `program` is written into them.
    pub fn new(
        engine: Engine,
        directory: Option<&Path>,
        program: &str,
        jobs: Jobs,
    ) -> Result<Self, DirectoryError> {
        let directory = directory.map(Directory::open).transpose()?;
        let (program, state, changed) = (program.to_owned(), Mutex::default(), Condvar::new());
        Ok(Self { shared: Arc::new(Shared { engine, directory, program, jobs, state, changed }) })
    }

    /// The jobs that saving, loading and deleting are.
    pub fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// Begins to save, as a job with this id. Returns when the machine has been held for it and goes on, or the job has
    /// failed before.
    pub fn begin_save(&self, by: By, id: &str, options: SaveOptions) -> Result<(), SnapshotError> {
        self.begin(id, JobKind::SnapshotSave, move |this, work, switched| {
            save::save(&this.shared, by, &options, work, switched)
        })
    }

    /// Saves, and returns when all is on the disk.
    pub fn save(&self, by: By, options: &SaveOptions) -> Result<(), SnapshotError> {
        save::save(&self.shared, by, options, &Arc::default(), &|| {})
    }

    /// Begins to load, as a job with this id. Returns when the machine goes on with what was loaded, or the job has failed;
    /// earlier if all of memory is read before.
    pub fn begin_load(&self, by: By, id: &str, options: LoadOptions) -> Result<(), SnapshotError> {
        self.begin(id, JobKind::SnapshotLoad, move |this, work, told| {
            this.load_with(by, &options, work, told)
        })
    }

    /// Loads, and returns when the machine goes on with what was loaded.
    pub fn load(&self, by: By, options: &LoadOptions) -> Result<(), SnapshotError> {
        self.load_with(by, options, &Arc::default(), &|| {})
    }

    /// Deletes a snapshot, as a job with this id.
    pub fn begin_delete(&self, id: &str, name: String) -> Result<(), SnapshotError> {
        self.begin(id, JobKind::SnapshotDelete, move |this, _, _| this.delete(&name))
    }

    /// Deletes a snapshot. One that others build on stays.
    pub fn delete(&self, name: &str) -> Result<(), SnapshotError> {
        let shared = &self.shared;
        let directory = shared.directory()?;
        let found = Name::new(name).ok();
        let name = found.ok_or_else(|| SnapshotError::NotFound(name.to_owned()))?;
        let _guard = directory.lock()?;
        if !directory.has(&name)? {
            return Err(SnapshotError::NotFound(name.as_str().to_owned()));
        }
        shared.check_unused(directory, &name)?;
        Ok(directory.remove(&name)?)
    }

    /// All snapshots, by name.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>, SnapshotError> {
        list::list(self.shared.directory()?)
    }

    /// The process ends: what is under way is cancelled, and waited for, but no longer than `patience`.
    pub fn end(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state();
        state.over = true;
        while let Some((_, work)) = &state.busy {
            work.cancel();
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            let wait = self.shared.changed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs `run` as a job on a thread of its own. Returns when it has told `switched`, or has ended.
    fn begin(
        &self,
        id: &str,
        kind: JobKind,
        run: impl FnOnce(&Self, &Arc<Work>, &dyn Fn()) -> Result<(), SnapshotError> + Send + 'static,
    ) -> Result<(), SnapshotError> {
        self.shared.directory()?;
        let job = self.shared.jobs.create(id, kind)?;
        let (this, (tell, told)) = (self.clone(), std::sync::mpsc::channel::<()>());
        let body = move |job: Running| {
            job.run();
            let work = Arc::clone(job.work());
            let switched = || {
                // Whoever began the job may be gone.
                let _ = tell.send(());
            };
            let result = run(&this, &work, &switched);
            if let Err(error) = &result {
                tracing::warn!(%error, ?kind, "a job about a snapshot has failed");
            }
            job.conclude(result.map_err(|error| error.to_string()));
        };
        let name = thread::Builder::new().name("snapshot".to_owned());
        name.spawn(move || body(job)).map_err(|_| SnapshotError::Host("a thread"))?;
        // Told, or the job has ended.
        let _ = told.recv();
        Ok(())
    }
}

impl From<restore::Card> for SnapshotContent {
    fn from(card: restore::Card) -> Self {
        let restore::Card { header, summary, packed, .. } = card;
        let (state, power, guest_ns) = match summary {
            Some(summary) => (Some(summary.state), Some(summary.power), Some(summary.guest_ns)),
            None => (None, None, None),
        };
        Self {
            description: header.description,
            created_ms: header.created_ms,
            program: header.program,
            memory: header.memory,
            state,
            power,
            guest_ns,
            parent: header.parent.map(|parent| parent.name),
            compressed: packed,
        }
    }
}
