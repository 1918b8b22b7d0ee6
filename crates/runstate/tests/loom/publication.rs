//! Events and answers of one connection agree, and agree with those of every other (lifecycle rules, section 3).
//!
//! Modelled, each after the function that it names; a record is its number, and a status the number of the last record in it:
//!
//! * [`Publisher`]: `engine::publish::Publisher` (`publish`, `subscribe`), with its two locks.
//! * [`Outbox`]: `monitor::outbox::Outbox` (`publish`, `status`, `reply_at`, `reply_now`): the queue, and the status that
//!   goes with its end, under one lock; [`Outbox::query`] is `Conversation::answer_query`, with one try instead of several.
//! * The machine thread's reply to one who asked for a change is an atomic; `Reply` is a channel.
//!
//! Mutations that these models catch:
//! * `Outbox::publish` stores the status in one turn of the lock and appends the event in another, in either order.
//! * A query is answered from the publisher's book; or without looking whether the status is still that of its version.
//! * `publish` copies the list of followers and lets go of the lock; or tells only the first of them; or the one who asked is
//!   answered before all are told.
//! * `subscribe` looks at the book before it takes the followers' lock; or enters the subscriber before it tells the status,
//!   outside of that lock.

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::model;

/// What a client reads.
#[derive(Clone, Copy, Debug)]
enum Line {
    Event(u64),
    Reply(u64),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Line>,
    status: Option<u64>,
    version: u64,
}

#[derive(Default)]
struct Outbox(Mutex<State>);

impl Outbox {
    fn publish(&self, status: u64, record: Option<u64>) {
        let mut state = self.0.lock().unwrap();
        state.status = Some(status);
        state.version += 1;
        state.queue.extend(record.map(Line::Event));
    }

    fn status(&self) -> (Option<u64>, u64) {
        let state = self.0.lock().unwrap();
        (state.status, state.version)
    }

    fn reply_at(&self, version: u64, status: u64) -> bool {
        let mut state = self.0.lock().unwrap();
        let current = state.version == version;
        if current {
            state.queue.push_back(Line::Reply(status));
        }
        current
    }

    fn reply_now(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        let status = state.status.expect("subscribed");
        state.queue.push_back(Line::Reply(status));
        status
    }

    /// The connection's thread answers a query. Returns the answer.
    fn query(&self) -> u64 {
        let (status, version) = self.status();
        let status = status.expect("subscribed");
        if self.reply_at(version, status) { status } else { self.reply_now() }
    }

    /// The client reads what there is.
    fn read(&self, client: &mut Client) {
        let lines = std::mem::take(&mut self.0.lock().unwrap().queue);
        lines.into_iter().for_each(|line| client.take(line));
    }
}

/// Folds the events that it reads, and compares each answer with what it has got.
struct Client {
    knows: Option<u64>,
}

impl Client {
    fn take(&mut self, line: Line) {
        match (line, self.knows) {
            (Line::Event(record), Some(last)) => {
                assert_eq!(record, last + 1, "an event is lost, told twice or out of order");
            }
            (Line::Reply(status), Some(last)) => {
                assert_eq!(status, last, "an answer is older or newer than the events before it");
            }
            (Line::Event(_) | Line::Reply(_), None) => {}
        }
        let (Line::Event(number) | Line::Reply(number)) = line;
        self.knows = Some(number);
    }
}

#[derive(Default)]
struct Publisher {
    /// The records so far.
    book: Mutex<Vec<u64>>,
    followers: Mutex<Vec<Arc<Outbox>>>,
}

impl Publisher {
    /// With record 1, as at the start.
    fn new() -> Arc<Self> {
        let publisher = Self::default();
        publisher.book.lock().unwrap().push(1);
        Arc::new(publisher)
    }

    fn publish(&self) -> u64 {
        let followers = self.followers.lock().unwrap();
        let record = {
            let mut book = self.book.lock().unwrap();
            let record = book.len() as u64 + 1;
            book.push(record);
            record
        };
        for outbox in followers.iter() {
            outbox.publish(record, Some(record));
        }
        record
    }

    fn subscribe(&self, outbox: &Arc<Outbox>, from: Option<u64>) {
        let mut followers = self.followers.lock().unwrap();
        let (status, records) = {
            let book = self.book.lock().unwrap();
            let wanted = |record: &&u64| from.is_some_and(|from| **record >= from);
            (book.len() as u64, book.iter().filter(wanted).copied().collect::<Vec<_>>())
        };
        records.iter().for_each(|record| outbox.publish(status, Some(*record)));
        outbox.publish(status, None);
        followers.push(Arc::clone(outbox));
    }

    fn subscribed(&self) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::default());
        self.subscribe(&outbox, None);
        outbox
    }
}

/// Two connections that ask while records are published: on each, events and answers agree; and once one who asked for a
/// change has its reply, the other is given no older answer.
#[test]
fn answers_agree_with_the_events_on_each_connection_and_across_them() {
    model(3, || {
        let publisher = Publisher::new();
        let (first, second) = (publisher.subscribed(), publisher.subscribed());
        let replied = Arc::new(AtomicU64::new(1));
        let reader = {
            let first = Arc::clone(&first);
            thread::spawn(move || {
                let mut client = Client { knows: Some(1) };
                first.read(&mut client);
                first.query();
                first.read(&mut client);
                client
            })
        };
        let other = {
            let (second, replied) = (Arc::clone(&second), Arc::clone(&replied));
            thread::spawn(move || {
                let reply = replied.load(Ordering::SeqCst);
                assert!(second.query() >= reply, "an answer is older than a reply on another connection");
            })
        };
        for _ in 0..2 {
            let record = publisher.publish();
            replied.store(record, Ordering::SeqCst);
        }
        let mut client = reader.join().unwrap();
        other.join().unwrap();
        first.read(&mut client);
        assert_eq!(client.knows, Some(3));
        let mut client = Client { knows: Some(1) };
        second.read(&mut client);
        assert_eq!(client.knows, Some(3));
    });
}

/// One that subscribes while records are published knows the status, and then hears of every later record, once.
#[test]
fn a_late_subscriber_misses_nothing_and_hears_nothing_twice() {
    model(3, || {
        let publisher = Publisher::new();
        let early = publisher.subscribed();
        let late = {
            let publisher = Arc::clone(&publisher);
            thread::spawn(move || {
                let outbox = publisher.subscribed();
                outbox.query();
                outbox
            })
        };
        publisher.publish();
        publisher.publish();
        let late = late.join().unwrap();
        late.query();
        for (outbox, knows) in [(early, Some(1)), (late, None)] {
            let mut client = Client { knows };
            outbox.read(&mut client);
            assert_eq!(client.knows, Some(3));
        }
    });
}

/// One that wants the records from the first on gets each once, whenever it comes.
#[test]
fn a_late_subscriber_is_told_what_it_missed() {
    model(3, || {
        let publisher = Publisher::new();
        let late = {
            let publisher = Arc::clone(&publisher);
            thread::spawn(move || {
                let outbox = Arc::new(Outbox::default());
                publisher.subscribe(&outbox, Some(1));
                outbox
            })
        };
        publisher.publish();
        publisher.publish();
        let late = late.join().unwrap();
        let mut client = Client { knows: Some(0) };
        late.read(&mut client);
        assert_eq!(client.knows, Some(3));
        late.query();
        late.read(&mut client);
    });
}
