//! Jobs: what the machine thread leaves to threads of their own, because it takes long. A job begins with a request of
//! management, takes steps while it runs, and ends with a last one.
//!
//! ```text
//!   Engine::begin(SaveStart) ──► halt ──► BeginJob ──► job's thread: run(&control)
//!                                                        │ control.ask(SwitchOver) ──► machine thread ──► done, refused
//!                                                        │ control.commit(..) ───────► machine thread ──► what to send
//!   migrate_cancel, quit ──► CancelJob ──► is_cancelled  │
//!                                                        ▼ the last step: what `run` returns
//! ```
//!
//! Invariants:
//! * a step is handled in the order of the queue: behind whatever harts and devices had posted before it, and behind the
//!   flush of the halt that came before it;
//! * whoever asks for a step waits until it has been carried out with all that it led to, or learns that it was refused
//!   or that the machine has ended; it never waits for a machine that is no more;
//! * a job always ends: if it panics, or its last step is refused, it has failed.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use runstate::{MigrationRequest, SavedLifecycle};

use vmcore::Storage;

use crate::machine::MachineThread;
use crate::queue::{Message, Sender};
use crate::{ManageError, images};

/// What a job does, on a thread of its own, from the moment when the machine stands as the job wants it. It returns the
/// job's last step.
pub struct JobWork {
    run: Box<dyn FnOnce(&JobControl) -> MigrationRequest + Send>,
    failed: MigrationRequest,
}

impl JobWork {
    /// `run` is the job; `failed` the last step if it panics, or if the one that it returns is refused.
    pub fn new(
        run: impl FnOnce(&JobControl) -> MigrationRequest + Send + 'static,
        failed: MigrationRequest,
    ) -> Self {
        Self { run: Box::new(run), failed }
    }
}

/// A job while it runs: what it is told, what it tells, and what it asks. Shared by the job and those who follow it.
#[derive(Clone, Debug)]
pub struct JobControl {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Sender,
    storages: Arc<[Arc<dyn Storage>]>,
    /// The images are left to another machine, which does not know yet.
    lent: AtomicBool,
    cancelled: AtomicBool,
    on_cancel: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    ended: AtomicBool,
    completed: AtomicU64,
    total: AtomicU64,
    error: OnceLock<Arc<str>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("cancelled", &self.cancelled).field("ended", &self.ended).finish()
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JobReport {
    /// It has ended.
    pub ended: bool,
    /// Bytes done.
    pub completed: u64,
    /// Bytes to do.
    pub total: u64,
    /// Why it has failed.
    pub error: Option<Arc<str>>,
}

impl JobControl {
    fn new(queue: Sender, storages: Arc<[Arc<dyn Storage>]>) -> Self {
        let shared = Shared {
            queue,
            storages,
            lent: AtomicBool::default(),
            cancelled: AtomicBool::default(),
            on_cancel: Mutex::default(),
            ended: AtomicBool::default(),
            completed: AtomicU64::default(),
            total: AtomicU64::default(),
            error: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a step, and returns when it has been carried out with all that it led to. A halt includes the flush of the
    /// disks, whose error, if any, is in [`Status::flush_error`](crate::Status::flush_error) then.
    ///
    /// # Errors
    /// A refusal changed nothing: [`runstate::Refusal::JobCancelled`] tells a job to come to its end. [`ManageError::Storage`]: the
    /// step was carried out, but the machine could not be started after it, and is paused.
    pub fn ask(&self, step: MigrationRequest) -> Result<(), ManageError> {
        let (reply, answer) = sync_channel(1);
        self.shared.queue.post(Message::Job { request: step, reply });
        answer.recv().unwrap_or(Err(ManageError::Ended))
    }

    /// Commits an outgoing migration, and gives the life that goes with it, as it was in that very moment: the destination
    /// may run once it has it, and this machine does not run again by itself. The images are left to it before.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask), or an image cannot be flushed: the machine is still here, and has its images back when
    /// the job ends.
    pub fn commit(&self, postcopy: bool) -> Result<SavedLifecycle, ManageError> {
        self.shared.lent.store(true, Ordering::SeqCst);
        images::give_away(&self.shared.storages)?;
        let commit = move |machine: &mut MachineThread| machine.commit(postcopy);
        let saved = self.shared.queue.on_machine(commit).unwrap_or(Err(ManageError::Ended))?;
        self.shared.lent.store(false, Ordering::SeqCst);
        Ok(saved)
    }

    /// Whether the job is to end soon: it was cancelled, or the process ends.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Has `hook` called when the job is cancelled, at once if it was already: to end what the job waits for elsewhere.
    /// It must not block, nor ask anything of the machine.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hooks = self.hooks();
        if self.is_cancelled() {
            drop(hooks);
            hook();
        } else {
            hooks.push(Box::new(hook));
        }
    }

    /// There are so many bytes to do.
    pub fn set_total(&self, bytes: u64) {
        self.shared.total.store(bytes, Ordering::SeqCst);
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.shared.completed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// The job fails for this reason; the first one counts.
    pub fn fail(&self, reason: &str) {
        let _ = self.shared.error.set(Arc::from(reason));
    }

    /// How far the job is.
    pub fn report(&self) -> JobReport {
        JobReport {
            ended: self.shared.ended.load(Ordering::SeqCst),
            completed: self.shared.completed.load(Ordering::SeqCst),
            total: self.shared.total.load(Ordering::SeqCst),
            error: self.shared.error.get().cloned(),
        }
    }

    pub(crate) fn cancel(&self) {
        let hooks = {
            let mut hooks = self.hooks();
            self.shared.cancelled.store(true, Ordering::SeqCst);
            std::mem::take(&mut *hooks)
        };
        hooks.into_iter().for_each(|hook| hook());
    }

    fn hooks(&self) -> MutexGuard<'_, Vec<Box<dyn FnOnce() + Send>>> {
        self.shared.on_cancel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job's last step. Returns whether the machine has taken one.
    fn end(&self, last: MigrationRequest, failed: MigrationRequest) -> bool {
        if self.shared.lent.swap(false, Ordering::SeqCst) {
            images::take_back(&self.shared.storages);
        }
        self.shared.ended.store(true, Ordering::SeqCst);
        let done = match self.ask(last) {
            Err(ManageError::Refused(refusal)) => {
                self.fail(&refusal.to_string());
                self.ask(failed)
            }
            other => other,
        };
        self.hooks().clear();
        done != Err(ManageError::Ended)
    }
}

/// A job that has begun.
#[derive(Debug)]
pub struct Job {
    control: JobControl,
    ended: mpsc::Receiver<()>,
}

impl Job {
    /// How far it is.
    pub fn control(&self) -> &JobControl {
        &self.control
    }

    /// Waits until the job has ended, with everything that its end led to. `false`: the machine has ended before.
    pub fn wait(self) -> bool {
        self.ended.recv().is_ok()
    }
}

/// What sets a job going. Dropped, it ends the job's thread before the job has begun.
pub(crate) struct Go {
    start: SyncSender<()>,
    control: JobControl,
}

impl Go {
    /// Sets the job going.
    pub(crate) fn start(self) -> JobControl {
        // Its thread waits for this.
        let _ = self.start.send(());
        self.control
    }
}

/// Makes a job's thread, which waits for [`Go`]: once the machine has been stopped for a job nothing may fail.
pub(crate) fn job(work: JobWork, queue: Sender, storages: Arc<[Arc<dyn Storage>]>) -> io::Result<(Go, Job)> {
    let (start, begun) = sync_channel(1);
    let (tell, ended) = sync_channel(1);
    let control = JobControl::new(queue, storages);
    let own = control.clone();
    thread::Builder::new().name("job".to_owned()).spawn(move || {
        let Ok(()) = begun.recv() else { return };
        let JobWork { run, failed } = work;
        let last = catch_unwind(AssertUnwindSafe(|| run(&own))).unwrap_or_else(|_panic| {
            own.fail("the job has met a fault of this program");
            failed
        });
        if own.end(last, failed) {
            // Whoever began the job need not wait for it.
            let _ = tell.send(());
        }
    })?;
    let go = Go { start, control: control.clone() };
    Ok((go, Job { control, ended }))
}

impl MachineThread {
    fn commit(&mut self, postcopy: bool) -> Result<SavedLifecycle, ManageError> {
        // A reset that waits goes with the guest, and is gone here afterwards.
        let saved = self.lifecycle.saved();
        let dropped = self.apply(MigrationRequest::Commit { postcopy }.into())?;
        if dropped { Err(ManageError::Ended) } else { Ok(saved) }
    }
}
