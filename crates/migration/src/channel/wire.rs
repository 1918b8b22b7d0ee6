//! A descriptor that is read and written without ever hanging.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};
use rustls::Connection;

use super::cutter::{Cutter, cut};
use super::session::{Broken, Session, Step};
use crate::tls::{Failure, name_of};

/// What a pipe that is writable takes at once (POSIX, `PIPE_BUF` on Linux).
const AT_ONCE: usize = 4096;

/// How a descriptor is read and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Socket,
    /// A pipe or a device. Without a mode of its own it is written in pieces that never block.
    Pipe {
        nonblocking: bool,
    },
    /// A regular file: always ready.
    File,
}

/// A descriptor with its cutter. Readers and writers share it.
#[derive(Debug)]
pub(super) struct Wire {
    fd: OwnedFd,
    pub(super) kind: Kind,
    cutter: Cutter,
    /// What is sent is sealed, if it is.
    session: Option<Mutex<Session>>,
}

impl Wire {
    pub(super) fn new(fd: OwnedFd, cutter: &Cutter) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::RegularFile => Kind::File,
            FileType::Fifo => {
                let (fd, nonblocking) = apart(fd)?;
                return Ok(Self {
                    fd,
                    kind: Kind::Pipe { nonblocking },
                    cutter: cutter.clone(),
                    session: None,
                });
            }
            _ => Kind::Pipe { nonblocking: false },
        };
        Ok(Self { fd, kind, cutter: cutter.clone(), session: None })
    }

    pub(super) fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    pub(super) fn watch(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// `cutter` ends this wait.
    pub(super) fn read(
        &self,
        bytes: &mut [u8],
        deadline: Option<Instant>,
        cutter: &Cutter,
    ) -> io::Result<usize> {
        if let Some(session) = &self.session {
            return self.read_sealed(session, bytes, deadline, cutter);
        }
        loop {
            if self.kind != Kind::File {
                if !cutter.wait_until(self.fd.as_fd(), PollFlags::IN, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            } else if cutter.is_cut() {
                return Err(cut());
            }
            let read = match self.kind {
                Kind::Socket => recv(&self.fd, &mut *bytes, RecvFlags::DONTWAIT).map(|(read, _)| read),
                Kind::Pipe { .. } | Kind::File => rustix::io::read(&self.fd, &mut *bytes),
            };
            match read {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    pub(super) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(session) = &self.session {
            return self.write_sealed(session, parts);
        }
        loop {
            if self.kind != Kind::File {
                self.cutter.wait(self.fd.as_fd(), PollFlags::OUT)?;
            } else if self.cutter.is_cut() {
                return Err(cut());
            }
            let written = match self.kind {
                Kind::Socket => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    sendmsg(&self.fd, parts, &mut SendAncillaryBuffer::default(), flags)
                }
                Kind::Pipe { nonblocking: false } => {
                    let first: &[u8] = parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part);
                    rustix::io::write(&self.fd, first.get(..AT_ONCE).unwrap_or(first))
                }
                Kind::Pipe { nonblocking: true } | Kind::File => rustix::io::writev(&self.fd, parts),
            };
            match written {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl Wire {
    /// Has each side see who the other is; from then on what is sent is sealed. `words` says what an error means.
    pub(super) fn seal(
        &mut self,
        connection: Connection,
        deadline: Option<Instant>,
        words: impl Fn(rustls::Error) -> Failure,
    ) -> Result<(), Failure> {
        if self.kind != Kind::Socket {
            return Err(Failure::OneWay);
        }
        let mut session = Session::new(connection);
        let fd = self.fd.as_fd();
        loop {
            if self.cutter.is_cut() {
                return Err(cut().into());
            }
            let sent = session.push(fd)?;
            if session.is_established() {
                break;
            }
            let came = match session.pull(fd) {
                Ok(Some(step)) => step,
                Ok(None) => return Err(Failure::HungUp),
                Err(Broken::Tls(error)) => return Err(words(error)),
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Failure::HungUp);
                }
                Err(Broken::Io(error)) => return Err(error.into()),
            };
            if came == Step::Done {
                continue;
            }
            let wanted = if sent == Step::Blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            if !self.cutter.wait_until(fd, wanted, deadline)? {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        self.session = Some(Mutex::new(session));
        Ok(())
    }

    /// The name in the certificate that the other side has shown.
    pub(super) fn peer_name(&self) -> Option<String> {
        let session = locked(self.session.as_ref()?);
        name_of(session.connection().peer_certificates()?.first()?)
    }

    fn read_sealed(
        &self,
        session: &Mutex<Session>,
        bytes: &mut [u8],
        deadline: Option<Instant>,
        cutter: &Cutter,
    ) -> io::Result<usize> {
        loop {
            let step = {
                let mut session = locked(session);
                if let Some(count) = session.opened(bytes)? {
                    return Ok(count);
                }
                session.pull(self.fd.as_fd()).map_err(broken)?
            };
            if cutter.is_cut() {
                return Err(cut());
            }
            if step == Some(Step::Blocked) && !cutter.wait_until(self.fd.as_fd(), PollFlags::IN, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Keeps nothing back: what was taken has been sent.
    fn write_sealed(&self, session: &Mutex<Session>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = None;
        loop {
            if self.cutter.is_cut() {
                return Err(cut());
            }
            let step = {
                let mut session = locked(session);
                match (session.push(self.fd.as_fd())?, taken) {
                    (Step::Done, Some(taken)) => return Ok(taken),
                    (Step::Done, None) => {
                        taken = Some(session.seal(parts)?);
                        session.push(self.fd.as_fd())?
                    }
                    (Step::Blocked, _) => Step::Blocked,
                }
            };
            if step == Step::Blocked {
                self.cutter.wait(self.fd.as_fd(), PollFlags::OUT)?;
            }
        }
    }
}

fn locked(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What ends a session, as readers and writers know errors.
fn broken(broken: Broken) -> io::Error {
    match broken {
        Broken::Io(error) => error,
        Broken::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, Failure::of(error, "")),
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.into_inner().unwrap_or_else(PoisonError::into_inner).end(self.fd.as_fd());
        }
        if self.kind == Kind::Socket {
            // The other end may have gone already.
            let _ = shutdown(&self.fd, Shutdown::Both);
        }
    }
}

/// The same pipe through an open file of our own, which does not block. Where `/proc` is not to be had it stays as it is.
fn apart(fd: OwnedFd) -> io::Result<(OwnedFd, bool)> {
    use std::os::fd::AsRawFd as _;
    let mode = fcntl_getfl(&fd)? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match open(path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(own) => Ok((own, true)),
        Err(_) => Ok((fd, false)),
    }
}
