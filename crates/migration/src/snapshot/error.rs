//! One error for each way in which a snapshot is not saved, loaded or deleted.

use std::sync::Arc;

use engine::{ManageError, StateError};
use ram::OpenError;
use stream::{ChunkError, ReadError, WriteError};

use super::directory::{DirectoryError, Name};
use crate::jobs::JobError;

/// Why something about snapshots was not done. The texts are QEMU's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The program was started without a directory.
    #[error("There is no directory for snapshots; start with -x-snapshots DIR")]
    NoDirectory,
    /// About the directory itself.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// There is no such snapshot.
    #[error("Snapshot '{0}' does not exist in one or more devices")]
    NotFound(String),
    /// There is one already.
    #[error("Snapshot '{0}' already exists in one or more devices")]
    Exists(String),
    /// Another one is the difference from it.
    #[error("Snapshot '{name}' is the parent of '{child}'; delete that first")]
    InUse {
        /// Which snapshot.
        name: String,
        /// Which one builds on it.
        child: String,
    },
    /// A save or load is under way.
    #[error("Another snapshot is being {0}")]
    Busy(&'static str),
    /// A packed difference.
    #[error("A snapshot cannot be both compressed and incremental")]
    PackedDifference,
    /// The machine refuses, cannot, or is gone.
    #[error(transparent)]
    Manage(#[from] ManageError),
    /// The job's id.
    #[error(transparent)]
    Job(#[from] JobError),
    /// It was cancelled.
    #[error("Operation canceled")]
    Cancelled,
    /// The disks could not be flushed: the snapshot would go with what is not on them.
    #[error("The disks cannot be flushed: {0}")]
    Flush(String),
    /// Memory that was to be saved is gone.
    #[error("the host has lost a page of guest memory")]
    HostMemory,
    /// The file cannot be written.
    #[error("Snapshot '{name}' cannot be written: {}", causes(error))]
    Write {
        /// Which snapshot.
        name: String,
        /// What went wrong.
        error: WriteError,
    },
    /// The file cannot be read.
    #[error("Snapshot '{name}' cannot be read: {}", causes(error))]
    Broken {
        /// Which snapshot.
        name: String,
        /// What is wrong.
        error: ReadError,
    },
    /// The memory in it cannot be read.
    #[error("Snapshot '{name}' cannot be read: {}", causes(error))]
    Memory {
        /// Which snapshot.
        name: String,
        /// What is wrong.
        error: ChunkError,
    },
    /// What is in it is no machine's.
    #[error("Snapshot '{name}' cannot be read: {}", causes(&**error))]
    Content {
        /// Which snapshot.
        name: String,
        /// What is wrong.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration's stream, or a difference that is packed.
    #[error("Snapshot '{0}' is not one of a whole machine")]
    NotWhole(String),
    /// Its parent is gone.
    #[error("Snapshot '{name}' is the difference from '{parent}', which does not exist")]
    NoParent {
        /// Which snapshot.
        name: String,
        /// Its parent.
        parent: String,
    },
    /// Its parent is another one by now.
    #[error("Snapshot '{name}' is the difference from another '{parent}' than the one that is there")]
    OtherParent {
        /// Which snapshot.
        name: String,
        /// Its parent.
        parent: String,
    },
    /// Parents behind parents, or in a circle.
    #[error("Snapshot '{0}' builds on too many others, or on itself")]
    TooDeep(String),
    /// It is of another machine.
    #[error("Snapshot '{name}' does not fit this machine: {}", causes(error))]
    Misfit {
        /// Which snapshot.
        name: String,
        /// In what.
        error: StateError,
    },
    /// The machine has refused the last step.
    #[error("{0}")]
    Refused(Arc<str>),
    /// Memory of this machine cannot be had.
    #[error("The machine's memory cannot be saved: {0}")]
    Lost(OpenError),
    /// The host has no thread, no random bytes.
    #[error("the host refuses {0}")]
    Host(&'static str),
}

impl SnapshotError {
    pub(super) fn broken(name: &Name, error: ReadError) -> Self {
        Self::Broken { name: name.as_str().to_owned(), error }
    }

    pub(super) fn misfit(name: &Name, error: StateError) -> Self {
        Self::Misfit { name: name.as_str().to_owned(), error }
    }
}

/// An error with all that lies behind it.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = error;
    while let Some(source) = last.source() {
        text = format!("{text}: {source}");
        last = source;
    }
    text
}
