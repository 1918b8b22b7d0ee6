//! What users make by id and migrations go by: certificates, and the name that may connect.
//!
//! An id names one object at a time. One that a migration goes by may be deleted: what has begun keeps it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::jobs;
use crate::tls::{CredentialOptions, Credentials, CredentialsError, Endpoint};

/// Objects that there can be at a time.
pub const MOST_OBJECTS: usize = 256;

/// An object.
#[derive(Clone, Debug)]
pub enum Object {
    /// `tls-creds-x509`.
    Credentials(Arc<Credentials>),
    /// `authz-simple`: the only name that may connect.
    Identity(Arc<str>),
    /// One that the machine was made with, of this type. It stays.
    Fixed(&'static str),
}

impl Object {
    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "tls-creds-x509",
            Self::Identity(_) => "authz-simple",
            Self::Fixed(name) => name,
        }
    }
}

/// An object to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ObjectOptions {
    /// `tls-creds-x509`.
    Credentials(CredentialOptions),
    /// `authz-simple`, with its identity.
    Identity(String),
    /// One that the machine is made with, of this type.
    Fixed(&'static str),
}

/// Why an object is not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// There are no such credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There cannot be an object of that id.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Why an object is not made, deleted or used. The texts are QEMU's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ObjectError {
    /// Not a letter followed by letters, digits, `-`, `.` and `_`.
    #[error("Parameter 'id' expects an identifier")]
    BadId,
    /// Another object has that id.
    #[error("attempt to add duplicate property '{0}' to object (type 'container')")]
    Duplicate(String),
    /// As many as there can be.
    #[error("there are {MOST_OBJECTS} objects already")]
    TooMany,
    /// None to delete.
    #[error("object '{0}' not found")]
    NotFound(String),
    /// The machine needs it.
    #[error("object '{0}' is in use, can not be deleted")]
    InUse(String),
    /// `tls-creds` names none.
    #[error("No TLS credentials with id '{0}'")]
    NoCredentials(String),
    /// `tls-creds` names something else.
    #[error("Object with id '{0}' is not TLS credentials")]
    NotCredentials(String),
    /// Credentials of the other side.
    #[error("Expected TLS credentials for a {} endpoint", .0.name())]
    Endpoint(Endpoint),
    /// `tls-authz` names none.
    #[error("Cannot find QAuthZ object ID {0}")]
    NoAuthz(String),
    /// `tls-authz` names something else.
    #[error("Object '{0}' is not a QAuthZ subclass")]
    NotAuthz(String),
}

/// The objects of a machine. Clones are the same.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<Vec<(String, Object)>>>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().iter().map(|(id, _)| id)).finish()
    }
}

impl Objects {
    fn all(&self) -> MutexGuard<'_, Vec<(String, Object)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one.
    pub fn make(&self, id: &str, options: ObjectOptions) -> Result<(), MakeError> {
        let object = match options {
            ObjectOptions::Credentials(options) => Object::Credentials(Arc::new(Credentials::load(options)?)),
            ObjectOptions::Identity(name) => Object::Identity(name.into()),
            ObjectOptions::Fixed(name) => Object::Fixed(name),
        };
        Ok(self.add(id, object)?)
    }

    /// One more.
    pub fn add(&self, id: &str, object: Object) -> Result<(), ObjectError> {
        if !jobs::is_well_formed(id) {
            return Err(ObjectError::BadId);
        }
        let mut all = self.all();
        if all.iter().any(|(other, _)| other == id) {
            return Err(ObjectError::Duplicate(id.to_owned()));
        }
        if all.len() >= MOST_OBJECTS {
            return Err(ObjectError::TooMany);
        }
        all.push((id.to_owned(), object));
        Ok(())
    }

    /// One less.
    pub fn remove(&self, id: &str) -> Result<(), ObjectError> {
        let mut all = self.all();
        match all.iter().position(|(other, _)| other == id) {
            Some(at) if matches!(all[at].1, Object::Fixed(_)) => Err(ObjectError::InUse(id.to_owned())),
            Some(at) => {
                all.remove(at);
                Ok(())
            }
            None => Err(ObjectError::NotFound(id.chars().take(80).collect())),
        }
    }

    /// All of them with their ids, in the order in which they were made.
    pub fn list(&self) -> Vec<(String, Object)> {
        self.all().clone()
    }

    fn find(&self, id: &str) -> Option<Object> {
        self.all().iter().find(|(other, _)| other == id).map(|(_, object)| object.clone())
    }

    /// What `tls-creds` names.
    pub(crate) fn credentials(&self, id: &str) -> Result<Arc<Credentials>, ObjectError> {
        match self.find(id) {
            Some(Object::Credentials(credentials)) => Ok(credentials),
            Some(_) => Err(ObjectError::NotCredentials(id.to_owned())),
            None => Err(ObjectError::NoCredentials(id.to_owned())),
        }
    }

    /// What `tls-authz` names.
    pub(crate) fn identity(&self, id: &str) -> Result<Arc<str>, ObjectError> {
        match self.find(id) {
            Some(Object::Identity(name)) => Ok(name),
            Some(_) => Err(ObjectError::NotAuthz(id.to_owned())),
            None => Err(ObjectError::NoAuthz(id.to_owned())),
        }
    }
}
