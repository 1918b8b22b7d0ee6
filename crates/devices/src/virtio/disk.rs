//! The block device (virtio specification 1.2, section 5.2): a disk.
//!
//! ```text
//!   driver ── pop, parse ──► outstanding ── submit ──► workers
//!      ▲                        │  ▲                      │
//!      └──── complete ◄─────────┘  └── Host::ended ◄──────┘  (error by policy: told to the machine)
//! ```
//!
//! Invariants:
//! * nothing waits for the host here: requests are handed to workers, and answered when they are done and the machine is
//!   live;
//! * what the guest sees does not change while the machine is held, so what is saved is simply what is outstanding: what
//!   was asked and not yet answered, in order;
//! * a request that failed under policy `stop` stays outstanding; all such are made again, in order, when the machine is
//!   live again;
//! * at most [`IN_FLIGHT`] requests of at most [`BYTES_IN_FLIGHT`] bytes in all are with the workers (or one that is
//!   larger), and at most as many outstanding as the queue has descriptors.

mod host;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use block::{Action, Disk, SECTOR};
use runstate::DeviceId;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use vmcore::{DevicePort, LoadError, Section, Storage};

use super::{Bell, Broken, Transport, VirtioDevice};
use host::Host;
use request::{Limits, Parsed, Request, SERIAL};

/// Queue size in descriptors, as QEMU's.
const QUEUE: u16 = 256;
/// Requests that are with the workers at once.
const IN_FLIGHT: usize = 16;
/// Bytes that they have in all.
const BYTES_IN_FLIGHT: u64 = 32 << 20;

/// Size of the configuration space in bytes, and where the parts of it are that are ours (section 5.2.4).
const CONFIG: usize = 60;
const CAPACITY: usize = 0;
const SIZE_MAX: usize = 8;
const SEG_MAX: usize = 12;
const BLK_SIZE: usize = 20;
const WRITEBACK: usize = 32;
const NUM_QUEUES: usize = 34;
const MAX_DISCARD_SECTORS: usize = 36;
const MAX_DISCARD_SEG: usize = 40;
const DISCARD_ALIGNMENT: usize = 44;
const MAX_WRITE_ZEROES_SECTORS: usize = 48;
const MAX_WRITE_ZEROES_SEG: usize = 52;
const WRITE_ZEROES_MAY_UNMAP: usize = 56;

/// What a disk device is made of.
pub struct BlockConfig {
    /// What is behind it.
    pub disk: Arc<Disk>,
    /// The number under which it holds the machine after an error.
    pub id: DeviceId,
    /// Its path in the object tree, for events.
    pub qom_path: String,
    /// What the guest reads as its serial number; the first 20 bytes count.
    pub serial: String,
    /// Where errors are told.
    pub port: Arc<dyn DevicePort>,
}

/// A request that the driver waits for.
struct Outstanding {
    request: Request,
    /// It is with the workers, or done there.
    submitted: bool,
}

/// The block device.
pub struct Block {
    host: Arc<Host>,
    features: u64,
    config: [u8; CONFIG],
    /// What the cache's mode is after a reset.
    writeback: u8,
    serial: [u8; SERIAL],
    outstanding: BTreeMap<u64, Outstanding>,
    /// Number of the next request.
    next: u64,
    /// The machine was held: what failed is made again.
    retry: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    writeback: u8,
    outstanding: Vec<Request>,
}

impl Block {
    const SECTION: &'static str = "virtio-blk";
    const VERSION: u32 = 1;

    /// A device for the disk of `config`.
    pub fn new(config: BlockConfig) -> Self {
        let node = config.disk.node();
        let bits = [
            VIRTIO_BLK_F_SIZE_MAX,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_CONFIG_WCE,
            VIRTIO_RING_F_INDIRECT_DESC,
        ];
        let more: &[u32] = match node.is_read_only() {
            true => &[VIRTIO_BLK_F_RO],
            false => &[VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES],
        };
        let features = bits.iter().chain(more).fold(0, |all, bit| all | 1_u64 << bit);
        let writeback = u8::from(config.disk.config().writeback);
        let mut serial = [0; SERIAL];
        serial.iter_mut().zip(config.serial.bytes()).for_each(|(to, from)| *to = from);
        Self {
            features,
            config: config_space(node.size() / SECTOR, writeback),
            writeback,
            serial,
            host: Host::new(config.disk, config.id, config.qom_path, config.port),
            outstanding: BTreeMap::new(),
            next: 0,
            retry: false,
        }
    }

    fn limits(&self) -> Limits<'_> {
        let node = self.host.disk.node();
        Limits { size: node.size(), read_only: node.is_read_only(), serial: &self.serial }
    }

    /// Whether each write is to be durable before it is answered (section 5.2.5.1): a driver without flushes relies on it.
    fn is_writethrough(&self, transport: &Transport<'_>) -> bool {
        let has = |bit: u32| transport.features() & 1 << bit != 0;
        !has(VIRTIO_BLK_F_FLUSH) || self.config.get(WRITEBACK) == Some(&0)
    }

    /// Takes requests out of the queue while there is room for them.
    fn begin(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        // A driver that adds more meanwhile notifies again.
        for _ in 0..QUEUE {
            if !self.has_room() {
                return Ok(());
            }
            let Some(chain) = transport.pop(0)? else { return Ok(()) };
            match request::parse(chain, transport.memory(), self.limits())? {
                Parsed::Ask(request) => self.ask(request, transport)?,
                Parsed::Answered { head, status, written, at, refused } => {
                    if let Some(kind) = refused {
                        self.host.disk.stats().refused(kind);
                    }
                    request::put_status(at, status, transport.memory())?;
                    transport.add_used(0, head, written + 1)?;
                }
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let submitted = self.outstanding.values().filter(|one| one.submitted);
        let bytes: u64 = submitted.map(|one| one.request.bytes()).sum();
        let few = self.outstanding.len() < usize::from(QUEUE);
        few && bytes < BYTES_IN_FLIGHT && self.host.room(IN_FLIGHT) > 0
    }

    fn ask(&mut self, request: Request, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let number = self.next;
        self.next += 1;
        self.outstanding.insert(number, Outstanding { request, submitted: false });
        self.submit(number, transport)
    }

    fn submit(&mut self, number: u64, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let durable = self.is_writethrough(transport);
        let Some(one) = self.outstanding.get_mut(&number) else { return Ok(()) };
        match one.request.operation(transport.memory(), durable) {
            Some(operation) => {
                one.submitted = true;
                self.host.submit(number, operation);
                Ok(())
            }
            // Checked when it was taken; RAM does not shrink. A loaded one was not.
            None => self.answer(number, request::IOERR, &[], transport),
        }
    }

    fn answer(
        &mut self,
        number: u64,
        status: u8,
        bytes: &[u8],
        transport: &mut Transport<'_>,
    ) -> Result<(), Broken> {
        let Some(Outstanding { request, .. }) = self.outstanding.remove(&number) else { return Ok(()) };
        let written = request.complete(status, bytes, transport.memory())?;
        transport.add_used(0, request.head, written)
    }

    /// Answers what the workers are done with.
    fn finish(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        for host::Ended { number, outcome, action } in self.host.take_ended() {
            match (outcome, action) {
                (Ok(bytes), _) => self.answer(number, request::OK, &bytes, transport)?,
                (Err(_), Action::Report) => self.answer(number, request::IOERR, &[], transport)?,
                (Err(_), Action::Ignore) => self.answer(number, request::OK, &[], transport)?,
                (Err(_), Action::Stop) => {
                    if let Some(one) = self.outstanding.get_mut(&number) {
                        one.submitted = false;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes what failed, or was loaded, again, in order.
    fn try_again(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        if !std::mem::take(&mut self.retry) {
            return Ok(());
        }
        let waiting: Vec<u64> =
            self.outstanding.iter().filter(|(_, one)| !one.submitted).map(|(number, _)| *number).collect();
        for number in waiting {
            let Some(one) = self.outstanding.get(&number) else { continue };
            if !transport.is_here(0, one.request.places())? {
                // In order: the others wait for this one.
                self.retry = true;
                break;
            }
            self.submit(number, transport)?;
        }
        Ok(())
    }

    fn checked(&self, section: &Section) -> Result<Saved, LoadError> {
        let saved: Saved = section.decode(Self::SECTION, Self::VERSION)?;
        let (limits, requests) = (self.limits(), &saved.outstanding);
        if requests.len() > usize::from(QUEUE)
            || !requests.iter().all(|request| request.is_valid(limits, QUEUE))
        {
            return Err(section.bad_value("request"));
        }
        if saved.writeback > 1 {
            return Err(section.bad_value("mode of the cache"));
        }
        Ok(saved)
    }

    /// The capacity is that of the image, which may have come back from another machine with another size. Returns whether
    /// it has changed.
    fn resize(&mut self) -> bool {
        let sectors = (self.host.disk.node().size() / SECTOR).to_le_bytes();
        let capacity = self.config.get_mut(CAPACITY..CAPACITY + sectors.len());
        capacity.is_some_and(|bytes| {
            let changed = *bytes != sectors;
            bytes.copy_from_slice(&sectors);
            changed
        })
    }

    fn forget(&mut self) {
        self.host.reset();
        self.outstanding.clear();
    }
}

/// The configuration space of a disk of `sectors` sectors.
fn config_space(sectors: u64, writeback: u8) -> [u8; CONFIG] {
    let mut config = [0; CONFIG];
    let mut put = |at: usize, bytes: &[u8]| {
        config.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(CAPACITY, &sectors.to_le_bytes());
    put(SIZE_MAX, &request::MAX_SEGMENT.to_le_bytes());
    put(SEG_MAX, &(request::MAX_SEGMENTS as u32).to_le_bytes());
    put(BLK_SIZE, &(SECTOR as u32).to_le_bytes());
    put(WRITEBACK, &[writeback]);
    put(NUM_QUEUES, &1_u16.to_le_bytes());
    for (at, value) in [
        (MAX_DISCARD_SECTORS, request::MAX_RANGE_SECTORS),
        (MAX_DISCARD_SEG, 1),
        (DISCARD_ALIGNMENT, 1),
        (MAX_WRITE_ZEROES_SECTORS, request::MAX_RANGE_SECTORS),
        (MAX_WRITE_ZEROES_SEG, 1),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(WRITE_ZEROES_MAY_UNMAP, &[1]);
    config
}

impl VirtioDevice for Block {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE]
    }

    fn plugged(&mut self, bell: Bell) {
        self.host.plugged(bell);
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    /// The mode of the cache is the driver's to choose (section 5.2.5.2).
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if let (WRITEBACK, [value]) = (offset, bytes)
            && let Some(mode) = self.config.get_mut(WRITEBACK)
        {
            *mode = value & 1;
        }
    }

    fn notified(&mut self, _index: usize, transport: &mut Transport<'_>) -> Result<(), Broken> {
        self.begin(transport)
    }

    fn rung(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        if self.resize() {
            transport.config_changed();
        }
        self.finish(transport)?;
        self.try_again(transport)?;
        if self.retry { Ok(()) } else { self.begin(transport) }
    }

    fn reset(&mut self) {
        self.forget();
        self.resize();
        self.retry = false;
        if let Some(mode) = self.config.get_mut(WRITEBACK) {
            *mode = self.writeback;
        }
    }

    /// What is with the workers ends there; [`Storage::flush`] waits for it.
    fn stop(&mut self) {}

    fn start(&mut self) {
        self.retry = true;
    }

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        Some(Arc::clone(&self.host) as _)
    }

    fn save(&self) -> Section {
        let saved = Saved {
            writeback: self.config.get(WRITEBACK).copied().unwrap_or_default(),
            outstanding: self.outstanding.values().map(|one| one.request.clone()).collect(),
        };
        Section::encode(Self::SECTION, Self::VERSION, &saved)
    }

    fn kind(&self) -> String {
        let node = self.host.disk.node();
        let how = if node.is_read_only() { "a read-only disk" } else { "a disk" };
        let serial = String::from_utf8_lossy(&self.serial);
        let serial = serial.trim_end_matches('\0');
        format!("{how} of {} sectors with serial number '{serial}'", node.size() / SECTOR)
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let Saved { writeback, outstanding } = self.checked(section)?;
        self.forget();
        for request in outstanding {
            self.outstanding.insert(self.next, Outstanding { request, submitted: false });
            self.next += 1;
        }
        if let Some(mode) = self.config.get_mut(WRITEBACK) {
            *mode = writeback;
        }
        Ok(())
    }
}
