//! Where a migration goes to or comes from: `uri`, or the same in parts (`channels`).

use migration::Address;
use qmp::schema::{ObjectDef, Qapi, Type, VariantsDef, arg, opt};
use qmp::{Args, QmpError, qapi_enum};
use serde_json::Value;

use super::text;
use crate::hmp::shorten;

qapi_enum! {
    /// What a channel is for.
    MigrationChannelType {
        /// All of it.
        Main = "main",
    }
}

qapi_enum! {
    /// How a channel goes.
    MigrationAddressType {
        /// A socket, or a descriptor.
        Socket = "socket",
        /// A program's standard input or output.
        Exec = "exec",
        /// A file.
        File = "file",
    }
}

qapi_enum! {
    /// Kinds of sockets.
    SocketAddressType {
        /// TCP.
        Inet = "inet",
        /// A path.
        Unix = "unix",
        /// A descriptor.
        Fd = "fd",
    }
}

static SOCKET: ObjectDef = ObjectDef {
    name: "SocketAddress",
    doc: "A socket.",
    members: &[
        arg("type", SocketAddressType::TYPE, "Its kind."),
        opt("host", Type::Str, "Of `inet`: name or number; empty for every address, or for this host."),
        opt("port", Type::Str, "Of `inet`: its number."),
        opt("path", Type::Str, "Of `unix`: the path."),
        opt("str", Type::Str, "Of `fd`: the name that `getfd` gave, or a number that was inherited."),
    ],
    variants: None,
};
static EXEC: ObjectDef = ObjectDef {
    name: "MigrationExecCommand",
    doc: "A program.",
    members: &[arg("args", Type::Array(&Type::Str), "The program and its arguments.")],
    variants: None,
};
static FILE: ObjectDef = ObjectDef {
    name: "FileMigrationArgs",
    doc: "A file.",
    members: &[
        arg("filename", Type::Str, "Its path."),
        arg("offset", Type::U64, "Bytes before it that are left alone."),
    ],
    variants: None,
};
static ADDRESS: ObjectDef = ObjectDef {
    name: "MigrationAddress",
    doc: "Where a channel goes.",
    members: &[arg("transport", MigrationAddressType::TYPE, "How.")],
    variants: Some(VariantsDef {
        tag: "transport",
        cases: &[("socket", &SOCKET), ("exec", &EXEC), ("file", &FILE)],
    }),
};
static CHANNEL: ObjectDef = ObjectDef {
    name: "MigrationChannel",
    doc: "A channel of a migration.",
    members: &[
        arg("channel-type", MigrationChannelType::TYPE, "What it is for."),
        arg("addr", Type::Object(&ADDRESS), "Where it goes."),
    ],
    variants: None,
};

/// A channel as it is named in the arguments.
pub(super) struct MigrationChannel(Value);

impl Qapi for MigrationChannel {
    const TYPE: Type = Type::Object(&CHANNEL);

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// The address that `uri` or `channels` names: exactly one of them.
pub(super) fn address(args: &Args) -> Result<Address, QmpError> {
    match (args.opt_str("uri"), args.value("channels").and_then(Value::as_array)) {
        (Some(uri), None) => parse(uri),
        (None, Some(channels)) => match channels.as_slice() {
            [channel] => of_channel(channel.get("addr").unwrap_or(&Value::Null)),
            [] => Err(QmpError::generic("Channel list has no entry")),
            _ => Err(QmpError::generic("Channel list has more than one entries")),
        },
        _ => Err(QmpError::generic("need either 'uri' or 'channels' argument")),
    }
}

/// The address that a text names.
pub(super) fn parse(uri: &str) -> Result<Address, QmpError> {
    shorten_all(uri)
        .parse()
        .map_err(|error: migration::AddressError| QmpError::generic(shorten(&error.to_string())))
}

/// What is longer than any path is no address.
fn shorten_all(uri: &str) -> &str {
    uri.get(..LONGEST.min(uri.len())).unwrap_or_default()
}

/// Longest address, in bytes: a path (4096), or a command line.
const LONGEST: usize = 128 << 10;

fn of_channel(address: &Value) -> Result<Address, QmpError> {
    let member = |name: &str| {
        text(address, name).ok_or_else(|| QmpError::missing(&format!("channels[0].addr.{name}")))
    };
    Ok(match (text(address, "transport"), text(address, "type")) {
        (Some("exec"), _) => {
            let words = address.get("args").and_then(Value::as_array).into_iter().flatten();
            let words: Vec<_> = words.filter_map(Value::as_str).map(str::to_owned).collect();
            if words.is_empty() {
                return Err(QmpError::expects("args", "the name of a program"));
            }
            Address::Exec(words)
        }
        (Some("file"), _) => Address::File {
            path: member("filename")?.into(),
            offset: address.get("offset").and_then(Value::as_u64).unwrap_or_default(),
        },
        (_, Some("unix")) => Address::Unix(member("path")?.into()),
        (_, Some("fd")) => Address::Fd(member("str")?.to_owned()),
        _ => {
            let port = member("port")?;
            let port = port.parse().map_err(|_| QmpError::expects("port", "a number below 65536"))?;
            Address::Tcp { host: member("host")?.to_owned(), port }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_in_parts_is_the_same_as_in_one() {
        for (uri, parts) in [
            ("unix:/a", json!({"transport": "socket", "type": "unix", "path": "/a"})),
            ("tcp:h:1", json!({"transport": "socket", "type": "inet", "host": "h", "port": "1"})),
            ("fd:n", json!({"transport": "socket", "type": "fd", "str": "n"})),
            ("exec:cat", json!({"transport": "exec", "args": ["/bin/sh", "-c", "cat"]})),
            ("file:/f,offset=7", json!({"transport": "file", "filename": "/f", "offset": 7})),
        ] {
            assert_eq!(of_channel(&parts).unwrap(), parse(uri).unwrap(), "{uri}");
        }
        let short = json!({"transport": "socket", "type": "unix"});
        assert_eq!(of_channel(&short).unwrap_err().desc, "Parameter 'channels[0].addr.path' is missing");
    }
}
