//! The decoded form of an instruction: 16 bytes that the executor dispatches on.
//!
//! Registers are numbers into one file of 256 slots (so that a `u8` needs no bounds check): integer registers at 0,
//! the floating-point ones at [`F0`]. Writes to `x0` are redirected to the slot [`SINK`], which nobody reads, so that
//! slot 0 stays zero without a test.

/// Slot that takes writes to `x0`.
pub(crate) const SINK: u8 = 32;
/// Slot of `f0`.
pub(crate) const F0: u8 = 64;
/// Slots in the register file.
pub(crate) const SLOTS: usize = 256;

/// One decoded instruction, or a fused pair.
///
/// What `imm` holds depends on the code:
/// * jumps that are relative to the pc: [`Op::chain`] in bits 0..16, the displacement from `off` in bits 32..64;
/// * floating point: the immediate, or rounding mode and third source ([`Op::fp_fields`]), in bits 0..32, the
///   instruction's own bits in 32..64 for an illegal-instruction trap;
/// * CSR, system and illegal instructions: the instruction's own bits;
/// * all others: the immediate, sign-extended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Op {
    /// What to do.
    pub code: Code,
    /// Destination slot. Of branches and stores: length of the instruction in bytes.
    pub rd: u8,
    /// First source slot.
    pub rs1: u8,
    /// Second source slot. Of `jal` and `jalr`: length of the instruction in bytes.
    pub rs2: u8,
    /// Instructions of the block that come after this one. In a block's header: instructions of the block.
    pub left: u8,
    /// Offset of the instruction in its page, in bytes.
    pub off: u16,
    /// See above.
    pub imm: i64,
}

const _: () = assert!(size_of::<Op>() == 16);

impl Op {
    /// An operation without operands.
    pub const fn new(code: Code) -> Self {
        Self { code, rd: SINK, rs1: 0, rs2: 0, left: 0, off: 0, imm: 0 }
    }

    /// The trap for instruction bits that mean nothing.
    pub const fn illegal(bits: u32) -> Self {
        Self { imm: bits as i64, ..Self::new(Code::Illegal) }
    }

    /// The immediate of a jump that is not chained yet, `disp` bytes from the instruction's own offset.
    pub const fn unchained(disp: i32) -> i64 {
        (disp as i64) << 32
    }

    /// Index in the page's operations of the block that a jump leads to; 0 if not known.
    #[inline(always)]
    pub const fn chain(&self) -> u16 {
        self.imm as u16
    }

    /// Displacement of a jump from the instruction's own offset, in bytes.
    #[inline(always)]
    pub const fn disp(&self) -> i64 {
        self.imm >> 32
    }

    /// Rounding mode field and slot of the third source of a floating-point operation.
    #[inline(always)]
    pub const fn fp_fields(&self) -> (u32, u8) {
        (self.imm as u32 & 7, (self.imm >> 8) as u8)
    }

    /// The 32-bit immediate of a floating-point load or store.
    #[inline(always)]
    pub const fn fp_imm(&self) -> i64 {
        self.imm as i32 as i64
    }

    /// The instruction's own bits, of floating-point operations.
    pub const fn fp_bits(&self) -> u32 {
        (self.imm >> 32) as u32
    }

    /// Whether nothing of the block is executed after this operation.
    pub fn ends_block(&self) -> bool {
        (self.code as u16) >= Code::Jal as u16
    }
}

/// What an operation does. The order matters: from [`Code::Jal`] on an operation ends its block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
#[rustfmt::skip]
pub(crate) enum Code {
    // A block's first slot; never dispatched to.
    Header,
    // Integer, register and immediate
    Li, Auipc, Mv,
    Addi, Slti, Sltiu, Xori, Ori, Andi, Slli, Srli, Srai,
    Addiw, Slliw, Srliw, Sraiw,
    // Integer, registers
    Add, Sub, Sll, Slt, Sltu, Xor, Srl, Sra, Or, And,
    Addw, Subw, Sllw, Srlw, Sraw,
    // M
    Mul, Mulh, Mulhsu, Mulhu, Div, Divu, Rem, Remu, Mulw, Divw, Divuw, Remw, Remuw,
    // Zba
    AddUw, Sh1add, Sh2add, Sh3add, Sh1addUw, Sh2addUw, Sh3addUw, SlliUw,
    // Zbb
    Andn, Orn, Xnor, Clz, Ctz, Cpop, Clzw, Ctzw, Cpopw, SextB, SextH, ZextH,
    Max, Maxu, Min, Minu, Rol, Ror, Rori, Rolw, Rorw, Roriw, OrcB, Rev8,
    // Zbs
    Bclr, Bext, Binv, Bset, Bclri, Bexti, Binvi, Bseti,
    // Fused: slli and srli by the same 32, 48 and such
    ShlShr,
    // Loads and stores
    Lb, Lbu, Lh, Lhu, Lw, Lwu, Ld, Sb, Sh, Sw, Sd,
    Flw, Fld, Fsw, Fsd,
    // A
    LrW, LrD, ScW, ScD,
    AmoswapW, AmoaddW, AmoxorW, AmoandW, AmoorW, AmominW, AmomaxW, AmominuW, AmomaxuW,
    AmoswapD, AmoaddD, AmoxorD, AmoandD, AmoorD, AmominD, AmomaxD, AmominuD, AmomaxuD,
    Fence,
    // F
    FmaddS, FmsubS, FnmsubS, FnmaddS, FaddS, FsubS, FmulS, FdivS, FsqrtS,
    FsgnjS, FsgnjnS, FsgnjxS, FminS, FmaxS, FeqS, FltS, FleS, FclassS,
    FcvtWS, FcvtWuS, FcvtLS, FcvtLuS, FcvtSW, FcvtSWu, FcvtSL, FcvtSLu, FmvXW, FmvWX,
    // D
    FmaddD, FmsubD, FnmsubD, FnmaddD, FaddD, FsubD, FmulD, FdivD, FsqrtD,
    FsgnjD, FsgnjnD, FsgnjxD, FminD, FmaxD, FeqD, FltD, FleD, FclassD,
    FcvtWD, FcvtWuD, FcvtLD, FcvtLuD, FcvtDW, FcvtDWu, FcvtDL, FcvtDLu, FmvXD, FmvDX,
    FcvtSD, FcvtDS,
    // Conditional branches: the block goes on when they are not taken
    Beq, Bne, Blt, Bge, Bltu, Bgeu,
    // Ends of blocks
    Jal,
    /// A jump that is not an instruction: the block goes on elsewhere.
    Goto,
    Jalr,
    Csrrw, Csrrs, Csrrc, Csrrwi, Csrrsi, Csrrci,
    Ecall, Ebreak, Sret, Mret, Wfi, SfenceVma, FenceI, Pause,
    Illegal,
    /// An instruction that begins in this page and ends in the next: executed by itself, never cached.
    Straddle,
}
