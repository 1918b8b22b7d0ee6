//! The atomics of the parking protocol: the standard library's, or loom's when the model is checked (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

#[cfg(loom)]
pub(crate) use loom::sync::atomic;

pub(crate) use futex::Word;

/// A futex: sleep while a word has a value, wake all who sleep on it.
#[cfg(not(loom))]
mod futex {
    use std::ops::Deref;
    use std::sync::atomic::AtomicU32;

    use rustix::thread::futex;

    /// A word that can be slept on.
    #[derive(Debug)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        pub(crate) fn new(value: u32) -> Self {
            Self(AtomicU32::new(value))
        }

        /// Sleeps while the word holds `seen`. May return early: callers look again.
        pub(crate) fn wait(&self, seen: u32) {
            // An error means that the word has changed already or a signal came: both are reasons to look again.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, seen, None);
        }

        /// Wakes whoever sleeps on the word.
        pub(crate) fn wake_all(&self) {
            // Fails only for a bad address, which a reference is not.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
        }
    }

    impl Deref for Word {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.0
        }
    }
}

/// The model's futex really sleeps: the kernel compares the word and enqueues the sleeper under one lock, and so does
/// this. A lost wake-up leaves every thread of the model asleep, which loom reports as a deadlock. (A futex that yields
/// until the word differs would hide a wake that was forgotten.)
#[cfg(loom)]
mod futex {
    use std::ops::Deref;

    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};

    #[derive(Debug)]
    pub(crate) struct Word {
        value: AtomicU32,
        queue: Mutex<()>,
        woken: Condvar,
    }

    impl Word {
        pub(crate) fn new(value: u32) -> Self {
            Self { value: AtomicU32::new(value), queue: Mutex::new(()), woken: Condvar::new() }
        }

        pub(crate) fn wait(&self, seen: u32) {
            let queue = self.queue.lock().unwrap();
            if self.value.load(Ordering::SeqCst) == seen {
                drop(self.woken.wait(queue).unwrap());
            }
        }

        pub(crate) fn wake_all(&self) {
            let _queue = self.queue.lock().unwrap();
            self.woken.notify_all();
        }
    }

    impl Deref for Word {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.value
        }
    }
}
