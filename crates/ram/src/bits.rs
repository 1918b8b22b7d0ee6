//! One bit for each page or chunk of RAM.

use vm_memory::mmap::MmapRegionError;

use crate::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = u64::BITS as usize;

/// A set of numbers below its length, changed by several threads at once. A number that is not below is in no set.
#[derive(Debug)]
pub(crate) struct Bits {
    len: usize,
    words: Words,
}

impl Bits {
    /// The empty set.
    pub(crate) fn new(len: usize) -> Result<Self, MmapRegionError> {
        Ok(Self { len, words: Words::new(len.div_ceil(WORD))? })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn word(&self, at: usize) -> Option<(&AtomicU64, u64)> {
        let word = (at < self.len).then(|| self.words.get(at / WORD)).flatten()?;
        Some((word, 1 << (at % WORD)))
    }

    /// Whether `at` is in the set. Whoever took it out did what it did before.
    pub(crate) fn has(&self, at: usize) -> bool {
        self.word(at).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Puts `at` into the set; returns whether it is new in it.
    pub(crate) fn add(&self, at: usize) -> bool {
        self.word(at).is_some_and(|(word, bit)| word.fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    /// Takes `at` out of the set; returns whether it was in it.
    pub(crate) fn remove(&self, at: usize) -> bool {
        self.word(at).is_some_and(|(word, bit)| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    /// Puts in what `words`, 64 numbers each, say; returns how many of them are new.
    pub(crate) fn add_words(&self, words: impl Iterator<Item = u64>) -> usize {
        let mut new = 0;
        for (at, bits) in words.take(self.len.div_ceil(WORD)).enumerate() {
            let bits = bits & self.mask(at);
            if let (true, Some(word)) = (bits != 0, self.words.get(at)) {
                new += (bits & !word.fetch_or(bits, Ordering::AcqRel)).count_ones() as usize;
            }
        }
        new
    }

    /// What is in the set, 64 numbers a word.
    pub(crate) fn words(&self) -> Vec<u64> {
        let word = |at| self.words.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        (0..self.len.div_ceil(WORD)).map(word).collect()
    }

    /// Empties the set and returns what was in it, 64 numbers a word.
    pub(crate) fn take(&self) -> Vec<u64> {
        let take = |at| match self.words.get(at) {
            Some(word) if word.load(Ordering::Acquire) != 0 => word.swap(0, Ordering::AcqRel),
            _ => 0,
        };
        (0..self.len.div_ceil(WORD)).map(take).collect()
    }

    /// The first number from `from` on that is in the set.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let mut at = from;
        while at < self.len {
            let (word, _) = self.word(at)?;
            let rest = word.load(Ordering::Acquire) >> (at % WORD);
            if rest != 0 {
                return Some(at + rest.trailing_zeros() as usize);
            }
            at = (at / WORD + 1) * WORD;
        }
        None
    }

    /// The numbers of word `at` that are below the length.
    fn mask(&self, at: usize) -> u64 {
        match self.len.saturating_sub(at.saturating_mul(WORD)) {
            left if left >= WORD => u64::MAX,
            left => (1 << left) - 1,
        }
    }
}

/// Mapped like RAM itself, so that a set costs the host nothing where nothing was ever in it.
#[cfg(not(loom))]
#[derive(Debug)]
struct Words {
    count: usize,
    mapped: vm_memory::MmapRegion<()>,
}

#[cfg(not(loom))]
impl Words {
    fn new(count: usize) -> Result<Self, MmapRegionError> {
        Ok(Self { count, mapped: vm_memory::MmapRegion::new(count.saturating_mul(size_of::<AtomicU64>()))? })
    }

    fn get(&self, at: usize) -> Option<&AtomicU64> {
        let at = (at < self.count).then_some(at * size_of::<AtomicU64>())?;
        vm_memory::VolatileMemory::get_atomic_ref(&self.mapped, at).ok()
    }
}

#[cfg(loom)]
#[derive(Debug)]
struct Words(Box<[AtomicU64]>);

#[cfg(loom)]
impl Words {
    fn new(count: usize) -> Result<Self, MmapRegionError> {
        Ok(Self((0..count).map(|_| AtomicU64::new(0)).collect()))
    }

    fn get(&self, at: usize) -> Option<&AtomicU64> {
        self.0.get(at)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_beyond_its_length() {
        let bits = Bits::new(130).unwrap();
        assert!(bits.add(0) && bits.add(64) && bits.add(129) && !bits.add(64));
        assert!(!bits.add(130) && !bits.has(130) && !bits.remove(1 << 60));
        assert_eq!(
            (bits.next(0), bits.next(1), bits.next(65), bits.next(130)),
            (Some(0), Some(64), Some(129), None)
        );
        assert!(bits.remove(64) && !bits.remove(64) && !bits.has(64));
        assert_eq!(bits.take(), [1, 0, 2]);
        assert_eq!(bits.next(0), None);
    }

    #[test]
    fn words_beyond_the_length_are_not_put_in() {
        let bits = Bits::new(70).unwrap();
        bits.add(69);
        assert_eq!(bits.add_words(std::iter::repeat(u64::MAX)), 69);
        assert_eq!(bits.take(), [u64::MAX, 0x3f]);
    }
}
