//! The devices of the board, one file a device.
//!
//! Each device is a [`vmcore::Device`]: registers behind a lock of its own, and the steps of the machine's life. What it
//! may do to the world is handed to its constructor: interrupt lines, timers, clocks, the port on which it posts wakes.
//!
//! ```text
//!   hart ── read, write ──► device ── IrqLine ──► Plic ── pending bits ──► HartShared
//!   timer, back end ──────►   │                     │
//!                             └──── DevicePort ◄────┘   (wakes of a sleeping guest)
//! ```
//!
//! Invariants:
//! * no access blocks, panics or allocates in proportion to what the guest writes;
//! * while the machine is held nothing that the guest can see changes: input waits in the back end, alarms are judged
//!   when the machine is live again;
//! * a refused saved section leaves the device as it was.
//!
//! Lock order: back end's gate, device, [`Plic`], the harts' pending bits (atomic). A device may call its back end and its
//! timers with its lock held; neither calls back on the same thread.

#![forbid(unsafe_code)]

mod aclint;
mod alarm;
mod finisher;
mod goldfish_rtc;
mod plic;
mod power_button;
mod pvpanic;
mod sun20i_rtc;
#[cfg(test)]
mod test_support;
mod uart;
pub mod virtio;
mod vmgenid;
mod watchdog;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use aclint::Aclint;
pub use finisher::Finisher;
pub use goldfish_rtc::GoldfishRtc;
pub use plic::{NoSuchInput, Plic, WakeInput, WakeLine};
pub use power_button::PowerButton;
pub use pvpanic::Pvpanic;
pub use sun20i_rtc::Sun20iRtc;
pub use uart::{SerialPort, Uart};
pub use vmgenid::Vmgenid;
pub use watchdog::Watchdog;

/// A lock whose holder panicked still guards plain register values: each is checked when it is used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
