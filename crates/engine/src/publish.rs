//! What clients see: the published status and the records, in one order for all.
//!
//! One writer: the machine thread. Each publication is one [`Record`]. It is kept in the journal and handed to each
//! subscriber together with the status that it leads to, so that a subscriber that keeps both under one lock answers
//! queries in agreement with the events it has sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::GuestClock;
use runstate::{Event, Lifecycle, WakeFate, WakeSource};
use vmcore::IoError;

use crate::job::JobReport;
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
///
/// Lock order: `followers`, then whatever a subscriber takes, then `book`. Nothing is called while `book` is locked, so it may
/// be looked at from anywhere.
pub(crate) struct Publisher {
    clocks: Clocks,
    book: Mutex<Book>,
    followers: Mutex<Followers>,
}

struct Book {
    status: Arc<Status>,
    journal: Journal,
    notes: Notes,
    /// How often each event was told, by its name.
    events: Vec<(&'static str, u64)>,
}

#[derive(Default)]
struct Followers {
    next: u64,
    all: Vec<(SubscriptionId, Arc<dyn Subscriber>)>,
}

impl Book {
    /// Writes the next record, made at `at`.
    fn write(&mut self, at: Stamp, situation: Situation, cause: Cause, event: Option<Event>) -> Arc<Record> {
        let from = Arc::clone(&self.status.situation);
        let to = if situation == *from { Arc::clone(&from) } else { Arc::new(situation) };
        let notes = std::mem::take(&mut self.notes);
        let record =
            Arc::new(Record { sequence: self.status.sequence + 1, at, cause, event, from, to, notes });
        self.status = Arc::new(self.status.after(&record));
        self.journal.push(Arc::clone(&record));
        if let Some(event) = event {
            self.count(event.name());
        }
        record
    }

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
        let book = Book { status, journal: Journal::new(first), notes: Notes::default(), events: Vec::new() };
        Self { clocks, book: Mutex::new(book), followers: Mutex::default() }
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.book().status)
    }

    pub(crate) fn now(&self) -> Stamp {
        self.clocks.now()
    }

    /// This moment, if record `sequence` is the last; else the moment of the record after it.
    pub(crate) fn now_after(&self, sequence: u64) -> Stamp {
        let book = self.book();
        match book.journal.get(sequence.saturating_add(1)) {
            Some(next) => next.at,
            None => self.clocks.now(),
        }
    }

    pub(crate) fn host_ns(&self) -> u64 {
        self.clocks.host.monotonic_ns()
    }

    pub(crate) fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.book().events.clone()
    }

    pub(crate) fn guest_clock(&self) -> &GuestClock {
        &self.clocks.guest
    }

    pub(crate) fn replay(&self, from: u64, until: u64) -> Replay {
        self.book().journal.replay(from, until)
    }

    /// Subscribes; the subscriber hears the present status before anything else, and before that the records from number
    /// `from` on, if wanted.
    pub(crate) fn subscribe(&self, subscriber: Arc<dyn Subscriber>, from: Option<u64>) -> SubscriptionId {
        let mut followers = self.followers();
        let (status, records): (_, Vec<_>) = {
            let book = self.book();
            let wanted = |record: &&Arc<Record>| from.is_some_and(|from| record.sequence >= from);
            (Arc::clone(&book.status), book.journal.iter().filter(wanted).cloned().collect())
        };
        records.iter().for_each(|record| subscriber.publish(&status, Some(record)));
        subscriber.publish(&status, None);
        let id = SubscriptionId(followers.next);
        followers.next += 1;
        followers.all.push((id, subscriber));
        id
    }

    pub(crate) fn unsubscribe(&self, id: SubscriptionId) {
        self.followers().all.retain(|(other, _)| *other != id);
    }

    /// The next record: `life` is what is published from now on, and `event`, if any, is told.
    pub(crate) fn publish(&self, life: &Lifecycle, cause: &Cause, event: Option<Event>) {
        let followers = self.followers();
        let (status, record) = {
            let mut book = self.book();
            // Read under the lock, so that who looked before has seen no later moment than the record's.
            let record = book.write(self.clocks.now(), life.into(), cause.clone(), event);
            (Arc::clone(&book.status), record)
        };
        for (_, subscriber) in &followers.all {
            subscriber.publish(&status, Some(&record));
        }
    }

    /// The guest is woken by `source`; told with the next record.
    pub(crate) fn note_wake(&self, source: WakeSource) {
        self.book().notes.woken = Some(source);
    }

    /// A wake by `source` was refused; told with the next record.
    pub(crate) fn note_refused(&self, source: WakeSource, fate: WakeFate) {
        self.book().notes.refused = Some((source, fate));
    }

    /// A flush of the disks has ended; told with the next record, if it is news. Returns whether it is.
    pub(crate) fn note_flush(&self, result: Result<(), Arc<str>>) -> bool {
        let mut book = self.book();
        let news = result.is_err() || book.status.flush_error.is_some();
        if news {
            book.notes.flushed = Some(result);
        }
        news
    }

    /// What failed, for the BLOCK_IO_ERROR that is the next record.
    pub(crate) fn note_io_error(&self, error: Option<Arc<IoError>>) {
        self.book().notes.io_error = error;
    }

    /// How the job went, for the event that is the next record.
    pub(crate) fn note_job(&self, report: JobReport) {
        self.book().notes.job = Some(report);
    }

    pub(crate) fn anyone_behind(&self) -> bool {
        self.followers().all.iter().any(|(_, subscriber)| subscriber.is_behind())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
