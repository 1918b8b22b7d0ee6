//! Sentences of the RISC-V unprivileged specification, chapters "F" (version 2.2) and "D" (version 2.2), each
//! as a test. Section names are those of the F chapter unless the D chapter is named.

use hart::fpu::soft::{F32, F64, Format};
use hart::fpu::*;

use crate::operands::specials;

const ONE64: u64 = 0x3ff0_0000_0000_0000;
const ONE32: u32 = 0x3f80_0000;
const INF64: u64 = 0x7ff0_0000_0000_0000;
const INF32: u32 = 0x7f80_0000;
const SNAN64: u64 = INF64 | 1;
const SNAN32: u32 = INF32 | 1;
const PAYLOAD64: u64 = 0xfff8_0000_0000_1234;
const PAYLOAD32: u32 = 0xffc0_1234;
const MIN_NORMAL64: u64 = 1 << 52;
const SIGN64: u64 = 1 << 63;
const SIGN32: u32 = 1 << 31;
const RNE: RoundingMode = RoundingMode::Rne;
const RTZ: RoundingMode = RoundingMode::Rtz;
const RDN: RoundingMode = RoundingMode::Rdn;

/// Runs an operation with no flags accrued; gives its result and the flags it raised.
fn run<T>(operation: impl FnOnce(&mut u8) -> T) -> (T, u8) {
    let mut flags = 0;
    let result = operation(&mut flags);
    (result, flags)
}

fn f64s() -> impl Iterator<Item = (u64, u64)> {
    let values = specials::<F64>();
    values.clone().into_iter().flat_map(move |a| values.clone().into_iter().map(move |b| (a, b)))
}

/// "Rounding mode encoding": 0 to 4 are modes, 5 and 6 reserved, 7 means dynamic in an instruction and is
/// reserved in `frm`.
#[test]
fn rounding_mode_encoding() {
    for (bits, rm) in RoundingMode::ALL.into_iter().enumerate() {
        assert_eq!(RoundingMode::from_rm(bits as u32), Some(rm));
        assert_eq!(rm as usize, bits);
    }
    for bits in [5, 6, 7, 8, u32::MAX] {
        assert_eq!(RoundingMode::from_rm(bits), None);
    }
}

/// "Accrued exception flag encoding": NV DZ OF UF NX from bit 4 down to bit 0; flags accrue and are never
/// cleared.
#[test]
fn flags_accrue() {
    assert_eq!([NV, DZ, OF, UF, NX], [1 << 4, 1 << 3, 1 << 2, 1 << 1, 1]);
    let mut flags = 0;
    let _ = div64(ONE64, 0, RNE, &mut flags);
    assert_eq!(flags, DZ);
    let _ = mul64(ONE64, SNAN64, RNE, &mut flags);
    assert_eq!(flags, DZ | NV);
    let _ = div32(ONE32, 0x4040_0000, RNE, &mut flags);
    assert_eq!(flags, DZ | NV | NX);
    let _ = add32(ONE32, ONE32, RNE, &mut flags);
    assert_eq!(flags, DZ | NV | NX);
}

/// D, "NaN Boxing of Narrower Values": a narrow operand whose upper bits are not all ones is the canonical
/// NaN, and a narrow result has all upper bits set.
#[test]
fn nan_boxing() {
    assert_eq!(box_f32(ONE32), 0xffff_ffff_3f80_0000);
    assert_eq!(unbox_f32(box_f32(SNAN32)), SNAN32);
    for reg in [u64::from(ONE32), 0xffff_fffe_3f80_0000, 0x7fff_ffff_3f80_0000, ONE64] {
        assert_eq!(unbox_f32(reg), QNAN32);
    }
}

/// "NaN Generation and Propagation": a NaN result is the canonical NaN; payloads and signs are not passed on.
#[test]
fn nan_results_are_canonical() {
    assert_eq!(run(|f| add64(PAYLOAD64, ONE64, RNE, f)), (QNAN64, 0));
    assert_eq!(run(|f| mul32(ONE32, PAYLOAD32, RNE, f)), (QNAN32, 0));
    assert_eq!(run(|f| sqrt64(PAYLOAD64, RNE, f)), (QNAN64, 0));
    assert_eq!(run(|f| cvt_f64_f32(PAYLOAD32, f)), (QNAN64, 0));
    assert_eq!(run(|f| cvt_f32_f64(SNAN64, RNE, f)), (QNAN32, NV));
    assert_eq!(run(|f| sub64(INF64, INF64, RNE, f)), (QNAN64, NV));
    assert_eq!(run(|f| mul64(INF64, SIGN64, RNE, f)), (QNAN64, NV));
    assert_eq!(run(|f| div32(0, SIGN32, RNE, f)), (QNAN32, NV));
    assert_eq!(run(|f| sqrt32(ONE32 | SIGN32, RNE, f)), (QNAN32, NV));
}

/// "Subnormal Arithmetic": tininess is detected after rounding.
#[test]
fn tininess_is_detected_after_rounding() {
    // 2^-1022 - 2^-1075 has 53 digits and so stays tiny when rounded; it is the delivered result that rounds
    // up.
    let below_one = ONE64 - 1;
    assert_eq!(run(|f| mul64(below_one, MIN_NORMAL64, RNE, f)), (MIN_NORMAL64, UF | NX));
    // 2^-1022 - 2^-1077 rounds to 2^-1022 with 53 digits: not tiny.
    let power = |exp: i64| ((exp + 1023) as u64) << 52;
    let fma = |f: &mut u8| fma64(power(-1000) | SIGN64, power(-77), MIN_NORMAL64, RNE, f);
    assert_eq!(run(fma), (MIN_NORMAL64, NX));
    // Exact subnormal results do not underflow.
    assert_eq!(run(|f| mul64(MIN_NORMAL64, power(-1), RNE, f)), (MIN_NORMAL64 / 2, 0));
    assert_eq!(run(|f| div32(0x0080_0000, 0x4000_0000, RNE, f)), (0x0040_0000, 0));
}

/// "Floating-Point Computational Instructions", FMIN and FMAX: -0 is less than +0; of a NaN and a number the
/// number is the result; two NaNs give the canonical NaN; a signaling NaN is invalid even when the result is
/// not a NaN.
#[test]
fn minimum_and_maximum_number() {
    let (plus, minus) = (0, SIGN64);
    for (a, b) in [(plus, minus), (minus, plus)] {
        assert_eq!(run(|f| min64(a, b, f)), (minus, 0));
        assert_eq!(run(|f| max64(a, b, f)), (plus, 0));
    }
    assert_eq!(run(|f| min32(0, SIGN32, f)), (SIGN32, 0));
    assert_eq!(run(|f| max32(SIGN32, 0, f)), (0, 0));
    for (a, b) in [(ONE64, PAYLOAD64), (PAYLOAD64, ONE64)] {
        assert_eq!(run(|f| min64(a, b, f)), (ONE64, 0));
        assert_eq!(run(|f| max64(a, b, f)), (ONE64, 0));
    }
    for (a, b) in [(ONE32, SNAN32), (SNAN32, ONE32)] {
        assert_eq!(run(|f| min32(a, b, f)), (ONE32, NV));
        assert_eq!(run(|f| max32(a, b, f)), (ONE32, NV));
    }
    assert_eq!(run(|f| min64(PAYLOAD64, PAYLOAD64, f)), (QNAN64, 0));
    assert_eq!(run(|f| max64(PAYLOAD64, SNAN64, f)), (QNAN64, NV));
    assert_eq!(run(|f| max32(PAYLOAD32, PAYLOAD32, f)), (QNAN32, 0));
    for (a, b) in f64s() {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        if x < y {
            assert_eq!((run(|f| min64(a, b, f)), run(|f| max64(b, a, f))), ((a, 0), (b, 0)));
            assert_eq!((run(|f| min64(b, a, f)), run(|f| max64(a, b, f))), ((a, 0), (b, 0)));
        }
    }
}

/// "Floating-Point Computational Instructions": fused multiply-add is invalid for infinity times zero even if
/// the addend is a quiet NaN.
#[test]
fn fused_infinity_times_zero_is_invalid() {
    for (a, b) in [(INF64, 0), (0, INF64 | SIGN64)] {
        for c in [ONE64, QNAN64, SNAN64, INF64] {
            assert_eq!(run(|f| fma64(a, b, c, RNE, f)), (QNAN64, NV));
        }
    }
    assert_eq!(run(|f| fma32(INF32, SIGN32, PAYLOAD32, RNE, f)), (QNAN32, NV));
    assert_eq!(run(|f| fma32(ONE32, ONE32, PAYLOAD32, RNE, f)), (QNAN32, 0));
    assert_eq!(run(|f| fma64(INF64, ONE64, INF64 | SIGN64, RNE, f)), (QNAN64, NV));
}

/// "Floating-Point Computational Instructions": FNMSUB is -(a*b)+c and FNMADD is -(a*b)-c, the product being
/// negated and not the sum, which shows in the sign of a zero.
#[test]
fn negated_forms_negate_the_product() {
    // fnmadd(1, 1, -1) = -1 + 1 = +0, where negating the sum would give -0.
    assert_eq!(run(|f| fma64(ONE64 | SIGN64, ONE64, ONE64, RNE, f)), (0, 0));
    assert_eq!(run(|f| fma64(ONE64 | SIGN64, ONE64, ONE64, RDN, f)), (SIGN64, 0));
    assert_eq!(run(|f| fma32(ONE32 | SIGN32, ONE32, ONE32, RNE, f)), (0, 0));
}

/// Limits and saturated results of "Domains of float-to-integer conversions": out of range is NV without NX.
#[test]
fn float_to_integer_domains() {
    let bits = f64::to_bits;
    // NaNs of either sign and +infinity give the maximum.
    for a in [QNAN64, PAYLOAD64, SNAN64, INF64, bits(1e300)] {
        assert_eq!(run(|f| cvt_i32_f64(a, RNE, f)), (i32::MAX, NV));
        assert_eq!(run(|f| cvt_u32_f64(a, RNE, f)), (u32::MAX, NV));
        assert_eq!(run(|f| cvt_i64_f64(a, RNE, f)), (i64::MAX, NV));
        assert_eq!(run(|f| cvt_u64_f64(a, RNE, f)), (u64::MAX, NV));
    }
    for a in [QNAN32, PAYLOAD32, SNAN32, INF32] {
        assert_eq!(run(|f| cvt_i32_f32(a, RTZ, f)), (i32::MAX, NV));
        assert_eq!(run(|f| cvt_u32_f32(a, RTZ, f)), (u32::MAX, NV));
        assert_eq!(run(|f| cvt_i64_f32(a, RTZ, f)), (i64::MAX, NV));
        assert_eq!(run(|f| cvt_u64_f32(a, RTZ, f)), (u64::MAX, NV));
    }
    for a in [INF64 | SIGN64, bits(-1e300)] {
        assert_eq!(run(|f| cvt_i32_f64(a, RNE, f)), (i32::MIN, NV));
        assert_eq!(run(|f| cvt_u32_f64(a, RNE, f)), (0, NV));
        assert_eq!(run(|f| cvt_i64_f64(a, RNE, f)), (i64::MIN, NV));
        assert_eq!(run(|f| cvt_u64_f64(a, RNE, f)), (0, NV));
    }
    assert_eq!(run(|f| cvt_u32_f64(bits(-1.0), RNE, f)), (0, NV));
    assert_eq!(run(|f| cvt_u32_f32((-1.0f32).to_bits(), RTZ, f)), (0, NV));
    // The limits hold for the rounded value.
    assert_eq!(run(|f| cvt_u32_f64(bits(-0.5), RNE, f)), (0, NX));
    assert_eq!(run(|f| cvt_u32_f64(bits(-0.75), RTZ, f)), (0, NX));
    assert_eq!(run(|f| cvt_u32_f64(bits(-0.25), RDN, f)), (0, NV));
    assert_eq!(run(|f| cvt_i32_f64(bits(2_147_483_647.5), RTZ, f)), (i32::MAX, NX));
    assert_eq!(run(|f| cvt_i32_f64(bits(2_147_483_647.5), RNE, f)), (i32::MAX, NV));
    assert_eq!(run(|f| cvt_i32_f64(bits(-2_147_483_648.5), RNE, f)), (i32::MIN, NX));
    assert_eq!(run(|f| cvt_i32_f64(bits(-2_147_483_649.0), RTZ, f)), (i32::MIN, NV));
    assert_eq!(run(|f| cvt_i64_f64(bits(9_223_372_036_854_775_808.0), RTZ, f)), (i64::MAX, NV));
    assert_eq!(run(|f| cvt_i64_f64(bits(-9_223_372_036_854_775_808.0), RTZ, f)), (i64::MIN, 0));
    assert_eq!(run(|f| cvt_u64_f64(bits(18_446_744_073_709_551_616.0), RTZ, f)), (u64::MAX, NV));
}

/// Rounding of halves in each mode, "Conversion and Move Instructions" and "Rounding mode encoding".
#[test]
fn conversions_round_by_mode() {
    let table = [
        (RoundingMode::Rne, [2, 2, -2, -2]),
        (RoundingMode::Rtz, [2, 1, -2, -1]),
        (RoundingMode::Rdn, [2, 1, -3, -2]),
        (RoundingMode::Rup, [3, 2, -2, -1]),
        (RoundingMode::Rmm, [3, 2, -3, -2]),
    ];
    for (rm, want) in table {
        let got = [2.5f64, 1.5, -2.5, -1.5].map(|x| run(|f| cvt_i32_f64(x.to_bits(), rm, f)));
        assert_eq!(got, want.map(|w| (w, NX)), "{rm:?}");
    }
    // The conversion of integer zero is +0 in every mode and sets no flag.
    for rm in RoundingMode::ALL {
        assert_eq!(run(|f| cvt_f32_i32(0, rm, f)), (0, 0));
        assert_eq!(run(|f| cvt_f64_i64(0, rm, f)), (0, 0));
    }
}

/// Sign injection sets no flag and does not canonicalise NaNs: all bits but the sign come from the first
/// operand.
#[test]
fn sign_injection_keeps_nans() {
    assert_eq!(sgnj64(SNAN64, SIGN64), SNAN64 | SIGN64);
    assert_eq!(sgnjn64(PAYLOAD64, PAYLOAD64), PAYLOAD64 & !SIGN64);
    assert_eq!(sgnjx64(PAYLOAD64, PAYLOAD64), PAYLOAD64 & !SIGN64);
    assert_eq!(sgnjx64(ONE64, SIGN64), ONE64 | SIGN64);
    assert_eq!(sgnjn64(ONE64, SIGN64), ONE64);
    assert_eq!(sgnj32(SNAN32, SIGN32), SNAN32 | SIGN32);
    assert_eq!(sgnjn32(PAYLOAD32, PAYLOAD32), PAYLOAD32 & !SIGN32);
    assert_eq!(sgnjx32(ONE32, SIGN32), ONE32 | SIGN32);
    assert_eq!(sgnjx32(PAYLOAD32, PAYLOAD32), PAYLOAD32 & !SIGN32);
}

/// "Compare Instructions": FEQ is quiet, FLT and FLE are signaling, and each is false for a NaN.
#[test]
fn comparisons() {
    for (a, b) in f64s() {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        let unordered = x.is_nan() || y.is_nan();
        let signaling = [a, b].iter().any(|&v| f64::from_bits(v).is_nan() && v & F64::QUIET == 0);
        let signal = |on| if on { NV } else { 0 };
        assert_eq!(run(|f| eq64(a, b, f)), (x == y, signal(signaling)), "{a:x} {b:x}");
        assert_eq!(run(|f| lt64(a, b, f)), (x < y, signal(unordered)), "{a:x} {b:x}");
        assert_eq!(run(|f| le64(a, b, f)), (x <= y, signal(unordered)), "{a:x} {b:x}");
    }
    let values: Vec<u32> = specials::<F32>().into_iter().map(|x| x as u32).collect();
    for &a in &values {
        for &b in &values {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            let unordered = if x.is_nan() || y.is_nan() { NV } else { 0 };
            assert_eq!(run(|f| eq32(a, b, f)).0, x == y, "{a:x} {b:x}");
            assert_eq!(run(|f| lt32(a, b, f)), (x < y, unordered), "{a:x} {b:x}");
            assert_eq!(run(|f| le32(a, b, f)), (x <= y, unordered), "{a:x} {b:x}");
        }
    }
    assert_eq!(run(|f| eq32(PAYLOAD32, PAYLOAD32, f)), (false, 0));
    assert_eq!(run(|f| eq32(SNAN32, ONE32, f)), (false, NV));
}

/// "Format of result of FCLASS instruction", bit by bit.
#[test]
fn classes() {
    let sign = SIGN64;
    let largest_subnormal = MIN_NORMAL64 - 1;
    let table = [
        (INF64 | sign, 0),
        (ONE64 | sign, 1),
        (MIN_NORMAL64 | sign, 1),
        (largest_subnormal | sign, 2),
        (sign, 3),
        (0, 4),
        (1, 5),
        (largest_subnormal, 5),
        (MIN_NORMAL64, 6),
        (INF64 - 1, 6),
        (INF64, 7),
        (SNAN64, 8),
        (SNAN64 | sign, 8),
        (QNAN64, 9),
        (PAYLOAD64, 9),
    ];
    for (a, bit) in table {
        assert_eq!(class64(a), 1 << bit, "{a:x}");
    }
    let table = [
        (INF32 | SIGN32, 0),
        (ONE32 | SIGN32, 1),
        (1 | SIGN32, 2),
        (SIGN32, 3),
        (0, 4),
        (0x007f_ffff, 5),
        (0x0080_0000, 6),
        (INF32, 7),
        (SNAN32, 8),
        (PAYLOAD32, 9),
    ];
    for (a, bit) in table {
        assert_eq!(class32(a), 1 << bit, "{a:x}");
    }
}

/// IEEE 754-2019, 7.3: a zero divisor is DZ for a finite nonzero dividend only, and the infinity is exact.
#[test]
fn divide_by_zero() {
    assert_eq!(run(|f| div64(ONE64, SIGN64, RNE, f)), (INF64 | SIGN64, DZ));
    assert_eq!(run(|f| div64(INF64, 0, RNE, f)), (INF64, 0));
    assert_eq!(run(|f| div32(1, 0, RTZ, f)), (INF32, DZ));
}

/// IEEE 754-2019, 7.4: overflow gives infinity or the largest finite number by mode and sign.
#[test]
fn overflow_by_mode() {
    let max = INF64 - 1;
    let table = [
        (RoundingMode::Rne, INF64, INF64),
        (RoundingMode::Rtz, max, max),
        (RoundingMode::Rdn, max, INF64),
        (RoundingMode::Rup, INF64, max),
        (RoundingMode::Rmm, INF64, INF64),
    ];
    for (rm, positive, negative) in table {
        assert_eq!(run(|f| add64(max, max, rm, f)), (positive, OF | NX));
        assert_eq!(run(|f| mul64(max, max | SIGN64, rm, f)), (negative | SIGN64, OF | NX));
    }
}
