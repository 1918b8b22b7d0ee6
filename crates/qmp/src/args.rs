//! Arguments that have passed the checks of their command.

use crate::schema::QapiEnum;
use serde_json::{Map, Value};

/// The arguments of a command, checked against its definition: a mandatory argument is there, and each has
/// its type.
///
/// The getters do not fail. Asking for an argument that the definition does not have, or as another type, is
/// a fault of the program; it is caught by a debug assertion and gives the empty value otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    members: Map<String, Value>,
}

impl Args {
    pub(crate) fn new(members: Map<String, Value>) -> Self {
        Self { members }
    }

    /// An argument as it came.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// A mandatory string.
    pub fn str(&self, name: &str) -> &str {
        let value = self.opt_str(name);
        debug_assert!(value.is_some(), "argument {name} is not a mandatory string");
        value.unwrap_or_default()
    }

    /// An optional string.
    pub fn opt_str(&self, name: &str) -> Option<&str> {
        self.get(name, Value::as_str)
    }

    /// An optional signed integer.
    pub fn opt_i64(&self, name: &str) -> Option<i64> {
        self.get(name, Value::as_i64)
    }

    /// An optional unsigned integer, of any width.
    pub fn opt_u64(&self, name: &str) -> Option<u64> {
        self.get(name, |value| value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)))
    }

    /// An optional boolean.
    pub fn opt_bool(&self, name: &str) -> Option<bool> {
        self.get(name, Value::as_bool)
    }

    /// An optional value of an enumeration.
    pub fn opt_enum<E: QapiEnum>(&self, name: &str) -> Option<E> {
        self.get(name, |value| value.as_str().and_then(E::from_name))
    }

    fn get<'a, T>(&'a self, name: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.members.get(name)?;
        let read = read(value);
        debug_assert!(read.is_some(), "argument {name} has another type than its definition");
        read
    }
}
