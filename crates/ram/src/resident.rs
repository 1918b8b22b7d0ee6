//! What the host holds no memory for is zero: to be known without a look at it, which would make the host hold some.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::tracking::on;
use crate::{CHUNK_SIZE, PAGE_SIZE, PAGES_PER_CHUNK, Ram};

/// Bytes of an entry of `/proc/self/pagemap`, one a page.
const ENTRY: usize = size_of::<u64>();
/// Bits of one that say that the page is there, or swapped out (`Documentation/admin-guide/mm/pagemap.rst`).
const HELD: u64 = 0b11 << 62;

/// Looks at which chunks the host holds something for.
#[derive(Debug)]
pub struct Residency {
    pagemap: File,
}

impl Residency {
    /// None where the host does not tell, or has pages of another size.
    pub fn new() -> Option<Self> {
        let pages_are_equal = rustix::param::page_size() as u64 == PAGE_SIZE;
        let pagemap = File::open("/proc/self/pagemap").ok().filter(|_| pages_are_equal)?;
        Some(Self { pagemap })
    }
}

impl Ram {
    /// For each of `count` chunks from `first` on whether the host may hold something for it. One for which it does not is
    /// zero, unless somebody writes it meanwhile. What is absent is held: its source has it.
    pub fn held(&self, residency: &Residency, first: usize, count: usize) -> Vec<bool> {
        let tracking = &self.memory.tracking;
        let count = count.min(self.chunk_count().saturating_sub(first));
        let unknown = || vec![true; count];
        let Some(at) = self.memory.mapping.host(first * CHUNK_SIZE) else { return Vec::new() };
        if tracking.on() & on::FILL != 0 {
            return unknown();
        }
        let mut entries = vec![0; count * PAGES_PER_CHUNK * ENTRY];
        let offset = (at.addr() / PAGE_SIZE as usize * ENTRY) as u64;
        if residency.pagemap.read_exact_at(&mut entries, offset).is_err() {
            return unknown();
        }
        let is_held =
            |entry: &[u8]| entry.try_into().is_ok_and(|entry| u64::from_ne_bytes(entry) & HELD != 0);
        entries.chunks(PAGES_PER_CHUNK * ENTRY).map(|chunk| chunk.chunks(ENTRY).any(is_held)).collect()
    }

    /// All of memory is zero and back with the host. Every hart is outside, no device is at work, no save is on.
    pub fn clear(&self) {
        let memory = &self.memory;
        memory.discard(0, self.chunk_count());
        if memory.tracking.on() & on::FILL != 0 {
            (0..self.chunk_count()).for_each(|chunk| memory.made_present(chunk));
            memory.end_fill();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_is_known_without_a_look() {
        let ram = Ram::new(0x8000_0000, 16 * CHUNK_SIZE as u64).unwrap();
        let Some(residency) = Residency::new() else { return };
        assert!(ram.held(&residency, 0, 99).iter().all(|held| !held), "nothing yet");
        ram.write(ram.base() + 3 * CHUNK_SIZE as u64 + 77, b"x").unwrap();
        let held = ram.held(&residency, 2, 4);
        // With huge pages of the host more may be held, never less.
        assert!(held.len() == 4 && held[1], "{held:?}");
        ram.clear();
        assert!(ram.is_zero_chunk(3).unwrap());
        assert!(ram.held(&residency, 4, 4).iter().all(|held| !held));
        assert!(ram.held(&residency, 16, 1).is_empty());
    }
}
