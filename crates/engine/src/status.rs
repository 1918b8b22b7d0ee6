//! What is known of the machine after a record: the fold of all records up to it.
//!
//! [`Status::fold`] is the only way from one status to the next. The engine publishes what it gives, and whoever has a
//! status and the records after it can do the same: both have then the same answer at all times.

use std::ops::Deref;
use std::sync::Arc;

use runstate::{Event, Hold, MigrationStatus, Power, RunState, WakeFate, WakeSource};

use crate::record::{Cause, Record, Situation, Stamp};

/// A hold, with what led to it and since when it lasts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Whose, and under which name.
    pub hold: Hold,
    /// Since when.
    pub since: Stamp,
    /// What led to it.
    pub cause: Cause,
}

/// Something that happened last at a moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Last<T> {
    /// What.
    pub what: T,
    /// When.
    pub at: Stamp,
}

/// Host time spent in each state, in ns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spent {
    states: [u64; RunState::ALL.len()],
    powers: [u64; Spent::POWERS.len()],
}

impl Spent {
    /// The names of guest power, in order.
    pub const POWERS: [&'static str; 4] = ["awake", "asleep", "off", "broken"];

    /// Host time in each of the sixteen states.
    pub fn states(&self) -> impl Iterator<Item = (RunState, u64)> + '_ {
        RunState::ALL.into_iter().zip(self.states)
    }

    /// Host time at each guest power, held or not.
    pub fn powers(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Self::POWERS.into_iter().zip(self.powers)
    }

    fn add(&mut self, state: RunState, power: Power, ns: u64) {
        let state = RunState::ALL.iter().position(|other| *other == state);
        let power = Self::POWERS.iter().position(|other| *other == power_name(&power));
        let slots =
            [state.and_then(|at| self.states.get_mut(at)), power.and_then(|at| self.powers.get_mut(at))];
        for slot in slots.into_iter().flatten() {
            *slot = slot.saturating_add(ns);
        }
    }
}

/// The wire name of guest power.
pub const fn power_name(power: &Power) -> &'static str {
    match power {
        Power::Awake => "awake",
        Power::Asleep(_) => "asleep",
        Power::Off { .. } => "off",
        Power::Broken { .. } => "broken",
    }
}

/// The answer to the lifecycle queries. Reads like the [`Situation`] that it ends in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The number of the record that it ends with.
    pub sequence: u64,
    /// When that record was made.
    pub at: Stamp,
    /// The situation since.
    pub situation: Arc<Situation>,
    /// Its holds, with their causes.
    pub held: Arc<[Held]>,
    /// Since when the state has its name.
    pub state_since: Stamp,
    /// Since when guest power is what it is.
    pub power_since: Stamp,
    /// Host time spent in each state, until `at`.
    pub spent: Spent,
    /// The last wake delivered.
    pub last_wake: Option<Last<WakeSource>>,
    /// The last wake that was forbidden or masked.
    pub last_refused_wake: Option<Last<(WakeSource, WakeFate)>>,
    /// How many wakes were delivered.
    pub wakes: u64,
    /// The last reset told.
    pub last_reset: Option<Last<Cause>>,
    /// The error of the last flush, if it had one.
    pub flush_error: Option<Last<Arc<str>>>,
    /// How the migration under way stands, or how the last one ended.
    pub migration: Option<MigrationStatus>,
}

/// A record that does not follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("record {found} does not follow record {last}")]
pub struct Gap {
    /// The number of the last record folded.
    pub last: u64,
    /// The number of the one that was to be folded.
    pub found: u64,
}

impl Status {
    /// The status after the first record that one knows, its history unknown.
    pub fn first(record: &Record) -> Self {
        let at = record.at;
        let none: Arc<[Held]> = Arc::new([]);
        Self {
            sequence: record.sequence,
            at,
            held: held(&none, record),
            situation: Arc::clone(&record.to),
            state_since: at,
            power_since: at,
            spent: Spent::default(),
            last_wake: None,
            last_refused_wake: None,
            wakes: 0,
            last_reset: None,
            flush_error: None,
            migration: None,
        }
    }

    /// The status after one more record.
    ///
    /// # Errors
    /// A [`Gap`] unless the record is the next one.
    pub fn fold(&self, record: &Record) -> Result<Self, Gap> {
        if self.sequence.checked_add(1) != Some(record.sequence) {
            return Err(Gap { last: self.sequence, found: record.sequence });
        }
        Ok(self.after(record))
    }

    /// The same for a record that is known to be the next.
    pub(crate) fn after(&self, record: &Record) -> Self {
        let mut next = self.until(record.at);
        let at = record.at;
        if record.to.state != self.state {
            next.state_since = at;
        }
        if power_name(&record.to.power) != power_name(&self.power) {
            next.power_since = at;
        }
        if record.to.holds != self.holds {
            next.held = held(&self.held, record);
        }
        if let Some(source) = record.notes.woken {
            next.wakes = self.wakes.saturating_add(1);
            next.last_wake = Some(Last { what: source, at });
        }
        if let Some(refused) = record.notes.refused {
            next.last_refused_wake = Some(Last { what: refused, at });
        }
        if let Some(result) = &record.notes.flushed {
            next.flush_error = result.as_ref().err().map(|text| Last { what: Arc::clone(text), at });
        }
        if let Some(Event::Reset { .. }) = record.event {
            next.last_reset = Some(Last { what: record.cause.clone(), at });
        }
        if let Some(Event::Migration { status }) = record.event {
            next.migration = Some(status);
        }
        next.situation = Arc::clone(&record.to);
        next.sequence = record.sequence;
        next
    }

    /// The same with the time spent until `now`.
    #[must_use]
    pub fn until(&self, now: Stamp) -> Self {
        let mut next = self.clone();
        let elapsed = now.host_ns.saturating_sub(self.at.host_ns);
        next.spent.add(self.state, self.power, elapsed);
        next.at = now;
        next
    }
}

/// The holds of the situation that `record` leads to: those that were there before keep their history.
fn held(before: &[Held], record: &Record) -> Arc<[Held]> {
    let one = |hold: &Hold| {
        let known = before.iter().find(|held| held.hold == *hold);
        known.cloned().unwrap_or_else(|| Held { hold: *hold, since: record.at, cause: record.cause.clone() })
    };
    record.to.holds.iter().map(one).collect()
}

impl Deref for Status {
    type Target = Situation;

    fn deref(&self) -> &Situation {
        &self.situation
    }
}
