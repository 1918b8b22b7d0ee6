//! Which pages of RAM hold code that some hart has decoded, and how often each was written since.
//!
//! One word a page: bit 0 says that a decoded form exists, the other bits count the writes that ended one. A store to
//! a page without decoded code costs nothing but the look when its write entry is made.

use std::sync::atomic::{AtomicU32, Ordering};

use vm_memory::mmap::MmapRegionError;
use vm_memory::{MmapRegion, VolatileMemory};

const CODE: u32 = 1;
const STEP: u32 = 2;

/// The generation of a page's content that a decoded form was made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Generation(u32);

/// One word for each page of RAM. Pages beyond the end are never code.
///
/// The table is mapped like RAM itself, so that it costs the host nothing for pages that nobody executes.
#[derive(Debug)]
pub struct CodeMap {
    pages: usize,
    words: MmapRegion<()>,
}

impl CodeMap {
    pub(crate) fn new(pages: usize) -> Result<Self, MmapRegionError> {
        Ok(Self { pages, words: MmapRegion::new(pages.saturating_mul(size_of::<AtomicU32>()))? })
    }

    fn word(&self, page: usize) -> Option<&AtomicU32> {
        let at = (page < self.pages).then_some(page * size_of::<AtomicU32>())?;
        self.words.get_atomic_ref(at).ok()
    }

    /// Marks page `page` as decoded and returns the generation that the bytes read **after** this call belong to, and
    /// whether the mark is new. If it is, other harts may hold write entries for the page and must be asked to drop
    /// them; each that drops one for a page that is code calls [`CodeMap::written`].
    pub fn decoded(&self, page: usize) -> (Generation, bool) {
        let Some(word) = self.word(page) else { return (Generation(0), false) };
        let old = word.fetch_or(CODE, Ordering::SeqCst);
        (Generation(old >> 1), old & CODE == 0)
    }

    /// Whether a decoded form of generation `generation` is still what page `page` holds.
    pub fn is_current(&self, page: usize, generation: Generation) -> bool {
        self.word(page).is_some_and(|word| word.load(Ordering::SeqCst) == generation.0 << 1 | CODE)
    }

    /// Whether page `page` is marked as decoded.
    pub fn is_code(&self, page: usize) -> bool {
        self.word(page).is_some_and(|word| word.load(Ordering::SeqCst) & CODE != 0)
    }

    /// Says that page `page` is about to be, or may have been, written. Ends the generation if the page is code.
    pub fn written(&self, page: usize) {
        let Some(word) = self.word(page) else { return };
        let mut old = word.load(Ordering::SeqCst);
        while old & CODE != 0 {
            match word.compare_exchange_weak(
                old,
                (old & !CODE).wrapping_add(STEP),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_only_the_generation_that_it_met() {
        let map = CodeMap::new(2).unwrap();
        map.written(0);
        let (first, new) = map.decoded(0);
        assert!(new && map.is_current(0, first) && map.is_code(0));
        assert_eq!(map.decoded(0), (first, false), "decoding again is the same generation");
        map.written(0);
        assert!(!map.is_current(0, first) && !map.is_code(0));
        let (second, new) = map.decoded(0);
        assert!(new && second != first && map.is_current(0, second) && !map.is_current(0, first));
    }

    #[test]
    fn pages_beyond_the_end_are_never_code() {
        let map = CodeMap::new(1).unwrap();
        let (generation, new) = map.decoded(7);
        assert!(!new && !map.is_current(7, generation) && !map.is_code(7));
        map.written(7);
    }
}
