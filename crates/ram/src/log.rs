//! Dirty logs: which pages were written since one looked last.

use std::sync::Arc;

use crate::Ram;
use crate::set::PageSet;
use crate::tracking::Tracking;

/// As many logs are kept as there can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no more dirty logs can be kept")]
pub struct LogsInUse;

/// A log of the pages that are written. Dropping it ends it.
///
/// The `drop_writes` of both methods has every hart drop its write entries, so that its next store to each page is noted,
/// and returns when each has, or is outside and will before it executes anything
/// (`vmcore::Harts::fence_all`).
pub struct DirtyLog {
    tracking: Arc<Tracking>,
    log: usize,
}

impl std::fmt::Debug for DirtyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirtyLog").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Ram {
    /// Starts a log. Whatever is written and not seen by one who reads memory after this has returned will be in it.
    pub fn start_log(&self, drop_writes: impl FnOnce()) -> Result<DirtyLog, LogsInUse> {
        let tracking = Arc::clone(&self.memory.tracking);
        let log = tracking.start_log().ok_or(LogsInUse)?;
        drop_writes();
        Ok(DirtyLog { tracking, log })
    }
}

impl DirtyLog {
    /// Takes the pages that were written since the log was started or taken last. Whatever is written to one and not seen by
    /// one who reads it after this has returned will be in what is taken next.
    pub fn take(&self, drop_writes: impl FnOnce()) -> PageSet {
        let words = self.tracking.take_dirty(self.log);
        // Stores that were noted before the take may still be under way until the harts have been here.
        drop_writes();
        PageSet::from_words(words)
    }

    /// Puts pages back that were taken and then not needed after all.
    pub fn put_back(&self, pages: &PageSet) {
        self.tracking.put_back(self.log, pages.words());
    }
}

impl Drop for DirtyLog {
    fn drop(&mut self) {
        self.tracking.stop_log(self.log);
    }
}
