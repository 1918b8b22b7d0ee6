//! Square roots against exact integer squares, in every rounding mode.

use hart::fpu::soft::{self, Format};
use hart::fpu::{NV, NX, RoundingMode};

use crate::formats::{Double, Single, Width};
use crate::operands::{Random, specials};
use crate::oracle::{check, is_nan, is_signaling};

/// A positive finite number as `digits * 2^exp`.
fn decode<F: Format>(bits: u64) -> (u128, i32) {
    let biased = (bits >> F::FRAC_BITS) as i32;
    let frac = bits & F::FRAC_MASK;
    let shift = F::BIAS + F::FRAC_BITS as i32;
    if biased == 0 { (frac.into(), 1 - shift) } else { ((frac | 1 << F::FRAC_BITS).into(), biased - shift) }
}

/// The answer is `m` units of its last place, the operand `x` of the squares of those units: then the answer
/// is right if `x` lies where the mode says, and inexact unless `x` is the square of `m`.
fn check_root<W: Width>(a: u64) {
    for rm in RoundingMode::ALL {
        let mut raised = 0;
        let root = soft::sqrt::<W::Soft>(a, rm, &mut raised);
        assert!(root != 0 && root < W::Soft::INF, "sqrt {a:x}");
        let (m, exp) = decode::<W::Soft>(root);
        let (x, x_exp) = decode::<W::Soft>(a);
        let x = x << (x_exp - 2 * exp);
        let square = |n: u128| n * n;
        let right = match rm {
            // Between the squares of m - 1/2 and m + 1/2; four times each. A tie would need more digits than
            // m has.
            RoundingMode::Rne | RoundingMode::Rmm => square(2 * m - 1) < 4 * x && 4 * x < square(2 * m + 1),
            RoundingMode::Rtz | RoundingMode::Rdn => square(m) <= x && x < square(m + 1),
            RoundingMode::Rup => square(m - 1) < x && x <= square(m),
        };
        assert!(right, "sqrt {rm:?} {a:x} gave {root:x}");
        let want = (root, if square(m) == x { 0 } else { NX });
        check("sqrt", &[a], rm, want, |f| W::SQRT(a, rm, f), |f| soft::sqrt::<W::Soft>(a, rm, f));
    }
}

fn check_any<W: Width>(a: u64) {
    let sign = a & W::Soft::SIGN != 0;
    let want = match a {
        _ if is_signaling::<W::Soft>(a) => (W::Soft::QNAN, NV),
        _ if is_nan::<W::Soft>(a) => (W::Soft::QNAN, 0),
        _ if a & !W::Soft::SIGN == 0 => (a, 0),
        _ if sign => (W::Soft::QNAN, NV),
        _ if a == W::Soft::INF => (a, 0),
        _ => return check_root::<W>(a),
    };
    for rm in RoundingMode::ALL {
        check("sqrt", &[a], rm, want, |f| W::SQRT(a, rm, f), |f| soft::sqrt::<W::Soft>(a, rm, f));
    }
}

fn check_all<W: Width>(seed: u64) {
    specials::<W::Soft>().into_iter().for_each(check_any::<W>);
    let mut random = Random(seed);
    for _ in 0..300_000 {
        let [a, b, _] = random.triple::<W::Soft>();
        check_any::<W>(a);
        // Squares and their neighbours, where exactness and the direction of rounding are decided.
        let square = soft::mul::<W::Soft>(b, b, RoundingMode::Rne, &mut 0);
        check_any::<W>(square);
        check_any::<W>(square.wrapping_add(1) & W::MASK);
        check_any::<W>(square.wrapping_sub(1) & W::MASK);
    }
}

#[test]
fn single_square_roots_are_exact() {
    check_all::<Single>(20);
}

#[test]
fn double_square_roots_are_exact() {
    check_all::<Double>(21);
}
