//! Where an incoming migration comes from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backends::{BindError, SocketFile, listen_tcp, listen_unix};
use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::reception::{Hear, Reception};
use super::{Lent, OpenError, Opened, opened, passed, reason, run};
use crate::address::Address;
use crate::channel::{Channel, Cutter};
use crate::tls::{Failure, Server};

/// How long who connects may take to show who he is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where an incoming migration comes from, bound or open.
#[derive(Debug)]
pub struct Source {
    listener: Option<Listener>,
    opened: Option<Opened>,
    address: Option<Listening>,
    tls: Option<Server>,
}

/// Where an incoming migration is listened for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listening {
    /// A path.
    Unix(PathBuf),
    /// A host's number, and a port.
    Tcp(SocketAddr),
}

/// Where further channels come in.
pub(crate) struct Doors<'a> {
    /// Does not block.
    pub(crate) listener: BorrowedFd<'a>,
    /// Makes sure of the other side, if it is to.
    pub(crate) seal: Arc<Hear<Channel>>,
    /// Readable when the main channel says something, which it does not before all are there.
    pub(crate) main: BorrowedFd<'a>,
    /// Ends waits for the main channel.
    pub(crate) alarm: Cutter,
}

#[derive(Debug)]
struct Listener {
    fd: OwnedFd,
    /// Removed when the listener goes.
    _file: Option<SocketFile>,
}

impl Source {
    /// Binds a socket, starts the program or opens the file.
    pub fn prepare(address: &Address, lent: &Lent<'_>, cutter: &Cutter) -> Result<Self, OpenError> {
        let open = |opened| Self { listener: None, opened: Some(opened), address: None, tls: None };
        Ok(match address {
            Address::Unix(path) => {
                let (fd, file) = listen_unix(path).map_err(bind_error)?;
                Self::listening(fd, Some(file), Listening::Unix(path.clone()))?
            }
            Address::Tcp { host, port } => {
                // A bare 0 is how people write "every address" of IPv4.
                let host = if host == "0" { "0.0.0.0" } else { host };
                let (fd, _) = listen_tcp(host, *port).map_err(bind_error)?;
                let listener = TcpListener::from(fd);
                let local = listener.local_addr()?;
                Self::listening(listener.into(), None, Listening::Tcp(local))?
            }
            Address::Fd(name) => open(passed(lent.take(name)?, cutter)?),
            Address::Exec(words) => open(Opened::Channel(run(words, false, cutter)?)),
            Address::File { path, offset } => open(opened(lent.open(path, false)?.into(), *offset, cutter)?),
        })
    }

    fn listening(fd: OwnedFd, file: Option<SocketFile>, address: Listening) -> io::Result<Self> {
        // Who was about to connect may be gone when we look.
        ioctl_fionbio(&fd, true)?;
        let listener = Some(Listener { fd, _file: file });
        Ok(Self { listener, opened: None, address: Some(address), tls: None })
    }

    /// The same, which is to be sealed.
    pub(crate) fn sealed(self, tls: Option<Server>) -> Self {
        Self { tls, ..self }
    }

    /// Where further channels come in, beside the main one with this descriptor. None: where there is only one.
    /// What is said on the main one is not listened to any more when `alarm` is cut.
    pub(crate) fn doors<'a>(&'a self, main: BorrowedFd<'a>, alarm: &Cutter) -> Option<Doors<'a>> {
        let (listener, tls) = (self.listener.as_ref()?.fd.as_fd(), self.tls.clone());
        let seal = move |channel| match &tls {
            None => Ok(channel),
            Some(tls) => tls.seal(channel, Some(Instant::now() + PATIENCE)).map_err(io::Error::other),
        };
        Some(Doors { listener, seal: Arc::new(seal), main, alarm: alarm.clone() })
    }

    /// Where it is listened, if it is.
    pub fn address(&self) -> Option<&Listening> {
        self.address.as_ref()
    }

    /// Waits for the other side. Who connects and cannot show who he is costs nothing: the next one may.
    pub fn open(&mut self, cutter: &Cutter) -> Result<Opened, OpenError> {
        match (self.opened.take(), &self.tls) {
            (Some(opened), None) => return Ok(opened),
            (Some(Opened::Channel(channel)), Some(tls)) => {
                return Ok(Opened::Channel(tls.seal(channel, None)?));
            }
            (Some(Opened::File { .. }), Some(_)) => return Err(Failure::OneWay.into()),
            (None, _) => {}
        }
        let nothing = || io::Error::other("there is nothing to open");
        let listener = self.listener.as_ref().ok_or_else(nothing)?;
        let Some(tls) = self.tls.clone() else {
            return Ok(Opened::Channel(Channel::new(accept(listener, cutter)?, cutter)?));
        };
        let hear =
            move |channel| tls.seal(channel, Some(Instant::now() + PATIENCE)).map_err(io::Error::other);
        let mut reception = Reception::new(listener.fd.as_fd(), cutter, Arc::new(hear))?;
        let welcome = reception.next(None)?;
        Ok(Opened::Channel(welcome.ok_or_else(nothing)?))
    }
}

/// The first one that connects.
fn accept(listener: &Listener, cutter: &Cutter) -> io::Result<OwnedFd> {
    loop {
        cutter.wait(listener.fd.as_fd(), PollFlags::IN)?;
        match accept_with(&listener.fd, SocketFlags::CLOEXEC) {
            Ok(fd) => {
                // A Unix socket has no such option and needs none.
                let _ = sockopt::set_tcp_nodelay(&fd, true);
                return Ok(fd);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn bind_error(error: BindError) -> OpenError {
    match error {
        BindError::Io { address, source } => OpenError::Bind { address, reason: reason(&source) },
        BindError::InUse { path } => OpenError::Bind {
            address: path.display().to_string(),
            reason: "Address already in use".to_owned(),
        },
        BindError::NotASocket { path } => OpenError::Bind {
            address: path.display().to_string(),
            reason: "a file that is not a socket is in the way".to_owned(),
        },
    }
}
