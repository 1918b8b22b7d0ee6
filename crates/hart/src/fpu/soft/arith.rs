//! Addition, multiplication, division, square root and fused multiply-add.

use super::super::{DZ, RoundingMode};
use super::{Format, Kind, Unpacked, infinity, invalid, propagate, round_pack, sign_bit, unpack};

/// `a + b` (`fadd`).
#[cold]
#[inline(never)]
#[must_use]
pub fn add<F: Format>(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (x, y) = (unpack::<F>(a), unpack::<F>(b));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(&[x, y], flags);
    }
    match (x.kind, y.kind) {
        (Kind::Inf, Kind::Inf) if x.sign != y.sign => invalid::<F>(flags),
        (Kind::Inf, _) => a,
        (_, Kind::Inf) => b,
        (Kind::Zero, Kind::Zero) => zero_sum::<F>(x.sign, y.sign, rm),
        (Kind::Zero, _) => b,
        (_, Kind::Zero) => a,
        _ => sum::<F>(Term::of(x), Term::of(y), rm, flags),
    }
}

/// `a - b` (`fsub`).
#[cold]
#[inline(never)]
#[must_use]
pub fn sub<F: Format>(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    // Whether a NaN is signaling does not depend on its sign, and a NaN result is canonical anyway.
    add::<F>(a, b ^ F::SIGN, rm, flags)
}

/// `a * b` (`fmul`).
#[cold]
#[inline(never)]
#[must_use]
pub fn mul<F: Format>(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (x, y) = (unpack::<F>(a), unpack::<F>(b));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(&[x, y], flags);
    }
    let sign = x.sign != y.sign;
    match (x.kind, y.kind) {
        (Kind::Inf, Kind::Zero) | (Kind::Zero, Kind::Inf) => invalid::<F>(flags),
        (Kind::Inf, _) | (_, Kind::Inf) => infinity::<F>(sign),
        (Kind::Zero, _) | (_, Kind::Zero) => sign_bit::<F>(sign),
        _ => {
            let product = Term::product(x, y);
            round_pack::<F>(sign, product.exp + 1, product.sig, rm, flags)
        }
    }
}

/// `a / b` (`fdiv`).
#[cold]
#[inline(never)]
#[must_use]
pub fn div<F: Format>(a: u64, b: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (x, y) = (unpack::<F>(a), unpack::<F>(b));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(&[x, y], flags);
    }
    let sign = x.sign != y.sign;
    match (x.kind, y.kind) {
        (Kind::Inf, Kind::Inf) | (Kind::Zero, Kind::Zero) => invalid::<F>(flags),
        (Kind::Inf, _) => infinity::<F>(sign),
        (Kind::Zero, _) | (_, Kind::Inf) => sign_bit::<F>(sign),
        (_, Kind::Zero) => {
            *flags |= DZ;
            infinity::<F>(sign)
        }
        _ => {
            // A quotient of 63 or 64 bits, more than any precision needs, so its last bit can be the sticky
            // bit.
            let dividend = u128::from(x.sig) << 63;
            let divisor = u128::from(y.sig);
            let quotient = (dividend / divisor) | u128::from(!dividend.is_multiple_of(divisor));
            round_pack::<F>(sign, x.exp - y.exp + 64, quotient, rm, flags)
        }
    }
}

/// The square root of `a` (`fsqrt`).
#[cold]
#[inline(never)]
#[must_use]
pub fn sqrt<F: Format>(a: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let x = unpack::<F>(a);
    match x.kind {
        Kind::Quiet | Kind::Signaling => propagate::<F>(&[x], flags),
        Kind::Zero => a,
        _ if x.sign => invalid::<F>(flags),
        Kind::Inf => a,
        Kind::Finite => {
            // The value is sig * 2^exp; shift it so that the exponent is even and the root has 63 or 64 bits.
            let exp = x.exp - 63;
            let shift = 62 + (exp & 1);
            let radicand = u128::from(x.sig) << shift;
            let root = radicand.isqrt();
            let sticky = u128::from(root * root != radicand);
            round_pack::<F>(false, (exp - shift) / 2 + 127, root | sticky, rm, flags)
        }
    }
}

/// `a * b + c` rounded once (`fmadd`; the caller flips the signs of `a` and `c` for the other three).
///
/// Infinity times zero is invalid even if `c` is a quiet NaN (F extension, "Single-Precision Floating-Point
/// Computational Instructions").
#[cold]
#[inline(never)]
#[must_use]
pub fn fma<F: Format>(a: u64, b: u64, c: u64, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (x, y, z) = (unpack::<F>(a), unpack::<F>(b), unpack::<F>(c));
    if matches!((x.kind, y.kind), (Kind::Inf, Kind::Zero) | (Kind::Zero, Kind::Inf)) {
        return invalid::<F>(flags);
    }
    if x.is_nan() || y.is_nan() || z.is_nan() {
        return propagate::<F>(&[x, y, z], flags);
    }
    let sign = x.sign != y.sign;
    if x.kind == Kind::Inf || y.kind == Kind::Inf {
        let opposite = z.kind == Kind::Inf && z.sign != sign;
        return if opposite { invalid::<F>(flags) } else { infinity::<F>(sign) };
    }
    let zero_product = x.kind == Kind::Zero || y.kind == Kind::Zero;
    match z.kind {
        Kind::Zero if zero_product => zero_sum::<F>(sign, z.sign, rm),
        Kind::Zero => {
            let product = Term::product(x, y);
            round_pack::<F>(sign, product.exp + 1, product.sig, rm, flags)
        }
        Kind::Finite if !zero_product => sum::<F>(Term::product(x, y), Term::of(z), rm, flags),
        _ => c,
    }
}

/// A nonzero summand of magnitude `sig * 2^(exp - 126)` with bit 126 of `sig` the highest one set, which
/// leaves room for a carry. At least the 20 lowest bits are zero: a product of two significands has at most
/// 106 bits.
#[derive(Clone, Copy)]
struct Term {
    sign: bool,
    exp: i32,
    sig: u128,
}

impl Term {
    fn of(x: Unpacked) -> Self {
        Self { sign: x.sign, exp: x.exp, sig: u128::from(x.sig) << 63 }
    }

    fn product(x: Unpacked, y: Unpacked) -> Self {
        let sig = u128::from(x.sig) * u128::from(y.sig);
        let carry = (sig >> 127) as i32;
        Self { sign: x.sign != y.sign, exp: x.exp + y.exp + carry, sig: sig >> carry }
    }
}

/// The sum of two zeros, or of a number and its opposite: opposite signs give +0, or -0 when rounding down.
fn zero_sum<F: Format>(x: bool, y: bool, rm: RoundingMode) -> u64 {
    sign_bit::<F>(if x == y { x } else { rm == RoundingMode::Rdn })
}

fn sum<F: Format>(x: Term, y: Term, rm: RoundingMode, flags: &mut u8) -> u64 {
    let (big, small) = if (x.exp, x.sig) >= (y.exp, y.sig) { (x, y) } else { (y, x) };
    let aligned = shift_right_sticky(small.sig, (big.exp - small.exp) as u32);
    let sig = if big.sign == small.sign { big.sig + aligned } else { big.sig - aligned };
    if sig == 0 {
        return zero_sum::<F>(big.sign, small.sign, rm);
    }
    // Bits are lost only if the exponents differ by more than 20; then at most one leading bit cancels and
    // the sticky bit stays far below the last place. The subtraction keeps it right, for the low bit of `big`
    // is zero.
    round_pack::<F>(big.sign, big.exp + 1, sig, rm, flags)
}

/// `sig >> shift` with bit 0 set if any bit was lost.
fn shift_right_sticky(sig: u128, shift: u32) -> u128 {
    match shift {
        0 => sig,
        1..=127 => (sig >> shift) | u128::from(sig << (128 - shift) != 0),
        _ => u128::from(sig != 0),
    }
}
