//! What a device may touch of its transport, and how it is called from outside of the driver's accesses.

use std::sync::Weak;

use ram::Memory;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

use super::mmio::Shared;
use super::{Broken, presence};

/// A chain of buffers that the driver has made available.
pub type Chain<'a> = DescriptorChain<&'a Memory>;

/// The driver's queues and interrupts, for a device while it is called.
pub struct Transport<'a> {
    queues: &'a mut [Queue],
    memory: &'a Memory,
    features: u64,
    interrupt: bool,
    config_changed: bool,
    /// Queues whose device waits for memory, a bit each.
    waits: u64,
}

impl<'a> Transport<'a> {
    pub(super) fn new(queues: &'a mut [Queue], memory: &'a Memory, features: u64) -> Self {
        Self { queues, memory, features, interrupt: false, config_changed: false, waits: 0 }
    }

    /// Guest memory.
    pub fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The features that the driver has accepted.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Takes the next chain of buffers out of queue `index`; none if there is none, or the driver does not use the queue. One
    /// whose memory is still on its way is not there yet: the device is notified once more when it has come.
    pub fn pop(&mut self, index: usize) -> Result<Option<Chain<'a>>, Broken> {
        let memory = self.memory;
        match self.ready(index)? {
            Some(queue) if presence::next_is_here(queue, memory) => Ok(queue.iter(memory)?.next()),
            Some(_) => {
                self.waits |= 1 << index;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Whether what the device needs for a chain of queue `index` is here, its buffers at `places` and the rings: for one
    /// that was taken out of the queue where the machine was before. If not the device is notified, and rung, when it is.
    pub fn is_here(
        &mut self,
        index: usize,
        mut places: impl Iterator<Item = (u64, u32)>,
    ) -> Result<bool, Broken> {
        let memory = self.memory;
        let Some(queue) = self.ready(index)? else { return Ok(true) };
        let here = presence::rings_are_here(queue, memory)
            && places.all(|(at, len)| memory.is_here(at, len as usize));
        if !here {
            self.waits |= 1 << index;
        }
        Ok(here)
    }

    /// Puts the chain that was last taken out of queue `index` back: the next [`Transport::pop`] gives it again.
    pub fn unpop(&mut self, index: usize) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.set_next_avail(queue.next_avail().wrapping_sub(1));
        }
    }

    /// Gives the chain that begins with descriptor `head` back, `len` bytes of it written, and interrupts the driver.
    pub fn add_used(&mut self, index: usize, head: u16, len: u32) -> Result<(), Broken> {
        let memory = self.memory;
        if let Some(queue) = self.ready(index)? {
            queue.add_used(memory, head, len)?;
            self.interrupt |= queue.needs_notification(memory)?;
        }
        Ok(())
    }

    /// The configuration space has changed: tells the driver.
    pub fn config_changed(&mut self) {
        self.config_changed = true;
    }

    /// Queue `index` if the driver uses it. One that it has set up wrongly breaks the device.
    fn ready(&mut self, index: usize) -> Result<Option<&mut Queue>, Broken> {
        match self.queues.get_mut(index) {
            Some(queue) if queue.ready() => {
                if queue.is_valid(self.memory) {
                    Ok(Some(queue))
                } else {
                    Err(Broken::QueueNotReady)
                }
            }
            _ => Ok(None),
        }
    }

    /// Queues whose device waits for memory, a bit each.
    pub(super) fn waits(&self) -> u64 {
        self.waits
    }

    /// Whether the driver is to be interrupted for its queues, and for its configuration.
    pub(super) fn outcome(&self) -> (bool, bool) {
        (self.interrupt, self.config_changed)
    }
}

/// Has a device called when something outside of the driver's accesses has something for it: a thread of its back end,
/// an operator. Never rung from within a call of the device, whose lock it takes.
#[derive(Clone, Default)]
pub struct Bell {
    slot: Weak<Shared>,
}

impl Bell {
    pub(super) fn new(slot: Weak<Shared>) -> Self {
        Self { slot }
    }

    /// Has the device's [`rung`](super::VirtioDevice::rung) called, on this thread: now, or when the machine is live and
    /// the driver ready.
    pub fn ring(&self) {
        if let Some(slot) = self.slot.upgrade() {
            slot.rung();
        }
    }
}
