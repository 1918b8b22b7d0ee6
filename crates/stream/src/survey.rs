//! Reads a whole form, of either layout, and keeps everything but memory.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use crate::Section;
use crate::error::ReadError;
use crate::header::{Header, Layout, PREAMBLE, Summary};
use crate::mapped::{ChunkError, MappedFile, scan};
use crate::memory::Totals;
use crate::reader::{BUFFER, Item, Limits, Reader, layout_of, read_start};

/// Everything in a form but memory, all of which has been compared with its checksums.
#[derive(Debug, PartialEq, Eq)]
pub struct Survey {
    /// The format version that it was written in.
    pub format: u32,
    /// How it lies.
    pub layout: Layout,
    /// What it says of itself.
    pub header: Header,
    /// The machine in a few words; the last of several.
    pub summary: Option<Summary>,
    /// The states of the components.
    pub sections: Vec<Section>,
    /// How many words of the handshake were in it.
    pub controls: u64,
    /// What was counted.
    pub totals: Totals,
}

/// Why a form cannot be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its memory cannot.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

impl Survey {
    /// Surveys a file from its beginning, or whatever else was opened.
    ///
    /// # Errors
    /// When it is not a complete, undamaged form that this program reads.
    pub fn of_file(file: File, limits: &Limits) -> Result<Self, SurveyError> {
        if !file.metadata().map_err(ReadError::Io)?.is_file() {
            return Ok(Self::of(file, limits)?);
        }
        match MappedFile::open(file.try_clone().map_err(ReadError::Io)?, limits) {
            Err(ReadError::WrongLayout { .. }) => {
                (&file).rewind().map_err(ReadError::Io)?;
                Ok(Self::of(file, limits)?)
            }
            Err(error) => Err(error.into()),
            Ok(mapped) => {
                mapped.verify()?;
                Ok(mapped.into_survey())
            }
        }
    }

    /// Surveys what comes through a pipe.
    ///
    /// # Errors
    /// When it is not a complete, undamaged form that this program reads.
    pub fn of(input: impl Read, limits: &Limits) -> Result<Self, ReadError> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let preamble: [u8; PREAMBLE] = read_start(&mut input)?;
        match layout_of(&preamble)? {
            Layout::Mapped => scan(input, &preamble, limits),
            Layout::Streamed => Self::of_stream(Reader::behind(input, &preamble, limits)?),
        }
    }

    fn of_stream<R: Read>(mut reader: Reader<R>) -> Result<Self, ReadError> {
        let (mut summary, mut sections, mut controls) = (None, Vec::new(), 0);
        loop {
            match reader.read()? {
                Item::Section(section) => sections.push(section),
                Item::Summary(found) => summary = Some(found),
                Item::Control(_) => controls += 1,
                Item::Memory(_) => {}
                Item::End => break,
            }
        }
        let (format, header) = (reader.format(), reader.header().clone());
        let totals = reader.finish()?;
        Ok(Self { format, layout: Layout::Streamed, header, summary, sections, controls, totals })
    }
}
