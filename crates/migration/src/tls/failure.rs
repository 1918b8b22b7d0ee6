//! What goes wrong in TLS, in words for the user of this side.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error};

use crate::open::reason;

/// Why TLS with the other side has failed. The texts are QEMU's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It is for somebody else than whom we connect to.
    #[error("Certificate does not match the hostname {0}")]
    OtherName(Arc<str>),
    /// Nobody that we trust has made it.
    #[error("The certificate hasn't got a known issuer")]
    UnknownIssuer,
    /// Its time is over.
    #[error("The certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("The certificate is not yet activated")]
    NotYet,
    /// It is no longer good.
    #[error("The certificate has been revoked")]
    Revoked,
    /// Its issuer's name is known, and has another key.
    #[error("The certificate is not trusted: its signature is not that of the issuer that is known here")]
    BadSignature,
    /// It is no good for another reason.
    #[error("The certificate is not trusted: {0}")]
    Untrusted(CertificateError),
    /// None was shown where one is wanted.
    #[error("Verify failed: No certificate was found.")]
    NoCertificate,
    /// Another name may connect.
    #[error("TLS x509 authz check for {0} is denied")]
    Denied(Arc<str>),
    /// Something else is spoken.
    #[error("TLS handshake failed: what the other side says is no TLS, is 'tls-creds' set there?")]
    NotTls,
    /// TLS is spoken, and that was not expected.
    #[error("the other side speaks TLS, and 'tls-creds' is not set here")]
    Sealed,
    /// The other side goes without a word.
    #[error("TLS handshake failed: the other side has hung up, is 'tls-creds' set there?")]
    HungUp,
    /// What the other side does not like of us.
    #[error("TLS: the other side refuses: {}", refusal(*.0))]
    Refused(AlertDescription),
    /// Nobody can answer.
    #[error("TLS handshake failed: the connection cannot be sealed, it goes one way only")]
    OneWay,
    /// The connection fails.
    #[error("TLS handshake failed: {}", reason(.0))]
    Io(#[from] io::Error),
    /// The library says why.
    #[error("TLS: {0}")]
    Other(Error),
}

impl Failure {
    /// What `error` means, where the certificate of `name` was expected.
    pub(crate) fn of(error: Error, name: &str) -> Self {
        use CertificateError as Certificate;
        match error {
            Error::InvalidCertificate(certificate) => match certificate {
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    Self::OtherName(name.into())
                }
                Certificate::UnknownIssuer => Self::UnknownIssuer,
                Certificate::Expired | Certificate::ExpiredContext { .. } => Self::Expired,
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Self::NotYet,
                Certificate::Revoked => Self::Revoked,
                Certificate::BadSignature => Self::BadSignature,
                other => Self::Untrusted(other),
            },
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::AlertReceived(alert) => Self::Refused(alert),
            other => Self::Other(other),
        }
    }
}

/// What an alert says (RFC 8446, 6.2), where it is about a certificate.
fn refusal(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::UnknownCA => "it does not know the issuer of our certificate",
        Alert::CertificateExpired => "our certificate is not valid now",
        Alert::CertificateRevoked => "our certificate has been revoked",
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnsupportedCertificate => {
            "our certificate is not for this"
        }
        Alert::DecryptError => "our certificate is not signed by the issuer that it knows",
        Alert::CertificateRequired => "it wants a certificate, and our credentials have none",
        Alert::AccessDenied => "the name in our certificate may not connect",
        Alert::ProtocolVersion => "it does not speak TLS 1.3",
        other => return format!("{other:?}"),
    }
    .to_owned()
}
