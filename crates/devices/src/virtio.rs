//! Virtio devices behind the memory-mapped transport.
//!
//! [`MmioSlot`] is the transport and the [`Device`](vmcore::Device) that the board sees; what is plugged into it is a
//! [`VirtioDevice`]. A slot may be empty.
//!
//! ```text
//!   hart ──► MmioSlot ── notified, configuration ──► VirtioDevice ──► Transport: queues, interrupts
//!   back end's thread ── Bell::ring ── rung ────────────┘
//! ```
//!
//! Invariants:
//! * while the machine is held no device is given a [`Transport`], so nothing that the driver could see changes;
//! * nobody is kept waiting for memory that is still on its way from another host: a chain whose memory is not here is not
//!   there yet ([`Transport::pop`]), and the device is called again when it is.

mod console;
mod disk;
mod entropy;
mod input;
mod mmio;
mod presence;
mod transport;

pub use console::{Console, ConsoleError, PortBackend, PortConfig, PortLine, PortWatcher};
pub use disk::{Block, BlockConfig};
pub use entropy::{Entropy, EntropySource};
pub use input::{Input, KEY_POWER, Press};
pub use mmio::MmioSlot;
pub use transport::{Bell, Chain, Transport};

use std::sync::Arc;

use vmcore::{LoadError, Section, Storage};

/// Why a device cannot go on until its driver resets it.
pub type Broken = virtio_queue::Error;

/// A virtio device as its transport drives it. Called with the transport's lock held: it never blocks.
///
/// An error breaks the device: it is not called again until the driver resets it (section 2.1.1, `DEVICE_NEEDS_RESET`).
pub trait VirtioDevice: Send {
    /// Device id, virtio specification section 5.
    fn device_id(&self) -> u32;

    /// Feature bits offered, without `VIRTIO_F_VERSION_1`, which the transport always offers.
    fn features(&self) -> u64;

    /// Largest size of each queue in descriptors, each a power of two.
    fn queue_sizes(&self) -> &[u16];

    /// The device is in a slot. Called once, before everything else. A device that has something for its driver outside
    /// of the driver's own accesses keeps the bell.
    fn plugged(&mut self, bell: Bell);

    /// The configuration space, little-endian, as far as the device has one; what is behind it reads as 0.
    fn config(&self) -> &[u8];

    /// Writes the configuration space at `offset`, one to four bytes. What cannot be written ignores it.
    fn write_config(&mut self, offset: usize, bytes: &[u8]);

    /// The driver has put buffers into queue `index`, which may be any that the device has.
    fn notified(&mut self, index: usize, transport: &mut Transport<'_>) -> Result<(), Broken>;

    /// The bell was rung, perhaps often since the last time. Called too when the driver has become ready, and when the
    /// machine is live again; never while it is held or the driver is not ready.
    fn rung(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken>;

    /// The driver or the machine has reset the device: what the driver asked for before has no effect that it could see.
    fn reset(&mut self);

    /// The machine is held from now on. Idempotent.
    fn stop(&mut self);

    /// The machine is live again. Idempotent; if the driver is ready, [`VirtioDevice::rung`] follows.
    fn start(&mut self);

    /// The host's side of a device that keeps data.
    fn storage(&self) -> Option<Arc<dyn Storage>> {
        None
    }

    /// What has to be saved of the device apart from its transport.
    fn save(&self) -> Section;

    /// What the driver finds here beside the device's id: its capacity, its ports. Fixed when the device is made.
    fn kind(&self) -> String;

    /// Judges a saved state completely, by the section and by what is fixed when the device is made alone.
    fn check(&self, section: &Section) -> Result<(), LoadError>;

    /// Replaces the state by a saved one, each value checked like guest input. A refusal leaves the device as it was.
    fn load(&mut self, section: &Section) -> Result<(), LoadError>;
}
