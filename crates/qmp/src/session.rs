//! One connection, as a pure machine: bytes in; replies that are already decided, and commands to run, out.
//!
//! ```text
//!  new ──► greeting sent ──► negotiating ──qmp_capabilities──► open
//!                             every other command: CommandNotFound
//! ```
//!
//! The inputs come in the order in which their replies have to be written, decided or not; only a call with
//! [`Call::oob`] may be answered ahead of others. Before [`Session::negotiated`] no event may be sent.
//! Closing the connection and opening it again means a new session.

use crate::command::CommandSet;
use crate::error::{ErrorClass, QmpError};
use crate::parser::{Limits, Parser};
use crate::request::Request;
use crate::schema::Qapi as _;
use crate::types::QMPCapability;
use crate::{Args, wire};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A command to run: it exists, may run this way, and its arguments have been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Call<C> {
    /// What runs it, as the [`CommandSet`] was given it.
    pub command: C,
    /// Its arguments.
    pub args: Args,
    /// What the reply has to carry.
    pub id: Option<Value>,
    /// Whether it came out of band and may overtake others.
    pub oob: bool,
}

impl<C> Call<C> {
    /// The line that answers the call, `\r\n` included.
    pub fn reply(&self, result: &Result<Value, QmpError>) -> String {
        render(result, self.id.as_ref())
    }
}

/// What one request comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<C> {
    /// The protocol itself answers: the line to write, `\r\n` included.
    Reply(String),
    /// A command to run, and then to answer.
    Call(Call<C>),
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session<C> {
    commands: Arc<CommandSet<C>>,
    parser: Parser,
    negotiated: bool,
    oob: bool,
}

impl<C: Copy> Session<C> {
    /// A new connection that offers these commands.
    pub fn new(commands: Arc<CommandSet<C>>, limits: Limits) -> Self {
        Self { commands, parser: Parser::new(limits), negotiated: false, oob: false }
    }

    /// Whether negotiation is over: commands run and events may be sent.
    pub fn negotiated(&self) -> bool {
        self.negotiated
    }

    /// Whether `exec-oob` is allowed.
    pub fn oob(&self) -> bool {
        self.oob
    }

    /// Takes in bytes and gives everything that they complete.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Input<C>> {
        std::iter::from_fn(|| self.feed_one(&mut bytes)).collect()
    }

    /// Takes in bytes up to the end of the next request, and leaves the rest for later: for a caller that
    /// bounds how many requests wait. `None` means that all bytes are taken in and nothing more is complete.
    pub fn feed_one(&mut self, bytes: &mut &[u8]) -> Option<Input<C>> {
        let value = self.parser.next(bytes)?;
        Some(match value {
            Ok(value) => self.accept(value),
            Err(error) => Input::Reply(render(&Err(error.into()), None)),
        })
    }

    fn accept(&mut self, value: Value) -> Input<C> {
        match Request::parse(value, self.oob) {
            Err((error, id)) => Input::Reply(render(&Err(error), id.as_ref())),
            Ok(Request { command, arguments, id, oob }) => match self.dispatch(&command, arguments, oob) {
                Err(error) => Input::Reply(render(&Err(error), id.as_ref())),
                Ok((None, args)) => Input::Reply(render(&self.negotiate(&args), id.as_ref())),
                Ok((Some(command), args)) => Input::Call(Call { command, args, id, oob }),
            },
        }
    }

    /// Finds the command and checks its arguments. Nothing to run means `qmp_capabilities`.
    fn dispatch(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        oob: bool,
    ) -> Result<(Option<C>, Args), QmpError> {
        let entry = match self.commands.find(name) {
            Some(entry) if self.negotiated || entry.run.is_none() => entry,
            _ if !self.negotiated => {
                let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
                return Err(QmpError::new(ErrorClass::CommandNotFound, text));
            }
            _ => return Err(QmpError::command_not_found(name)),
        };
        if !entry.enabled {
            return Err(QmpError::disabled(name));
        }
        if oob && !entry.def.allow_oob {
            return Err(QmpError::generic(format!("The command {name} does not support OOB")));
        }
        Ok((entry.run, self.commands.check(entry.def, arguments)?))
    }

    fn negotiate(&mut self, args: &Args) -> Result<Value, QmpError> {
        if self.negotiated {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(QmpError::new(ErrorClass::CommandNotFound, text));
        }
        self.negotiated = true;
        self.oob = args.capabilities().contains(&QMPCapability::Oob);
        Ok(().to_value())
    }
}

fn render(result: &Result<Value, QmpError>, id: Option<&Value>) -> String {
    match result {
        Ok(value) => wire::success(value, id),
        Err(error) => wire::failure(error, id),
    }
}
