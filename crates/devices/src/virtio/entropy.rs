//! The entropy device (virtio specification 1.2, section 5.4): fills the driver's buffers with random bytes.
//!
//! Invariant: a notification costs a bounded amount of work and no allocation, whatever chains the driver made.

use std::sync::Arc;

use ram::Memory;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::Bytes;

use super::VirtioDevice;

/// Queue size in descriptors.
const QUEUE: u16 = 8;
/// Bytes given for one buffer chain at most; the device may always give fewer than were asked for.
const BYTES_A_CHAIN: usize = 4096;
/// Descriptors of one chain that are looked at.
const DESCRIPTORS_A_CHAIN: usize = 64;

/// Where random bytes come from. Never blocks.
pub trait EntropySource: Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The entropy device.
pub struct Entropy {
    source: Arc<dyn EntropySource>,
}

impl Entropy {
    /// A device that gives bytes of `source`.
    pub fn new(source: Arc<dyn EntropySource>) -> Self {
        Self { source }
    }

    /// Fills up to `len` bytes at `addr`; gives how many were written before the first that is not in RAM.
    fn fill(&self, memory: &Memory, mut addr: vm_memory::GuestAddress, len: usize) -> usize {
        let mut bytes = [0; 256];
        let mut filled = 0;
        while filled < len {
            let Some(chunk) = bytes.get_mut(..(len - filled).min(256)) else { break };
            self.source.fill(chunk);
            let Ok(()) = memory.write_slice(chunk, addr) else { break };
            filled += chunk.len();
            let Some(next) = addr.0.checked_add(chunk.len() as u64) else { break };
            addr.0 = next;
        }
        filled
    }
}

impl VirtioDevice for Entropy {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE]
    }

    fn notified(
        &mut self,
        _index: usize,
        queue: &mut Queue,
        memory: &Memory,
    ) -> Result<bool, virtio_queue::Error> {
        let mut used = false;
        // A driver that refills the queue meanwhile notifies again.
        for _ in 0..queue.size() {
            let Some(chain) = queue.iter(memory)?.next() else { break };
            let head = chain.head_index();
            let mut filled = 0;
            for descriptor in chain.take(DESCRIPTORS_A_CHAIN).filter(|buffer| buffer.is_write_only()) {
                let len = (descriptor.len() as usize).min(BYTES_A_CHAIN - filled);
                let here = self.fill(memory, descriptor.addr(), len);
                filled += here;
                if here < len || filled == BYTES_A_CHAIN {
                    break;
                }
            }
            queue.add_used(memory, head, filled as u32)?;
            used = true;
        }
        Ok(used && queue.needs_notification(memory)?)
    }
}
