//! Checks of arguments against their definition, with the texts of QEMU's input visitor.
//!
//! Two warts of those texts are kept because they are what clients see: the error for a bad enumeration value
//! and for an out-of-range integer gives the bare name of the member, all others the whole path. One is not:
//! an element of a list has no name there and QEMU says `null`; we say the path.

use crate::error::QmpError;
use crate::schema::{ArgDef, ObjectDef, Type};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Checks the arguments of a command: first those that it has, in their order, then that there are no others.
pub(crate) fn check_arguments(defs: &[ArgDef], arguments: &Map<String, Value>) -> Result<(), QmpError> {
    let mut path = Path::default();
    check_members(&[defs], arguments, &mut path)
}

/// Where in the arguments we are; `capabilities[0].state`.
#[derive(Default)]
struct Path {
    text: String,
}

impl Path {
    /// Runs `inner` one member deeper.
    fn member<T>(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.text.len();
        if length > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        let result = inner(self);
        self.text.truncate(length);
        result
    }

    /// Runs `inner` in an element of a list.
    fn element<T>(&mut self, index: usize, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.text.len();
        // Writing into a String cannot fail.
        let _ = write!(self.text, "[{index}]");
        let result = inner(self);
        self.text.truncate(length);
        result
    }
}

/// Checks an object that has the members of all `groups`.
fn check_members(groups: &[&[ArgDef]], object: &Map<String, Value>, path: &mut Path) -> Result<(), QmpError> {
    for def in groups.iter().copied().flatten() {
        path.member(def.name, |path| match object.get(def.name) {
            Some(value) => check_value(def.ty, value, Some(def.name), path),
            None if def.optional => Ok(()),
            None => Err(QmpError::missing(&path.text)),
        })?;
    }
    let known = |key: &str| groups.iter().copied().flatten().any(|def| def.name == key);
    match object.keys().find(|key| !known(key)) {
        Some(key) => path.member(key, |path| Err(QmpError::unexpected(&path.text))),
        None => Ok(()),
    }
}

/// Checks one value. `name` is the member's own name; an element of a list has none.
fn check_value(ty: Type, value: &Value, name: Option<&str>, path: &mut Path) -> Result<(), QmpError> {
    let wrong = |path: &Path, expected| Err(QmpError::wrong_type(&path.text, expected));
    match ty {
        Type::Str if !value.is_string() => wrong(path, "string"),
        Type::Int if !value.is_i64() => wrong(path, "integer"),
        Type::Number if !value.is_number() => wrong(path, "number"),
        Type::Bool if !value.is_boolean() => wrong(path, "boolean"),
        Type::Null if !value.is_null() => wrong(path, "null"),
        Type::Str | Type::Int | Type::Number | Type::Bool | Type::Null | Type::Any => Ok(()),
        Type::U8 => check_unsigned(value, u8::MAX.into(), "uint8_t", name, path),
        Type::U16 => check_unsigned(value, u16::MAX.into(), "uint16_t", name, path),
        Type::U32 => check_unsigned(value, u32::MAX.into(), "uint32_t", name, path),
        Type::U64 => check_unsigned(value, u64::MAX, "uint64", name, path),
        Type::Enum(def) => match value.as_str() {
            None => wrong(path, "string"),
            Some(text) if def.values.contains(&text) => Ok(()),
            Some(text) => Err(QmpError::bad_value(name.unwrap_or(&path.text), text)),
        },
        Type::Array(element) => {
            let Some(list) = value.as_array() else { return wrong(path, "array") };
            let mut elements = list.iter().enumerate();
            elements
                .try_for_each(|(i, value)| path.element(i, |path| check_value(*element, value, None, path)))
        }
        Type::Object(def) => {
            let Some(object) = value.as_object() else { return wrong(path, "object") };
            check_object(def, object, path)
        }
        Type::Alternate(def) => match def.choices.iter().find(|&&choice| same_json_type(choice, value)) {
            Some(&choice) => check_value(choice, value, name, path),
            None => wrong(path, def.name),
        },
    }
}

/// Checks an object type; the variant that the tag selects adds its members.
fn check_object(def: &ObjectDef, object: &Map<String, Value>, path: &mut Path) -> Result<(), QmpError> {
    let tag = def.variants.as_ref().and_then(|variants| object.get(variants.tag)).and_then(Value::as_str);
    let case =
        def.variants.as_ref().and_then(|variants| variants.cases.iter().find(|(name, _)| Some(*name) == tag));
    let extra: &[ArgDef] = case.map_or(&[], |(_, variant)| variant.members);
    check_members(&[def.members, extra], object, path)
}

/// An unsigned integer. As in QEMU a negative number stands for its two's complement, so that only the width
/// refuses it.
fn check_unsigned(
    value: &Value,
    max: u64,
    expects: &str,
    name: Option<&str>,
    path: &Path,
) -> Result<(), QmpError> {
    let number = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    match number {
        None => Err(QmpError::expects(&path.text, "uint64")),
        Some(number) if number > max => Err(QmpError::expects(name.unwrap_or(&path.text), expects)),
        Some(_) => Ok(()),
    }
}

/// Whether the choice of an alternate is meant, which the JSON type alone decides.
fn same_json_type(ty: Type, value: &Value) -> bool {
    match ty {
        Type::Str | Type::Enum(_) => value.is_string(),
        Type::Int | Type::U8 | Type::U16 | Type::U32 | Type::U64 => value.is_i64() || value.is_u64(),
        Type::Number => value.is_number(),
        Type::Bool => value.is_boolean(),
        Type::Null => value.is_null(),
        Type::Array(_) => value.is_array(),
        Type::Object(_) => value.is_object(),
        Type::Any => true,
        Type::Alternate(def) => def.choices.iter().any(|&choice| same_json_type(choice, value)),
    }
}

#[cfg(test)]
mod tests;
