//! The traits that rooms meet at.
//!
//! The engine drives any [`Machine`]: it knows [`Vcpu`]s, [`Device`]s and the shared part of each hart
//! ([`HartShared`]), and nothing of RISC-V boards. Devices, harts and the built-in firmware know this crate and not
//! one another.
//!
//! ```text
//!            engine ── Vcpu::run, HartShared (park, kick) ──► hart ── Bus ──► devices
//!              ▲                                                │                │
//!              │ GuestRequest (an exit of Vcpu::run)            │ Firmware       │ IrqLine ──► PLIC ──► HartShared
//!              └──────────────── DevicePort (never blocks) ◄────┴────────────────┘
//! ```
//!
//! Invariants:
//! * no thread waits for the machine thread while it holds a lock: a device access that asks for a change of the
//!   machine's life *returns* the request, and the hart posts it when it holds nothing;
//! * a device never calls another device; its outputs are interrupt lines;
//! * device accesses never block;
//! * a hart is never [outside](park::Gate) in the middle of a device access, so once all harts are parked no hart holds a
//!   device's lock.
//!
//! Lock order: device, interrupt controller, a hart's pending bits (atomic), kick.

#![forbid(unsafe_code)]

mod board;
mod bus;
mod debug;
mod device;
mod firmware;
mod harts;
mod identity;
mod irq;
mod machine;
pub mod park;
mod saved;
mod storage;
mod sync;
pub mod testing;
mod vcpu;
mod wakes;

pub use board::{BoardInfo, DeviceInfo, OtherBoard};
pub use bus::{AccessFault, Bus, BusError, Mapping};
pub use debug::{Debug, DebugHit, Point, Register, Space, Watch};
pub use device::{AccessSize, Device, DevicePort};
pub use firmware::{EcallOutcome, Firmware, SbiCall, SbiReturn};
pub use harts::{FenceWait, HartShared, Harts, HsmState, NotStopped, StartParams, mip};
pub use identity::{Identity, Renewal};
pub use irq::{IrqLine, IrqSink};
pub use machine::{BootEntry, Machine, PlaceError};
pub use saved::{LoadError, Section};
pub use storage::{IoError, Storage, StorageError};
pub use vcpu::{Exit, Vcpu};
pub use wakes::{AlarmTime, ArmedBy, WakeState};
