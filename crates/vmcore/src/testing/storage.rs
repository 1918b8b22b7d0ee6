//! A host side that fails and hangs as a test says.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use runstate::DeviceId;

use crate::storage::{IoError, Storage, StorageError};

/// What [`FakeStorage`] does the next time it is asked, instead of succeeding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mishap {
    /// Fails.
    Fail,
    /// Panics, as a bug in a back end would.
    Panic,
    /// Hangs until [`FakeStorage::release`], then succeeds.
    Hang,
}

/// The host side of a device, for tests.
#[derive(Default)]
pub struct FakeStorage {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mishaps: VecDeque<(&'static str, Mishap)>,
    log: Vec<&'static str>,
    hangs: bool,
    released: bool,
    inactive: bool,
}

impl FakeStorage {
    /// The number of the device.
    pub const ID: DeviceId = DeviceId(1);

    /// The next `operation` ("prepare", "flush", "activate" or "inactivate") meets this. What is active already is not
    /// activated again.
    pub fn next(&self, operation: &'static str, mishap: Mishap) {
        self.lock().mishaps.push_back((operation, mishap));
    }

    /// What it was asked since the last call.
    pub fn take_log(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().log)
    }

    /// Whether this process has it.
    pub fn is_active(&self) -> bool {
        !self.lock().inactive
    }

    /// Waits until an operation hangs.
    pub fn wait_for_hang(&self) {
        let state = self.lock();
        drop(self.changed.wait_while(state, |state| !state.hangs).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the operation that hangs, or the next one that would, go on.
    pub fn release(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }

    fn run(&self, operation: &'static str) -> Result<(), StorageError> {
        let mut state = self.lock();
        state.log.push(operation);
        if state.mishaps.front().is_none_or(|(wanted, _)| *wanted != operation) {
            return Ok(());
        }
        match state.mishaps.pop_front() {
            Some((_, Mishap::Fail)) => {
                let error = std::io::Error::other("the test says so");
                Err(StorageError::new("fake", operation, &error))
            }
            Some((_, Mishap::Panic)) => panic!("the test says so"),
            Some((_, Mishap::Hang)) => {
                state.hangs = true;
                self.changed.notify_all();
                let mut state = self
                    .changed
                    .wait_while(state, |state| !state.released)
                    .unwrap_or_else(PoisonError::into_inner);
                (state.hangs, state.released) = (false, false);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for FakeStorage {
    fn id(&self) -> DeviceId {
        Self::ID
    }

    fn name(&self) -> &str {
        "fake"
    }

    fn activate(&self) -> Result<(), StorageError> {
        if !self.is_active() {
            self.run("activate")?;
            self.lock().inactive = false;
        }
        Ok(())
    }

    fn inactivate(&self) -> Result<(), StorageError> {
        self.run("inactivate")?;
        self.lock().inactive = true;
        Ok(())
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.run("prepare")
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.run("flush")
    }

    fn io_error(&self) -> Option<IoError> {
        Some(IoError {
            device: "fake".to_owned(),
            node_name: None,
            qom_path: "/machine/fake".to_owned(),
            read: false,
            no_space: true,
            reason: "No space left on device".to_owned(),
        })
    }
}
