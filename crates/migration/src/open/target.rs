//! Where an outgoing migration goes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::{Lent, OpenError, Opened, opened, passed, run};
use crate::address::Address;
use crate::channel::{Channel, Cutter};
use crate::tls::{Client, Failure};

/// How often a connection is tried again to a server whose queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(10);

/// The other end of an outgoing migration, as far as it can be opened without waiting for anybody.
#[derive(Debug)]
pub struct Target {
    place: Place,
    tls: Option<Client>,
}

#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
    Open(Opened),
}

impl Target {
    /// Opens what can be opened at once. Nothing in a file is changed yet.
    pub fn prepare(address: &Address, lent: &Lent<'_>, cutter: &Cutter) -> Result<Self, OpenError> {
        let place = match address {
            Address::Unix(path) => Place::Unix(path.clone()),
            Address::Tcp { host, port } => Place::Tcp { host: host.clone(), port: *port },
            Address::Fd(name) => Place::Open(passed(lent.take(name)?, cutter)?),
            Address::Exec(words) => Place::Open(Opened::Channel(run(words, true, cutter)?)),
            Address::File { path, offset } => {
                Place::Open(opened(lent.open(path, true)?.into(), *offset, cutter)?)
            }
        };
        Ok(Self { place, tls: None })
    }

    /// The same, which is to be sealed.
    pub(crate) fn sealed(self, tls: Option<Client>) -> Self {
        Self { tls, ..self }
    }

    /// The same place for one more connection, where there can be one.
    pub(crate) fn again(&self) -> Option<Self> {
        let place = match &self.place {
            Place::Unix(path) => Place::Unix(path.clone()),
            Place::Tcp { host, port } => Place::Tcp { host: host.clone(), port: *port },
            Place::Open(_) => return None,
        };
        Some(Self { place, tls: self.tls.clone() })
    }

    /// Whether memory is packed on the way unless the user says otherwise: where the wire or the disk is slower than that.
    pub(crate) fn compresses(&self) -> bool {
        matches!(self.place, Place::Tcp { .. } | Place::Open(Opened::File { .. }))
    }

    /// Connects.
    pub fn open(self, cutter: &Cutter) -> Result<Opened, OpenError> {
        let opened = match self.place {
            Place::Unix(path) => {
                let fd = connect_unix(&path, cutter);
                let failed = |source| OpenError::Connect { address: path.display().to_string(), source };
                Opened::Channel(Channel::new(fd.map_err(failed)?, cutter)?)
            }
            Place::Tcp { host, port } => {
                Opened::Channel(Channel::new(connect_tcp(&host, port, cutter)?, cutter)?)
            }
            Place::Open(opened) => opened,
        };
        match (self.tls, opened) {
            (None, opened) => Ok(opened),
            (Some(tls), Opened::Channel(channel)) => Ok(Opened::Channel(tls.seal(channel)?)),
            (Some(_), Opened::File { .. }) => Err(Failure::OneWay.into()),
        }
    }
}

fn connect_unix(path: &Path, cutter: &Cutter) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let fd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    loop {
        match connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            Err(Errno::AGAIN) => cutter.sleep(QUEUE_FULL)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn connect_tcp(host: &str, port: u16, cutter: &Cutter) -> Result<OwnedFd, OpenError> {
    let address = format!("{host}:{port}");
    let addresses = resolve(host, port, cutter)
        .map_err(|source| OpenError::Resolve { address: address.clone(), source })?;
    let mut last = Errno::HOSTUNREACH.into();
    for place in addresses {
        match connect_to(place, cutter) {
            Ok(fd) => return Ok(fd),
            Err(error) => last = error,
        }
        if cutter.is_cut() {
            break;
        }
    }
    Err(OpenError::Connect { address, source: last })
}

/// The system's resolver cannot be interrupted: it is asked on a thread that is left behind when nobody wants to know any more.
fn resolve(host: &str, port: u16, cutter: &Cutter) -> io::Result<Vec<SocketAddr>> {
    let host = if host.is_empty() { "localhost" } else { host }.to_owned();
    let (done, asking) = io::pipe()?;
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let _ = tell.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        drop(asking);
    })?;
    cutter.wait(done.as_fd(), PollFlags::IN)?;
    told.recv().unwrap_or_else(|_| Err(io::Error::other("the resolver has failed")))
}

fn connect_to(place: SocketAddr, cutter: &Cutter) -> io::Result<OwnedFd> {
    let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match connect(&fd, &place) {
        Ok(()) => return Ok(fd),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    cutter.wait(fd.as_fd(), PollFlags::OUT)?;
    sockopt::socket_error(&fd)??;
    Ok(fd)
}
