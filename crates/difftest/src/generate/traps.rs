//! Exceptions: illegal encodings, environment calls, misaligned atomics, holes in the memory map, unknown CSRs; and the
//! checks of what each privilege mode may do.

use super::Maker;
use crate::asm::Asm;
use crate::case::Mode;
use crate::compressed;
use crate::isa::{self, Fields, Set};
use crate::layout;

/// Guest physical addresses where `virt` has nothing.
const HOLES: [u64; 5] = [0x0800_0000, 0x8800_0000, 0x9000_0000, 0x1_2345_6000, 0x0080_0000_0000_0000];
/// CSRs that neither side has.
const NO_CSRS: [u32; 8] = [0x0ff, 0x1c0, 0x2ff, 0x3ff, 0x5c0, 0x800, 0xbff, 0xfff];
const FS: u64 = 3 << 13;

impl Maker {
    /// A whole case of traps: any mode, any delegation, changes of mode.
    pub(super) fn traps(&mut self) {
        self.any_mode();
        self.case.counteren = self.rng.below(8);
        self.case.medeleg = if self.rng.one_in(3) { 0 } else { self.delegation() };
        // Calls of user mode either change the mode, through machine mode, or are delegated.
        let switching = self.rng.one_in(2);
        if !switching && self.rng.one_in(2) {
            self.case.medeleg |= 1 << 8;
        }
        let checks = self.rng.one_in(2);
        self.case.drop_tval = checks;
        if checks && self.case.mode == Mode::User {
            // Illegal here, and only here: in the other modes it would wait for ever.
            let mut asm = Asm::new();
            asm.op("wfi", Fields::default());
            self.group(asm);
        }
        let mut mode = self.case.mode;
        for _ in 0..50 {
            match self.rng.below(8) {
                0 if switching => mode = self.switch_mode(),
                1 if checks => self.privilege_check(mode),
                2 if mode == Mode::Machine => mode = self.machine_return(),
                2 if checks && mode == Mode::Supervisor => mode = self.supervisor_return(),
                3 => self.compressed(),
                4 => self.integer(),
                _ => self.trap(),
            }
        }
    }

    /// Exceptions for supervisor mode: any but calls. The two causes of misaligned atomics go together (see
    /// `MisalignedAtomicCause` in `known`).
    pub(super) fn delegation(&mut self) -> u64 {
        let some = self.rng.bits64() & 0xb0ff;
        some & !(1 << 6) | (some >> 4 & 1) << 6
    }

    /// Asks the machine handler for another mode, and returns it.
    pub(super) fn switch_mode(&mut self) -> Mode {
        let mode = self.rng.pick(&[Mode::Machine, Mode::Supervisor, Mode::User]);
        self.switch_to(mode);
        mode
    }

    /// Asks the machine handler for `mode`.
    pub(super) fn switch_to(&mut self, mode: Mode) {
        let mut asm = Asm::new();
        // a7 and a6, whatever they were.
        if [16, 17].iter().any(|reg| !self.free.contains(reg)) {
            // One of them is the constants' or the counter's: saved in two registers that are free.
            let spare: Vec<u32> =
                self.free.iter().copied().filter(|reg| ![1, 16, 17].contains(reg)).take(2).collect();
            asm.i("addi", spare[0], 16, 0);
            asm.i("addi", spare[1], 17, 0);
            call(&mut asm, mode);
            asm.i("addi", 16, spare[0], 0);
            asm.i("addi", 17, spare[1], 0);
        } else {
            call(&mut asm, mode);
        }
        self.group(asm);
    }

    /// One instruction that traps in every mode.
    pub(super) fn trap(&mut self) {
        let mut asm = Asm::new();
        match self.rng.below(9) {
            0 => asm.word(self.illegal_word()),
            1 => asm.half(self.illegal_half()),
            2 => match self.rng.below(3) {
                0 => asm.op("ecall", Fields::default()),
                1 => asm.op("ebreak", Fields::default()),
                _ => asm.half(compressed::EBREAK),
            },
            3 => self.misaligned_atomic(&mut asm),
            4 | 5 => {
                let hole = self.hole();
                self.access(&mut asm, hole);
            }
            6 => {
                let (at, hole) = (self.free(), self.hole() & !1);
                asm.li(at, hole);
                asm.i("jalr", 1, at, 0);
            }
            7 => {
                let name = self.rng.pick(&["csrrw", "csrrs", "csrrci"]);
                // Nothing there; or there, but not to be written (cycle, mvendorid, mhartid).
                if self.rng.one_in(2) {
                    asm.csr(name, self.destination(), self.rng.pick(&NO_CSRS), self.source());
                } else {
                    asm.csr(
                        "csrrw",
                        self.destination(),
                        self.rng.pick(&[0xc00, 0xf11, 0xf14]),
                        self.source(),
                    );
                }
            }
            _ => self.bad_rounding(&mut asm),
        }
        self.group(asm);
    }

    fn hole(&mut self) -> u64 {
        self.rng.pick(&HOLES) + self.rng.below(0x800)
    }

    fn illegal_word(&mut self) -> u32 {
        loop {
            let mut word = self.rng.bits64() as u32 | 3;
            if self.rng.one_in(2) {
                // Near something legal: one bit of it changed.
                let insn = self.rng.pick(isa::TABLE);
                word = insn.bits | (word & !insn.mask());
                word ^= 1 << self.rng.below(32);
            }
            if word & 3 == 3 && word & 0x1f != 0x1f && isa::find(word).is_none() && !is_reserved_hint(word) {
                return word;
            }
        }
    }

    fn illegal_half(&mut self) -> u16 {
        loop {
            let half = self.rng.bits64() as u16;
            if half & 3 != 3 && compressed::is_illegal(half) {
                return half;
            }
        }
    }

    fn misaligned_atomic(&mut self, asm: &mut Asm) {
        let at = self.free();
        let insn = if self.rng.one_in(4) {
            isa::named(self.rng.pick(&["lr.w", "lr.d"]))
        } else {
            self.rng.pick(&isa::all_of(Set::Amo).collect::<Vec<_>>())
        };
        let odd = self.rng.range(1, 3) as u64;
        asm.li(at, layout::SCRATCH + self.rng.below(0x800) * 4 + odd);
        let rs2 = if insn.name.starts_with("lr") { 0 } else { self.source() };
        asm.word(insn.encode(&Fields { rd: self.destination(), rs1: at, rs2, ..Fields::default() }));
    }

    /// A load, a store or an atomic at `addr`, misaligned as it comes; atomics are brought into alignment.
    pub(super) fn access(&mut self, asm: &mut Asm, addr: u64) {
        let at = self.free();
        let set = self.rng.pick(&[
            Set::Load,
            Set::Store,
            Set::FloatLoad,
            Set::FloatStore,
            Set::Load,
            Set::Store,
            Set::Amo,
        ]);
        let insn = self.rng.pick(&isa::all_of(set).collect::<Vec<_>>());
        let addr = if set == Set::Amo { addr & !7 } else { addr };
        let imm = if set == Set::Amo { 0 } else { self.rng.range(-2048, 2047) };
        asm.li(at, addr.wrapping_sub(imm as u64));
        let rd = if set == Set::FloatLoad { self.source() } else { self.destination() };
        asm.word(insn.encode(&Fields { rd, rs1: at, rs2: self.source(), imm, ..Fields::default() }));
    }

    /// A computation whose dynamic rounding mode does not exist, and none that asks for it.
    fn bad_rounding(&mut self, asm: &mut Asm) {
        asm.csr("csrrwi", 0, 2, self.rng.range(5, 7) as u32);
        let name = self
            .rng
            .pick(&["fadd.s", "fmul.d", "fsqrt.d", "fcvt.w.d", "fmadd.s", "fcvt.s.l", "fsgnj.d", "feq.s"]);
        let rd = if isa::named(name).format.contains('d') { self.destination() } else { self.source() };
        let (rs1, rs2, rs3) = (self.source(), self.source(), self.source());
        asm.op(name, Fields { rd, rs1, rs2, rs3, imm: 0, rm: 7, aqrl: 0 });
        asm.csr("csrrwi", 0, 2, self.rng.below(5) as u32);
    }

    /// An instruction or a register that some modes may not use.
    fn privilege_check(&mut self, mode: Mode) {
        let mut asm = Asm::new();
        let rd = self.free();
        match self.rng.below(8) {
            0 if mode != Mode::Machine => asm.op("mret", Fields::default()),
            1 if mode == Mode::User => asm.op("sret", Fields::default()),
            2 => asm.op("sfence.vma", Fields { rs1: self.source(), rs2: self.source(), ..Fields::default() }),
            3 => {
                // mscratch and others of machine mode; in machine mode a read.
                let csr = self.rng.pick(&[0x300, 0x302, 0x341, 0x342, 0x343, 0x304, 0x3a0, 0x3b0, 0xf14]);
                asm.csr("csrrs", rd, csr, 0);
            }
            4 => asm.csr(
                "csrrs",
                rd,
                self.rng.pick(&[0x100, 0x104, 0x105, 0x140, 0x141, 0x142, 0x143, 0x180]),
                0,
            ),
            5 => {
                // cycle, time, instret as the counter enables have it; what is read is dropped.
                asm.csr("csrrs", 0, self.rng.pick(&[0xc00, 0xc01, 0xc02]), 0);
            }
            6 if mode != Mode::User => self.floats_off(&mut asm, mode),
            _ if mode == Mode::Machine => {
                // TVM, TW, TSR on or off; TSR not where the supervisor's handler has to return.
                let bits = if self.case.medeleg == 0 { 8 } else { 4 };
                asm.li(rd, self.rng.below(bits) << 20);
                asm.csr(self.rng.pick(&["csrrs", "csrrc"]), 0, 0x300, rd);
            }
            _ if mode == Mode::Supervisor => asm.csr("csrrs", rd, 0x180, 0),
            _ => asm.op("ecall", Fields::default()),
        }
        self.group(asm);
    }

    /// Floating-point instructions of each kind with FS off; a write turns FS dirty afterwards.
    fn floats_off(&mut self, asm: &mut Asm, mode: Mode) {
        let status = if mode == Mode::Machine { 0x300 } else { 0x100 };
        let (off, other) = self.two_free();
        asm.li(off, FS);
        asm.csr("csrrc", 0, status, off);
        match self.rng.below(4) {
            0 => asm.i("fld", 1, self.constants, 0),
            1 => asm.r("fmv.x.d", other, 3, 0),
            2 => asm.csr("csrrs", other, 3, 0),
            _ => asm.half(0x2002),
        }
        asm.csr("csrrs", other, status, 0);
        // Initial, then dirty through a write.
        asm.li(off, 1 << 13);
        asm.csr("csrrs", 0, status, off);
        asm.i("fld", 1, self.constants, 8);
        asm.csr("csrrs", off, status, 0);
        asm.r("sub", off, off, other);
    }

    /// `mret` to the next instruction, in any mode.
    fn machine_return(&mut self) -> Mode {
        let mode = self.rng.pick(&[Mode::Machine, Mode::Supervisor, Mode::User]);
        let mut asm = Asm::new();
        let (at, bits) = self.two_free();
        asm.li(bits, 3 << 11);
        asm.csr("csrrc", 0, 0x300, bits);
        asm.li(bits, (mode as u64) << 11 | self.rng.below(2) << 17);
        asm.csr("csrrs", 0, 0x300, bits);
        asm.op("auipc", Fields { rd: at, ..Fields::default() });
        asm.i("addi", at, at, 16);
        asm.csr("csrrw", 0, 0x341, at);
        asm.op("mret", Fields::default());
        if mode == Mode::Machine {
            asm.li(bits, 1 << 17);
            asm.csr("csrrc", 0, 0x300, bits);
        }
        self.group(asm);
        mode
    }

    /// `sret` to the next instruction, unless TSR forbids it.
    fn supervisor_return(&mut self) -> Mode {
        let mode = self.rng.pick(&[Mode::Supervisor, Mode::User]);
        let mut asm = Asm::new();
        let (at, bits) = self.two_free();
        asm.li(bits, 1 << 8);
        asm.csr(if mode == Mode::User { "csrrc" } else { "csrrs" }, 0, 0x100, bits);
        asm.op("auipc", Fields { rd: at, ..Fields::default() });
        asm.i("addi", at, at, 16);
        asm.csr("csrrw", 0, 0x141, at);
        asm.op("sret", Fields::default());
        self.group(asm);
        mode
    }
}

/// The call that asks for `mode`.
fn call(asm: &mut Asm, mode: Mode) {
    asm.li(17, layout::SWITCH_MODE);
    asm.li(16, mode as u64);
    asm.op("ecall", Fields::default());
}

/// Encodings that mean something, or nothing at all, beyond this crate's table: hints, and fields of `fence.i` that
/// are ignored.
fn is_reserved_hint(word: u32) -> bool {
    word & 0x707f == 0x100f
}
