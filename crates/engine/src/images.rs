//! Whose the images behind devices are: this machine's, or that of a process which goes on as this machine.
//!
//! ```text
//!   -incoming ──► inactive ──┬── Prepare, the first part of a lift ──► active
//!                            ├── blockdev-set-active ───────────────► │
//!                            └── a move that has failed ◄── end ──────┘── JobControl::commit ──► inactive
//! ```
//!
//! Invariants:
//! * a machine whose images cannot become active does not become live: a lift prepares it first;
//! * they are left to others before the word goes out that another machine may run, and while the job holds this one, so
//!   that nothing here can want them meanwhile; if the word does not go out they are taken back before the job has ended.

use std::sync::Arc;

use runstate::Refusal;
use vmcore::{Storage, StorageError};

use crate::machine::{Asker, MachineThread, Operation};
use crate::queue::{Message, Reply};
use crate::record::Cause;
use crate::work::{Errand, Task};
use crate::{Engine, ManageError};

/// Leaves all of them to others.
pub(crate) fn give_away(storages: &[Arc<dyn Storage>]) -> Result<(), StorageError> {
    storages.iter().try_for_each(|storage| storage.inactivate())
}

/// Takes all of them back that nobody else has.
pub(crate) fn take_back(storages: &[Arc<dyn Storage>]) {
    for error in storages.iter().filter_map(|storage| storage.activate().err()) {
        tracing::error!(%error, "an image was to be left to another machine and cannot be had back");
    }
}

impl Engine {
    /// Has `errand` change whose images are, on the worker and in its turn among all that is asked of the machine's life;
    /// with `if_held` only while the machine is held. Returns when it is done.
    ///
    /// # Errors
    /// What `errand` says. Refused while a migration that goes out decides whose they are.
    pub fn arrange_images(
        &self,
        if_held: bool,
        errand: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), ManageError> {
        let errand = || errand().map_err(StorageError::Inactive);
        self.ask(|reply| Message::Errand { errand: Box::new(errand), if_held, reply })
    }
}

impl MachineThread {
    pub(crate) fn run_errand(&mut self, errand: Errand, if_held: bool, reply: Reply) {
        let started = match self.may_arrange(if_held) {
            Ok(()) if self.start_task(Task::Errand(errand)) => Ok(()),
            Ok(()) => Err(ManageError::NoThread),
            Err(refusal) => Err(refusal),
        };
        match started {
            Ok(()) => self.go_on(Operation::new(Asker::Management(reply), Cause::START)),
            Err(error) => {
                // The asker may be gone: so be it.
                let _ = reply.send(Err(error));
            }
        }
    }

    fn may_arrange(&self, if_held: bool) -> Result<(), ManageError> {
        if self.lifecycle.holds().has(runstate::Owner::Outgoing) {
            return Err(Refusal::MigrationNotFinalized.into());
        }
        if if_held && self.lifecycle.is_live() { Err(ManageError::Live) } else { Ok(()) }
    }
}
