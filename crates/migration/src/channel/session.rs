//! Bytes that are sealed on their way: TLS over a socket that is never let block.
//!
//! ```text
//!   reader's thread ─┐  lock                        unlocked
//!                    ├─────► Session: seal, open ──► wait in poll
//!   writer's thread ─┘       send, receive what goes at once
//! ```
//! Both directions are one state, so both threads share it under a lock that nobody holds while he waits. What is held in
//! memory is bounded by the library: what waits to be sent ([`crate::tls`]), and one record that has come.

use std::fmt;
use std::io::{self, IoSlice, Read as _, Write};
use std::os::fd::BorrowedFd;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use rustls::{Connection, Error};

/// Bytes that are received at once.
const GATHER: usize = 64 << 10;

/// One end of a sealed connection, over a socket that is asked not to block.
pub(super) struct Session {
    connection: Connection,
    gathered: Box<[u8]>,
    /// Where in it what has not been looked at begins and ends.
    from: usize,
    to: usize,
}

/// Whether something was done, or would have blocked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Done,
    Blocked,
}

/// Sends without blocking.
struct Out<'a>(BorrowedFd<'a>);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(self.0, parts, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What ends a session.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    Tls(Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, gathered: vec![0; GATHER].into(), from: 0, to: 0 }
    }

    /// Sends what waits, as far as it goes at once.
    pub(super) fn push(&mut self, fd: BorrowedFd<'_>) -> io::Result<Step> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Out(fd)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Step::Done)
    }

    /// Takes in what has come, as far as there is room. None: the other side has hung up.
    pub(super) fn pull(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Step>, Broken> {
        if self.from == self.to {
            match recv(fd, &mut *self.gathered, RecvFlags::DONTWAIT).map_err(io::Error::from) {
                Ok((0, _)) => {
                    self.connection.read_tls(&mut io::empty())?;
                    return Ok(None);
                }
                Ok((count, _)) => (self.from, self.to) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Step::Blocked)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Some(Step::Done)),
                Err(error) => return Err(error.into()),
            }
        }
        self.from += self.connection.read_tls(&mut &self.gathered[self.from..self.to])?;
        if let Err(error) = self.connection.process_new_packets() {
            // The other side is told why, if it still listens.
            let _ = self.push(fd);
            return Err(Broken::Tls(error));
        }
        // What the protocol itself has to answer.
        self.push(fd)?;
        Ok(Some(Step::Done))
    }

    /// Opened bytes that are there already. None: there are none.
    pub(super) fn opened(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(bytes) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Without a farewell. The saved form says itself whether it is complete.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes to be sealed, as many as may wait.
    pub(super) fn seal(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection.writer().write_vectored(parts)
    }

    /// Whether each side knows who the other is, and everything about that has been sent.
    pub(super) fn is_established(&self) -> bool {
        !self.connection.is_handshaking() && !self.connection.wants_write()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says farewell, if that goes at once.
    pub(super) fn end(&mut self, fd: BorrowedFd<'_>) {
        self.connection.send_close_notify();
        let _ = self.push(fd);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
