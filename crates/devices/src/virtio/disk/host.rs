//! The host's side of a disk device: requests that are with the workers, and what came of them.
//!
//! A worker that is done leaves the outcome here, judges an error by the disk's policy, tells the machine, and rings the
//! device's bell. What a request of before a reset comes to is nobody's business; but nothing that is asked after the
//! reset begins before it is over, so that no write of the past overtakes one of the present.

use std::sync::{Arc, Mutex};

use block::{Action, Disk, Operation, Outcome};
use runstate::{DeviceId, DeviceRequest, IoErrorAction};
use vmcore::{DevicePort, IoError, Storage, StorageError};

use crate::lock;
use crate::virtio::Bell;

/// A request that is over on the host's side.
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) outcome: Outcome,
    /// What is done about an error.
    pub(super) action: Action,
}

#[derive(Default)]
struct State {
    /// Counts resets.
    generation: u64,
    /// Requests of this generation that are with the workers.
    in_flight: usize,
    /// Requests of earlier ones.
    stale: usize,
    ended: Vec<Ended>,
    last_error: Option<IoError>,
}

/// See the module's documentation.
pub(super) struct Host {
    pub(super) disk: Arc<Disk>,
    id: DeviceId,
    qom_path: String,
    port: Arc<dyn DevicePort>,
    bell: Mutex<Bell>,
    state: Mutex<State>,
}

impl Host {
    pub(super) fn new(
        disk: Arc<Disk>,
        id: DeviceId,
        qom_path: String,
        port: Arc<dyn DevicePort>,
    ) -> Arc<Self> {
        Arc::new(Self { disk, id, qom_path, port, bell: Mutex::default(), state: Mutex::default() })
    }

    pub(super) fn plugged(&self, bell: Bell) {
        *lock(&self.bell) = bell;
    }

    /// Requests that are with the workers; none may be begun while some of before a reset are.
    pub(super) fn room(&self, most: usize) -> usize {
        let state = lock(&self.state);
        if state.stale > 0 { 0 } else { most.saturating_sub(state.in_flight) }
    }

    pub(super) fn submit(self: &Arc<Self>, number: u64, operation: Operation) {
        let generation = {
            let mut state = lock(&self.state);
            state.in_flight += 1;
            state.generation
        };
        let (host, is_read) = (Arc::downgrade(self), operation.kind() == block::Kind::Read);
        self.disk.submit(operation, move |outcome| {
            // A disk that is gone has nobody to tell.
            if let Some(host) = host.upgrade() {
                host.ended(generation, number, is_read, outcome);
            }
        });
    }

    /// On a worker's thread.
    fn ended(&self, generation: u64, number: u64, is_read: bool, outcome: Outcome) {
        let mut state = lock(&self.state);
        if state.generation == generation {
            state.in_flight -= 1;
            let action = match &outcome {
                Ok(_) => Action::Report,
                Err(error) => self.failed(&mut state, is_read, error),
            };
            state.ended.push(Ended { number, outcome, action });
        } else {
            state.stale -= 1;
        }
        drop(state);
        let bell = lock(&self.bell).clone();
        bell.ring();
    }

    /// Tells the machine of an error. Under the lock of the state, so that none of before a reset is told after it.
    fn failed(&self, state: &mut State, is_read: bool, error: &std::io::Error) -> Action {
        let config = self.disk.config();
        let action = config.policy.action(is_read, error);
        let told = match action {
            Action::Report => IoErrorAction::Report,
            Action::Ignore => IoErrorAction::Ignore,
            Action::Stop => IoErrorAction::Stop,
        };
        if action == Action::Stop {
            self.disk.stopped_by(error);
        }
        state.last_error = Some(IoError {
            device: config.name.clone(),
            node_name: Some(config.node.name().to_owned()),
            qom_path: self.qom_path.clone(),
            read: is_read,
            no_space: block::is_no_space(error),
            reason: block::error_text(error),
        });
        self.port.post(DeviceRequest::IoError { device: self.id, action: told });
        action
    }

    /// What has ended since the last time.
    pub(super) fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut lock(&self.state).ended)
    }

    /// Forgets all that was asked.
    pub(super) fn reset(&self) {
        let mut state = lock(&self.state);
        state.generation += 1;
        state.stale += std::mem::take(&mut state.in_flight);
        state.ended.clear();
        state.last_error = None;
        drop(state);
        self.disk.reset_status();
    }
}

impl Storage for Host {
    fn id(&self) -> DeviceId {
        self.id
    }

    fn name(&self) -> &str {
        let config = self.disk.config();
        if config.name.is_empty() { &config.qdev } else { &config.name }
    }

    fn activate(&self) -> Result<(), StorageError> {
        self.disk.activate().map_err(|error| StorageError::Inactive(error.to_string()))
    }

    fn inactivate(&self) -> Result<(), StorageError> {
        self.disk.inactivate().map_err(|error| StorageError::new(self.name(), "flush", &error))
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.disk.reset_status();
        Ok(())
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.disk.flush().map_err(|error| StorageError::new(self.name(), "flush", &error))
    }

    fn io_error(&self) -> Option<IoError> {
        lock(&self.state).last_error.clone()
    }
}
