//! Events that are sent at most once a second ([`crate::schema::EventDef::rate`]).
//!
//! The first goes at once. Of those that follow within the second only the newest is kept; it is sent when
//! the second is over, with the time stamp of its occurrence, and starts the next second (`spec/clients.md`
//! section 4, Events). One that explains another event goes at once whatever went before (a deliberate difference
//! from QEMU, B22). No clock is read here: `now` is any monotonic time, the same for all calls.

use crate::event::Event;
use crate::schema::Rate;
use crate::wire::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// How long after a throttled event the next of its kind may be sent.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What waits, for one monitor.
#[derive(Debug, Default)]
pub struct Throttle {
    /// One for each kind of event that was sent less than [`INTERVAL`] ago; so at most as many as there are
    /// kinds, and devices that have such events.
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    name: &'static str,
    /// Which device it is about, where each has a rate of its own.
    each: Option<Value>,
    end: Duration,
    waiting: Option<(Event, Timestamp)>,
}

impl Throttle {
    /// Gives the event back when it is to be sent now, and keeps it otherwise.
    pub fn offer(&mut self, event: Event, when: Timestamp, now: Duration) -> Option<(Event, Timestamp)> {
        let each = match event.def().rate {
            Rate::Free => return Some((event, when)),
            Rate::OneASecond => None,
            Rate::OneASecondEach(member) => event.data().and_then(|data| data.get(member)).cloned(),
        };
        let name = event.def().name;
        self.windows.retain(|window| window.waiting.is_some() || now < window.end);
        let end = now.saturating_add(INTERVAL);
        match self.windows.iter_mut().find(|window| window.name == name && window.each == each) {
            // It replaces what waits.
            Some(window) if event.explains() => (window.waiting, window.end) = (None, end),
            // What waits goes by take_due alone, so that a late caller does not send out of order.
            Some(window) => {
                window.waiting = Some((event, when));
                return None;
            }
            None => self.windows.push(Window { name, each, end, waiting: None }),
        }
        Some((event, when))
    }

    /// When [`Throttle::take_due`] has something to give, if anything waits.
    pub fn next_due(&self) -> Option<Duration> {
        self.windows.iter().filter(|window| window.waiting.is_some()).map(|window| window.end).min()
    }

    /// The events whose time has come, to be sent now.
    pub fn take_due(&mut self, now: Duration) -> Vec<(Event, Timestamp)> {
        let mut due = Vec::new();
        self.windows.retain_mut(|window| {
            if now < window.end {
                return true;
            }
            window.end = now.saturating_add(INTERVAL);
            let waiting = window.waiting.take();
            let keep = waiting.is_some();
            due.extend(waiting);
            keep
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{EventDef, Qapi, arg};

    static WATCHDOG: EventDef = EventDef {
        name: "WATCHDOG",
        doc: "",
        data: &[arg("action", String::TYPE, "")],
        rate: Rate::OneASecond,
    };
    static RESET: EventDef = EventDef { name: "RESET", doc: "", data: &[], rate: Rate::Free };

    fn offer(throttle: &mut Throttle, action: &str, ms: u64) -> bool {
        let when = Timestamp { seconds: 0, microseconds: u32::try_from(ms).unwrap() };
        let data: Value = serde_json::json!({"action": action});
        throttle.offer(Event::with(&WATCHDOG, &data), when, Duration::from_millis(ms)).is_some()
    }

    /// The actions and time stamps of what is due.
    fn due(throttle: &mut Throttle, ms: u64) -> Vec<(String, u32)> {
        let events = throttle.take_due(Duration::from_millis(ms)).into_iter();
        events.map(|(event, when)| (event.data().unwrap()["action"].to_string(), when.microseconds)).collect()
    }

    #[test]
    fn the_first_goes_at_once_and_the_newest_when_the_second_is_over() {
        let mut throttle = Throttle::default();
        assert!(offer(&mut throttle, "none", 100));
        assert_eq!(throttle.next_due(), None);
        assert!(!offer(&mut throttle, "reset", 200));
        assert!(!offer(&mut throttle, "pause", 300));
        assert_eq!(throttle.next_due(), Some(Duration::from_millis(1100)));
        assert_eq!(due(&mut throttle, 1099), []);
        assert_eq!(due(&mut throttle, 1100), [("\"pause\"".to_owned(), 300)]);
        // The one that was late starts a second of its own.
        assert!(!offer(&mut throttle, "debug", 1200));
        assert_eq!(due(&mut throttle, 2099), []);
        assert_eq!(due(&mut throttle, 2100), [("\"debug\"".to_owned(), 1200)]);
        assert_eq!(throttle.next_due(), None);
        assert!(offer(&mut throttle, "none", 3100));
    }

    #[test]
    fn a_late_caller_sends_in_order() {
        let mut throttle = Throttle::default();
        assert!(offer(&mut throttle, "none", 0));
        assert!(!offer(&mut throttle, "reset", 10));
        assert!(!offer(&mut throttle, "pause", 5000), "what waits has not been taken yet");
        assert_eq!(due(&mut throttle, 5000), [("\"pause\"".to_owned(), 5000)]);
    }

    #[test]
    fn other_events_are_not_held_back() {
        let mut throttle = Throttle::default();
        for ms in 0..100 {
            let when = Timestamp { seconds: 0, microseconds: 0 };
            let reset = Event::plain(&RESET);
            assert!(throttle.offer(reset, when, Duration::from_millis(ms)).is_some());
        }
        assert_eq!(throttle.take_due(Duration::MAX).len(), 0);
    }

    #[test]
    fn the_reason_of_another_event_is_never_held_back_and_replaces_what_waits() {
        let mut throttle = Throttle::default();
        assert!(offer(&mut throttle, "none", 0));
        assert!(!offer(&mut throttle, "reset", 10));
        let when = Timestamp { seconds: 0, microseconds: 20 };
        let pause = Event::with(&WATCHDOG, &serde_json::json!({"action": "pause"})).explaining();
        assert!(throttle.offer(pause, when, Duration::from_millis(20)).is_some());
        assert_eq!(due(&mut throttle, 1019), []);
        assert!(!offer(&mut throttle, "debug", 1019), "it starts a second of its own");
        assert_eq!(due(&mut throttle, 1020), [("\"debug\"".to_owned(), 1019)]);
    }

    #[test]
    fn a_device_does_not_hold_back_the_events_of_another() {
        static PORT: EventDef = EventDef {
            name: "PORT",
            doc: "",
            data: &[arg("id", String::TYPE, "")],
            rate: Rate::OneASecondEach("id"),
        };
        let mut throttle = Throttle::default();
        let when = Timestamp { seconds: 0, microseconds: 0 };
        let mut offer = |id: &str, ms| {
            let event = Event::with(&PORT, &serde_json::json!({"id": id}));
            throttle.offer(event, when, Duration::from_millis(ms)).is_some()
        };
        assert_eq!(
            [offer("a", 0), offer("b", 0), offer("a", 1), offer("b", 999)],
            [true, true, false, false]
        );
        assert_eq!(throttle.take_due(Duration::from_secs(1)).len(), 2);
    }
}
