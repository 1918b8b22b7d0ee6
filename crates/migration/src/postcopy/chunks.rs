//! Sets of chunks, and how they go over the wire: bit `n` of a set is chunk `n`, eight to a byte.

use stream::Control;

/// Chunks in a word.
const WORD: usize = u64::BITS as usize;

/// Some of the chunks of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunks {
    words: Vec<u64>,
    count: usize,
}

/// A set that cannot be one of this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadSet {
    /// It does not go on where the part before it has ended.
    #[error("a set of chunks goes on at {found}, not at {expected}")]
    Gap {
        /// Where it should.
        expected: usize,
        /// Where it does.
        found: u64,
    },
    /// It has nothing in it.
    #[error("a set of chunks is empty")]
    Empty,
    /// It has more than there are.
    #[error("a set of chunks is larger than the {0} that there are")]
    Beyond(usize),
}

impl Chunks {
    /// None of `count`.
    pub(crate) fn none(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(WORD)], count }
    }

    /// Those that `words` say, of `count`.
    pub(crate) fn from_words(mut words: Vec<u64>, count: usize) -> Self {
        words.resize(count.div_ceil(WORD), 0);
        if let (Some(last), rest @ 1..) = (words.last_mut(), count % WORD) {
            *last &= (1 << rest) - 1;
        }
        Self { words, count }
    }

    /// 64 a word.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn has(&self, chunk: usize) -> bool {
        self.words.get(chunk / WORD).is_some_and(|word| word >> (chunk % WORD) & 1 != 0)
    }

    /// Puts it in, if there is such a chunk. Whether it is new.
    pub(crate) fn add(&mut self, chunk: usize) -> bool {
        if chunk >= self.count || self.has(chunk) {
            return false;
        }
        self.words[chunk / WORD] |= 1 << (chunk % WORD);
        true
    }

    /// Takes it out. Whether it was there.
    pub(crate) fn remove(&mut self, chunk: usize) -> bool {
        let had = self.has(chunk);
        if had {
            self.words[chunk / WORD] &= !(1 << (chunk % WORD));
        }
        had
    }

    /// Takes all of them out.
    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Those that are in both.
    pub(crate) fn also_in(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine &= theirs);
        self
    }

    /// All others.
    pub(crate) fn others(&self) -> Self {
        Self::from_words(self.words.iter().map(|word| !word).collect(), self.count)
    }

    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The first from `from` on.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let first = self.words.get(from / WORD)? >> (from % WORD);
        if first != 0 {
            return Some(from + first.trailing_zeros() as usize);
        }
        let behind = from / WORD + 1;
        let rest = self.words.get(behind..)?;
        let (at, word) = rest.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some((behind + at) * WORD + word.trailing_zeros() as usize)
    }

    /// The words of the handshake that say all of it, each made by `say` of where it begins and its bits.
    pub(crate) fn said(&self, say: impl Fn(u64, Vec<u8>) -> Control) -> impl Iterator<Item = Control> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let parts: Vec<_> =
            bytes[..self.count.div_ceil(8)].chunks(Control::MAX_BITS).map(<[u8]>::to_vec).collect();
        let mut first = 0;
        parts.into_iter().map(move |bits| {
            let begin = first;
            first += 8 * bits.len() as u64;
            say(begin, bits)
        })
    }
}

/// A set that arrives in parts, from front to back.
#[derive(Clone, Debug)]
pub(crate) struct Assembly {
    chunks: Chunks,
    /// How many have been told of.
    told: usize,
}

impl Assembly {
    /// Of a machine with `count` chunks.
    pub(crate) fn new(count: usize) -> Self {
        Self { chunks: Chunks::none(count), told: 0 }
    }

    /// The next part.
    pub(crate) fn add(&mut self, first: u64, bits: &[u8]) -> Result<(), BadSet> {
        let count = self.chunks.count;
        if first != self.told as u64 {
            return Err(BadSet::Gap { expected: self.told, found: first });
        }
        if bits.is_empty() {
            return Err(BadSet::Empty);
        }
        if bits.len() > (count.saturating_sub(self.told)).div_ceil(8) {
            return Err(BadSet::Beyond(count));
        }
        for (at, byte) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 != 0) {
                let chunk = self.told + 8 * at + bit;
                if chunk >= count {
                    return Err(BadSet::Beyond(count));
                }
                self.chunks.add(chunk);
            }
        }
        self.told = (self.told + 8 * bits.len()).min(count);
        Ok(())
    }

    /// The set, once all of it is here.
    pub(crate) fn whole(&self) -> Option<&Chunks> {
        (self.told == self.chunks.count).then_some(&self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: usize, chunks: &[usize]) -> Chunks {
        let mut set = Chunks::none(count);
        for &chunk in chunks {
            set.add(chunk);
        }
        set
    }

    #[test]
    fn a_set_is_walked_and_turned_round() {
        let mut some = set(130, &[0, 63, 64, 129, 130]);
        assert_eq!((some.len(), some.has(129), some.has(130)), (4, true, false));
        let walk: Vec<_> = std::iter::successors(some.next(0), |chunk| some.next(chunk + 1)).collect();
        assert_eq!(walk, [0, 63, 64, 129]);
        assert_eq!((some.others().len(), some.others().next(63)), (126, Some(65)));
        assert!(some.others().also_in(&some).is_empty());
        assert!(some.remove(63) && !some.remove(63) && !some.remove(1 << 40));
        assert_eq!((some.next(65), some.next(130), some.next(1 << 40)), (Some(129), None, None));
    }

    #[test]
    fn a_set_arrives_as_it_was_sent_however_large() {
        for count in [1, 8, 13, 64, 8 * Control::MAX_BITS, 8 * Control::MAX_BITS + 1] {
            let sent = set(count, &[0, 7, 12, count - 1]);
            let mut assembly = Assembly::new(count);
            for control in sent.said(|first, bits| Control::Absent { first, bits }) {
                assert!(assembly.whole().is_none());
                let Control::Absent { first, bits } = control else { unreachable!() };
                assembly.add(first, &bits).unwrap();
            }
            assert_eq!(assembly.whole(), Some(&sent), "{count}");
        }
    }

    #[test]
    fn sets_of_another_machine_are_refused() {
        let mut assembly = Assembly::new(12);
        assert_eq!(assembly.add(8, &[1]), Err(BadSet::Gap { expected: 0, found: 8 }));
        assert_eq!(assembly.add(0, &[]), Err(BadSet::Empty));
        assert_eq!(assembly.add(0, &[0, 0, 0]), Err(BadSet::Beyond(12)));
        assert_eq!(assembly.add(0, &[0, 0b10000]), Err(BadSet::Beyond(12)));
        assembly.add(0, &[1]).unwrap();
        assert!(assembly.whole().is_none());
        assembly.add(8, &[0b1000]).unwrap();
        assert_eq!(assembly.whole(), Some(&set(12, &[0, 11])));
        assert_eq!(assembly.add(12, &[0]), Err(BadSet::Beyond(12)));
    }
}
