//! Operands worth trying: a list of special values and a repeatable stream of biased random ones.

use hart::fpu::soft::Format;

/// Zeros, the edges of the subnormal and normal ranges, numbers around one, around halves and around the
/// integer limits, infinities, and NaNs with payloads; each with both signs.
pub fn specials<F: Format>() -> Vec<u64> {
    let one = (F::BIAS as u64) << F::FRAC_BITS;
    let power = |exp: i32| ((exp + F::BIAS) as u64) << F::FRAC_BITS;
    let min_normal = 1 << F::FRAC_BITS;
    let mut values = vec![
        0,
        1,
        2,
        3,
        F::FRAC_MASK / 2 + 1,
        F::FRAC_MASK,
        min_normal,
        min_normal + 1,
        2 * min_normal,
        power(-1) - 1,
        power(-1),
        power(-1) + 1,
        one - 1,
        one,
        one + 1,
        one + (F::QUIET | F::QUIET >> 1),
        power(1) + F::QUIET,
        power(1) + F::QUIET / 2,
        power(F::FRAC_BITS as i32) + 1,
        power(F::FRAC_BITS as i32 - 1) + 1,
        F::INF - 1,
        F::INF - min_normal,
        F::INF,
        F::QNAN,
        F::QNAN | 5,
        F::INF | 1,
        F::INF | (F::QUIET - 1),
    ];
    let negative: Vec<u64> = values.iter().map(|x| x | F::SIGN).collect();
    values.extend(negative);
    values
}

/// Numbers around the limits of the integer types, for conversions.
pub fn around_integers<F: Format>() -> Vec<u64> {
    let power = |exp: i32| ((exp + F::BIAS) as u64) << F::FRAC_BITS;
    let mut values = Vec::new();
    for exp in [-2, -1, 0, 1, 2, 7, 22, 23, 24, 30, 31, 32, 51, 52, 53, 62, 63, 64, 65] {
        // The three lowest and highest significands, and those with a half or a quarter at each place.
        for tail in [0, 1, 2, F::FRAC_MASK, F::FRAC_MASK - 1, F::QUIET] {
            values.push(power(exp) | tail);
        }
        for place in 0..F::FRAC_BITS {
            let all_above = F::FRAC_MASK << place & F::FRAC_MASK;
            values.extend([power(exp) | 1 << place, power(exp) | all_above]);
        }
    }
    let negative: Vec<u64> = values.iter().map(|x| x | F::SIGN).collect();
    values.extend(negative);
    values
}

/// A SplitMix64 generator: the same seed gives the same operands.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// A fraction: dense, with a few set bits, or with a run of ones, for the latter two round or tie more
    /// often.
    fn fraction<F: Format>(&mut self) -> u64 {
        let dense = self.bits() & F::FRAC_MASK;
        match self.below(4) {
            0 => dense,
            1 => dense & self.bits() & self.bits() & self.bits(),
            2 => (F::FRAC_MASK << self.below(u64::from(F::FRAC_BITS))) & F::FRAC_MASK,
            _ => dense & (F::FRAC_MASK << self.below(u64::from(F::FRAC_BITS))),
        }
    }

    /// A number whose biased exponent is `near` give or take `spread`, held inside the encoding.
    pub fn number_near<F: Format>(&mut self, near: i64, spread: u64) -> u64 {
        let top = (1i64 << F::EXP_BITS) - 2;
        let exp = (near + self.below(2 * spread + 1) as i64 - spread as i64).clamp(0, top) as u64;
        let sign = if self.bits() & 1 == 1 { F::SIGN } else { 0 };
        sign | exp << F::FRAC_BITS | self.fraction::<F>()
    }

    /// Three operands: uniform bits, close exponents, or exponents whose product or quotient lands near the
    /// smallest normal number, the largest one, or the third operand.
    pub fn triple<F: Format>(&mut self) -> [u64; 3] {
        let bias = i64::from(F::BIAS);
        let precision = u64::from(F::FRAC_BITS) + 1;
        match self.below(6) {
            0 => [(); 3].map(|()| self.bits() & (F::SIGN | (F::SIGN - 1))),
            1 => {
                let near = self.below(2 * bias as u64) as i64;
                [(); 3].map(|()| self.number_near::<F>(near, 2))
            }
            2 => [(); 3].map(|()| self.number_near::<F>(bias, precision)),
            choice => {
                let target = match choice {
                    3 => 1,
                    4 => 2 * bias,
                    _ => self.below(2 * bias as u64) as i64,
                };
                let first = self.below(2 * bias as u64) as i64;
                let a = self.number_near::<F>(first, 0);
                // For a product the exponents sum to the target, for a quotient they differ by it.
                let second = if self.bits() & 1 == 0 { target + bias - first } else { first - target + bias };
                let b = self.number_near::<F>(second, 2);
                let spread = if self.bits() & 1 == 0 { 2 } else { 2 * precision };
                let c = self.number_near::<F>(target, spread);
                [a, b, c]
            }
        }
    }
}
