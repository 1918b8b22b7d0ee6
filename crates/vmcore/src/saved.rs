//! The saved form of one device or hart: a named, versioned section of bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A component's state, as it goes into a snapshot or a migration stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Section {
    /// Name of the device instance or hart.
    pub name: String,
    /// Version of the component's own layout.
    pub version: u32,
    /// The state, encoded with postcard.
    pub data: Vec<u8>,
}

/// Why a saved section was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The section belongs to another component.
    #[error("section '{found}' was given to '{expected}'")]
    Name {
        /// Name of the component that was asked to load.
        expected: String,
        /// Name in the section.
        found: String,
    },
    /// The layout is newer than this program, or never existed.
    #[error("section '{name}' has version {found}, this program reads version {expected}")]
    Version {
        /// Name of the section.
        name: String,
        /// The version that can be read.
        expected: u32,
        /// The version that was found.
        found: u32,
    },
    /// The bytes do not decode.
    #[error("section '{name}' is damaged")]
    Encoding {
        /// Name of the section.
        name: String,
        /// What the decoder said.
        #[source]
        source: postcard::Error,
    },
    /// Bytes are left over behind the state.
    #[error("section '{name}' has {extra} bytes too many")]
    Trailing {
        /// Name of the section.
        name: String,
        /// How many.
        extra: usize,
    },
    /// A value is out of range.
    #[error("section '{name}': {what} is out of range")]
    Value {
        /// Name of the section.
        name: String,
        /// Which value.
        what: &'static str,
    },
}

impl Section {
    /// Encodes `state`. State is plain data of known size, for which encoding into memory cannot fail.
    pub fn encode<T: Serialize>(name: &str, version: u32, state: &T) -> Self {
        Self { name: name.to_owned(), version, data: postcard::to_stdvec(state).unwrap_or_default() }
    }

    /// Decodes the state of component `name`, layout `version`. The caller checks the values.
    pub fn decode<T: DeserializeOwned>(&self, name: &str, version: u32) -> Result<T, LoadError> {
        if self.name != name {
            return Err(LoadError::Name { expected: name.to_owned(), found: self.name.clone() });
        }
        if self.version != version {
            return Err(LoadError::Version { name: name.to_owned(), expected: version, found: self.version });
        }
        match postcard::take_from_bytes(&self.data) {
            Ok((state, [])) => Ok(state),
            Ok((_, rest)) => Err(LoadError::Trailing { name: name.to_owned(), extra: rest.len() }),
            Err(source) => Err(LoadError::Encoding { name: name.to_owned(), source }),
        }
    }

    /// The error for a value that decoded but cannot be.
    pub fn bad_value(&self, what: &'static str) -> LoadError {
        LoadError::Value { name: self.name.clone(), what }
    }
}
