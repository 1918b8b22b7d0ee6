//! RAM with what is known about it: the one way to a page, which makes it ready first; and the [`vm_memory`] view.

use vm_memory::bitmap::{BS, Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};
use vm_memory::guest_memory::{
    Error as GuestMemoryError, GuestMemorySliceIterator, Result as GuestMemoryResult,
};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend, GuestRegionMmap, Permissions};

use std::sync::Arc;

use crate::error::{FillError, MemoryLost, OpenError};
use crate::mapping::Mapping;
use crate::sync::atomic::Ordering;
use crate::sync::{read, write};
use crate::tracking::{Tracking, on};
use crate::{CHUNK_SIZE, PAGE_SIZE, PAGES_PER_CHUNK};

pub(crate) type Regions = vm_memory::GuestRegionCollection<GuestRegionMmap<Writes>>;

/// What an access is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// For how long an access may keep its thread that finds its chunk absent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Waits {
    /// For as long as the source takes before it answers. Of one on this host: until it has the chunk.
    AWhile,
    /// For a source on this host alone.
    ForNobody,
}

/// How much is sent for at once of what a device needs.
const AHEAD: usize = 256;

/// The `vm_memory` view of RAM that `virtio-queue` and devices use: every range is made ready before it is accessed, and
/// every write is noted after it was made.
#[derive(Clone)]
pub struct Memory {
    pub(crate) regions: Regions,
    pub(crate) mapping: Mapping,
    pub(crate) base: u64,
    pub(crate) tracking: Arc<Tracking>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("base", &self.base)
            .field("mapping", &self.mapping)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Makes `page` ready for what its user is about to do.
    #[inline]
    pub(crate) fn open(&self, page: usize, access: Use) -> Result<(), OpenError> {
        if access == Use::Write {
            self.tracking.touch(page / PAGES_PER_CHUNK);
        }
        match self.tracking.on() {
            0 => Ok(()),
            on => self.open_tracked(page, access, on),
        }
    }

    #[cold]
    fn open_tracked(&self, page: usize, access: Use, on: u32) -> Result<(), OpenError> {
        let tracking = &*self.tracking;
        let chunk = page / PAGES_PER_CHUNK;
        let save = access == Use::Write && tracking.unsaved.has(chunk);
        if save || tracking.absent.has(chunk) {
            self.settle(chunk, save)?;
        }
        if access == Use::Write && on & on::ANY_LOG != 0 {
            tracking.note_write(page, on);
        }
        Ok(())
    }

    /// Fills `chunk` if it is absent, and then, if `save` says so, saves it if it is to be saved.
    pub(crate) fn settle(&self, chunk: usize, save: bool) -> Result<(), OpenError> {
        let claim = self.tracking.claims.claim(chunk);
        let filled = if self.tracking.absent.has(chunk) { self.fill(chunk) } else { Ok(()) };
        if save && filled.is_ok() && self.tracking.unsaved.has(chunk) {
            self.save(chunk);
        }
        drop(claim);
        if self.tracking.on() & on::FILL != 0 && self.tracking.absent_left.load(Ordering::SeqCst) == 0 {
            self.end_fill();
        }
        filled
    }

    /// Fills `chunk`, which the caller has claimed and found absent.
    fn fill(&self, chunk: usize) -> Result<(), OpenError> {
        let source = read(&self.tracking.source);
        let mut bytes = vec![0; self.chunk_len(chunk)];
        let filled = match source.as_ref() {
            Some(source) => source.fill(chunk, &mut bytes),
            None => Err(FillError::Failed("nobody has it any more".into())),
        };
        match filled {
            Ok(()) => {}
            Err(FillError::Interrupted) => return Err(OpenError::Interrupted),
            Err(FillError::Failed(reason)) => return Err(OpenError::Lost(self.lose(chunk, reason.into()))),
        }
        // What is absent is zero, and stays uncommitted if that is what it holds. Or it is mapped from where the source has it.
        if !self.tracking.shared.has(chunk) && bytes.iter().any(|&byte| byte != 0) {
            self.tracking.touch(chunk);
            self.mapping.write(chunk * CHUNK_SIZE, &bytes);
        }
        self.made_present(chunk);
        Ok(())
    }

    /// Whoever finds the chunk present from here on sees its content.
    pub(crate) fn made_present(&self, chunk: usize) {
        if self.tracking.absent.remove(chunk) {
            self.tracking.absent_left.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lose(&self, chunk: usize, reason: Arc<dyn std::error::Error + Send + Sync>) -> MemoryLost {
        let loss = MemoryLost { addr: self.base + (chunk * CHUNK_SIZE) as u64, reason };
        self.tracking.note_loss(&loss);
        loss
    }

    /// Lets go of the source, if nothing is absent any more.
    #[cold]
    pub(crate) fn end_fill(&self) {
        let mut source = write(&self.tracking.source);
        if self.tracking.absent_left.load(Ordering::SeqCst) != 0 {
            return;
        }
        self.tracking.turn_off(on::FILL);
        let over = source.take();
        drop(source);
        // Which may close files and connections, outside of the lock.
        drop(over);
    }

    /// Saves `chunk`, which the caller has claimed and found unsaved and present.
    fn save(&self, chunk: usize) {
        let sink = read(&self.tracking.sink);
        if let Some(sink) = sink.as_ref() {
            let mut bytes = vec![0; self.chunk_len(chunk)];
            self.copy_out(chunk, &mut bytes);
            sink.save(chunk, &bytes);
        }
        // Whoever finds it saved, and writes it, does so after it was read.
        if self.tracking.unsaved.remove(chunk) {
            self.tracking.unsaved_left.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Copies what `chunk` holds into `bytes`, which are as many as it has. What was never written is not read either: the
    /// host would make pages of it.
    pub(crate) fn copy_out(&self, chunk: usize, bytes: &mut [u8]) {
        if self.tracking.is_touched(chunk) {
            self.mapping.read(chunk * CHUNK_SIZE, bytes);
        } else {
            bytes.fill(0);
        }
    }

    /// Bytes in `chunk`; all but the last have [`CHUNK_SIZE`].
    pub(crate) fn chunk_len(&self, chunk: usize) -> usize {
        let start = chunk.saturating_mul(CHUNK_SIZE);
        self.mapping.len().saturating_sub(start).min(CHUNK_SIZE)
    }

    /// The chunks that `len` bytes at `addr` are in, as far as they are RAM.
    fn chunks_of(&self, addr: u64, len: usize) -> std::ops::Range<usize> {
        let start = addr.saturating_sub(self.base);
        let end = addr.saturating_add(len as u64).saturating_sub(self.base).min(self.mapping.len() as u64);
        let chunk_size = CHUNK_SIZE as u64;
        (start / chunk_size) as usize..end.div_ceil(chunk_size) as usize
    }

    /// Whether nobody on another host has to be waited for before `len` bytes at `addr` are accessed, as far as they are RAM.
    /// If somebody has, they are sent for; [`Ram::on_arrival`](crate::Ram::on_arrival) tells when to ask again.
    pub fn is_here(&self, addr: u64, len: usize) -> bool {
        if self.tracking.on() & on::FILL == 0 || len == 0 {
            return true;
        }
        let chunks = self.chunks_of(addr, len);
        let (mut next, mut missing) = (chunks.start, 0);
        while let Some(chunk) = self.tracking.absent.next(next).filter(|chunk| *chunk < chunks.end) {
            if !self.tracking.want(chunk) {
                return true;
            }
            (next, missing) = (chunk + 1, missing + 1);
            if missing == AHEAD {
                break;
            }
        }
        missing == 0
    }

    /// Makes what of `len` bytes at `addr` is RAM ready, for one who can only wait or fail. A loss is reported.
    pub(crate) fn open_range(
        &self,
        addr: u64,
        len: usize,
        access: Use,
        waits: Waits,
    ) -> Result<(), OpenError> {
        let on = self.tracking.on();
        if on & (on::FILL | on::SAVE) == 0 || len == 0 {
            return Ok(());
        }
        self.chunks_of(addr, len).try_for_each(|chunk| {
            self.open_chunk(chunk, access, waits).inspect_err(|error| {
                if let OpenError::Lost(loss) = error {
                    self.tracking.report(loss);
                }
            })
        })
    }

    /// Makes `chunk` ready. Nobody but a hart can be taken back to where it was before its access: he tries until the source
    /// has the chunk or says that nobody has. One on another host may never say either.
    pub(crate) fn open_chunk(&self, chunk: usize, access: Use, waits: Waits) -> Result<(), OpenError> {
        loop {
            let save = access == Use::Write && self.tracking.unsaved.has(chunk);
            let absent = self.tracking.absent.has(chunk);
            if !save && !absent {
                return Ok(());
            }
            if absent && waits == Waits::ForNobody && self.tracking.want(chunk) {
                return Err(OpenError::Interrupted);
            }
            match self.settle(chunk, save) {
                Err(OpenError::Interrupted) if !self.tracking.is_far() => {}
                made => return made,
            }
        }
    }

    /// Gives the memory of `count` chunks from `first` on back to the host, and notes that they have changed.
    pub(crate) fn discard(&self, first: usize, count: usize) {
        let (start, len) = self.give_back(first, count);
        (first..first.saturating_add(count)).for_each(|chunk| self.tracking.untouch(chunk));
        let page = PAGE_SIZE as usize;
        self.tracking.note_written(start / page..=((start + len) / page).saturating_sub(1));
    }

    /// Makes `count` chunks from `first` on zero, their memory back with the host; says where they are in bytes.
    pub(crate) fn give_back(&self, first: usize, count: usize) -> (usize, usize) {
        let start = first.saturating_mul(CHUNK_SIZE).min(self.mapping.len());
        let len = count.saturating_mul(CHUNK_SIZE).min(self.mapping.len() - start);
        let shared = &self.tracking.shared;
        let end = first.saturating_add(count);
        if shared.next(first).is_some_and(|chunk| chunk < end) {
            self.mapping.discard_mapped(start, len);
            (first..end).for_each(|chunk| {
                shared.remove(chunk);
            });
        } else {
            self.mapping.discard(start, len);
        }
        (start, len)
    }

    /// The pages of `chunk`.
    pub(crate) fn pages_of(&self, chunk: usize) -> std::ops::RangeInclusive<usize> {
        let first = chunk * PAGES_PER_CHUNK;
        let count = self.chunk_len(chunk) / PAGE_SIZE as usize;
        first..=(first + count).saturating_sub(1)
    }
}

/// Not a [`GuestMemoryBackend`], whose slices do not say what they are for.
impl GuestMemory for Memory {
    type PhysicalMemory = Regions;
    type Bitmap = Writes;

    fn check_range(&self, addr: GuestAddress, count: usize, _access: Permissions) -> bool {
        GuestMemoryBackend::check_range(&self.regions, addr, count)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, Writes>>> {
        let access = if access.has_write() { Use::Write } else { Use::Read };
        self.open_range(addr.0, count, access, Waits::ForNobody)
            .map_err(|error| GuestMemoryError::IOError(std::io::Error::other(error)))?;
        Ok(GuestMemoryBackend::get_slices(&self.regions, addr, count))
    }
}

/// What `vm_memory` takes for a dirty bitmap: each write is noted here, after it was made.
#[derive(Clone, Default)]
pub struct Writes {
    tracking: Option<Arc<Tracking>>,
    base: usize,
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writes").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Writes {
    pub(crate) fn new(tracking: Arc<Tracking>) -> Self {
        Self { tracking: Some(tracking), base: 0 }
    }
}

impl WithBitmapSlice<'_> for Writes {
    type S = Self;
}

impl BitmapSlice for Writes {}

impl Bitmap for Writes {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if let Some(tracking) = &self.tracking {
            tracking.note_bytes_written(self.base.saturating_add(offset), len);
        }
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self { tracking: self.tracking.clone(), base: self.base.saturating_add(offset) }
    }
}

impl NewBitmap for Writes {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}
