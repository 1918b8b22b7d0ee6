//! Nanoseconds per operation of the floating-point entry points, with inexact accrued (the common state of a
//! program) and without, and of the integer path. Run with `cargo run --release --example fpu_bench`.

use std::hint::black_box;
use std::time::Instant;

use hart::fpu::soft::{self, F64};
use hart::fpu::{NX, RoundingMode};
use hart::fpu::{add32, add64, div32, div64, fma32, fma64, mul32, mul64, sqrt64};

const LENGTH: usize = 1024;
const ROUNDS: usize = 4000;

/// Times an operation over independent operands between one and two; `flags` is set anew before each, so that
/// a state without NX stays so.
fn time(name: &str, flags: u8, a: &[u64], operation: impl Fn(u64, u64, u64, &mut u8) -> u64) {
    let mut sum = 0u64;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for window in black_box(a).windows(3) {
            let mut accrued = black_box(flags);
            sum ^= operation(window[0], window[1], window[2], &mut accrued);
        }
    }
    let ns = start.elapsed().as_nanos() as f64 / (ROUNDS * (LENGTH - 2)) as f64;
    black_box(sum);
    println!("{name:24} {ns:6.2} ns/op");
}

fn main() {
    let rne = RoundingMode::Rne;
    // Full fractions, so that results are inexact; and small integers, so that they are exact.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 12
    };
    let full: Vec<u64> = (0..LENGTH).map(|_| 0x3ff0_0000_0000_0000 | next()).collect();
    let small: Vec<u64> = (0..LENGTH).map(|_| ((next() % 1000 + 1) as f64).to_bits()).collect();
    let single: Vec<u64> = full.iter().map(|&x| u64::from((f64::from_bits(x) as f32).to_bits())).collect();

    for (state, flags, values) in [("NX accrued", NX, &full), ("exact, NX clear", 0, &small)] {
        println!("-- binary64, {state}");
        time("add64", flags, values, |a, b, _, f| add64(a, b, rne, f));
        time("mul64", flags, values, |a, b, _, f| mul64(a, b, rne, f));
        time("fma64", flags, values, |a, b, c, f| fma64(a, b, c, rne, f));
    }
    time("div64, NX accrued", NX, &full, |a, b, _, f| div64(a, b, rne, f));
    time("sqrt64, NX accrued", NX, &full, |a, _, _, f| sqrt64(a, rne, f));
    println!("-- binary32, NX accrued");
    time("add32", NX, &single, |a, b, _, f| add32(a as u32, b as u32, rne, f).into());
    time("mul32", NX, &single, |a, b, _, f| mul32(a as u32, b as u32, rne, f).into());
    time("fma32", NX, &single, |a, b, c, f| fma32(a as u32, b as u32, c as u32, rne, f).into());
    time("div32", NX, &single, |a, b, _, f| div32(a as u32, b as u32, rne, f).into());
    println!("-- binary64, integer path");
    time("soft::add", 0, &full, |a, b, _, f| soft::add::<F64>(a, b, rne, f));
    time("soft::mul", 0, &full, |a, b, _, f| soft::mul::<F64>(a, b, rne, f));
    time("soft::fma", 0, &full, |a, b, c, f| soft::fma::<F64>(a, b, c, rne, f));
    time("soft::div", 0, &full, |a, b, _, f| soft::div::<F64>(a, b, rne, f));
    time("soft::sqrt", 0, &full, |a, _, _, f| soft::sqrt::<F64>(a, rne, f));
}
