//! Guest memory: one region of RAM, mapped from the host, and what is known about its pages and chunks.
//!
//! Two kinds of user meet here. Devices go through [`Ram::read`], [`Ram::write`] or the [`vm_memory`] traits, which
//! copy and check every range. Harts take a host address for a whole page once ([`Ram::open_read`], [`Ram::open_write`])
//! and keep it in their translation caches; a checked accessor for each load would cost several times the load itself.
//! Nobody gets at a byte without having opened its page first, and that is where everything is hooked in:
//!
//! ```text
//!   hart fills an entry, walks, fetches ─► open ──┐    absent?  ─► claim the chunk, ChunkSource::fill
//!                                                 ├──► unsaved? ─► claim the chunk, ChunkSink::save    (for a write)
//!   device's range (vm-memory) ──────────► open ──┘    log on?  ─► note the page as dirty              (a hart's write)
//!
//!   device has written ──► note the pages: dirty if a log is on, CodeMap::written
//!   hart fills a write entry ──► CodeMap::written ─► generation + 1, page no longer "code"
//!   hart decodes a page ──► CodeMap::decoded ─► generation that the decoded form belongs to
//! ```
//!
//! With nothing on, opening costs a load of one word, and for a write one more: chunks that were never opened for one are
//! known to be zero, and nobody looks at them to find out. To switch something on, the harts' entries from before have to go:
//! whoever calls [`Ram::start_log`], [`DirtyLog::take`], [`Ram::begin_save`] or [`Ram::replace`] says how.
//!
//! Invariants:
//! * guest memory is untrusted and shared: nothing here hands out a Rust reference into it;
//! * a range is inside RAM or the access fails whole, nothing is half-done;
//! * whoever writes a page that is marked as code ends its generation, so that decoded forms made before are known
//!   to be stale. Harts compare generations when they next fetch after `fence.i` (Zifencei asks for no more);
//! * an error of the host's memory under RAM ends no process: the page is lost, which is told ([`Ram::on_host_error`]);
//! * an absent chunk is zero and untouched until one thread has filled it, or mapped from a file and untouched until one
//!   thread has had it judged; the others that need it wait for it, and for no other. If it cannot be had the access does
//!   not happen;
//! * only harts wait for another host, each outside of every device and for some milliseconds at a time: devices are told what
//!   is [not here](Memory::is_here) before they begin, and an access that comes upon it all the same fails;
//! * a chunk that is to be saved is written by nobody before it is saved;
//! * a hart notes a page as dirty before it stores, and its stores are over when it has served a fence; a device notes it
//!   after it has written. So one who takes a log, fences, and then reads the pages misses nothing: what he does not see is
//!   in the next log.

#![deny(unsafe_code)]

mod bits;
mod claims;
mod code;
mod error;
mod fill;
mod host;
mod log;
mod mapping;
mod memory;
mod save;
mod set;
mod shared;
mod sync;
mod tracking;

pub use code::{CodeMap, Generation};
pub use error::{FillError, MemoryLost, OpenError, RamError};
pub use fill::ChunkSource;
pub use log::{DirtyLog, LogsInUse};
pub use memory::{Memory, Writes};
pub use save::{ChunkSink, Save, SaveInUse};
pub use set::{PageSet, Portion};
pub use shared::FileRun;

use std::sync::Arc;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

use mapping::Mapping;
use memory::{Regions, Use, Waits};
use sync::lock;
use sys::memory::Watched;
use tracking::Tracking;

/// Bytes in a page, the unit of translation, of decoded code and of dirty logs.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes in a chunk, the unit in which memory is filled and saved. The last chunk may have less.
pub const CHUNK_SIZE: usize = 64 << 10;

/// Pages in a chunk.
pub const PAGES_PER_CHUNK: usize = CHUNK_SIZE / PAGE_SIZE as usize;

/// Most pages of a RAM: 8 TiB.
const MAX_PAGES: u64 = 1 << 31;

/// One region of guest RAM. Shared by harts, devices and the loader.
#[derive(Debug)]
pub struct Ram {
    /// Before the mapping, so that it is dropped before.
    watched: Watched,
    memory: Memory,
    base: u64,
    size: u64,
}

impl Ram {
    /// Maps `size` bytes of zeroed memory at guest physical address `base`. The host commits pages as they are touched.
    pub fn new(base: u64, size: u64) -> Result<Self, RamError> {
        let bad = RamError::BadSize { base, size };
        let pages = size / PAGE_SIZE;
        let (Ok(len), Ok(count)) = (usize::try_from(size), usize::try_from(pages)) else { return Err(bad) };
        if size == 0
            || !size.is_multiple_of(PAGE_SIZE)
            || !base.is_multiple_of(PAGE_SIZE)
            || base.checked_add(size).is_none()
        {
            return Err(bad);
        }
        if pages > MAX_PAGES {
            return Err(RamError::TooLarge { size });
        }
        let map_error = |source: Box<dyn std::error::Error + Send + Sync>| RamError::Map { size, source };
        let tracking = Arc::new(Tracking::new(count).map_err(|error| map_error(Box::new(error)))?);
        let region = MmapRegionBuilder::new_with_bitmap(len, Writes::new(Arc::clone(&tracking)))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .build()
            .map_err(|error| map_error(Box::new(error)))?;
        let region = GuestRegionMmap::new(region, GuestAddress(base)).ok_or(bad)?;
        let at =
            region.get_host_address(MemoryRegionAddress(0)).map_err(|error| map_error(Box::new(error)))?;
        let regions = Regions::from_regions(vec![region]).map_err(|error| map_error(Box::new(error)))?;
        // SAFETY: `len` bytes that were mapped so above; the regions, which are kept beside it, keep them mapped.
        #[allow(unsafe_code)]
        let mapping = unsafe { Mapping::new(at, len) };
        // SAFETY: the same bytes; no reference but to atomics is made into them, and the regions are dropped after `watched`.
        #[allow(unsafe_code)]
        let watched = unsafe { Watched::new(at, len) }.map_err(|error| map_error(Box::new(error)))?;
        Ok(Self { watched, memory: Memory { regions, mapping, base, tracking }, base, size })
    }

    /// First guest physical address.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether `len` bytes at `addr` are all inside RAM.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        addr >= self.base && addr - self.base <= self.size && len <= self.size - (addr - self.base)
    }

    /// The view for `vm_memory` users.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Which pages hold decoded code.
    pub fn code(&self) -> &CodeMap {
        &self.memory.tracking.code
    }

    /// Number of the page (from the start of RAM) that holds guest physical address `addr`.
    pub fn page_index(&self, addr: u64) -> Option<usize> {
        self.contains(addr, 1).then(|| ((addr - self.base) / PAGE_SIZE) as usize)
    }

    /// Makes the page that holds guest physical address `addr` ready to be read, and returns its host address: valid for
    /// [`PAGE_SIZE`] bytes for as long as this `Ram` lives, and to be read until the harts are asked to drop
    /// [what they have cached of memory](Ram::replace). Others may read and write the page at any time: only atomic or
    /// volatile accesses will do.
    #[inline]
    pub fn open_read(&self, addr: u64) -> Result<*mut u8, OpenError> {
        self.open(addr, Use::Read)
    }

    /// Makes the page ready to be written as well, by a hart that stores no later than it serves the next fence of
    /// its write entries. Who writes calls [`CodeMap::written`] first. Otherwise as [`Ram::open_read`].
    #[inline]
    pub fn open_write(&self, addr: u64) -> Result<*mut u8, OpenError> {
        self.open(addr, Use::Write)
    }

    /// Where guest physical address `addr` is in this process, to tell places apart: nothing is made ready for an access.
    pub fn host_address(&self, addr: u64) -> Option<usize> {
        if !self.contains(addr, 1) {
            return None;
        }
        self.memory.mapping.host((addr - self.base) as usize).map(|at| at.addr())
    }

    #[inline]
    fn open(&self, addr: u64, access: Use) -> Result<*mut u8, OpenError> {
        let page = self.page_index(addr).ok_or(OpenError::Outside)?;
        self.memory.open(page, access)?;
        self.memory.mapping.host(page * PAGE_SIZE as usize).ok_or(OpenError::Outside)
    }

    /// Copies guest memory at `addr` into `bytes`. For anybody but a hart's own accesses. What comes from
    /// [another host](ChunkSource::is_far) may be [`RamError::Delayed`], some milliseconds later.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> Result<(), RamError> {
        self.check(addr, bytes.len())?;
        self.made_ready(self.memory.open_range(addr, bytes.len(), Use::Read, Waits::AWhile), addr)?;
        self.memory.regions.read_slice(bytes, GuestAddress(addr)).map_err(|_| out_of_range(addr, bytes.len()))
    }

    /// Copies `bytes` into guest memory at `addr`, as [`Ram::read`] reads.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), RamError> {
        self.check(addr, bytes.len())?;
        self.made_ready(self.memory.open_range(addr, bytes.len(), Use::Write, Waits::AWhile), addr)?;
        self.memory
            .regions
            .write_slice(bytes, GuestAddress(addr))
            .map_err(|_| out_of_range(addr, bytes.len()))
    }

    fn check(&self, addr: u64, len: usize) -> Result<(), RamError> {
        if self.contains(addr, len as u64) { Ok(()) } else { Err(out_of_range(addr, len)) }
    }

    fn made_ready(&self, made: Result<(), OpenError>, addr: u64) -> Result<(), RamError> {
        made.map_err(|error| match error {
            OpenError::Interrupted | OpenError::Outside => RamError::Delayed { addr },
            OpenError::Lost(loss) => loss.into(),
        })
    }

    // ---- content that comes later ----

    /// Has `watcher` called, on a thread that holds nothing, when some of the content has come that somebody
    /// [missed](Memory::is_here).
    pub fn on_arrival(&self, watcher: impl Fn() + Send + Sync + 'static) {
        lock(&self.memory.tracking.watchers).push(Arc::new(watcher));
    }

    /// Some content has come: calls whoever watches. For the one who brings it.
    pub fn tell_arrival(&self) {
        let watchers = lock(&self.memory.tracking.watchers).clone();
        watchers.iter().for_each(|watcher| watcher());
    }

    // ---- content that cannot be had ----

    /// The first content that could not be had since all of it was [replaced](Ram::replace).
    pub fn missing(&self) -> Option<MemoryLost> {
        self.memory.tracking.lost()
    }

    /// How often content could not be had; wraps.
    #[inline]
    pub fn misses(&self) -> u32 {
        self.memory.tracking.losses()
    }

    /// Has `reporter` told when an access that is not a hart's own fails for missing content, or [who reads in the
    /// background](Ram::fill_next) finds it, on the thread of that access, which may hold a device's lock, and memory's source:
    /// it waits for nobody. Harts say so themselves. The first reporter stays.
    pub fn report_misses(&self, reporter: impl Fn(&MemoryLost) + Send + Sync + 'static) {
        self.memory.tracking.set_reporter(Box::new(reporter));
    }
}

fn out_of_range(addr: u64, len: usize) -> RamError {
    RamError::OutOfRange { addr, len: len as u64 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BASE: u64 = 0x8000_0000;

    #[test]
    fn reads_what_was_written_and_refuses_what_is_outside() {
        let ram = Ram::new(BASE, 2 * PAGE_SIZE).unwrap();
        ram.write(BASE + 4094, b"abcd").unwrap();
        let mut back = [0; 4];
        ram.read(BASE + 4094, &mut back).unwrap();
        assert_eq!(&back, b"abcd");
        for addr in [BASE - 1, BASE + 2 * PAGE_SIZE - 3, u64::MAX, 0] {
            assert!(ram.write(addr, b"wxyz").is_err(), "{addr:#x}");
            assert!(ram.read(addr, &mut back).is_err(), "{addr:#x}");
        }
        ram.read(BASE + 4094, &mut back).unwrap();
        assert_eq!(&back, b"abcd", "a refused access changed something");
    }

    #[test]
    fn refuses_sizes_that_are_no_memory() {
        for (base, size) in [(BASE, 0), (BASE, 100), (u64::MAX - 4095, 8192), (1, 4096)] {
            assert!(matches!(Ram::new(base, size), Err(RamError::BadSize { .. })), "{base:#x} {size:#x}");
        }
    }

    #[test]
    fn refuses_more_than_there_can_be_without_taking_memory_for_it() {
        for size in [16 << 40, 1 << 50, 7 << 60] {
            assert!(matches!(Ram::new(BASE, size), Err(RamError::TooLarge { .. })), "{size:#x}");
        }
    }

    #[test]
    fn a_device_write_ends_the_generation_of_a_code_page() {
        let ram = Ram::new(BASE, 2 * PAGE_SIZE).unwrap();
        let (before, _) = ram.code().decoded(1);
        ram.write(BASE + 10, b"elsewhere").unwrap();
        assert!(ram.code().is_current(1, before));
        ram.write(BASE + PAGE_SIZE - 1, b"both pages").unwrap();
        assert!(!ram.code().is_current(1, before));
    }
}
