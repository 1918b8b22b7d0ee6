//! binary64 operations: host arithmetic where it provably agrees, else [`soft`].
//!
//! Why an answer of the host may be taken (rounding mode RNE throughout, unless the result is exact in every
//! mode):
//! * a finite result has finite operands, or is a quotient by infinity, which the zero rule leaves out;
//! * a sum below the normal range is exact, so a finite sum can raise nothing but inexact;
//! * a result strictly above the smallest normal number is not tiny, and a finite one did not overflow, so a
//!   product, quotient or fused result in that range can raise nothing but inexact.

use super::soft::{self, F32, F64};
use super::{NX, RoundingMode};

/// Finite, and too large to be tiny before or after rounding.
#[inline]
fn is_safe(r: f64) -> bool {
    // One unsigned comparison of the magnitude's bits with an interval.
    const FIRST: u64 = f64::MIN_POSITIVE.to_bits() + 1;
    let magnitude = r.abs().to_bits();
    magnitude.wrapping_sub(FIRST) < f64::INFINITY.to_bits() - FIRST
}

/// Whether `x + y == sum` without rounding: Knuth's two-sum residual is the exact error of a finite sum. An
/// infinity or NaN anywhere on the way, the sum included, makes the residual one, and so says no.
#[inline]
pub(super) fn is_exact_sum(x: f64, y: f64, sum: f64) -> bool {
    let y_part = sum - x;
    let x_part = sum - y_part;
    (x - x_part) + (y - y_part) == 0.0
}

/// Whether the product of two normal numbers fits 53 bits; false for subnormal operands, whose product need
/// not be fast. The product is assumed to be in the normal range.
#[inline]
fn is_exact_product(a: u64, b: u64) -> bool {
    const EXP: u64 = 0x7ff << 52;
    const FRAC: u64 = (1 << 52) - 1;
    if a & EXP == 0 || b & EXP == 0 {
        return false;
    }
    let product = u128::from((a & FRAC) | (1 << 52)) * u128::from((b & FRAC) | (1 << 52));
    product.trailing_zeros() + product.leading_zeros() >= 128 - 53
}

/// `a + b` (`fadd.d`).
#[inline]
#[must_use]
pub fn add64(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    let r = x + y;
    if rm == RoundingMode::Rne && r.is_finite() && (*flags & NX != 0 || is_exact_sum(x, y, r)) {
        return r.to_bits();
    }
    soft::add::<F64>(a, b, rm, flags)
}

/// `a - b` (`fsub.d`).
#[inline]
#[must_use]
pub fn sub64(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    add64(a, b ^ (1 << 63), rm, flags)
}

/// `a * b` (`fmul.d`).
#[inline]
#[must_use]
pub fn mul64(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if rm == RoundingMode::Rne {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        let r = x * y;
        if is_safe(r) {
            if *flags & NX != 0 || is_exact_product(a, b) {
                return r.to_bits();
            }
        } else if r == 0.0 && (x == 0.0 || y == 0.0) {
            return r.to_bits();
        }
    }
    soft::mul::<F64>(a, b, rm, flags)
}

/// `a / b` (`fdiv.d`).
#[inline]
#[must_use]
pub fn div64(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if rm == RoundingMode::Rne && *flags & NX != 0 {
        let r = f64::from_bits(a) / f64::from_bits(b);
        if is_safe(r) {
            return r.to_bits();
        }
    }
    soft::div::<F64>(a, b, rm, flags)
}

/// The square root of `a` (`fsqrt.d`).
#[inline]
#[must_use]
pub fn sqrt64(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if rm == RoundingMode::Rne && *flags & NX != 0 {
        // Correctly rounded by the host; the root of a positive finite number is neither tiny nor too large.
        let r = f64::from_bits(a).sqrt();
        if r.is_finite() {
            return r.to_bits();
        }
    }
    soft::sqrt::<F64>(a, rm, flags)
}

/// `a * b + c` rounded once (`fmadd.d`). The caller flips the sign of `c` for `fmsub`, of `a` for `fnmsub`,
/// and of both for `fnmadd`.
#[inline]
#[must_use]
pub fn fma64(a: u64, b: u64, c: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if rm == RoundingMode::Rne {
        let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        if *flags & NX != 0 {
            let r = x.mul_add(y, z);
            if is_safe(r) || (r == 0.0 && (x == 0.0 || y == 0.0)) {
                return r.to_bits();
            }
        } else {
            // With an exact product the fused operation is an addition.
            let product = x * y;
            let exact = if product == 0.0 {
                x == 0.0 || y == 0.0
            } else {
                is_safe(product) && is_exact_product(a, b)
            };
            let r = product + z;
            if exact && is_exact_sum(product, z, r) {
                return r.to_bits();
            }
        }
    }
    soft::fma::<F64>(a, b, c, rm, flags)
}

/// Converts binary32 to binary64, always exact (`fcvt.d.s`).
#[inline]
#[must_use]
pub fn cvt_f64_f32(a: u32, flags: &mut u8) -> u64 {
    let x = f32::from_bits(a);
    if x.is_nan() {
        return soft::convert::<F32, F64>(a.into(), RoundingMode::Rne, flags);
    }
    f64::from(x).to_bits()
}

/// Converts a signed 32-bit integer, always exact (`fcvt.d.w`).
#[inline]
#[must_use]
pub fn cvt_f64_i32(a: i32) -> u64 {
    f64::from(a).to_bits()
}

/// Converts an unsigned 32-bit integer, always exact (`fcvt.d.wu`).
#[inline]
#[must_use]
pub fn cvt_f64_u32(a: u32) -> u64 {
    f64::from(a).to_bits()
}

/// Converts a signed 64-bit integer (`fcvt.d.l`).
#[inline]
#[must_use]
pub fn cvt_f64_i64(a: i64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if a.unsigned_abs() <= 1 << 53 || (rm == RoundingMode::Rne && *flags & NX != 0) {
        return (a as f64).to_bits();
    }
    soft::from_i64::<F64>(a, rm, flags)
}

/// Converts an unsigned 64-bit integer (`fcvt.d.lu`).
#[inline]
#[must_use]
pub fn cvt_f64_u64(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if a <= 1 << 53 || (rm == RoundingMode::Rne && *flags & NX != 0) {
        return (a as f64).to_bits();
    }
    soft::from_u64::<F64>(a, rm, flags)
}

/// Converts to a signed 32-bit integer (`fcvt.w.d`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_i32_f64(a: u64, rm: RoundingMode, flags: &mut u8) -> i32 {
    let x = f64::from_bits(a);
    let r = x as i32;
    if f64::from(r) == x || may_truncate(x, 2_147_483_648.0, rm, *flags) {
        return r;
    }
    soft::to_i32::<F64>(a, rm, flags)
}

/// Converts to an unsigned 32-bit integer (`fcvt.wu.d`), which the caller sign-extends to XLEN; saturates
/// with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_u32_f64(a: u64, rm: RoundingMode, flags: &mut u8) -> u32 {
    let x = f64::from_bits(a);
    let r = x as u32;
    if f64::from(r) == x || (x > 0.0 && may_truncate(x, 4_294_967_296.0, rm, *flags)) {
        return r;
    }
    soft::to_u32::<F64>(a, rm, flags)
}

/// Converts to a signed 64-bit integer (`fcvt.l.d`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_i64_f64(a: u64, rm: RoundingMode, flags: &mut u8) -> i64 {
    let x = f64::from_bits(a);
    let r = x as i64;
    // Below 2^63, so that a saturated result cannot compare equal to the operand it stands for.
    let limit = 9_223_372_036_854_775_808.0;
    if (x.abs() < limit && r as f64 == x) || may_truncate(x, limit, rm, *flags) {
        return r;
    }
    soft::to_i64::<F64>(a, rm, flags)
}

/// Converts to an unsigned 64-bit integer (`fcvt.lu.d`); saturates with NV, a NaN as +infinity.
#[inline]
#[must_use]
pub fn cvt_u64_f64(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let x = f64::from_bits(a);
    let r = x as u64;
    let limit = 18_446_744_073_709_551_616.0;
    if (x < limit && r as f64 == x) || (x > 0.0 && may_truncate(x, limit, rm, *flags)) {
        return r;
    }
    soft::to_u64::<F64>(a, rm, flags)
}

/// Whether a cast of the inexact `x`, which truncates, is the answer: rounding towards zero, inside the
/// domain, with inexact accrued already.
#[inline]
pub(super) fn may_truncate(x: f64, limit: f64, rm: RoundingMode, flags: u8) -> bool {
    rm == RoundingMode::Rtz && flags & NX != 0 && x.abs() < limit
}
