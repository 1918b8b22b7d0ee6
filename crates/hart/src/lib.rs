//! postcard.

pub mod fpu;
