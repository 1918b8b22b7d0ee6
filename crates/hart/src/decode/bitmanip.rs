//! Zba, Zbb and Zbs (unprivileged specification, chapter 28).

use super::Fields;
use crate::extensions::Extensions;
use crate::op::{Code, Op};

pub(super) fn op_imm(f: Fields, ext: &Extensions) -> Option<Op> {
    let shamt = f.imm_i() & 63;
    let unary = |code| Some(f.i(code, 0));
    match (f.funct3(), f.0 >> 20) {
        (1, 0x600) if ext.zbb => return unary(Code::Clz),
        (1, 0x601) if ext.zbb => return unary(Code::Ctz),
        (1, 0x602) if ext.zbb => return unary(Code::Cpop),
        (1, 0x604) if ext.zbb => return unary(Code::SextB),
        (1, 0x605) if ext.zbb => return unary(Code::SextH),
        (5, 0x287) if ext.zbb => return unary(Code::OrcB),
        (5, 0x6b8) if ext.zbb => return unary(Code::Rev8),
        _ => {}
    }
    let code = match (f.funct3(), f.funct6()) {
        (5, 0x18) if ext.zbb => Code::Rori,
        (1, 0x12) if ext.zbs => Code::Bclri,
        (5, 0x12) if ext.zbs => Code::Bexti,
        (1, 0x1a) if ext.zbs => Code::Binvi,
        (1, 0x0a) if ext.zbs => Code::Bseti,
        _ => return None,
    };
    Some(f.i(code, shamt))
}

pub(super) fn op_imm_32(f: Fields, ext: &Extensions) -> Option<Op> {
    match (f.funct3(), f.0 >> 20) {
        (1, 0x600) if ext.zbb => Some(f.i(Code::Clzw, 0)),
        (1, 0x601) if ext.zbb => Some(f.i(Code::Ctzw, 0)),
        (1, 0x602) if ext.zbb => Some(f.i(Code::Cpopw, 0)),
        _ => match (f.funct3(), f.funct7()) {
            (5, 0x30) if ext.zbb => Some(f.i(Code::Roriw, f.imm_i() & 31)),
            (1, 0x04 | 0x05) if ext.zba => Some(f.i(Code::SlliUw, f.imm_i() & 63)),
            _ => None,
        },
    }
}

pub(super) fn register(f: Fields, ext: &Extensions) -> Option<Op> {
    let code = match (f.funct7(), f.funct3()) {
        (0x10, 2) if ext.zba => Code::Sh1add,
        (0x10, 4) if ext.zba => Code::Sh2add,
        (0x10, 6) if ext.zba => Code::Sh3add,
        (0x20, 7) if ext.zbb => Code::Andn,
        (0x20, 6) if ext.zbb => Code::Orn,
        (0x20, 4) if ext.zbb => Code::Xnor,
        (0x05, 4) if ext.zbb => Code::Min,
        (0x05, 5) if ext.zbb => Code::Minu,
        (0x05, 6) if ext.zbb => Code::Max,
        (0x05, 7) if ext.zbb => Code::Maxu,
        (0x30, 1) if ext.zbb => Code::Rol,
        (0x30, 5) if ext.zbb => Code::Ror,
        (0x24, 1) if ext.zbs => Code::Bclr,
        (0x24, 5) if ext.zbs => Code::Bext,
        (0x34, 1) if ext.zbs => Code::Binv,
        (0x14, 1) if ext.zbs => Code::Bset,
        _ => return None,
    };
    Some(f.r(code))
}

pub(super) fn register_32(f: Fields, ext: &Extensions) -> Option<Op> {
    let code = match (f.funct7(), f.funct3()) {
        (0x04, 0) if ext.zba => Code::AddUw,
        (0x10, 2) if ext.zba => Code::Sh1addUw,
        (0x10, 4) if ext.zba => Code::Sh2addUw,
        (0x10, 6) if ext.zba => Code::Sh3addUw,
        (0x04, 4) if ext.zbb && f.rs2() == 0 => Code::ZextH,
        (0x30, 1) if ext.zbb => Code::Rolw,
        (0x30, 5) if ext.zbb => Code::Rorw,
        _ => return None,
    };
    Some(f.r(code))
}
