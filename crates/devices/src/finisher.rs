//! The test finisher (`sifive,test1`): one register with which a guest ends or resets the machine.

use runstate::{GuestRequest, ShutdownCause, WakeSource};
use vmcore::{AccessSize, Device, LoadError, Section};

use spec::*;

/// The register and what is written to it, as SiFive's test device and QEMU's `virt` machine have it.
mod spec {
    pub const FINISH: u64 = 0;
    /// With the exit status in the upper half.
    pub const FAIL: u32 = 0x3333;
}

/// The device. It has no state.
pub struct Finisher {
    name: String,
}

impl Finisher {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 0x1000;
    /// Written to the register at offset 0, shuts the machine down.
    pub const PASS: u32 = 0x5555;
    /// Written to the register at offset 0, resets the machine.
    pub const RESET: u32 = 0x7777;
    const VERSION: u32 = 1;

    /// The device.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

impl Device for Finisher {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, _offset: u64, _size: AccessSize) -> u64 {
        0
    }

    /// Takes accesses of 16 bits and more; unknown values are ignored.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        if offset != FINISH || size == AccessSize::Byte {
            return None;
        }
        match (value & 0xffff) as u32 {
            Self::PASS => Some(GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 }),
            FAIL => {
                let exit_code = (value >> 16 & 0xffff) as i32;
                Some(GuestRequest::ShutDown { cause: ShutdownCause::GuestPanic, exit_code })
            }
            Self::RESET => Some(GuestRequest::Reset),
            _ => None,
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
        vmcore::testing::conformance(|| Arc::new(Finisher::new("finisher")), Finisher::WINDOW);
    }

    #[test]
    fn each_word_asks_for_its_end() {
        let write = |offset, size, value| Finisher::new("finisher").write(offset, size, value);
        let shut_down = |cause, exit_code| Some(GuestRequest::ShutDown { cause, exit_code });
        let word = AccessSize::Word;
        assert_eq!(write(0, word, 0x5555), shut_down(ShutdownCause::GuestShutdown, 0));
        assert_eq!(write(0, word, 0x7_3333), shut_down(ShutdownCause::GuestPanic, 7));
        assert_eq!(write(0, word, 0xffff_3333), shut_down(ShutdownCause::GuestPanic, 0xffff));
        assert_eq!(write(0, AccessSize::Half, 0x3333), shut_down(ShutdownCause::GuestPanic, 0));
        assert_eq!(write(0, word, 0x7777), Some(GuestRequest::Reset));
        for (offset, size, value) in [(4, word, 0x5555), (0, word, 0x1234), (0, AccessSize::Byte, 0x55)] {
            assert_eq!(write(offset, size, value), None);
        }
    }
}
