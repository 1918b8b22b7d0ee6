//! What the machine thread does not do itself, because it may take a millisecond of I/O: preparing and flushing devices
//! that keep data, on one worker that reports by a message. Jobs are in [`crate::job`].
//!
//! A machine without such devices has no worker: it is prepared and flushed by doing nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;

use runstate::DeviceId;
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
