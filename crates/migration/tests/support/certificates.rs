//! Certificates made for a test, in folders as `tls-creds-x509` wants them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use migration::{CredentialOptions, Credentials, CredentialsError, Endpoint, Object};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::World;

/// Who vouches for certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What is special about a certificate.
#[derive(Default)]
pub struct Odd {
    /// It ended in 2020.
    pub expired: bool,
    /// It begins in 2100.
    pub early: bool,
    /// It may vouch for others.
    pub ca: bool,
    /// It is for the other side.
    pub purpose: bool,
    /// Its number is on the list of what is revoked.
    pub revoked: bool,
    /// Its only name.
    pub name: Option<&'static str>,
}

const REVOKED: u64 = 77;

impl Authority {
    pub fn new(odd: &Odd) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = if odd.ca { IsCa::ExplicitNoCa } else { IsCa::Ca(BasicConstraints::Unconstrained) };
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if odd.expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `ca-cert.pem`.
    pub fn trust(&self, folder: &Path) {
        fs::write(folder.join("ca-cert.pem"), &self.pem).unwrap();
    }

    /// Writes the certificate and the key of a side.
    pub fn vouch(&self, folder: &Path, endpoint: Endpoint, odd: &Odd) {
        let names = match odd.name {
            Some(name) => vec![name.to_owned()],
            None => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "GB");
        params.distinguished_name.push(DnType::OrganizationName, "Example, Home");
        params.distinguished_name.push(DnType::CommonName, endpoint.name());
        if odd.expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        if odd.early {
            params.not_before = date_time_ymd(2100, 1, 1);
        }
        params.is_ca = if odd.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let server = (endpoint == Endpoint::Server) != odd.purpose;
        params.extended_key_usages = vec![if server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        params.serial_number = Some(SerialNumber::from(if odd.revoked { REVOKED } else { 1 }));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let side = endpoint.name();
        fs::write(folder.join(format!("{side}-cert.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{side}-key.pem")), key.serialize_pem()).unwrap();
    }

    /// Writes `ca-crl.pem`.
    pub fn revoke(&self, folder: &Path) {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(REVOKED),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        fs::write(folder.join("ca-crl.pem"), list.pem().unwrap()).unwrap();
    }
}

/// A folder of credentials for a side.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One that `authority` vouches for, and that trusts it.
    pub fn of(authority: &Authority, endpoint: Endpoint) -> Self {
        let folder = Self::empty();
        authority.trust(folder.path());
        authority.vouch(folder.path(), endpoint, &Odd::default());
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn load(&self, endpoint: Endpoint) -> Result<Credentials, CredentialsError> {
        self.load_with(endpoint, |_| {})
    }

    pub fn load_with(
        &self,
        endpoint: Endpoint,
        change: impl FnOnce(&mut CredentialOptions),
    ) -> Result<Credentials, CredentialsError> {
        let mut options = CredentialOptions {
            dir: self.path().to_owned(),
            endpoint,
            verify_peer: true,
            sanity_check: true,
        };
        change(&mut options);
        Credentials::load(options)
    }
}

/// Has `world` migrate by these credentials.
pub fn equip(world: &World, credentials: Credentials) {
    world.migrations.objects().add("creds", Object::Credentials(Arc::new(credentials))).unwrap();
    world.set(migration::Text::TlsCreds, "creds");
}
