//! Interrupts that the program raises itself, and physical memory protection.

use super::Maker;
use crate::asm::Asm;
use crate::case::Mode;
use crate::isa::Fields;
use crate::layout;

/// SSIP, STIP, SEIP.
const SUPERVISOR: u64 = 0x222;

impl Maker {
    /// A case that enables, raises, delegates and takes interrupts in all modes.
    pub(super) fn interrupts(&mut self) {
        // Sets in which falling priority is rising number; see `InterruptPriority` in `known`.
        let set = self.rng.pick(&[0x2, 0x20, 0x200, 0x22]);
        self.case.mideleg = self.rng.bits64() & SUPERVISOR;
        let mut mode = Mode::Machine;
        for _ in 0..40 {
            match (self.rng.below(6), mode) {
                (0, _) => mode = self.switch_mode(),
                (1, _) => self.integer(),
                (_, Mode::Machine) => self.machine_interrupt(set),
                (_, Mode::Supervisor) => self.supervisor_interrupt(set),
                (_, Mode::User) => {
                    self.integer();
                    mode = self.switch_mode();
                }
            }
        }
    }

    fn machine_interrupt(&mut self, set: u64) {
        let mut asm = Asm::new();
        let (bits, read) = self.two_free();
        match self.rng.below(6) {
            0 => {
                // Global enables: MIE, SIE, MPIE, SPIE.
                asm.li(bits, self.rng.bits64() & 0xaa);
                asm.csr(self.rng.pick(&["csrrs", "csrrc"]), read, 0x300, bits);
            }
            1 | 2 => {
                asm.li(bits, self.rng.bits64() & set);
                asm.csr(self.rng.pick(&["csrrs", "csrrs", "csrrw"]), 0, 0x304, bits);
            }
            3 | 4 => {
                asm.li(bits, self.rng.bits64() & set);
                asm.csr(self.rng.pick(&["csrrs", "csrrs", "csrrc"]), 0, 0x344, bits);
                asm.csr("csrrs", read, 0x344, 0);
                asm.i("andi", read, read, SUPERVISOR as i64);
            }
            _ => {
                // `wfi` with something pending and enabled, the global enable off.
                asm.csr("csrrci", 0, 0x300, 8);
                asm.li(bits, set);
                asm.csr("csrrs", 0, 0x304, bits);
                asm.csr("csrrs", 0, 0x344, bits);
                asm.op("wfi", Fields::default());
                asm.csr("csrrc", 0, 0x344, bits);
            }
        }
        self.group(asm);
    }

    fn supervisor_interrupt(&mut self, set: u64) {
        let mut asm = Asm::new();
        let (bits, read) = self.two_free();
        match self.rng.below(3) {
            0 => asm.csr(self.rng.pick(&["csrrsi", "csrrci"]), read, 0x100, 2),
            1 => {
                asm.li(bits, self.rng.bits64() & set);
                asm.csr(self.rng.pick(&["csrrs", "csrrw"]), read, 0x104, bits);
            }
            _ => {
                asm.li(bits, self.rng.bits64() & set);
                asm.csr(self.rng.pick(&["csrrs", "csrrc"]), read, 0x144, bits);
                asm.csr("csrrs", read, 0x144, 0);
            }
        }
        self.group(asm);
    }

    /// A case that sets protection up in machine mode and tries it from the others, and by MPRV. Accesses are aligned: see
    /// `MisalignedProtection` in `known`.
    pub(super) fn protection(&mut self) {
        let mut mode = Mode::Machine;
        self.set_protection();
        for _ in 0..40 {
            match (self.rng.below(6), mode) {
                (0, _) => mode = self.switch_mode(),
                (1, Mode::Machine) => self.set_protection(),
                (2, Mode::Machine) => self.as_other_mode(),
                (3, _) => self.protected_fetch(),
                (4, _) => self.integer(),
                _ => {
                    let mut asm = Asm::new();
                    let addr = layout::SCRATCH + self.rng.below(0x200) * 8;
                    self.access(&mut asm, addr);
                    self.group(asm);
                }
            }
        }
    }

    /// Entries 0 to 6 over parts of the scratch memory and of the pages to jump to; entry 7 allows the rest.
    fn set_protection(&mut self) {
        let mut asm = Asm::new();
        let (value, _) = self.two_free();
        for entry in 0..7 {
            let page = self.rng.pick(&[layout::SCRATCH, layout::SCRATCH, layout::RETURNS]);
            let addr = (page + self.rng.below(0x1000)) >> 2;
            let ones = self.rng.below(10);
            // A run of ones at the end is the size of a NAPOT region.
            asm.li(value, addr | ((1 << ones) - 1));
            asm.csr("csrrw", 0, 0x3b0 + entry, value);
        }
        asm.li(value, u64::MAX >> 10);
        asm.csr("csrrw", 0, 0x3b7, value);
        let config = (0..7).fold(0x1f, |config, _| {
            // A top-of-range entry must not shut out code and runtime: only natural regions, four bytes, or off.
            let kind = self.rng.pick(&[0, 2, 3, 3, 3]);
            config << 8 | (self.permission() & 7) | kind << 3
        });
        asm.li(value, config);
        asm.csr("csrrw", 0, 0x3a0, value);
        asm.op("sfence.vma", Fields::default());
        self.group(asm);
    }

    /// An access of machine mode with the rights of another.
    pub(super) fn as_other_mode(&mut self) {
        let addr = layout::SCRATCH + self.rng.below(0x200) * 8;
        let mut asm = Asm::new();
        self.begin_other_mode(&mut asm);
        self.access(&mut asm, addr);
        self.end_other_mode(&mut asm);
        self.group(asm);
    }

    pub(super) fn begin_other_mode(&mut self, asm: &mut Asm) {
        let bits = self.free();
        asm.li(bits, 3 << 11);
        asm.csr("csrrc", 0, 0x300, bits);
        asm.li(bits, 1 << 17 | self.rng.pick(&[0, 1, 1, 3]) << 11);
        asm.csr("csrrs", 0, 0x300, bits);
    }

    pub(super) fn end_other_mode(&mut self, asm: &mut Asm) {
        let bits = self.free();
        asm.li(bits, 1 << 17);
        asm.csr("csrrc", 0, 0x300, bits);
    }

    fn protected_fetch(&mut self) {
        self.returning_pages();
        let mut asm = Asm::new();
        let at = self.free();
        asm.li(at, layout::RETURNS + 2 + self.rng.below(0x800) * 2);
        asm.i("jalr", 1, at, 0);
        self.group(asm);
    }

    /// Puts the pages of returns into the case. Each begins with an illegal instruction and ends with the first half of
    /// a 32-bit return, whose second half that illegal instruction is.
    pub(super) fn returning_pages(&mut self) {
        if self.case.blobs.iter().any(|blob| blob.at == layout::RETURNS) {
            return;
        }
        const RET: u64 = crate::compressed::RET as u64;
        let all = RET << 48 | RET << 32 | RET << 16 | RET;
        let mut words = vec![all; (layout::RETURN_PAGES * 512) as usize];
        for page in words.chunks_mut(512) {
            page[0] = all & !0xffff;
            page[511] = all & !(0xffff << 48) | 0x8067 << 48;
        }
        // Behind the last page there is no second half.
        if let Some(last) = words.last_mut() {
            *last = all;
        }
        self.case.blobs.push(crate::case::Blob { at: layout::RETURNS, words });
    }
}
