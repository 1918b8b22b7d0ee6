//! Sum, difference, product, quotient and fused multiply-add against `rustc_apfloat`, results and flags.

use hart::fpu::soft::{self, Format};
use hart::fpu::{DZ, NV, NX, OF, RoundingMode, UF};
use rustc_apfloat::{Float, Round, Status, StatusAnd};

use crate::formats::{Double, Single, Width};
use crate::operands::{Random, specials};

const RANDOM_TRIPLES: usize = 300_000;

pub fn round(rm: RoundingMode) -> Round {
    match rm {
        RoundingMode::Rne => Round::NearestTiesToEven,
        RoundingMode::Rtz => Round::TowardZero,
        RoundingMode::Rdn => Round::TowardNegative,
        RoundingMode::Rup => Round::TowardPositive,
        RoundingMode::Rmm => Round::NearestTiesToAway,
    }
}

pub fn flags(status: Status) -> u8 {
    [
        (Status::INVALID_OP, NV),
        (Status::DIV_BY_ZERO, DZ),
        (Status::OVERFLOW, OF),
        (Status::UNDERFLOW, UF),
        (Status::INEXACT, NX),
    ]
    .iter()
    .filter(|(bit, _)| status.intersects(*bit))
    .fold(0, |all, (_, flag)| all | flag)
}

pub fn is_nan<F: Format>(bits: u64) -> bool {
    bits & !F::SIGN > F::INF
}

pub fn is_signaling<F: Format>(bits: u64) -> bool {
    is_nan::<F>(bits) && bits & F::QUIET == 0
}

/// What the specification wants of an operation, given the oracle's answer for operands that are not NaNs.
///
/// NaNs are the specification's own business, and so are two cases at the edges of the normal range:
/// * a result rounded up to the smallest normal number is tiny if the same digits, rounded without a bound on
///   the exponent, stay below it; the oracle says it is not;
/// * a result cut down to the largest finite number overflowed if it exceeds that number when rounded without
///   a bound on the exponent (IEEE 754-2019, 7.4); the oracle reports only infinities.
///
/// `scaled(k)` repeats the operation with a result `2^k` times as large, where the bound does not interfere.
pub fn expected<F: Format, O: Float>(
    operand_is_nan: bool,
    operand_is_signaling: bool,
    answer: impl Fn() -> StatusAnd<O>,
    scaled: impl Fn(i32) -> O,
) -> (u64, u8) {
    if operand_is_nan {
        return (F::QNAN, if operand_is_signaling { NV } else { 0 });
    }
    let StatusAnd { status, value } = answer();
    let mut raised = flags(status);
    let bits = value.to_bits() as u64;
    let magnitude = bits & !F::SIGN;
    if raised == NX && magnitude == 1 << F::FRAC_BITS && scaled(100).abs() < value.abs().scalbn(100) {
        raised |= UF;
    }
    if raised == NX && magnitude == F::INF - 1 && scaled(-100).abs() > value.abs().scalbn(-100) {
        raised |= OF;
    }
    (if value.is_nan() { F::QNAN } else { bits }, raised)
}

/// Requires `want` of the entry point, whether inexact is accrued before or not, and of the integer path.
pub fn check(
    what: &str,
    operands: &[u64],
    rm: RoundingMode,
    want: (u64, u8),
    entry: impl Fn(&mut u8) -> u64,
    soft: impl Fn(&mut u8) -> u64,
) {
    let run = |operation: &dyn Fn(&mut u8) -> u64, before: u8| {
        let mut accrued = before;
        (operation(&mut accrued), accrued)
    };
    let got = [run(&soft, 0), run(&entry, 0), run(&entry, NX)];
    let wanted = [want, want, (want.0, want.1 | NX)];
    assert!(
        got == wanted,
        "{what} {rm:?} {operands:x?}: got {got:x?} (soft, entry, entry with NX accrued), wanted {wanted:x?}"
    );
}

/// Scales a product by `2^k` through the factor that cannot leave the range.
fn scaled_factors<O: Float>(x: O, y: O, k: i32) -> (O, O) {
    let (big, small) = if x.abs() > y.abs() { (x, y) } else { (y, x) };
    if k > 0 { (big, small.scalbn(k)) } else { (big.scalbn(k), small) }
}

fn check_binary<W: Width>(a: u64, b: u64) {
    let (x, y) = (W::oracle(a), W::oracle(b));
    let operands = [a, b];
    let nan = operands.iter().any(|&x| is_nan::<W::Soft>(x));
    let signaling = operands.iter().any(|&x| is_signaling::<W::Soft>(x));
    for rm in RoundingMode::ALL {
        let r = round(rm);
        let want = expected::<W::Soft, _>(
            nan,
            signaling,
            || x.add_r(y, r),
            |k| x.scalbn(k).add_r(y.scalbn(k), r).value,
        );
        check("add", &operands, rm, want, |f| W::ADD(a, b, rm, f), |f| soft::add::<W::Soft>(a, b, rm, f));
        let want = expected::<W::Soft, _>(
            nan,
            signaling,
            || x.sub_r(y, r),
            |k| x.scalbn(k).sub_r(y.scalbn(k), r).value,
        );
        check("sub", &operands, rm, want, |f| W::SUB(a, b, rm, f), |f| soft::sub::<W::Soft>(a, b, rm, f));
        let product = |k| {
            let (p, q) = scaled_factors(x, y, k);
            p.mul_r(q, r).value
        };
        let want = expected::<W::Soft, _>(nan, signaling, || x.mul_r(y, r), product);
        check("mul", &operands, rm, want, |f| W::MUL(a, b, rm, f), |f| soft::mul::<W::Soft>(a, b, rm, f));
        let quotient = |k| x.scalbn(k).div_r(y, r).value;
        let want = expected::<W::Soft, _>(nan, signaling, || x.div_r(y, r), quotient);
        check("div", &operands, rm, want, |f| W::DIV(a, b, rm, f), |f| soft::div::<W::Soft>(a, b, rm, f));
    }
}

fn check_fma<W: Width>(a: u64, b: u64, c: u64) {
    let (x, y, z) = (W::oracle(a), W::oracle(b), W::oracle(c));
    let operands = [a, b, c];
    let nan = operands.iter().any(|&x| is_nan::<W::Soft>(x));
    let signaling = operands.iter().any(|&x| is_signaling::<W::Soft>(x));
    let invalid_product = (x.is_infinite() && y.is_zero()) || (x.is_zero() && y.is_infinite());
    for rm in RoundingMode::ALL {
        let r = round(rm);
        let scaled = |k| {
            let (p, q) = scaled_factors(x, y, k);
            p.mul_add_r(q, z.scalbn(k), r).value
        };
        let mut want = expected::<W::Soft, _>(nan, signaling, || x.mul_add_r(y, z, r), scaled);
        if invalid_product {
            want.1 |= NV;
        }
        let soft = |f: &mut u8| soft::fma::<W::Soft>(a, b, c, rm, f);
        check("fma", &operands, rm, want, |f| W::FMA(a, b, c, rm, f), soft);
    }
}

fn special_values<W: Width>() {
    let values = specials::<W::Soft>();
    for &a in &values {
        for &b in &values {
            check_binary::<W>(a, b);
            for &c in &values {
                check_fma::<W>(a, b, c);
            }
        }
    }
}

fn random_values<W: Width>(seed: u64) {
    let mut random = Random(seed);
    for _ in 0..RANDOM_TRIPLES {
        let [a, b, c] = random.triple::<W::Soft>();
        check_binary::<W>(a, b);
        check_fma::<W>(a, b, c);
    }
}

/// A product and its negated rounding: everything cancels but the rounding error, or exactly.
fn cancelling_fma<W: Width>(seed: u64) {
    let mut random = Random(seed);
    for _ in 0..RANDOM_TRIPLES / 4 {
        let [a, b, _] = random.triple::<W::Soft>();
        let product = soft::mul::<W::Soft>(a, b, RoundingMode::Rne, &mut 0);
        let nudge = random.below(3);
        check_fma::<W>(a, b, (product.wrapping_add(nudge).wrapping_sub(1) & W::MASK) ^ W::Soft::SIGN);
    }
}

#[test]
fn single_agrees_on_special_values() {
    special_values::<Single>();
}

#[test]
fn double_agrees_on_special_values() {
    special_values::<Double>();
}

#[test]
fn single_agrees_on_random_values() {
    random_values::<Single>(1);
    cancelling_fma::<Single>(2);
}

#[test]
fn double_agrees_on_random_values() {
    random_values::<Double>(3);
    cancelling_fma::<Double>(4);
}
