//! What clients see: the published status and the records, in one order for all.
//!
//! One writer: the machine thread. Each publication is one [`Record`]. It is kept in the journal and handed to each
//! subscriber together with the status that it leads to, so that a subscriber that keeps both under one lock answers
//! queries in agreement with the events it has sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::GuestClock;
use runstate::{Event, Lifecycle, WakeFate, WakeSource};
use vmcore::IoError;

use crate::journal::{Journal, Replay};
use crate::record::{Cause, Clocks, Notes, Record, Situation, Stamp};
use crate::status::Status;

/// Somebody who follows the machine: a monitor session, a log.
pub trait Subscriber: Send + Sync {
    /// The status is `status` from now on; `record`, if any, says how that came. Called by the machine thread: must not
    /// block and must not ask anything of the machine.
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>);

    /// Whether so much waits to be read by the other side that a guest which resets in a loop should be slowed down.
    fn is_behind(&self) -> bool {
        false
    }
}

/// Names a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubscriptionId(u64);

/// The published status, how it came, and those who follow it.
pub(crate) struct Publisher {
    clocks: Clocks,
    inner: Mutex<Inner>,
}

struct Inner {
    status: Arc<Status>,
    journal: Journal,
    notes: Notes,
    /// How often each event was told, by its name.
    events: Vec<(&'static str, u64)>,
    next: u64,
    subscribers: Vec<(SubscriptionId, Arc<dyn Subscriber>)>,
}

impl Inner {
    fn count(&mut self, name: &'static str) {
        match self.events.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => self.events.push((name, 1)),
        }
    }
}

impl Publisher {
    /// Publishes the machine's beginning as record 1.
    pub(crate) fn new(life: &Lifecycle, clocks: Clocks) -> Self {
        let situation = Arc::new(Situation::from(life));
        let first = Arc::new(Record {
            sequence: 1,
            at: clocks.now(),
            cause: Cause::START,
            event: None,
            from: Arc::clone(&situation),
            to: situation,
            notes: Notes::default(),
        });
        let status = Arc::new(Status::first(&first));
        let inner = Inner {
            status,
            journal: Journal::new(first),
            notes: Notes::default(),
            events: Vec::new(),
            next: 0,
            subscribers: Vec::new(),
        };
        Self { clocks, inner: Mutex::new(inner) }
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.lock().status)
    }

    pub(crate) fn now(&self) -> Stamp {
        self.clocks.now()
    }

    pub(crate) fn host_ns(&self) -> u64 {
        self.clocks.host.monotonic_ns()
    }

    pub(crate) fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.lock().events.clone()
    }

    pub(crate) fn guest_clock(&self) -> &GuestClock {
        &self.clocks.guest
    }

    pub(crate) fn replay(&self, from: u64, until: u64) -> Replay {
        self.lock().journal.replay(from, until)
    }

    /// Subscribes; the subscriber hears the present status before anything else, and before that the records from number
    /// `from` on, if wanted.
    pub(crate) fn subscribe(&self, subscriber: Arc<dyn Subscriber>, from: Option<u64>) -> SubscriptionId {
        let mut inner = self.lock();
        let id = SubscriptionId(inner.next);
        inner.next += 1;
        if let Some(from) = from {
            for record in inner.journal.iter().filter(|record| record.sequence >= from) {
                subscriber.publish(&inner.status, Some(record));
            }
        }
        subscriber.publish(&inner.status, None);
        inner.subscribers.push((id, subscriber));
        id
    }

    pub(crate) fn unsubscribe(&self, id: SubscriptionId) {
        self.lock().subscribers.retain(|(other, _)| *other != id);
    }

    /// The next record: `life` is what is published from now on, and `event`, if any, is told.
    pub(crate) fn publish(&self, life: &Lifecycle, cause: &Cause, event: Option<Event>) {
        let situation = Situation::from(life);
        let at = self.clocks.now();
        let mut inner = self.lock();
        let from = Arc::clone(&inner.status.situation);
        let to = if situation == *from { Arc::clone(&from) } else { Arc::new(situation) };
        let notes = std::mem::take(&mut inner.notes);
        let sequence = inner.status.sequence.saturating_add(1);
        let record = Arc::new(Record { sequence, at, cause: cause.clone(), event, from, to, notes });
        match inner.status.fold(&record) {
            Ok(status) => inner.status = Arc::new(status),
            // Past the last number, in 500 million years.
            Err(gap) => return tracing::error!(%gap, "the machine's journal has ended"),
        }
        if let Some(event) = event {
            inner.count(event.name());
        }
        inner.journal.push(Arc::clone(&record));
        for (_, subscriber) in &inner.subscribers {
            subscriber.publish(&inner.status, Some(&record));
        }
    }

    /// The guest is woken by `source`; told with the next record.
    pub(crate) fn note_wake(&self, source: WakeSource) {
        self.lock().notes.woken = Some(source);
    }

    /// A wake by `source` was refused; told with the next record.
    pub(crate) fn note_refused(&self, source: WakeSource, fate: WakeFate) {
        self.lock().notes.refused = Some((source, fate));
    }

    /// A flush of the disks has ended; told with the next record, if it is news. Returns whether it is.
    pub(crate) fn note_flush(&self, result: Result<(), Arc<str>>) -> bool {
        let mut inner = self.lock();
        let news = result.is_err() || inner.status.flush_error.is_some();
        if news {
            inner.notes.flushed = Some(result);
        }
        news
    }

    /// What failed, for the BLOCK_IO_ERROR that is the next record.
    pub(crate) fn note_io_error(&self, error: Option<Arc<IoError>>) {
        self.lock().notes.io_error = error;
    }

    pub(crate) fn anyone_behind(&self) -> bool {
        self.lock().subscribers.iter().any(|(_, subscriber)| subscriber.is_behind())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
