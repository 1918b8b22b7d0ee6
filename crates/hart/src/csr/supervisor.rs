//! Supervisor registers (privileged specification, chapter 10).

use vmcore::mip;

use super::{After, COUNTERS, FIOM, NoCsr, numbers as n, satp, status};
use crate::hart::Hart;

impl Hart {
    pub(super) fn read_supervisor_csr(&self, csr: u32) -> Result<u64, NoCsr> {
        Ok(match csr {
            n::SSTATUS => status::read_supervisor(self.csr.mstatus),
            n::SIE => self.csr.mie & self.csr.mideleg,
            n::STVEC => self.csr.stvec,
            n::SCOUNTEREN => self.csr.scounteren,
            n::SENVCFG => self.csr.senvcfg,
            n::SSCRATCH => self.csr.sscratch,
            n::SEPC => self.csr.sepc & self.pc_mask(),
            n::SCAUSE => self.csr.scause,
            n::STVAL => self.csr.stval,
            n::SIP => self.pending() & self.csr.mideleg,
            n::STIMECMP => self.shared.stimecmp(),
            n::SATP => self.csr.satp,
            _ => return Err(NoCsr),
        })
    }

    pub(super) fn write_supervisor_csr(&mut self, csr: u32, value: u64) -> Result<After, NoCsr> {
        match csr {
            n::SSTATUS => {
                self.set_status(status::write_supervisor(self.csr.mstatus, value));
                return Ok(After::Interrupts);
            }
            n::SIE => {
                let mask = self.csr.mideleg;
                self.csr.mie = self.csr.mie & !mask | value & mask;
                return Ok(After::Interrupts);
            }
            n::SIP => {
                let mask = mip::SSIP & self.csr.mideleg;
                self.write_pending(mask, value);
                return Ok(After::Interrupts);
            }
            n::STIMECMP => {
                self.publish_retired();
                self.shared.set_stimecmp(value);
                return Ok(After::Interrupts);
            }
            n::STVEC => set_vector(&mut self.csr.stvec, value),
            n::SCOUNTEREN => self.csr.scounteren = value & COUNTERS,
            n::SENVCFG => self.csr.senvcfg = value & FIOM,
            n::SSCRATCH => self.csr.sscratch = value,
            n::SEPC => self.csr.sepc = value & !1,
            n::SCAUSE => self.csr.scause = value,
            n::STVAL => self.csr.stval = value,
            n::SATP => self.set_satp(value),
            _ => return Err(NoCsr),
        }
        Ok(After::Nothing)
    }

    /// Writes `satp`; a mode that does not exist leaves it as it is. All translations go, whatever the address space.
    fn set_satp(&mut self, value: u64) {
        if satp::is_valid(value, self.extensions.sv48) {
            self.csr.satp = value;
            self.tlb.flush_translated();
        }
    }

    /// Sets `mstatus` and what depends on it.
    pub(super) fn set_status(&mut self, new: u64) {
        let changed = self.csr.mstatus ^ new;
        self.csr.mstatus = new;
        if changed & status::MXR != 0 {
            self.tlb.flush_translated();
        }
        if changed & (status::MPRV | status::MPP | status::SUM) != 0 {
            self.update_context();
        }
    }

    /// Writes the `mask` bits of the pending interrupts that live in the shared part.
    pub(super) fn write_pending(&mut self, mask: u64, value: u64) {
        if mask & value != 0 {
            self.shared.set_pending(mask & value, true);
        }
        if mask & !value != 0 {
            self.shared.set_pending(mask & !value, false);
        }
    }

    /// The bits of an address in `mepc` or `sepc` that are seen.
    pub(crate) fn pc_mask(&self) -> u64 {
        if self.extensions.c { !1 } else { !3 }
    }
}

/// Writes a trap vector; the reserved modes leave it as it is.
pub(super) fn set_vector(vector: &mut u64, value: u64) {
    if value & 3 < 2 {
        *vector = value;
    }
}
