//! Loads and stores that miss the translation cache: walks, devices, misaligned accesses.

use ram::PAGE_SIZE;
use vmcore::{AccessSize, Bus};

use super::StoreOutcome;
use crate::hart::Hart;
use crate::mem::{HostWord, Word};
use crate::pmp::Access;
use crate::trap::{Cause, Trap};

/// Where a slow access leads.
enum Place {
    /// RAM, at this guest physical address.
    Ram(u64),
    /// Perhaps a device, at this guest physical address.
    Device(u64),
}

/// A word for an atomic, with its guest physical address if it was looked up anew.
pub(super) type AtomicWord<'a> = (HostWord<'a>, Option<u64>);

impl Hart {
    /// Loads a `T` from `addr`. `left` instructions of the block are not executed yet.
    #[cold]
    #[inline(never)]
    pub(super) fn load_slow<T: Word>(&mut self, addr: u64, left: u8) -> Result<T, Trap> {
        if !addr.is_multiple_of(T::BYTES) {
            return self.load_misaligned(addr, T::BYTES).map(T::narrow);
        }
        match self.resolve(addr, T::BYTES, Access::Read)? {
            Place::Ram(phys) => Ok(self.word::<T>(addr, phys, Access::Read)?.load()),
            Place::Device(phys) => {
                let value = self.device_access(addr, left, |bus| {
                    AccessSize::from_bytes(T::BYTES).and_then(|size| bus.read(phys, size).ok())
                })?;
                value.map(T::narrow).ok_or(Trap::new(Access::Read.access_fault(), addr))
            }
        }
    }

    /// Stores `value` at `addr`, as [`Hart::load_slow`] loads.
    #[cold]
    #[inline(never)]
    pub(super) fn store_slow<T: Word>(&mut self, addr: u64, value: T, left: u8) -> StoreOutcome {
        if !addr.is_multiple_of(T::BYTES) {
            return self.store_misaligned(addr, T::BYTES, value.widen()).map(|()| None);
        }
        let fault = Trap::new(Access::Write.access_fault(), addr);
        match self.resolve(addr, T::BYTES, Access::Write)? {
            Place::Ram(phys) => {
                self.word::<T>(addr, phys, Access::Write)?.store(value);
                self.written(phys);
                Ok(None)
            }
            Place::Device(phys) => {
                let Some(size) = AccessSize::from_bytes(T::BYTES) else { return Err(fault) };
                self.device_access(addr, left, |bus| bus.write(phys, size, value.widen()))?.map_err(|_| fault)
            }
        }
    }

    /// Has a device accessed. If memory that it needed is lost, the guest does not see what it made of that.
    fn device_access<R>(&mut self, addr: u64, left: u8, access: impl FnOnce(&Bus) -> R) -> Result<R, Trap> {
        self.behind = left;
        self.publish_retired_before();
        let losses = self.ram.misses();
        let outcome = access(&self.bus);
        self.behind = 0;
        if self.ram.misses() == losses { Ok(outcome) } else { Err(Trap::new(Cause::MemoryLost, addr)) }
    }

    /// The aligned word at `addr`, which leads to guest physical address `phys`.
    fn word<T: Word>(&self, addr: u64, phys: u64, access: Access) -> Result<HostWord<'_>, Trap> {
        HostWord::physical::<T>(&self.ram, phys, access)
            .map_err(|error| Trap::unopened(&error, Trap::new(access.access_fault(), addr)))
    }

    /// Translates an aligned access, checks it, and fills a slot if the page is RAM throughout and treated alike.
    fn resolve(&mut self, addr: u64, len: u64, access: Access) -> Result<Place, Trap> {
        let watched = self.points.watch_page(addr);
        if watched {
            self.check_watch(addr, len, access)?;
        }
        let found = self.translate(addr, access)?;
        let phys = found.phys;
        if !self.csr.pmp.allows(phys, len, access, self.effective_mode(access)) {
            return Err(Trap::new(access.access_fault(), addr));
        }
        if !self.ram.contains(phys, len) {
            return Ok(Place::Device(phys));
        }
        if self.csr.pmp.is_uniform(phys) && !watched {
            if found.size > PAGE_SIZE {
                self.tlb.note_large(addr & !(found.size - 1), found.size);
            }
            let filled = match access {
                Access::Write => self.tlb.fill_write(addr, phys),
                _ => self.tlb.fill_read(addr, phys),
            };
            filled.map_err(|error| Trap::unopened(&error, Trap::new(access.access_fault(), addr)))?;
        } else if access == Access::Write {
            self.written(phys);
        }
        Ok(Place::Ram(phys))
    }

    /// Says that the page at guest physical address `phys` may have been written.
    pub(super) fn written(&self, phys: u64) {
        if let Some(page) = self.ram.page_index(phys) {
            self.ram.code().written(page);
        }
    }

    /// The word of `T`'s size at `addr`, aligned, for the A extension. Devices take no atomics.
    ///
    /// If no slot holds its page, the guest physical address comes too: whoever stores says [`Hart::written`].
    pub(super) fn atomic_word<T: Word>(&mut self, addr: u64, access: Access) -> Result<AtomicWord<'_>, Trap> {
        let missing = match access {
            Access::Write => self.tlb.write_word::<T>(addr).is_none(),
            _ => self.tlb.read_word::<T>(addr).is_none(),
        };
        let fault = Trap::new(access.access_fault(), addr);
        if missing {
            let Place::Ram(phys) = self.resolve(addr, T::BYTES, access)? else { return Err(fault) };
            return self.word::<T>(addr, phys, access).map(|word| (word, Some(phys)));
        }
        let word = match access {
            Access::Write => self.tlb.write_word::<T>(addr),
            _ => self.tlb.read_word::<T>(addr),
        };
        word.map(|word| (word, None)).ok_or(fault)
    }

    /// Guest physical addresses of the bytes of a misaligned access, all of them checked, as first parts and lengths.
    fn pieces(&mut self, addr: u64, len: u64, access: Access) -> Result<[(u64, u64); 2], Trap> {
        self.check_watch(addr, len, access)?;
        let first = len.min(PAGE_SIZE - addr % PAGE_SIZE);
        let mut pieces = [(0, first), (0, len - first)];
        let mut at = addr;
        for (phys, len) in pieces.iter_mut().filter(|(_, len)| *len != 0) {
            // A fault is reported at the first byte that cannot be reached.
            *phys = self.translate(at, access)?.phys;
            let mode = self.effective_mode(access);
            if !self.csr.pmp.allows(*phys, *len, access, mode) || !self.ram.contains(*phys, *len) {
                return Err(Trap::new(access.access_fault(), at));
            }
            // Both are opened before anything is stored to either.
            self.word::<u8>(at, *phys, access)?;
            at = at.wrapping_add(*len);
        }
        Ok(pieces)
    }

    fn load_misaligned(&mut self, addr: u64, len: u64) -> Result<u64, Trap> {
        let pieces = self.pieces(addr, len, Access::Read)?;
        let mut value = 0;
        let mut shift = 0;
        for (phys, len) in pieces {
            for at in phys..phys + len {
                let word = self.word::<u8>(addr, at, Access::Read)?;
                value |= u64::from(word.load::<u8>()) << shift;
                shift += 8;
            }
        }
        Ok(value)
    }

    fn store_misaligned(&mut self, addr: u64, len: u64, value: u64) -> Result<(), Trap> {
        let pieces = self.pieces(addr, len, Access::Write)?;
        let mut rest = value;
        for (phys, len) in pieces {
            if len == 0 {
                continue;
            }
            self.written(phys);
            for at in phys..phys + len {
                self.word::<u8>(addr, at, Access::Write)?.store(rest as u8);
                rest >>= 8;
            }
            self.written(phys);
        }
        Ok(())
    }
}
