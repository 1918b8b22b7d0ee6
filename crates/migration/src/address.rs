//! Where a migration goes to or comes from: `unix:`, `tcp:`, `fd:`, `exec:`, `file:`. Parsed only; nothing is opened here.

use std::path::PathBuf;
use std::str::FromStr;

/// A place as the user named it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `unix:PATH`: a socket in the file system.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`.
    Tcp {
        /// Name or number, a number of IPv6 without its brackets. Empty: this host to connect to, every address to listen on.
        host: String,
        /// Port. 0 lets the system choose one to listen on.
        port: u16,
    },
    /// `fd:NAME` of a descriptor that `getfd` has named, or `fd:NUMBER` of one that the parent process has left open.
    Fd(String),
    /// `exec:COMMAND`: the standard input or output of a program, by its words.
    Exec(Vec<String>),
    /// `file:PATH[,offset=BYTES]`. The path may be `/dev/fdset/N`.
    File {
        /// Where.
        path: PathBuf,
        /// Bytes before it that are left alone.
        offset: u64,
    },
}

/// What is wrong with an address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// Not one of the five kinds.
    #[error("unknown migration protocol: {0}")]
    UnknownProtocol(String),
    /// Not `HOST:PORT`.
    #[error("error parsing address '{0}'")]
    NotHostAndPort(String),
    /// Not a number of bytes.
    #[error("file URI has bad offset {0}")]
    BadOffset(String),
    /// Nothing behind the colon.
    #[error("migration address '{0}:' names nothing")]
    Empty(&'static str),
}

/// What separates a file's path from its offset.
const OFFSET: &str = ",offset=";

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(uri: &str) -> Result<Self, AddressError> {
        let (kind, rest) = uri.split_once(':').unwrap_or((uri, ""));
        let some = |kind| if rest.is_empty() { Err(AddressError::Empty(kind)) } else { Ok(rest.to_owned()) };
        match kind {
            _ if !uri.contains(':') => Err(AddressError::UnknownProtocol(uri.to_owned())),
            "unix" => Ok(Self::Unix(some("unix")?.into())),
            "fd" => Ok(Self::Fd(some("fd")?)),
            "exec" => Ok(Self::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), some("exec")?])),
            "tcp" => host_and_port(rest),
            "file" => file(&some("file")?),
            _ => Err(AddressError::UnknownProtocol(uri.to_owned())),
        }
    }
}

/// `HOST:PORT`, `:PORT` or `[V6]:PORT`. QEMU's switches behind it (`,ipv4=on`) say nothing that a host's name does not.
fn host_and_port(text: &str) -> Result<Address, AddressError> {
    let bad = || AddressError::NotHostAndPort(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
        None if host.contains(':') => return Err(bad()),
        None => host,
    };
    Ok(Address::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| bad())? })
}

fn file(text: &str) -> Result<Address, AddressError> {
    let Some((path, offset)) = text.rsplit_once(OFFSET) else {
        return Ok(Address::File { path: text.into(), offset: 0 });
    };
    let offset = bytes(offset).ok_or_else(|| AddressError::BadOffset(offset.to_owned()))?;
    Ok(Address::File { path: path.into(), offset })
}

/// A number of bytes, decimal or `0x`, with a binary unit perhaps (`4k`, `1M`, `2G`).
pub fn bytes(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { text.get(..text.len() - 1)? };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_kind_is_understood() {
        let file = |path: &str, offset| Address::File { path: path.into(), offset };
        let exec = |line: &str| Address::Exec(["/bin/sh", "-c", line].map(str::to_owned).into());
        for (text, expected) in [
            ("unix:/run/a:b", Address::Unix("/run/a:b".into())),
            ("tcp:localhost:4444", tcp("localhost", 4444)),
            ("tcp::4444", tcp("", 4444)),
            ("tcp:0:4444", tcp("0", 4444)),
            ("tcp:[::]:49152", tcp("::", 49152)),
            ("fd:migrate", Address::Fd("migrate".to_owned())),
            ("fd:19", Address::Fd("19".to_owned())),
            ("exec:gzip -c > /tmp/a:b", exec("gzip -c > /tmp/a:b")),
            ("file:/tmp/a,b", file("/tmp/a,b", 0)),
            ("file:/dev/fdset/3,offset=0x1000", file("/dev/fdset/3", 4096)),
            ("file:/tmp/a,offset=1M", file("/tmp/a", 1 << 20)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_qemus_words() {
        for (text, expected) in [
            ("foo:bar", "unknown migration protocol: foo:bar"),
            ("unix", "unknown migration protocol: unix"),
            ("", "unknown migration protocol: "),
            ("unix:", "migration address 'unix:' names nothing"),
            ("tcp:4444", "error parsing address '4444'"),
            ("tcp:host:", "error parsing address 'host:'"),
            ("tcp:host:70000", "error parsing address 'host:70000'"),
            ("tcp:[::1:22", "error parsing address '[::1:22'"),
            ("tcp:::1:22", "error parsing address '::1:22'"),
            ("file:a,offset=x", "file URI has bad offset x"),
            ("file:a,offset=20000000T", "file URI has bad offset 20000000T"),
            ("file:a,offset=-1", "file URI has bad offset -1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap_err().to_string(), expected, "{text}");
        }
    }
}
