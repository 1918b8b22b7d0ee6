//! binary32 operations: host arithmetic where it provably agrees, else [`soft`].
//!
//! The grounds are those of the binary64 operations; products go through binary64, which holds them exactly,
//! so that exactness is one comparison.

use super::double::{is_exact_sum, may_truncate};
use super::soft::{self, F32, F64};
use super::{NX, RoundingMode};

/// Finite, and too large to be tiny before or after rounding.
#[inline]
fn is_safe(r: f32) -> bool {
    // One unsigned comparison of the magnitude's bits with an interval.
    const FIRST: u32 = f32::MIN_POSITIVE.to_bits() + 1;
    let magnitude = r.abs().to_bits();
    magnitude.wrapping_sub(FIRST) < f32::INFINITY.to_bits() - FIRST
}

/// `a + b` (`fadd.s`).
#[inline]
#[must_use]
pub fn add32(a: u32, b: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    let r = x + y;
    if rm == RoundingMode::Rne && r.is_finite() {
        let y_part = r - x;
        let x_part = r - y_part;
        if *flags & NX != 0 || (x - x_part) + (y - y_part) == 0.0 {
            return r.to_bits();
        }
    }
    soft::add::<F32>(a.into(), b.into(), rm, flags) as u32
}

/// `a - b` (`fsub.s`).
#[inline]
#[must_use]
pub fn sub32(a: u32, b: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    add32(a, b ^ (1 << 31), rm, flags)
}

/// `a * b` (`fmul.s`).
#[inline]
#[must_use]
pub fn mul32(a: u32, b: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    if rm == RoundingMode::Rne {
        let product = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
        let r = product as f32;
        // What compares equal is exact, an infinite factor's infinity included, and so raises nothing.
        if (is_safe(r) && *flags & NX != 0) || f64::from(r) == product {
            return r.to_bits();
        }
    }
    soft::mul::<F32>(a.into(), b.into(), rm, flags) as u32
}

/// `a / b` (`fdiv.s`).
#[inline]
#[must_use]
pub fn div32(a: u32, b: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    if rm == RoundingMode::Rne && *flags & NX != 0 {
        let r = f32::from_bits(a) / f32::from_bits(b);
        if is_safe(r) {
            return r.to_bits();
        }
    }
    soft::div::<F32>(a.into(), b.into(), rm, flags) as u32
}

/// The square root of `a` (`fsqrt.s`).
#[inline]
#[must_use]
pub fn sqrt32(a: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    if rm == RoundingMode::Rne && *flags & NX != 0 {
        // Correctly rounded by the host; the root of a positive finite number is neither tiny nor too large.
        let r = f32::from_bits(a).sqrt();
        if r.is_finite() {
            return r.to_bits();
        }
    }
    soft::sqrt::<F32>(a.into(), rm, flags) as u32
}

/// `a * b + c` rounded once (`fmadd.s`). The caller flips the sign of `c` for `fmsub`, of `a` for `fnmsub`,
/// and of both for `fnmadd`.
///
/// The product is exact in binary64, so the sum there is the exact value rounded to 53 bits. Rounding that
/// again is right unless it fell on a midpoint of binary32, where the bit that decides may have been rounded
/// away.
#[inline]
#[must_use]
pub fn fma32(a: u32, b: u32, c: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    const BELOW: u64 = (1 << 29) - 1;
    const MIDPOINT: u64 = 1 << 28;
    if rm == RoundingMode::Rne {
        let product = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
        let addend = f64::from(f32::from_bits(c));
        let sum = product + addend;
        let r = sum as f32;
        if is_safe(r) && *flags & NX != 0 && sum.to_bits() & BELOW != MIDPOINT {
            return r.to_bits();
        }
        if f64::from(r) == sum && is_exact_sum(product, addend, sum) {
            return r.to_bits();
        }
    }
    soft::fma::<F32>(a.into(), b.into(), c.into(), rm, flags) as u32
}

/// Converts binary64 to binary32 (`fcvt.s.d`).
#[inline]
#[must_use]
pub fn cvt_f32_f64(a: u64, rm: RoundingMode, flags: &mut u8) -> u32 {
    let x = f64::from_bits(a);
    let r = x as f32;
    // Equality also covers zeros, subnormals and infinities; what is exact is so in every mode.
    if f64::from(r) == x || (rm == RoundingMode::Rne && *flags & NX != 0 && is_safe(r)) {
        return r.to_bits();
    }
    soft::convert::<F64, F32>(a, rm, flags) as u32
}

/// Converts a signed 32-bit integer (`fcvt.s.w`).
#[inline]
#[must_use]
pub fn cvt_f32_i32(a: i32, rm: RoundingMode, flags: &mut u8) -> u32 {
    cvt_f32_i64(a.into(), rm, flags)
}

/// Converts an unsigned 32-bit integer (`fcvt.s.wu`).
#[inline]
#[must_use]
pub fn cvt_f32_u32(a: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    cvt_f32_i64(a.into(), rm, flags)
}

/// Converts a signed 64-bit integer (`fcvt.s.l`).
#[inline]
#[must_use]
pub fn cvt_f32_i64(a: i64, rm: RoundingMode, flags: &mut u8) -> u32 {
    if a.unsigned_abs() <= 1 << 24 || (rm == RoundingMode::Rne && *flags & NX != 0) {
        return (a as f32).to_bits();
    }
    soft::from_i64::<F32>(a, rm, flags) as u32
}

/// Converts an unsigned 64-bit integer (`fcvt.s.lu`).
#[inline]
#[must_use]
pub fn cvt_f32_u64(a: u64, rm: RoundingMode, flags: &mut u8) -> u32 {
    if a <= 1 << 24 || (rm == RoundingMode::Rne && *flags & NX != 0) {
        return (a as f32).to_bits();
    }
    soft::from_u64::<F32>(a, rm, flags) as u32
}

/// Converts to a signed 32-bit integer (`fcvt.w.s`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_i32_f32(a: u32, rm: RoundingMode, flags: &mut u8) -> i32 {
    let x = f64::from(f32::from_bits(a));
    let r = x as i32;
    if f64::from(r) == x || may_truncate(x, 2_147_483_648.0, rm, *flags) {
        return r;
    }
    soft::to_i32::<F32>(a.into(), rm, flags)
}

/// Converts to an unsigned 32-bit integer (`fcvt.wu.s`), which the caller sign-extends to XLEN; saturates
/// with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_u32_f32(a: u32, rm: RoundingMode, flags: &mut u8) -> u32 {
    let x = f64::from(f32::from_bits(a));
    let r = x as u32;
    if f64::from(r) == x || (x > 0.0 && may_truncate(x, 4_294_967_296.0, rm, *flags)) {
        return r;
    }
    soft::to_u32::<F32>(a.into(), rm, flags)
}

/// Converts to a signed 64-bit integer (`fcvt.l.s`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_i64_f32(a: u32, rm: RoundingMode, flags: &mut u8) -> i64 {
    let x = f64::from(f32::from_bits(a));
    let r = x as i64;
    let limit = 9_223_372_036_854_775_808.0;
    if (x.abs() < limit && r as f64 == x) || may_truncate(x, limit, rm, *flags) {
        return r;
    }
    soft::to_i64::<F32>(a.into(), rm, flags)
}

/// Converts to an unsigned 64-bit integer (`fcvt.lu.s`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_u64_f32(a: u32, rm: RoundingMode, flags: &mut u8) -> u64 {
    let x = f64::from(f32::from_bits(a));
    let r = x as u64;
    let limit = 18_446_744_073_709_551_616.0;
    if (x < limit && r as f64 == x) || (x > 0.0 && may_truncate(x, limit, rm, *flags)) {
        return r;
    }
    soft::to_u64::<F32>(a.into(), rm, flags)
}
