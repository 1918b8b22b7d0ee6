//! The two forms of a snapshot's file, written while the machine runs on: mapped, to be read a chunk at a time when the guest
//! needs it; or packed, to be read as a whole.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ram::ChunkSink;
use stream::{CHUNK_PAGES, Compression, Form, Header, MappedWriter, Section, Summary, WriteError, Writer};

use crate::jobs::Work;

/// Everything but memory.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) header: Header,
    pub(super) summary: Summary,
    pub(super) sections: Vec<Section>,
}

/// A file that chunks are written to, in any order and from any thread.
pub(super) struct Image {
    form: FileForm,
    /// The first thing that went wrong; from then on nothing is written.
    error: Mutex<Option<WriteError>>,
    work: Arc<Work>,
}

enum FileForm {
    Mapped(MappedWriter),
    Packed(Box<Mutex<Writer<BufWriter<File>>>>),
}

impl Image {
    /// Begins in an empty file what can be mapped.
    pub(super) fn mapped(file: File, memory: u64, work: Arc<Work>) -> Result<Self, WriteError> {
        let form = FileForm::Mapped(MappedWriter::new(file, memory)?);
        Ok(Self { form, error: Mutex::default(), work })
    }

    /// Begins in an empty file what is packed. Everything but memory comes first, where lists find it soon.
    pub(super) fn packed(file: File, machine: &Machine, work: Arc<Work>) -> Result<Self, WriteError> {
        let header = Header { compression: Compression::Zstd, ..machine.header.clone() };
        let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, file), &header)?;
        writer.summary(&machine.summary)?;
        machine.sections.iter().try_for_each(|section| writer.section(section))?;
        Ok(Self { form: FileForm::Packed(Box::new(Mutex::new(writer))), error: Mutex::default(), work })
    }

    /// Notes that a chunk is as in the parent.
    pub(super) fn parent(&self, chunk: usize) -> Result<(), WriteError> {
        match &self.form {
            FileForm::Mapped(writer) => writer.parent(chunk as u64),
            FileForm::Packed(_) => Err(WriteError::NoParent),
        }
    }

    /// Whether anything has gone wrong.
    pub(super) fn has_failed(&self) -> bool {
        locked(&self.error).is_some()
    }

    /// What has.
    pub(super) fn take_error(&self) -> Option<WriteError> {
        locked(&self.error).take()
    }

    /// Completes the file: everything is on the disk then.
    pub(super) fn finish(self, machine: &Machine) -> Result<(), WriteError> {
        match self.form {
            FileForm::Mapped(writer) => {
                writer.finish(&machine.header, Some(&machine.summary), &machine.sections)?;
            }
            FileForm::Packed(writer) => {
                let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
                let mut out = writer.end()?;
                out.flush()?;
                out.get_ref().sync_all()?;
            }
        }
        Ok(())
    }

    fn write(&self, chunk: usize, bytes: &[u8]) -> Result<Form, WriteError> {
        match &self.form {
            FileForm::Mapped(writer) => writer.chunk(chunk as u64, bytes),
            FileForm::Packed(writer) => locked(writer).memory(chunk as u64 * CHUNK_PAGES, bytes),
        }
    }
}

impl ChunkSink for Image {
    fn save(&self, chunk: usize, bytes: &[u8]) {
        self.work.advance(bytes.len() as u64);
        // Not under the lock of the error: chunks come from several harts at once.
        if self.has_failed() {
            return;
        }
        if let Err(error) = self.write(chunk, bytes) {
            locked(&self.error).get_or_insert(error);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
