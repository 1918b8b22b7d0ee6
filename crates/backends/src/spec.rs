//! What the command line says about a character device: `-serial unix:PATH,server=on`, `-chardev file,id=a,path=b`.

use crate::keyval::{KeyValError, KeyVals};
use std::path::PathBuf;
use std::time::Duration;

/// A character device as asked for; nothing has been opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharSpec {
    /// Where its bytes go.
    pub kind: CharKind,
    /// Whether a multiplexer sits on it (`mon:`, `mux=on`).
    pub mux: bool,
}

/// Where the bytes of a character device go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CharKind {
    /// There is no device at all (`none`).
    None,
    /// Output is dropped, and there is no input.
    Null,
    /// The program's standard input and output.
    Stdio {
        /// Whether the terminal's interrupt key ends the program, instead of going to the guest.
        signal: bool,
    },
    /// Output to a file, which may be `/dev/fdset/N`.
    File {
        /// The file.
        path: PathBuf,
        /// Behind what it holds, instead of in place of it.
        append: bool,
    },
    /// A new pseudo-terminal.
    Pty,
    /// A socket.
    Socket(SocketSpec),
    /// Another character device, by its id (`chardev:ID`).
    Ref(String),
}

/// A socket as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSpec {
    /// Where.
    pub address: SocketAddress,
    /// Listen, instead of connecting.
    pub server: bool,
    /// A server waits for its first client before the machine is made.
    pub wait: bool,
    /// A client connects again after this time when the connection ends.
    pub reconnect: Option<Duration>,
}

/// The address of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// A path in the file system.
    Unix(PathBuf),
    /// A host (name, number, or empty) and a port.
    Tcp {
        /// Empty: every address for a server, this host for a client.
        host: String,
        /// Port; 0 lets the system choose one.
        port: u16,
    },
    /// A descriptor that the parent process left open, listening or connected.
    Fd(i32),
}

/// What is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a kind that we know.
    #[error("'{0}' is not a valid char driver")]
    UnknownKind(String),
    /// A kind of QEMU's that we do not have.
    #[error("character device '{0}' is not supported by this program yet")]
    Unsupported(String),
    /// The list after the kind.
    #[error(transparent)]
    KeyVal(#[from] KeyValError),
    /// An address without a port, or with a bad one.
    #[error("'{0}' is not an address of the form HOST:PORT")]
    BadAddress(String),
    /// A socket needs exactly one address.
    #[error("a socket needs exactly one of 'path', 'port' and 'fd'")]
    AmbiguousAddress,
    /// Only a server can wait, only a client can reconnect.
    #[error("'{option}' is for a socket in {mode} mode only")]
    WrongMode {
        /// The option.
        option: &'static str,
        /// `server` or `client`.
        mode: &'static str,
    },
    /// Two times for the same thing.
    #[error("'reconnect' and 'reconnect-ms' are mutually exclusive")]
    TwoPauses,
    /// An empty path.
    #[error("character device '{0}' needs a path")]
    NoPath(&'static str),
}

impl CharSpec {
    /// A device of this kind without a multiplexer.
    #[must_use]
    pub const fn plain(kind: CharKind) -> Self {
        Self { kind, mux: false }
    }

    /// `mon:stdio`: serial line and monitor on the terminal.
    #[must_use]
    pub const fn mon_stdio() -> Self {
        Self { kind: CharKind::Stdio { signal: false }, mux: true }
    }

    /// The short form, as after `-serial`, `-monitor` and `-qmp`.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn parse_short(text: &str) -> Result<Self, SpecError> {
        let (mux, text) = match text.strip_prefix("mon:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let kind = match text.split_once(':') {
            None => match text.split_once(',').map_or((text, ""), |(word, rest)| (word, rest)) {
                ("none", "") => CharKind::None,
                ("null", "") => CharKind::Null,
                ("pty", "") => CharKind::Pty,
                ("stdio", rest) => {
                    let mut list = KeyVals::parse(rest, None)?;
                    let signal = list.take_bool("signal")?.unwrap_or(!mux);
                    list.finish()?;
                    CharKind::Stdio { signal }
                }
                _ => return Err(unknown(text)),
            },
            Some(("chardev", id)) => CharKind::Ref(id.to_owned()),
            // Here, unlike after `-chardev`, a comma is part of the name.
            Some(("file", path)) => file(path, false)?,
            Some(("unix", rest)) => {
                let mut list = KeyVals::parse(rest, Some("path"))?;
                let path = list.require("path")?;
                socket(SocketAddress::Unix(non_empty("unix", &path)?), list)?
            }
            Some(("tcp", rest)) => {
                let mut list = KeyVals::parse(rest, Some("address"))?;
                let address = host_and_port(&list.require("address")?)?;
                socket(address, list)?
            }
            Some((word, _)) => return Err(unknown(word)),
        };
        Ok(Self { kind, mux })
    }

    /// The long form, as after `-chardev`; gives the id too.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn parse_long(text: &str) -> Result<(String, Self), SpecError> {
        let mut list = KeyVals::parse(text, Some("backend"))?;
        let backend = list.require("backend")?;
        let id = list.require("id")?;
        let mux = list.take_bool("mux")?.unwrap_or(false);
        let kind = match backend.as_str() {
            "null" => finished(list, CharKind::Null)?,
            "pty" => finished(list, CharKind::Pty)?,
            "stdio" => {
                let signal = list.take_bool("signal")?.unwrap_or(!mux);
                finished(list, CharKind::Stdio { signal })?
            }
            "file" => {
                let path = list.require("path")?;
                let append = list.take_bool("append")?.unwrap_or(false);
                finished(list, file(&path, append)?)?
            }
            "socket" => {
                let address = long_address(&mut list)?;
                socket(address, list)?
            }
            other => return Err(unknown(other)),
        };
        Ok((id, Self { kind, mux }))
    }
}

fn finished(list: KeyVals, kind: CharKind) -> Result<CharKind, SpecError> {
    list.finish()?;
    Ok(kind)
}

fn unknown(word: &str) -> SpecError {
    const OTHERS: [&str; 16] = [
        "vc",
        "udp",
        "telnet",
        "tn3270",
        "websocket",
        "pipe",
        "serial",
        "tty",
        "parallel",
        "msmouse",
        "braille",
        "testdev",
        "spicevmc",
        "spiceport",
        "ringbuf",
        "hub",
    ];
    if OTHERS.contains(&word) || word.starts_with("/dev/") {
        SpecError::Unsupported(word.to_owned())
    } else {
        SpecError::UnknownKind(word.to_owned())
    }
}

fn non_empty(kind: &'static str, path: &str) -> Result<PathBuf, SpecError> {
    if path.is_empty() { Err(SpecError::NoPath(kind)) } else { Ok(PathBuf::from(path)) }
}

fn file(path: &str, append: bool) -> Result<CharKind, SpecError> {
    Ok(CharKind::File { path: non_empty("file", path)?, append })
}

/// The rest of a socket's list, after its address.
fn socket(address: SocketAddress, mut list: KeyVals) -> Result<CharKind, SpecError> {
    let server = list.take_bool("server")?.unwrap_or(false);
    let wait = list.take_bool("wait")?;
    // Always set where there is such a thing; accepted for compatibility.
    list.take_bool("nodelay")?;
    let seconds = list.take_number("reconnect")?.map(Duration::from_secs);
    let millis = list.take_number("reconnect-ms")?.map(Duration::from_millis);
    if seconds.is_some() && millis.is_some() {
        return Err(SpecError::TwoPauses);
    }
    let reconnect = millis.or(seconds).filter(|pause| !pause.is_zero());
    list.finish()?;
    if wait.is_some() && !server {
        return Err(SpecError::WrongMode { option: "wait", mode: "server" });
    }
    if reconnect.is_some() && server {
        return Err(SpecError::WrongMode { option: "reconnect", mode: "client" });
    }
    Ok(CharKind::Socket(SocketSpec { address, server, wait: server && wait.unwrap_or(true), reconnect }))
}

/// The address of a `-chardev socket`.
fn long_address(list: &mut KeyVals) -> Result<SocketAddress, SpecError> {
    let path = list.take("path");
    let host = list.take("host");
    let port = list.take("port");
    let fd = list.take("fd");
    match (path, port, fd) {
        (Some(path), None, None) if host.is_none() => Ok(SocketAddress::Unix(non_empty("socket", &path)?)),
        (None, Some(port), None) => {
            let host = host.unwrap_or_default();
            let number = port.parse().map_err(|_| SpecError::BadAddress(format!("{host}:{port}")))?;
            Ok(SocketAddress::Tcp { host, port: number })
        }
        (None, None, Some(fd)) if host.is_none() => {
            let number = fd.parse().map_err(|_| KeyValError::NotNumber { key: "fd".to_owned() })?;
            Ok(SocketAddress::Fd(number))
        }
        _ => Err(SpecError::AmbiguousAddress),
    }
}

/// `HOST:PORT`, `:PORT` or `[V6]:PORT`.
fn host_and_port(text: &str) -> Result<SocketAddress, SpecError> {
    let bad = || SpecError::BadAddress(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
        None => host,
    };
    Ok(SocketAddress::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| bad())? })
}

#[cfg(test)]
mod tests;
