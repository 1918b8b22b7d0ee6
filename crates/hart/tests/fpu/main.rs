//! The hart's floating-point arithmetic against an independent implementation, against exact integers,
//! against itself (host paths and integer paths must agree), and against the sentences of the specification.

mod conversions;
mod fast;
mod formats;
mod operands;
mod oracle;
mod spec;
mod sqrt;
