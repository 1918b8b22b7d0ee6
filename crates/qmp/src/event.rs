//! Every event that is sent, defined once.

use crate::schema::{ArgDef, EventDef, ObjectDef, Qapi, Type};
use crate::types::{
    GuestPanicAction, GuestPanicInfo, ShutdownCause, ShutdownInfo, WatchdogAction, WatchdogInfo,
};
use crate::wire::{self, Timestamp};
use serde_json::Value;

/// The members of an event's data, taken from its Rust type.
const fn members(ty: Type) -> &'static [ArgDef] {
    match ty {
        Type::Object(ObjectDef { members, .. }) => members,
        _ => &[],
    }
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal ($data:expr) $throttled:literal;)*) => {
        $($(#[doc = $doc])+
        pub static $id: EventDef =
            EventDef { name: $name, doc: concat!($($doc),+).trim_ascii(), data: $data, throttled: $throttled };)*

        /// Every event.
        pub static ALL: &[&EventDef] = &[$(&$id),*];
    };
}

events! {
    /// The machine has stopped.
    STOP = "STOP" (&[]) false;
    /// The machine goes on; a guest that slept sleeps on.
    RESUME = "RESUME" (&[]) false;
    /// The guest is suspended to RAM.
    SUSPEND = "SUSPEND" (&[]) false;
    /// The guest has woken.
    WAKEUP = "WAKEUP" (&[]) false;
    /// The machine was reset.
    RESET = "RESET" (members(ShutdownInfo::TYPE)) false;
    /// The machine shuts down.
    SHUTDOWN = "SHUTDOWN" (members(ShutdownInfo::TYPE)) false;
    /// The power button was pressed.
    POWERDOWN = "POWERDOWN" (&[]) false;
    /// The guest has panicked.
    GUEST_PANICKED = "GUEST_PANICKED" (members(GuestPanicInfo::TYPE)) false;
    /// The watchdog has expired.
    WATCHDOG = "WATCHDOG" (members(WatchdogInfo::TYPE)) true;
}

/// An event that has happened.
#[derive(Debug, Clone)]
pub struct Event {
    def: &'static EventDef,
    data: Option<Value>,
}

impl Event {
    /// STOP.
    pub fn stop() -> Self {
        Self { def: &STOP, data: None }
    }

    /// RESUME.
    pub fn resume() -> Self {
        Self { def: &RESUME, data: None }
    }

    /// SUSPEND.
    pub fn suspend() -> Self {
        Self { def: &SUSPEND, data: None }
    }

    /// WAKEUP.
    pub fn wakeup() -> Self {
        Self { def: &WAKEUP, data: None }
    }

    /// RESET; whether the guest asked follows from the cause.
    pub fn reset(reason: ShutdownCause) -> Self {
        Self { def: &RESET, data: Some(ShutdownInfo { guest: reason.is_guest(), reason }.to_value()) }
    }

    /// SHUTDOWN; whether the guest asked follows from the cause.
    pub fn shutdown(reason: ShutdownCause) -> Self {
        Self { def: &SHUTDOWN, data: Some(ShutdownInfo { guest: reason.is_guest(), reason }.to_value()) }
    }

    /// POWERDOWN.
    pub fn powerdown() -> Self {
        Self { def: &POWERDOWN, data: None }
    }

    /// GUEST_PANICKED.
    pub fn guest_panicked(action: GuestPanicAction) -> Self {
        Self { def: &GUEST_PANICKED, data: Some(GuestPanicInfo { action }.to_value()) }
    }

    /// WATCHDOG.
    pub fn watchdog(action: WatchdogAction) -> Self {
        Self { def: &WATCHDOG, data: Some(WatchdogInfo { action }.to_value()) }
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
