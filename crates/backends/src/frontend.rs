//! The two ends of a character device: what the device offers, and what the host offers it.

use std::sync::Arc;
use std::time::Duration;

/// Something on the line that is not a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CharEvent {
    /// A BREAK condition, for the guest to see. Held back while paused, in order with the bytes.
    Break,
    /// A client is there (at once for files and terminals). Also given while paused: no guest-visible change may follow.
    Opened,
    /// The client went, or the input ended, after its last byte. Also given while paused, as `Opened`.
    Closed,
    /// The multiplexer's keyboard focus came to this frontend. Also given while paused.
    FocusIn,
    /// The focus went elsewhere. Also given while paused.
    FocusOut,
}

/// The device's end, called on the backend's threads.
///
/// Every method may take the device's lock; none may block on anything else, call [`Backend::pause`] or
/// [`Backend::attach`], or wait for another thread.
pub trait Frontend: Send + Sync {
    /// How many bytes the device can take now. It must not shrink but by [`Frontend::receive`].
    fn can_receive(&self) -> usize;

    /// Input, never more than [`Frontend::can_receive`] just said.
    fn receive(&self, bytes: &[u8]);

    /// Something other than a byte.
    fn event(&self, event: CharEvent);

    /// The output queue has room again, after [`Backend::try_write`] did not take all that it was given (or did take all, for
    /// somebody else on the same multiplexer).
    fn writable(&self);
}

/// The host's end, called by the device.
pub trait Backend: Send + Sync {
    /// Connects the frontend, in place of an earlier one. Input that waited comes to it.
    fn attach(&self, frontend: Arc<dyn Frontend>);

    /// Queues output; gives how many bytes were taken, from the front. Never blocks.
    ///
    /// When that is less than `bytes.len()`, [`Frontend::writable`] follows once the queue is half empty; until then the
    /// device says "not ready" to its guest. With nobody connected bytes are taken and dropped, as on a real line.
    fn try_write(&self, bytes: &[u8]) -> usize;

    /// The device has room again ([`Frontend::can_receive`] rose from 0). Never blocks, and costs no system call when
    /// nothing waits.
    fn poll_input(&self);

    /// Holds input back (true) or lets it come (false), for a machine that is held.
    ///
    /// Waits for a callback in progress: after `pause(true)` has returned there is none, and none will come. The caller
    /// must not hold the device's lock.
    fn pause(&self, paused: bool);

    /// Waits until all output has been handed to the host, at most `timeout`; true if it was. For the end of the program.
    fn flush(&self, timeout: Duration) -> bool;
}
