//! rustix.
#![forbid(unsafe_code)]
