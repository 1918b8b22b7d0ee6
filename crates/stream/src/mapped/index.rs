//! The index: what a mapped file holds besides memory, and the table of its chunks.

use std::io::{BufReader, BufWriter, Read, Write};

use super::{FRONT, Front, chunks, place};
use crate::error::{Damage, ReadError, WriteError};
use crate::frame::{Chain, Frames, Kind, TABLE_CHUNKS};
use crate::header::{Compression, Header, Layout, PREAMBLE, Summary};
use crate::memory::{Form, Totals, hash};
use crate::reader::{Budget, Limits, read_header, read_summary};
use crate::survey::Survey;
use crate::writer::encode_section;
use crate::{CHUNK_PAGES, PAGE_SIZE, Section};

/// Bytes of a chunk's entry in a table.
const ENTRY: usize = 9;

/// How a chunk is kept: its form and, if it is raw, the hash of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) form: Form,
    pub(super) hash: u64,
}

/// Everything about a mapped file but memory itself.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) format: u32,
    pub(super) header: Header,
    pub(super) summary: Option<Summary>,
    pub(super) sections: Vec<Section>,
    pub(super) table: Vec<Entry>,
    /// Bytes of the whole file.
    pub(super) length: u64,
}

impl Index {
    /// Reads and judges the index that `input` continues with, of a file that says `front` of itself.
    pub(super) fn read(
        input: impl Read,
        preamble: &[u8; PREAMBLE],
        front: Front,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let mut frames = Frames::new(BufReader::new(input), preamble, front.index);
        let header = read_header(&mut frames, limits)?;
        let is_plain = header.compression == Compression::None && !header.two_way;
        if !is_plain || front.index != FRONT + header.memory {
            return Err(frames.damaged(Damage::Value("the header of a mapped file")));
        }
        let format = frames.format;
        let mut index = Self {
            format,
            header,
            summary: None,
            sections: Vec::new(),
            table: Vec::new(),
            length: front.length,
        };
        let mut budget = Budget::new(limits);
        loop {
            match frames.next(budget.left())? {
                Kind::Section => index.sections.push(budget.section(&frames)?),
                Kind::Summary if index.summary.is_none() => index.summary = Some(read_summary(&frames)?),
                Kind::Table => {
                    index.take_table(&frames.payload).map_err(|damage| frames.damaged(damage))?;
                }
                Kind::End if index.table.len() as u64 == chunks(index.header.memory) => break,
                other => return Err(frames.damaged(Damage::Misplaced(other as u8))),
            }
        }
        if frames.offset() != front.length {
            let damage = Damage::Length { found: frames.offset(), told: front.length };
            return Err(ReadError::Damaged { offset: frames.offset(), damage });
        }
        match frames.at_end()? {
            true => Ok(index),
            false => Err(ReadError::Trailing { offset: front.length }),
        }
    }

    /// Takes the entries of a Table frame, which continue those before.
    fn take_table(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let bad = Damage::Encoding("the table of chunks");
        let Some((first, entries)) = payload.split_first_chunk() else { return Err(bad) };
        let (known, all) = (self.table.len() as u64, chunks(self.header.memory));
        let count = entries.len() / ENTRY;
        let is_whole = entries.len().is_multiple_of(ENTRY) && count > 0;
        if !is_whole || u64::from_le_bytes(*first) != known || known + count as u64 > all {
            return Err(bad);
        }
        for entry in entries.chunks_exact(ENTRY) {
            let hash = u64::from_le_bytes(std::array::from_fn(|i| entry[i]));
            let form = Form::of(entry[8]).ok_or(Damage::Value("the form of a chunk"))?;
            let fits = match form {
                Form::Raw => true,
                Form::Zero => hash == 0,
                Form::Parent => hash == 0 && self.header.parent.is_some(),
                Form::Zstd => false,
            };
            if !fits {
                return Err(Damage::Value("the form of a chunk"));
            }
            self.table.push(Entry { form, hash });
        }
        Ok(())
    }
}

impl Index {
    /// What the table counts up to.
    pub(super) fn totals(&self) -> Totals {
        let sections = self.sections.len() as u64;
        let mut totals = Totals { sections, bytes: self.length, ..Totals::default() };
        for (chunk, entry) in self.table.iter().enumerate() {
            let pages =
                place(chunk as u64, self.header.memory).map_or(0, |(_, length)| length as u64 / PAGE_SIZE);
            match entry.form {
                Form::Zero => totals.zero += pages,
                Form::Raw | Form::Zstd => totals.raw += pages,
                Form::Parent => totals.parent += pages,
            }
        }
        totals
    }

    /// Judges a chunk that was read before the table was: its hash, or none if it is zero.
    pub(super) fn judge(&self, chunk: usize, found: Option<u64>) -> Result<(), Damage> {
        let (page, memory) = (chunk as u64 * CHUNK_PAGES, self.header.memory);
        let length = place(chunk as u64, memory).map_or(0, |(_, length)| length);
        let Some(entry) = self.table.get(chunk) else {
            return Err(Damage::Range { page, pages: CHUNK_PAGES, memory });
        };
        match (entry.form, found) {
            (Form::Zero | Form::Parent, None) => Ok(()),
            (_, found) => {
                let computed = found.unwrap_or_else(|| hash(&vec![0; length]));
                let is_same = entry.form == Form::Raw && entry.hash == computed;
                if is_same { Ok(()) } else { Err(Damage::Memory { page, found: entry.hash, computed }) }
            }
        }
    }

    /// Everything that is not memory.
    pub(super) fn into_survey(self) -> Survey {
        let totals = self.totals();
        let Self { format, header, summary, sections, .. } = self;
        Survey { format, layout: Layout::Mapped, header, summary, sections, controls: 0, totals }
    }
}

/// Writes an index, and says how many bytes it has.
pub(super) fn write(
    out: impl Write,
    preamble: &[u8; PREAMBLE],
    header: &Header,
    summary: Option<&Summary>,
    sections: &[Section],
    table: impl Iterator<Item = Entry>,
) -> Result<u64, WriteError> {
    let mut frames = FrameWriter { out: BufWriter::new(out), chain: Chain::new(preamble), written: 0 };
    frames.put(Kind::Header, &header.encode())?;
    if let Some(summary) = summary {
        summary.check()?;
        frames.put(Kind::Summary, &postcard::to_stdvec(summary).unwrap_or_default())?;
    }
    for section in sections {
        frames.put(Kind::Section, &encode_section(section)?)?;
    }
    let (mut first, mut table) = (0_u64, table.peekable());
    while table.peek().is_some() {
        let mut payload = first.to_le_bytes().to_vec();
        for entry in table.by_ref().take(TABLE_CHUNKS) {
            payload.extend_from_slice(&entry.hash.to_le_bytes());
            payload.push(entry.form.number());
            first += 1;
        }
        frames.put(Kind::Table, &payload)?;
    }
    frames.put(Kind::End, &[])?;
    frames.out.flush()?;
    Ok(frames.written)
}

struct FrameWriter<W: Write> {
    out: BufWriter<W>,
    chain: Chain,
    written: u64,
}

impl<W: Write> FrameWriter<W> {
    fn put(&mut self, kind: Kind, payload: &[u8]) -> Result<(), WriteError> {
        let head = self.chain.head(kind, payload);
        self.out.write_all(&head)?;
        self.out.write_all(payload)?;
        self.written += (head.len() + payload.len()) as u64;
        Ok(())
    }
}
