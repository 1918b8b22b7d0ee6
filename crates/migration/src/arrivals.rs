//! Memory that arrives, put where it belongs. Several threads may bring it, as long as none brings a page that another brings in
//! the same round.

use std::sync::atomic::{AtomicU8, Ordering};

use ram::{CHUNK_SIZE, PAGE_SIZE, PAGES_PER_CHUNK, Ram, RamError};
use stream::{Content, Piece};

/// What has come of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    /// Nothing yet: it is zero.
    Not,
    /// That it is zero.
    Zero,
    /// Content.
    Content,
}

/// Why a piece of memory cannot be put anywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(transparent)]
    Memory(#[from] RamError),
    #[error("the stream is incremental and its parent is not here")]
    Parent,
    #[error("a part of a chunk that has not come does not belong here")]
    Part,
}

/// What has come of each chunk.
pub(crate) struct Arrivals(Vec<AtomicU8>);

impl Arrivals {
    /// Of `chunks` chunks nothing.
    pub(crate) fn new(chunks: usize) -> Self {
        Self((0..chunks).map(|_| AtomicU8::new(Seen::Not as u8)).collect())
    }

    /// How many chunks there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Of how many nothing has come, those aside that may follow.
    pub(crate) fn missing(&self, follows: impl Fn(usize) -> bool) -> usize {
        (0..self.count()).filter(|chunk| self.seen(*chunk) == Seen::Not && !follows(*chunk)).count()
    }

    /// Puts pages where they belong, and notes which chunks have come.
    pub(crate) fn put(&self, ram: &Ram, piece: &Piece<'_>) -> Result<(), Misfit> {
        let (first, pages) = (piece.page as usize, piece.pages as usize);
        match piece.content {
            Content::Bytes(bytes) => {
                let chunk = first / PAGES_PER_CHUNK;
                if bytes.len() == ram.chunk_len(chunk) {
                    ram.write_chunk(chunk, bytes)?;
                } else {
                    self.begun(chunk)?;
                    ram.write(ram.base() + piece.page * PAGE_SIZE, bytes)?;
                }
                self.note(chunk, Seen::Content);
            }
            Content::Zero => {
                let mut page = first;
                while page < first + pages {
                    let chunk = page / PAGES_PER_CHUNK;
                    let in_chunk = ram.chunk_len(chunk) / PAGE_SIZE as usize;
                    let offset = page % PAGES_PER_CHUNK;
                    let count = (in_chunk - offset).min(first + pages - page);
                    if count == in_chunk {
                        if self.seen(chunk) == Seen::Content {
                            ram.zero_chunk(chunk)?;
                        }
                        self.note(chunk, Seen::Zero);
                    } else if self.begun(chunk)? == Seen::Content {
                        let zeros = &[0; CHUNK_SIZE][..count * PAGE_SIZE as usize];
                        ram.write(ram.base() + page as u64 * PAGE_SIZE, zeros)?;
                    }
                    page += count;
                }
            }
            Content::Parent => return Err(Misfit::Parent),
        }
        Ok(())
    }

    fn seen(&self, chunk: usize) -> Seen {
        match self.0.get(chunk).map(|seen| seen.load(Ordering::Relaxed)) {
            Some(2) => Seen::Content,
            Some(1) => Seen::Zero,
            _ => Seen::Not,
        }
    }

    fn note(&self, chunk: usize, now: Seen) {
        if let Some(seen) = self.0.get(chunk) {
            seen.store(now as u8, Ordering::Relaxed);
        }
    }

    /// What there is of a chunk of which some pages come anew.
    fn begun(&self, chunk: usize) -> Result<Seen, Misfit> {
        match self.seen(chunk) {
            Seen::Not => Err(Misfit::Part),
            seen => Ok(seen),
        }
    }
}
