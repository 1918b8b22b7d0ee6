//! The entry points, which may use the host's arithmetic, give what the integer arithmetic gives, whatever
//! flags are accrued before.

use hart::fpu::soft;
use hart::fpu::{NV, NX, RoundingMode};

use crate::formats::{Double, Single, Width};
use crate::operands::Random;

const TRIPLES: usize = 1_000_000;

fn compare<W: Width>(seed: u64) {
    let mut random = Random(seed);
    for i in 0..TRIPLES {
        let [a, b, c] = random.triple::<W::Soft>();
        // Nearest-even is where the host takes part; the other modes get their share to catch a missing
        // check.
        let rm = if i % 4 == 0 { RoundingMode::ALL[i / 4 % 5] } else { RoundingMode::Rne };
        for before in [0, NX, NV, NV | NX] {
            let same = |what: &str, entry: &dyn Fn(&mut u8) -> u64, soft: &dyn Fn(&mut u8) -> u64| {
                let (mut got, mut want) = (before, before);
                let (r, s) = (entry(&mut got), soft(&mut want));
                assert!((r, got) == (s, want), "{what} {rm:?} {a:x} {b:x} {c:x} after {before:x}");
            };
            same("add", &|f| W::ADD(a, b, rm, f), &|f| soft::add::<W::Soft>(a, b, rm, f));
            same("sub", &|f| W::SUB(a, b, rm, f), &|f| soft::sub::<W::Soft>(a, b, rm, f));
            same("mul", &|f| W::MUL(a, b, rm, f), &|f| soft::mul::<W::Soft>(a, b, rm, f));
            same("div", &|f| W::DIV(a, b, rm, f), &|f| soft::div::<W::Soft>(a, b, rm, f));
            same("fma", &|f| W::FMA(a, b, c, rm, f), &|f| soft::fma::<W::Soft>(a, b, c, rm, f));
            same("sqrt", &|f| W::SQRT(a, rm, f), &|f| soft::sqrt::<W::Soft>(a, rm, f));
        }
    }
}

#[test]
fn single_host_path_equals_integer_path() {
    compare::<Single>(30);
}

#[test]
fn double_host_path_equals_integer_path() {
    compare::<Double>(31);
}
