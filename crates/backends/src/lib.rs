//! thiserror.
#![forbid(unsafe_code)]
