//! A character device's host side: one descriptor or one connection at a time, two threads, one frontend.

use crate::frontend::{Backend, CharEvent, Frontend};
use crate::mux::MuxCore;
use crate::output::Output;
use crate::reader::{self, Transport};
use crate::socket::SocketFile;
use crate::tty::RawMode;
use crate::wake::{Wake, Woken};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// A host-side character device; made by [`crate::open`].
///
/// Dropping it ends its threads, puts the terminal back and removes its socket file.
pub struct CharDev {
    core: Arc<Core>,
    label: String,
    /// Held for what dropping it does.
    _terminal: Option<RawMode>,
    _socket: Option<SocketFile>,
}

/// What must be put back or removed when a device goes.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    pub(crate) terminal: Option<RawMode>,
    pub(crate) socket: Option<SocketFile>,
}

/// Who gets the input.
enum Target {
    None,
    Device(Arc<dyn Frontend>),
    /// Weak, because the multiplexer owns the device.
    Mux(Weak<MuxCore>),
}

struct Gate {
    target: Target,
    paused: bool,
    opened: bool,
    /// A BREAK was sent while paused. Several are one, as on a line.
    break_waits: bool,
}

/// What the device's users and its threads share.
pub(crate) struct Core {
    /// Held during every callback into a frontend: closing it is what `pause` means.
    gate: Mutex<Gate>,
    /// The reader holds input for which there was no room; set before it looks, so that no rise is missed.
    starved: AtomicBool,
    closing: AtomicBool,
    wake: Wake,
    output: Output,
    /// What `query-chardev` shows.
    filename: Mutex<String>,
}

impl CharDev {
    /// Starts the threads that the transport needs.
    pub(crate) fn start(
        label: &str,
        filename: String,
        transport: Transport,
        belongings: Belongings,
    ) -> io::Result<Arc<Self>> {
        let core = Arc::new(Core {
            gate: Mutex::new(Gate { target: Target::None, paused: false, opened: false, break_waits: false }),
            starved: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            wake: Wake::new()?,
            output: Output::default(),
            filename: Mutex::new(filename),
        });
        let device = Self {
            core: Arc::clone(&core),
            label: label.to_owned(),
            _terminal: belongings.terminal,
            _socket: belongings.socket,
        };
        core.output.set_target(transport.first_output());
        if !matches!(transport, Transport::Null) {
            let writer = Arc::clone(&core);
            thread::Builder::new()
                .name(format!("{label}/out"))
                .spawn(move || writer.output.drain(|| writer.tell_writable()))?;
            thread::Builder::new()
                .name(format!("{label}/in"))
                .spawn(move || reader::run(&core, transport))?;
        }
        Ok(Arc::new(device))
    }

    /// The name given to it: `id=` of `-chardev`, or the place that it was made for (`serial0`).
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it is connected to now, in the words of `query-chardev` (`pty:/dev/pts/3`, `disconnected:unix:...`).
    #[must_use]
    pub fn filename(&self) -> String {
        self.core.filename.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a BREAK on the line, as the operator's doing: ahead of input that waits for room, and held back while paused.
    pub fn send_break(&self) {
        let mut gate = self.core.gate();
        let mux = match &gate.target {
            Target::Mux(mux) => mux.upgrade(),
            _ if gate.paused => {
                gate.break_waits = true;
                None
            }
            _ => {
                gate.event(CharEvent::Break);
                None
            }
        };
        drop(gate);
        if let Some(mux) = mux {
            mux.send_break();
        }
    }

    /// Gives the input to a multiplexer in place of a frontend.
    pub(crate) fn attach_mux(&self, mux: Weak<MuxCore>) {
        self.core.attach(Target::Mux(mux));
    }

    /// Makes the reader thread look after the multiplexer's buffers.
    pub(crate) fn wake_reader(&self) {
        self.core.wake.wake();
    }
}

impl Backend for CharDev {
    fn attach(&self, frontend: Arc<dyn Frontend>) {
        self.core.attach(Target::Device(frontend));
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        self.core.output.push(bytes)
    }

    fn poll_input(&self) {
        if self.core.starved.swap(false, Ordering::SeqCst) {
            self.core.wake.wake();
        }
    }

    fn pause(&self, paused: bool) {
        let mut gate = self.core.gate();
        gate.paused = paused;
        if !paused && std::mem::take(&mut gate.break_waits) {
            gate.event(CharEvent::Break);
        }
        drop(gate);
        if !paused {
            self.core.tell_writable();
            self.poll_input();
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.core.output.flush(timeout)
    }
}

impl Drop for CharDev {
    fn drop(&mut self) {
        self.core.closing.store(true, Ordering::SeqCst);
        self.core.gate().target = Target::None;
        self.core.output.close();
        self.core.wake.wake();
    }
}

impl std::fmt::Debug for CharDev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CharDev").field("label", &self.label).field("filename", &self.filename()).finish()
    }
}

impl Core {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, target: Target) {
        let mut gate = self.gate();
        gate.target = target;
        if gate.opened {
            gate.event(CharEvent::Opened);
        }
        drop(gate);
        self.wake.wake();
    }

    /// The device is being dropped.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Reader thread: waits for input on `fd`, for a wake-up, or for the time to be over.
    pub(crate) fn wait(&self, fd: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<Woken> {
        self.wake.wait(fd, timeout)
    }

    /// Reader thread: hands over input, from the front, as far as there is room; gives how much was taken.
    ///
    /// When that is not all, a wake-up follows every later rise of the room.
    pub(crate) fn deliver(&self, bytes: &[u8]) -> usize {
        self.starved.store(true, Ordering::SeqCst);
        let gate = self.gate();
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty() && !gate.paused) {
            let now = match &gate.target {
                Target::None => 0,
                Target::Device(frontend) => {
                    let room = frontend.can_receive().min(rest.len());
                    if let Some(now) = rest.get(..room).filter(|now| !now.is_empty()) {
                        frontend.receive(now);
                    }
                    room
                }
                Target::Mux(mux) => mux.upgrade().map_or(0, |mux| mux.accept(rest)),
            };
            if now == 0 {
                return taken;
            }
            taken += now;
        }
        if taken == bytes.len() {
            self.starved.store(false, Ordering::SeqCst);
        }
        taken
    }

    /// Reader thread: lets a multiplexer hand on what its ports have room for.
    pub(crate) fn pump(&self) {
        let mux = match &self.gate().target {
            Target::Mux(mux) => mux.upgrade(),
            _ => None,
        };
        if let Some(mux) = mux {
            mux.pump();
        }
    }

    /// Reader thread: a connection is there; output goes to it.
    pub(crate) fn connect(&self, output: Arc<OwnedFd>, filename: Option<String>) {
        if let Some(filename) = filename {
            self.set_filename(filename);
        }
        self.output.set_target(Some(output));
        let mut gate = self.gate();
        gate.opened = true;
        gate.event(CharEvent::Opened);
    }

    /// Reader thread: the connection is gone; output is dropped until there is another.
    pub(crate) fn disconnect(&self, filename: Option<String>) {
        if let Some(filename) = filename {
            self.set_filename(filename);
        }
        self.output.set_target(None);
        self.end_of_input();
        self.tell_writable();
    }

    /// Reader thread: no more input, though output goes on (a pipe on the standard input that ended).
    pub(crate) fn end_of_input(&self) {
        let mut gate = self.gate();
        gate.opened = false;
        gate.event(CharEvent::Closed);
    }

    fn set_filename(&self, filename: String) {
        *self.filename.lock().unwrap_or_else(PoisonError::into_inner) = filename;
    }

    /// Tells the frontend of new room in the output queue, if it waits for it and is not paused.
    fn tell_writable(&self) {
        let gate = self.gate();
        if gate.paused || !self.output.take_unblocked() {
            return;
        }
        match &gate.target {
            Target::None => self.output.set_blocked(),
            Target::Device(frontend) => frontend.writable(),
            Target::Mux(mux) => {
                if let Some(mux) = mux.upgrade() {
                    mux.tell_writable();
                }
            }
        }
    }
}

impl Gate {
    fn event(&mut self, event: CharEvent) {
        match &self.target {
            Target::None => {}
            Target::Device(frontend) => frontend.event(event),
            Target::Mux(mux) => {
                if let Some(mux) = mux.upgrade() {
                    mux.event(event);
                }
            }
        }
    }
}
