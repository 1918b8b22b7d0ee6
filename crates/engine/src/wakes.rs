//! What is kept of wakes: what woke the guest, what would have, and why it did not.
//!
//! The machine thread writes, anybody reads. A wake that is not delivered counts once a sleep for each source and reason
//! (its line may stay up, and is then found again whenever sources are asked); each press of the power button counts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runstate::{Lifecycle, WakeFate, WakePolicy, WakeSource};
use vmcore::{ArmedBy, WakeState};

use crate::record::Stamp;

/// A wake source as queries show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeInfo {
    /// Whether and by whom it is armed, and what it waits for.
    pub state: WakeState,
    /// Whether the operator allows it.
    pub allowed: bool,
    /// What became of its wakes so far.
    pub counts: WakeCounts,
    /// The last of them.
    pub last: Option<WakeRecord>,
}

/// How many wakes of a source had which end, since the program started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WakeCounts {
    /// Woke the guest.
    pub delivered: u64,
    /// Came while the machine was held, and waited.
    pub latched: u64,
    /// Were forbidden by the operator's policy.
    pub forbidden: u64,
    /// Were masked by the guest.
    pub masked: u64,
}

/// One wake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeRecord {
    /// Of what.
    pub source: WakeSource,
    /// What became of it; `None`: it woke the guest.
    pub fate: Option<WakeFate>,
    /// Host time since 1970-01-01 UTC.
    pub at: Duration,
    /// Guest monotonic time in ns.
    pub guest_ns: u64,
}

impl WakeRecord {
    fn new(source: WakeSource, fate: Option<WakeFate>, at: Stamp) -> Self {
        Self { source, fate, at: Duration::from_nanos(at.wall_ns), guest_ns: at.guest_ns }
    }
}

/// All about wakes at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WakeReport {
    /// The sources, management first.
    pub sources: Vec<WakeInfo>,
    /// The operator's policy.
    pub policy: WakePolicy,
    /// The wake that waits until nothing holds the machine.
    pub latched: Option<WakeSource>,
    /// What woke the guest last.
    pub last_wake: Option<WakeRecord>,
    /// The last wake that was forbidden or masked.
    pub last_refused: Option<WakeRecord>,
}

#[derive(Default)]
struct Entry {
    counts: WakeCounts,
    last: Option<WakeRecord>,
    /// The sleep in which one was forbidden, or masked, last.
    forbidden_in: Option<u64>,
    masked_in: Option<u64>,
}

#[derive(Default)]
struct Inner {
    /// By source, in the order in which they were first heard of. As many as the machine has sources, at most.
    entries: Vec<(WakeSource, Entry)>,
    sleeps: u64,
    policy: WakePolicy,
    latched: Option<WakeSource>,
    supported: bool,
    last_wake: Option<WakeRecord>,
    last_refused: Option<WakeRecord>,
}

/// The book that the machine thread keeps.
#[derive(Default)]
pub(crate) struct WakeBook(Mutex<Inner>);

impl WakeBook {
    /// What is published of the lifecycle from now on.
    pub(crate) fn set(&self, life: &Lifecycle) {
        let mut inner = self.lock();
        inner.policy = life.wake_policy();
        inner.latched = life.latched();
        inner.supported = life.wakeup_supported();
    }

    /// A new sleep begins.
    pub(crate) fn fell_asleep(&self) {
        self.lock().sleeps += 1;
    }

    /// `source` wakes the guest.
    pub(crate) fn delivered(&self, source: WakeSource, at: Stamp) {
        let mut inner = self.lock();
        let record = WakeRecord::new(source, None, at);
        let entry = inner.entry(source);
        entry.counts.delivered += 1;
        entry.last = Some(record);
        inner.last_wake = Some(record);
        tracing::info!(%source, "the guest is woken");
    }

    /// A wake by `source` is not delivered now. Returns whether it counts.
    pub(crate) fn noted(&self, source: WakeSource, fate: WakeFate, at: Stamp) -> bool {
        let mut inner = self.lock();
        let sleep = inner.sleeps;
        let entry = inner.entry(source);
        let (count, noted_in) = match fate {
            WakeFate::Latched => (&mut entry.counts.latched, None),
            WakeFate::Forbidden => (&mut entry.counts.forbidden, Some(&mut entry.forbidden_in)),
            WakeFate::Masked => (&mut entry.counts.masked, Some(&mut entry.masked_in)),
        };
        let again = noted_in.and_then(|noted_in| noted_in.replace(sleep)) == Some(sleep);
        if again && source != WakeSource::PowerButton {
            return false;
        }
        *count += 1;
        let record = WakeRecord::new(source, Some(fate), at);
        entry.last = Some(record);
        if fate != WakeFate::Latched {
            inner.last_refused = Some(record);
        }
        tracing::info!(%source, fate = fate.as_str(), "a wake is not delivered");
        true
    }

    /// The whole, with what the machine says of its sources at this moment.
    pub(crate) fn report(&self, states: Vec<WakeState>) -> WakeReport {
        let inner = self.lock();
        let management = WakeState {
            source: WakeSource::Management,
            armed: Some(ArmedBy::Always),
            due: false,
            alarm: None,
        };
        let mut all: Vec<WakeState> =
            inner.supported.then_some(management).into_iter().chain(states).collect();
        // A source that is masked now, and so not listed, but of which there is something to tell.
        for (source, _) in &inner.entries {
            if !all.iter().any(|state| state.source == *source) {
                all.push(WakeState { source: *source, armed: None, due: false, alarm: None });
            }
        }
        let sources = all.into_iter().map(|state| {
            let entry =
                inner.entries.iter().find(|(source, _)| *source == state.source).map(|(_, entry)| entry);
            WakeInfo {
                state,
                allowed: inner.policy.allows(state.source),
                counts: entry.map(|entry| entry.counts).unwrap_or_default(),
                last: entry.and_then(|entry| entry.last),
            }
        });
        WakeReport {
            sources: sources.collect(),
            policy: inner.policy,
            latched: inner.latched,
            last_wake: inner.last_wake,
            last_refused: inner.last_refused,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, source: WakeSource) -> &mut Entry {
        let known = self.entries.iter().position(|(other, _)| *other == source);
        let index = known.unwrap_or(self.entries.len());
        if known.is_none() {
            self.entries.push((source, Entry::default()));
        }
        &mut self.entries[index].1
    }
}
