//! How fast memory goes: no faster than the user wants it, who may change that meanwhile.

use std::time::{Duration, Instant};

/// For how long what was not used may be made up for.
const CREDIT: Duration = Duration::from_millis(100);

/// The longest that a single call defers what follows.
const LONGEST: f64 = 3600.0;

/// Spreads bytes over time.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// The bound that was last kept, in bytes a second.
    most: u64,
    /// When what was sent has had its time.
    due: Instant,
}

impl Pacer {
    /// Nothing was sent yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { most: 0, due: now }
    }

    /// When more may follow, after `sent` bytes since the last call, at `most` bytes a second; 0 is no bound.
    ///
    /// Another bound counts from the call with which it comes: what went before is not held against it.
    pub(crate) fn due(&mut self, sent: u64, most: u64, now: Instant) -> Instant {
        if most != self.most {
            *self = Self { most, due: now };
        }
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.due = match most {
            0 => now,
            most => {
                let takes = (sent as f64 / most as f64).min(LONGEST);
                self.due.max(earliest) + Duration::from_secs_f64(takes)
            }
        };
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bytes_have_their_time_and_what_was_not_used_is_not_saved_up() {
        let begin = Instant::now() + CREDIT;
        let mut pacer = Pacer::new(begin);
        assert_eq!(pacer.due(50, 1000, begin), begin + 50 * MS);
        assert_eq!(pacer.due(50, 1000, begin + 20 * MS), begin + 100 * MS, "one after the other");
        assert_eq!(pacer.due(0, 1000, begin + 30 * MS), begin + 100 * MS, "who asks again has sent nothing");
        assert_eq!(pacer.due(50, 1000, begin + 130 * MS), begin + 150 * MS, "a little late is made up for");
        assert_eq!(pacer.due(50, 1000, begin + 9000 * MS), begin + 8950 * MS, "no more than that");
    }

    #[test]
    fn another_bound_counts_from_when_it_is_set() {
        let begin = Instant::now();
        let mut pacer = Pacer::new(begin);
        let now = begin + 10_000 * MS;
        assert_eq!(pacer.due(10 << 30, 0, now), now, "no bound");
        assert_eq!(pacer.due(1000, 1_000_000, now), now + MS, "what went without one is not held against it");
        assert!(pacer.due(1 << 30, 1 << 10, now) > now + 3000 * 1000 * MS);
        let later = now + 100 * MS;
        assert_eq!(pacer.due(0, 1 << 20, later), later, "a wait is over when it is raised");
    }
}
