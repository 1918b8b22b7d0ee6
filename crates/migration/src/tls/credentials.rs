//! `tls-creds-x509`: certificates and keys in the files of a folder, as QEMU names them.
//!
//! ```text
//!   ca-cert.pem                        who is trusted; several certificates may be in it
//!   ca-crl.pem                         what of theirs has been revoked; need not be there
//!   server-cert.pem server-key.pem     endpoint=server
//!   client-cert.pem client-key.pem     endpoint=client; both, or neither where servers ask for none
//! ```
//! They are read once, when the object is made, and judged then (`sanity-check=off`: only when they are used).

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints;

use super::Failure;
use crate::objects::ObjectError;
use crate::open::reason;

/// The largest file of certificates that is read, in bytes.
const MOST: u64 = 1 << 20;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// Which side the credentials are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// The one that connects.
    Client,
    /// The one that is connected to.
    Server,
}

impl Endpoint {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The properties of `tls-creds-x509`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialOptions {
    /// The folder.
    pub dir: PathBuf,
    /// Which side.
    pub endpoint: Endpoint,
    /// Whether the other side's certificate is judged.
    pub verify_peer: bool,
    /// Whether our own are, when they are read.
    pub sanity_check: bool,
}

/// Why there are no credentials. The texts are QEMU's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No folder.
    #[error("Missing 'dir' property value")]
    NoFolder,
    /// A file cannot be read.
    #[error("Unable to access credentials {}: {}", path.display(), reason(why))]
    Access {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// What is in a file is not what should be.
    #[error("Unable to import {what} {}: {why}", path.display())]
    Import {
        /// What should be there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: Malformed,
    },
    /// A certificate whose time is over.
    #[error("The {what} certificate {} has expired", path.display())]
    Expired {
        /// Whose.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A certificate whose time has not come.
    #[error("The {what} certificate {} is not yet active", path.display())]
    NotYet {
        /// Whose.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A certificate that is to vouch for others and may not.
    #[error("The certificate {} basic constraints do not show a CA", .0.display())]
    NoCa(PathBuf),
    /// A certificate that may vouch for others where one of a host is wanted.
    #[error(
        "The certificate {} basic constraints show a CA, but we need one for a {}", path.display(), endpoint.name()
    )]
    IsCa {
        /// The file.
        path: PathBuf,
        /// Which side.
        endpoint: Endpoint,
    },
    /// A certificate of the other sort.
    #[error("Certificate {} purpose does not allow use with a TLS {}", path.display(), endpoint.name())]
    Purpose {
        /// The file.
        path: PathBuf,
        /// Which side.
        endpoint: Endpoint,
    },
    /// A certificate that the CA does not vouch for.
    #[error("Our own certificate {} failed validation against {}: {why}", path.display(), ca.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The CA's.
        ca: PathBuf,
        /// Why.
        why: OwnFailure,
    },
    /// A certificate and a key that do not go together, or a key that is of no use.
    #[error("Cannot load certificate '{}' & key '{}': {why}", path.display(), key.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        why: BadPair,
    },
    /// The library refuses for a reason of its own.
    #[error("Cannot allocate credentials: {0}")]
    Setup(Error),
    /// The list of what is revoked is of no use.
    #[error("Cannot load CA revocation list '{}': {why}", path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: VerifierBuilderError,
    },
}

/// What is wrong inside a file.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the text form.
    #[error("{0}")]
    Pem(pem::Error),
    /// Nothing of the kind in it.
    #[error("no {0} is in it")]
    Nothing(&'static str),
    /// No certificate of X.509.
    #[error("it is no certificate ({0})")]
    Certificate(x509_cert::der::Error),
    /// Not one that the library takes.
    #[error("{0}")]
    Refused(Error),
    /// More than a file of certificates has.
    #[error("it is larger than {MOST} bytes")]
    TooLarge,
}

/// Why our certificate does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OwnFailure(Failure);

/// Why a certificate and a key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum BadPair {
    /// Another's key.
    #[error("The certificate and the given key do not match.")]
    Mismatch,
    /// Not a key, or one that is locked.
    #[error("the key cannot be used ({0}); keys with a password are not taken")]
    Key(pem::Error),
    /// For another reason.
    #[error("{0}")]
    Other(Error),
}

/// The certificates and the key of one side.
#[derive(Debug)]
pub struct Credentials {
    options: CredentialOptions,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

/// Ours, with their files.
struct Pair {
    path: PathBuf,
    key_path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads and judges what is in the folder.
    pub fn load(options: CredentialOptions) -> Result<Self, CredentialsError> {
        if options.dir.as_os_str().is_empty() {
            return Err(CredentialsError::NoFolder);
        }
        let folder = Folder { options: &options, now: UnixTime::now() };
        let roots = Arc::new(folder.roots()?);
        let revoked = folder.revoked()?;
        let side = match options.endpoint {
            Endpoint::Client => Side::Client(Arc::new(folder.client(roots, revoked)?)),
            Endpoint::Server => Side::Server(Arc::new(folder.server(roots, revoked)?)),
        };
        Ok(Self { options, side })
    }

    /// Its properties.
    pub fn options(&self) -> &CredentialOptions {
        &self.options
    }

    /// Whether the other side's certificate is judged.
    pub(super) fn verifies(&self) -> bool {
        self.options.verify_peer
    }

    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, ObjectError> {
        match &self.side {
            Side::Client(config) => Ok(Arc::clone(config)),
            Side::Server(_) => Err(ObjectError::Endpoint(Endpoint::Client)),
        }
    }

    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, ObjectError> {
        match &self.side {
            Side::Server(config) => Ok(Arc::clone(config)),
            Side::Client(_) => Err(ObjectError::Endpoint(Endpoint::Server)),
        }
    }
}

/// The name in a certificate, from the country down as QEMU writes it.
pub(crate) fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let parts: Vec<_> = certificate.tbs_certificate.subject.0.iter().map(ToString::to_string).collect();
    Some(parts.join(","))
}

/// The files of credentials that are being made.
struct Folder<'a> {
    options: &'a CredentialOptions,
    now: UnixTime,
}

impl Folder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.options.dir.join(name)
    }

    /// The certificates in a file, at least one.
    fn certificates(
        &self,
        path: &Path,
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let import = |why| CredentialsError::Import { what, path: path.to_owned(), why };
        let text = read(path, what)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let all = all.map_err(|error| import(Malformed::Pem(error)))?;
        if all.is_empty() { Err(import(Malformed::Nothing("certificate"))) } else { Ok(all) }
    }

    fn roots(&self) -> Result<RootCertStore, CredentialsError> {
        const WHAT: &str = "CA certificate list";
        let path = self.path("ca-cert.pem");
        let import = |why| CredentialsError::Import { what: WHAT, path: path.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(&path, WHAT)? {
            if self.options.sanity_check {
                self.check_ca(&path, &certificate)?;
            }
            roots.add(certificate).map_err(|error| import(Malformed::Refused(error)))?;
        }
        Ok(roots)
    }

    /// The library trusts what it is told to, so this is looked at here.
    fn check_ca(&self, path: &Path, certificate: &CertificateDer<'_>) -> Result<(), CredentialsError> {
        let (what, path) = ("CA", path.to_owned());
        let certificate = match x509_cert::Certificate::from_der(certificate) {
            Ok(certificate) => certificate.tbs_certificate,
            Err(error) => {
                let why = Malformed::Certificate(error);
                return Err(CredentialsError::Import { what: "CA certificate list", path, why });
            }
        };
        let now = SystemTime::now();
        if certificate.validity.not_after.to_system_time() < now {
            return Err(CredentialsError::Expired { what, path });
        }
        if certificate.validity.not_before.to_system_time() > now {
            return Err(CredentialsError::NotYet { what, path });
        }
        match certificate.get::<BasicConstraints>() {
            Ok(Some((_, constraints))) if constraints.ca => Ok(()),
            _ => Err(CredentialsError::NoCa(path)),
        }
    }

    fn revoked(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError> {
        const WHAT: &str = "CA revocation list";
        let path = self.path("ca-crl.pem");
        let text = match read(&path, WHAT) {
            Err(CredentialsError::Access { why, .. }) if why.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            text => text?,
        };
        let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let import = |why| CredentialsError::Import { what: WHAT, path: path.clone(), why };
        let all = all.map_err(|error| import(Malformed::Pem(error)))?;
        // A list that is there and says nothing would be taken for one that revokes nothing.
        if all.is_empty() { Err(import(Malformed::Nothing("revocation list"))) } else { Ok(all) }
    }

    /// Our certificate and key. None: neither is there, which a client may do without.
    fn pair(&self) -> Result<Option<Pair>, CredentialsError> {
        let (cert, key, what) = match self.options.endpoint {
            Endpoint::Client => ("client-cert.pem", "client-key.pem", "client certificate"),
            Endpoint::Server => ("server-cert.pem", "server-key.pem", "server certificate"),
        };
        let (path, key_path) = (self.path(cert), self.path(key));
        let missing = |path: &Path| matches!(path.try_exists(), Ok(false));
        if self.options.endpoint == Endpoint::Client && missing(&path) && missing(&key_path) {
            return Ok(None);
        }
        let chain = self.certificates(&path, what)?;
        let text = read(&key_path, "key")?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| CredentialsError::Pair {
            path: path.clone(),
            key: key_path.clone(),
            why: BadPair::Key(error),
        })?;
        Ok(Some(Pair { path, key_path, chain, key }))
    }

    /// What the other side would say of our certificate.
    fn judge(
        &self,
        pair: &Pair,
        check: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<(), Error>,
    ) -> Result<(), CredentialsError> {
        let (path, endpoint) = (pair.path.clone(), self.options.endpoint);
        let Some((own, above)) = pair.chain.split_first() else { return Ok(()) };
        if !self.options.sanity_check {
            return Ok(());
        }
        if let Ok(certificate) = x509_cert::Certificate::from_der(own)
            && let Ok(Some((_, constraints))) = certificate.tbs_certificate.get::<BasicConstraints>()
            && constraints.ca
        {
            return Err(CredentialsError::IsCa { path, endpoint });
        }
        let Err(error) = check(own, above) else { return Ok(()) };
        if let Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) = error
        {
            return Err(CredentialsError::Purpose { path, endpoint });
        }
        let what = endpoint.name();
        Err(match Failure::of(error, "") {
            Failure::Expired => CredentialsError::Expired { what, path },
            Failure::NotYet => CredentialsError::NotYet { what, path },
            why => CredentialsError::Invalid { path, ca: self.path("ca-cert.pem"), why: OwnFailure(why) },
        })
    }

    fn client(
        &self,
        roots: Arc<RootCertStore>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<ClientConfig, CredentialsError> {
        let pair = self.pair()?;
        if let Some(pair) = &pair {
            let judge =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&PROVIDER));
            let judge = judge.build().map_err(|why| self.revocations(why))?;
            self.judge(pair, |own, above| judge.verify_client_cert(own, above, self.now).map(drop))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CredentialsError::Setup)?
            .dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = if self.options.verify_peer {
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER))
                .with_crls(revoked)
                .allow_unknown_revocation_status()
                .build()
                .map_err(|why| self.revocations(why))?
        } else {
            Arc::new(Anybody)
        };
        let config = config.with_custom_certificate_verifier(verifier);
        let mut config = match pair {
            Some(Pair { path, key_path, chain, key }) => {
                config.with_client_auth_cert(chain, key).map_err(|error| pair_error(path, key_path, error))?
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn server(
        &self,
        roots: Arc<RootCertStore>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<ServerConfig, CredentialsError> {
        // Without one it would have been told.
        let Some(pair) = self.pair()? else {
            return Err(CredentialsError::Setup(Error::NoCertificatesPresented));
        };
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        self.judge(&pair, |own, above| {
            let own = ParsedCertificate::try_from(own)?;
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &own, &roots, above, self.now, algorithms,
            )
        })?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CredentialsError::Setup)?;
        let config = if self.options.verify_peer {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER))
                .with_crls(revoked)
                .allow_unknown_revocation_status()
                .build();
            config.with_client_cert_verifier(verifier.map_err(|why| self.revocations(why))?)
        } else {
            config.with_no_client_auth()
        };
        let Pair { path, key_path, chain, key } = pair;
        let mut config =
            config.with_single_cert(chain, key).map_err(|error| pair_error(path, key_path, error))?;
        // Nobody comes back to a migration.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn revocations(&self, why: VerifierBuilderError) -> CredentialsError {
        CredentialsError::Revocations { path: self.path("ca-crl.pem"), why }
    }
}

fn pair_error(path: PathBuf, key: PathBuf, error: Error) -> CredentialsError {
    let why = match error {
        Error::InconsistentKeys(_) => BadPair::Mismatch,
        other => BadPair::Other(other),
    };
    CredentialsError::Pair { path, key, why }
}

/// A file that has to be a regular one, so that nobody is waited for.
fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, CredentialsError> {
    let failed = |why| CredentialsError::Access { path: path.to_owned(), why };
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(CredentialsError::Import { what, path: path.to_owned(), why: Malformed::TooLarge });
    }
    Ok(bytes)
}

/// `verify-peer=off`: whoever answers is taken for the other side. The connection is sealed all the same.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
