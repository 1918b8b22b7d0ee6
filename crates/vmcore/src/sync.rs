//! The atomics of the parking protocol: the standard library's, or loom's when the model is checked (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

#[cfg(loom)]
pub(crate) use loom::sync::atomic;

pub(crate) use futex::{wait, wake_all};

/// A futex: sleep while a word has a value, wake all who sleep on it.
#[cfg(not(loom))]
mod futex {
    use std::sync::atomic::AtomicU32;

    use rustix::thread::futex;

    /// Sleeps while `word` holds `seen`. May return early: callers look again.
    pub(crate) fn wait(word: &AtomicU32, seen: u32) {
        // An error means that the word has changed already or a signal came: both are reasons to look again.
        let _ = futex::wait(word, futex::Flags::PRIVATE, seen, None);
    }

    /// Wakes whoever sleeps on `word`.
    pub(crate) fn wake_all(word: &AtomicU32) {
        // Fails only for a bad address, which a reference is not.
        let _ = futex::wake(word, futex::Flags::PRIVATE, i32::MAX as u32);
    }
}

/// The model's futex: yielding until the word differs explores the same interleavings. A lost wake-up shows there as
/// a word that never changes, which loom reports as a livelock.
#[cfg(loom)]
mod futex {
    use loom::sync::atomic::{AtomicU32, Ordering};

    pub(crate) fn wait(word: &AtomicU32, seen: u32) {
        while word.load(Ordering::SeqCst) == seen {
            loom::thread::yield_now();
        }
    }

    pub(crate) fn wake_all(_word: &AtomicU32) {}
}
