//! Reads a mapped file, a chunk at a time.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::SeekFrom;

use super::index::{Entry, Index};
use super::{FRONT, Front, chunks, place};
use crate::error::ReadError;
use crate::header::{FileId, Header, Layout, Summary};
use crate::memory::{Form, Totals, hash, is_zero};
use crate::reader::{Limits, read_preamble};
use crate::survey::Survey;
use crate::{CHUNK_SIZE, Section};

/// Most files that an incremental one may build on.
const MAX_DEPTH: usize = 64;

/// Why a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// No such chunk, or not as long.
    #[error("{length} bytes are not chunk {chunk} of the {chunks} in the saved state")]
    Range {
        /// Which.
        chunk: u64,
        /// The length that was asked for.
        length: usize,
        /// How many chunks there are.
        chunks: u64,
    },
    /// The file cannot be read.
    #[error("cannot read chunk {chunk} of the saved state {name:?}")]
    Io {
        /// Which.
        chunk: u64,
        /// Name of the snapshot.
        name: String,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The file has become shorter since it was opened.
    #[error("the saved state {name:?} has been cut short: chunk {chunk} is no longer there")]
    Truncated {
        /// Which.
        chunk: u64,
        /// Name of the snapshot.
        name: String,
    },
    /// The content is not what was written.
    #[error(
        "the saved state {name:?} is damaged: the checksum of chunk {chunk} is {found:#018x}, its content gives {computed:#018x}"
    )]
    Damaged {
        /// Which.
        chunk: u64,
        /// Name of the snapshot.
        name: String,
        /// As written.
        found: u64,
        /// As computed.
        computed: u64,
    },
    /// Bytes where nothing should be.
    #[error("the saved state {name:?} is damaged: there is something in chunk {chunk}, which keeps nothing")]
    NoHole {
        /// Which.
        chunk: u64,
        /// Name of the snapshot.
        name: String,
    },
    /// It is in the parent, which was not given.
    #[error("chunk {chunk} of the saved state {name:?} is in its parent, which has not been opened")]
    NoParent {
        /// Which.
        chunk: u64,
        /// Name of the snapshot.
        name: String,
    },
}

/// Why a file cannot be the parent of another.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It needs none.
    #[error("the saved state {name:?} is whole and has no parent")]
    NotIncremental {
        /// Name of the snapshot.
        name: String,
    },
    /// It is another one.
    #[error("the saved state {name:?} needs {wanted} as its parent, not {found}")]
    WrongId {
        /// Name of the snapshot.
        name: String,
        /// The parent's id.
        wanted: FileId,
        /// The id of what was given.
        found: FileId,
    },
    /// Of a machine with other memory.
    #[error("the saved state {name:?} has {wanted:#x} bytes of memory, its parent {found:#x}")]
    OtherMemory {
        /// Name of the snapshot.
        name: String,
        /// Its memory in bytes.
        wanted: u64,
        /// Its parent's.
        found: u64,
    },
    /// The parent lacks a parent of its own.
    #[error("the parent {name:?} of the saved state has a parent itself, which has not been opened")]
    Orphan {
        /// Name of the parent.
        name: String,
    },
    /// Too many parents behind one another.
    #[error("the saved state {name:?} builds on more than {MAX_DEPTH} others")]
    TooDeep {
        /// Name of the snapshot.
        name: String,
    },
}

/// A complete mapped file. Everything but memory has been read and judged; memory is read on demand, from any thread.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    /// Where in the file the form begins.
    base: u64,
    index: Index,
    parent: Option<Arc<MappedFile>>,
}

impl MappedFile {
    /// Reads everything but memory.
    ///
    /// # Errors
    /// When this is no mapped file, it is not complete, or this program cannot read it.
    pub fn open(file: File, limits: &Limits) -> Result<Self, ReadError> {
        Self::behind(file, 0, limits)
    }

    /// The same behind `base` bytes of something else.
    ///
    /// # Errors
    /// As those of [`Self::open`].
    pub fn behind(file: File, base: u64, limits: &Limits) -> Result<Self, ReadError> {
        let length = file.metadata().map_err(ReadError::Io)?.len().saturating_sub(base);
        let preamble = read_preamble(&mut At { file: &file, at: base }, Layout::Mapped)?;
        if length < FRONT {
            return Err(ReadError::Truncated { offset: length, what: "the first page" });
        }
        let mut page = [0; FRONT as usize];
        file.read_exact_at(&mut page, base).map_err(ReadError::Io)?;
        let front = Front::decode(&page)?;
        if length < front.length {
            return Err(ReadError::Truncated { offset: length, what: "memory or the index" });
        }
        // What is not past the end of the file is no overflow.
        let index = Index::read(At { file: &file, at: base + front.index }, &preamble, front, limits)?;
        Ok(Self { file, base, index, parent: None })
    }

    /// Gives an incremental file the one that it is the difference from.
    ///
    /// # Errors
    /// When it is another one, or lacks its own parent.
    pub fn with_parent(mut self, parent: Arc<MappedFile>) -> Result<Self, ParentError> {
        let name = self.header().name.clone();
        let Some(wanted) = &self.header().parent else {
            return Err(ParentError::NotIncremental { name });
        };
        let found = parent.header();
        if found.id != wanted.id {
            return Err(ParentError::WrongId { name, wanted: wanted.id, found: found.id });
        }
        if found.memory != self.header().memory {
            return Err(ParentError::OtherMemory { name, wanted: self.header().memory, found: found.memory });
        }
        if found.parent.is_some() && parent.parent.is_none() {
            return Err(ParentError::Orphan { name: found.name.clone() });
        }
        if std::iter::successors(Some(&parent), |file| file.parent.as_ref()).count() > MAX_DEPTH {
            return Err(ParentError::TooDeep { name });
        }
        self.parent = Some(parent);
        Ok(self)
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.index.header
    }

    /// The machine in a few words.
    pub fn summary(&self) -> Option<&Summary> {
        self.index.summary.as_ref()
    }

    /// The states of the components, in the order in which they were given.
    pub fn sections(&self) -> &[Section] {
        &self.index.sections
    }

    /// How many chunks memory has; the last may be short.
    pub fn chunks(&self) -> u64 {
        chunks(self.header().memory)
    }

    /// Bytes of chunk `chunk`.
    pub fn chunk_length(&self, chunk: u64) -> Option<usize> {
        Some(place(chunk, self.header().memory)?.1)
    }

    /// How a chunk is kept in this file.
    pub fn form(&self, chunk: u64) -> Option<Form> {
        Some(self.index.table.get(usize::try_from(chunk).ok()?)?.form)
    }

    /// Where a chunk that is not zero lies as it is: in this file or the parent that has it, and where in it. None for one that
    /// keeps nothing, or is not there.
    pub fn place_of(&self, chunk: u64) -> Option<(BorrowedFd<'_>, u64)> {
        let mut file = self;
        while file.form(chunk)? == Form::Parent {
            file = file.parent.as_deref()?;
        }
        let (at, _) = place(chunk, file.header().memory)?;
        (file.form(chunk)? == Form::Raw).then(|| (file.file.as_fd(), file.base + at))
    }

    /// What the file holds, in pages.
    pub fn totals(&self) -> Totals {
        self.index.totals()
    }

    /// Reads a chunk and compares its checksum; `into` is as long as the chunk. Says how the file that has it keeps it:
    /// zero or raw.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is in a parent that was not given. `into` is then worth nothing.
    pub fn read_chunk(&self, chunk: u64, into: &mut [u8]) -> Result<Form, ChunkError> {
        let mut file = self;
        loop {
            let (at, entry) = file.entry(chunk, into.len())?;
            match (entry.form, &file.parent) {
                (Form::Zero, _) => {
                    into.fill(0);
                    return Ok(Form::Zero);
                }
                (Form::Parent, Some(parent)) => file = parent,
                (Form::Parent, None) => return Err(ChunkError::NoParent { chunk, name: file.name() }),
                (Form::Raw | Form::Zstd, _) => {
                    file.read_at(chunk, at, into)?;
                    return match hash(into) {
                        computed if computed == entry.hash => Ok(Form::Raw),
                        computed => {
                            Err(ChunkError::Damaged { chunk, name: file.name(), found: entry.hash, computed })
                        }
                    };
                }
            }
        }
    }

    /// Reads all of this file's own memory and compares its checksums.
    ///
    /// # Errors
    /// At the first chunk that cannot be read or is damaged.
    pub fn verify(&self) -> Result<(), ChunkError> {
        let mut buffer = vec![0; CHUNK_SIZE];
        // Bytes before this one are a hole.
        let mut hole = 0;
        for chunk in 0..self.chunks() {
            let into = &mut buffer[..self.chunk_length(chunk).unwrap_or(CHUNK_SIZE)];
            let (at, entry) = self.entry(chunk, into.len())?;
            if entry.form == Form::Raw {
                self.read_chunk(chunk, into)?;
                continue;
            }
            if hole < at + into.len() as u64 {
                hole = self.next_data(at);
            }
            if hole < at + into.len() as u64 {
                self.read_at(chunk, at, into)?;
                if !is_zero(into) {
                    return Err(ChunkError::NoHole { chunk, name: self.name() });
                }
            }
        }
        Ok(())
    }

    /// Where the next byte lies, from `at` on, that is not in a hole; `at` where the file system does not tell.
    fn next_data(&self, at: u64) -> u64 {
        match rustix::fs::seek(&self.file, SeekFrom::Data(self.base + at)) {
            Ok(found) => found.saturating_sub(self.base),
            Err(rustix::io::Errno::NXIO) => u64::MAX,
            Err(_) => at,
        }
    }

    /// Everything but memory.
    pub(crate) fn into_survey(self) -> Survey {
        self.index.into_survey()
    }

    fn name(&self) -> String {
        self.header().name.clone()
    }

    fn entry(&self, chunk: u64, length: usize) -> Result<(u64, Entry), ChunkError> {
        let found = place(chunk, self.header().memory).filter(|&(_, expected)| expected == length);
        match found {
            Some((at, _)) => Ok((at, self.index.table[chunk as usize])),
            None => Err(ChunkError::Range { chunk, length, chunks: self.chunks() }),
        }
    }

    fn read_at(&self, chunk: u64, at: u64, into: &mut [u8]) -> Result<(), ChunkError> {
        self.file.read_exact_at(into, self.base + at).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => ChunkError::Truncated { chunk, name: self.name() },
            _ => ChunkError::Io { chunk, name: self.name(), source },
        })
    }
}

/// Reads a file from an offset.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(into, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
