//! What is known about each page and chunk of RAM, and the one word that says whether anything is to be known.

use std::sync::{Arc, OnceLock};

use vm_memory::mmap::MmapRegionError;

use crate::bits::Bits;
use crate::claims::Claims;
use crate::code::CodeMap;
use crate::error::MemoryLost;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Mutex, RwLock, lock, read};
use crate::{CHUNK_SIZE, ChunkSink, ChunkSource, PAGE_SIZE, PAGES_PER_CHUNK};

/// Dirty logs that can be kept at once: one of a migration, one since the last snapshot.
pub(crate) const LOGS: usize = 2;

/// What is on. A set of bits.
pub(crate) mod on {
    /// Chunks are absent.
    pub(crate) const FILL: u32 = 1 << 0;
    /// Chunks are to be saved before they are written.
    pub(crate) const SAVE: u32 = 1 << 1;
    /// The first dirty log is kept; the others follow.
    pub(crate) const LOG: u32 = 1 << 2;
    /// Some dirty log is kept.
    pub(crate) const ANY_LOG: u32 = ((1 << super::LOGS) - 1) * LOG;
}

/// Who is told of lost memory.
type Reporter = Box<dyn Fn(&MemoryLost) + Send + Sync>;

/// Who is told that content has come.
pub(crate) type Watcher = Arc<dyn Fn() + Send + Sync>;

/// See the module's documentation.
pub(crate) struct Tracking {
    /// Zero nearly always; then nothing else here is looked at.
    on: AtomicU32,
    pub(crate) code: CodeMap,
    /// Chunks whose content the source still has. One is taken out by whoever has claimed and filled it.
    pub(crate) absent: Bits,
    pub(crate) absent_left: AtomicUsize,
    /// Read-locked while a chunk is filled, so that no fill from an old source ends in new content.
    pub(crate) source: RwLock<Option<Arc<dyn ChunkSource>>>,
    /// Chunks that are to be saved before they are written. One is taken out by whoever has claimed and saved it.
    pub(crate) unsaved: Bits,
    pub(crate) unsaved_left: AtomicUsize,
    /// Read-locked while a chunk is saved, so that a sink is called no more once its save has ended.
    pub(crate) sink: RwLock<Option<Arc<dyn ChunkSink>>>,
    pub(crate) claims: Claims,
    /// Chunks that are mapped from files in which they lie as the source gives them: a fill only judges them.
    pub(crate) shared: Bits,
    /// How many errors of the host's memory there had been when they were mapped.
    pub(crate) errors_before: AtomicU64,
    /// Chunks that may hold something but zero; the others were never written, and are not even looked at.
    touched: Bits,
    dirty: [Bits; LOGS],
    logs_taken: Mutex<[bool; LOGS]>,
    lost: Mutex<Option<MemoryLost>>,
    losses: AtomicU32,
    reporter: OnceLock<Reporter>,
    pub(crate) watchers: Mutex<Vec<Watcher>>,
}

impl Tracking {
    /// Nothing is on, for a RAM of `pages` pages.
    pub(crate) fn new(pages: usize) -> Result<Self, MmapRegionError> {
        let chunks = pages.div_ceil(PAGES_PER_CHUNK);
        Ok(Self {
            on: AtomicU32::new(0),
            code: CodeMap::new(pages)?,
            absent: Bits::new(chunks)?,
            absent_left: AtomicUsize::new(0),
            source: RwLock::new(None),
            unsaved: Bits::new(chunks)?,
            unsaved_left: AtomicUsize::new(0),
            sink: RwLock::new(None),
            claims: Claims::new(),
            shared: Bits::new(chunks)?,
            errors_before: AtomicU64::new(0),
            touched: Bits::new(chunks)?,
            dirty: [Bits::new(pages)?, Bits::new(pages)?],
            logs_taken: Mutex::new([false; LOGS]),
            lost: Mutex::new(None),
            losses: AtomicU32::new(0),
            reporter: OnceLock::new(),
            watchers: Mutex::new(Vec::new()),
        })
    }

    /// What is on. Whoever finds a bit clear sees everything that was done while it was set.
    #[inline]
    pub(crate) fn on(&self) -> u32 {
        self.on.load(Ordering::Acquire)
    }

    pub(crate) fn turn_on(&self, bits: u32) {
        self.on.fetch_or(bits, Ordering::SeqCst);
    }

    pub(crate) fn turn_off(&self, bits: u32) {
        self.on.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Notes that `chunk` may hold something but zero.
    #[inline]
    pub(crate) fn touch(&self, chunk: usize) {
        if !self.touched.has(chunk) {
            self.touched.add(chunk);
        }
    }

    /// Whether `chunk` may hold something but zero.
    pub(crate) fn is_touched(&self, chunk: usize) -> bool {
        self.touched.has(chunk)
    }

    /// Notes that `chunk` is zero now.
    pub(crate) fn untouch(&self, chunk: usize) {
        self.touched.remove(chunk);
    }

    /// Whether absent chunks come from another host.
    pub(crate) fn is_far(&self) -> bool {
        read(&self.source).as_ref().is_some_and(|source| source.is_far())
    }

    /// Sends for `chunk` if it comes from another host. Whether it does.
    pub(crate) fn want(&self, chunk: usize) -> bool {
        let source = read(&self.source);
        let far = source.as_ref().filter(|source| source.is_far());
        far.map(|source| source.want(chunk)).is_some()
    }

    // ---- dirty logs ----

    /// Takes a log that nobody keeps, empties it and turns it on.
    pub(crate) fn start_log(&self) -> Option<usize> {
        let mut taken = lock(&self.logs_taken);
        let log = taken.iter().position(|taken| !taken)?;
        taken[log] = true;
        // A store that was under way when the log's last owner gave it back may have been noted since.
        self.take_dirty(log);
        self.turn_on(on::LOG << log);
        // The other half of that in `note_written`.
        fence(Ordering::SeqCst);
        Some(log)
    }

    pub(crate) fn stop_log(&self, log: usize) {
        let mut taken = lock(&self.logs_taken);
        self.turn_off(on::LOG << log);
        self.take_dirty(log);
        taken[log] = false;
    }

    pub(crate) fn take_dirty(&self, log: usize) -> Vec<u64> {
        self.dirty.get(log).map(Bits::take).unwrap_or_default()
    }

    pub(crate) fn put_back(&self, log: usize, words: &[u64]) {
        if let Some(dirty) = self.dirty.get(log) {
            dirty.add_words(words.iter().copied());
        }
    }

    /// Notes that `page` is about to be written by a hart, which stores no later than it serves its next fence. The look
    /// before the note is sound for it alone: see [`Tracking::note_written`].
    pub(crate) fn note_write(&self, page: usize, on: u32) {
        for (log, dirty) in self.dirty.iter().enumerate() {
            if on & on::LOG << log != 0 && !dirty.has(page) {
                dirty.add(page);
            }
        }
    }

    /// Notes that the pages were written by somebody whom no fence stops. Whoever takes the log after the note sees
    /// what was written; a look instead of the note could overtake the store.
    pub(crate) fn note_written(&self, pages: std::ops::RangeInclusive<usize>) {
        // Whoever starts a log, or decodes a page, and reads it before it has the store, is seen here.
        fence(Ordering::SeqCst);
        let on = self.on();
        for page in pages {
            self.code.written(page);
            for (log, dirty) in self.dirty.iter().enumerate() {
                if on & on::LOG << log != 0 {
                    dirty.add(page);
                }
            }
        }
    }

    /// Notes that `len` bytes at `offset` were written, as [`Tracking::note_written`].
    pub(crate) fn note_bytes_written(&self, offset: usize, len: usize) {
        let Some(last) = len.checked_sub(1) else { return };
        let page = PAGE_SIZE as usize;
        for chunk in offset / CHUNK_SIZE..=offset.saturating_add(last) / CHUNK_SIZE {
            self.touch(chunk);
        }
        self.note_written(offset / page..=offset.saturating_add(last) / page);
    }

    // ---- lost memory ----

    /// Notes that memory is lost. The first loss is kept.
    pub(crate) fn note_loss(&self, loss: &MemoryLost) {
        lock(&self.lost).get_or_insert_with(|| loss.clone());
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn lost(&self) -> Option<MemoryLost> {
        lock(&self.lost).clone()
    }

    pub(crate) fn forget_losses(&self) {
        *lock(&self.lost) = None;
    }

    #[inline]
    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reporter(&self, reporter: Reporter) {
        // The first one stays.
        let _ = self.reporter.set(reporter);
    }

    pub(crate) fn report(&self, loss: &MemoryLost) {
        if let Some(reporter) = self.reporter.get() {
            reporter(loss);
        }
    }
}
