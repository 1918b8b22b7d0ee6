//! The QEMU Machine Protocol, and nothing else: no machine, no sockets, no threads, no clock.
//!
//! ```text
//!  bytes ──► parser ──► request ──► session ──► Input::Call ──► (the monitor runs it)
//!            lexer      members     negotiation     │
//!            values     ids         arguments       └► Input::Reply: already decided
//!                                                         │
//!  bytes ◄─────────────── wire: one line a reply or event ◄┘
//!
//!  definitions of commands and events ──► argument checks, query-commands, query-qmp-schema
//! ```
//!
//! Here is the vocabulary of definitions ([`schema`]) and what follows from them; which commands and events there are is
//! for the caller to say ([`CommandSet`]).
//!
//! What the wire looks like is described in `spec/clients.md` sections 1 to 4; the recorded replies of QEMU
//! are the test data. Invariants:
//!
//! 1. The outputs depend on the bytes alone, never on how they were cut into chunks.
//! 2. No input panics, and work and memory are linear in the input; a single value is bounded by [`Limits`].
//! 3. One broken value costs one error (a deliberate difference from QEMU, B26 in `spec/run-state.md`), after
//!    which parsing takes up again at the end of the broken value, at a line that begins with `{`, or at byte
//!    0xFF.
//! 4. Whatever is written back is valid JSON on one line.
//! 5. What is checked and what introspection says come from the same definition.

#![forbid(unsafe_code)]

mod args;
mod check;
pub mod command;
pub mod error;
pub mod event;
mod introspect;
mod lexer;
mod literal;
pub mod parser;
pub mod request;
pub mod schema;
pub mod session;
pub mod throttle;
pub mod types;
pub mod wire;

pub use args::Args;
pub use command::{CommandSet, QMP_CAPABILITIES};
pub use error::{ErrorClass, QmpError, SyntaxError};
pub use event::Event;
pub use introspect::Schema;
pub use parser::{Limits, Parser};
pub use session::{Call, Input, Session};
pub use throttle::Throttle;
pub use wire::Timestamp;

#[doc(hidden)]
pub use serde_json;
