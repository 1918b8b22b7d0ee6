//! sbi-spec.
#![forbid(unsafe_code)]
