//! Loads, stores and atomics in the scratch memory.

use super::Maker;
use crate::asm::Asm;
use crate::isa::{self, Fields, Set};
use crate::layout;

impl Maker {
    /// A load or a store, of integers or floats, next to the base or x2, or over a page's end.
    pub(super) fn memory(&mut self) {
        let mut asm = Asm::new();
        let (base, reach) = match self.rng.below(4) {
            0 => (2, 64),
            1 => {
                let reg = self.free();
                asm.li(reg, layout::SCRATCH + 0x1000 - self.rng.below(16));
                (reg, 8)
            }
            _ => (self.base, 64),
        };
        let imm = self.rng.range(-reach, reach);
        let set =
            self.rng.pick(&[Set::Load, Set::Store, Set::Load, Set::Store, Set::FloatLoad, Set::FloatStore]);
        let insn = self.rng.pick(&isa::all_of(set).collect::<Vec<_>>());
        let rd = if set == Set::Load { self.destination() } else { self.source() };
        asm.word(insn.encode(&Fields { rd, rs1: base, rs2: self.source(), imm, ..Fields::default() }));
        self.group(asm);
    }

    /// An AMO, or `lr` and `sc`, on an aligned word; sometimes an `sc` that must fail.
    pub(super) fn atomic(&mut self) {
        let mut asm = Asm::new();
        let (at, value) = self.two_free();
        let place = layout::SCRATCH + self.rng.below(64) * 8;
        let aqrl = self.rng.below(4) as u32;
        if self.rng.one_in(3) {
            let double = self.rng.one_in(2);
            asm.li(at, place + if double { 0 } else { 4 * self.rng.below(2) });
            let [lr, sc] = if double { ["lr.d", "sc.d"] } else { ["lr.w", "sc.w"] };
            let kind = self.rng.below(6);
            // Kind 0 has no reservation; if one is left from before, it is not for this page.
            if kind != 0 {
                asm.op(lr, Fields { rd: value, rs1: at, aqrl, ..Fields::default() });
                asm.i("addi", value, value, 1);
            } else {
                asm.i("addi", at, at, 0x600);
            }
            if kind == 1 {
                asm.i("addi", at, at, 0x400);
            }
            let twice = kind == 2;
            for _ in 0..=u32::from(twice) {
                let rd = self.destination();
                let rd = if rd == at { value } else { rd };
                asm.op(sc, Fields { rd, rs1: at, rs2: self.source(), aqrl, ..Fields::default() });
            }
            // Whatever the first one did, no reservation is left.
            asm.op(sc, Fields { rd: 0, rs1: at, rs2: 0, ..Fields::default() });
        } else {
            let insn = self.rng.pick(&isa::all_of(Set::Amo).collect::<Vec<_>>());
            let double = insn.bits & 0x1000 != 0;
            asm.li(at, place + if double { 0 } else { 4 * self.rng.below(2) });
            if self.rng.one_in(3) {
                self.operand(&mut asm);
                asm.li(at, place + if double { 0 } else { 4 * self.rng.below(2) });
            }
            let fields =
                Fields { rd: self.destination(), rs1: at, rs2: self.source(), aqrl, ..Fields::default() };
            asm.word(insn.encode(&fields));
        }
        self.group(asm);
    }
}
