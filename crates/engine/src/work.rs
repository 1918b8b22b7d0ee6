//! What the machine thread does not do itself, because it may take a millisecond of I/O: preparing and flushing devices
//! that keep data, on one worker that reports by a message. Jobs are in [`crate::job`].
//!
//! A machine without such devices has no worker: it is prepared and flushed by doing nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use runstate::{DeviceId, EngineReport, Refusal};
use vmcore::{IoError, Machine, Storage, StorageError};

use crate::ManageError;
use crate::machine::MachineThread;
use crate::queue::{Message, Sender};

/// How long the end of the process waits for the last flush. What was written is with the host's kernel in any case.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// Asked of the worker by a client.
pub(crate) type Errand = Box<dyn FnOnce() -> Result<(), StorageError> + Send>;

/// What the worker is asked.
pub(crate) enum Task {
    /// [`runstate::Effect::Prepare`]: images become active, then devices are prepared.
    Prepare,
    /// [`runstate::Effect::Flush`].
    Flush,
    /// What a client asks.
    Errand(Errand),
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// Prepared, or refused by a device.
    Prepared(Result<(), StorageError>),
    /// Flushed. An error is told; it fails nothing by itself.
    Flushed(Result<(), StorageError>),
    /// What a client asked.
    Ran(Result<(), StorageError>),
    /// A device panicked; the panic hook has said where.
    Panicked {
        /// While it was flushed, which nobody waits for to succeed.
        flushing: bool,
    },
}

fn carry_out(task: Task, storages: &[Arc<dyn Storage>]) -> Done {
    match task {
        Task::Prepare => Done::Prepared(
            storages.iter().try_for_each(|storage| storage.activate().and_then(|()| storage.prepare())),
        ),
        Task::Flush => {
            // Each is flushed whatever the others say; the first error is the one that is told.
            let errors = storages.iter().filter_map(|storage| storage.flush().err());
            let errors = errors.inspect(|error| tracing::error!(%error, "a flush failed"));
            Done::Flushed(errors.fold(None, |first, error| first.or(Some(error))).map_or(Ok(()), Err))
        }
        Task::Errand(errand) => Done::Ran(errand()),
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
                let flushing = matches!(task, Task::Flush);
                let done = catch_unwind(AssertUnwindSafe(|| carry_out(task, &shared)));
                queue.post(Message::Worked(done.unwrap_or(Done::Panicked { flushing })));
            }
        };
        (Self { storages, tasks: Some(tasks) }, Some(body))
    }

    /// The devices that keep data.
    pub(crate) fn storages(&self) -> Arc<[Arc<dyn Storage>]> {
        Arc::clone(&self.storages)
    }

    /// Has the worker do this. `false`: there is nothing to do.
    pub(crate) fn start(&self, task: Task) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok())
    }

    /// What failed last at this device.
    pub(crate) fn io_error(&self, device: DeviceId) -> Option<Arc<IoError>> {
        self.of(device)?.io_error().map(Arc::new)
    }

    /// How operators call this device.
    pub(crate) fn name(&self, device: DeviceId) -> Option<Arc<str>> {
        Some(self.of(device)?.name().into())
    }

    fn of(&self, device: DeviceId) -> Option<&Arc<dyn Storage>> {
        self.storages.iter().find(|storage| storage.id() == device)
    }
}

impl MachineThread {
    /// The worker reports: the operation that waited goes on.
    pub(crate) fn worked(&mut self, done: Done) {
        self.tasks = self.tasks.saturating_sub(1);
        let Some(mut operation) = self.underway.take() else { return };
        self.cause = operation.cause.clone();
        let report = match done {
            Done::Prepared(Ok(())) => Some(EngineReport::Prepared),
            Done::Prepared(Err(error)) => {
                tracing::error!(%error, "the machine cannot be started");
                operation.error = Some(error.into());
                self.disarm();
                Some(EngineReport::PrepareFailed)
            }
            Done::Flushed(result) => {
                let result = result.map_err(|error| Arc::from(error.to_string()));
                if self.publisher.note_flush(result) {
                    self.publish(None);
                }
                None
            }
            Done::Ran(result) => {
                operation.error = result.err().map(ManageError::from);
                None
            }
            Done::Panicked { flushing } => {
                if !flushing {
                    operation.error = Some(Refusal::ResetRequired.into());
                }
                Some(EngineReport::EffectFailed)
            }
        };
        if let Some(report) = report {
            operation.follow.push_front(report.into());
        }
        self.go_on(operation);
    }

    /// The end of the process gives the disks a while. Whoever still asks something learns that the machine has ended.
    pub(crate) fn last_flush(&mut self) {
        self.waiting.clear();
        let until = Instant::now() + FLUSH_PATIENCE;
        while self.tasks > 0 {
            match self.receiver.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Worked(_)) => self.tasks -= 1,
                Ok(_) => {}
                Err(_) => {
                    tracing::error!("the last flush hangs and is left behind");
                    return;
                }
            }
        }
    }
}
