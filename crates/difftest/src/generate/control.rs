//! Branches, jumps and loops, and code that is written while it runs.

use super::Maker;
use crate::asm::Asm;
use crate::compressed;
use crate::isa::{self, Fields, Set};

impl Maker {
    /// A few simple instructions to jump over or to repeat.
    fn filler(&mut self, asm: &mut Asm) {
        for _ in 0..=self.rng.below(3) {
            match self.rng.below(3) {
                0 => {
                    let rd = self.free();
                    asm.half(0x0001 | (rd as u16) << 7 | (self.rng.below(31) as u16 + 1) << 2);
                }
                1 => {
                    let (rd, rs1, rs2) = (self.free(), self.source(), self.source());
                    asm.r(self.rng.pick(&["add", "xor", "sub", "sltu", "mul"]), rd, rs1, rs2);
                }
                _ => {
                    let (rd, rs1) = (self.free(), self.source());
                    asm.i("addi", rd, rs1, self.rng.range(-2048, 2047));
                }
            }
        }
    }

    /// One construct: a branch or a jump over something, or a loop around it.
    pub(super) fn branching(&mut self) {
        let mut asm = Asm::new();
        match self.rng.below(7) {
            0 | 1 => self.forward_branch(&mut asm),
            2 => self.short_branch(&mut asm),
            3 => {
                let mut body = Asm::new();
                self.filler(&mut body);
                let link = if self.rng.one_in(2) { 0 } else { self.free() };
                asm.op("jal", Fields { rd: link, imm: 4 + body.len() as i64, ..Fields::default() });
                append(&mut asm, body);
            }
            4 => self.register_jump(&mut asm),
            _ => self.bounded_loop(&mut asm),
        }
        self.group(asm);
    }

    fn forward_branch(&mut self, asm: &mut Asm) {
        let mut body = Asm::new();
        self.filler(&mut body);
        let insn = self.rng.pick(&isa::all_of(Set::Branch).collect::<Vec<_>>());
        let (rs1, rs2) = (self.source(), self.source());
        let rs2 = if self.rng.one_in(4) { rs1 } else { rs2 };
        asm.word(insn.encode(&Fields { rs1, rs2, imm: 4 + body.len() as i64, ..Fields::default() }));
        append(asm, body);
    }

    fn short_branch(&mut self, asm: &mut Asm) {
        let mut body = Asm::new();
        self.filler(&mut body);
        let offset = 2 + body.len() as i32;
        let half = match self.rng.below(3) {
            0 => compressed::jump(offset),
            kind => compressed::branch(kind == 1, self.rng.below(8) as u16, offset),
        };
        asm.half(half);
        append(asm, body);
    }

    /// `auipc` and a jump through the register, which may link into itself.
    fn register_jump(&mut self, asm: &mut Asm) {
        let mut body = Asm::new();
        self.filler(&mut body);
        let (reg, link) = self.two_free();
        let link = self.rng.pick(&[0, reg, link]);
        asm.op("auipc", Fields { rd: reg, ..Fields::default() });
        if self.rng.one_in(2) {
            // Bit 0 of the sum is dropped.
            let odd = self.rng.range(0, 1);
            asm.i("jalr", link, reg, 8 + body.len() as i64 + odd);
        } else {
            asm.i("addi", reg, reg, 10 + body.len() as i64);
            asm.half(compressed::jump_register(reg as u16, self.rng.one_in(2) && self.free.contains(&1)));
        }
        append(asm, body);
    }

    fn bounded_loop(&mut self, asm: &mut Asm) {
        let mut body = Asm::new();
        self.filler(&mut body);
        if self.rng.one_in(2) {
            self.forward_branch(&mut body);
        }
        let counter = self.counter;
        asm.i("addi", counter, 0, self.rng.range(1, 12));
        body.i("addi", counter, counter, -1);
        let back = -(body.len() as i64);
        append(asm, body);
        asm.op("bne", Fields { rs1: counter, rs2: 0, imm: back, ..Fields::default() });
    }

    /// Writes an instruction over one that lies ahead, or over one that has run in a loop, with `fence.i` between.
    pub(super) fn self_modifying(&mut self) {
        let mut asm = Asm::new();
        let (at, new) = self.two_free();
        let rd = (3..32).find(|reg| self.free.contains(reg) && ![at, new].contains(reg)).unwrap_or(1);
        let insn = isa::named("addi");
        let target = self.rng.pick(&[rd, 0]);
        let word = insn.encode(&Fields {
            rd: target,
            rs1: rd,
            imm: self.rng.range(-2048, 2047),
            ..Fields::default()
        });
        // 0: addi counter, x0, 2; loop: the instruction that gets replaced; the store; fence.i; back.
        let counter = self.counter;
        asm.i("addi", counter, 0, self.rng.range(1, 4));
        let mut prepare = Asm::new();
        prepare.li(new, word.into());
        append(&mut asm, prepare);
        asm.op("auipc", Fields { rd: at, ..Fields::default() });
        let patched = asm.len() as i64;
        asm.i("addi", rd, rd, 1);
        asm.s("sw", new, 4, at);
        if self.rng.one_in(2) {
            self.filler_but(&mut asm, &[at, new]);
        }
        asm.op("fence.i", Fields::default());
        // Another instruction for the next turn.
        asm.li(rd, 0x0010_0000);
        asm.r("add", new, new, rd);
        asm.i("addi", counter, counter, -1);
        let back = patched - asm.len() as i64;
        asm.op("bne", Fields { rs1: counter, rs2: 0, imm: back, ..Fields::default() });
        self.group(asm);
    }

    fn filler_but(&mut self, asm: &mut Asm, but: &[u32]) {
        let rd = self.free();
        if !but.contains(&rd) {
            asm.r("xor", rd, self.source(), self.source());
        }
    }
}

/// Appends instructions that have no labels.
fn append(asm: &mut Asm, body: Asm) {
    for half in body.finish() {
        asm.half(half);
    }
}
