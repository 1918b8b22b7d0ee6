//! The panic device (`qemu,pvpanic-mmio`; QEMU's interface document "PVPANIC DEVICE"): one byte with which a guest tells
//! that it has panicked. Reading it gives the events that it takes.

use runstate::{GuestRequest, WakeSource};
use vmcore::{AccessSize, Device, LoadError, Section};

use spec::*;

/// The bits of the register at offset 0.
mod spec {
    /// The guest has panicked.
    pub const PANICKED: u64 = 1 << 0;
    /// The guest has panicked and runs a crash kernel.
    pub const CRASH_LOADED: u64 = 1 << 1;
    /// The guest wants to be shut down.
    pub const SHUTDOWN: u64 = 1 << 2;
}

/// The device. It has no state.
pub struct Pvpanic {
    name: String,
}

impl Pvpanic {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 2;
    const VERSION: u32 = 1;

    /// The device.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

impl Device for Pvpanic {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, _size: AccessSize) -> u64 {
        if offset == 0 { PANICKED | CRASH_LOADED | SHUTDOWN } else { 0 }
    }

    /// Of several events the first counts; unknown ones are ignored.
    fn write(&self, offset: u64, _size: AccessSize, value: u64) -> Option<GuestRequest> {
        if offset != 0 {
            return None;
        }
        if value & PANICKED != 0 {
            Some(GuestRequest::Panic)
        } else if value & CRASH_LOADED != 0 {
            Some(GuestRequest::CrashLoaded)
        } else if value & SHUTDOWN != 0 {
            Some(GuestRequest::PvShutdown)
        } else {
            None
        }
    }

    fn reset(&self) {}

    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        Section::encode(&self.name, Self::VERSION, &())
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode(&self.name, Self::VERSION)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        self.check(section)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keeps_the_promises_of_a_device() {
        vmcore::testing::conformance(|| Arc::new(Pvpanic::new("pvpanic")), Pvpanic::WINDOW);
    }

    #[test]
    fn each_event_is_told_and_the_ones_that_it_takes_can_be_read() {
        let device = Pvpanic::new("pvpanic");
        assert_eq!(device.read(0, AccessSize::Byte), 7);
        assert_eq!(device.read(1, AccessSize::Byte), 0);
        let write = |value| device.write(0, AccessSize::Byte, value);
        assert_eq!(write(1), Some(GuestRequest::Panic));
        assert_eq!(write(2), Some(GuestRequest::CrashLoaded));
        assert_eq!(write(4), Some(GuestRequest::PvShutdown));
        assert_eq!(write(7), Some(GuestRequest::Panic));
        assert_eq!(write(0xf8), None);
        assert_eq!(device.write(1, AccessSize::Byte, 1), None);
    }
}
