//! A hart as a debugger sees it: registers, memory, points to stop at, one instruction at a time.
//!
//! Everything here is for a hart that executes nothing at the moment. None of it is seen by the guest: there is no debug
//! mode, no `dcsr`, no `ebreak` put into its memory, and its own `ebreak` traps to itself as ever.

use std::sync::Arc;

use crate::vcpu::Exit;

/// A register by its architectural name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Register {
    /// `x0` to `x31`.
    Integer(u8),
    /// The program counter.
    Pc,
    /// `f0` to `f31`, as bits.
    Float(u8),
    /// A control and status register by its address, as machine mode reads and writes it.
    Csr(u16),
    /// The privilege mode: 0 user, 1 supervisor, 3 machine.
    Privilege,
}

/// Which addresses a debugger gives for memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Space {
    /// Virtual ones, by the translation that the hart has in force now, whatever its pages permit.
    #[default]
    Virtual,
    /// Guest physical ones.
    Physical,
}

/// Accesses that a watchpoint waits for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Watch {
    /// Stores.
    Write,
    /// Loads.
    Read,
    /// Both.
    Access,
}

/// Where a hart stops for the debugger. Addresses are those that the guest uses: virtual where it translates.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Point {
    /// Before the instruction at this address.
    Break(u64),
    /// After an instruction that accesses any of `len` bytes from `addr`.
    Watch {
        /// First address.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// Which accesses.
        kind: Watch,
    },
}

/// Why a hart has stopped for the debugger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DebugHit {
    /// The pc stands on a breakpoint.
    Breakpoint,
    /// The instruction before the pc has met a watchpoint.
    Watchpoint {
        /// The first watched address that was accessed.
        addr: u64,
        /// Which watchpoint it met.
        kind: Watch,
    },
    /// One instruction, or one trap, is done.
    Step,
}

/// The debugger's door to a hart.
pub trait Debug {
    /// Reads a register; `None` if there is none of this name.
    fn read_register(&mut self, register: Register) -> Option<u64>;

    /// Writes a register; values are made legal. `false`: there is none, or it cannot be written.
    fn write_register(&mut self, register: Register, value: u64) -> bool;

    /// Reads memory from `addr` on; gives how many bytes could be read, from the front. Devices are not touched.
    fn read_memory(&self, space: Space, addr: u64, bytes: &mut [u8]) -> usize;

    /// Writes memory from `addr` on; gives how many bytes could be written, from the front. Whoever writes has every hart
    /// drop its fetched instructions afterwards.
    fn write_memory(&mut self, space: Space, addr: u64, bytes: &[u8]) -> usize;

    /// From now on the hart stops at these points and no others. They outlive a reset.
    fn set_points(&mut self, points: Arc<[Point]>);

    /// The breakpoint at the pc has been reported: the hart goes on over it the next time that it runs.
    fn pass_breakpoint(&mut self);

    /// Executes one instruction, as [`Vcpu::run`](crate::Vcpu::run) does, without taking interrupts. A trap that the
    /// instruction takes is the end of the step, before the handler's first instruction.
    ///
    /// [`Exit::Debug`] with [`DebugHit::Step`] when that is done; [`Exit::Signal`] when something else is wanted of the
    /// thread first, and nothing is done yet. Any other exit is that of the instruction, which ends the step too.
    fn step(&mut self) -> Exit;
}
