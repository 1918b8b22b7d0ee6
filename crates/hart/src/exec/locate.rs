//! From a pc to decoded code, the slow way: translate, look up the page, decode.

use std::sync::atomic::{Ordering, fence};

use ram::PAGE_SIZE;
use vmcore::{DebugHit, Exit};

use super::Leave;
use crate::block::Cursor;
use crate::decode::is_short;
use crate::hart::Hart;
use crate::mem::CodePage;
use crate::pmp::Access;
use crate::trap::{Cause, Trap};

impl Hart {
    /// The block at the pc, which a fetch that traps moves to the handler.
    #[cold]
    #[inline(never)]
    pub(super) fn locate(&mut self) -> Result<Cursor, Leave> {
        if self.points.alone {
            // The one instruction is done; what comes next may trap and must not.
            return Err(Leave::Look);
        }
        loop {
            if self.at_breakpoint() {
                return Err(Leave::Exit(Exit::Debug(DebugHit::Breakpoint)));
            }
            let trap = match self.block_at_pc() {
                Ok(cursor) => return Ok(cursor),
                Err(trap) => trap,
            };
            if self.take_trap(trap) {
                return Err(Leave::Exit(Exit::Signal));
            }
            if self.shared.gate().flags() != 0 {
                return Err(Leave::Look);
            }
        }
    }

    fn block_at_pc(&mut self) -> Result<Cursor, Trap> {
        if self.pc & self.misaligned_pc != 0 {
            return Err(Trap::new(Cause::MisalignedFetch, self.pc));
        }
        if self.points.in_page(self.pc) {
            return self.locate_single();
        }
        let found = self.translate(self.pc, Access::Execute)?;
        let fault = Trap::new(Cause::FetchAccess, self.pc);
        let Some(index) = self.ram.page_index(found.phys) else { return Err(fault) };
        if !self.csr.pmp.is_uniform(found.phys) {
            return self.locate_single();
        }
        let first = found.phys & !(PAGE_SIZE - 1);
        if !self.csr.pmp.allows(first, PAGE_SIZE, Access::Execute, self.mode) {
            return Err(fault);
        }
        let code = CodePage::new(&self.ram, first).map_err(|error| Trap::unopened(&error, fault))?;
        if self.pages.is_full() {
            self.tlb.flush_fetch();
            self.pages.clear();
        }
        let index = index as u32;
        let (page, new) = self.pages.page(&self.ram, index);
        if new {
            // Stores to the page have to take the slow path from here on, at every hart.
            self.tlb.drop_writes_to(index);
            self.harts.drop_write_entries(self.shared.id());
            // The page is read after the others can know of it; see `settle_code_writes`.
            fence(Ordering::SeqCst);
        }
        let off = (self.pc & (PAGE_SIZE - 1)) as u16;
        let cursor = self.pages.block(page, code, off, &self.extensions);
        if found.size > PAGE_SIZE {
            self.tlb.note_large(self.pc & !(found.size - 1), found.size);
        }
        self.tlb.fill_fetch(self.pc, page);
        Ok(cursor)
    }

    /// A block of the instruction at any pc alone, for one that is executed alone.
    pub(crate) fn locate_alone(&mut self) -> Result<Cursor, Trap> {
        if self.pc & self.misaligned_pc != 0 {
            return Err(Trap::new(Cause::MisalignedFetch, self.pc));
        }
        self.locate_few(1)
    }

    /// A block of the instruction at the pc alone, wherever it lies.
    pub(super) fn locate_single(&mut self) -> Result<Cursor, Trap> {
        self.locate_few(1)
    }

    /// A block of at most `most` instructions at the pc, good for one execution.
    pub(crate) fn locate_few(&mut self, most: u8) -> Result<Cursor, Trap> {
        let off = (self.pc & (PAGE_SIZE - 1)) as u16;
        let phys = self.fetch_phys(self.pc)?;
        let fault = Trap::new(Cause::FetchAccess, self.pc);
        let code = CodePage::new(&self.ram, phys).map_err(|error| Trap::unopened(&error, fault))?;
        let low = code.half(off);
        let ext = self.extensions;
        if off == 0xffe && !is_short(low) {
            // The second half is fetched from the next page, and its faults are reported at that address.
            let next = self.pc.wrapping_add(2);
            let phys = self.fetch_phys(next)?;
            let fault = Trap::new(Cause::FetchAccess, next);
            let code = CodePage::new(&self.ram, phys).map_err(|error| Trap::unopened(&error, fault))?;
            let bits = u32::from(low) | u32::from(code.half(0)) << 16;
            return Ok(self.pages.once(|page| page.decode_bits(bits, off, &ext)));
        }
        if !is_short(low) {
            self.fetch_phys(self.pc.wrapping_add(2))?;
        }
        let most = if self.csr.pmp.is_uniform(phys) { most } else { 1 };
        Ok(self.pages.once(|page| page.decode_once(code, off, most, &ext)))
    }

    /// Translates a fetch of 16 bits and checks that they may be fetched.
    fn fetch_phys(&self, pc: u64) -> Result<u64, Trap> {
        let phys = self.translate(pc, Access::Execute)?.phys;
        if self.ram.contains(phys, 2) && self.csr.pmp.allows(phys, 2, Access::Execute, self.mode) {
            Ok(phys)
        } else {
            Err(Trap::new(Cause::FetchAccess, pc))
        }
    }
}
