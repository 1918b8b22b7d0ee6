//! The members of a request, before anything is known about its command.

use crate::error::{QmpError, quote};
use serde_json::{Map, Value};

/// A well-formed request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The command that is named.
    pub command: String,
    /// Its arguments; no arguments and `{}` are the same.
    pub arguments: Map<String, Value>,
    /// What the reply has to carry, if anything.
    pub id: Option<Value>,
    /// Whether it came by `exec-oob`.
    pub oob: bool,
}

impl Request {
    /// Takes a value apart. `allow_oob` says whether the connection has switched `exec-oob` on.
    ///
    /// # Errors
    /// The error of the reply, and the id that it carries.
    pub fn parse(value: Value, allow_oob: bool) -> Result<Self, (QmpError, Option<Value>)> {
        let Value::Object(mut members) = value else {
            return Err((QmpError::generic("QMP input must be a JSON object"), None));
        };
        let id = members.shift_remove("id");
        match Self::from_members(members, allow_oob) {
            Ok(request) => Ok(Self { id, ..request }),
            Err(error) => Err((error, id)),
        }
    }

    fn from_members(members: Map<String, Value>, allow_oob: bool) -> Result<Self, QmpError> {
        let mut request = Self { command: String::new(), arguments: Map::new(), id: None, oob: false };
        let mut execute: Option<String> = None;
        for (name, value) in members {
            match (name.as_str(), value) {
                ("execute", Value::String(command)) => request.name_command(&mut execute, &name, command)?,
                ("exec-oob", Value::String(command)) if allow_oob => {
                    request.name_command(&mut execute, &name, command)?;
                    request.oob = true;
                }
                ("execute", _) => return Err(member(&name, "must be a string")),
                ("exec-oob", _) if allow_oob => return Err(member(&name, "must be a string")),
                ("arguments", Value::Object(arguments)) => request.arguments = arguments,
                ("arguments", _) => return Err(member(&name, "must be an object")),
                _ => return Err(member(&name, "is unexpected")),
            }
        }
        if execute.is_none() {
            return Err(QmpError::generic("QMP input lacks member 'execute'"));
        }
        Ok(request)
    }

    fn name_command(&mut self, seen: &mut Option<String>, by: &str, command: String) -> Result<(), QmpError> {
        if let Some(other) = seen {
            return Err(member(by, &format!("clashes with '{other}'")));
        }
        *seen = Some(by.to_owned());
        self.command = command;
        Ok(())
    }
}

fn member(name: &str, fault: &str) -> QmpError {
    QmpError::generic(format!("QMP input member '{}' {fault}", quote(name)))
}
