//! work in progress
#![forbid(unsafe_code)]
pub mod asm; pub mod case; pub mod compressed; pub mod generate; pub mod image; pub mod isa; pub mod layout; pub mod ours; pub mod compare; pub mod qemu; pub mod rng; pub mod runtime;
