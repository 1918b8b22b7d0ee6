//! The entropy device (virtio specification 1.2, section 5.4): fills the driver's buffers with random bytes.
//!
//! Invariant: a notification costs a bounded amount of work and no allocation, whatever chains the driver made.

use std::sync::Arc;

use ram::Memory;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vm_memory::Bytes;
use vmcore::{LoadError, Section};

use super::{Bell, Broken, Transport, VirtioDevice};

/// Queue size in descriptors.
const QUEUE: u16 = 8;
/// Bytes given for one buffer chain at most; the device may always give fewer than were asked for.
const BYTES_A_CHAIN: usize = 4096;
/// Descriptors of one chain that are looked at.
const DESCRIPTORS_A_CHAIN: usize = 64;

/// Name and version of the saved state, which is empty.
const SECTION: &str = "virtio-rng";
const VERSION: u32 = 1;

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

    fn plugged(&mut self, _bell: Bell) {}

    fn config(&self) -> &[u8] {
        &[]
    }

    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) {}

    fn notified(&mut self, index: usize, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let memory = transport.memory();
        // A driver that refills the queue meanwhile notifies again.
        for _ in 0..QUEUE {
            let Some(chain) = transport.pop(index)? else { break };
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
            transport.add_used(index, head, filled as u32)?;
        }
        Ok(())
    }

    fn rung(&mut self, _transport: &mut Transport<'_>) -> Result<(), Broken> {
        Ok(())
    }

    fn reset(&mut self) {}

    /// Nothing is in flight: the queue is served within the write that notifies.
    fn stop(&mut self) {}

    fn start(&mut self) {}

    fn save(&self) -> Section {
        Section::encode(SECTION, VERSION, &())
    }

    fn kind(&self) -> String {
        "an entropy device".to_owned()
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode(SECTION, VERSION)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.check(section)
    }
}
