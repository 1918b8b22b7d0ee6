//! Memory that machines have in common: mapped from a file in which it lies as it is, copied by the host when it is written.
//!
//! Who maps it has the file's word for it; the [source](crate::ChunkSource) is asked all the same when a chunk is first
//! needed, reads what the mapping shows, and judges it. A file that is cut short after that is an error of the host's memory,
//! as any other ([`Ram::on_host_error`]). One that is written to is seen by whoever maps it: it must not be.

use std::os::fd::BorrowedFd;

use crate::sync::atomic::Ordering;
use crate::{CHUNK_SIZE, Ram};

/// A run of chunks as a file has it.
#[derive(Clone, Copy, Debug)]
pub struct FileRun<'a> {
    /// The first of the chunks.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Where in it they begin, in bytes.
    pub offset: u64,
}

impl Ram {
    /// Maps chunks from files in which they lie just as the source of [`Ram::replace`] gives them. Returns how many are
    /// mapped; what the host refuses to map is filled as ever.
    ///
    /// Called right after `replace` and under the same promise: every hart is outside, no device is at work. (A thread that
    /// fills in the background may be: it fills what is mapped.)
    pub fn share<'a>(&self, runs: impl IntoIterator<Item = FileRun<'a>>) -> usize {
        self.memory.tracking.errors_before.store(self.watched.met(), Ordering::SeqCst);
        runs.into_iter().map(|run| self.share_run(run)).sum()
    }

    fn share_run(&self, run: FileRun<'_>) -> usize {
        let FileRun { first, count, file, offset } = run;
        let end = first.saturating_add(count);
        let (memory, tracking) = (&self.memory, &self.memory.tracking);
        if count == 0 || end > self.chunk_count() {
            return 0;
        }
        let start = first * CHUNK_SIZE;
        let len = (count * CHUNK_SIZE).min(memory.mapping.len() - start);
        if memory.mapping.map_file(start, len, file, offset).is_err() {
            return 0;
        }
        for chunk in first..end {
            tracking.touch(chunk);
            tracking.shared.add(chunk);
        }
        count
    }

    /// Whether the host has lost a page since chunks are of files, which may have been cut short.
    pub(crate) fn has_lost_of_files(&self) -> bool {
        let tracking = &self.memory.tracking;
        tracking.shared.next(0).is_some()
            && self.watched.met() != tracking.errors_before.load(Ordering::SeqCst)
    }

    /// Makes every chunk that is of a file zero, but for those that are still to be saved.
    pub(crate) fn give_up_files(&self) {
        let tracking = &self.memory.tracking;
        let mut next = 0;
        while let Some(chunk) = tracking.shared.next(next) {
            next = chunk + 1;
            if !tracking.unsaved.has(chunk) {
                self.memory.discard(chunk, 1);
            }
        }
        tracking.errors_before.store(self.watched.met(), Ordering::SeqCst);
    }
}
