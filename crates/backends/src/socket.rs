//! Unix and TCP sockets: files with mode 0600, stale files replaced, everything removed at the end.

use crate::spec::SocketAddress;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is something at the path that is not a socket; it is left alone.
    #[error("Failed to bind socket to {0}: a file that is not a socket is in the way", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("Failed to bind socket to {0}: Address already in use", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Anything else.
    #[error("Failed to bind socket to {address}: {source}")]
    Io {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a client-mode socket connects to.
pub(crate) type Address = SocketAddress;

/// A socket's file, removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub struct SocketFile {
    made: Made,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    path: PathBuf,
    /// Device and inode, so that a successor's socket of the same name is not removed.
    inode: (u64, u64),
}

/// For exits without destructors.
static FILES: Mutex<Vec<Made>> = Mutex::new(Vec::new());

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        // Absolute, because going to the background changes the directory.
        let path = std::path::absolute(path)?;
        let made = Made { inode: inode(&path)?, path };
        FILES.lock().unwrap_or_else(PoisonError::into_inner).push(made.clone());
        crate::clean_up_at_exit();
        Ok(Self { made })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.made.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = files.iter().position(|made| *made == self.made) {
            files.swap_remove(at).remove();
        }
    }
}

impl Made {
    fn remove(self) {
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::lstat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes every socket file that is still ours.
pub(crate) fn remove_all() {
    let files = std::mem::take(&mut *FILES.lock().unwrap_or_else(PoisonError::into_inner));
    files.into_iter().for_each(Made::remove);
}

/// Listens at `path`; the file has mode 0600 from the first moment.
///
/// # Errors
/// [`BindError`].
pub fn listen_unix(path: &Path) -> Result<(OwnedFd, SocketFile), BindError> {
    let io = |source: Errno| BindError::Io { address: path.display().to_string(), source: source.into() };
    let address = SocketAddrUnix::new(path).map_err(io)?;
    let socket = unix_socket(SocketFlags::CLOEXEC).map_err(io)?;
    // The file takes its mode from the socket (less the umask), so there is no moment in which others could connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(io)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            rustix::net::bind(&socket, &address).map_err(io)?;
        }
        other => other.map_err(io)?,
    }
    let file = SocketFile::new(path)
        .map_err(|source| BindError::Io { address: path.display().to_string(), source })?;
    rustix::net::listen(&socket, BACKLOG).map_err(io)?;
    Ok((socket, file))
}

/// Clients that may wait in the kernel for their turn.
const BACKLOG: i32 = 16;

fn unix_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Removes a socket file on which nobody listens any more; refuses anything else.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let io = |source: Errno| BindError::Io { address: path.display().to_string(), source: source.into() };
    let stat = rustix::fs::lstat(path).map_err(io)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    // Non-blocking, because a listener with a full queue would make us wait.
    let probe = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(io)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).map_err(io),
        // The owner removed it in between.
        Err(Errno::NOENT) => Ok(()),
        _ => Err(BindError::InUse { path: path.to_owned() }),
    }
}

/// Listens on a TCP address; gives the address in numbers too, for a port that the system chose.
///
/// # Errors
/// [`BindError`].
pub fn listen_tcp(host: &str, port: u16) -> Result<(OwnedFd, String), BindError> {
    let io = |source: io::Error| BindError::Io { address: format!("{host}:{port}"), source };
    // No host means every address, as in QEMU.
    let listener = if host.is_empty() {
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
    } else {
        TcpListener::bind((host, port))
    }
    .map_err(io)?;
    let local = listener.local_addr().map_err(io)?;
    Ok((listener.into(), local.to_string()))
}

/// Connects; waits as long as the system does.
pub(crate) fn connect(address: &Address) -> io::Result<OwnedFd> {
    match address {
        SocketAddress::Unix(path) => {
            let socket = unix_socket(SocketFlags::CLOEXEC)?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path.as_path())?)?;
            Ok(socket)
        }
        SocketAddress::Tcp { host, port } => {
            let host = if host.is_empty() { "localhost" } else { host };
            let addresses: Vec<_> = (host, *port).to_socket_addrs()?.collect();
            let stream = TcpStream::connect(addresses.as_slice())?;
            stream.set_nodelay(true)?;
            Ok(stream.into())
        }
        SocketAddress::Fd(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Takes the next client of a listening socket.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let connection = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    // Small answers must not wait for more; a Unix socket has no such option and needs none.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&connection, true);
    Ok(connection)
}

/// Errors of an accept after which the next one may well succeed.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}
