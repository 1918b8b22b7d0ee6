//! serde.
#![forbid(unsafe_code)]
