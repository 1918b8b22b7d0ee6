//! Figures of the machine for those who watch many: counted where the events happen, read on demand.
//!
//! Nothing is done for them while harts execute: what a hart has retired is noted whenever it leaves the guest, and one that
//! executes is asked to leave for a moment when somebody wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use runstate::ManagementRequest;
use vmcore::Exit;
use vmcore::park::flag;

use crate::hart::Hart;

/// How long a hart that executes is waited for. It needs microseconds; one that hangs is told as it was last seen.
const PATIENCE: Duration = Duration::from_millis(20);

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Durations {
    /// How many were at most as long as the bound of that place, and longer than the one before.
    buckets: [u64; Durations::BOUNDS_NS.len()],
    /// How many there were.
    pub count: u64,
    /// All together, in ns.
    pub sum_ns: u64,
    /// The longest, in ns.
    pub max_ns: u64,
}

impl Durations {
    /// The upper bounds, in ns.
    pub const BOUNDS_NS: [u64; 9] =
        [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 100_000_000, 1_000_000_000];

    fn add(&mut self, ns: u64) {
        let place = Self::BOUNDS_NS.iter().position(|bound| ns <= *bound);
        if let Some(bucket) = place.and_then(|place| self.buckets.get_mut(place)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Each bound, in ns, with how many were at most as long.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let sums = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Self::BOUNDS_NS.into_iter().zip(sums)
    }
}

/// How long `stop` and `cont` took, from being asked to being answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latencies {
    /// `stop`.
    pub stop: Durations,
    /// `cont`.
    pub cont: Durations,
}

/// Those latencies, as they are written down.
#[derive(Default)]
pub(crate) struct Clocked(Mutex<Latencies>);

impl Clocked {
    /// `request` has been carried out, and took `ns`.
    pub(crate) fn note(&self, request: ManagementRequest, ns: u64) {
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            ManagementRequest::Stop => latencies.stop.add(ns),
            ManagementRequest::Cont => latencies.cont.add(ns),
            _ => {}
        }
    }

    pub(crate) fn get(&self) -> Latencies {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why harts left the guest, and how often.
#[derive(Default)]
pub(crate) struct Exits([AtomicU64; Exits::KINDS.len()]);

impl Exits {
    const KINDS: [&'static str; 7] =
        ["signal", "wait", "stopped", "request", "limit", "debug", "memory-lost"];

    /// Only the hart's own thread counts.
    pub(crate) fn count(&self, exit: &Exit) {
        let kind = match exit {
            Exit::Signal => 0,
            Exit::Wait => 1,
            Exit::Stopped => 2,
            Exit::Request { .. } => 3,
            Exit::Limit => 4,
            Exit::Debug(_) => 5,
            Exit::MemoryLost => 6,
        };
        if let Some(counter) = self.0.get(kind) {
            // Release: who sees the count sees what was noted before it.
            counter.fetch_add(1, Ordering::Release);
        }
    }

    fn read(&self) -> [u64; Exits::KINDS.len()] {
        let mut counts = [0; Exits::KINDS.len()];
        for (count, counter) in counts.iter_mut().zip(&self.0) {
            *count = counter.load(Ordering::Acquire);
        }
        counts
    }
}

/// One hart's figures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HartFigures {
    /// Hart id.
    pub id: u32,
    /// Instructions retired since the program started.
    pub retired: u64,
    exits: [u64; Exits::KINDS.len()],
}

impl HartFigures {
    /// Why the hart left the guest, and how often.
    pub fn exits(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Exits::KINDS.into_iter().zip(self.exits)
    }
}

/// The figures of all harts at this moment: each that executes is asked to leave the guest and go on.
pub(crate) fn figures(harts: &[std::sync::Arc<Hart>]) -> Vec<HartFigures> {
    let seen: Vec<_> = harts.iter().map(|hart| (hart.exits.read(), hart.shared.gate())).collect();
    for (_, gate) in seen.iter().filter(|(_, gate)| !gate.is_outside()) {
        gate.raise(flag::CONTROL);
    }
    let until = Instant::now() + PATIENCE;
    let pairs = harts.iter().zip(&seen);
    for (hart, (before, gate)) in pairs {
        while !gate.is_outside() && hart.exits.read() == *before && Instant::now() < until {
            thread::yield_now();
        }
    }
    let of = |hart: &std::sync::Arc<Hart>| {
        let exits = hart.exits.read();
        HartFigures { id: hart.shared.id(), retired: hart.retired.load(Ordering::Relaxed), exits }
    };
    harts.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_of_the_first_bound_that_holds_them() {
        let mut durations = Durations::default();
        for ns in [0, 10_000, 10_001, 250_000, 5_000_000_000] {
            durations.add(ns);
        }
        let cumulative: Vec<_> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [2, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!((durations.count, durations.max_ns), (5, 5_000_000_000));
        assert_eq!(durations.sum_ns, 5_000_270_001);
    }
}
