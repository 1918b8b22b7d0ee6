//! What a device is to the rest of the machine: registers, and its part in the machine's life.

use std::sync::Arc;

use runstate::{DeviceRequest, GuestRequest, WakeSource};

use crate::saved::{LoadError, Section};
use crate::storage::Storage;

/// Width of an access to a device's registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessSize {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl AccessSize {
    /// Width in bytes: 1, 2, 4 or 8.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The size of `bytes` bytes.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            8 => Some(Self::Double),
            _ => None,
        }
    }

    /// A mask with as many low bits set as the access is wide.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// A device of the machine. It has a lock of its own (all methods take `&self`) and is called straight from the hart
/// that touches it, from the machine thread for the steps of the machine's life, and by its timers and its back end.
///
/// Every step is idempotent: a second call in a row changes nothing. Clocks, timers, lines and ports are handed to the
/// constructor. While the machine is held nothing that the guest could see changes, except by management: input waits in
/// the back end, and deadlines on the host's time are judged at [`Device::start`].
pub trait Device: Send + Sync {
    /// Name of this instance, unique in the machine, for messages, saved sections and wake sources.
    fn name(&self) -> &str;

    /// Reads a register. `offset` is aligned to `size` and inside the device's window. Unknown registers read as 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64;

    /// Writes a register; bits of `value` beyond `size` are zero. Unknown registers ignore writes. What the write asks of
    /// the machine's life is returned, and the hart posts it once it holds no lock.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest>;

    /// Back to the state after power-on. State that a real machine keeps over reset (an RTC's time) stays.
    fn reset(&self);

    /// The machine is held from now on: take no input, begin nothing. Does not wait: what is in flight on the host's side
    /// ends there ([`Storage::flush`] waits for it), and reaches the guest at [`Device::start`].
    fn stop(&self);

    /// The machine is live again: take input, judge deadlines. Returns the wake that has fallen due, if the guest should
    /// happen to be asleep.
    fn start(&self) -> Option<WakeSource>;

    /// The guest has suspended to RAM. Returns a wake that is due already.
    fn sleep(&self) -> Option<WakeSource>;

    /// The guest has been woken.
    fn wake(&self);

    /// Presses the power button, if this device is one. Returns whether it did.
    fn press_power_button(&self) -> bool {
        false
    }

    /// The host's side of a device that keeps data. Asked once, when the machine is started.
    fn storage(&self) -> Option<Arc<dyn Storage>> {
        None
    }

    /// What the guest finds here beyond what the device's name says, fixed when the machine is made: what is plugged into a
    /// slot. Empty where the name says it all.
    fn kind(&self) -> String {
        String::new()
    }

    /// The whole guest-visible state, and what else is needed to go on. Called while the machine is held.
    fn save(&self) -> Section;

    /// Judges a saved state like guest input, completely: what passes here loads. Depends on nothing but the section and
    /// what is fixed when the machine is made, and changes nothing.
    fn check(&self, section: &Section) -> Result<(), LoadError>;

    /// Replaces the state by a saved one that passes [`Device::check`], lines and timers included. Called while the machine
    /// is held and the guest, by the device's account, awake; guest time is the saved one. A refusal leaves the device as it
    /// was.
    fn load(&self, section: &Section) -> Result<(), LoadError>;
}

/// Where a device posts what it asks of the machine's life outside of a register access: a timer that expired, a back
/// end that failed. Never blocks; a request that is still waiting is not queued twice.
pub trait DevicePort: Send + Sync {
    /// Posts `request`.
    fn post(&self, request: DeviceRequest);
}
