//! The power button: remembers that it was pressed.
//!
//! It has no registers and no line of its own yet, so the guest cannot see it; the event and the wake that a press may be
//! are the machine's.

use std::sync::atomic::{AtomicBool, Ordering};

use runstate::{GuestRequest, WakeSource};
use vmcore::{AccessSize, Device, LoadError, Section};

/// The button. A press stays latched until the machine is reset.
pub struct PowerButton {
    name: String,
    pressed: AtomicBool,
}

impl PowerButton {
    const VERSION: u32 = 1;

    /// A button that has not been pressed.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), pressed: AtomicBool::new(false) }
    }

    /// Whether it was pressed since the last reset.
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }
}

impl Device for PowerButton {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, _offset: u64, _size: AccessSize) -> u64 {
        0
    }

    fn write(&self, _offset: u64, _size: AccessSize, _value: u64) -> Option<GuestRequest> {
        None
    }

    fn reset(&self) {
        self.pressed.store(false, Ordering::SeqCst);
    }

    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn press_power_button(&self) -> bool {
        self.pressed.store(true, Ordering::SeqCst);
        true
    }

    fn save(&self) -> Section {
        Section::encode(&self.name, Self::VERSION, &self.is_pressed())
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        self.pressed.store(section.decode(&self.name, Self::VERSION)?, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keeps_the_promises_of_a_device() {
        vmcore::testing::conformance(|| Arc::new(PowerButton::new("button")), 8);
    }

    #[test]
    fn a_press_stays_until_reset_and_travels() {
        let button = PowerButton::new("button");
        assert!(button.press_power_button() && button.is_pressed());
        let other = PowerButton::new("button");
        other.load(&button.save()).unwrap();
        assert!(other.is_pressed());
        other.reset();
        assert!(!other.is_pressed());
    }
}
