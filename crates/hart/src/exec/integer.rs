//! The integer operations that are too rare for the executor's loop.

use crate::alu;
use crate::op::Code;

/// The result of `code` for the sources and the immediate.
#[inline(never)]
pub(super) fn execute(code: Code, a: u64, b: u64, imm: u64) -> u64 {
    let low = |value: u64| value & 0xffff_ffff;
    match code {
        Code::Mulh => alu::mulh(a, b),
        Code::Mulhsu => alu::mulhsu(a, b),
        Code::Div => alu::div(a, b),
        Code::Rem => alu::rem(a, b),
        Code::Divw => alu::divw(a, b),
        Code::Divuw => alu::divuw(a, b),
        Code::Remw => alu::remw(a, b),
        Code::Remuw => alu::remuw(a, b),
        Code::Sh1addUw => b.wrapping_add(low(a) << 1),
        Code::Sh2addUw => b.wrapping_add(low(a) << 2),
        Code::Sh3addUw => b.wrapping_add(low(a) << 3),
        Code::SlliUw => low(a) << (imm & 63),
        Code::Andn => a & !b,
        Code::Orn => a | !b,
        Code::Xnor => !(a ^ b),
        Code::Clz => a.leading_zeros().into(),
        Code::Ctz => a.trailing_zeros().into(),
        Code::Cpop => a.count_ones().into(),
        Code::Clzw => (a as u32).leading_zeros().into(),
        Code::Ctzw => (a as u32).trailing_zeros().into(),
        Code::Cpopw => (a as u32).count_ones().into(),
        Code::SextB => a as i8 as u64,
        Code::SextH => a as i16 as u64,
        Code::ZextH => a & 0xffff,
        Code::Max => (a as i64).max(b as i64) as u64,
        Code::Maxu => a.max(b),
        Code::Min => (a as i64).min(b as i64) as u64,
        Code::Minu => a.min(b),
        Code::Rol => a.rotate_left(b as u32 & 63),
        Code::Ror => a.rotate_right(b as u32 & 63),
        Code::Rori => a.rotate_right(imm as u32 & 63),
        Code::Rolw => alu::word((a as u32).rotate_left(b as u32 & 31).into()),
        Code::Rorw => alu::word((a as u32).rotate_right(b as u32 & 31).into()),
        Code::Roriw => alu::word((a as u32).rotate_right(imm as u32 & 31).into()),
        Code::OrcB => alu::orc_b(a),
        Code::Rev8 => a.swap_bytes(),
        Code::Bclr => a & !(1 << (b & 63)),
        Code::Bext => a >> (b & 63) & 1,
        Code::Binv => a ^ 1 << (b & 63),
        Code::Bset => a | 1 << (b & 63),
        Code::Bclri => a & !(1 << (imm & 63)),
        Code::Bexti => a >> (imm & 63) & 1,
        Code::Binvi => a ^ 1 << (imm & 63),
        Code::Bseti => a | 1 << (imm & 63),
        // The others are executed in the loop.
        _ => 0,
    }
}
