//! The reference path: IEEE 754 in integer arithmetic, generic over the format, right for every operand.
//!
//! An operation unpacks its operands to a sign, an exponent and a significand normalised to the top of a
//! word, computes the exact result or a prefix of it whose last bit is a *sticky* bit (set if anything
//! nonzero lies below), and hands it to `round_pack`, the only place that rounds to a format and raises OF,
//! UF and NX.
//!
//! Bit patterns of both formats travel in a `u64`; a binary32 pattern occupies the low half and the upper
//! half must be zero. Operations are never inlined into their callers: the fast paths stay small.

mod arith;
mod compare;
mod convert;
mod round;

pub use arith::{add, div, fma, mul, sqrt, sub};
pub use compare::{class, eq, le, lt, max, min};
pub use convert::{convert, from_i64, from_u64, to_i32, to_i64, to_u32, to_u64};
use round::{round_pack, round_shift};

/// An IEEE 754 binary interchange format that fits a `u64`.
pub trait Format {
    /// Width of the stored fraction in bits; the precision is one more.
    const FRAC_BITS: u32;
    /// Width of the biased exponent in bits.
    const EXP_BITS: u32;

    /// Exponent bias, which is also the exponent of the largest finite numbers.
    const BIAS: i32 = (1 << (Self::EXP_BITS - 1)) - 1;
    /// Exponent of the smallest normal number.
    const MIN_EXP: i32 = 1 - Self::BIAS;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::FRAC_BITS + Self::EXP_BITS);
    /// The bits of the fraction.
    const FRAC_MASK: u64 = (1 << Self::FRAC_BITS) - 1;
    /// Positive infinity, which is also the mask of the exponent.
    const INF: u64 = ((1 << Self::EXP_BITS) - 1) << Self::FRAC_BITS;
    /// The fraction bit that tells a quiet NaN from a signaling one.
    const QUIET: u64 = 1 << (Self::FRAC_BITS - 1);
    /// The canonical NaN.
    const QNAN: u64 = Self::INF | Self::QUIET;
}

/// IEEE 754 binary32.
#[derive(Clone, Copy, Debug)]
pub struct F32;
/// IEEE 754 binary64.
#[derive(Clone, Copy, Debug)]
pub struct F64;

impl Format for F32 {
    const FRAC_BITS: u32 = 23;
    const EXP_BITS: u32 = 8;
}

impl Format for F64 {
    const FRAC_BITS: u32 = 52;
    const EXP_BITS: u32 = 11;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zero,
    Finite,
    Inf,
    Quiet,
    Signaling,
}

/// An operand taken apart. For `Kind::Finite` its magnitude is `sig * 2^(exp - 63)` with bit 63 of `sig` set,
/// subnormals included; for the other kinds `exp` and `sig` are zero.
#[derive(Clone, Copy)]
struct Unpacked {
    sign: bool,
    kind: Kind,
    exp: i32,
    sig: u64,
}

impl Unpacked {
    fn is_nan(self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling)
    }
}

fn unpack<F: Format>(bits: u64) -> Unpacked {
    let sign = bits & F::SIGN != 0;
    let frac = bits & F::FRAC_MASK;
    let biased = ((bits & F::INF) >> F::FRAC_BITS) as i32;
    let special = |kind| Unpacked { sign, kind, exp: 0, sig: 0 };
    if bits & F::INF == F::INF {
        special(match frac {
            0 => Kind::Inf,
            _ if frac & F::QUIET != 0 => Kind::Quiet,
            _ => Kind::Signaling,
        })
    } else if biased != 0 {
        let sig = (frac | (1 << F::FRAC_BITS)) << (63 - F::FRAC_BITS);
        Unpacked { sign, kind: Kind::Finite, exp: biased - F::BIAS, sig }
    } else if frac != 0 {
        let shift = frac.leading_zeros();
        let exp = F::MIN_EXP + (63 - F::FRAC_BITS) as i32 - shift as i32;
        Unpacked { sign, kind: Kind::Finite, exp, sig: frac << shift }
    } else {
        special(Kind::Zero)
    }
}

const fn sign_bit<F: Format>(sign: bool) -> u64 {
    if sign { F::SIGN } else { 0 }
}

const fn infinity<F: Format>(sign: bool) -> u64 {
    sign_bit::<F>(sign) | F::INF
}

/// The canonical NaN of an invalid operation.
fn invalid<F: Format>(flags: &mut u8) -> u64 {
    *flags |= super::NV;
    F::QNAN
}

/// The canonical NaN that a NaN operand gives; a signaling one is an invalid operation.
fn propagate<F: Format>(operands: &[Unpacked], flags: &mut u8) -> u64 {
    if operands.iter().any(|x| x.kind == Kind::Signaling) {
        *flags |= super::NV;
    }
    F::QNAN
}
