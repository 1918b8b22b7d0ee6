//! tracing.
#![forbid(unsafe_code)]
