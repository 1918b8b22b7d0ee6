//! Why a machine did not go.

use std::io;
use std::sync::Arc;

use engine::ManageError;
use ram::RamError;
use stream::{ReadError, WriteError};

use crate::channel::{Channel, Ending};
use crate::open::{OpenError, reason};
use crate::postcopy::BadSet;

/// Why a machine did not go, or why nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    #[error("cannot write the machine's state: {}", reason(.0))]
    Send(#[source] io::Error),
    #[error(transparent)]
    Write(WriteError),
    #[error("the destination's answer: {0}")]
    Read(ReadError),
    /// In the destination's words.
    #[error("{0}")]
    Refused(String),
    #[error("the destination answers with {0}, which does not belong here")]
    Misplaced(&'static str),
    #[error(transparent)]
    Step(#[from] ManageError),
    #[error(transparent)]
    Memory(#[from] RamError),
    #[error(transparent)]
    Chunk(#[from] ram::OpenError),
    #[error(transparent)]
    Log(#[from] ram::LogsInUse),
    #[error(transparent)]
    Save(#[from] ram::SaveInUse),
    #[error("this machine has no memory")]
    NoMemory,
    #[error("the host has lost a page of guest memory")]
    HostMemory,
    #[error("the machine has ended")]
    Ended,
    #[error("a disk cannot be flushed: {0}")]
    Flush(Arc<str>),
    #[error("Mapped-ram migration needs a file, file:PATH")]
    NotMappable,
    #[error("Unable to open return-path for postcopy")]
    NoReturnPath,
    #[error("the destination cannot run a guest before all of its memory is there")]
    NoPostcopy,
    #[error("the destination's answer: {0}")]
    Set(#[from] BadSet),
    #[error("the destination answers for another migration")]
    OtherMachine,
    #[error("the destination does not take further channels (multifd)")]
    NoMultifd,
    /// One of several.
    #[error("channel {channel}: {error}")]
    Lane { channel: u16, error: Box<OutgoingError> },
    /// The program that was to take it is not there any more.
    #[error("{ending}: {error}")]
    Program { ending: Ending, error: Box<OutgoingError> },
    #[error("the migration was cancelled")]
    Cancelled,
}

impl OutgoingError {
    /// Whether the other side has hung up, and may have said why elsewhere.
    pub(crate) fn is_hang_up(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Lane { error, .. } => error.is_hang_up(),
            _ => false,
        }
    }

    /// The same with how the program has ended, if one has hung up.
    pub(crate) fn with_ending(self, channel: &mut Channel) -> Self {
        let ending = if self.is_hang_up() { channel.ending() } else { None };
        match ending {
            Some(ending) => Self::Program { ending, error: Box::new(self) },
            None => self,
        }
    }
}

impl From<WriteError> for OutgoingError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => Self::Send(error),
            error => Self::Write(error),
        }
    }
}

impl From<ReadError> for OutgoingError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            error => Self::Read(error),
        }
    }
}
