//! Conversions between the formats, and to and from integers.

use super::super::{NV, NX, RoundingMode};
use super::{Format, Kind, infinity, propagate, round_pack, round_shift, sign_bit, unpack};

/// Converts from one format to another (`fcvt.s.d`, `fcvt.d.s`).
#[cold]
#[inline(never)]
#[must_use]
pub fn convert<From: Format, To: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let x = unpack::<From>(a);
    match x.kind {
        Kind::Quiet | Kind::Signaling => propagate::<To>(&[x], flags),
        Kind::Inf => infinity::<To>(x.sign),
        Kind::Zero => sign_bit::<To>(x.sign),
        Kind::Finite => round_pack::<To>(x.sign, x.exp, u128::from(x.sig) << 64, rm, flags),
    }
}

/// Converts a signed integer (`fcvt.{s,d}.{w,l}`).
#[cold]
#[inline(never)]
#[must_use]
pub fn from_i64<F: Format>(a: i64, rm: RoundingMode, flags: &mut u8) -> u64 {
    from_magnitude::<F>(a < 0, a.unsigned_abs(), rm, flags)
}

/// Converts an unsigned integer (`fcvt.{s,d}.{wu,lu}`).
#[cold]
#[inline(never)]
#[must_use]
pub fn from_u64<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    from_magnitude::<F>(false, a, rm, flags)
}

fn from_magnitude<F: Format>(sign: bool, magnitude: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    if magnitude == 0 {
        return 0;
    }
    round_pack::<F>(sign, 63, u128::from(magnitude) << 64, rm, flags)
}

/// Converts to a signed 32-bit integer (`fcvt.w`); out of range saturates with NV, and a NaN counts as
/// +infinity (F extension, "Domains of float-to-integer conversions").
#[cold]
#[inline(never)]
#[must_use]
pub fn to_i32<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> i32 {
    to_integer::<F>(a, rm, i32::MIN.into(), i32::MAX.into(), flags) as i32
}

/// Converts to an unsigned 32-bit integer (`fcvt.wu`); the caller sign-extends it to XLEN. Saturates as
/// [`to_i32`].
#[cold]
#[inline(never)]
#[must_use]
pub fn to_u32<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> u32 {
    to_integer::<F>(a, rm, 0, u32::MAX.into(), flags) as u32
}

/// Converts to a signed 64-bit integer (`fcvt.l`). Saturates as [`to_i32`].
#[cold]
#[inline(never)]
#[must_use]
pub fn to_i64<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> i64 {
    to_integer::<F>(a, rm, i64::MIN.into(), i64::MAX.into(), flags) as i64
}

/// Converts to an unsigned 64-bit integer (`fcvt.lu`). Saturates as [`to_i32`].
#[cold]
#[inline(never)]
#[must_use]
pub fn to_u64<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    to_integer::<F>(a, rm, 0, u64::MAX.into(), flags) as u64
}

/// Rounds to an integer and clamps it to `min..=max`. Out of range is NV alone, never NX.
fn to_integer<F: Format>(a: u64, rm: RoundingMode, min: i128, max: i128, flags: &mut u8) -> i128 {
    let x = unpack::<F>(a);
    let (value, inexact) = match x.kind {
        Kind::Zero => return 0,
        Kind::Finite if x.exp < 64 => {
            let (magnitude, inexact) = round_shift(x.sign, u128::from(x.sig) << 64, (127 - x.exp) as u32, rm);
            // At most 2^64 after rounding.
            let magnitude = magnitude as i128;
            (if x.sign { -magnitude } else { magnitude }, inexact)
        }
        Kind::Finite | Kind::Inf if x.sign => (i128::MIN, false),
        _ => (i128::MAX, false),
    };
    if value < min || value > max {
        *flags |= NV;
        return value.clamp(min, max);
    }
    if inexact {
        *flags |= NX;
    }
    value
}
