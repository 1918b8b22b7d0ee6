//! The mapped layout: memory at fixed offsets of a regular file.

mod file;
mod index;
mod scan;
mod writer;

pub use file::{ChunkError, MappedFile, ParentError};
pub(crate) use scan::scan;
pub use writer::MappedWriter;

use crate::error::{Damage, ReadError};
use crate::header::PREAMBLE;
use crate::{CHUNK_SIZE, PAGE_SIZE};

/// Bytes of the first page, and so where memory begins.
const FRONT: u64 = PAGE_SIZE;

/// Bytes of the first page that say something.
const FRONT_USED: usize = PREAMBLE + 20;

/// How many chunks `memory` bytes have; the last may be short.
fn chunks(memory: u64) -> u64 {
    memory.div_ceil(CHUNK_SIZE as u64)
}

/// Where chunk `chunk` of `memory` bytes lies in the file, and its length. None past the end.
fn place(chunk: u64, memory: u64) -> Option<(u64, usize)> {
    let begin = chunk.checked_mul(CHUNK_SIZE as u64).filter(|&begin| begin < memory)?;
    Some((FRONT + begin, (memory - begin).min(CHUNK_SIZE as u64) as usize))
}

/// What the first page of a finished file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Front {
    /// Where the index begins.
    index: u64,
    /// Bytes of the whole file.
    length: u64,
}

impl Front {
    /// The used part of the first page of a file with this preamble.
    fn encode(self, preamble: &[u8; PREAMBLE]) -> [u8; FRONT_USED] {
        let mut bytes = [0; FRONT_USED];
        bytes[..16].copy_from_slice(preamble);
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.length.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first page, whose preamble has been judged.
    fn decode(page: &[u8; FRONT as usize]) -> Result<Self, ReadError> {
        let damaged = |damage| Err(ReadError::Damaged { offset: PREAMBLE as u64, damage });
        if crate::is_zero(&page[PREAMBLE..]) {
            return Err(ReadError::NotFinished);
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| page[at + i]));
        let (found, computed) = (word(32) as u32, crc32fast::hash(&page[..32]));
        if found != computed {
            return damaged(Damage::Frame { found, computed });
        }
        let front = Self { index: word(16), length: word(24) };
        if !crate::is_zero(&page[FRONT_USED..]) || front.index < FRONT || front.length < front.index {
            return damaged(Damage::Value("the first page"));
        }
        Ok(front)
    }
}
