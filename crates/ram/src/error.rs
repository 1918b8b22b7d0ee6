//! What can go wrong with memory.

use std::error::Error;
use std::sync::Arc;

use crate::{CHUNK_SIZE, MAX_PAGES, PAGE_SIZE};

/// Why memory could not be made or touched.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero or not a multiple of the page size, or base + size does not fit into 64 bits.
    #[error("RAM of {size:#x} bytes at {base:#x} is not a whole number of pages that fits the address space")]
    BadSize {
        /// First guest physical address.
        base: u64,
        /// Size in bytes.
        size: u64,
    },
    /// More than can be told apart by the page numbers that harts keep.
    #[error("{size} bytes of guest RAM are more than the {} that there can be", MAX_PAGES * PAGE_SIZE)]
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
    /// The host refused the mapping.
    #[error("the host cannot map {size} bytes of guest RAM")]
    Map {
        /// Size in bytes.
        size: u64,
        /// What the host said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The range is not inside RAM.
    #[error("{len} bytes at guest address {addr:#x} are not inside RAM")]
    OutOfRange {
        /// First guest physical address of the access.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
    /// What is there is on its way from another host.
    #[error("the memory at guest address {addr:#x} is still on its way")]
    Delayed {
        /// First guest physical address of the access.
        addr: u64,
    },
    /// What is there cannot be had.
    #[error(transparent)]
    Lost(#[from] MemoryLost),
}

/// Content of guest memory that its source could not give.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{CHUNK_SIZE} bytes of guest memory at {addr:#x} cannot be had: {reason}")]
pub struct MemoryLost {
    /// Guest physical address of the chunk.
    pub addr: u64,
    /// What the source said.
    pub reason: Arc<dyn Error + Send + Sync>,
}

/// Why a page could not be opened for an access.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no RAM at the address.
    #[error("no RAM is there")]
    Outside,
    /// The source has given up waiting; to be tried again. See [`FillError::Interrupted`].
    #[error("the memory is still on its way")]
    Interrupted,
    /// Its content cannot be had.
    #[error(transparent)]
    Lost(#[from] MemoryLost),
}

/// Why a source did not fill a chunk.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// It has waited for as long as it may hold up whoever needs the chunk: some milliseconds, within which a machine that
    /// is asked to stop does stop. A hart looks at what is wanted of it and tries again; whoever else reads or writes tries
    /// again at once, unless the source [is far](crate::ChunkSource::is_far).
    #[error("the memory is still on its way")]
    Interrupted,
    /// It cannot be had: damaged, truncated, or whoever had it is gone.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}
