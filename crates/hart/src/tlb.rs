//! The software translation cache: virtual page to host address (data) or to decoded page (fetch).
//!
//! Direct-mapped; a set of slots for each access kind and each context that translations may differ in, so that a
//! system call flushes nothing. A tag is the address of the virtual page; the compare keeps the low bits that an
//! aligned access has clear, so a misaligned access misses by itself.
//!
//! Invariants:
//! * a slot is only filled with a translation that permits every access of its kind to its whole page, to RAM that has
//!   been opened for it;
//! * a write slot is only filled after [`CodeMap::written`](ram::CodeMap::written), and is dropped when its page
//!   becomes code;
//! * the RAM that slots point into lives as long as the cache, which holds it;
//! * the pages that fetch slots point to live in a [`PageCache`](crate::block::PageCache), whose owner flushes the fetch
//!   slots before it drops any.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use ram::{OpenError, Ram};

use crate::block::Page;
use crate::mem::{HostWord, Word};

const DATA_SLOTS: usize = 1024;
const FETCH_SLOTS: usize = 512;
const PAGE_MASK: u64 = !(ram::PAGE_SIZE - 1);
/// A tag that no access has: bits 3 to 11 of what is compared are always clear.
const EMPTY: u64 = 0x800;
/// Up to so many filled slots are dropped one by one instead of wiping the set.
const LIST: usize = 128;

/// What data accesses depend on beside the page tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Context {
    /// User mode.
    User = 0,
    /// Supervisor mode, SUM clear.
    Supervisor = 1,
    /// Supervisor mode, SUM set.
    SupervisorSum = 2,
    /// Machine mode: no translation.
    Machine = 3,
}

#[derive(Clone, Copy)]
struct DataSlot {
    tag: u64,
    /// Host address of the page less its virtual address.
    addend: usize,
}

struct DataSet {
    slots: Box<[DataSlot; DATA_SLOTS]>,
    /// Page of RAM that each slot leads to.
    pages: Box<[u32; DATA_SLOTS]>,
    /// Which slots were filled since the last flush; beyond [`LIST`] it is not kept.
    filled: Vec<u16>,
}

impl DataSet {
    fn new() -> Self {
        let empty = DataSlot { tag: EMPTY, addend: 0 };
        Self {
            slots: Box::new([empty; DATA_SLOTS]),
            pages: Box::new([0; DATA_SLOTS]),
            filled: Vec::with_capacity(LIST),
        }
    }

    fn flush(&mut self) {
        if self.filled.len() < LIST {
            for &at in &self.filled {
                self.slots[usize::from(at) % DATA_SLOTS].tag = EMPTY;
            }
        } else {
            for slot in self.slots.iter_mut() {
                slot.tag = EMPTY;
            }
        }
        self.filled.clear();
    }

    fn flush_page(&mut self, addr: u64) {
        let slot = &mut self.slots[slot_of(addr)];
        if slot.tag == addr & PAGE_MASK {
            slot.tag = EMPTY;
        }
    }

    fn fill(&mut self, addr: u64, host: usize, page: u32) {
        let (at, tag) = (slot_of(addr), addr & PAGE_MASK);
        self.slots[at] = DataSlot { tag, addend: host.wrapping_sub(tag as usize) };
        self.pages[at] = page;
        if self.filled.len() < LIST {
            self.filled.push(at as u16);
        }
    }

    /// Drops the slots for which `stale(page of RAM)` holds.
    fn retain(&mut self, mut stale: impl FnMut(u32) -> bool) {
        let mut check = |at: usize| {
            let slot = &mut self.slots[at];
            if slot.tag != EMPTY && stale(self.pages[at]) {
                slot.tag = EMPTY;
            }
        };
        if self.filled.len() < LIST {
            self.filled.iter().for_each(|&at| check(usize::from(at) % DATA_SLOTS));
        } else {
            (0..DATA_SLOTS).for_each(check);
        }
    }
}

#[inline(always)]
fn slot_of(addr: u64) -> usize {
    (addr >> 12) as usize % DATA_SLOTS
}

#[derive(Clone, Copy)]
struct FetchSlot {
    tag: u64,
    page: Option<NonNull<Page>>,
}

struct FetchSet {
    slots: Box<[FetchSlot; FETCH_SLOTS]>,
    used: bool,
}

impl FetchSet {
    fn new() -> Self {
        Self { slots: Box::new([FetchSlot { tag: EMPTY, page: None }; FETCH_SLOTS]), used: false }
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.used) {
            for slot in self.slots.iter_mut() {
                slot.tag = EMPTY;
            }
        }
    }
}

/// All slots of one hart. See the module's documentation.
pub(crate) struct Tlb {
    /// Slots of the data context that is switched to; they point into the sets below.
    read: *mut DataSlot,
    write: *mut DataSlot,
    fetch: *mut FetchSlot,
    data: Context,
    code: Context,
    read_sets: [DataSet; 4],
    write_sets: [DataSet; 4],
    fetch_sets: [FetchSet; 4],
    /// Virtual addresses that superpages were filled in for: lowest and highest. A flush of one address among
    /// them has to flush all, for a slot does not know the page that it is a part of.
    large: Option<(u64, u64)>,
    ram: Arc<Ram>,
}

// SAFETY: the raw pointers lead to boxes that this value owns, to RAM that it holds an `Arc` of, and to decoded pages that
// move to another thread only together with it (both are fields of `Hart`).
unsafe impl Send for Tlb {}

impl Tlb {
    /// Empty slots for accesses to `ram`, in machine context.
    pub(crate) fn new(ram: Arc<Ram>) -> Self {
        let mut tlb = Self {
            read: std::ptr::null_mut(),
            write: std::ptr::null_mut(),
            fetch: std::ptr::null_mut(),
            data: Context::Machine,
            code: Context::Machine,
            read_sets: std::array::from_fn(|_| DataSet::new()),
            write_sets: std::array::from_fn(|_| DataSet::new()),
            fetch_sets: std::array::from_fn(|_| FetchSet::new()),
            large: None,
            ram,
        };
        tlb.switch(Context::Machine, Context::Machine);
        tlb
    }

    /// Says which contexts data accesses and fetches are made in from now on.
    pub(crate) fn switch(&mut self, data: Context, code: Context) {
        self.data = data;
        self.code = code;
        self.read = self.read_sets[data as usize].slots.as_mut_ptr();
        self.write = self.write_sets[data as usize].slots.as_mut_ptr();
        self.fetch = self.fetch_sets[code as usize].slots.as_mut_ptr();
    }

    /// Reads a `T` at virtual address `addr`; `None`: take the slow path.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&self, addr: u64) -> Option<T> {
        // SAFETY: `read` points to DATA_SLOTS slots of a set that `self` owns, and nobody changes them meanwhile.
        let slot = unsafe { *self.read.add(slot_of(addr)) };
        Self::hit::<T>(slot, addr).map(|at| {
            // SAFETY: the tag matched, so `addr` is aligned and its page is mapped at the addend; `self.ram` keeps it mapped.
            unsafe { T::load(at) }
        })
    }

    /// Writes a `T` at virtual address `addr`; `false`: nothing is written, take the slow path.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&self, addr: u64, value: T) -> bool {
        // SAFETY: as in `load`.
        let slot = unsafe { *self.write.add(slot_of(addr)) };
        match Self::hit::<T>(slot, addr) {
            Some(at) => {
                // SAFETY: as in `load`.
                unsafe { T::store(at, value) };
                true
            }
            None => false,
        }
    }

    /// The word at virtual address `addr`, if a read slot has it.
    pub(crate) fn read_word<T: Word>(&self, addr: u64) -> Option<HostWord<'_>> {
        // SAFETY: as in `load`.
        let slot = unsafe { *self.read.add(slot_of(addr)) };
        // SAFETY: aligned and inside RAM as in `load`; the borrow of `self` keeps RAM alive.
        Self::hit::<T>(slot, addr).map(|at| unsafe { HostWord::new(at) })
    }

    /// The word at virtual address `addr`, if a write slot has it.
    pub(crate) fn write_word<T: Word>(&self, addr: u64) -> Option<HostWord<'_>> {
        // SAFETY: as in `load`.
        let slot = unsafe { *self.write.add(slot_of(addr)) };
        // SAFETY: as in `read_word`.
        Self::hit::<T>(slot, addr).map(|at| unsafe { HostWord::new(at) })
    }

    #[inline(always)]
    fn hit<T: Word>(slot: DataSlot, addr: u64) -> Option<*mut u8> {
        let tag = addr & (PAGE_MASK | (T::BYTES - 1));
        (slot.tag == tag).then(|| slot.addend.wrapping_add(addr as usize) as *mut u8)
    }

    /// The decoded page at virtual address `pc`.
    #[inline(always)]
    pub(crate) fn fetch(&self, pc: u64) -> Option<NonNull<Page>> {
        let at = (pc >> 12) as usize % FETCH_SLOTS;
        // SAFETY: `fetch` points to FETCH_SLOTS slots of a set that `self` owns.
        let slot = unsafe { *self.fetch.add(at) };
        if slot.tag == pc & PAGE_MASK { slot.page } else { None }
    }

    /// Fills the read slot for the page at `addr`, which is RAM at guest physical address `phys`.
    pub(crate) fn fill_read(&mut self, addr: u64, phys: u64) -> Result<(), OpenError> {
        let host = self.ram.open_read(phys)?;
        self.read_sets[self.data as usize].fill(addr, host as usize, self.page(phys)?);
        Ok(())
    }

    /// Fills the write slot for the page at `addr`, which is RAM at guest physical address `phys`.
    pub(crate) fn fill_write(&mut self, addr: u64, phys: u64) -> Result<(), OpenError> {
        let host = self.ram.open_write(phys)?;
        let page = self.page(phys)?;
        self.ram.code().written(page as usize);
        self.write_sets[self.data as usize].fill(addr, host as usize, page);
        Ok(())
    }

    fn page(&self, phys: u64) -> Result<u32, OpenError> {
        let page = self.ram.page_index(phys).and_then(|page| u32::try_from(page).ok());
        page.ok_or(OpenError::Outside)
    }

    /// Fills the fetch slot for the page at `pc`.
    pub(crate) fn fill_fetch(&mut self, pc: u64, page: NonNull<Page>) {
        let set = &mut self.fetch_sets[self.code as usize];
        set.used = true;
        set.slots[(pc >> 12) as usize % FETCH_SLOTS] = FetchSlot { tag: pc & PAGE_MASK, page: Some(page) };
    }

    /// Notes that slots in `size` bytes from `base` come from one superpage.
    pub(crate) fn note_large(&mut self, base: u64, size: u64) {
        let end = base.wrapping_add(size - 1);
        self.large = Some(self.large.map_or((base, end), |(low, high)| (low.min(base), high.max(end))));
    }

    /// Drops everything.
    pub(crate) fn flush_all(&mut self) {
        for at in 0..4 {
            self.flush_set(at);
        }
        self.large = None;
    }

    /// Drops what depends on page tables.
    pub(crate) fn flush_translated(&mut self) {
        for at in 0..Context::Machine as usize {
            self.flush_set(at);
        }
        self.large = None;
    }

    fn flush_set(&mut self, at: usize) {
        self.read_sets[at].flush();
        self.write_sets[at].flush();
        self.fetch_sets[at].flush();
    }

    /// Drops what belongs to the page at virtual address `addr`.
    pub(crate) fn flush_page(&mut self, addr: u64) {
        if self.large.is_some_and(|(low, high)| (low..=high).contains(&addr)) {
            return self.flush_translated();
        }
        for at in 0..Context::Machine as usize {
            self.read_sets[at].flush_page(addr);
            self.write_sets[at].flush_page(addr);
            let slot = &mut self.fetch_sets[at].slots[(addr >> 12) as usize % FETCH_SLOTS];
            if slot.tag == addr & PAGE_MASK {
                slot.tag = EMPTY;
            }
        }
    }

    /// Drops fetch slots: after this every page is looked up anew.
    pub(crate) fn flush_fetch(&mut self) {
        self.fetch_sets.iter_mut().for_each(FetchSet::flush);
    }

    /// Drops the write slots for page `page` of RAM, which is about to be decoded.
    pub(crate) fn drop_writes_to(&mut self, page: u32) {
        for set in &mut self.write_sets {
            set.retain(|at| at == page);
        }
    }

    /// Drops the write slots for all pages of RAM that have become code, which may have been written through them.
    pub(crate) fn drop_writes_to_code(&mut self) {
        let code = self.ram.code();
        for set in &mut self.write_sets {
            set.retain(|page| {
                let stale = code.is_code(page as usize);
                if stale {
                    code.written(page as usize);
                }
                stale
            });
        }
    }

    /// Drops all write slots.
    pub(crate) fn drop_writes(&mut self) {
        self.drop_writes_to_code();
        self.write_sets.iter_mut().for_each(DataSet::flush);
    }
}
