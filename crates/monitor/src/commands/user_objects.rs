//! Objects that users make while the program runs: certificates, and who may connect.

use backends::keyval::{KeyValError, KeyVals};
use migration::{CredentialOptions, Endpoint, ObjectOptions};
use qmp::schema::{Qapi as _, QapiEnum as _, Type, arg, opt};
use qmp::{Args, QmpError, qapi_enum};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words};

qapi_enum! {
    /// A type of objects that can be made while the program runs.
    ObjectKind {
        /// Certificates and a key for TLS, in the files of a folder.
        TlsCredsX509 = "tls-creds-x509",
        /// The one name that may connect.
        AuthzSimple = "authz-simple",
    }
}

qapi_enum! {
    /// Which side credentials are for.
    QCryptoTLSCredsEndpoint {
        /// The one that connects.
        Client = "client",
        /// The one that is connected to.
        Server = "server",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Makes an object.
        "object-add" [
            arg("qom-type", ObjectKind::TYPE, "Its type."),
            arg("id", Type::Str, "Its id."),
            opt("dir", Type::Str, "The folder with ca-cert.pem, ca-crl.pem and the pair of one side: client-cert.pem, client-key.pem or server-cert.pem, server-key.pem (`tls-creds-x509`)."),
            opt("endpoint", QCryptoTLSCredsEndpoint::TYPE, "Which side it is for; `client` by default (`tls-creds-x509`)."),
            opt("verify-peer", Type::Bool, "Whether the other side's certificate is judged, as it is by default (`tls-creds-x509`)."),
            opt("sanity-check", Type::Bool, "Whether our own certificates are judged at once, as they are by default (`tls-creds-x509`)."),
            opt("identity", Type::Str, "The name in a certificate, from the country down: C=GB,O=Home,CN=laptop (`authz-simple`)."),
        ] -> () = object_add
    }
    .human(
        Human::new(&["object_add"], "make an object: tls-creds-x509, authz-simple", add_for_people)
            .words("TYPE,id=ID[,PROP=VALUE...]", Words::Any(1, usize::MAX)),
    ),
    command! {
        /// Deletes an object. What goes by it already goes on.
        "object-del" [arg("id", Type::Str, "Its id.")] -> () =
            |env: &Env<'_>, args: &Args| object_del(env, args.str("id"))
    }
    .human(
        Human::new(&["object_del"], "delete an object", |screen, words| {
            Ok(object_del(screen.env, words.first().copied().unwrap_or_default())?)
        })
        .words("ID", Words::Any(1, 1)),
    ),
];

/// The properties of an object of this type, taken out of a list. None: it is not of a type that users make.
pub fn object_options(kind: &str, list: &mut KeyVals) -> Option<Result<ObjectOptions, KeyValError>> {
    let kind = ObjectKind::from_name(kind)?;
    Some(match kind {
        ObjectKind::TlsCredsX509 => credentials(list),
        ObjectKind::AuthzSimple => list.require("identity").map(ObjectOptions::Identity),
    })
}

fn credentials(list: &mut KeyVals) -> Result<ObjectOptions, KeyValError> {
    let endpoint = match list.take("endpoint") {
        None => Endpoint::Client,
        Some(value) => {
            let known = Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == value);
            known.ok_or(KeyValError::BadValue { key: "endpoint".to_owned(), value })?
        }
    };
    Ok(ObjectOptions::Credentials(CredentialOptions {
        dir: list.take("dir").unwrap_or_default().into(),
        endpoint,
        verify_peer: list.take_bool("verify-peer")?.unwrap_or(true),
        sanity_check: list.take_bool("sanity-check")?.unwrap_or(true),
    }))
}

fn object_add(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    const OF_CREDENTIALS: [&str; 4] = ["dir", "endpoint", "verify-peer", "sanity-check"];
    let is_credentials = args.str("qom-type") == ObjectKind::TlsCredsX509.name();
    let foreign: &[&str] = if is_credentials { &["identity"] } else { &OF_CREDENTIALS };
    if let Some(name) = foreign.iter().find(|name| args.value(name).is_some()) {
        return Err(QmpError::unexpected(name));
    }
    let options = if is_credentials {
        let server = args.opt_str("endpoint") == Some(Endpoint::Server.name());
        ObjectOptions::Credentials(CredentialOptions {
            dir: args.opt_str("dir").unwrap_or_default().into(),
            endpoint: if server { Endpoint::Server } else { Endpoint::Client },
            verify_peer: args.opt_bool("verify-peer").unwrap_or(true),
            sanity_check: args.opt_bool("sanity-check").unwrap_or(true),
        })
    } else {
        let identity = args.opt_str("identity").ok_or_else(|| QmpError::missing("identity"))?;
        ObjectOptions::Identity(identity.to_owned())
    };
    make(env, args.str("id"), options)
}

fn make(env: &Env<'_>, id: &str, options: ObjectOptions) -> Result<(), QmpError> {
    let made = env.context.migrations.objects().make(id, options);
    made.map_err(|error| QmpError::generic(error.to_string()))
}

fn object_del(env: &Env<'_>, id: &str) -> Result<(), QmpError> {
    let deleted = env.context.migrations.objects().remove(id);
    deleted.map_err(|error| QmpError::generic(error.to_string()))
}

fn add_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let bad = |error: KeyValError| QmpError::generic(error.to_string());
    let mut list = KeyVals::parse(&words.join(" "), Some("qom-type")).map_err(bad)?;
    let kind = list.require("qom-type").map_err(bad)?;
    let id = list.require("id").map_err(bad)?;
    let options = object_options(&kind, &mut list)
        .ok_or_else(|| QmpError::bad_value("qom-type", &kind))?
        .map_err(bad)?;
    list.finish().map_err(bad)?;
    Ok(make(screen.env, &id, options)?)
}
