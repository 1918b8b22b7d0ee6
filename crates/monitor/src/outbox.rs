//! A client's output: one queue of bytes, and the machine's status that goes with what stands in it.
//!
//! ```text
//!  reply ─┐               ┌── send what the kernel takes at once (sockets), on the appender's own thread
//!  event ─┴─► queue ──────┤
//!                         └── the rest: writer thread, until the queue is empty again
//! ```
//!
//! Exactly one of the two writes at any moment: [`State::writer_owns`] says which, so bytes leave in the order in which
//! they entered. Lock order: the engine's publisher, then an outbox. Nothing blocks under an outbox's lock.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backends::stream::Connection;
use engine::{Record, Status};
use qmp::{Event, Throttle, Timestamp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::events;

/// Bytes that may wait for a client before its commands are no longer read (lifecycle rule 3.5).
pub const READ_BOUND: usize = 1 << 20;
/// Bytes that may wait for a client before its connection is closed. One reply may be larger; it is not counted.
pub const CLOSE_BOUND: usize = 8 << 20;
/// Bytes that may wait for a client before a guest that resets in a loop is slowed down.
pub const BEHIND_BOUND: usize = 64 << 10;

/// Replies of a batch of commands are sent at the latest when so many bytes have come together.
const BATCH: usize = 64 << 10;
/// How much the writer thread takes at once, and the room that an empty queue keeps.
const CHUNK: usize = 64 << 10;

/// See the module.
pub(crate) struct Outbox {
    connection: Connection,
    /// Whether the connection can be written to without blocking.
    direct: bool,
    /// Lines of JSON are indented over several.
    indent: bool,
    state: Mutex<State>,
    /// What times are measured from.
    epoch: Instant,
    /// Something changed that the reader or a shutdown may wait for.
    changed: Condvar,
    /// There is something to do for the writer thread. Apart from `changed`, so that it is not woken for each line that the
    /// client took at once.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<u8>,
    /// Bytes that the writer thread has taken and not written yet.
    in_flight: usize,
    /// The writer thread empties the queue; nobody else writes.
    writer_owns: bool,
    /// The largest reply since the queue was last empty: a client is not cut off for what it asked for.
    largest_reply: usize,
    /// What the client knows when it has read the queue to its end.
    status: Option<Arc<Status>>,
    /// Counts changes of `status`.
    version: u64,
    /// Whether the client is told of events.
    events: bool,
    /// Whether it is told of every record besides.
    lifecycle: bool,
    /// Events that come too often.
    throttle: Throttle,
    /// How many threads work on commands of the connection.
    busy: u32,
    /// No further command is to be begun: the program ends.
    closing: bool,
    /// The client does not read any more; output is dropped.
    dead: bool,
    /// The connection is over.
    closed: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    fn is_drained(&self) -> bool {
        self.waiting() == 0 || self.dead || self.closed
    }

    fn die(&mut self) {
        self.dead = true;
        self.emptied();
    }

    fn emptied(&mut self) {
        self.queue.clear();
        self.queue.shrink_to(CHUNK);
        self.writer_owns = false;
        self.largest_reply = 0;
    }
}

impl Outbox {
    /// The output of `connection`. What is not taken at once waits for [`Outbox::start_writer`].
    pub(crate) fn new(connection: Connection) -> Arc<Self> {
        Self::with_layout(connection, false)
    }

    /// The same, every line of JSON indented over several (`-qmp-pretty`).
    pub(crate) fn indented(connection: Connection) -> Arc<Self> {
        Self::with_layout(connection, true)
    }

    fn with_layout(connection: Connection, indent: bool) -> Arc<Self> {
        let direct = connection.socket().is_some();
        let epoch = Instant::now();
        let (changed, work) = (Condvar::new(), Condvar::new());
        Arc::new(Self { connection, direct, indent, state: Mutex::default(), epoch, changed, work })
    }

    /// Starts the thread that writes what the client does not take at once. It ends with [`Outbox::close`].
    pub(crate) fn start_writer(self: &Arc<Self>, name: &str) -> io::Result<()> {
        let outbox = Arc::clone(self);
        thread::Builder::new().name(name.to_owned()).spawn(move || outbox.write_loop()).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends output and sends what can be sent.
    pub(crate) fn send(&self, text: &str) {
        let mut state = self.lock();
        self.append(&mut state, text);
        self.push_out(&mut state);
    }

    /// Appends a reply. It is sent with the next event or by [`Outbox::end`], so that the replies of a batch go together.
    /// `events`: the client is told of events from here on.
    pub(crate) fn reply(&self, line: &str, events: bool) {
        let mut state = self.lock();
        state.events = events;
        self.append_reply(&mut state, line);
    }

    /// Appends a reply if the status is still the one of `version`; says whether it did. `lifecycle`: the client is told of
    /// each record from here on.
    pub(crate) fn reply_at(&self, version: u64, line: &str, lifecycle: bool) -> bool {
        let mut state = self.lock();
        let current = state.version == version;
        if current {
            state.lifecycle = lifecycle;
            self.append_reply(&mut state, line);
        }
        current
    }

    /// Appends the reply that `make` gives for the present status; for one that kept changing.
    pub(crate) fn reply_now(&self, make: impl FnOnce(Option<Arc<Status>>) -> (String, bool)) {
        let mut state = self.lock();
        let (line, lifecycle) = make(state.status.clone());
        state.lifecycle = lifecycle;
        self.append_reply(&mut state, &line);
    }

    fn append_reply(&self, state: &mut State, line: &str) {
        state.largest_reply = state.largest_reply.max(line.len());
        self.append(state, line);
        if state.queue.len() > BATCH {
            self.push_out(state);
        }
    }

    fn append(&self, state: &mut State, text: &str) {
        if state.dead || state.closed {
            return;
        }
        if self.indent {
            state.queue.extend(qmp::wire::indented(text).as_bytes());
        } else {
            state.queue.extend(text.as_bytes());
        }
    }

    /// Machine thread: the status is `status` from here on; `event` tells of it, and `record`, before it, to a client
    /// that wants X_LIFECYCLE. Never blocks. An event that is held back for its rate is sent by the writer thread, when its
    /// time has come; X_LIFECYCLE never is.
    pub(crate) fn publish(
        &self,
        status: &Arc<Status>,
        record: Option<&Record>,
        event: Option<(Event, Timestamp)>,
    ) {
        let mut state = self.lock();
        state.status = Some(Arc::clone(status));
        state.version = state.version.wrapping_add(1);
        let told = record.filter(|_| state.lifecycle).map(events::lifecycle);
        for (event, when) in told.into_iter().chain(event) {
            self.offer(&mut state, event, when);
        }
    }

    /// Tells of something that is not part of the machine's life. Never blocks.
    pub(crate) fn announce(&self, event: Event, when: Timestamp) {
        self.offer(&mut self.lock(), event, when);
    }

    /// Sends an event, or has it wait for its time, to a client that is told of events.
    fn offer(&self, state: &mut State, event: Event, when: Timestamp) {
        if !state.events {
            return;
        }
        match state.throttle.offer(event, when, self.epoch.elapsed()) {
            Some((event, when)) => self.append_event(state, &event, when),
            None => self.work.notify_all(),
        }
    }

    /// Sends what was held back and is due.
    fn send_due(&self, state: &mut State) {
        for (event, when) in state.throttle.take_due(self.epoch.elapsed()) {
            self.append_event(state, &event, when);
        }
    }

    fn append_event(&self, state: &mut State, event: &Event, when: Timestamp) {
        self.append(state, &event.render(when));
        self.push_out(state);
        if state.waiting() > CLOSE_BOUND.saturating_add(state.largest_reply) && !state.closed {
            tracing::warn!(
                bytes = state.waiting(),
                "a monitor's client does not read: its connection is closed"
            );
            self.close_locked(state);
        }
    }

    /// The status that goes with the end of the queue, and its version.
    pub(crate) fn status(&self) -> (Option<Arc<Status>>, u64) {
        let state = self.lock();
        (state.status.clone(), state.version)
    }

    /// Whether more waits than a client that reads would let wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().waiting() > BEHIND_BOUND
    }

    /// A thread of the connection begins to work on commands. False when nothing more is to be begun.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.lock();
        let begins = !state.closing && !state.closed;
        state.busy += u32::from(begins);
        begins
    }

    /// Waits until the client has read enough that a further command may be run. False when none is to be run.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        if state.waiting() > READ_BOUND {
            self.push_out(&mut state);
        }
        while state.waiting() > READ_BOUND && !state.closed && !state.closing {
            state = self.wait(state);
        }
        !state.closed && !state.closing
    }

    /// That thread has answered them: the replies are sent.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        self.push_out(&mut state);
        state.busy = state.busy.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the client has taken everything, or never will.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        self.push_out(&mut state);
        while !state.is_drained() {
            state = self.wait(state);
        }
    }

    /// No further command is begun on this connection.
    pub(crate) fn stop_reading(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits until the command under way is answered and everything was taken, at most until `deadline`; then closes.
    pub(crate) fn finish(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closing = true;
        while !state.closed && (state.busy > 0 || !state.is_drained()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.close_locked(&mut state);
    }

    /// Ends the connection. What waits is dropped. Idempotent.
    pub(crate) fn close(&self) {
        self.close_locked(&mut self.lock());
    }

    fn close_locked(&self, state: &mut State) {
        state.closed = true;
        state.busy = 0;
        state.emptied();
        self.connection.shutdown();
        self.changed.notify_all();
        self.work.notify_all();
    }

    /// Sends what the kernel takes without waiting and leaves the rest to the writer thread.
    fn push_out(&self, state: &mut State) {
        if state.writer_owns || state.queue.is_empty() {
            return;
        }
        if self.direct {
            match self.send_now(&mut state.queue) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {}
                // What the client still sends is read to its end all the same.
                Err(_gone) => state.die(),
            }
        }
        if state.queue.is_empty() {
            state.emptied();
        } else {
            state.writer_owns = true;
            self.work.notify_all();
        }
        self.changed.notify_all();
    }

    fn send_now(&self, queue: &mut VecDeque<u8>) -> Result<(), Errno> {
        let Some(socket) = self.connection.socket() else { return Err(Errno::AGAIN) };
        while !queue.is_empty() {
            let sent = send(socket, queue.as_slices().0, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            match sent {
                Ok(sent) => drop(queue.drain(..sent.min(queue.len()))),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_loop(&self) {
        let mut chunk = Vec::new();
        while self.take_chunk(&mut chunk) {
            let failed = self.write_all(&chunk).is_err();
            let mut state = self.lock();
            state.in_flight = 0;
            if failed {
                state.die();
            } else if state.queue.is_empty() {
                state.emptied();
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for work and takes some; false when the connection is over.
    fn take_chunk(&self, chunk: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while !state.writer_owns && !state.closed {
            chunk.shrink_to(0);
            state = match state.throttle.next_due() {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let left = due.saturating_sub(self.epoch.elapsed());
                    self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            self.send_due(&mut state);
        }
        let count = state.queue.len().min(CHUNK);
        chunk.clear();
        chunk.extend(state.queue.drain(..count));
        state.in_flight = count;
        !state.closed
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.connection).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_ready(PollFlags::OUT),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until a descriptor that somebody made non-blocking is ready.
    pub(crate) fn wait_ready(&self, what: PollFlags) {
        match self.connection.socket() {
            // A failure of poll shows again, and ends the connection, in the read or write that follows.
            Some(socket) => drop(poll(&mut [PollFd::from_borrowed_fd(socket, what)], None)),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(test)]
mod tests;
