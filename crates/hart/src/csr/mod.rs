//! Control and status registers: who may touch which, what reads give and what writes leave (privileged specification,
//! chapters 2, 3 and 10; Sstc).

mod machine;
pub(crate) mod numbers;
pub(crate) mod satp;
pub(crate) mod status;
mod supervisor;

use serde::{Deserialize, Serialize};
use vmcore::mip;

use crate::hart::Hart;
use crate::pmp::Pmp;
use crate::trap::Mode;
use numbers as n;

/// The register does not exist, or not for this mode: illegal instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NoCsr;

/// What a write asks the hart to do before its next instruction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum After {
    /// Nothing.
    #[default]
    Nothing,
    /// See whether an interrupt is due.
    Interrupts,
}

/// Interrupts that supervisor mode can be given.
pub(crate) const SUPERVISOR_INTERRUPTS: u64 = mip::SSIP | mip::STIP | mip::SEIP;
/// All interrupts.
pub(crate) const INTERRUPTS: u64 = SUPERVISOR_INTERRUPTS | mip::MSIP | mip::MTIP | mip::MEIP;
/// `menvcfg.STCE`: supervisor mode has `stimecmp`.
pub(crate) const STCE: u64 = 1 << 63;
/// `menvcfg.FIOM` and `senvcfg.FIOM`: fences order I/O with memory; nothing to do here, where all fences do.
pub(crate) const FIOM: u64 = 1;
/// `mcounteren` and `scounteren`: cycle, time, instret.
pub(crate) const COUNTERS: u64 = 7;
/// `mcountinhibit`: cycle and instret.
pub(crate) const INHIBITABLE: u64 = 5;
/// Exceptions that may be delegated: all but those of machine mode itself.
pub(crate) const DELEGABLE: u64 = 0xb3ff;

/// The registers that hold something. Views of others (`sstatus`) and what lives in the shared part of the hart
/// (`mip`, `stimecmp`) are not here.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Csrs {
    pub mstatus: u64,
    pub mie: u64,
    pub mideleg: u64,
    pub medeleg: u64,
    pub mtvec: u64,
    pub mscratch: u64,
    pub mepc: u64,
    pub mcause: u64,
    pub mtval: u64,
    pub mcounteren: u64,
    pub mcountinhibit: u64,
    pub menvcfg: u64,
    /// Bits of `mip` that machine mode has written: STIP and SEIP.
    pub mip_written: u64,
    pub stvec: u64,
    pub sscratch: u64,
    pub sepc: u64,
    pub scause: u64,
    pub stval: u64,
    pub scounteren: u64,
    pub senvcfg: u64,
    pub satp: u64,
    pub fflags: u8,
    pub frm: u8,
    /// `mcycle` less the instructions retired; while inhibited, `mcycle` itself.
    pub cycle_offset: u64,
    /// `minstret` less the instructions retired; while inhibited, `minstret` itself.
    pub instret_offset: u64,
    pub pmp: Pmp,
}

impl Default for Csrs {
    fn default() -> Self {
        Self {
            mstatus: status::RESET,
            mie: 0,
            mideleg: 0,
            medeleg: 0,
            mtvec: 0,
            mscratch: 0,
            mepc: 0,
            mcause: 0,
            mtval: 0,
            mcounteren: 0,
            mcountinhibit: 0,
            menvcfg: 0,
            mip_written: 0,
            stvec: 0,
            sscratch: 0,
            sepc: 0,
            scause: 0,
            stval: 0,
            scounteren: 0,
            senvcfg: 0,
            satp: 0,
            fflags: 0,
            frm: 0,
            cycle_offset: 0,
            instret_offset: 0,
            pmp: Pmp::default(),
        }
    }
}

impl Hart {
    /// `mip` as the hart sees it.
    pub(crate) fn pending(&self) -> u64 {
        let mut lines = self.shared.pending();
        if self.firmware.is_none() && self.csr.menvcfg & STCE == 0 {
            lines &= !mip::STIP;
        }
        lines | self.csr.mip_written
    }

    /// Reads CSR `csr` with the access checks of the current mode; `write`: the instruction is going to write it too.
    pub(crate) fn read_csr(&self, csr: u32, write: bool) -> Result<u64, NoCsr> {
        self.check_access(csr, write)?;
        match csr {
            n::FFLAGS => Ok(self.csr.fflags.into()),
            n::FRM => Ok(self.csr.frm.into()),
            n::FCSR => Ok(u64::from(self.csr.frm) << 5 | u64::from(self.csr.fflags)),
            n::CYCLE => Ok(self.counter(self.csr.cycle_offset, 1)),
            n::TIME => Ok(self.read_time()),
            n::INSTRET => Ok(self.counter(self.csr.instret_offset, 4)),
            _ if csr >> 8 & 3 == 1 => self.read_supervisor_csr(csr),
            _ if csr >> 8 & 3 == 3 => self.read_machine_csr(csr),
            _ => Err(NoCsr),
        }
    }

    /// Writes CSR `csr`. The caller has called [`Hart::read_csr`] with `write` before, which checks the access.
    pub(crate) fn write_csr(&mut self, csr: u32, value: u64) -> Result<After, NoCsr> {
        match csr {
            n::FFLAGS => self.csr.fflags = value as u8 & 31,
            n::FRM => self.csr.frm = value as u8 & 7,
            n::FCSR => {
                self.csr.fflags = value as u8 & 31;
                self.csr.frm = (value >> 5) as u8 & 7;
            }
            _ if csr >> 8 & 3 == 1 => return self.write_supervisor_csr(csr, value),
            _ if csr >> 8 & 3 == 3 => return self.write_machine_csr(csr, value),
            _ => return Err(NoCsr),
        }
        self.csr.mstatus |= status::FS;
        Ok(After::Nothing)
    }

    fn check_access(&self, csr: u32, write: bool) -> Result<(), NoCsr> {
        let read_only = csr >> 10 == 3;
        if read_only && write || u64::from(csr >> 8 & 3) > self.mode as u64 {
            return Err(NoCsr);
        }
        let allowed = match csr {
            n::FFLAGS | n::FRM | n::FCSR => self.csr.mstatus & status::FS != 0,
            n::CYCLE | n::TIME | n::INSTRET => self.counter_enabled(csr - n::CYCLE),
            n::SATP => self.mode != Mode::Supervisor || self.csr.mstatus & status::TVM == 0,
            n::STIMECMP => {
                self.extensions.sstc
                    && (self.mode == Mode::Machine || self.csr.menvcfg & STCE != 0 && self.counter_enabled(1))
            }
            _ => true,
        };
        if allowed { Ok(()) } else { Err(NoCsr) }
    }

    fn counter_enabled(&self, bit: u32) -> bool {
        let machine = self.csr.mcounteren >> bit & 1 != 0;
        match self.mode {
            Mode::Machine => true,
            Mode::Supervisor => machine,
            Mode::User => machine && self.csr.scounteren >> bit & 1 != 0,
        }
    }

    fn read_time(&self) -> u64 {
        self.publish_retired();
        self.shared.time()
    }

    /// A counter's value at the instruction that reads it, which is not retired itself.
    fn counter(&self, offset: u64, inhibit: u64) -> u64 {
        if self.csr.mcountinhibit & inhibit != 0 {
            offset
        } else {
            offset.wrapping_add(self.retired_now().wrapping_sub(1))
        }
    }

    /// What a read of counter `csr` by no instruction gives beyond one by an instruction.
    pub(crate) fn outside_count(&self, csr: u32) -> u64 {
        let inhibit = match csr {
            n::CYCLE | n::MCYCLE => 1,
            n::INSTRET | n::MINSTRET => 4,
            _ => return 0,
        };
        u64::from(self.csr.mcountinhibit & inhibit == 0)
    }

    /// The offset that makes a counter read as `value` at the next instruction.
    fn counter_offset(&self, value: u64, inhibited: bool) -> u64 {
        if inhibited { value } else { value.wrapping_sub(self.retired_now()) }
    }
}
