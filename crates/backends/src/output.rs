//! The bounded output queue of a character device, and the thread that drains it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many bytes may wait for the host: a screenful many times over, and a bound on memory.
pub(crate) const CAPACITY: usize = 64 * 1024;
/// How many bytes go out in one system call.
const CHUNK: usize = 4096;

/// The queue and where it goes.
#[derive(Debug, Default)]
pub(crate) struct Output {
    state: Mutex<State>,
    /// Signalled on every change that the writer or a flush may wait for.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<u8>,
    /// Where bytes go; without it they are dropped.
    target: Option<Arc<OwnedFd>>,
    /// Bytes taken off the queue whose write is under way.
    in_flight: bool,
    /// A write was cut short, so the frontend waits for room.
    blocked: bool,
    closing: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as much as there is room for.
    pub(crate) fn push(&self, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        if state.target.is_none() {
            return bytes.len();
        }
        let taken = bytes.len().min(CAPACITY - state.queue.len().min(CAPACITY));
        state.queue.extend(&bytes[..taken]);
        state.blocked |= taken < bytes.len();
        drop(state);
        if taken > 0 {
            self.changed.notify_all();
        }
        taken
    }

    /// Directs output elsewhere, or nowhere; what was meant for another target is dropped.
    pub(crate) fn set_target(&self, target: Option<Arc<OwnedFd>>) {
        let mut state = self.lock();
        let same = match (&state.target, &target) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if !same {
            state.queue.clear();
        }
        state.target = target;
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the writer thread after what is being written now.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// True, once, if a frontend waits for room and there is room.
    pub(crate) fn take_unblocked(&self) -> bool {
        let mut state = self.lock();
        let room = state.queue.len() <= CAPACITY / 2;
        room && std::mem::take(&mut state.blocked)
    }

    /// Puts back what [`Output::take_unblocked`] took, when it could not be told yet.
    pub(crate) fn set_blocked(&self) {
        self.lock().blocked = true;
    }

    /// Waits until everything was written or dropped.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        while (!state.queue.is_empty() || state.in_flight) && !state.closing {
            let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queue.is_empty() && !state.in_flight
    }

    /// The writer thread's work: writes until closed; calls `after` when something left the queue.
    ///
    /// A target that fails gets nothing more; the reader notices a dead connection by itself.
    pub(crate) fn drain(&self, after: impl Fn()) {
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(target) = self.next_chunk(&mut chunk) {
            let failed = write_all(&target, &chunk).is_err();
            let mut state = self.lock();
            state.in_flight = false;
            if failed && state.target.as_ref().is_some_and(|t| Arc::ptr_eq(t, &target)) {
                state.target = None;
                state.queue.clear();
            }
            drop(state);
            self.changed.notify_all();
            after();
        }
    }

    /// Waits for bytes and takes some; nothing when closed.
    fn next_chunk(&self, chunk: &mut Vec<u8>) -> Option<Arc<OwnedFd>> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(target) = state.target.clone().filter(|_| !state.queue.is_empty()) {
                let count = state.queue.len().min(CHUNK);
                chunk.clear();
                chunk.extend(state.queue.drain(..count));
                state.in_flight = true;
                return Some(target);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes the whole chunk, waiting as long as the host takes; also on a descriptor that somebody made non-blocking.
fn write_all(target: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(target, PollFlags::OUT)];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
