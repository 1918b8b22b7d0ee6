//! Makes cases from seeds.
//!
//! Every case keeps some registers for itself, which no generated instruction writes: a base that points into the
//! scratch memory, often off alignment; x2 likewise, for the stack-relative 16-bit forms; a pointer to the constants; and a
//! counter for loops. All others are free.

mod compute;
mod control;
mod memory;
mod paging;
mod privileged;
mod registers;
mod traps;

use crate::asm::Asm;
use crate::case::{Case, Class, Mode};
use crate::layout;
use crate::rng::Rng;

/// The case of `class` that `seed` stands for.
pub fn case(class: Class, seed: u64) -> Case {
    let mut maker = Maker::new(class, seed);
    match class {
        Class::Integer => maker.repeat(60, |maker| maker.integer()),
        Class::Bits => {
            maker.repeat(60, |maker| if maker.rng.one_in(4) { maker.integer() } else { maker.bits() })
        }
        Class::Compressed => maker.repeat(60, |maker| maker.compressed()),
        Class::Atomic => maker.repeat(40, |maker| maker.atomic()),
        Class::Single => maker.repeat(60, |maker| maker.float(false)),
        Class::Double => maker.repeat(60, |maker| maker.float(true)),
        Class::Memory => maker.repeat(60, |maker| maker.memory()),
        Class::Branch => maker.repeat(30, |maker| maker.branching()),
        Class::SelfModifying => maker.repeat(12, |maker| maker.self_modifying()),
        Class::Csr => maker.repeat(50, |maker| maker.csr()),
        Class::Trap => maker.traps(),
        Class::Interrupt => maker.interrupts(),
        Class::Pmp => maker.protection(),
        Class::Sv39 => maker.paging(3),
        Class::Sv48 => maker.paging(4),
        Class::Mixed => maker.repeat(60, |maker| maker.anything()),
    }
    maker.case
}

/// A case in the making.
struct Maker {
    rng: Rng,
    case: Case,
    /// Points into the scratch memory, among x8 to x15.
    base: u32,
    /// Points into the middle of the constants.
    constants: u32,
    /// Counts loops.
    counter: u32,
    /// Registers that may be written.
    free: Vec<u32>,
}

impl Maker {
    fn new(class: Class, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ (class as u64).wrapping_mul(0x00c1_a550_0000_0001));
        let base = 8 + rng.below(8) as u32;
        let mut others: Vec<u32> = (3..32).filter(|&reg| reg != base).collect();
        let mut take = |rng: &mut Rng| others.swap_remove(rng.below(others.len() as u64) as usize);
        let (constants, counter) = (take(&mut rng), take(&mut rng));
        let mut free = others;
        free.push(1);
        free.sort_unstable();
        let mut case = Case::new(class, seed);
        for reg in &free {
            case.x[*reg as usize] = rng.value();
        }
        for value in &mut case.f {
            *value = match rng.below(3) {
                0 => rng.bits64() | 0xffff_ffff << 32,
                1 => rng.value(),
                _ => (rng.bits64() & !(0x7ff << 52)) | (1000 + rng.below(50)) << 52,
            };
        }
        case.fcsr = rng.below(5) << 5 | rng.below(32);
        let mut place = |from: u64, room: u64| {
            let offset = from + rng.below(room);
            layout::SCRATCH + if rng.one_in(2) { offset & !7 } else { offset }
        };
        // From x2 the 16-bit forms reach 504 bytes up, from the base 248; others 64 either way.
        case.x[base as usize] = place(0x100, 0x700);
        case.x[2] = place(0xd00, 0x600);
        case.x[constants as usize] = layout::CONSTANTS + 2048;
        Self { rng, case, base, constants, counter, free }
    }

    fn repeat(&mut self, groups: usize, mut make: impl FnMut(&mut Self)) {
        for _ in 0..groups {
            make(self);
        }
    }

    /// Adds what `asm` holds as one group.
    fn group(&mut self, asm: Asm) {
        self.case.groups.push(asm.finish());
    }

    /// A register that may be written.
    fn free(&mut self) -> u32 {
        self.rng.pick(&self.free)
    }

    /// Two different ones.
    fn two_free(&mut self) -> (u32, u32) {
        let first = self.free();
        loop {
            let second = self.free();
            if second != first {
                return (first, second);
            }
        }
    }

    /// A destination: a free register, now and then x0.
    fn destination(&mut self) -> u32 {
        if self.rng.one_in(24) { 0 } else { self.free() }
    }

    /// A source: any register.
    fn source(&mut self) -> u32 {
        self.rng.below(32) as u32
    }

    /// A group of any of the kinds that need no set-up.
    fn anything(&mut self) {
        match self.rng.below(12) {
            0 => self.integer(),
            1 => self.bits(),
            2 | 3 => self.compressed(),
            4 => self.atomic(),
            5 => self.float(false),
            6 => self.float(true),
            7 | 8 => self.memory(),
            9 => self.branching(),
            10 => self.trap(),
            _ => self.registers_of_floats(),
        }
    }

    /// Starts the case in any mode.
    fn any_mode(&mut self) {
        self.case.mode = self.rng.pick(&[Mode::Machine, Mode::Supervisor, Mode::User]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_case_and_another_does_not() {
        for class in Class::ALL {
            let [one, again, other] = [7, 7, 8].map(|seed| case(class, seed));
            assert_eq!(one.code(), again.code(), "{class:?}");
            assert_eq!(one.x, again.x, "{class:?}");
            assert_ne!(one.code(), other.code(), "{class:?}");
            assert!(one.code().len() as u64 * 2 + 8 < layout::CODE_SIZE, "{class:?}");
        }
    }
}
