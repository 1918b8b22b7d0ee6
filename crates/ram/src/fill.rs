//! Memory whose content comes later: lazily from a file, or from the other side of a migration.

use std::sync::Arc;

use crate::error::{FillError, MemoryLost, OpenError, RamError};
use crate::memory::{Memory, Use, Waits};
use crate::set::Portion;
use crate::sync::atomic::Ordering;
use crate::sync::{read, write};
use crate::tracking::on;
use crate::{CHUNK_SIZE, Ram};

/// Has the content of chunks that are absent.
///
/// A hart that needs a chunk is inside its run meanwhile, and a device perhaps inside an access, so a machine that is asked
/// to stop waits for a fill that is under way. That is meant for a read of the host's own disk. A source that may have to
/// wait for longer answers [`FillError::Interrupted`] after some milliseconds, as often as it likes.
pub trait ChunkSource: Send + Sync {
    /// Writes the content of chunk `chunk` into `into`, which is of its length and zero, after it has been found right
    /// (whatever checksum goes with it). Called by one thread at a time for each chunk, and by several for several.
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError>;

    /// Whether content comes from another host, at a time that nobody knows. Only harts wait for it, each on its own and
    /// for some milliseconds at a time; for everybody else what is absent is [`RamError::Delayed`], and
    /// [`Memory::is_here`](crate::Memory::is_here) says beforehand.
    fn is_far(&self) -> bool {
        false
    }

    /// Somebody needs `chunk` and does not wait for it: one that [is far](Self::is_far) sends for it. Never blocks.
    fn want(&self, chunk: usize) {
        let _ = chunk;
    }
}

impl Ram {
    /// The content of `portion` is gone, its memory back with the host, and comes from `source` as it is touched. What was
    /// absent already comes from `source` too. Waits for fills from the old source that are under way.
    ///
    /// Every hart is outside, no device is at work, no save is on; `drop_cached` has each hart drop all that it has cached of
    /// memory (`vmcore::park::fence_kind::CONTENT`) before it executes anything.
    pub fn replace(&self, portion: Portion<'_>, source: Arc<dyn ChunkSource>, drop_cached: impl FnOnce()) {
        let memory = &self.memory;
        let tracking = &memory.tracking;
        let mut slot = write(&tracking.source);
        let old = slot.replace(source);
        let most = tracking.absent.len();
        tracking.absent_left.fetch_add(most, Ordering::SeqCst);
        let new = tracking.absent.add_words(portion.words());
        tracking.absent_left.fetch_sub(most - new, Ordering::SeqCst);
        tracking.turn_on(on::FILL);
        tracking.forget_losses();
        match portion {
            Portion::All => memory.discard(0, most),
            Portion::ChunksOf(_) | Portion::Chunks(_) => {
                portion.chunks().take_while(|chunk| *chunk < most).for_each(|chunk| memory.discard(chunk, 1));
            }
        }
        drop(slot);
        drop(old);
        drop_cached();
    }

    /// Whether some content cannot be had: its source [has not given it](Ram::missing), or the host has lost a page since
    /// there are some that are [of a file](Ram::share).
    pub fn is_damaged(&self) -> bool {
        self.missing().is_some() || self.has_lost_of_files()
    }

    /// Gives up what is absent or of a file: it is zero from here on, but for what is still to be saved as it was. For a reset,
    /// after which no guest asks for what it had, of a machine whose memory [is damaged](Ram::is_damaged), or cannot be had
    /// [now](Ram::fills_from_afar).
    ///
    /// Every hart is outside and no device is at work; the harts drop all that they have cached of memory before they execute.
    pub fn give_up_absent(&self) {
        let tracking = &self.memory.tracking;
        // Waits for fills that are under way.
        let slot = write(&tracking.source);
        let mut next = 0;
        while let Some(chunk) = tracking.absent.next(next) {
            next = chunk + 1;
            if !tracking.unsaved.has(chunk) {
                self.memory.made_present(chunk);
                tracking.note_written(self.memory.pages_of(chunk));
            }
        }
        self.give_up_files();
        tracking.forget_losses();
        drop(slot);
        if self.absent() == 0 {
            self.memory.end_fill();
        }
    }

    /// All of memory is zero and back with the host. Every hart is outside, no device is at work, no save is on.
    pub fn clear(&self) {
        let memory = &self.memory;
        memory.discard(0, self.chunk_count());
        if memory.tracking.on() & on::FILL != 0 {
            (0..self.chunk_count()).for_each(|chunk| memory.made_present(chunk));
            memory.end_fill();
        }
    }

    /// How many chunks are absent.
    pub fn absent(&self) -> usize {
        self.memory.tracking.absent_left.load(Ordering::SeqCst)
    }

    /// Which chunks are absent: bit `n % 64` of word `n / 64` is chunk `n`.
    pub fn absent_chunks(&self) -> Vec<u64> {
        self.memory.tracking.absent.words()
    }

    /// Whether what is absent comes from [another host](ChunkSource::is_far).
    pub fn fills_from_afar(&self) -> bool {
        self.memory.tracking.on() & on::FILL != 0 && self.memory.tracking.is_far()
    }

    /// Fills chunk `chunk` if it is absent: for one who has got it for the source.
    pub fn fill_chunk(&self, chunk: usize) -> Result<(), OpenError> {
        self.present(chunk, self.chunk_len(chunk))
    }

    /// Fills the first absent chunk from `from` on and returns its number; `None`: there is none. For one who reads in the
    /// background what nobody has needed yet. If it cannot be had, [that is told](Ram::report_misses).
    pub fn fill_next(&self, from: usize) -> Result<Option<usize>, OpenError> {
        let Some(chunk) = self.memory.tracking.absent.next(from) else { return Ok(None) };
        let filled = self.memory.settle(chunk, false);
        if let Err(OpenError::Lost(loss)) = &filled {
            self.report_still_missing(loss);
        }
        filled.map(|()| Some(chunk))
    }

    /// Unless what was missing has been replaced or given up meanwhile; whoever does that waits until it has been told.
    fn report_still_missing(&self, loss: &MemoryLost) {
        let tracking = &self.memory.tracking;
        let source = read(&tracking.source);
        if self.missing().is_some() {
            tracking.report(loss);
        }
        drop(source);
    }

    // ---- whole chunks ----

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.memory.tracking.absent.len()
    }

    /// Bytes in chunk `chunk`: [`CHUNK_SIZE`], or less in the last one; 0 beyond.
    pub fn chunk_len(&self, chunk: usize) -> usize {
        self.memory.chunk_len(chunk)
    }

    /// Copies chunk `chunk`, filled first if it is absent, into `bytes`, which are as many as it has.
    pub fn read_chunk(&self, chunk: usize, bytes: &mut [u8]) -> Result<(), OpenError> {
        self.present(chunk, bytes.len())?;
        self.memory.copy_out(chunk, bytes);
        Ok(())
    }

    /// Whether chunk `chunk`, filled first if it is absent, holds nothing but zero.
    pub fn is_zero_chunk(&self, chunk: usize) -> Result<bool, OpenError> {
        let len = self.chunk_len(chunk);
        self.present(chunk, len)?;
        Ok(!self.memory.tracking.is_touched(chunk) || self.memory.mapping.is_zero(chunk * CHUNK_SIZE, len))
    }

    fn present(&self, chunk: usize, len: usize) -> Result<(), OpenError> {
        if len == 0 || len != self.chunk_len(chunk) {
            return Err(OpenError::Outside);
        }
        if self.memory.tracking.on() & on::FILL != 0 && self.memory.tracking.absent.has(chunk) {
            self.memory.settle(chunk, false)?;
        }
        Ok(())
    }

    /// Replaces chunk `chunk` by `bytes`, which are as many as it has; it is present from then on.
    pub fn write_chunk(&self, chunk: usize, bytes: &[u8]) -> Result<(), RamError> {
        self.put_chunk(chunk, bytes.len(), |memory| {
            memory.tracking.touch(chunk);
            memory.mapping.write(chunk * CHUNK_SIZE, bytes);
        })
    }

    /// Makes chunk `chunk` zero; it is present from then on. Costs no host memory.
    pub fn zero_chunk(&self, chunk: usize) -> Result<(), RamError> {
        let len = self.chunk_len(chunk);
        self.put_chunk(chunk, len, |memory| {
            let shared = memory.tracking.shared.has(chunk);
            if shared || memory.tracking.is_touched(chunk) && !memory.mapping.is_zero(chunk * CHUNK_SIZE, len)
            {
                memory.give_back(chunk, 1);
            }
        })
    }

    fn put_chunk(&self, chunk: usize, len: usize, put: impl FnOnce(&Memory)) -> Result<(), RamError> {
        let memory = &self.memory;
        if len == 0 || len != self.chunk_len(chunk) {
            let addr = self.base().saturating_add((chunk as u64).saturating_mul(CHUNK_SIZE as u64));
            return Err(RamError::OutOfRange { addr, len: len as u64 });
        }
        if memory.tracking.unsaved.has(chunk) {
            let addr = self.base() + (chunk * CHUNK_SIZE) as u64;
            self.made_ready(memory.open_chunk(chunk, Use::Write, Waits::AWhile), addr)?;
        }
        let claim = memory.tracking.claims.claim(chunk);
        put(memory);
        memory.made_present(chunk);
        drop(claim);
        memory.tracking.note_written(memory.pages_of(chunk));
        if memory.tracking.on() & on::FILL != 0 && self.absent() == 0 {
            memory.end_fill();
        }
        Ok(())
    }
}
