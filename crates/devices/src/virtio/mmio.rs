//! Virtio over MMIO (virtio specification 1.2, section 4.2), version 2: no legacy interface.
//!
//! Invariants:
//! * the line is high while an interrupt is not acknowledged;
//! * a queue that the driver has set up wrongly never reaches the device: it needs a reset from then on (section 2.1.2);
//! * a slot without a device answers device id 0 and nothing else (section 4.2.2.2);
//! * a device that is broken, held or without a ready driver is not called but for the steps of the machine's life;
//! * a device that waits for memory is called again when some has come, or the machine is live again; that it waits is saved.

use std::sync::{Arc, Mutex};

use ram::Ram;
use runstate::{GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::*;
use virtio_queue::{Queue, QueueState, QueueT};
use vmcore::{AccessSize, Device, IrqLine, LoadError, Section, Storage};

use super::{Bell, Broken, Transport, VirtioDevice};
use crate::lock;

#[cfg(test)]
mod tests;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION_2: u32 = 2;
/// As QEMU's: drivers do not look at it.
const VENDOR: u32 = 0x554d_4551;
const VERSION_1_FEATURE: u64 = 1 << VIRTIO_F_VERSION_1;

/// What is saved of a queue: [`QueueState`], which has no encoding of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct SavedQueue {
    next_avail: u16,
    next_used: u16,
    size: u16,
    ready: bool,
    desc_table: u64,
    avail_ring: u64,
    used_ring: u64,
}

/// The transport's registers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Registers {
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    interrupt_status: u32,
    status: u32,
    config_generation: u32,
}

/// [`Section`], which has no encoding of its own.
#[derive(Serialize, Deserialize)]
struct SavedDevice {
    name: String,
    version: u32,
    data: Vec<u8>,
}

/// The first version. What waits for memory goes behind it as version 2, which nothing but an unfinished postcopy makes.
#[derive(Serialize, Deserialize)]
struct Saved {
    device_id: u32,
    registers: Registers,
    queues: Vec<SavedQueue>,
    device: Option<SavedDevice>,
}

/// What the machine and the [`Bell`]s have of a slot.
pub(super) struct Shared {
    irq: IrqLine,
    ram: Arc<Ram>,
    inner: Mutex<Inner>,
}

struct Inner {
    device: Option<Box<dyn VirtioDevice>>,
    registers: Registers,
    queues: Vec<Queue>,
    /// Queues that are to be served once memory has come, a bit each.
    waits: u64,
    held: bool,
}

/// One slot of the transport. See the module's documentation.
pub struct MmioSlot {
    name: String,
    shared: Arc<Shared>,
}

impl MmioSlot {
    /// Size of the register window in bytes, device configuration included.
    pub const WINDOW: u64 = 0x1000;
    const VERSION: u32 = 1;
    const WAITING: u32 = 2;

    /// A slot on line `irq` with `device` in it, which works on `ram`.
    pub fn new(name: &str, irq: IrqLine, ram: Arc<Ram>, device: Option<Box<dyn VirtioDevice>>) -> Self {
        let sizes = device.as_ref().map_or(&[][..], |device| device.queue_sizes());
        // A size that is no power of two is a mistake of the device's author; the driver then finds a queue fewer.
        let queues = sizes.iter().filter_map(|size| Queue::new(*size).ok()).collect();
        let inner =
            Mutex::new(Inner { device, registers: Registers::default(), queues, waits: 0, held: false });
        let shared = Arc::new(Shared { irq, ram, inner });
        if let Some(device) = &mut lock(&shared.inner).device {
            device.plugged(Bell::new(Arc::downgrade(&shared)));
        }
        let slot = Arc::downgrade(&shared);
        shared.ram.on_arrival(move || {
            if let Some(slot) = slot.upgrade() {
                slot.arrived();
            }
        });
        Self { name: name.to_owned(), shared }
    }
}

/// A saved state that is in order.
struct Checked {
    registers: Registers,
    queues: Vec<Queue>,
    device: Option<Section>,
    waits: u64,
}

impl MmioSlot {
    fn checked(&self, section: &Section, inner: &Inner) -> Result<Checked, LoadError> {
        let (saved, waits): (Saved, u64) = match section.version {
            Self::WAITING => section.decode(&self.name, Self::WAITING)?,
            _ => (section.decode(&self.name, Self::VERSION)?, 0),
        };
        let check = |ok: bool, what| if ok { Ok(()) } else { Err(section.bad_value(what)) };
        check(saved.device_id == inner.device_id(), "device id")?;
        check(saved.registers.status & !0xff == 0, "device status")?;
        check(
            saved.registers.interrupt_status & !(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG) == 0,
            "interrupt status",
        )?;
        let accepted = saved.registers.status & VIRTIO_CONFIG_S_FEATURES_OK != 0;
        check(!accepted || saved.registers.driver_features & !inner.features() == 0, "driver features")?;
        check(saved.queues.len() == inner.queues.len(), "number of queues")?;
        check(waits.checked_shr(inner.queues.len() as u32).unwrap_or(0) == 0, "queues that wait")?;
        let queues: Result<Vec<_>, _> = saved
            .queues
            .iter()
            .zip(&inner.queues)
            .map(|(saved, queue)| load_queue(saved, queue.max_size()))
            .collect();
        let queues = queues.map_err(|_| section.bad_value("queue"))?;
        let device = saved.device.map(|SavedDevice { name, version, data }| Section { name, version, data });
        match (&inner.device, &device) {
            (Some(device), Some(section)) => device.check(section)?,
            (None, None) => {}
            _ => return Err(section.bad_value("device")),
        }
        Ok(Checked { registers: saved.registers, queues, device, waits })
    }
}

impl Shared {
    fn drive(&self, inner: &Inner) {
        self.irq.set(inner.registers.interrupt_status != 0);
    }

    /// The bell of the device was rung.
    pub(super) fn rung(&self) {
        let mut inner = lock(&self.inner);
        self.serve(&mut inner, |device, transport| device.rung(transport));
        self.drive(&inner);
    }

    /// Memory has come.
    fn arrived(&self) {
        let mut inner = lock(&self.inner);
        self.serve_waiting(&mut inner);
        self.drive(&inner);
    }

    /// Has a device that waited for memory try again.
    fn serve_waiting(&self, inner: &mut Inner) {
        if inner.held || inner.waits == 0 {
            return;
        }
        let waits = std::mem::take(&mut inner.waits);
        for index in (0..inner.queues.len()).filter(|index| waits >> index & 1 != 0) {
            self.serve(inner, |device, transport| device.notified(index, transport));
        }
        self.serve(inner, |device, transport| device.rung(transport));
    }

    /// Has the device work on its queues, if the driver and the machine let it.
    fn serve(
        &self,
        inner: &mut Inner,
        work: impl FnOnce(&mut dyn VirtioDevice, &mut Transport<'_>) -> Result<(), Broken>,
    ) {
        let Inner { device: Some(device), registers, queues, waits, held: false } = inner else { return };
        let status = &mut registers.status;
        if *status & VIRTIO_CONFIG_S_DRIVER_OK == 0 || *status & VIRTIO_CONFIG_S_NEEDS_RESET != 0 {
            return;
        }
        let accepted = if *status & VIRTIO_CONFIG_S_FEATURES_OK != 0 { registers.driver_features } else { 0 };
        let mut transport = Transport::new(queues, self.ram.memory(), accepted);
        let outcome = work(&mut **device, &mut transport);
        let (used, mut changed) = transport.outcome();
        *waits |= transport.waits();
        if let Err(error) = outcome {
            tracing::debug!(%error, "a driver has broken its virtio device");
            *status |= VIRTIO_CONFIG_S_NEEDS_RESET;
            changed = true;
        }
        if used {
            registers.interrupt_status |= VIRTIO_MMIO_INT_VRING;
        }
        if changed {
            registers.config_generation = registers.config_generation.wrapping_add(1);
            registers.interrupt_status |= VIRTIO_MMIO_INT_CONFIG;
        }
    }

    fn notify(&self, inner: &mut Inner, index: u32) {
        let index = index as usize;
        if index < inner.queues.len() {
            self.serve(inner, |device, transport| device.notified(index, transport));
        }
    }

    fn set_status(&self, inner: &mut Inner, value: u32) {
        let before = inner.registers.status;
        inner.set_status(value);
        if !before & inner.registers.status & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            self.serve(inner, |device, transport| device.rung(transport));
        }
    }
}

impl Inner {
    fn device_id(&self) -> u32 {
        self.device.as_ref().map_or(0, |device| device.device_id())
    }

    fn features(&self) -> u64 {
        self.device.as_ref().map_or(0, |device| device.features() | VERSION_1_FEATURE)
    }

    fn reset(&mut self) {
        self.registers = Registers::default();
        self.queues.iter_mut().for_each(Queue::reset);
        self.waits = 0;
        if let Some(device) = &mut self.device {
            device.reset();
        }
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(self.registers.queue_sel as usize)
    }

    fn register(&self, offset: u32) -> u32 {
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION_2,
            VIRTIO_MMIO_DEVICE_ID => self.device_id(),
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            _ if self.device.is_none() => 0,
            VIRTIO_MMIO_DEVICE_FEATURES => half(self.features(), self.registers.device_features_sel),
            VIRTIO_MMIO_QUEUE_NUM_MAX => self.selected().map_or(0, |queue| u32::from(queue.max_size())),
            VIRTIO_MMIO_QUEUE_READY => self.selected().map_or(0, |queue| u32::from(queue.ready())),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.registers.interrupt_status,
            VIRTIO_MMIO_STATUS => self.registers.status,
            VIRTIO_MMIO_CONFIG_GENERATION => self.registers.config_generation,
            // No shared memory regions: their length and address read as all ones (section 4.2.2).
            VIRTIO_MMIO_SHM_LEN_LOW..=VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    /// All but QueueNotify and Status.
    fn set_register(&mut self, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.registers.device_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.set_driver_features(value),
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.registers.driver_features_sel = value,
            VIRTIO_MMIO_QUEUE_SEL => self.registers.queue_sel = value,
            VIRTIO_MMIO_INTERRUPT_ACK => self.registers.interrupt_status &= !value,
            _ => self.set_queue_register(offset, value),
        }
    }

    fn set_driver_features(&mut self, value: u32) {
        // Fixed once the device has accepted them.
        if self.registers.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        let shift = match self.registers.driver_features_sel {
            0 => 0,
            1 => 32,
            _ => return,
        };
        let others = self.registers.driver_features & !(0xffff_ffff << shift);
        self.registers.driver_features = others | u64::from(value) << shift;
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.reset();
            return;
        }
        // The driver only adds bits, and none that are the device's to set.
        let mut added = value & 0xff & !VIRTIO_CONFIG_S_NEEDS_RESET;
        if !self.features_acceptable() {
            added &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        self.registers.status |= added;
    }

    fn features_acceptable(&self) -> bool {
        let wanted = self.registers.driver_features;
        wanted & !self.features() == 0 && wanted & VERSION_1_FEATURE != 0
    }

    fn set_queue_register(&mut self, offset: u32, value: u32) {
        let Some(queue) = self.queues.get_mut(self.registers.queue_sel as usize) else { return };
        if offset == VIRTIO_MMIO_QUEUE_READY {
            queue.set_ready(value & 1 != 0);
            return;
        }
        // A queue in use is not changed under the device (section 4.2.2.2).
        if queue.ready() {
            return;
        }
        let (low, high) = (Some(value), None);
        match offset {
            VIRTIO_MMIO_QUEUE_NUM => {
                // A refused size leaves the one before.
                let _ = u16::try_from(value).map(|size| queue.try_set_size(size));
            }
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_desc_table_address(low, high),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.set_desc_table_address(high, low),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.set_avail_ring_address(low, high),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.set_avail_ring_address(high, low),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used_ring_address(low, high),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used_ring_address(high, low),
            _ => {}
        }
    }
}

/// The lower (0) or upper (1) half of `value`; other selections read 0.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn save_queue(queue: &Queue) -> SavedQueue {
    let QueueState { next_avail, next_used, size, ready, desc_table, avail_ring, used_ring, .. } =
        queue.state();
    SavedQueue { next_avail, next_used, size, ready, desc_table, avail_ring, used_ring }
}

fn load_queue(saved: &SavedQueue, max_size: u16) -> Result<Queue, virtio_queue::Error> {
    let SavedQueue { next_avail, next_used, size, ready, desc_table, avail_ring, used_ring } = *saved;
    Queue::try_from(QueueState {
        max_size,
        next_avail,
        next_used,
        event_idx_enabled: false,
        size,
        ready,
        desc_table,
        avail_ring,
        used_ring,
    })
}

impl Device for MmioSlot {
    fn name(&self) -> &str {
        &self.name
    }

    /// Registers take 32-bit accesses (section 4.2.2.2), others read 0; the configuration space takes up to 32 bits.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        let inner = lock(&self.shared.inner);
        match (offset.checked_sub(VIRTIO_MMIO_CONFIG), &inner.device) {
            (None, _) if size == AccessSize::Word => u64::from(inner.register(offset)),
            (Some(offset), Some(device)) if size != AccessSize::Double => {
                let space = device.config().get(offset as usize..).unwrap_or_default();
                let mut bytes = [0; 8];
                bytes.iter_mut().zip(space).take(size.bytes() as usize).for_each(|(to, from)| *to = *from);
                u64::from_le_bytes(bytes)
            }
            _ => 0,
        }
    }

    /// Registers take 32-bit accesses (section 4.2.2.2), others are ignored; the configuration space takes up to 32 bits.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        let inner = &mut *lock(&self.shared.inner);
        let (Ok(offset), Some(device)) = (u32::try_from(offset), &mut inner.device) else { return None };
        match offset.checked_sub(VIRTIO_MMIO_CONFIG) {
            Some(offset) if size != AccessSize::Double => {
                let bytes = value.to_le_bytes();
                device.write_config(offset as usize, bytes.split_at(size.bytes() as usize).0);
            }
            None if size == AccessSize::Word => match offset {
                VIRTIO_MMIO_QUEUE_NOTIFY => self.shared.notify(inner, value as u32),
                VIRTIO_MMIO_STATUS => self.shared.set_status(inner, value as u32),
                _ => inner.set_register(offset, value as u32),
            },
            _ => {}
        }
        self.shared.drive(inner);
        None
    }

    fn reset(&self) {
        let mut inner = lock(&self.shared.inner);
        inner.reset();
        self.shared.drive(&inner);
    }

    fn stop(&self) {
        let mut inner = lock(&self.shared.inner);
        inner.held = true;
        if let Some(device) = &mut inner.device {
            device.stop();
        }
    }

    fn start(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.shared.inner);
        if !std::mem::replace(&mut inner.held, false) {
            return None;
        }
        if let Some(device) = &mut inner.device {
            device.start();
        }
        self.shared.serve(&mut inner, |device, transport| device.rung(transport));
        self.shared.serve_waiting(&mut inner);
        self.shared.drive(&inner);
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        lock(&self.shared.inner).device.as_ref()?.storage()
    }

    fn save(&self) -> Section {
        let inner = lock(&self.shared.inner);
        let saved = Saved {
            device_id: inner.device_id(),
            registers: inner.registers,
            queues: inner.queues.iter().map(save_queue).collect(),
            device: inner.device.as_ref().map(|device| {
                let Section { name, version, data } = device.save();
                SavedDevice { name, version, data }
            }),
        };
        match inner.waits {
            0 => Section::encode(&self.name, Self::VERSION, &saved),
            waits => Section::encode(&self.name, Self::WAITING, &(saved, waits)),
        }
    }

    fn kind(&self) -> String {
        let inner = lock(&self.shared.inner);
        inner.device.as_ref().map_or_else(String::new, |device| device.kind())
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section, &lock(&self.shared.inner)).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let inner = &mut *lock(&self.shared.inner);
        let Checked { registers, queues, device, waits } = self.checked(section, inner)?;
        if let (Some(device), Some(section)) = (&mut inner.device, device) {
            device.load(&section)?;
        }
        inner.queues = queues;
        inner.registers = registers;
        inner.waits = waits;
        self.shared.drive(inner);
        Ok(())
    }
}
