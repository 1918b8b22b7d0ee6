//! An event that has happened.

use crate::schema::{EventDef, Qapi};
use crate::wire::{self, Timestamp};
use serde_json::Value;

/// An event: its definition, and its data.
#[derive(Debug, Clone)]
pub struct Event {
    def: &'static EventDef,
    data: Option<Value>,
    explains: bool,
}

impl Event {
    /// An event without data.
    pub fn plain(def: &'static EventDef) -> Self {
        debug_assert!(def.data.is_empty(), "{} has data", def.name);
        Self { def, data: None, explains: false }
    }

    /// An event with the data that its definition says.
    pub fn with(def: &'static EventDef, data: &impl Qapi) -> Self {
        let data = data.to_value();
        debug_assert!(
            def.data.iter().all(|member| member.optional || data.get(member.name).is_some()),
            "{} has other data than its definition",
            def.name
        );
        Self { def, data: Some(data), explains: false }
    }

    /// The same event, which is the reason of another that follows it: whatever its rate, it is never held back (B22
    /// in `spec/run-state.md`), so that a STOP always has its reason in front of it.
    #[must_use]
    pub fn explaining(self) -> Self {
        Self { explains: true, ..self }
    }

    /// Whether it is the reason of another event.
    pub fn explains(&self) -> bool {
        self.explains
    }

    /// Its definition.
    pub fn def(&self) -> &'static EventDef {
        self.def
    }

    /// Its data.
    pub fn data(&self) -> Option<&Value> {
        self.data.as_ref()
    }

    /// The line to send, `\r\n` included. Every monitor gets the same line.
    pub fn render(&self, when: Timestamp) -> String {
        wire::event(self.def.name, self.data.as_ref(), when)
    }
}
