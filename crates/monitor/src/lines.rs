//! The monitors that run on sockets, and the client that each has now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outbox::Outbox;

/// Monitors on sockets by the ids of their character devices. At most as many as there are monitors.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<Vec<Line>>,
}

struct Line {
    label: String,
    client: Option<Arc<Outbox>>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A monitor more.
    pub(crate) fn add(&self, label: &str) {
        self.lock().push(Line { label: label.to_owned(), client: None });
    }

    /// The client that a monitor has from now on.
    pub(crate) fn set_client(&self, label: &str, client: Option<&Arc<Outbox>>) {
        if let Some(line) = self.lock().iter_mut().find(|line| line.label == label) {
            line.client = client.cloned();
        }
    }

    /// The ids of all.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.lock().iter().map(|line| line.label.clone()).collect()
    }

    /// Ends the connection of a monitor's client, if it has one.
    pub(crate) fn cut(&self, label: &str) {
        let line = self.lock().iter().find(|line| line.label == label).and_then(|line| line.client.clone());
        if let Some(client) = line {
            client.close();
        }
    }
}
