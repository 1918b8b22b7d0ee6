//! The last records of the machine's life, for those who come late.
//!
//! Invariants: numbers follow without a gap; at most [`Journal::CAPACITY`] records are kept, and a reader is told how many
//! of those it asked for are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::record::Record;

/// The records that are kept. Never empty: it begins with the machine's first.
pub(crate) struct Journal {
    records: VecDeque<Arc<Record>>,
}

/// An answer to "what happened from there on?".
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replay {
    /// The records, by ascending number without a gap.
    pub records: Vec<Arc<Record>>,
    /// How many of those that were asked for are not kept any more; they came before `records`.
    pub dropped: u64,
    /// The number to ask from next time.
    pub next: u64,
}

impl Journal {
    /// How many records are kept: about two megabytes.
    pub(crate) const CAPACITY: usize = 4096;
    /// How many a replay has at most.
    pub(crate) const REPLAY: usize = 512;

    pub(crate) fn new(first: Arc<Record>) -> Self {
        Self { records: VecDeque::from([first]) }
    }

    pub(crate) fn push(&mut self, record: Arc<Record>) {
        if self.records.len() >= Self::CAPACITY {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter()
    }

    /// The record of that number, if there is one and it is kept.
    pub(crate) fn get(&self, sequence: u64) -> Option<&Arc<Record>> {
        let oldest = self.records.front()?.sequence;
        self.records.get(usize::try_from(sequence.checked_sub(oldest)?).ok()?)
    }

    /// The records from number `from` up to number `until`, as many as a replay may have.
    pub(crate) fn replay(&self, from: u64, until: u64) -> Replay {
        // Numbers begin with 1.
        let from = from.max(1);
        let oldest = self.records.front().map_or(from, |record| record.sequence);
        let begin = from.max(oldest);
        let end = until.saturating_add(1);
        let skip = usize::try_from(begin - oldest).unwrap_or(usize::MAX);
        let within = |record: &&Arc<Record>| record.sequence < end;
        let records: Vec<_> =
            self.records.iter().skip(skip).take_while(within).take(Self::REPLAY).cloned().collect();
        let dropped = begin.min(end).saturating_sub(from);
        let next = records.last().map_or(end.max(1), |record| record.sequence.saturating_add(1));
        Replay { records, dropped, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Cause, Notes, Situation, Stamp};
    use runstate::{Config, Lifecycle};

    fn journal(last: u64) -> Journal {
        let situation = Arc::new(Situation::from(&Lifecycle::new(Config::default())));
        let record = |sequence| {
            let (from, to) = (Arc::clone(&situation), Arc::clone(&situation));
            let (at, notes) = (Stamp::default(), Notes::default());
            Arc::new(Record { sequence, at, cause: Cause::START, event: None, from, to, notes })
        };
        let mut journal = Journal::new(record(1));
        (2..=last).for_each(|sequence| journal.push(record(sequence)));
        journal
    }

    fn numbers(replay: &Replay) -> Option<(u64, u64)> {
        Some((replay.records.first()?.sequence, replay.records.last()?.sequence))
    }

    #[test]
    fn a_replay_begins_where_it_was_asked_to_and_ends_where_its_asker_stands() {
        let journal = journal(10);
        let replay = journal.replay(4, 8);
        assert_eq!((numbers(&replay), replay.dropped, replay.next), (Some((4, 8)), 0, 9));
        let nothing = journal.replay(9, 8);
        assert_eq!((numbers(&nothing), nothing.dropped, nothing.next), (None, 0, 9));
        let from_zero = journal.replay(0, 10);
        assert_eq!((numbers(&from_zero), from_zero.dropped, from_zero.next), (Some((1, 10)), 0, 11));
        // From a time to come: there is nothing yet, and nothing is skipped when it comes.
        let early = journal.replay(u64::MAX, 10);
        assert_eq!((numbers(&early), early.dropped, early.next), (None, 0, 11));
        let all = journal.replay(1, u64::MAX);
        assert_eq!(numbers(&all), Some((1, 10)));
    }

    #[test]
    fn what_is_gone_is_counted() {
        let capacity = u64::try_from(Journal::CAPACITY).unwrap();
        let journal = journal(capacity + 100);
        assert_eq!(journal.iter().count(), Journal::CAPACITY);
        let replay = journal.replay(51, capacity + 100);
        assert_eq!(replay.dropped, 50, "51 to 100 are gone");
        assert_eq!(replay.records[0].sequence, 101);
        assert_eq!(journal.replay(101, capacity + 100).dropped, 0);
        assert!(journal.get(100).is_none() && journal.get(capacity + 101).is_none());
        assert_eq!(journal.get(101).unwrap().sequence, 101);
    }

    #[test]
    fn asking_on_from_next_gives_every_record_once() {
        let capacity = u64::try_from(Journal::CAPACITY).unwrap();
        let journal = journal(capacity);
        let (mut from, mut seen) = (1, Vec::new());
        loop {
            let replay = journal.replay(from, capacity);
            if replay.records.is_empty() {
                break;
            }
            assert!(replay.records.len() <= Journal::REPLAY);
            seen.extend(replay.records.iter().map(|record| record.sequence));
            from = replay.next;
        }
        assert!(seen.into_iter().eq(1..=capacity));
    }
}
