//! Guest memory: one region of RAM, mapped from the host, and the map of which of its pages hold decoded code.
//!
//! Two kinds of reader meet here. Devices go through [`Ram::read`], [`Ram::write`] or the [`vm_memory`] traits, which
//! copy and check every range. Harts take a host address for a whole page once ([`Ram::host_page`]) and keep it in
//! their translation caches; a checked accessor for each load would cost several times the load itself.
//!
//! ```text
//!   guest store by a hart ── write entry filled ──┐
//!                                                 ├─► CodeMap::written ─► generation + 1, page no longer "code"
//!   guest store by a device (vm-memory) ──────────┘
//!   a hart decodes a page ─► CodeMap::decoded ─► generation that the decoded form belongs to
//! ```
//!
//! Invariants:
//! * guest memory is untrusted and shared: nothing here hands out a Rust reference into it;
//! * a range is inside RAM or the access fails whole, nothing is half-done;
//! * whoever writes a page that is marked as code ends its generation, so that decoded forms made before are known
//!   to be stale. Harts compare generations when they next fetch after `fence.i` (Zifencei asks for no more);
//! * an error of the host's memory under RAM ends no process: the page is lost, which is told ([`Ram::on_lost`]).

#![deny(unsafe_code)]

mod code;
mod lost;

pub use code::{CodeMap, Generation};

use std::sync::Arc;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
};

use code::CodeBitmap;
use sys::memory::Watched;

/// Bytes in a page, the unit of translation and of everything tracked about RAM.
pub const PAGE_SIZE: u64 = 4096;

/// Most pages of a RAM: 8 TiB.
const MAX_PAGES: u64 = 1 << 31;

/// The `vm_memory` view of RAM that `virtio-queue` and devices use.
pub type Memory = vm_memory::GuestRegionCollection<GuestRegionMmap<CodeBitmap>>;

/// Why memory could not be made or touched.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero or not a multiple of the page size, or base + size does not fit into 64 bits.
    #[error("RAM of {size:#x} bytes at {base:#x} is not a whole number of pages that fits the address space")]
    BadSize {
        /// First guest physical address.
        base: u64,
        /// Size in bytes.
        size: u64,
    },
    /// More than can be told apart by the page numbers that harts keep.
    #[error("{size} bytes of guest RAM are more than the {} that there can be", MAX_PAGES * PAGE_SIZE)]
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
    /// The host refused the mapping.
    #[error("the host cannot map {size} bytes of guest RAM")]
    Map {
        /// Size in bytes.
        size: u64,
        /// What the host said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The range is not inside RAM.
    #[error("{len} bytes at guest address {addr:#x} are not inside RAM")]
    OutOfRange {
        /// First guest physical address of the access.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// One region of guest RAM. Shared by harts, devices and the loader.
#[derive(Debug)]
pub struct Ram {
    /// Before the mapping, so that it is dropped before.
    watched: Watched,
    memory: Memory,
    base: u64,
    size: u64,
    code: Arc<CodeMap>,
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
        let code = Arc::new(CodeMap::new(count).map_err(|error| map_error(Box::new(error)))?);
        let mapping = MmapRegionBuilder::new_with_bitmap(len, CodeBitmap::new(Arc::clone(&code)))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .build()
            .map_err(|error| map_error(Box::new(error)))?;
        #[expect(unsafe_code, reason = "a promise about the mapping")]
        // SAFETY: the mapping was just made, writable; it lives in `memory`, which outlives `watched`, and nothing of this
        // crate or `vm_memory` makes a reference into it but to atomics.
        let watched = unsafe { Watched::new(mapping.as_ptr(), len) };
        let watched = watched.map_err(|error| map_error(Box::new(error)))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(base)).ok_or(bad)?;
        let memory = Memory::from_regions(vec![region]).map_err(|error| map_error(Box::new(error)))?;
        Ok(Self { watched, memory, base, size, code })
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
        &self.code
    }

    /// Number of the page (from the start of RAM) that holds guest physical address `addr`.
    pub fn page_index(&self, addr: u64) -> Option<usize> {
        self.contains(addr, 1).then(|| ((addr - self.base) / PAGE_SIZE) as usize)
    }

    /// Host address of the page that holds guest physical address `addr`: valid for [`PAGE_SIZE`] bytes for as long
    /// as this `Ram` lives. Others may read and write the page at any time: only atomic or volatile accesses will do.
    /// Whoever writes through it first calls [`CodeMap::written`].
    pub fn host_page(&self, addr: u64) -> Option<*mut u8> {
        if !self.contains(addr, 1) {
            return None;
        }
        let page = addr & !(PAGE_SIZE - 1);
        self.memory
            .iter()
            .next()
            .and_then(|region| region.get_host_address(MemoryRegionAddress(page - self.base)).ok())
    }

    /// Copies guest memory at `addr` into `bytes`.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> Result<(), RamError> {
        self.check(addr, bytes.len())?;
        self.memory.read_slice(bytes, GuestAddress(addr)).map_err(|_| out_of_range(addr, bytes.len()))
    }

    /// Copies `bytes` into guest memory at `addr`.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), RamError> {
        self.check(addr, bytes.len())?;
        self.memory.write_slice(bytes, GuestAddress(addr)).map_err(|_| out_of_range(addr, bytes.len()))
    }

    fn check(&self, addr: u64, len: usize) -> Result<(), RamError> {
        if self.contains(addr, len as u64) { Ok(()) } else { Err(out_of_range(addr, len)) }
    }
}

fn out_of_range(addr: u64, len: usize) -> RamError {
    RamError::OutOfRange { addr, len: len as u64 }
}

#[cfg(test)]
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
