//! Pieces of memory: runs of zero pages, and pages of one chunk with content.

use crate::error::Damage;
use crate::{CHUNK_PAGES, CHUNK_SIZE, PAGE_SIZE};

/// How a piece of memory, or a chunk of a mapped file, is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing but zeros; nothing is kept.
    Zero,
    /// As it is.
    Raw,
    /// Packed by zstd.
    Zstd,
    /// As in the parent; nothing is kept.
    Parent,
}

impl Form {
    pub(crate) fn number(self) -> u8 {
        match self {
            Form::Zero => 0,
            Form::Raw => 1,
            Form::Zstd => 2,
            Form::Parent => 3,
        }
    }

    pub(crate) fn of(number: u8) -> Option<Self> {
        [Form::Zero, Form::Raw, Form::Zstd, Form::Parent].into_iter().find(|form| form.number() == number)
    }
}

/// A piece of memory as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its first page.
    pub page: u64,
    /// How many.
    pub pages: u64,
    /// What is in them.
    pub content: Content<'a>,
}

/// What is in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Zeros.
    Zero,
    /// These bytes, at most a chunk.
    Bytes(&'a [u8]),
    /// What the parent has there.
    Parent,
}

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    // A short beginning by hand; the rest equals itself a little further on. The comparison is the C library's, which
    // uses the widest vectors that there are.
    const BEGIN: usize = 64;
    let (begin, _) = bytes.split_at(bytes.len().min(BEGIN));
    begin.iter().all(|&byte| byte == 0)
        && (bytes.len() <= BEGIN || bytes[BEGIN..] == bytes[..bytes.len() - BEGIN])
}

/// The checksum of content.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Whether `pages` pages from `page` are inside `memory` bytes, and at least one.
pub(crate) fn is_inside(page: u64, pages: u64, memory: u64) -> bool {
    pages > 0 && page.checked_add(pages).is_some_and(|end| end <= memory / PAGE_SIZE)
}

/// Whether `pages` pages from `page` are pages of one chunk.
pub(crate) fn is_in_chunk(page: u64, pages: u64) -> bool {
    pages <= CHUNK_PAGES && page % CHUNK_PAGES + pages <= CHUNK_PAGES
}

/// Payload of a Memory frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) page: u64,
    pub(crate) pages: u64,
    pub(crate) hash: u64,
    pub(crate) stored: u32,
    pub(crate) form: Form,
}

impl Record {
    /// Of pages with nothing stored.
    pub(crate) fn bare(page: u64, pages: u64, form: Form) -> Self {
        Self { page, pages, hash: 0, stored: 0, form }
    }

    pub(crate) fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.page.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.pages.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.hash.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.stored.to_le_bytes());
        bytes[28] = self.form.number();
        bytes
    }

    /// Decodes and judges a record of a machine with `memory` bytes.
    pub(crate) fn decode(payload: &[u8], memory: u64) -> Result<Self, Damage> {
        let bytes: &[u8; 32] = payload.try_into().map_err(|_| Damage::Encoding("a record of memory"))?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let form = Form::of(bytes[28]).ok_or(Damage::Value("the form of memory"))?;
        let stored = word(24) as u32;
        let record = Self { page: word(0), pages: word(8), hash: word(16), stored, form };
        let Self { page, pages, .. } = record;
        let whole = matches!(form, Form::Zero | Form::Parent);
        if !is_inside(page, pages, memory) || !(whole || is_in_chunk(page, pages)) {
            return Err(Damage::Range { page, pages, memory });
        }
        let stored_fits = match form {
            Form::Zero | Form::Parent => stored == 0 && record.hash == 0,
            Form::Raw => stored as usize == record.bytes(),
            Form::Zstd => stored > 0 && (stored as usize) < record.bytes(),
        };
        if !stored_fits || bytes[29..] != [0; 3] {
            return Err(Damage::Value("the length of stored memory"));
        }
        Ok(record)
    }

    /// Bytes of content, of pages of one chunk.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.min(CHUNK_PAGES) as usize * PAGE_SIZE as usize
    }
}

/// What has gone by, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sections.
    pub sections: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Pages as they are.
    pub raw: u64,
    /// Pages that were packed.
    pub packed: u64,
    /// Bytes that those take.
    pub packed_bytes: u64,
    /// Pages that are as in the parent.
    pub parent: u64,
    /// Bytes of everything.
    pub bytes: u64,
}

impl Totals {
    pub(crate) fn count(&mut self, record: &Record) {
        let pages = match record.form {
            Form::Zero => &mut self.zero,
            Form::Raw => &mut self.raw,
            Form::Zstd => &mut self.packed,
            Form::Parent => &mut self.parent,
        };
        // A hostile stream may repeat itself for long.
        *pages = pages.saturating_add(record.pages);
        if record.form == Form::Zstd {
            self.packed_bytes = self.packed_bytes.saturating_add(u64::from(record.stored));
        }
    }
}

const _: () = assert!(CHUNK_SIZE as u64 == CHUNK_PAGES * PAGE_SIZE);
