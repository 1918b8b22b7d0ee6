//! Sets of pages as they are handed out.

use crate::PAGES_PER_CHUNK;

const WORD: usize = u64::BITS as usize;

/// Some of the pages of a RAM, by their numbers from its start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// The pages that `words` say, 64 each.
    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many pages are in it.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Whether page `page` is in it.
    pub fn contains(&self, page: usize) -> bool {
        self.words.get(page / WORD).is_some_and(|word| word >> (page % WORD) & 1 != 0)
    }

    /// The pages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(at * WORD + bit as usize)
            })
        })
    }

    /// The chunks that any of the pages is in, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = usize> + '_ {
        numbers(self.chunk_words())
    }

    /// The same as bits, 64 chunks a word.
    pub(crate) fn chunk_words(&self) -> impl Iterator<Item = u64> + '_ {
        let any =
            |word: u64, at: usize| word >> (at * PAGES_PER_CHUNK) as u32 & ((1 << PAGES_PER_CHUNK) - 1) != 0;
        self.words.chunks(PAGES_PER_CHUNK).map(move |words| {
            words.iter().enumerate().fold(0, |all, (at, &word)| {
                let per_word = WORD / PAGES_PER_CHUNK;
                (0..per_word)
                    .fold(all, |all, part| all | u64::from(any(word, part)) << (at * per_word + part))
            })
        })
    }

    /// Puts in what is in `other`, a set of the same RAM.
    pub fn merge(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(mine, more)| *mine |= more);
    }
}

/// How much of RAM something is about.
#[derive(Clone, Copy, Debug)]
pub enum Portion<'a> {
    /// All of it.
    All,
    /// The chunks that these pages are in.
    ChunksOf(&'a PageSet),
    /// These chunks: bit `n % 64` of word `n / 64` is chunk `n`.
    Chunks(&'a [u64]),
}

impl Portion<'_> {
    /// As bits, 64 chunks a word; more than there are.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let (all, of_pages, given) = match self {
            Self::All => (Some(u64::MAX), None, &[][..]),
            Self::ChunksOf(pages) => (None, Some(pages.chunk_words()), &[][..]),
            Self::Chunks(words) => (None, None, *words),
        };
        all.into_iter().cycle().chain(of_pages.into_iter().flatten()).chain(given.iter().copied())
    }

    /// Their numbers, ascending; more than there are.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = usize> + '_ {
        numbers(self.words())
    }
}

/// The numbers of the bits that are set in `words`.
fn numbers(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().flat_map(|(at, word)| {
        (0..WORD).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at * WORD + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_their_chunks_are_told_in_order() {
        let mut words = vec![0; 40];
        for page in [0, 15, 16, 63, 64, 1023, 1024, 2559] {
            words[page / 64] |= 1 << (page % 64);
        }
        let set = PageSet::from_words(words);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 15, 16, 63, 64, 1023, 1024, 2559]);
        assert_eq!(set.chunks().collect::<Vec<_>>(), [0, 1, 3, 4, 63, 64, 159]);
        assert_eq!((set.len(), set.is_empty()), (8, false));
        assert!(set.contains(1023) && !set.contains(1022) && !set.contains(1 << 40));
    }

    #[test]
    fn merging_loses_nothing() {
        let mut left = PageSet::from_words(vec![1]);
        left.merge(&PageSet::from_words(vec![2, 4]));
        assert_eq!(left.iter().collect::<Vec<_>>(), [0, 1, 66]);
    }
}
