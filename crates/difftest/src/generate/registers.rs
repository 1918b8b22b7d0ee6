//! Control and status registers in machine mode: legal values, read back.

use super::Maker;
use crate::asm::Asm;
use crate::layout;

/// `mstatus`: all that can be written but MPRV, UXL and SXL (SIE MIE SPIE MPIE SPP MPP FS SUM MXR TVM TW TSR).
const MSTATUS: u64 = 0x007c_79aa;
/// `mstatus` as cases start with it.
const QUIET: u64 = 1 << 13;

/// A register, the bits that both sides define alike, and what it is left at.
struct Plain {
    csr: u32,
    mask: u64,
    rest: u64,
}

const fn plain(csr: u32, mask: u64, rest: u64) -> Plain {
    Plain { csr, mask, rest }
}

const PLAIN: &[Plain] = &[
    // mepc, mcause, mtval, sscratch, sepc, scause, stval
    plain(0x341, !1, 0),
    plain(0x342, u64::MAX, 0),
    plain(0x343, u64::MAX, 0),
    plain(0x140, u64::MAX, 0),
    plain(0x141, !1, 0),
    plain(0x142, u64::MAX, 0),
    plain(0x143, u64::MAX, 0),
    // mscratch, mtvec, stvec: the runtime's own are put back
    plain(0x340, u64::MAX, layout::CONTEXT),
    plain(0x105, u64::MAX, 0),
    // medeleg, mideleg, mie, mip (all but MSIP, MTIP and MEIP, which are wires)
    plain(0x302, 0xb3ff, 0),
    plain(0x303, 0xaaa, 0),
    plain(0x304, 0xaaa, 0),
    plain(0x344, 0x222, 0),
    // mcounteren, scounteren, mcountinhibit: cycle, time, instret
    plain(0x306, 7, 7),
    plain(0x106, 7, 7),
    plain(0x320, 7, 0),
    // menvcfg, senvcfg: FIOM, STCE
    plain(0x30a, 1 << 63 | 1, 0),
    plain(0x10a, 1, 0),
    // sie, sip: with whatever is delegated
    plain(0x104, 0x222, 0),
    plain(0x144, 0x222, 0),
];

impl Maker {
    /// Writes a register in one of the six ways, reads it back, stores what was read, and leaves it quiet.
    pub(super) fn csr(&mut self) {
        match self.rng.below(8) {
            0 | 1 => self.status(),
            2 => self.translation(),
            3 => self.protection_registers(),
            4 => self.vector(),
            5 => self.registers_of_floats(),
            _ => {
                let entry = &PLAIN[self.rng.below(PLAIN.len() as u64) as usize];
                let value = self.rng.value();
                self.written_and_read(entry.csr, value, entry.mask, entry.rest);
            }
        }
    }

    fn written_and_read(&mut self, csr: u32, value: u64, mask: u64, rest: u64) {
        let mut asm = Asm::new();
        let (new, old) = self.two_free();
        asm.li(new, value);
        match self.rng.below(4) {
            0 => asm.csr("csrrs", old, csr, new),
            1 => asm.csr("csrrc", old, csr, new),
            2 => {
                let name = self.rng.pick(&["csrrwi", "csrrsi", "csrrci"]);
                asm.csr(name, old, csr, self.rng.below(32) as u32);
            }
            _ => asm.csr("csrrw", old, csr, new),
        }
        asm.csr("csrrs", new, csr, 0);
        self.put_back(&mut asm, csr, mask, rest, [old, new]);
        self.group(asm);
    }

    /// Masks and stores what was read, then leaves `rest` in the register.
    fn put_back(&mut self, asm: &mut Asm, csr: u32, mask: u64, rest: u64, [old, new]: [u32; 2]) {
        let at = self.rng.range(-6, 6) * 8;
        let other = (1..32).find(|reg| self.free.contains(reg) && ![old, new].contains(reg)).unwrap_or(old);
        if mask != u64::MAX {
            asm.li(other, mask);
            asm.r("and", old, old, other);
            asm.r("and", new, new, other);
        }
        asm.li(other, rest);
        asm.csr("csrrw", 0, csr, other);
        asm.s("sd", old, at, self.base);
        asm.s("sd", new, at + 8, self.base);
    }

    /// `mstatus` and `sstatus`.
    fn status(&mut self) {
        let mut asm = Asm::new();
        let (new, old) = self.two_free();
        asm.li(new, if self.rng.one_in(2) { self.rng.bits64() } else { self.rng.value() } & MSTATUS);
        let csr = self.rng.pick(&[0x300, 0x100]);
        asm.csr(self.rng.pick(&["csrrw", "csrrs", "csrrc"]), old, csr, new);
        asm.csr("csrrs", new, 0x100, 0);
        asm.csr("csrrs", old, 0x300, 0);
        self.put_back(&mut asm, 0x300, u64::MAX, QUIET, [old, new]);
        self.group(asm);
    }

    /// `satp`, with modes that exist and modes that do not.
    fn translation(&mut self) {
        let mode = self.rng.pick(&[0, 8, 9, 1, 7, 11, 15]);
        let value = mode << 60 | self.rng.bits64() >> 4;
        self.written_and_read(0x180, value, u64::MAX, 0);
    }

    /// `pmpaddr` and `pmpcfg`, without locks and without the reserved write-only permission.
    fn protection_registers(&mut self) {
        if self.rng.one_in(2) {
            let csr = 0x3b1 + self.rng.below(14) as u32;
            let value = self.rng.value();
            self.written_and_read(csr, value, u64::MAX >> 10, 0);
        } else {
            let mut asm = Asm::new();
            let (new, old) = self.two_free();
            let csr = self.rng.pick(&[0x3a0, 0x3a2]);
            let bytes = (0..8).fold(0, |value, _| value << 8 | self.permission());
            asm.li(new, bytes);
            asm.csr("csrrw", old, csr, new);
            asm.csr("csrrs", new, csr, 0);
            self.put_back(&mut asm, csr, u64::MAX, if csr == 0x3a0 { 0x1f } else { 0 }, [old, new]);
            self.group(asm);
        }
    }

    /// One byte of `pmpcfg`.
    pub(super) fn permission(&mut self) -> u64 {
        let access = self.rng.pick(&[0, 1, 3, 4, 5, 7]);
        access | self.rng.below(4) << 3
    }

    /// `mtvec`.
    fn vector(&mut self) {
        let mut asm = Asm::new();
        let (new, old) = self.two_free();
        asm.li(new, self.rng.value());
        asm.csr("csrrw", old, 0x305, new);
        asm.csr("csrrs", new, 0x305, 0);
        asm.csr("csrrw", 0, 0x305, old);
        asm.s("sd", new, 0, self.base);
        self.group(asm);
    }
}
