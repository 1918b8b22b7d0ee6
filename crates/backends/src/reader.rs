//! The reader thread of a character device: connections come and go here, and input waits here until there is room.

use crate::chardev::Core;
use crate::pty::Pty;
use crate::socket::{self, Address};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How much is read ahead of the frontend.
const CHUNK: usize = 4096;

/// Where input comes from and output goes.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Nowhere.
    Null,
    /// Output alone.
    Output(Arc<OwnedFd>),
    /// The standard streams: the end of the input leaves the output as it is.
    Duplex { input: OwnedFd, output: Arc<OwnedFd> },
    /// A pseudo-terminal, opened and closed by others.
    Pty(Pty),
    /// A listening socket: one client at a time, the next waits in the kernel.
    Server {
        listener: OwnedFd,
        /// A client that came while the program waited for it.
        first: Option<Arc<OwnedFd>>,
        name: String,
    },
    /// A connection that we made.
    Client {
        connection: Option<Arc<OwnedFd>>,
        address: Address,
        /// Connect again after this time; else the first end is the end.
        reconnect: Option<Duration>,
        name: String,
    },
}

impl Transport {
    /// Where output can go before the thread has begun its work, so that the first bytes are not lost.
    pub(crate) fn first_output(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Null | Self::Pty(_) => None,
            Self::Output(output) | Self::Duplex { output, .. } => Some(Arc::clone(output)),
            Self::Server { first: output, .. } | Self::Client { connection: output, .. } => output.clone(),
        }
    }
}

/// The thread's work, until the device is dropped.
pub(crate) fn run(core: &Core, transport: Transport) {
    match transport {
        Transport::Null => {}
        Transport::Output(fd) => {
            core.connect(fd, None);
            idle(core);
        }
        Transport::Duplex { input, output } => {
            core.connect(output, None);
            serve(core, input.as_fd());
            core.end_of_input();
            idle(core);
        }
        Transport::Pty(pty) => run_pty(core, &pty),
        Transport::Server { listener, first, name } => run_server(core, &listener, first, &name),
        Transport::Client { connection, address, reconnect, name } => {
            run_client(core, connection, &address, reconnect, &name);
        }
    }
}

/// Reads from `fd` until its end or the device's.
fn serve(core: &Core, fd: BorrowedFd<'_>) {
    let mut buffer = [0; CHUNK];
    let mut waiting = 0..0;
    while !core.is_closing() {
        core.pump();
        if let Some(bytes) = buffer.get(waiting.clone()).filter(|bytes| !bytes.is_empty()) {
            let taken = core.deliver(bytes);
            waiting.start += taken;
            if taken > 0 {
                // A multiplexer has something to hand on now.
                continue;
            }
        }
        let ready = match core.wait(waiting.is_empty().then_some(fd), None) {
            Ok(woken) => woken.ready,
            Err(_) => return,
        };
        if ready && waiting.is_empty() {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => return,
                Ok(count) => waiting = 0..count,
                Err(Errno::INTR | Errno::AGAIN) => {}
                // A pseudo-terminal without a reader gives EIO, a dead peer ECONNRESET, a closed stdin EBADF: all are ends.
                Err(_) => return,
            }
        }
    }
}

/// Looks after a multiplexer's buffers when there is nothing to read any more.
fn idle(core: &Core) {
    while !core.is_closing() {
        core.pump();
        if core.wait(None, None).is_err() {
            return;
        }
    }
}

fn run_pty(core: &Core, pty: &Pty) {
    let Ok(output) = rustix::io::fcntl_dupfd_cloexec(pty.master(), 3).map(Arc::new) else {
        return;
    };
    while !core.is_closing() {
        core.pump();
        match pty.is_open() {
            Ok(true) => {
                core.connect(Arc::clone(&output), None);
                serve(core, pty.master());
                core.disconnect(None);
            }
            Ok(false) => {
                let (fd, timeout) = pty.opening();
                match core.wait(fd, timeout) {
                    Ok(woken) if woken.ready => pty.forget_openings(),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            Err(_) => return,
        }
    }
}

fn run_server(core: &Core, listener: &OwnedFd, mut first: Option<Arc<OwnedFd>>, name: &str) {
    while !core.is_closing() {
        core.pump();
        let connection = match first.take() {
            Some(connection) => connection,
            None => match accept_or_wake(core, listener) {
                Ok(Some(connection)) => Arc::new(connection),
                Ok(None) => continue,
                Err(_) => return idle(core),
            },
        };
        serve_connection(core, connection, name);
    }
}

fn run_client(
    core: &Core,
    mut connection: Option<Arc<OwnedFd>>,
    address: &Address,
    reconnect: Option<Duration>,
    name: &str,
) {
    while !core.is_closing() {
        if let Some(connection) = connection.take() {
            serve_connection(core, connection, name);
        }
        let Some(pause) = reconnect else {
            return idle(core);
        };
        core.pump();
        match core.wait(None, Some(pause)) {
            // Wake-ups of a multiplexer only make the next try come earlier or later, never without end: each
            // costs somebody a key press.
            Ok(_) if !core.is_closing() => connection = socket::connect(address).ok().map(Arc::new),
            _ => return,
        }
    }
}

/// One client from its coming to its going.
fn serve_connection(core: &Core, connection: Arc<OwnedFd>, name: &str) {
    core.connect(Arc::clone(&connection), Some(name.to_owned()));
    serve(core, connection.as_fd());
    // Frees a writer that the client kept waiting.
    let _ = rustix::net::shutdown(&connection, rustix::net::Shutdown::Both);
    core.disconnect(Some(format!("disconnected:{name}")));
}

/// The next client; nothing when there was only a wake-up.
fn accept_or_wake(core: &Core, listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    if !core.wait(Some(listener.as_fd()), None)?.ready {
        return Ok(None);
    }
    match socket::accept(listener.as_fd()) {
        Ok(connection) => Ok(Some(connection)),
        // The client left before it was served, or the host is short of something for the moment.
        Err(error) if socket::is_passing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
