//! Rounding to a format: the one place that decides digits, overflow, underflow and inexact.

use super::super::{NX, OF, RoundingMode, UF};
use super::{Format, infinity, sign_bit};

/// Drops the `shift` low bits of the magnitude `sig` and rounds what is left. Returns the rounded
/// integer and whether anything was lost. Bit 0 of `sig` may be a sticky bit if `shift` is 2 or more.
pub(super) fn round_shift(sign: bool, sig: u128, shift: u32, rm: RoundingMode) -> (u128, bool) {
    const HALF: u128 = 1 << 127;
    // `lost` are the dropped bits as a fraction of one unit in the last kept place.
    let (kept, lost) = match shift {
        0 => (sig, 0),
        1..=127 => (sig >> shift, sig << (128 - shift)),
        128 => (0, sig),
        _ => (0, u128::from(sig != 0)),
    };
    let up = match rm {
        RoundingMode::Rne => lost > HALF || (lost == HALF && kept & 1 == 1),
        RoundingMode::Rtz => false,
        RoundingMode::Rdn => sign && lost != 0,
        RoundingMode::Rup => !sign && lost != 0,
        RoundingMode::Rmm => lost >= HALF,
    };
    (kept + u128::from(up), lost != 0)
}

/// Rounds the nonzero magnitude `sig * 2^(exp - 127)` to the format and packs it. Bit 0 of `sig` may be a
/// sticky bit, provided that at least precision + 2 significant bits stand at or above bit 1.
pub(super) fn round_pack<F: Format>(
    sign: bool,
    exp: i32,
    sig: u128,
    rm: RoundingMode,
    flags: &mut u8,
) -> u64 {
    let zeros = sig.leading_zeros();
    let sig = sig << zeros;
    let exp = exp - zeros as i32;
    let excess = 127 - F::FRAC_BITS;

    if exp < F::MIN_EXP {
        let (kept, inexact) = round_shift(sign, sig, excess + (F::MIN_EXP - exp) as u32, rm);
        if inexact {
            *flags |= NX;
            // Tiny after rounding: below the smallest normal number even if the exponent had no lower bound.
            let reaches_normal =
                exp == F::MIN_EXP - 1 && round_shift(sign, sig, excess, rm).0 == 1 << (F::FRAC_BITS + 1);
            if !reaches_normal {
                *flags |= UF;
            }
        }
        // A carry out of the fraction is the smallest normal number's exponent field: the encoding is
        // contiguous.
        return sign_bit::<F>(sign) | kept as u64;
    }

    let (kept, inexact) = round_shift(sign, sig, excess, rm);
    let carry = kept >> (F::FRAC_BITS + 1) != 0;
    if exp + i32::from(carry) > F::BIAS {
        return overflow::<F>(sign, rm, flags);
    }
    if inexact {
        *flags |= NX;
    }
    // The implicit bit of `kept` adds one to the exponent field, a carry two (its fraction is then zero).
    let exponent = ((exp + F::BIAS - 1) as u64) << F::FRAC_BITS;
    sign_bit::<F>(sign) | (exponent + kept as u64)
}

/// Overflow delivers infinity or the largest finite number, whichever the mode rounds to (IEEE 754-2019,
/// 7.4).
fn overflow<F: Format>(sign: bool, rm: RoundingMode, flags: &mut u8) -> u64 {
    *flags |= OF | NX;
    let to_infinity = match rm {
        RoundingMode::Rne | RoundingMode::Rmm => true,
        RoundingMode::Rtz => false,
        RoundingMode::Rdn => sign,
        RoundingMode::Rup => !sign,
    };
    if to_infinity { infinity::<F>(sign) } else { infinity::<F>(sign) - 1 }
}
