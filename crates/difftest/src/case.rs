//! A test case: a small program with the state that it starts from.

use crate::layout;

/// The kinds of case that the generator makes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Integer computation and multiplication.
    Integer,
    /// Bit manipulation among integer computation.
    Bits,
    /// 16-bit instructions.
    Compressed,
    /// AMOs, `lr` and `sc`.
    Atomic,
    /// Single precision.
    Single,
    /// Double precision.
    Double,
    /// Loads and stores, misaligned and across pages too.
    Memory,
    /// Branches, jumps and loops.
    Branch,
    /// Code that writes code.
    SelfModifying,
    /// CSRs of machine and supervisor mode.
    Csr,
    /// Exceptions of every kind and privilege checks.
    Trap,
    /// Interrupts that the program raises itself.
    Interrupt,
    /// Physical memory protection.
    Pmp,
    /// Three-level page tables.
    Sv39,
    /// Four-level page tables.
    Sv48,
    /// Everything that needs no set-up, mixed.
    Mixed,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Integer,
        Self::Bits,
        Self::Compressed,
        Self::Atomic,
        Self::Single,
        Self::Double,
        Self::Memory,
        Self::Branch,
        Self::SelfModifying,
        Self::Csr,
        Self::Trap,
        Self::Interrupt,
        Self::Pmp,
        Self::Sv39,
        Self::Sv48,
        Self::Mixed,
    ];
}

/// Privilege modes, as `mstatus.MPP` has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// U.
    User = 0,
    /// S.
    Supervisor = 1,
    /// M.
    Machine = 3,
}

/// Bytes that are put somewhere in memory before the case starts.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Guest physical address, a multiple of 8.
    pub at: u64,
    /// A whole number of 64-bit words.
    pub words: Vec<u64>,
}

/// A program and its initial state. The program is a list of groups: a group is the least that makes sense by itself, and
/// any of them can be taken out, which is how a failing case is made small.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is a case of.
    pub class: Class,
    /// What it was made from.
    pub seed: u64,
    /// Mode that it starts in.
    pub mode: Mode,
    /// Whether `mstatus` has other bits set before the first instruction.
    pub mstatus: u64,
    /// `satp`.
    pub satp: u64,
    /// `medeleg`.
    pub medeleg: u64,
    /// `mideleg`.
    pub mideleg: u64,
    /// `mie`.
    pub mie: u64,
    /// `mcounteren` and `scounteren`.
    pub counteren: u64,
    /// `fcsr`.
    pub fcsr: u64,
    /// Whether `mtval` and `stval` of illegal instructions are not looked at (see `PrivilegedTval` in `known`).
    pub drop_tval: bool,
    /// x0 to x31.
    pub x: [u64; 32],
    /// f0 to f31.
    pub f: [u64; 32],
    /// Virtual address of the code in U, S, (none) and M mode.
    pub bases: [u64; 4],
    /// Bytes of scratch memory used.
    pub scratch_len: u64,
    /// Memory beside the code: page tables, pages to jump to.
    pub blobs: Vec<Blob>,
    /// The program.
    pub groups: Vec<Vec<u16>>,
}

impl Case {
    /// A case without instructions, in machine mode, with all registers zero and FS dirty (see `DirtyFloats` in
    /// `known`).
    pub fn new(class: Class, seed: u64) -> Self {
        Self {
            class,
            seed,
            mode: Mode::Machine,
            mstatus: 3 << 13,
            satp: 0,
            medeleg: 0,
            mideleg: 0,
            mie: 0,
            counteren: 7,
            fcsr: 0,
            drop_tval: false,
            x: [0; 32],
            f: [0; 32],
            bases: [layout::CODE; 4],
            scratch_len: 0x2000,
            blobs: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// The program's instructions, without the `ecall` that ends it.
    pub fn code(&self) -> Vec<u16> {
        self.groups.concat()
    }

    /// The case with only the groups for which `keep(index)` holds.
    pub fn with_groups(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept = self.groups.iter().enumerate().filter(|(index, _)| keep(*index));
        let groups = kept.map(|(_, group)| group.clone()).collect();
        Self { groups, ..self.clone() }
    }

    /// Instructions in the program.
    pub fn instructions(&self) -> usize {
        crate::asm::disassemble(&self.code()).len()
    }
}
