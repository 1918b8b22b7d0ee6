//! A descriptor that is read and written without ever hanging.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use super::cutter::{Cutter, cut};

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
}

impl Wire {
    pub(super) fn new(fd: OwnedFd, cutter: &Cutter) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::RegularFile => Kind::File,
            FileType::Fifo => {
                let (fd, nonblocking) = apart(fd)?;
                return Ok(Self { fd, kind: Kind::Pipe { nonblocking }, cutter: cutter.clone() });
            }
            _ => Kind::Pipe { nonblocking: false },
        };
        Ok(Self { fd, kind, cutter: cutter.clone() })
    }

    pub(super) fn read(&self, bytes: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            if self.kind != Kind::File {
                if !self.cutter.wait_until(self.fd.as_fd(), PollFlags::IN, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            } else if self.cutter.is_cut() {
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

impl Drop for Wire {
    fn drop(&mut self) {
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
