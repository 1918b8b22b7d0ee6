//! Conversions against `rustc_apfloat`, results and flags, with the saturation that the specification adds.

use hart::fpu::soft::{self, F32, F64, Format};
use hart::fpu::{self, NV, RoundingMode};
use rustc_apfloat::ieee::{Double, Single};
use rustc_apfloat::{Float, FloatConvert, Status};

use crate::formats;
use crate::operands::{Random, around_integers, specials};
use crate::oracle::{check, expected, flags, is_nan, is_signaling, round};

const RANDOM_VALUES: usize = 200_000;

/// Special values, numbers around integer limits, and random ones: all magnitudes, then those near the
/// integers.
fn floats<F: Format>(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(seed);
    let random = (0..RANDOM_VALUES).map(move |i| match i % 3 {
        0 => random.bits() & (F::SIGN | (F::SIGN - 1)),
        1 => random.number_near::<F>(i64::from(F::BIAS) + 31, 40),
        _ => random.number_near::<F>(i64::from(F::BIAS), 160),
    });
    specials::<F>().into_iter().chain(around_integers::<F>()).chain(random)
}

#[test]
fn narrowing_agrees() {
    let mut random = Random(10);
    let near_limits = (0..RANDOM_VALUES).map(|i| {
        let limit = if i % 2 == 0 { -126 } else { 127 };
        random.number_near::<F64>(i64::from(F64::BIAS) + limit, 1)
    });
    // Binary32 values and the binary64 numbers next to them and to the midpoints between them.
    let edges = specials::<F32>().into_iter().flat_map(|x| {
        let wide = fpu::cvt_f64_f32(x as u32, &mut 0);
        [0, 1, 1 << 27, (1 << 28) - 1, 1 << 28, (1 << 28) + 1, 3 << 27]
            .into_iter()
            .flat_map(move |step| [wide.wrapping_add(step), wide.wrapping_sub(step)])
    });
    for a in edges.chain(floats::<F64>(11)).chain(near_limits) {
        let x = Double::from_bits(a.into());
        for rm in RoundingMode::ALL {
            let convert = |x: Double| FloatConvert::<Single>::convert_r(x, round(rm), &mut false);
            let (nan, signaling) = (is_nan::<F64>(a), is_signaling::<F64>(a));
            let scaled = |k| convert(x.scalbn(k)).value;
            let want = expected::<F32, _>(nan, signaling, || convert(x), scaled);
            let entry = |f: &mut u8| u64::from(fpu::cvt_f32_f64(a, rm, f));
            check("fcvt.s.d", &[a], rm, want, entry, |f| soft::convert::<F64, F32>(a, rm, f));
        }
    }
}

#[test]
fn widening_agrees() {
    for a in floats::<F32>(12) {
        let value: Double = Single::from_bits(a.into()).convert(&mut false).value;
        let mut want = (value.to_bits() as u64, 0);
        if is_nan::<F32>(a) {
            want = (F64::QNAN, if is_signaling::<F32>(a) { NV } else { 0 });
        }
        let rm = RoundingMode::Rne;
        let entry = |f: &mut u8| fpu::cvt_f64_f32(a as u32, f);
        check("fcvt.d.s", &[a], rm, want, entry, |f| soft::convert::<F32, F64>(a, rm, f));
    }
}

/// The integer (as the bits of its 64-bit extension) and flags that a conversion must give.
fn expected_integer<O: Float>(x: O, rm: RoundingMode, signed: bool, width: usize) -> (u64, u8) {
    let (max, min) = match (signed, width) {
        (true, 32) => (i32::MAX as u64, i32::MIN as u64),
        (true, _) => (i64::MAX as u64, i64::MIN as u64),
        (false, 32) => (u32::MAX.into(), 0),
        (false, _) => (u64::MAX, 0),
    };
    let (status, value) = if signed {
        let answer = x.to_i128_r(width, round(rm), &mut false);
        (answer.status, answer.value as u64)
    } else {
        let answer = x.to_u128_r(width, round(rm), &mut false);
        (answer.status, answer.value as u64)
    };
    if status.intersects(Status::INVALID_OP) {
        return (if x.is_nan() || !x.is_negative() { max } else { min }, NV);
    }
    (value, flags(status))
}

macro_rules! check_to_integers {
    ($format:ty, $oracle:ty, $narrow:expr, $seed:expr, $i32:path, $u32:path, $i64:path, $u64:path) => {
        for a in floats::<$format>($seed) {
            let x = <$oracle>::from_bits(a.into());
            let n = $narrow(a);
            for rm in RoundingMode::ALL {
                let want = |signed, width| expected_integer(x, rm, signed, width);
                let soft = |f: &mut u8| soft::to_i32::<$format>(a, rm, f) as u64;
                check("fcvt.w", &[a], rm, want(true, 32), |f| $i32(n, rm, f) as u64, soft);
                let soft = |f: &mut u8| soft::to_u32::<$format>(a, rm, f).into();
                check("fcvt.wu", &[a], rm, want(false, 32), |f| $u32(n, rm, f).into(), soft);
                let soft = |f: &mut u8| soft::to_i64::<$format>(a, rm, f) as u64;
                check("fcvt.l", &[a], rm, want(true, 64), |f| $i64(n, rm, f) as u64, soft);
                let soft = |f: &mut u8| soft::to_u64::<$format>(a, rm, f);
                check("fcvt.lu", &[a], rm, want(false, 64), |f| $u64(n, rm, f), soft);
            }
        }
    };
}

#[test]
fn double_to_integer_agrees() {
    use fpu::{cvt_i32_f64, cvt_i64_f64, cvt_u32_f64, cvt_u64_f64};
    check_to_integers!(F64, Double, |a: u64| a, 13, cvt_i32_f64, cvt_u32_f64, cvt_i64_f64, cvt_u64_f64);
}

#[test]
fn single_to_integer_agrees() {
    use fpu::{cvt_i32_f32, cvt_i64_f32, cvt_u32_f32, cvt_u64_f32};
    check_to_integers!(
        F32,
        Single,
        |a: u64| a as u32,
        14,
        cvt_i32_f32,
        cvt_u32_f32,
        cvt_i64_f32,
        cvt_u64_f32
    );
}

/// Integers of every length with dense, sparse and run-of-ones digits, and the limits.
fn integers(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(seed);
    let random = (0..RANDOM_VALUES).map(move |i| {
        let dense = random.bits() >> random.below(64);
        match i % 3 {
            0 => dense,
            1 => dense & (u64::MAX << random.below(64)),
            _ => (u64::MAX >> random.below(64)) ^ random.below(4),
        }
    });
    let edges = (0..64).flat_map(|n| [(1u64 << n) - 1, 1 << n, (1 << n) + 1, (1u64 << n).wrapping_neg()]);
    edges.chain(random)
}

fn check_from_integers<W: formats::Width>(
    seed: u64,
    signed: fn(i64, RoundingMode, &mut u8) -> u64,
    unsigned: fn(u64, RoundingMode, &mut u8) -> u64,
) {
    for a in integers(seed) {
        for rm in RoundingMode::ALL {
            let answer = W::Oracle::from_i128_r((a as i64).into(), round(rm));
            let want = (answer.value.to_bits() as u64, flags(answer.status));
            let soft = |f: &mut u8| soft::from_i64::<W::Soft>(a as i64, rm, f);
            check("from i64", &[a], rm, want, |f| signed(a as i64, rm, f), soft);
            let answer = W::Oracle::from_u128_r(a.into(), round(rm));
            let want = (answer.value.to_bits() as u64, flags(answer.status));
            let soft = |f: &mut u8| soft::from_u64::<W::Soft>(a, rm, f);
            check("from u64", &[a], rm, want, |f| unsigned(a, rm, f), soft);
        }
    }
}

#[test]
fn integer_to_float_agrees() {
    check_from_integers::<formats::Double>(15, fpu::cvt_f64_i64, fpu::cvt_f64_u64);
    check_from_integers::<formats::Single>(
        16,
        |a, rm, f| fpu::cvt_f32_i64(a, rm, f).into(),
        |a, rm, f| fpu::cvt_f32_u64(a, rm, f).into(),
    );
}

#[test]
fn narrow_integers_convert_as_wide_ones() {
    for a in integers(17) {
        let (signed, unsigned) = (a as i32, a as u32);
        let soft = |x: i64| soft::from_i64::<F64>(x, RoundingMode::Rne, &mut 0);
        assert_eq!(fpu::cvt_f64_i32(signed), soft(signed.into()));
        assert_eq!(fpu::cvt_f64_u32(unsigned), soft(unsigned.into()));
        for rm in RoundingMode::ALL {
            let (mut f, mut g) = (0, 0);
            let want = soft::from_i64::<F32>(signed.into(), rm, &mut f);
            assert_eq!((u64::from(fpu::cvt_f32_i32(signed, rm, &mut g)), g), (want, f));
            let (mut f, mut g) = (0, 0);
            let want = soft::from_i64::<F32>(unsigned.into(), rm, &mut f);
            assert_eq!((u64::from(fpu::cvt_f32_u32(unsigned, rm, &mut g)), g), (want, f));
        }
    }
}
