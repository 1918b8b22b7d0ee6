//! Machine registers (privileged specification, chapter 3).

use vmcore::mip;

use super::supervisor::set_vector;
use super::{
    After, COUNTERS, DELEGABLE, FIOM, INHIBITABLE, INTERRUPTS, NoCsr, STCE, SUPERVISOR_INTERRUPTS,
    numbers as n, status,
};
use crate::hart::Hart;

/// `misa`: RV64 with I, M, A, F, D, S and U; C if it is there. Read-only.
fn misa(c: bool) -> u64 {
    let letter = |letter: u8| 1 << (letter - b'A');
    let base = b"AFDIMSU".iter().fold(2 << 62, |value, &at| value | letter(at));
    if c { base | letter(b'C') } else { base }
}

impl Hart {
    pub(super) fn read_machine_csr(&self, csr: u32) -> Result<u64, NoCsr> {
        Ok(match csr {
            n::MVENDORID | n::MARCHID | n::MIMPID | n::MCONFIGPTR => 0,
            n::MHARTID => self.shared.id().into(),
            n::MSTATUS => status::read(self.csr.mstatus),
            n::MISA => misa(self.extensions.c),
            n::MEDELEG => self.csr.medeleg,
            n::MIDELEG => self.csr.mideleg,
            n::MIE => self.csr.mie,
            n::MTVEC => self.csr.mtvec,
            n::MCOUNTEREN => self.csr.mcounteren,
            n::MENVCFG => self.csr.menvcfg,
            n::MCOUNTINHIBIT => self.csr.mcountinhibit,
            n::MSCRATCH => self.csr.mscratch,
            n::MEPC => self.csr.mepc & self.pc_mask(),
            n::MCAUSE => self.csr.mcause,
            n::MTVAL => self.csr.mtval,
            n::MIP => self.pending(),
            n::PMPCFG0 | n::PMPCFG2 => self.csr.pmp.config((csr - n::PMPCFG0) as usize),
            n::PMPADDR0..=n::PMPADDR15 => self.csr.pmp.address((csr - n::PMPADDR0) as usize),
            n::MCYCLE => self.counter(self.csr.cycle_offset, 1),
            n::MINSTRET => self.counter(self.csr.instret_offset, 4),
            n::MHPMCOUNTER3..=n::MHPMCOUNTER31 | n::MHPMEVENT3..=n::MHPMEVENT31 => 0,
            _ => return Err(NoCsr),
        })
    }

    pub(super) fn write_machine_csr(&mut self, csr: u32, value: u64) -> Result<After, NoCsr> {
        match csr {
            n::MSTATUS => self.set_status(status::write(self.csr.mstatus, value)),
            n::MISA | n::MHPMCOUNTER3..=n::MHPMCOUNTER31 | n::MHPMEVENT3..=n::MHPMEVENT31 => {}
            n::MEDELEG => self.csr.medeleg = value & DELEGABLE,
            n::MIDELEG => self.csr.mideleg = value & SUPERVISOR_INTERRUPTS,
            n::MIE => self.csr.mie = value & INTERRUPTS,
            n::MTVEC => set_vector(&mut self.csr.mtvec, value),
            n::MCOUNTEREN => self.csr.mcounteren = value & COUNTERS,
            n::MENVCFG => {
                let stce = if self.extensions.sstc { STCE } else { 0 };
                self.csr.menvcfg = value & (FIOM | stce);
                if value & stce != 0 {
                    // From here on STIP is the comparison's alone.
                    self.csr.mip_written &= !mip::STIP;
                }
            }
            n::MCOUNTINHIBIT => self.set_inhibit(value & INHIBITABLE),
            n::MSCRATCH => self.csr.mscratch = value,
            n::MEPC => self.csr.mepc = value & !1,
            n::MCAUSE => self.csr.mcause = value,
            n::MTVAL => self.csr.mtval = value,
            n::MIP => self.write_mip(value),
            n::PMPCFG0 | n::PMPCFG2 => {
                self.csr.pmp.set_config((csr - n::PMPCFG0) as usize, value);
                self.tlb.flush_all();
            }
            n::PMPADDR0..=n::PMPADDR15 => {
                self.csr.pmp.set_address((csr - n::PMPADDR0) as usize, value);
                self.tlb.flush_all();
            }
            n::MCYCLE => {
                self.csr.cycle_offset = self.counter_offset(value, self.csr.mcountinhibit & 1 != 0);
            }
            n::MINSTRET => {
                self.csr.instret_offset = self.counter_offset(value, self.csr.mcountinhibit & 4 != 0);
            }
            _ => return Err(NoCsr),
        }
        Ok(After::Interrupts)
    }

    /// SSIP, and SEIP and STIP beside what their lines say; STIP only while `stimecmp` does not drive it.
    fn write_mip(&mut self, value: u64) {
        self.write_pending(mip::SSIP, value);
        let stip = if self.csr.menvcfg & STCE == 0 { mip::STIP } else { 0 };
        self.csr.mip_written = value & (mip::SEIP | stip);
    }

    /// `csrrs` (`set`) or `csrrc` of `sip` or `mip`: touches the named bits alone. A write of the whole register would
    /// make an external interrupt's level stick in SEIP (privileged specification, 3.1.9), and lose an SSIP that another
    /// hart raises between the read and the write.
    pub(crate) fn change_pending(&mut self, csr: u32, bits: u64, set: bool) -> After {
        let value = if set { bits } else { 0 };
        if csr == n::SIP {
            self.write_pending(bits & mip::SSIP & self.csr.mideleg, value);
        } else {
            self.write_pending(bits & mip::SSIP, value);
            let stip = if self.csr.menvcfg & STCE == 0 { mip::STIP } else { 0 };
            let written = bits & (mip::SEIP | stip);
            self.csr.mip_written = self.csr.mip_written & !written | value & written;
        }
        After::Interrupts
    }

    fn set_inhibit(&mut self, new: u64) {
        let old = self.csr.mcountinhibit;
        let retired = self.retired_now();
        let turn = |offset: &mut u64, bit: u64| match (old & bit != 0, new & bit != 0) {
            (false, true) => *offset = offset.wrapping_add(retired),
            (true, false) => *offset = offset.wrapping_sub(retired),
            _ => {}
        };
        turn(&mut self.csr.cycle_offset, 1);
        turn(&mut self.csr.instret_offset, 4);
        self.csr.mcountinhibit = new;
    }
}
