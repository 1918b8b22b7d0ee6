//! The operations that need no rounding: sign injection, comparison, minimum and maximum, classification.

use super::soft::{self, F32, F64};

const SIGN32: u32 = 1 << 31;
const SIGN64: u64 = 1 << 63;

/// `a` with the sign of `b` (`fsgnj.d`). Like all sign injections it sets no flag and leaves a NaN as it is.
#[inline]
#[must_use]
pub const fn sgnj64(a: u64, b: u64) -> u64 {
    (a & !SIGN64) | (b & SIGN64)
}

/// `a` with the opposite of the sign of `b` (`fsgnjn.d`).
#[inline]
#[must_use]
pub const fn sgnjn64(a: u64, b: u64) -> u64 {
    (a & !SIGN64) | (!b & SIGN64)
}

/// `a` with its sign flipped if `b` is negative (`fsgnjx.d`).
#[inline]
#[must_use]
pub const fn sgnjx64(a: u64, b: u64) -> u64 {
    a ^ (b & SIGN64)
}

/// `a` with the sign of `b` (`fsgnj.s`). Like all sign injections it sets no flag and leaves a NaN as it is.
#[inline]
#[must_use]
pub const fn sgnj32(a: u32, b: u32) -> u32 {
    (a & !SIGN32) | (b & SIGN32)
}

/// `a` with the opposite of the sign of `b` (`fsgnjn.s`).
#[inline]
#[must_use]
pub const fn sgnjn32(a: u32, b: u32) -> u32 {
    (a & !SIGN32) | (!b & SIGN32)
}

/// `a` with its sign flipped if `b` is negative (`fsgnjx.s`).
#[inline]
#[must_use]
pub const fn sgnjx32(a: u32, b: u32) -> u32 {
    a ^ (b & SIGN32)
}

/// `a == b`, quiet (`feq.d`).
#[inline]
#[must_use]
pub fn eq64(a: u64, b: u64, flags: &mut u8) -> bool {
    soft::eq::<F64>(a, b, flags)
}

/// `a < b`, signaling (`flt.d`).
#[inline]
#[must_use]
pub fn lt64(a: u64, b: u64, flags: &mut u8) -> bool {
    soft::lt::<F64>(a, b, flags)
}

/// `a <= b`, signaling (`fle.d`).
#[inline]
#[must_use]
pub fn le64(a: u64, b: u64, flags: &mut u8) -> bool {
    soft::le::<F64>(a, b, flags)
}

/// minimumNumber (`fmin.d`).
#[inline]
#[must_use]
pub fn min64(a: u64, b: u64, flags: &mut u8) -> u64 {
    soft::min::<F64>(a, b, flags)
}

/// maximumNumber (`fmax.d`).
#[inline]
#[must_use]
pub fn max64(a: u64, b: u64, flags: &mut u8) -> u64 {
    soft::max::<F64>(a, b, flags)
}

/// The class as a one-hot mask of ten bits (`fclass.d`).
#[inline]
#[must_use]
pub fn class64(a: u64) -> u64 {
    soft::class::<F64>(a)
}

/// `a == b`, quiet (`feq.s`).
#[inline]
#[must_use]
pub fn eq32(a: u32, b: u32, flags: &mut u8) -> bool {
    soft::eq::<F32>(a.into(), b.into(), flags)
}

/// `a < b`, signaling (`flt.s`).
#[inline]
#[must_use]
pub fn lt32(a: u32, b: u32, flags: &mut u8) -> bool {
    soft::lt::<F32>(a.into(), b.into(), flags)
}

/// `a <= b`, signaling (`fle.s`).
#[inline]
#[must_use]
pub fn le32(a: u32, b: u32, flags: &mut u8) -> bool {
    soft::le::<F32>(a.into(), b.into(), flags)
}

/// minimumNumber (`fmin.s`).
#[inline]
#[must_use]
pub fn min32(a: u32, b: u32, flags: &mut u8) -> u32 {
    soft::min::<F32>(a.into(), b.into(), flags) as u32
}

/// maximumNumber (`fmax.s`).
#[inline]
#[must_use]
pub fn max32(a: u32, b: u32, flags: &mut u8) -> u32 {
    soft::max::<F32>(a.into(), b.into(), flags) as u32
}

/// The class as a one-hot mask of ten bits (`fclass.s`).
#[inline]
#[must_use]
pub fn class32(a: u32) -> u64 {
    soft::class::<F32>(a.into())
}
