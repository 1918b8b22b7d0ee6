//! What clients see: the published state and the events, in one order for all.
//!
//! One writer: the machine thread. For each subscriber it hands over the event together with the state that goes with
//! it, so that a subscriber that keeps both under one lock answers queries in agreement with the events it has sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use runstate::{Actions, Event, RunState};

/// The answer to the lifecycle queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status {
    /// The QMP run state.
    pub state: RunState,
    /// Whether the guest can suspend to RAM and be woken.
    pub wakeup_supported: bool,
    /// What is done about reboot, shutdown, panic and watchdog.
    pub actions: Actions,
}

/// An event and when it happened, on the host's wall clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimedEvent {
    /// What happened.
    pub event: Event,
    /// Time since 1970-01-01 UTC.
    pub at: Duration,
}

/// Somebody who follows the machine: a monitor session, a log.
pub trait Subscriber: Send + Sync {
    /// The state is `status` from now on; `event`, if any, says how that came. Called by the machine thread: must not
    /// block and must not ask anything of the machine.
    fn publish(&self, status: &Status, event: Option<&TimedEvent>);

    /// Whether so much waits to be read by the other side that a guest which resets in a loop should be slowed down.
    fn is_behind(&self) -> bool {
        false
    }
}

/// Names a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubscriptionId(u64);

/// The published state and those who follow it.
pub(crate) struct Publisher {
    inner: Mutex<Inner>,
}

struct Inner {
    status: Status,
    next: u64,
    subscribers: Vec<(SubscriptionId, Arc<dyn Subscriber>)>,
}

impl Publisher {
    pub(crate) fn new(status: Status) -> Self {
        Self { inner: Mutex::new(Inner { status, next: 0, subscribers: Vec::new() }) }
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().status
    }

    /// Subscribes; the subscriber hears the present state before anything else.
    pub(crate) fn subscribe(&self, subscriber: Arc<dyn Subscriber>) -> SubscriptionId {
        let mut inner = self.lock();
        let id = SubscriptionId(inner.next);
        inner.next += 1;
        subscriber.publish(&inner.status, None);
        inner.subscribers.push((id, subscriber));
        id
    }

    pub(crate) fn unsubscribe(&self, id: SubscriptionId) {
        self.lock().subscribers.retain(|(other, _)| *other != id);
    }

    pub(crate) fn publish(&self, status: Status, event: Option<Event>) {
        let event = event.map(|event| TimedEvent { event, at: since_1970() });
        let mut inner = self.lock();
        inner.status = status;
        for (_, subscriber) in &inner.subscribers {
            subscriber.publish(&status, event.as_ref());
        }
    }

    pub(crate) fn anyone_behind(&self) -> bool {
        self.lock().subscribers.iter().any(|(_, subscriber)| subscriber.is_behind())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Event time stamps are the host's wall clock; a clock before 1970 counts as 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
