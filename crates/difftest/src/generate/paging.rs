//! Page tables with every kind of entry, right and wrong, and accesses and fetches through them from all modes.
//!
//! One superpage maps RAM one to one for supervisor mode, so that its trap handler works whatever the case does. The
//! code is mapped for user mode and for supervisor mode at addresses of their own. Beside that there are slots: data slots
//! lead to the scratch memory, or nowhere; code slots lead to pages of returns.

use super::Maker;
use crate::asm::Asm;
use crate::case::{Blob, Mode};
use crate::isa::Fields;
use crate::layout;

const V: u64 = 1;
const R: u64 = 2;
const W: u64 = 4;
const X: u64 = 8;
const U: u64 = 16;
const G: u64 = 32;
const A: u64 = 64;
const D: u64 = 128;

/// Where user mode finds the code.
const USER_CODE: u64 = 0x1000_0000;
/// Where supervisor mode finds it.
const SUPERVISOR_CODE: u64 = 0xffff_ffff_c000_0000;
/// Pages of code that are mapped: more than any case has.
const CODE_PAGES: u64 = 4;
const SUM: u64 = 1 << 18;
const MXR: u64 = 1 << 19;

/// Page tables in the making, the first of them the root.
struct Tables {
    pages: Vec<[u64; 512]>,
    levels: u32,
}

/// A virtual page that something is tried on.
#[derive(Clone, Copy)]
struct Slot {
    va: u64,
    /// Level of its leaf: 0 a page, 1 a megapage, 2 a gigapage.
    level: u32,
    /// Guest physical address of its leaf.
    leaf: u64,
    /// Leads to pages of returns rather than to data.
    code: bool,
    /// May lead out of RAM, and gets aligned accesses only: see `CrossingOrder` in `known`.
    hole: bool,
}

impl Tables {
    fn new(levels: u32) -> Self {
        Self { pages: vec![[0; 512]], levels }
    }

    /// Puts `entry` where the walk for `va` comes to `level`; returns its guest physical address.
    fn put(&mut self, va: u64, level: u32, entry: u64) -> u64 {
        let mut table = 0;
        for at in (level + 1..self.levels).rev() {
            let index = (va >> (12 + 9 * at) & 511) as usize;
            if self.pages[table][index] & (R | W | X) != 0 || self.pages[table][index] == 0 {
                self.pages[table][index] = address(self.pages.len()) >> 12 << 10 | V;
                self.pages.push([0; 512]);
            }
            table = ((self.pages[table][index] >> 10 << 12) - layout::TABLES) as usize / 4096;
        }
        let index = (va >> (12 + 9 * level) & 511) as usize;
        self.pages[table][index] = entry;
        address(table) + 8 * index as u64
    }
}

fn address(table: usize) -> u64 {
    layout::TABLES + 4096 * table as u64
}

fn entry(phys: u64, flags: u64) -> u64 {
    phys >> 12 << 10 | flags
}

impl Maker {
    /// A case with page tables of `levels` levels.
    pub(super) fn paging(&mut self, levels: u32) {
        self.case.scratch_len = layout::SCRATCH_SIZE;
        self.returning_pages();
        let mut tables = Tables::new(levels);
        tables.put(layout::RAM, 2, entry(layout::RAM, V | R | W | X | G | A | D));
        for page in 0..CODE_PAGES {
            let at = page * 4096;
            tables.put(USER_CODE + at, 0, entry(layout::CODE + at, V | R | X | U | A | D));
            tables.put(SUPERVISOR_CODE + at, 0, entry(layout::CODE + at, V | R | X | A));
        }
        let slots = self.slots(&mut tables);
        let words = tables.pages.concat();
        self.case.blobs.push(Blob { at: layout::TABLES, words });
        let supervisor = if self.rng.one_in(3) { layout::CODE } else { SUPERVISOR_CODE };
        self.case.bases = [USER_CODE, supervisor, 0, layout::CODE];
        let asid = self.rng.pick(&[0, 1, 0xffff]);
        self.case.satp = u64::from(levels + 5) << 60 | asid << 44 | layout::TABLES >> 12;
        self.case.medeleg = if self.rng.one_in(2) { 0 } else { self.delegation() };
        self.any_mode();
        let mut mode = self.case.mode;
        for _ in 0..45 {
            let slot = self.rng.pick(&slots);
            match self.rng.below(12) {
                0 => mode = self.switch_mode(),
                1 | 2 if mode != Mode::User => self.change_entry(slot),
                3 if mode != Mode::User => self.toggle(mode),
                4 if mode == Mode::Machine => self.translation_off_and_on(),
                5 | 6 => self.fetch_from(slot),
                7 => self.odd_address(slot),
                _ => self.access_slot(slot, mode),
            }
        }
    }

    fn slots(&mut self, tables: &mut Tables) -> Vec<Slot> {
        let mut slots = Vec::new();
        for index in 0..14_u64 {
            let level = self.rng.pick(&[0, 0, 0, 0, 0, 1, 1, 2]);
            let code = self.rng.one_in(3);
            let hole = self.rng.one_in(3);
            let high = self.rng.one_in(3);
            // A gigapage of its own for each, in either half of the address space, and none where `virt` has a device:
            // machine mode meets these addresses untranslated.
            let top = if high { u64::MAX << 38 } else { 0 };
            let mut va = top | (40 + index) << 30;
            if tables.levels == 4 && self.rng.one_in(2) {
                va = (if high { u64::MAX << 47 } else { 0 })
                    | (1 + self.rng.below(200)) << 39
                    | (40 + index) << 30;
            }
            if level < 2 {
                va |= self.rng.below(512) << 21;
            }
            if level == 0 {
                va |= self.rng.below(511) << 12;
            }
            let neighbour = level == 0 && self.rng.one_in(2);
            for va in [Some(va), neighbour.then_some(va + 4096)].into_iter().flatten() {
                let slot = Slot { va, level, leaf: 0, code, hole };
                let entry = self.entry_for(slot);
                slots.push(Slot { leaf: tables.put(va, level, entry), ..slot });
            }
        }
        slots
    }

    /// An entry for `slot`: right, or wrong in one way or several.
    fn entry_for(&mut self, slot: Slot) -> u64 {
        let page = if slot.code {
            layout::RETURNS + self.rng.below(layout::RETURN_PAGES - 1) * 4096
        } else {
            layout::SCRATCH + self.rng.below(7) * 4096
        };
        let mut phys = page & (u64::MAX << (12 + 9 * slot.level));
        let mut flags = V | R | W | A | D;
        if slot.code {
            flags = V | X | A | self.rng.pick(&[0, R, R | W | D]);
        }
        if self.rng.one_in(2) {
            flags |= U;
        }
        match self.rng.below(14) {
            0 => flags &= !V,
            1 => flags &= !A,
            2 => flags &= !D,
            3 => flags &= !W,
            4 => flags &= !R,
            5 => flags &= !(R | W | X),
            6 if slot.hole => phys = self.rng.pick(&[0x9000_0000, 0x00ff_0000_0000_0000, 0x0800_0000]),
            7 if slot.level != 0 => phys |= 4096 << self.rng.below(9 * u64::from(slot.level)),
            8 => return entry(phys, flags) | 1 << self.rng.range(54, 63),
            9 => flags |= G | self.rng.below(4) << 8,
            _ => {}
        }
        if !slot.code && flags & (R | W | X) != 0 && self.rng.one_in(4) {
            // Executable data: nothing fetches from there, but MXR makes it readable.
            flags |= X;
        }
        entry(phys, flags)
    }

    /// An address in `slot` that its right entry would translate to where it should go.
    fn address_in(&mut self, slot: Slot) -> u64 {
        let target = if slot.code { layout::RETURNS } else { layout::SCRATCH };
        let offset = target & !(u64::MAX << (12 + 9 * slot.level));
        let at = match self.rng.below(4) {
            0 => 4096 - self.rng.below(8),
            1 => self.rng.below(8),
            _ => self.rng.below(4096),
        };
        // Of a larger page, one of the first pages; the last page of the scratch memory stays spare for accesses that cross.
        let page = if slot.level == 0 { 0 } else { self.rng.below(if slot.code { 3 } else { 7 }) };
        let at = if slot.hole { at & 0xff8 } else { at };
        (slot.va & (u64::MAX << (12 + 9 * slot.level))) + offset + page * 4096 + at
    }

    fn access_slot(&mut self, slot: Slot, mode: Mode) {
        let addr = self.address_in(slot);
        let mut asm = Asm::new();
        let other = mode == Mode::Machine;
        if other {
            self.begin_other_mode(&mut asm);
        }
        if slot.code {
            let (at, rd) = (self.free(), self.destination());
            asm.li(at, addr);
            asm.i(self.rng.pick(&["lb", "lhu", "lw", "ld"]), rd, at, 0);
        } else {
            self.access(&mut asm, addr);
        }
        if other {
            self.end_other_mode(&mut asm);
        }
        self.group(asm);
    }

    /// A jump into a code slot, which returns or faults. In machine mode to the page itself.
    fn fetch_from(&mut self, slot: Slot) {
        if !slot.code {
            return self.integer();
        }
        let mut asm = Asm::new();
        let at = self.free();
        let addr = self.address_in(slot) & !1;
        asm.li(at, addr);
        asm.i("jalr", 1, at, 0);
        self.group(asm);
    }

    /// An address that is not a sign-extended one.
    fn odd_address(&mut self, slot: Slot) {
        let mut asm = Asm::new();
        let wrong = self.address_in(slot) ^ 1 << self.rng.range(48, 63);
        if self.rng.one_in(3) {
            let at = self.free();
            asm.li(at, wrong & !1);
            asm.i("jalr", 1, at, 0);
        } else {
            self.access(&mut asm, wrong);
        }
        self.group(asm);
    }

    /// Replaces the slot's entry and tells the hart so. `sfence.vma` for the address, or for everything.
    fn change_entry(&mut self, slot: Slot) {
        let mut asm = Asm::new();
        let (at, value) = self.two_free();
        asm.li(at, slot.leaf);
        asm.li(value, self.entry_for(slot));
        asm.s("sd", value, 0, at);
        let rs1 = if self.rng.one_in(2) {
            asm.li(at, self.address_in(slot));
            at
        } else {
            0
        };
        asm.op("sfence.vma", Fields { rs1, ..Fields::default() });
        self.group(asm);
    }

    /// SUM and MXR on or off.
    fn toggle(&mut self, mode: Mode) {
        let mut asm = Asm::new();
        let bits = self.free();
        asm.li(bits, self.rng.pick(&[SUM, MXR, SUM | MXR]));
        let csr = if mode == Mode::Machine { 0x300 } else { 0x100 };
        asm.csr(self.rng.pick(&["csrrs", "csrrc"]), 0, csr, bits);
        self.group(asm);
    }

    /// Without translation an access is made as another mode; then translation comes back.
    fn translation_off_and_on(&mut self) {
        let mut asm = Asm::new();
        let satp = self.case.satp;
        let bits = self.free();
        asm.csr("csrrwi", 0, 0x180, 0);
        asm.op("sfence.vma", Fields::default());
        let addr = layout::SCRATCH + self.rng.below(0x1000);
        self.begin_other_mode(&mut asm);
        self.access(&mut asm, addr);
        self.end_other_mode(&mut asm);
        asm.li(bits, satp);
        asm.csr("csrrw", 0, 0x180, bits);
        asm.op("sfence.vma", Fields::default());
        self.group(asm);
    }
}
