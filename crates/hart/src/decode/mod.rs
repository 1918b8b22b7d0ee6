//! Instruction bits to [`Op`]. Total: bits that mean nothing decode to [`Code::Illegal`].
//!
//! Compressed instructions are expanded to their 32-bit equivalents first ([`compressed`]); the bits that a trap
//! reports are always those that were fetched.

mod bitmanip;
mod compressed;
mod float;

use crate::extensions::Extensions;
use crate::op::{Code, Op, SINK};

/// Whether an instruction that begins with these 16 bits is 16 bits long (unprivileged specification, 1.5).
#[inline]
pub(crate) fn is_short(half: u16) -> bool {
    half & 3 != 3
}

/// Decodes a 16-bit instruction.
pub(crate) fn decode_short(half: u16, ext: &Extensions) -> Op {
    if !ext.c {
        return Op::illegal(half.into());
    }
    match compressed::expand(half) {
        Some(bits) => sized(decode(bits, half.into(), ext), 2),
        None => Op::illegal(half.into()),
    }
}

/// Decodes a 32-bit instruction.
pub(crate) fn decode_long(bits: u32, ext: &Extensions) -> Op {
    sized(decode(bits, bits, ext), 4)
}

/// Notes the length where the executor needs it.
fn sized(mut op: Op, len: u8) -> Op {
    match op.code {
        Code::Beq | Code::Bne | Code::Blt | Code::Bge | Code::Bltu | Code::Bgeu => op.rd = len,
        Code::Sb | Code::Sh | Code::Sw | Code::Sd | Code::Fsw | Code::Fsd => op.rd = len,
        Code::Jal | Code::Jalr => op.rs2 = len,
        _ => {}
    }
    op
}

/// The fields of an instruction (unprivileged specification, 2.3).
#[derive(Clone, Copy)]
struct Fields(u32);

impl Fields {
    fn opcode(self) -> u32 {
        self.0 & 0x7f
    }
    fn rd(self) -> u8 {
        (self.0 >> 7 & 31) as u8
    }
    /// Destination slot: `x0` goes to the sink.
    fn rd_slot(self) -> u8 {
        if self.rd() == 0 { SINK } else { self.rd() }
    }
    fn funct3(self) -> u32 {
        self.0 >> 12 & 7
    }
    fn rs1(self) -> u8 {
        (self.0 >> 15 & 31) as u8
    }
    fn rs2(self) -> u8 {
        (self.0 >> 20 & 31) as u8
    }
    fn funct7(self) -> u32 {
        self.0 >> 25
    }
    fn funct6(self) -> u32 {
        self.0 >> 26
    }
    fn imm_i(self) -> i64 {
        (self.0 as i32 >> 20).into()
    }
    fn imm_s(self) -> i64 {
        (self.0 as i32 >> 25 << 5 | i32::from(self.rd())).into()
    }
    fn imm_u(self) -> i64 {
        (self.0 as i32 & !0xfff).into()
    }
    fn disp_b(self) -> i32 {
        let bits = self.0;
        (bits as i32 >> 31 << 12)
            | ((bits >> 7 & 1) << 11 | (bits >> 25 & 0x3f) << 5 | (bits >> 8 & 15) << 1) as i32
    }
    fn disp_j(self) -> i32 {
        let bits = self.0;
        (bits as i32 >> 31 << 20)
            | ((bits & 0xf_f000) | (bits >> 20 & 1) << 11 | (bits >> 21 & 0x3ff) << 1) as i32
    }

    /// `code rd, rs1, rs2`.
    fn r(self, code: Code) -> Op {
        Op { rd: self.rd_slot(), rs1: self.rs1(), rs2: self.rs2(), ..Op::new(code) }
    }
    /// `code rd, rs1, imm`.
    fn i(self, code: Code, imm: i64) -> Op {
        Op { rd: self.rd_slot(), rs1: self.rs1(), imm, ..Op::new(code) }
    }
}

/// Decodes `bits`; `fetched` is what was fetched and what a trap reports.
fn decode(bits: u32, fetched: u32, ext: &Extensions) -> Op {
    let f = Fields(bits);
    let op = match f.opcode() {
        0x03 => load(f),
        0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f | 0x53 => float::decode(f, fetched),
        0x0f => fence(f),
        0x13 => op_imm(f, ext),
        0x17 => Some(f.i(Code::Auipc, f.imm_u())),
        0x1b => op_imm_32(f, ext),
        0x23 => store(f),
        0x2f => atomic(f),
        0x33 => register(f, ext),
        0x37 => Some(f.i(Code::Li, f.imm_u())),
        0x3b => register_32(f, ext),
        0x63 => branch(f),
        0x67 => (f.funct3() == 0).then(|| f.i(Code::Jalr, f.imm_i())),
        0x6f => Some(f.i(Code::Jal, Op::unchained(f.disp_j()))),
        0x73 => system(f, fetched),
        _ => None,
    };
    op.unwrap_or(Op::illegal(fetched))
}

fn load(f: Fields) -> Option<Op> {
    use Code::{Lb, Lbu, Ld, Lh, Lhu, Lw, Lwu};
    let code = *[Lb, Lh, Lw, Ld, Lbu, Lhu, Lwu].get(f.funct3() as usize)?;
    Some(f.i(code, f.imm_i()))
}

fn store(f: Fields) -> Option<Op> {
    let code = *[Code::Sb, Code::Sh, Code::Sw, Code::Sd].get(f.funct3() as usize)?;
    Some(Op { imm: f.imm_s(), ..f.r(code) })
}

/// `pause` (Zihintpause): a `fence` that orders nothing.
const PAUSE: u32 = 0x0100_000f;

/// `fence` ignores its fields, which are hints or reserved for finer fences; so does `fence.i`.
fn fence(f: Fields) -> Option<Op> {
    match f.funct3() {
        0 if f.0 == PAUSE => Some(Op::new(Code::Pause)),
        0 => Some(Op::new(Code::Fence)),
        1 => Some(Op::new(Code::FenceI)),
        _ => None,
    }
}

fn op_imm(f: Fields, ext: &Extensions) -> Option<Op> {
    let imm = f.imm_i();
    let shamt = imm & 63;
    Some(match (f.funct3(), f.funct6()) {
        (0, _) if imm == 0 => f.i(Code::Mv, 0),
        (0, _) if f.rs1() == 0 => f.i(Code::Li, imm),
        (0, _) => f.i(Code::Addi, imm),
        (2, _) => f.i(Code::Slti, imm),
        (3, _) => f.i(Code::Sltiu, imm),
        (4, _) => f.i(Code::Xori, imm),
        (6, _) => f.i(Code::Ori, imm),
        (7, _) => f.i(Code::Andi, imm),
        (1, 0x00) => f.i(Code::Slli, shamt),
        (5, 0x00) => f.i(Code::Srli, shamt),
        (5, 0x10) => f.i(Code::Srai, shamt),
        _ => return bitmanip::op_imm(f, ext),
    })
}

fn op_imm_32(f: Fields, ext: &Extensions) -> Option<Op> {
    let imm = f.imm_i();
    Some(match (f.funct3(), f.funct7()) {
        (0, _) => f.i(Code::Addiw, imm),
        (1, 0x00) => f.i(Code::Slliw, imm & 31),
        (5, 0x00) => f.i(Code::Srliw, imm & 31),
        (5, 0x20) => f.i(Code::Sraiw, imm & 31),
        _ => return bitmanip::op_imm_32(f, ext),
    })
}

fn register(f: Fields, ext: &Extensions) -> Option<Op> {
    use Code::{
        Add, And, Div, Divu, Mul, Mulh, Mulhsu, Mulhu, Or, Rem, Remu, Sll, Slt, Sltu, Sra, Srl, Sub, Xor,
    };
    let at = f.funct3() as usize;
    let code = match f.funct7() {
        0x00 => [Add, Sll, Slt, Sltu, Xor, Srl, Or, And][at],
        0x01 => [Mul, Mulh, Mulhsu, Mulhu, Div, Divu, Rem, Remu][at],
        0x20 if at == 0 => Sub,
        0x20 if at == 5 => Sra,
        _ => return bitmanip::register(f, ext),
    };
    Some(f.r(code))
}

fn register_32(f: Fields, ext: &Extensions) -> Option<Op> {
    let code = match (f.funct7(), f.funct3()) {
        (0x00, 0) => Code::Addw,
        (0x20, 0) => Code::Subw,
        (0x00, 1) => Code::Sllw,
        (0x00, 5) => Code::Srlw,
        (0x20, 5) => Code::Sraw,
        (0x01, 0) => Code::Mulw,
        (0x01, 4) => Code::Divw,
        (0x01, 5) => Code::Divuw,
        (0x01, 6) => Code::Remw,
        (0x01, 7) => Code::Remuw,
        _ => return bitmanip::register_32(f, ext),
    };
    Some(f.r(code))
}

fn branch(f: Fields) -> Option<Op> {
    let code = match f.funct3() {
        0 => Code::Beq,
        1 => Code::Bne,
        4 => Code::Blt,
        5 => Code::Bge,
        6 => Code::Bltu,
        7 => Code::Bgeu,
        _ => return None,
    };
    Some(Op { imm: Op::unchained(f.disp_b()), ..f.r(code) })
}

/// The A extension. Every atomic is sequentially consistent; `rl` is kept in the immediate, for stores to code.
#[rustfmt::skip]
fn atomic(f: Fields) -> Option<Op> {
    use Code::*;
    let double = match f.funct3() {
        2 => false,
        3 => true,
        _ => return None,
    };
    let (word, wide) = match f.funct7() >> 2 {
        0x02 if f.rs2() == 0 => (LrW, LrD),
        0x03 => (ScW, ScD),
        0x01 => (AmoswapW, AmoswapD),
        0x00 => (AmoaddW, AmoaddD),
        0x04 => (AmoxorW, AmoxorD),
        0x0c => (AmoandW, AmoandD),
        0x08 => (AmoorW, AmoorD),
        0x10 => (AmominW, AmominD),
        0x14 => (AmomaxW, AmomaxD),
        0x18 => (AmominuW, AmominuD),
        0x1c => (AmomaxuW, AmomaxuD),
        _ => return None,
    };
    Some(Op { imm: i64::from(f.funct7() & 1), ..f.r(if double { wide } else { word }) })
}

fn system(f: Fields, fetched: u32) -> Option<Op> {
    let code = match f.funct3() {
        1 => Code::Csrrw,
        2 => Code::Csrrs,
        3 => Code::Csrrc,
        5 => Code::Csrrwi,
        6 => Code::Csrrsi,
        7 => Code::Csrrci,
        0 => match f.0 {
            0x0000_0073 => Code::Ecall,
            0x0010_0073 => Code::Ebreak,
            0x1020_0073 => Code::Sret,
            0x3020_0073 => Code::Mret,
            0x1050_0073 => Code::Wfi,
            _ if f.funct7() == 9 && f.rd() == 0 => Code::SfenceVma,
            _ => return None,
        },
        _ => return None,
    };
    Some(Op { imm: fetched.into(), ..f.r(code) })
}

#[cfg(test)]
mod tests;
