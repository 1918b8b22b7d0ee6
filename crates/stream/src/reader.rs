//! Reads the streamed layout.

use std::io::{BufReader, Read};

use crate::control::Control;
use crate::error::{Damage, ReadError};
use crate::frame::{Frames, Kind, MAX_SECTION, fill};
use crate::header::{BadHeader, Header, Layout, MAGIC, PREAMBLE, Summary, version};
use crate::memory::{Content, Form, Piece, Record, Totals, hash};
use crate::{CHUNK_SIZE, FORMAT_VERSION, Section};

/// Bytes that are read ahead. Few, so that content goes past the buffer to where it is wanted.
pub(crate) const BUFFER: usize = 8 << 10;

/// How much a reader takes. What is announced above that is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that the machine may have.
    pub memory: u64,
    /// Bytes of one section.
    pub section: u64,
    /// Bytes of all sections together, names included.
    pub all_sections: u64,
    /// How many sections.
    pub sections: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: crate::MAX_MEMORY, section: 16 << 20, all_sections: 64 << 20, sections: 4096 }
    }
}

/// What is read next.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The state of one component.
    Section(Section),
    /// The machine in a few words.
    Summary(Summary),
    /// Pages; their checksum has been compared.
    Memory(Piece<'a>),
    /// A word of the handshake.
    Control(Control),
    /// The end mark: it is complete.
    End,
}

/// Reads a machine from front to back.
pub struct Reader<R> {
    frames: Frames<R>,
    header: Header,
    budget: Budget,
    unpacker: Option<zstd::bulk::Decompressor<'static>>,
    stored: Box<[u8; CHUNK_SIZE]>,
    unpacked: Box<[u8; CHUNK_SIZE]>,
    totals: Totals,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning, up to the header.
    ///
    /// # Errors
    /// When this is no streamed form, or one that this program cannot read.
    pub fn new(input: R, limits: &Limits) -> Result<Self, ReadError> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let preamble = read_preamble(&mut input, Layout::Streamed)?;
        Self::behind(input, &preamble, limits)
    }

    /// Reads on behind `preamble`, which has been judged.
    pub(crate) fn behind(
        input: BufReader<R>,
        preamble: &[u8; PREAMBLE],
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let mut frames = Frames::new(input, preamble, PREAMBLE as u64);
        let header = read_header(&mut frames, limits)?;
        Ok(Self {
            frames,
            header,
            budget: Budget::new(limits),
            unpacker: None,
            stored: Box::new([0; CHUNK_SIZE]),
            unpacked: Box::new([0; CHUNK_SIZE]),
            totals: Totals::default(),
            ended: false,
        })
    }

    /// What the form says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The format version that it was written in.
    pub fn format(&self) -> u32 {
        self.frames.format
    }

    /// What has been read.
    pub fn totals(&self) -> Totals {
        Totals { bytes: self.frames.offset(), ..self.totals }
    }

    /// Reads what comes next. After the end mark, and after an error, there is nothing more to be read.
    ///
    /// # Errors
    /// When what comes is damaged, too much, or does not come.
    pub fn read(&mut self) -> Result<Item<'_>, ReadError> {
        if self.ended {
            return Err(ReadError::Trailing { offset: self.frames.offset() });
        }
        let kind = self.frames.next(self.budget.left())?;
        match kind {
            Kind::Section => {
                let section = self.budget.section(&self.frames)?;
                self.totals.sections += 1;
                Ok(Item::Section(section))
            }
            Kind::Summary => Ok(Item::Summary(read_summary(&self.frames)?)),
            Kind::Memory => self.memory(),
            Kind::End => {
                self.ended = true;
                Ok(Item::End)
            }
            Kind::Header | Kind::Table => Err(self.frames.damaged(Damage::Misplaced(kind as u8))),
            _ => match Control::decode(kind, &self.frames.payload) {
                Some(Ok(control)) => Ok(Item::Control(control)),
                Some(Err(damage)) => Err(self.frames.damaged(damage)),
                None => Err(self.frames.damaged(Damage::Misplaced(kind as u8))),
            },
        }
    }

    /// Sees to it that nothing follows the end mark: for files and pipes, where bytes that do are damage.
    ///
    /// # Errors
    /// When something does.
    pub fn finish(mut self) -> Result<Totals, ReadError> {
        let offset = self.frames.offset();
        if !self.ended {
            return Err(ReadError::Truncated { offset, what: "what comes before the end mark" });
        }
        match self.frames.at_end()? {
            true => Ok(self.totals()),
            false => Err(ReadError::Trailing { offset }),
        }
    }

    fn memory(&mut self) -> Result<Item<'_>, ReadError> {
        let record = match Record::decode(&self.frames.payload, self.header.memory) {
            Ok(record) => record,
            Err(damage) => return Err(self.frames.damaged(damage)),
        };
        let stored = &mut self.stored[..record.stored as usize];
        self.frames.content(stored, "memory")?;
        let computed = if stored.is_empty() { 0 } else { hash(stored) };
        if computed != record.hash {
            let damage = Damage::Memory { page: record.page, found: record.hash, computed };
            return Err(self.frames.damaged(damage));
        }
        let content = match record.form {
            Form::Zero => Content::Zero,
            Form::Raw => Content::Bytes(stored),
            Form::Zstd => {
                let into = &mut self.unpacked[..record.bytes()];
                unpack(&mut self.unpacker, stored, into)?.then_some(Content::Bytes(into)).ok_or_else(
                    || self.frames.damaged(Damage::Packed { page: record.page, bytes: record.bytes() }),
                )?
            }
            Form::Parent if self.header.parent.is_some() => Content::Parent,
            Form::Parent => return Err(self.frames.damaged(Damage::Value("the form of memory"))),
        };
        self.totals.count(&record);
        Ok(Item::Memory(Piece { page: record.page, pages: record.pages, content }))
    }
}

/// Unpacks `stored`; false if that does not give exactly `into`.
fn unpack(
    unpacker: &mut Option<zstd::bulk::Decompressor<'static>>,
    stored: &[u8],
    into: &mut [u8],
) -> Result<bool, ReadError> {
    let unpacker = match unpacker {
        Some(unpacker) => unpacker,
        None => unpacker.insert(zstd::bulk::Decompressor::new().map_err(ReadError::Io)?),
    };
    let length = into.len();
    Ok(unpacker.decompress_to_buffer(stored, into).is_ok_and(|got| got == length))
}

/// Reads the first bytes of a form that shall have the layout `wanted`.
pub(crate) fn read_preamble(input: &mut impl Read, wanted: Layout) -> Result<[u8; PREAMBLE], ReadError> {
    let bytes = read_start(input)?;
    let found = layout_of(&bytes)?;
    if found != wanted {
        return Err(ReadError::WrongLayout { found, wanted });
    }
    Ok(bytes)
}

/// Reads the first bytes of any form.
pub(crate) fn read_start(input: &mut impl Read) -> Result<[u8; PREAMBLE], ReadError> {
    let mut bytes = [0; PREAMBLE];
    fill(input, &mut bytes, &mut 0, "its first bytes")?;
    Ok(bytes)
}

/// The layout of the form that begins with these bytes.
pub(crate) fn layout_of(preamble: &[u8; PREAMBLE]) -> Result<Layout, ReadError> {
    let [m0, m1, m2, m3, m4, m5, m6, m7, .., layout, z0, z1, z2] = *preamble;
    let found = [m0, m1, m2, m3, m4, m5, m6, m7];
    if found != MAGIC {
        return Err(ReadError::NotOurs { found });
    }
    match version(preamble) {
        0 => return Err(ReadError::NoFormat),
        1..=FORMAT_VERSION => {}
        found => return Err(ReadError::NewerFormat { found }),
    }
    let damaged = |damage| ReadError::Damaged { offset: 12, damage };
    match (layout, [z0, z1, z2]) {
        (0, [0, 0, 0]) => Ok(Layout::Streamed),
        (1, [0, 0, 0]) => Ok(Layout::Mapped),
        (other, [0, 0, 0]) => Err(damaged(Damage::Layout(other))),
        _ => Err(damaged(Damage::Value("the preamble"))),
    }
}

/// Reads the Header frame.
pub(crate) fn read_header<R: Read>(frames: &mut Frames<R>, limits: &Limits) -> Result<Header, ReadError> {
    let kind = frames.next(0)?;
    if kind != Kind::Header {
        return Err(frames.damaged(Damage::Misplaced(kind as u8)));
    }
    let header = Header::decode(&frames.payload).map_err(|bad| match bad {
        BadHeader::UnknownFeatures(names) => ReadError::UnknownFeatures { names },
        BadHeader::Damage(damage) => frames.damaged(damage),
    })?;
    if header.memory > limits.memory {
        return Err(ReadError::TooLarge { what: "memory", announced: header.memory, most: limits.memory });
    }
    Ok(header)
}

/// The summary in the frame that was read last.
pub(crate) fn read_summary<R: Read>(frames: &Frames<R>) -> Result<Summary, ReadError> {
    match postcard::take_from_bytes::<Summary>(&frames.payload) {
        Ok((summary, [])) if summary.check().is_ok() => Ok(summary),
        _ => Err(frames.damaged(Damage::Encoding("the summary"))),
    }
}

/// How much more of sections is taken.
pub(crate) struct Budget {
    section: u64,
    bytes: u64,
    sections: u64,
    limits: Limits,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        let section = limits.section.min(MAX_SECTION).saturating_add(FRONT + Section::MAX_NAME as u64);
        Self { section, bytes: limits.all_sections, sections: limits.sections, limits: *limits }
    }

    /// Bytes that the payload of the next section may have.
    pub(crate) fn left(&self) -> u64 {
        self.section.min(self.bytes.saturating_add(FRONT))
    }

    /// The section in the frame that was read last.
    pub(crate) fn section<R: Read>(&mut self, frames: &Frames<R>) -> Result<Section, ReadError> {
        self.sections = self.sections.checked_sub(1).ok_or(ReadError::TooLarge {
            what: "the number of sections",
            announced: self.limits.sections.saturating_add(1),
            most: self.limits.sections,
        })?;
        let section = decode_section(&frames.payload).map_err(|damage| frames.damaged(damage))?;
        let length = section.data.len() as u64;
        let (most, what) = (self.limits.section, "a section");
        if length > most {
            return Err(ReadError::TooLarge { what, announced: length, most });
        }
        self.bytes = self.bytes.saturating_sub(length + section.name.len() as u64);
        Ok(section)
    }
}

/// Bytes of a section's payload in front of its name.
const FRONT: u64 = 6;

fn decode_section(payload: &[u8]) -> Result<Section, Damage> {
    let undecodable = Damage::Encoding("a section");
    let Some((&[v0, v1, v2, v3, n0, n1], rest)) = payload.split_first_chunk() else {
        return Err(undecodable);
    };
    let length = usize::from(u16::from_le_bytes([n0, n1]));
    if length == 0 || length > Section::MAX_NAME || length > rest.len() {
        return Err(Damage::Value("the length of a section's name"));
    }
    let (name, data) = rest.split_at(length);
    let name = std::str::from_utf8(name).map_err(|_| undecodable)?;
    Ok(Section { name: name.to_owned(), version: u32::from_le_bytes([v0, v1, v2, v3]), data: data.to_vec() })
}
