//! F and D. A static rounding mode that is reserved makes the instruction illegal; the dynamic one is resolved when the
//! instruction is executed.

use super::Fields;
use crate::op::{Code, F0, Op, SINK};

pub(super) fn decode(f: Fields, fetched: u32) -> Option<Op> {
    match f.opcode() {
        0x07 => {
            let code = width(f.funct3(), Code::Flw, Code::Fld)?;
            Some(pack(Op { rd: F0 + f.rd(), rs1: f.rs1(), ..Op::new(code) }, f.imm_i() as u32, fetched))
        }
        0x27 => {
            let code = width(f.funct3(), Code::Fsw, Code::Fsd)?;
            Some(pack(Op { rs1: f.rs1(), rs2: F0 + f.rs2(), ..Op::new(code) }, f.imm_s() as u32, fetched))
        }
        0x53 => arithmetic(f, fetched),
        opcode => fused(f, opcode, fetched),
    }
}

fn width(funct3: u32, single: Code, double: Code) -> Option<Code> {
    match funct3 {
        2 => Some(single),
        3 => Some(double),
        _ => None,
    }
}

fn pack(op: Op, low: u32, fetched: u32) -> Op {
    Op { imm: (u64::from(fetched) << 32 | u64::from(low)) as i64, ..op }
}

fn fused(f: Fields, opcode: u32, fetched: u32) -> Option<Op> {
    let (single, double) = match opcode {
        0x43 => (Code::FmaddS, Code::FmaddD),
        0x47 => (Code::FmsubS, Code::FmsubD),
        0x4b => (Code::FnmsubS, Code::FnmsubD),
        _ => (Code::FnmaddS, Code::FnmaddD),
    };
    let code = match f.funct7() & 3 {
        0 => single,
        1 => double,
        _ => return None,
    };
    let rm = rounding(f)?;
    let rs3 = u32::from(F0) + (f.0 >> 27);
    let op = Op { rd: F0 + f.rd(), rs1: F0 + f.rs1(), rs2: F0 + f.rs2(), ..Op::new(code) };
    Some(pack(op, rs3 << 8 | rm, fetched))
}

fn rounding(f: Fields) -> Option<u32> {
    (!matches!(f.funct3(), 5 | 6)).then(|| f.funct3())
}

/// Where operands and result live.
#[derive(Clone, Copy)]
enum Shape {
    /// All floating point.
    Fff,
    /// Two floating-point operands, integer result.
    Xff,
    /// One floating-point operand, integer result.
    Xf,
    /// Integer operand, floating-point result.
    Fx,
}

#[rustfmt::skip]
fn arithmetic(f: Fields, fetched: u32) -> Option<Op> {
    use Code::*;
    use Shape::{Fff, Fx, Xf, Xff};
    let pick = |single, double| match f.funct7() & 3 {
        0 => Some(single),
        1 => Some(double),
        _ => None,
    };
    let (rs2, funct3) = (f.rs2(), f.funct3());
    // Whether funct3 is a rounding mode, or part of the encoding.
    let (code, shape, rounds) = match f.funct7() >> 2 {
        0x00 => (pick(FaddS, FaddD)?, Fff, true),
        0x01 => (pick(FsubS, FsubD)?, Fff, true),
        0x02 => (pick(FmulS, FmulD)?, Fff, true),
        0x03 => (pick(FdivS, FdivD)?, Fff, true),
        0x0b if rs2 == 0 => (pick(FsqrtS, FsqrtD)?, Fff, true),
        0x04 => match funct3 {
            0 => (pick(FsgnjS, FsgnjD)?, Fff, false),
            1 => (pick(FsgnjnS, FsgnjnD)?, Fff, false),
            2 => (pick(FsgnjxS, FsgnjxD)?, Fff, false),
            _ => return None,
        },
        0x05 => match funct3 {
            0 => (pick(FminS, FminD)?, Fff, false),
            1 => (pick(FmaxS, FmaxD)?, Fff, false),
            _ => return None,
        },
        0x08 => match (f.funct7() & 3, rs2) {
            (0, 1) => (FcvtSD, Fff, true),
            (1, 0) => (FcvtDS, Fff, true),
            _ => return None,
        },
        0x14 => match funct3 {
            0 => (pick(FleS, FleD)?, Xff, false),
            1 => (pick(FltS, FltD)?, Xff, false),
            2 => (pick(FeqS, FeqD)?, Xff, false),
            _ => return None,
        },
        0x18 => match rs2 {
            0 => (pick(FcvtWS, FcvtWD)?, Xf, true),
            1 => (pick(FcvtWuS, FcvtWuD)?, Xf, true),
            2 => (pick(FcvtLS, FcvtLD)?, Xf, true),
            3 => (pick(FcvtLuS, FcvtLuD)?, Xf, true),
            _ => return None,
        },
        0x1a => match rs2 {
            0 => (pick(FcvtSW, FcvtDW)?, Fx, true),
            1 => (pick(FcvtSWu, FcvtDWu)?, Fx, true),
            2 => (pick(FcvtSL, FcvtDL)?, Fx, true),
            3 => (pick(FcvtSLu, FcvtDLu)?, Fx, true),
            _ => return None,
        },
        0x1c if rs2 == 0 => match funct3 {
            0 => (pick(FmvXW, FmvXD)?, Xf, false),
            1 => (pick(FclassS, FclassD)?, Xf, false),
            _ => return None,
        },
        0x1e if rs2 == 0 && funct3 == 0 => (pick(FmvWX, FmvDX)?, Fx, false),
        _ => return None,
    };
    let rm = if rounds { rounding(f)? } else { 0 };
    let x_rd = if f.rd() == 0 { SINK } else { f.rd() };
    let (rd, rs1, rs2) = match shape {
        Fff => (F0 + f.rd(), F0 + f.rs1(), F0 + rs2),
        Xff => (x_rd, F0 + f.rs1(), F0 + rs2),
        Xf => (x_rd, F0 + f.rs1(), 0),
        Fx => (F0 + f.rd(), f.rs1(), 0),
    };
    Some(pack(Op { rd, rs1, rs2, ..Op::new(code) }, rm, fetched))
}
