//! What a disk has done so far.

use std::sync::Mutex;
use std::time::Duration;

use crate::lock;

/// Kinds of operations that are counted apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes, zeroes included.
    Write,
    /// Flushes.
    Flush,
    /// Discards.
    Unmap,
}

impl Kind {
    /// All, in the order of [`Snapshot`].
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Unmap];
}

/// Counts of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Bytes of those that succeeded.
    pub bytes: u64,
    /// How many succeeded.
    pub operations: u64,
    /// How many the host failed.
    pub failed: u64,
    /// How many were refused before they reached the host.
    pub invalid: u64,
    /// Time that all that reached the host took, from when they were submitted, in ns.
    pub total_ns: u64,
}

/// All counts at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// Reads, writes, flushes, discards.
    counts: [Counts; 4],
    /// First byte behind the last that was ever written.
    pub highest_written: u64,
}

impl Snapshot {
    /// The counts of `kind`.
    pub fn of(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }
}

/// The counters of one disk.
#[derive(Default)]
pub struct Stats(Mutex<Snapshot>);

impl Stats {
    /// An operation that reached the host has ended.
    pub(crate) fn done(&self, kind: Kind, ok: bool, range: (u64, u64), took: Duration) {
        let mut all = lock(&self.0);
        let counts = &mut all.counts[kind as usize];
        counts.total_ns = counts.total_ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if !ok {
            counts.failed += 1;
            return;
        }
        let (offset, len) = range;
        counts.operations += 1;
        counts.bytes = counts.bytes.saturating_add(len);
        if kind == Kind::Write {
            all.highest_written = all.highest_written.max(offset.saturating_add(len));
        }
    }

    /// An operation was refused: the guest asked for something that cannot be.
    pub fn refused(&self, kind: Kind) {
        lock(&self.0).counts[kind as usize].invalid += 1;
    }

    /// The counts now.
    pub fn snapshot(&self) -> Snapshot {
        *lock(&self.0)
    }
}
