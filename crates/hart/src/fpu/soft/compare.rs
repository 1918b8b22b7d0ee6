//! Comparison, minimum and maximum, and classification. None of them rounds.

use super::super::NV;
use super::{Format, Kind, unpack};

/// `a == b`, quiet: only a signaling NaN is invalid (`feq`).
#[inline]
#[must_use]
pub fn eq<F: Format>(a: u64, b: u64, flags: &mut u8) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        signal_signaling::<F>(a, b, flags);
        return false;
    }
    a == b || both_zero::<F>(a, b)
}

/// `a < b`, signaling: any NaN is invalid (`flt`).
#[inline]
#[must_use]
pub fn lt<F: Format>(a: u64, b: u64, flags: &mut u8) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        *flags |= NV;
        return false;
    }
    !both_zero::<F>(a, b) && key::<F>(a) < key::<F>(b)
}

/// `a <= b`, signaling: any NaN is invalid (`fle`).
#[inline]
#[must_use]
pub fn le<F: Format>(a: u64, b: u64, flags: &mut u8) -> bool {
    if is_nan::<F>(a) || is_nan::<F>(b) {
        *flags |= NV;
        return false;
    }
    both_zero::<F>(a, b) || key::<F>(a) <= key::<F>(b)
}

/// The smaller operand, -0 below +0 (`fmin`, IEEE 754-2019 minimumNumber as of version 2.2 of the F
/// extension): one NaN gives the other operand, two give the canonical NaN, a signaling one is invalid in
/// either case.
#[inline]
#[must_use]
pub fn min<F: Format>(a: u64, b: u64, flags: &mut u8) -> u64 {
    select::<F>(a, b, key::<F>(a) <= key::<F>(b), flags)
}

/// The larger operand, +0 above -0 (`fmax`, maximumNumber); NaNs as for [`min`].
#[inline]
#[must_use]
pub fn max<F: Format>(a: u64, b: u64, flags: &mut u8) -> u64 {
    select::<F>(a, b, key::<F>(a) >= key::<F>(b), flags)
}

fn select<F: Format>(a: u64, b: u64, first: bool, flags: &mut u8) -> u64 {
    let (a_nan, b_nan) = (is_nan::<F>(a), is_nan::<F>(b));
    if a_nan || b_nan {
        signal_signaling::<F>(a, b, flags);
    }
    match (a_nan, b_nan) {
        (true, true) => F::QNAN,
        (true, false) => b,
        (false, true) => a,
        (false, false) if first => a,
        (false, false) => b,
    }
}

/// The class of `a` as a one-hot mask of ten bits (`fclass`; F extension, "Format of result of FCLASS").
#[inline]
#[must_use]
pub fn class<F: Format>(a: u64) -> u64 {
    let x = unpack::<F>(a);
    let subnormal = a & F::INF == 0;
    let bit = match x.kind {
        Kind::Inf if x.sign => 0,
        Kind::Finite if x.sign && !subnormal => 1,
        Kind::Finite if x.sign => 2,
        Kind::Zero if x.sign => 3,
        Kind::Zero => 4,
        Kind::Finite if subnormal => 5,
        Kind::Finite => 6,
        Kind::Inf => 7,
        Kind::Signaling => 8,
        Kind::Quiet => 9,
    };
    1 << bit
}

fn is_nan<F: Format>(a: u64) -> bool {
    a & !F::SIGN > F::INF
}

fn both_zero<F: Format>(a: u64, b: u64) -> bool {
    (a | b) & !F::SIGN == 0
}

/// Orders all numbers as their values do, -0 just below +0.
fn key<F: Format>(a: u64) -> i64 {
    let magnitude = (a & !F::SIGN) as i64;
    if a & F::SIGN != 0 { !magnitude } else { magnitude }
}

fn signal_signaling<F: Format>(a: u64, b: u64, flags: &mut u8) {
    if [a, b].iter().any(|&x| is_nan::<F>(x) && x & F::QUIET == 0) {
        *flags |= NV;
    }
}
