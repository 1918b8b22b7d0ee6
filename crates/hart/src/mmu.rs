//! Address translation: Sv39 and Sv48 page-table walks (privileged specification, 10.3 to 10.5) and the checks that go
//! with each access.
//!
//! Svade: an access that finds A clear, or D clear for a write, is a page fault; software sets them.

use ram::OpenError;

use crate::csr::{satp, status};
use crate::hart::Hart;
use crate::mem::HostWord;
use crate::pmp::Access;
use crate::tlb::Context;
use crate::trap::{Cause, Mode, Trap};

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// Bits 54 to 63: reserved, Svpbmt and Svnapot, none of which exist here.
const RESERVED: u64 = 0x3ff << 54;
const PTE_BYTES: u64 = 8;

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Translation {
    /// Guest physical address.
    pub phys: u64,
    /// Size of the page that maps it, in bytes; 4096 when nothing is translated.
    pub size: u64,
}

enum WalkError {
    Page,
    /// The table cannot be read.
    Table(OpenError),
}

impl Access {
    fn page_fault(self) -> Cause {
        match self {
            Self::Read => Cause::LoadPage,
            Self::Write => Cause::StorePage,
            Self::Execute => Cause::FetchPage,
        }
    }

    /// The access fault of this kind of access.
    pub(crate) fn access_fault(self) -> Cause {
        match self {
            Self::Read => Cause::LoadAccess,
            Self::Write => Cause::StoreAccess,
            Self::Execute => Cause::FetchAccess,
        }
    }
}

impl Hart {
    /// The mode that accesses are made in: fetches in the hart's own, data as MPRV says.
    pub(crate) fn effective_mode(&self, access: Access) -> Mode {
        let status = self.csr.mstatus;
        if access != Access::Execute && status & status::MPRV != 0 {
            Mode::from_bits(status >> status::MPP_SHIFT & 3).unwrap_or(Mode::User)
        } else {
            self.mode
        }
    }

    /// Points the translation cache to the slots of the modes that are in force. After every change of the mode, and of
    /// `mstatus`.
    pub(crate) fn update_context(&mut self) {
        let context = |mode| match mode {
            Mode::User => Context::User,
            Mode::Supervisor => Context::Supervisor,
            Mode::Machine => Context::Machine,
        };
        let mut data = context(self.effective_mode(Access::Read));
        if data == Context::Supervisor && self.csr.mstatus & status::SUM != 0 {
            data = Context::SupervisorSum;
        }
        self.tlb.switch(data, context(self.mode));
    }

    /// Translates `addr` for an access, up to but without the protection of physical memory. `tval` of a fault is
    /// `addr` itself.
    pub(crate) fn translate(&self, addr: u64, access: Access) -> Result<Translation, Trap> {
        let mode = self.effective_mode(access);
        let levels = satp::levels(self.csr.satp);
        if mode == Mode::Machine || levels == 0 {
            return Ok(Translation { phys: addr, size: ram::PAGE_SIZE });
        }
        self.walk(addr, levels, |pte| self.permits(pte, access, mode)).map_err(|error| match error {
            WalkError::Page => Trap::new(access.page_fault(), addr),
            WalkError::Table(error) => Trap::unopened(&error, Trap::new(access.access_fault(), addr)),
        })
    }

    /// Where `addr` leads, for a debugger: whatever its page permits, and without a trace.
    pub(crate) fn peek(&self, addr: u64) -> Option<u64> {
        match satp::levels(self.csr.satp) {
            levels if levels != 0 && self.mode != Mode::Machine => {
                self.walk(addr, levels, |_| true).ok().map(|found| found.phys)
            }
            _ => Some(addr),
        }
    }

    fn walk(&self, addr: u64, levels: u32, permits: impl Fn(u64) -> bool) -> Result<Translation, WalkError> {
        let unused = 64 - (12 + 9 * levels);
        if ((addr << unused) as i64 >> unused) as u64 != addr {
            return Err(WalkError::Page);
        }
        let mut table = satp::table(self.csr.satp);
        for level in (0..levels).rev() {
            let shift = 12 + 9 * level;
            let pte = self.read_pte(table + (addr >> shift & 0x1ff) * PTE_BYTES)?;
            let bad = pte & VALID == 0 || pte & (READ | WRITE) == WRITE || pte & RESERVED != 0;
            if bad {
                return Err(WalkError::Page);
            }
            let next = (pte >> 10) << 12;
            if pte & (READ | EXECUTE) != 0 {
                let within = (1_u64 << shift) - 1;
                if next & within & !0xfff != 0 || !permits(pte) {
                    return Err(WalkError::Page);
                }
                return Ok(Translation { phys: next & !within | addr & within, size: within + 1 });
            }
            if pte & (USER | ACCESSED | DIRTY) != 0 {
                return Err(WalkError::Page);
            }
            table = next;
        }
        Err(WalkError::Page)
    }

    fn permits(&self, pte: u64, access: Access, mode: Mode) -> bool {
        let status = self.csr.mstatus;
        let user_page = pte & USER != 0;
        let reachable = match mode {
            Mode::User => user_page,
            _ => !user_page || access != Access::Execute && status & status::SUM != 0,
        };
        let readable = if status & status::MXR != 0 { READ | EXECUTE } else { READ };
        let needed = match access {
            Access::Read => pte & readable != 0,
            Access::Write => pte & WRITE != 0 && pte & DIRTY != 0,
            Access::Execute => pte & EXECUTE != 0,
        };
        reachable && needed && pte & ACCESSED != 0
    }

    fn read_pte(&self, addr: u64) -> Result<u64, WalkError> {
        if !self.csr.pmp.allows(addr, PTE_BYTES, Access::Read, Mode::Supervisor) {
            return Err(WalkError::Table(OpenError::Outside));
        }
        let word = HostWord::physical::<u64>(&self.ram, addr, Access::Read).map_err(WalkError::Table)?;
        Ok(word.load())
    }
}
