//! Computation: integer, bit manipulation, 16-bit forms, floating point.

use super::Maker;
use crate::asm::Asm;
use crate::compressed::{self, Shape, Short};
use crate::isa::{self, Fields, Insn, Set};

/// `fflags`, `frm`, `fcsr`.
const FFLAGS: u32 = 1;
const FRM: u32 = 2;
const FCSR: u32 = 3;

impl Maker {
    /// Fills the fields of a computing instruction at random and adds it to `asm`.
    fn computing(&mut self, asm: &mut Asm, insn: &Insn) {
        let any_float = |maker: &mut Self| maker.rng.below(32) as u32;
        let rd = if insn.format.contains('d') { self.destination() } else { any_float(self) };
        let imm = match self.rng.below(3) {
            0 => self.rng.range(-4, 4),
            _ => self.rng.bits64() as i32 as i64,
        };
        let rm = if self.rng.one_in(3) { 7 } else { self.rng.below(5) as u32 };
        let fields =
            Fields { rd, rs1: self.source(), rs2: self.source(), rs3: any_float(self), imm, rm, aqrl: 0 };
        asm.word(insn.encode(&fields));
    }

    fn any_of(&mut self, sets: &[Set]) -> &'static Insn {
        let all: Vec<&'static Insn> = isa::TABLE.iter().filter(|insn| sets.contains(&insn.set)).collect();
        self.rng.pick(&all)
    }

    /// Gives a register an operand that is likely to matter.
    pub(super) fn operand(&mut self, asm: &mut Asm) {
        let rd = self.free();
        if self.rng.one_in(2) {
            asm.i("ld", rd, self.constants, self.rng.range(-256, 255) * 8);
        } else {
            asm.li(rd, self.rng.value());
        }
    }

    /// An integer instruction, sometimes with a new operand.
    pub(super) fn integer(&mut self) {
        self.computed(&[Set::Integer, Set::Multiply]);
    }

    /// A bit-manipulation instruction, sometimes with a new operand.
    pub(super) fn bits(&mut self) {
        self.computed(&[Set::Bits]);
    }

    fn computed(&mut self, sets: &[Set]) {
        let mut asm = Asm::new();
        if self.rng.one_in(4) {
            self.operand(&mut asm);
        }
        let insn = self.any_of(sets);
        self.computing(&mut asm, insn);
        if self.rng.one_in(8) {
            // Two shifts in a row, which an interpreter may want to join.
            let (rd, by) = (self.free(), self.rng.range(0, 63));
            asm.i("slli", rd, rd, by);
            let back = if self.rng.one_in(2) { by } else { self.rng.range(0, 63) };
            asm.i(if self.rng.one_in(3) { "srai" } else { "srli" }, rd, rd, back);
        }
        self.group(asm);
    }

    /// A 16-bit instruction, sometimes with a new operand.
    pub(super) fn compressed(&mut self) {
        let mut asm = Asm::new();
        if self.rng.one_in(6) {
            self.operand(&mut asm);
        }
        let insn = self.rng.pick(compressed::TABLE);
        let half = self.short(&insn);
        asm.half(half);
        self.group(asm);
    }

    fn short(&mut self, insn: &Short) -> u16 {
        let shorts: Vec<u32> = self.free.iter().copied().filter(|reg| (8..16).contains(reg)).collect();
        let mut half = insn.bits | (self.rng.bits64() as u16 & !insn.mask);
        let mut set = |mask: u16, value: u32, shift: u32| half = half & !mask | (value as u16) << shift;
        let (long, small) = (0x0f80, 0x0380);
        match insn.shape {
            Shape::Rd | Shape::RdNonzero | Shape::LoadSp => set(long, self.free(), 7),
            Shape::RdRs2 => {
                set(long, self.free(), 7);
                set(0x7c, 1 + self.rng.below(31) as u32, 2);
            }
            Shape::Short | Shape::ShortShort => set(small, self.rng.pick(&shorts) - 8, 7),
            Shape::Addi4spn => {
                set(0x1c, self.rng.pick(&shorts) - 8, 2);
                if half & 0x1fe0 == 0 {
                    half |= 0x20;
                }
            }
            Shape::Load => {
                set(small, self.base - 8, 7);
                set(0x1c, self.rng.pick(&shorts) - 8, 2);
            }
            Shape::FloatLoad | Shape::Store => set(small, self.base - 8, 7),
            Shape::FloatLoadSp | Shape::StoreSp => {}
        }
        if insn.shape == Shape::RdNonzero && half & 0x107c == 0 {
            half |= 4;
        }
        half
    }

    /// A floating-point instruction, often with new operands, sometimes with the flags read behind it.
    pub(super) fn float(&mut self, double: bool) {
        let mut asm = Asm::new();
        for _ in 0..self.rng.below(3) {
            let rd = self.rng.below(32) as u32;
            let at = self.rng.range(-256, 255) * 8;
            asm.i(if double || self.rng.one_in(2) { "fld" } else { "flw" }, rd, self.constants, at);
        }
        if self.rng.one_in(6) {
            self.operand(&mut asm);
        }
        if self.rng.one_in(8) {
            asm.csr("csrrwi", self.destination(), FRM, self.rng.below(5) as u32);
        }
        if self.rng.one_in(3) {
            asm.csr("csrrwi", self.destination(), FFLAGS, 0);
        }
        let insn = self.any_of(&[if double { Set::Double } else { Set::Single }]);
        self.computing(&mut asm, insn);
        if self.rng.one_in(3) {
            let rd = self.free();
            asm.csr("csrrs", rd, FFLAGS, 0);
            asm.s("sb", rd, self.rng.range(-64, 64), self.base);
        }
        self.group(asm);
    }

    /// Writes and reads `fflags`, `frm` and `fcsr` in all forms; the rounding mode ends legal.
    pub(super) fn registers_of_floats(&mut self) {
        let mut asm = Asm::new();
        for _ in 0..=self.rng.below(2) {
            let name = self.rng.pick(&["csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci"]);
            let csr = self.rng.pick(&[FFLAGS, FRM, FCSR]);
            asm.csr(name, self.destination(), csr, self.source());
        }
        asm.csr("csrrwi", self.destination(), FRM, self.rng.below(5) as u32);
        self.group(asm);
    }
}
