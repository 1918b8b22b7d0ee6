//! The two formats behind one interface, so that every test is written once. Bits travel in a `u64`.

use hart::fpu::{self, RoundingMode, soft};
use rustc_apfloat::Float;
use rustc_apfloat::ieee;

pub type Unary = fn(u64, RoundingMode, &mut u8) -> u64;
pub type Binary = fn(u64, u64, RoundingMode, &mut u8) -> u64;
pub type Ternary = fn(u64, u64, u64, RoundingMode, &mut u8) -> u64;

/// One format: its integer arithmetic, the entry points under test, and the oracle's type.
pub trait Width {
    type Soft: soft::Format;
    type Oracle: Float;
    const ADD: Binary;
    const SUB: Binary;
    const MUL: Binary;
    const DIV: Binary;
    const FMA: Ternary;
    const SQRT: Unary;
    const MASK: u64;

    fn oracle(bits: u64) -> Self::Oracle {
        Self::Oracle::from_bits(bits.into())
    }
}

pub struct Single;
pub struct Double;

impl Width for Single {
    type Soft = soft::F32;
    type Oracle = ieee::Single;
    const ADD: Binary = |a, b, rm, f| fpu::add32(a as u32, b as u32, rm, f).into();
    const SUB: Binary = |a, b, rm, f| fpu::sub32(a as u32, b as u32, rm, f).into();
    const MUL: Binary = |a, b, rm, f| fpu::mul32(a as u32, b as u32, rm, f).into();
    const DIV: Binary = |a, b, rm, f| fpu::div32(a as u32, b as u32, rm, f).into();
    const FMA: Ternary = |a, b, c, rm, f| fpu::fma32(a as u32, b as u32, c as u32, rm, f).into();
    const SQRT: Unary = |a, rm, f| fpu::sqrt32(a as u32, rm, f).into();
    const MASK: u64 = 0xffff_ffff;
}

impl Width for Double {
    type Soft = soft::F64;
    type Oracle = ieee::Double;
    const ADD: Binary = fpu::add64;
    const SUB: Binary = fpu::sub64;
    const MUL: Binary = fpu::mul64;
    const DIV: Binary = fpu::div64;
    const FMA: Ternary = fpu::fma64;
    const SQRT: Unary = fpu::sqrt64;
    const MASK: u64 = u64::MAX;
}
