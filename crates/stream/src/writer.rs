//! Writes the streamed layout.

use std::io::{self, IoSlice, Write};

use crate::control::Control;
use crate::error::WriteError;
use crate::frame::{Chain, Kind, MAX_SECTION};
use crate::header::{Compression, Header, Layout, Summary, preamble};
use crate::memory::{Form, Record, Totals, hash, is_in_chunk, is_inside, is_zero};
use crate::{CHUNK_SIZE, FORMAT_VERSION, PAGE_SIZE, Section};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 32 << 10;

/// The level of compression unless another is given: a fast one, because it is to keep up with the wire.
const LEVEL: i32 = 1;

/// Writes a machine from front to back. After an error of the other side the stream is worth nothing. What was written is with the other side only after [`Writer::flush`] or
/// [`Writer::end`].
pub struct Writer<W: Write> {
    out: Out<W>,
    chain: Chain,
    memory: u64,
    has_parent: bool,
    packer: Option<Packer>,
    /// Pages without content that have not been written yet, because more of them may follow.
    run: Option<Record>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a stream with `header`.
    ///
    /// # Errors
    /// When the header says what cannot be, or nothing can be written.
    pub fn new(out: W, header: &Header) -> Result<Self, WriteError> {
        Self::at_level(out, header, LEVEL)
    }

    /// The same, with a level of zstd's: 1 to 22, 0 is zstd's own default, others are taken for the nearest.
    ///
    /// # Errors
    /// As those of [`Self::new`].
    pub fn at_level(out: W, header: &Header, level: i32) -> Result<Self, WriteError> {
        header.check()?;
        let packer = match header.compression {
            Compression::None => None,
            Compression::Zstd => Some(Packer::new(level)?),
        };
        let preamble = preamble(FORMAT_VERSION, Layout::Streamed);
        let mut writer = Self {
            out: Out { inner: out, pending: Vec::with_capacity(BUFFER), written: 0 },
            chain: Chain::new(&preamble),
            memory: header.memory,
            has_parent: header.parent.is_some(),
            packer,
            run: None,
            totals: Totals::default(),
        };
        writer.out.put(&preamble)?;
        writer.frame(Kind::Header, &header.encode())?;
        Ok(writer)
    }

    /// Writes the state of one component.
    ///
    /// # Errors
    /// When its name or its data is too long, or nothing can be written.
    pub fn section(&mut self, section: &Section) -> Result<(), WriteError> {
        let payload = encode_section(section)?;
        self.totals.sections += 1;
        self.frame(Kind::Section, &payload)
    }

    /// Writes the machine in a few words; best before memory, where a list finds it soon.
    ///
    /// # Errors
    /// When a word is too long, or nothing can be written.
    pub fn summary(&mut self, summary: &Summary) -> Result<(), WriteError> {
        summary.check()?;
        let payload = postcard::to_stdvec(summary).unwrap_or_default();
        self.frame(Kind::Summary, &payload)
    }

    /// Writes a word of the handshake, and flushes: somebody waits for it.
    ///
    /// # Errors
    /// When it is too long, or nothing can be written.
    pub fn control(&mut self, control: &Control) -> Result<(), WriteError> {
        self.control_later(control)?;
        self.flush()
    }

    /// Writes a word of the handshake that goes with what follows.
    ///
    /// # Errors
    /// When it is too long, or nothing can be written.
    pub fn control_later(&mut self, control: &Control) -> Result<(), WriteError> {
        let payload = control.encode()?;
        self.frame(control.kind(), &payload)
    }

    /// Writes whole pages of one chunk, from page `page`: as zero pages if they are, else packed or as they are. Says how.
    /// Pages that are written again replace those before.
    ///
    /// # Errors
    /// When they are not pages of one chunk of memory, or nothing can be written.
    pub fn memory(&mut self, page: u64, bytes: &[u8]) -> Result<Form, WriteError> {
        let pages = bytes.len() as u64 / PAGE_SIZE;
        let whole = (bytes.len() as u64).is_multiple_of(PAGE_SIZE);
        if !whole || !is_inside(page, pages, self.memory) || !is_in_chunk(page, pages) {
            return Err(WriteError::Range { page, bytes: bytes.len() as u64, memory: self.memory });
        }
        if is_zero(bytes) {
            self.bare(page, pages, Form::Zero)?;
            return Ok(Form::Zero);
        }
        self.flush_run()?;
        let mut packer = self.packer.take();
        let (form, stored) = match packer.as_mut().and_then(|packer| packer.pack(bytes)) {
            Some(packed) => (Form::Zstd, packed),
            None => (Form::Raw, bytes),
        };
        let record = Record { page, pages, hash: hash(stored), stored: stored.len() as u32, form };
        let written = self.record(&record).and_then(|()| Ok(self.out.put_content(stored)?));
        self.packer = packer;
        written.map(|()| form)
    }

    /// Writes that `pages` pages from `page` are zero.
    ///
    /// # Errors
    /// When they are not inside memory, or nothing can be written.
    pub fn zero(&mut self, page: u64, pages: u64) -> Result<(), WriteError> {
        self.bare(page, pages, Form::Zero)
    }

    /// Writes that `pages` pages from `page` are as in the parent.
    ///
    /// # Errors
    /// When they are not inside memory, no parent was named, or nothing can be written.
    pub fn parent(&mut self, page: u64, pages: u64) -> Result<(), WriteError> {
        if !self.has_parent {
            return Err(WriteError::NoParent);
        }
        self.bare(page, pages, Form::Parent)
    }

    fn bare(&mut self, page: u64, pages: u64, form: Form) -> Result<(), WriteError> {
        if !is_inside(page, pages, self.memory) {
            let bytes = pages.saturating_mul(PAGE_SIZE);
            return Err(WriteError::Range { page, bytes, memory: self.memory });
        }
        match &mut self.run {
            Some(run) if run.form == form && run.page + run.pages == page => run.pages += pages,
            _ => {
                self.flush_run()?;
                self.run = Some(Record::bare(page, pages, form));
            }
        }
        Ok(())
    }

    fn flush_run(&mut self) -> Result<(), WriteError> {
        match self.run.take() {
            Some(run) => self.record(&run),
            None => Ok(()),
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), WriteError> {
        self.totals.count(record);
        let payload = record.encode();
        let head = self.chain.head(Kind::Memory, &payload);
        self.out.put(&head)?;
        Ok(self.out.put(&payload)?)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), WriteError> {
        self.flush_run()?;
        let head = self.chain.head(kind, payload);
        self.out.put(&head)?;
        Ok(self.out.put(payload)?)
    }

    /// What has been written.
    pub fn totals(&self) -> Totals {
        Totals { bytes: self.out.written, ..self.totals }
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.out.inner
    }

    /// Gives everything that was written to the other side.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.flush_run()?;
        Ok(self.out.flush()?)
    }

    /// Writes the end mark, flushes, and gives back what was written to.
    ///
    /// # Errors
    /// When the other side does not take it: then the form is not complete.
    pub fn end(mut self) -> Result<W, WriteError> {
        self.finish()?;
        Ok(self.out.inner)
    }

    /// Writes the end mark and flushes. Nothing is to be written after it.
    ///
    /// # Errors
    /// When the other side does not take it: then the form is not complete.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.frame(Kind::End, &[])?;
        self.flush()
    }
}

/// Gathers what is small and passes on what is not, without a copy. Dropped, it writes nothing more: who gives up a stream
/// does not want to wait for the other side.
struct Out<W> {
    inner: W,
    /// Bytes that go before all that comes.
    pending: Vec<u8>,
    /// Bytes that were put.
    written: u64,
}

impl<W: Write> Out<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.len() + bytes.len() > BUFFER {
            return self.put_content(bytes);
        }
        self.pending.extend_from_slice(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is pending, and `bytes`.
    fn put_content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let all = self.pending.len() + bytes.len();
        let mut done = 0;
        while done < all {
            let (first, second) = match done.checked_sub(self.pending.len()) {
                None => (&self.pending[done..], bytes),
                Some(of_second) => (&bytes[of_second..], &[][..]),
            };
            match self.inner.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.put_content(&[])?;
        self.inner.flush()
    }
}

/// The payload of a Section frame.
pub(crate) fn encode_section(section: &Section) -> Result<Vec<u8>, WriteError> {
    let Section { name, version, data } = section;
    if name.is_empty() {
        return Err(WriteError::NoName);
    }
    for (what, length, most) in [
        ("the name of a section", name.len() as u64, Section::MAX_NAME as u64),
        ("a section", data.len() as u64, MAX_SECTION),
    ] {
        if length > most {
            return Err(WriteError::TooLong { what, length, most });
        }
    }
    let name_length = name.len() as u16;
    Ok([&version.to_le_bytes()[..], &name_length.to_le_bytes(), name.as_bytes(), data].concat())
}

/// Packs content, with one set of tables for all of it.
struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Box<[u8; CHUNK_SIZE]>,
}

impl Packer {
    fn new(level: i32) -> Result<Self, WriteError> {
        Ok(Self { compressor: zstd::bulk::Compressor::new(level)?, buffer: Box::new([0; CHUNK_SIZE]) })
    }

    /// The packed form, if it is shorter.
    fn pack(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        // A byte less than the content, so that what would not be shorter does not fit.
        let room = &mut self.buffer[..bytes.len() - 1];
        let length = self.compressor.compress_to_buffer(bytes, room).ok()?;
        Some(&self.buffer[..length])
    }
}
