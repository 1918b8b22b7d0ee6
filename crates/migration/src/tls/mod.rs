//! TLS between the two sides of a migration, with certificates: `tls-creds-x509`, `tls-hostname`, `tls-authz`.
//!
//! ```text
//!   object-add tls-creds-x509 ──► Credentials: files of a folder, read and judged once
//!   migrate, migrate-incoming ──► Client, Server: the credentials of this migration, and whom it expects
//!   connected                 ──► handshake ──► Channel, as before, its bytes sealed
//! ```
//! Invariants:
//! * what is set to go by TLS never goes in the clear: what cannot is refused before anything is opened;
//! * a certificate that does not fit is refused in QEMU's words, and the machine is where it was;
//! * nothing is believed of the other side before its certificate was judged, unless `verify-peer` is off.
//!
//! Only TLS 1.3 is spoken: both sides are this program.

mod credentials;
mod failure;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use stream::{Control, FileId, Header};

use crate::Settings;
use crate::address::Address;
use crate::channel::Channel;
use crate::objects::{ObjectError, Objects};
use crate::parameters::Text;
pub(crate) use credentials::name_of;
pub use credentials::{CredentialOptions, Credentials, CredentialsError, Endpoint};
pub use failure::Failure;

/// Whether a reader's or writer's error is one of TLS.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Failure>())
}

/// Whether these first bytes of the other side are TLS: a record with an alert, or one of a handshake (RFC 8446, 5.1).
pub(crate) fn looks_sealed(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3, ..])
}

/// Plaintext that waits to be sent sealed, at most.
const WAITING: usize = 256 << 10;

/// Why a migration that is to go by TLS does not begin. The texts are QEMU's where it has them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// Something named by a parameter is not there, or something else.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Nobody to compare the certificate with.
    #[error("No hostname for certificate validation")]
    NoHostname,
    /// A text that no certificate can be for.
    #[error("'{0}' is neither a host's name nor its number, so no certificate can be for it")]
    BadHostname(String),
    /// What goes one way.
    #[error("TLS needs a connection that goes both ways, unset 'tls-creds' to migrate to or from {0}")]
    OneWay(&'static str),
    /// `tls-authz` asks for the name in a certificate that is not asked for.
    #[error("'tls-authz' judges the name in a certificate, and 'verify-peer' is off")]
    AuthzUnverified,
}

/// The side that connects.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    expected: ServerName<'static>,
    /// The same as it was named.
    name: Arc<str>,
}

/// The side that is connected to.
#[derive(Clone, Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    /// The only name that may connect.
    identity: Option<Arc<str>>,
}

fn credentials(settings: &Settings, objects: &Objects) -> Result<Option<Arc<Credentials>>, TlsError> {
    match settings.parameters.text(Text::TlsCreds) {
        "" => Ok(None),
        id => Ok(Some(objects.credentials(id)?)),
    }
}

/// What can never be sealed.
fn check_ways(address: &Address) -> Result<(), TlsError> {
    match address {
        Address::Exec(_) => Err(TlsError::OneWay("a program")),
        Address::File { .. } => Err(TlsError::OneWay("a file")),
        Address::Unix(_) | Address::Tcp { .. } | Address::Fd(_) => Ok(()),
    }
}

impl Client {
    /// How a migration to `address` is to be sealed; none if it is not.
    pub(crate) fn of(
        settings: &Settings,
        objects: &Objects,
        address: &Address,
    ) -> Result<Option<Self>, TlsError> {
        let Some(credentials) = credentials(settings, objects)? else { return Ok(None) };
        let config = credentials.client()?;
        check_ways(address)?;
        let host = match (settings.parameters.text(Text::TlsHostname), address) {
            ("", Address::Tcp { host, .. }) if host.is_empty() => "localhost",
            // The zone of a number of IPv6 is this host's own affair.
            ("", Address::Tcp { host, .. }) => host.split('%').next().unwrap_or(host),
            (host, _) => host,
        };
        let expected = match host {
            // Not looked at, and a number is not told to the other side.
            "" if !credentials.verifies() => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))),
            "" => return Err(TlsError::NoHostname),
            host => ServerName::try_from(host.to_owned())
                .map_err(|_| TlsError::BadHostname(host.chars().take(255).collect()))?,
        };
        Ok(Some(Self { config, expected, name: host.into() }))
    }

    /// Makes sure of the other side.
    pub(crate) fn seal(&self, channel: Channel) -> Result<Channel, Failure> {
        let words = |error| Failure::of(error, &self.name);
        let mut client =
            ClientConnection::new(Arc::clone(&self.config), self.expected.clone()).map_err(words)?;
        client.set_buffer_limit(Some(WAITING));
        channel.seal(client.into(), None, words)
    }
}

impl Server {
    /// How a migration from `address` is to be sealed; none if it is not.
    pub(crate) fn of(
        settings: &Settings,
        objects: &Objects,
        address: &Address,
    ) -> Result<Option<Self>, TlsError> {
        let Some(credentials) = credentials(settings, objects)? else { return Ok(None) };
        let config = credentials.server()?;
        check_ways(address)?;
        let identity = match settings.parameters.text(Text::TlsAuthz) {
            "" => None,
            _ if !credentials.verifies() => return Err(TlsError::AuthzUnverified),
            id => Some(objects.identity(id)?),
        };
        Ok(Some(Self { config, identity }))
    }

    /// Makes sure of the other side, which may take until `deadline`.
    pub(crate) fn seal(&self, channel: Channel, deadline: Option<Instant>) -> Result<Channel, Failure> {
        let words = |error| Failure::of(error, "");
        let mut server = ServerConnection::new(Arc::clone(&self.config)).map_err(words)?;
        server.set_buffer_limit(Some(WAITING));
        let mut channel = channel.seal(server.into(), deadline, words)?;
        let Some(identity) = &self.identity else { return Ok(channel) };
        let name = channel.peer_name().ok_or(Failure::NoCertificate)?;
        if **identity == *name {
            return Ok(channel);
        }
        let denied = Failure::Denied(name.into());
        // Who has shown a certificate that is trusted may know why it is not enough.
        if let Ok(writer) = channel.take_writer()
            && let Ok(mut answers) =
                stream::Writer::new(writer, &Header { two_way: true, ..Header::new(FileId([0; 16]), 0) })
        {
            let _ = answers.control(&Control::Refused { text: denied.to_string() });
        }
        Err(denied)
    }
}
