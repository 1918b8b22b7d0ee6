//! The timers of a queue, each class in the order of its deadlines. A plain value: no lock, no clock, no
//! callback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::{NEVER, TimerId, TimerTarget};
use crate::class::TimerClass;

pub(super) enum Target {
    Strong(Arc<dyn TimerTarget>),
    Weak(Weak<dyn TimerTarget>),
}

impl Target {
    pub(super) fn get(&self) -> Option<Arc<dyn TimerTarget>> {
        match self {
            Self::Strong(target) => Some(target.clone()),
            Self::Weak(target) => target.upgrade(),
        }
    }
}

pub(super) struct Entry {
    class: TimerClass,
    target: Target,
    /// Deadline in ns and the arming's number.
    armed: Option<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<TimerId, Entry>,
    /// By class: deadline, number of the arming, timer.
    armed: [BTreeSet<(u64, u64, TimerId)>; 4],
    next_id: u64,
    /// Counts armings: the tie-break between equal deadlines.
    armings: u64,
}

impl Table {
    /// Adds a disarmed timer.
    pub(super) fn insert(&mut self, class: TimerClass, target: Target) -> TimerId {
        let id = TimerId(self.next_id);
        self.next_id = id.0.wrapping_add(1);
        self.entries.insert(id, Entry { class, target, armed: None });
        id
    }

    /// Takes a timer out; the caller drops what it gets without the queue's lock.
    pub(super) fn remove(&mut self, id: TimerId) -> Option<Entry> {
        self.disarm(id);
        self.entries.remove(&id)
    }

    /// The number that the next arming gets.
    pub(super) fn armings(&self) -> u64 {
        self.armings
    }

    pub(super) fn deadline(&self, id: TimerId) -> Option<u64> {
        self.entries.get(&id)?.armed.map(|(deadline, _)| deadline)
    }

    /// Disarms a timer and gives its target, if it still exists.
    pub(super) fn take(&mut self, id: TimerId) -> Option<Arc<dyn TimerTarget>> {
        self.disarm(id);
        self.entries.get(&id)?.target.get()
    }

    /// How many timers of `class` are due at `now`.
    pub(super) fn count_due(&self, class: TimerClass, now: u64) -> usize {
        self.armed[class as usize].range(..(now.saturating_add(1), 0, TimerId(0))).count()
    }

    pub(super) fn disarm(&mut self, id: TimerId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let Some((deadline, arming)) = entry.armed.take() else { return false };
        self.armed[entry.class as usize].remove(&(deadline, arming, id));
        true
    }

    pub(super) fn arm(&mut self, id: TimerId, deadline: u64) {
        self.disarm(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let arming = self.armings;
        self.armings = arming.wrapping_add(1);
        entry.armed = Some((deadline, arming));
        self.armed[entry.class as usize].insert((deadline, arming, id));
    }

    pub(super) fn first(&self, class: TimerClass) -> u64 {
        self.armed[class as usize].first().map_or(NEVER, |&(deadline, ..)| deadline)
    }

    /// The most overdue timer of `class` at `now` among the armings before `limit`, as (lateness, arming,
    /// timer).
    pub(super) fn due(&self, class: TimerClass, now: u64, limit: u64) -> Option<(u64, u64, TimerId)> {
        self.armed[class as usize]
            .iter()
            .take_while(|&&(deadline, ..)| deadline <= now && deadline != NEVER)
            .find(|&&(_, arming, _)| arming < limit)
            .map(|&(deadline, arming, id)| (now - deadline, arming, id))
    }
}
