//! Writes a mapped file, from any thread and in any order.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;

use super::index::{self, Entry};
use super::{FRONT, Front, chunks, place};
use crate::error::WriteError;
use crate::header::{Compression, Header, Layout, Summary, is_memory, preamble};
use crate::memory::{Form, hash, is_zero};
use crate::{FORMAT_VERSION, PAGE_SIZE, Section};

/// Writes a mapped file. Until [`MappedWriter::finish`] has returned the file says of itself that it was not finished.
///
/// Chunks are written from several threads, in any order; one chunk by one thread at a time. A chunk that is written again
/// replaces what was there.
#[derive(Debug)]
pub struct MappedWriter {
    file: File,
    /// Where in the file the form begins.
    base: u64,
    memory: u64,
    /// How each chunk is kept; none if it has not been written.
    table: Mutex<Vec<Option<Entry>>>,
}

impl MappedWriter {
    /// Begins in an empty regular file, for a machine with `memory` bytes.
    ///
    /// # Errors
    /// When the file is not empty, the memory is not whole pages, or nothing can be written.
    pub fn new(file: File, memory: u64) -> Result<Self, WriteError> {
        Self::behind(file, 0, memory)
    }

    /// The same behind `base` bytes of something else, which the file has and which stay.
    ///
    /// # Errors
    /// As those of [`Self::new`], and when the file does not end there.
    pub fn behind(file: File, base: u64, memory: u64) -> Result<Self, WriteError> {
        if !is_memory(memory) {
            return Err(WriteError::BadMemory { memory });
        }
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(WriteError::NotMapped("anything but a regular file"));
        }
        if found.len() != base {
            return Err(WriteError::NotEmpty { length: found.len() });
        }
        // A length that the file system cannot have is better known now.
        file.set_len(base.saturating_add(FRONT + memory))?;
        file.write_all_at(&preamble(FORMAT_VERSION, Layout::Mapped), base)?;
        Ok(Self { file, base, memory, table: Mutex::new(vec![None; chunks(memory) as usize]) })
    }

    /// Writes a chunk: nothing if it is zero. Says how it is kept.
    ///
    /// # Errors
    /// When there is no such chunk, `bytes` is not as long as it, or nothing can be written.
    pub fn chunk(&self, chunk: u64, bytes: &[u8]) -> Result<Form, WriteError> {
        if is_zero(bytes) {
            self.place(chunk, bytes.len())?;
            self.hole(chunk, Form::Zero)?;
            return Ok(Form::Zero);
        }
        let (at, _) = self.place(chunk, bytes.len())?;
        self.enter(chunk, None);
        self.file.write_all_at(bytes, self.base + at)?;
        self.enter(chunk, Some(Entry { form: Form::Raw, hash: hash(bytes) }));
        Ok(Form::Raw)
    }

    /// Notes that a chunk is zero.
    ///
    /// # Errors
    /// When there is no such chunk, or what was there cannot be taken away.
    pub fn zero(&self, chunk: u64) -> Result<(), WriteError> {
        self.hole(chunk, Form::Zero)
    }

    /// Notes that a chunk is as in the parent.
    ///
    /// # Errors
    /// When there is no such chunk, or what was there cannot be taken away.
    pub fn parent(&self, chunk: u64) -> Result<(), WriteError> {
        self.hole(chunk, Form::Parent)
    }

    /// Completes the file, and gives it back. Everything is on the disk then.
    ///
    /// # Errors
    /// When a chunk is missing, the header is of another sort of form, or nothing can be written. Then the file stays
    /// unfinished.
    pub fn finish(
        self,
        header: &Header,
        summary: Option<&Summary>,
        sections: &[Section],
    ) -> Result<File, WriteError> {
        let Self { file, base, memory, table } = self;
        let table = table.into_inner().unwrap_or_else(PoisonError::into_inner);
        header.check()?;
        if header.memory != memory {
            return Err(WriteError::BadMemory { memory: header.memory });
        }
        if header.compression != Compression::None {
            return Err(WriteError::NotMapped("compressed"));
        }
        if header.two_way {
            return Err(WriteError::NotMapped("two-way"));
        }
        if let Some(chunk) = table.iter().position(Option::is_none) {
            return Err(WriteError::Missing { chunk: chunk as u64 });
        }
        if header.parent.is_none() && table.iter().flatten().any(|entry| entry.form == Form::Parent) {
            return Err(WriteError::NoParent);
        }
        let preamble = preamble(FORMAT_VERSION, Layout::Mapped);
        let index = FRONT + memory;
        let out = At { file: &file, at: base + index };
        let written = index::write(out, &preamble, header, summary, sections, table.into_iter().flatten())?;
        // First all of it, then the word that it is there.
        file.sync_all()?;
        let front = Front { index, length: index + written };
        file.write_all_at(&front.encode(&preamble), base)?;
        file.sync_all()?;
        Ok(file)
    }

    fn place(&self, chunk: u64, length: usize) -> Result<(u64, usize), WriteError> {
        let found = place(chunk, self.memory).filter(|&(_, expected)| expected == length);
        found.ok_or(WriteError::Range {
            page: chunk.saturating_mul(crate::CHUNK_PAGES),
            bytes: length as u64,
            memory: self.memory,
        })
    }

    fn table(&self) -> MutexGuard<'_, Vec<Option<Entry>>> {
        // An entry is whole or not there.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters how `chunk`, which exists, is kept; says how it was.
    fn enter(&self, chunk: u64, entry: Option<Entry>) -> Option<Entry> {
        std::mem::replace(&mut self.table()[chunk as usize], entry)
    }

    /// Makes a chunk one that keeps nothing.
    fn hole(&self, chunk: u64, form: Form) -> Result<(), WriteError> {
        let length = place(chunk, self.memory).map_or(PAGE_SIZE as usize, |(_, length)| length);
        let (at, _) = self.place(chunk, length)?;
        let entry = Some(Entry { form, hash: 0 });
        let before = self.table()[chunk as usize];
        // What was never written is a hole already. What failed half-way may not be.
        if before.is_some_and(|before| before.form == Form::Raw) {
            self.enter(chunk, None);
            self.punch(at, length)?;
        }
        self.enter(chunk, entry);
        Ok(())
    }

    fn punch(&self, at: u64, length: usize) -> io::Result<()> {
        let at = self.base + at;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, at, length as u64) {
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.write_all_at(&vec![0; length], at),
            other => Ok(other?),
        }
    }
}

/// Writes to a file from an offset.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
