//! Reads a mapped form that comes through a pipe: memory first, and only then what it should have been.

use std::io::Read;

use super::index::Index;
use super::{FRONT, Front};
use crate::CHUNK_SIZE;
use crate::error::{Damage, ReadError};
use crate::frame::fill;
use crate::header::PREAMBLE;
use crate::memory::{hash, is_zero};
use crate::reader::Limits;
use crate::survey::Survey;

/// Surveys the form that `input` continues behind `preamble`.
pub(crate) fn scan(
    mut input: impl Read,
    preamble: &[u8; PREAMBLE],
    limits: &Limits,
) -> Result<Survey, ReadError> {
    let mut page = [0; FRONT as usize];
    page[..PREAMBLE].copy_from_slice(preamble);
    let mut offset = PREAMBLE as u64;
    fill(&mut input, &mut page[PREAMBLE..], &mut offset, "the first page")?;
    let front = Front::decode(&page)?;
    let memory = front.index - FRONT;
    if memory > limits.memory {
        return Err(ReadError::TooLarge { what: "memory", announced: memory, most: limits.memory });
    }
    // One entry a chunk, when it has arrived: whether it is zero, and its hash.
    let mut found = Vec::new();
    let mut buffer = vec![0; CHUNK_SIZE];
    while offset < front.index {
        let chunk = &mut buffer[..(front.index - offset).min(CHUNK_SIZE as u64) as usize];
        fill(&mut input, chunk, &mut offset, "memory")?;
        found.push(if is_zero(chunk) { None } else { Some(hash(chunk)) });
    }
    let index = Index::read(input, preamble, front, limits)?;
    for (chunk, found) in found.into_iter().enumerate() {
        index.judge(chunk, found).map_err(|damage: Damage| {
            let offset = FRONT + (chunk * CHUNK_SIZE) as u64;
            ReadError::Damaged { offset, damage }
        })?;
    }
    Ok(index.into_survey())
}
