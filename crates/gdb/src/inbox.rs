//! Where a session's thread waits: for bytes of its client, for news of the machine, for the end of either.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use engine::{Record, Status, Subscriber};

/// How much input waits here; what is beyond waits in the kernel.
const ROOM: usize = 64 << 10;

/// What there is to do, in the order in which it is done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum News {
    /// Bytes of the client.
    Bytes(Vec<u8>),
    /// The machine's state has changed.
    Changed,
    /// The client is gone, or its connection is to be closed.
    Closed,
    /// The machine has ended with this status.
    Ended(i32),
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    changed: bool,
    closed: bool,
    ended: Option<i32>,
}

impl Inbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits for the next thing to do.
    pub(crate) fn wait(&self) -> News {
        let mut state = self.lock();
        loop {
            if !state.bytes.is_empty() {
                let bytes = std::mem::take(&mut state.bytes).into();
                self.news.notify_all();
                return News::Bytes(bytes);
            }
            if std::mem::take(&mut state.changed) {
                return News::Changed;
            }
            if let Some(status) = state.ended {
                return News::Ended(status);
            }
            if state.closed {
                return News::Closed;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reader's side: adds bytes, and waits until there is room for more; `false` once nobody takes them any more.
    pub(crate) fn add(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        state.bytes.extend(bytes);
        self.news.notify_all();
        while state.bytes.len() > ROOM && !state.closed {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// No bytes follow.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_all();
    }

    /// The machine has ended.
    pub(crate) fn end(&self, status: i32) {
        self.lock().ended = Some(status);
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Inbox {
    fn publish(&self, _status: &Arc<Status>, _record: Option<&Arc<Record>>) {
        self.lock().changed = true;
        self.news.notify_all();
    }
}
