//! postcard.
#![forbid(unsafe_code)]
