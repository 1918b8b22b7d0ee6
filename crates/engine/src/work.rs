//! What the machine thread does not do itself, because it may take a millisecond of I/O: preparing and flushing devices
//! that keep data, on one worker, and jobs, each on a thread of its own. All report by a message.
//!
//! A machine without such devices has no worker: it is prepared and flushed by doing nothing.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use runstate::{DeviceId, MigrationRequest};
use vmcore::{IoError, Machine, Storage, StorageError};

use crate::queue::{Message, Sender};

/// What the worker is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Task {
    /// [`runstate::Effect::Prepare`].
    Prepare,
    /// [`runstate::Effect::Flush`].
    Flush,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// Prepared, or refused by a device.
    Prepared(Result<(), StorageError>),
    /// Flushed. An error is told; it fails nothing by itself.
    Flushed(Result<(), StorageError>),
    /// A device panicked; the panic hook has said where.
    Panicked(Task),
}

fn carry_out(task: Task, storages: &[Arc<dyn Storage>]) -> Done {
    match task {
        Task::Prepare => Done::Prepared(storages.iter().try_for_each(|storage| storage.prepare())),
        Task::Flush => {
            // Each is flushed whatever the others say; the first error is the one that is told.
            let errors = storages.iter().filter_map(|storage| storage.flush().err());
            let errors = errors.inspect(|error| tracing::error!(%error, "a flush failed"));
            Done::Flushed(errors.fold(None, |first, error| first.or(Some(error))).map_or(Ok(()), Err))
        }
    }
}

/// The worker, as the machine thread knows it. Its thread ends with this.
pub(crate) struct Worker {
    /// The devices that keep data, in the order in which they start.
    storages: Arc<[Arc<dyn Storage>]>,
    tasks: Option<mpsc::Sender<Task>>,
}

impl Worker {
    /// The worker for the devices of `machine`, and its thread's body if there is anything to do.
    pub(crate) fn new(machine: &dyn Machine, queue: Sender) -> (Self, Option<impl FnOnce() + Send + use<>>) {
        let storages: Arc<[_]> = machine.devices().iter().filter_map(|device| device.storage()).collect();
        if storages.is_empty() {
            return (Self { storages, tasks: None }, None);
        }
        let (tasks, asked) = mpsc::channel();
        let shared = Arc::clone(&storages);
        let body = move || {
            for task in asked {
                let done = catch_unwind(AssertUnwindSafe(|| carry_out(task, &shared)));
                queue.post(Message::Worked(done.unwrap_or(Done::Panicked(task))));
            }
        };
        (Self { storages, tasks: Some(tasks) }, Some(body))
    }

    /// Has the worker do this. `false`: there is nothing to do.
    pub(crate) fn start(&self, task: Task) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok())
    }

    /// What failed last at this device.
    pub(crate) fn io_error(&self, device: DeviceId) -> Option<Arc<IoError>> {
        self.storages.iter().find(|storage| storage.id() == device)?.io_error().map(Arc::new)
    }
}

/// What a job does, on a thread of its own, from the moment when the machine stands. It returns the report of its end.
pub struct JobWork {
    run: Box<dyn FnOnce(&JobControl) -> MigrationRequest + Send>,
    failed: MigrationRequest,
}

impl JobWork {
    /// `run` is the job; `failed` what is reported of it if it panics or gets no thread.
    pub fn new(
        run: impl FnOnce(&JobControl) -> MigrationRequest + Send + 'static,
        failed: MigrationRequest,
    ) -> Self {
        Self { run: Box::new(run), failed }
    }
}

/// A job while it runs: what it is told, and what it tells. Shared by the job and those who ask.
#[derive(Clone, Debug, Default)]
pub struct JobControl {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    ended: AtomicBool,
    completed: AtomicU64,
    total: AtomicU64,
    error: OnceLock<Arc<str>>,
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
    /// Whether the job is to end soon: it was cancelled, or the process ends.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
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
        self.shared.cancelled.store(true, Ordering::SeqCst);
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
pub(crate) fn job(work: JobWork, queue: Sender) -> io::Result<(Go, Job)> {
    let (start, begun) = sync_channel(1);
    let (tell, ended) = sync_channel(1);
    let control = JobControl::default();
    let own = control.clone();
    thread::Builder::new().name("job".to_owned()).spawn(move || {
        let Ok(()) = begun.recv() else { return };
        let JobWork { run, failed } = work;
        let request = catch_unwind(AssertUnwindSafe(|| run(&own))).unwrap_or_else(|_panic| {
            own.fail("the job has met a fault of this program");
            failed
        });
        own.shared.ended.store(true, Ordering::SeqCst);
        let (reply, handled) = sync_channel(1);
        queue.post(Message::Job { request, reply });
        if handled.recv().is_ok() {
            // Whoever began the job need not wait for it.
            let _ = tell.send(());
        }
    })?;
    let go = Go { start, control: control.clone() };
    Ok((go, Job { control, ended }))
}
