//! A small random generator whose sequence is a function of the seed alone, on every host and in every version.

/// SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixing function.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits64() % bound
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// 64 bits of the kind that finds mistakes: small, next to a power of two, sparse, sign-extended, or just random.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.range(-4, 4) as u64,
            1 => (1_u64 << self.below(64)).wrapping_add(self.range(-2, 2) as u64),
            2 => (1_u64 << self.below(64)).wrapping_neg().wrapping_add(self.range(-2, 2) as u64),
            3 => self.bits64() as i32 as u64,
            4 => self.bits64() as u32 as u64,
            5 => self.bits64() & self.bits64() & self.bits64(),
            6 => self.pick(&[
                i64::MIN as u64,
                i64::MAX as u64,
                i32::MIN as u64,
                i32::MAX as u64,
                u32::MAX.into(),
                0,
            ]),
            _ => self.bits64(),
        }
    }
}
