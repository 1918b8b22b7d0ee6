//! A RISC-V hart in software: RV64IMAFDC, Zicsr, Zifencei, Zicntr, Zba, Zbb, Zbs and Sstc, with machine, supervisor and
//! user mode, Sv39 and Sv48, and physical memory protection.
//!
//! ```text
//!   Vcpu::run ─► hart ─► exec ─── block entry: flags, budget ───► trap, csr
//!                         │  ▲
//!             miss, fetch │  │ cursor in decoded operations
//!                         ▼  │
//!          mmu + pmp ─► tlb  block ◄── decode ◄── guest memory (mem)
//! ```
//!
//! An interpreter that is made for speed: code is decoded once into operations of 16 bytes, in blocks cached by
//! physical page ([`block`](self)); loads, stores and fetches go through a software translation cache that holds host
//! addresses; what others want of the hart is one word of flags, looked at once a block.
//!
//! Invariants:
//! * whatever the guest does ends in a guest trap or an [`Exit`](vmcore::Exit), never in a panic or a hang: a
//!   block is finite and the flags are looked at between blocks;
//! * at every exit the state is precise, between two instructions, and the bound on retired instructions is exact;
//! * unsafe code is in `mem`, `tlb` and `block` alone.

#![deny(unsafe_code)]

mod alu;
mod block;
mod csr;
mod decode;
mod describe;
mod exec;
mod extensions;
pub mod fpu;
mod hart;
mod mem;
mod mmu;
mod op;
mod pmp;
mod points;
mod saved;
mod tlb;
mod trap;

pub use extensions::{ExtensionError, Extensions};
pub use hart::{Hart, HartConfig};
