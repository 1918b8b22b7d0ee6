//! Connections for monitors: blocking byte streams, one client after another, on threads that the monitor runs itself.
//!
//! ```text
//! StreamSource (listener | one connection | client that reconnects) ── accept() ──▶ Connection ── Read, Write, shutdown
//! MuxPort, CharDev ── Connection::on_backend() ──────────────────────────────────▶
//! ```
//! While a client is served, the next one waits in the kernel. [`Connection::shutdown`] and [`StreamSource::close`] may be
//! called from any thread and end what another thread waits for.

use crate::fdset::FdSets;
use crate::frontend::{Backend, CharEvent, Frontend};
use crate::open::{self, Notice, OpenError, Opened};
use crate::socket::{self, Address, SocketFile};
use crate::spec::{CharKind, CharSpec, SocketAddress};
use crate::tty::RawMode;
use crate::wake::Wake;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One client's connection. Clones are the same connection; reading and writing may go on in two threads at once.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    /// A socket: the kernel ends a blocked read or write on shutdown.
    Socket(OwnedFd),
    /// Other descriptors: an event ends a blocked read.
    Files {
        input: OwnedFd,
        output: OwnedFd,
        wake: Wake,
        shut: AtomicBool,
        _terminal: Option<RawMode>,
    },
    Port(PortStream),
}

/// A [`Backend`] seen as a byte stream.
struct PortStream {
    backend: Arc<dyn Backend>,
    shared: Arc<PortShared>,
}

impl std::fmt::Debug for PortStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortStream")
    }
}

#[derive(Default)]
struct PortShared {
    state: Mutex<PortState>,
    changed: Condvar,
    /// Told of the multiplexer's focus, if anybody wants to know.
    on_focus: Option<Box<dyn Fn(bool) + Send + Sync>>,
}

#[derive(Default)]
struct PortState {
    input: VecDeque<u8>,
    /// Counts the times that output room appeared, so that a writer misses none.
    room: u64,
    shut: bool,
}

/// How much input a [`Connection`] on a backend reads ahead.
const READ_AHEAD: usize = 4096;

impl Connection {
    /// A connection on a socket.
    #[must_use]
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { inner: Arc::new(Inner::Socket(socket)) }
    }

    /// A connection on a character device or a multiplexer's port. The end of the input does not end it.
    ///
    /// `on_focus` is told, on the backend's thread, when the multiplexer's focus comes (true) or goes; it must not block.
    #[must_use]
    pub fn on_backend(backend: Arc<dyn Backend>, on_focus: Option<Box<dyn Fn(bool) + Send + Sync>>) -> Self {
        let shared = Arc::new(PortShared { on_focus, ..PortShared::default() });
        backend.attach(Arc::clone(&shared) as Arc<dyn Frontend>);
        Self { inner: Arc::new(Inner::Port(PortStream { backend, shared })) }
    }

    /// Ends the connection: reads give the end of the stream, writes fail, also those that wait already. Idempotent.
    pub fn shutdown(&self) {
        match &*self.inner {
            Inner::Socket(socket) => drop(rustix::net::shutdown(socket, rustix::net::Shutdown::Both)),
            Inner::Files { wake, shut, .. } => {
                shut.store(true, Ordering::SeqCst);
                wake.wake();
            }
            Inner::Port(port) => {
                port.shared.lock().shut = true;
                port.shared.changed.notify_all();
            }
        }
    }

    /// The socket's descriptor, for what is more than bytes (descriptors passed along); nothing for other streams.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &*self.inner {
            Inner::Socket(socket) => Some(socket.as_fd()),
            _ => None,
        }
    }

    /// Reads like [`Read::read`], and adds to `fds` the descriptors that a unix socket's other side has sent along with the
    /// bytes, at most [`FDS_AT_ONCE`] of them; they are closed when a program is executed.
    ///
    /// # Errors
    /// As the system reports.
    pub fn read_with_fds(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let Inner::Socket(socket) = &*self.inner else { return (&mut &*self).read(buffer) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        Ok(received.bytes)
    }

    /// The user on the other side of a unix socket; nothing for other streams.
    #[must_use]
    pub fn peer_uid(&self) -> Option<u32> {
        let Inner::Socket(socket) = &*self.inner else { return None };
        // A socket of another family answers with nobody in particular.
        if sockopt::socket_domain(socket).ok()? != AddressFamily::UNIX {
            return None;
        }
        Some(sockopt::socket_peercred(socket).ok()?.uid.as_raw())
    }
}

/// Descriptors that are taken from one message of a client, as many as QEMU takes.
pub const FDS_AT_ONCE: usize = 16;

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &*self.inner {
            Inner::Socket(socket) => {
                Ok(rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut *buffer))?)
            }
            Inner::Files { input, wake, shut, .. } => loop {
                if shut.load(Ordering::SeqCst) {
                    return Ok(0);
                }
                if wake.wait(Some(input.as_fd()), None)?.ready && !shut.load(Ordering::SeqCst) {
                    return Ok(rustix::io::retry_on_intr(|| rustix::io::read(input, &mut *buffer))?);
                }
            },
            Inner::Port(port) => Ok(port.read(buffer)),
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &*self.inner {
            Inner::Socket(socket) => Ok(rustix::io::retry_on_intr(|| rustix::io::write(socket, bytes))?),
            Inner::Files { output, shut, .. } => {
                if shut.load(Ordering::SeqCst) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(rustix::io::retry_on_intr(|| rustix::io::write(output, bytes))?)
            }
            Inner::Port(port) => port.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PortStream {
    fn read(&self, buffer: &mut [u8]) -> usize {
        let mut state = self.shared.lock();
        while state.input.is_empty() && !state.shut && !buffer.is_empty() {
            state = self.shared.wait(state);
        }
        let count = if state.shut { 0 } else { state.input.len().min(buffer.len()) };
        for (to, from) in buffer.iter_mut().zip(state.input.drain(..count)) {
            *to = from;
        }
        drop(state);
        self.backend.poll_input();
        count
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let seen = self.shared.lock().room;
            let taken = self.backend.try_write(bytes);
            let mut state = self.shared.lock();
            if state.shut {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if taken > 0 || bytes.is_empty() {
                return Ok(taken);
            }
            while state.room == seen && !state.shut {
                state = self.shared.wait(state);
            }
        }
    }
}

impl PortShared {
    fn lock(&self) -> MutexGuard<'_, PortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, PortState>) -> MutexGuard<'a, PortState> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frontend for PortShared {
    fn can_receive(&self) -> usize {
        READ_AHEAD.saturating_sub(self.lock().input.len())
    }

    fn receive(&self, bytes: &[u8]) {
        self.lock().input.extend(bytes);
        self.changed.notify_all();
    }

    fn event(&self, event: CharEvent) {
        match (&self.on_focus, event) {
            (Some(on_focus), CharEvent::FocusIn) => on_focus(true),
            (Some(on_focus), CharEvent::FocusOut) => on_focus(false),
            _ => {}
        }
    }

    fn writable(&self) {
        let mut state = self.lock();
        state.room = state.room.wrapping_add(1);
        drop(state);
        self.changed.notify_all();
    }
}

/// Where a monitor's clients come from.
#[derive(Debug)]
pub struct StreamSource {
    kind: Mutex<SourceKind>,
    listener: Option<OwnedFd>,
    wake: Wake,
    closed: AtomicBool,
    name: String,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum SourceKind {
    /// A listener; perhaps with a client that was waited for.
    Listener { first: Option<OwnedFd> },
    /// A connection that is there once, and again if it is one that reconnects.
    Once { connection: Option<Connection>, again: Option<(Address, Duration)> },
}

impl StreamSource {
    /// Opens what `spec` asks for. As with [`crate::open`], a server with `wait=on` blocks until its first client is there,
    /// and a client connects before this returns.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::NotAStream`] for files, `null` and `none`.
    pub fn open(
        spec: &CharSpec,
        label: &str,
        fdsets: &FdSets,
        notify: &mut dyn FnMut(&Notice),
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { label: label.to_owned(), source };
        let wake = Wake::new().map_err(io)?;
        let closed = AtomicBool::new(false);
        let once = |connection, name: &str, wake, closed| Self {
            kind: Mutex::new(SourceKind::Once { connection: Some(connection), again: None }),
            listener: None,
            wake,
            closed,
            name: name.to_owned(),
            _file: None,
        };
        match &spec.kind {
            CharKind::Socket(spec) => {
                let opened = open::open_socket(spec, notify)?;
                let (kind, listener) = match opened.socket {
                    Opened::Listener { listener, first } => (SourceKind::Listener { first }, Some(listener)),
                    Opened::Connection(connection) => {
                        let connection = connection.map(Connection::from_socket);
                        // An inherited connection cannot be made again.
                        let can = !matches!(spec.address, SocketAddress::Fd(_));
                        let again = spec.reconnect.filter(|_| can).map(|pause| (spec.address.clone(), pause));
                        (SourceKind::Once { connection, again }, None)
                    }
                };
                let kind = Mutex::new(kind);
                Ok(Self { kind, listener, wake, closed, name: opened.name, _file: opened.file })
            }
            CharKind::Stdio { signal } => {
                let (input, output) = open::take_stdio().map_err(io)?.ok_or(OpenError::StdioTaken)?;
                let terminal = RawMode::enter(input.as_fd(), *signal).map_err(io)?;
                let shut = AtomicBool::new(false);
                let files =
                    Inner::Files { input, output, wake: Wake::new().map_err(io)?, shut, _terminal: terminal };
                Ok(once(Connection { inner: Arc::new(files) }, "stdio", wake, closed))
            }
            CharKind::Pty => {
                let device = open::open(spec, label, fdsets, notify)?.ok_or(OpenError::NotAStream)?;
                let name = device.filename();
                Ok(once(Connection::on_backend(device, None), &name, wake, closed))
            }
            CharKind::Ref(id) => Err(OpenError::UnresolvedReference(id.clone())),
            CharKind::None | CharKind::Null | CharKind::File { .. } => Err(OpenError::NotAStream),
        }
    }

    /// What `query-chardev` shows of it when connected.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its clients come over a socket, by which a connection can be cut from outside.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        let is_socket = |connection: &Connection| connection.socket().is_some();
        match &*self.kind() {
            SourceKind::Listener { .. } => true,
            SourceKind::Once { connection, again } => {
                again.is_some() || connection.as_ref().is_some_and(is_socket)
            }
        }
    }

    /// Waits for the next client; nothing when there will be no other. The caller serves it to its end, then asks again.
    ///
    /// # Errors
    /// As the system reports, when no later client is to be expected either.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        while !self.closed.load(Ordering::SeqCst) {
            if let Some(listener) = &self.listener {
                if let SourceKind::Listener { first } = &mut *self.kind()
                    && let Some(first) = first.take()
                {
                    return Ok(Some(Connection::from_socket(first)));
                }
                if !self.wake.wait(Some(listener.as_fd()), None)?.ready {
                    continue;
                }
                match socket::accept(listener.as_fd()) {
                    Ok(client) => return Ok(Some(Connection::from_socket(client))),
                    Err(error) if socket::is_passing(&error) => continue,
                    Err(error) => return Err(error),
                }
            }
            let again = match &mut *self.kind() {
                SourceKind::Once { connection: Some(_), .. } => None,
                SourceKind::Once { again: Some(again), .. } => Some(again.clone()),
                _ => return Ok(None),
            };
            if let Some((address, pause)) = again {
                self.wake.wait(None, Some(pause))?;
                if self.closed.load(Ordering::SeqCst) {
                    return Ok(None);
                }
                if let Ok(client) = socket::connect(&address) {
                    return Ok(Some(Connection::from_socket(client)));
                }
            } else if let SourceKind::Once { connection, .. } = &mut *self.kind() {
                return Ok(connection.take());
            }
        }
        Ok(None)
    }

    /// No further client: an [`StreamSource::accept`] that waits gives nothing. Idempotent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake.wake();
    }

    fn kind(&self) -> MutexGuard<'_, SourceKind> {
        self.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
