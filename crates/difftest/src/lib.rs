//! Random differential tests of the hart against QEMU.
//!
//! A case is a random program of one instruction class with a random initial state, a function of its seed alone. Some
//! hundred cases and the runtime that drives them make one bare-metal image. The same image runs in QEMU's `virt`
//! machine and, in this process, on our hart; both leave a record for each case in RAM: registers, flags, CSRs, a hash of the
//! memory that it worked on, and what every trap reported.
//!
//! ```text
//!   seed ─► generate ─► case ─┐
//!                             ├─► image ─┬─► qemu ─► records ─┐
//!   runtime (asm, isa) ───────┘          └─► ours ─► records ─┴─► compare ─► shrink ─► report
//! ```
//!
//! Invariants:
//! * a case behaves the same whatever batch it is in: the runtime copies it to one fixed address and resets everything;
//! * every case ends: loops count down, and a case is ended after a number of traps;
//! * nothing is compared that the specification leaves open: [`known`] lists what that concerned so far.
//!
//! `DIFFTEST_CASES` (cases of each class) and `DIFFTEST_SEED` (the first seed) widen the run.

#![forbid(unsafe_code)]

pub mod asm;
pub mod case;
pub mod compare;
pub mod compressed;
pub mod generate;
pub mod image;
pub mod isa;
pub mod known;
pub mod layout;
pub mod ours;
pub mod qemu;
pub mod rng;
pub mod runtime;
