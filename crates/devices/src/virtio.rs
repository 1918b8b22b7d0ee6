//! Virtio devices behind the memory-mapped transport.
//!
//! [`MmioSlot`] is the transport and the [`Device`](vmcore::Device) that the board sees; what is plugged into it is a
//! [`VirtioDevice`]. A slot may be empty.

mod entropy;
mod mmio;

pub use entropy::{Entropy, EntropySource};
pub use mmio::MmioSlot;

use ram::Memory;
use virtio_queue::Queue;

/// A virtio device as its transport drives it. Called with the transport's lock held: it never blocks.
pub trait VirtioDevice: Send {
    /// Device id, virtio specification section 5.
    fn device_id(&self) -> u32;

    /// Feature bits offered, without `VIRTIO_F_VERSION_1`, which the transport always offers.
    fn features(&self) -> u64;

    /// Largest size of each queue in descriptors, each a power of two.
    fn queue_sizes(&self) -> &[u16];

    /// The driver has put buffers into queue `index`, which is ready and inside RAM. Returns whether the driver is to be
    /// interrupted. An error breaks the device until the driver resets it.
    fn notified(
        &mut self,
        index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<bool, virtio_queue::Error>;
}
