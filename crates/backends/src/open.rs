//! From a specification to an open character device.

use crate::chardev::{Belongings, CharDev};
use crate::fdset::{FdSetError, FdSets};
use crate::pty::Pty;
use crate::reader::Transport;
use crate::socket::{self, BindError, SocketFile};
use crate::spec::{CharKind, CharSpec, SocketAddress, SocketSpec};
use crate::tty::RawMode;
use crate::wake::Wake;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something the user should read on the standard error while a device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Which pseudo-terminal was made.
    Redirected {
        /// Its path.
        path: String,
        /// The device's label.
        label: String,
    },
    /// A server with `wait=on` waits for its first client.
    Waiting {
        /// What `query-chardev` would show.
        filename: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirected { path, label } => {
                write!(f, "char device redirected to {path} (label {label})")
            }
            // The wording is what scripts wait for.
            Self::Waiting { filename } => write!(f, "info: QEMU waiting for connection on: {filename}"),
        }
    }
}

/// A character device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The standard streams can serve one device only.
    #[error("cannot use stdio by multiple character devices")]
    StdioTaken,
    /// A reference must be looked up by whoever keeps the devices.
    #[error("chardev '{0}' not found")]
    UnresolvedReference(String),
    /// A file cannot be opened.
    #[error("Could not open '{path}': {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A path into a descriptor set.
    #[error(transparent)]
    FdSet(#[from] FdSetError),
    /// A socket to listen on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket to connect to.
    #[error("Failed to connect to '{address}': {source}")]
    Connect {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// An inherited descriptor.
    #[error(transparent)]
    Adopt(#[from] sys::fd::AdoptError),
    /// Anything else that the system refused.
    #[error("cannot open character device '{label}': {source}")]
    Io {
        /// The device's label.
        label: String,
        /// What the system said.
        source: io::Error,
    },
    /// A kind that a monitor cannot talk on.
    #[error("a monitor cannot use this kind of character device")]
    NotAStream,
}

/// The standard streams are in use.
static STDIO: AtomicBool = AtomicBool::new(false);

/// Opens what `spec` asks for and starts its threads; nothing for [`CharKind::None`].
///
/// `label` names it. A server with `wait=on` blocks here until its first client has come. `notify` gets what the user should
/// read. The multiplexer of `spec.mux` is the caller's business.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    spec: &CharSpec,
    label: &str,
    fdsets: &FdSets,
    notify: &mut dyn FnMut(&Notice),
) -> Result<Option<Arc<CharDev>>, OpenError> {
    let io = |source| OpenError::Io { label: label.to_owned(), source };
    let mut belongings = Belongings::default();
    let (filename, transport) = match &spec.kind {
        CharKind::None => return Ok(None),
        CharKind::Ref(id) => return Err(OpenError::UnresolvedReference(id.clone())),
        CharKind::Null => ("null".to_owned(), Transport::Null),
        CharKind::Stdio { signal } => {
            let (input, output) = take_stdio().map_err(io)?.ok_or(OpenError::StdioTaken)?;
            belongings.terminal = RawMode::enter(input.as_fd(), *signal).map_err(io)?;
            ("stdio".to_owned(), Transport::Duplex { input, output: Arc::new(output) })
        }
        CharKind::File { path, append } => {
            ("file".to_owned(), Transport::Output(Arc::new(open_file(path, *append, fdsets)?)))
        }
        CharKind::Pty => {
            let pty = Pty::open().map_err(io)?;
            notify(&Notice::Redirected { path: pty.path().to_owned(), label: label.to_owned() });
            (format!("pty:{}", pty.path()), Transport::Pty(pty))
        }
        CharKind::Socket(spec) => {
            let opened = open_socket(spec, notify)?;
            belongings.socket = opened.file;
            let name = opened.name;
            let transport = match opened.socket {
                Opened::Listener { listener, first } => {
                    Transport::Server { listener, first: first.map(Arc::new), name: name.clone() }
                }
                Opened::Connection(connection) => Transport::Client {
                    connection: connection.map(Arc::new),
                    address: spec.address.clone(),
                    reconnect: spec.reconnect,
                    name: name.clone(),
                },
            };
            (format!("disconnected:{name}"), transport)
        }
    };
    CharDev::start(label, filename, transport, belongings).map(Some).map_err(io)
}

/// Duplicates of the standard streams, once in the life of the process.
///
/// Duplicates, so that nothing closes the originals; a stream that is not open becomes `/dev/null`, which ends at once.
pub(crate) fn take_stdio() -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if STDIO.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    let input = io::stdin().as_fd().try_clone_to_owned().or_else(|_| null())?;
    let output = io::stdout().as_fd().try_clone_to_owned().or_else(|_| null())?;
    Ok(Some((input, output)))
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn open_file(path: &Path, append: bool, fdsets: &FdSets) -> Result<OwnedFd, OpenError> {
    if let Some(set) = path.to_str().and_then(FdSets::number_in) {
        return Ok(fdsets.open_for_writing(set)?);
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .append(append)
        .truncate(!append)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|source| OpenError::File { path: path.display().to_string(), source })
}

/// An open socket of either mode.
pub(crate) struct OpenedSocket {
    pub(crate) socket: Opened,
    pub(crate) file: Option<SocketFile>,
    /// What `query-chardev` shows of a connected one.
    pub(crate) name: String,
}

pub(crate) enum Opened {
    Listener { listener: OwnedFd, first: Option<OwnedFd> },
    Connection(Option<OwnedFd>),
}

/// Listens or connects; a server with `wait=on` waits.
pub(crate) fn open_socket(
    spec: &SocketSpec,
    notify: &mut dyn FnMut(&Notice),
) -> Result<OpenedSocket, OpenError> {
    let mut file = None;
    let suffix = if spec.server { ",server=on" } else { "" };
    let mut name = format!("{}{suffix}", describe(&spec.address));
    if !spec.server {
        let connection = match &spec.address {
            SocketAddress::Fd(fd) => Some(sys::adopt_fd(*fd)?),
            address => match socket::connect(address) {
                Ok(connection) => Some(connection),
                // Whoever reconnects may come before the other side.
                Err(_) if spec.reconnect.is_some() => None,
                Err(source) => return Err(OpenError::Connect { address: describe(address), source }),
            },
        };
        return Ok(OpenedSocket { socket: Opened::Connection(connection), file, name });
    }
    let listener = match &spec.address {
        SocketAddress::Unix(path) => {
            let (listener, made) = socket::listen_unix(path)?;
            file = Some(made);
            listener
        }
        SocketAddress::Tcp { host, port } => {
            let (listener, local) = socket::listen_tcp(host, *port)?;
            name = format!("tcp:{local}{suffix}");
            listener
        }
        SocketAddress::Fd(fd) => sys::adopt_fd(*fd)?,
    };
    let first = if spec.wait {
        let filename = format!("disconnected:{name}");
        notify(&Notice::Waiting { filename: filename.clone() });
        Some(wait_for_client(&listener).map_err(|source| OpenError::Io { label: filename, source })?)
    } else {
        None
    };
    Ok(OpenedSocket { socket: Opened::Listener { listener, first }, file, name })
}

fn wait_for_client(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let wake = Wake::new()?;
    loop {
        wake.wait(Some(listener.as_fd()), None)?;
        match socket::accept(listener.as_fd()) {
            Err(error) if socket::is_passing(&error) => {}
            other => return other,
        }
    }
}

fn describe(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix(path) => format!("unix:{}", path.display()),
        SocketAddress::Tcp { host, port } if host.contains(':') => format!("tcp:[{host}]:{port}"),
        SocketAddress::Tcp { host, port } => format!("tcp:{host}:{port}"),
        SocketAddress::Fd(fd) => format!("fd:{fd}"),
    }
}
