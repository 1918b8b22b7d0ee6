//! The supervisor binary interface that the machine monitor itself offers: SBI 2.0, outside guest memory.
//!
//! Supervisor code calls it by `ecall`; it acts on the harts' shared parts and on guest memory, and leaves what concerns
//! the machine's life (SRST, SUSP) to the machine thread as a request. Everything is as in the RISC-V SBI specification,
//! version 2.0, and every error is one that the specification names for the call.
//!
//! | extension | functions |
//! |---|---|
//! | BASE | all |
//! | TIME | `set_timer` |
//! | sPI | `send_ipi` |
//! | RFNC | `fence.i`, `sfence.vma`, `sfence.vma` with ASID; the hypervisor fences are not supported |
//! | HSM | start, stop, status, suspend of the default retentive type |
//! | SRST | shutdown, cold and warm reboot |
//! | DBCN | write, read, write byte |
//! | SUSP | suspend to RAM |
//!
//! Invariants:
//! * a call reads the world and acts at once; no call blocks, loops over guest-chosen lengths or keeps state of its own;
//! * a hart that has stopped itself is STOPPED to every other hart before the call ends;
//! * SUSP answers only what it can see for certain: only the caller can start other harts, so "all others are STOPPED"
//!   stays true until the request is handled.

#![forbid(unsafe_code)]

mod console;
mod harts;
mod system;

use std::sync::Arc;

use ram::Ram;
use sbi_spec::binary::{RET_ERR_INVALID_PARAM, RET_ERR_NOT_SUPPORTED};
use sbi_spec::{base, dbcn, hsm, rfnc, spi, srst, susp, time};
use vmcore::{EcallOutcome, Firmware, Harts, SbiCall, SbiReturn};

pub use console::DebugConsole;

#[cfg(test)]
mod tests;

/// The implementation id that BASE reports: "dorm" in ASCII. The specification registers small numbers; one this large
/// cannot be mistaken for another implementation.
pub const IMPLEMENTATION_ID: u64 = 0x646f_726d;
/// The implementation version that BASE reports: 0.1, major in the upper half.
pub const IMPLEMENTATION_VERSION: u64 = 1;
/// Version 2.0 of the specification: major in bits 30:24, minor in 23:0.
pub const SPECIFICATION_VERSION: u64 = 0x0200_0000;

/// The built-in firmware. See the crate's documentation.
pub struct Sbi {
    harts: Harts,
    ram: Arc<Ram>,
    console: Arc<dyn DebugConsole>,
    suspend: bool,
}

impl Sbi {
    /// Firmware for `harts` and `ram`, with the console behind DBCN. `suspend`: whether SUSP is offered.
    pub fn new(harts: Harts, ram: Arc<Ram>, console: Arc<dyn DebugConsole>, suspend: bool) -> Self {
        Self { harts, ram, console, suspend }
    }

    fn base(&self, call: &SbiCall) -> EcallOutcome {
        let [arg, ..] = call.args;
        let value = match call.function as usize {
            base::GET_SBI_SPEC_VERSION => SPECIFICATION_VERSION,
            base::GET_SBI_IMPL_ID => IMPLEMENTATION_ID,
            base::GET_SBI_IMPL_VERSION => IMPLEMENTATION_VERSION,
            base::PROBE_EXTENSION => u64::from(self.offers(arg)),
            // Zero is always legal for these (privileged specification, sections 3.1.2 to 3.1.4).
            base::GET_MVENDORID | base::GET_MARCHID | base::GET_MIMPID => 0,
            _ => return not_supported(),
        };
        ok(value)
    }

    fn offers(&self, extension: u64) -> bool {
        match extension as usize {
            base::EID_BASE
            | time::EID_TIME
            | spi::EID_SPI
            | rfnc::EID_RFNC
            | hsm::EID_HSM
            | srst::EID_SRST
            | dbcn::EID_DBCN => true,
            susp::EID_SUSP => self.suspend,
            _ => false,
        }
    }

    /// Whether supervisor code can start at physical address `pc`: in RAM, and an instruction may begin there.
    fn is_entry(&self, pc: u64) -> bool {
        self.ram.contains(pc, 2) && pc.is_multiple_of(2)
    }
}

impl Firmware for Sbi {
    fn ecall(&self, hart: u32, call: SbiCall) -> EcallOutcome {
        if !self.offers(call.extension) {
            return not_supported();
        }
        match call.extension as usize {
            base::EID_BASE => self.base(&call),
            time::EID_TIME => self.time(hart, &call),
            spi::EID_SPI => self.ipi(&call),
            rfnc::EID_RFNC => self.fence(hart, &call),
            hsm::EID_HSM => self.hsm(hart, &call),
            srst::EID_SRST => self.reset(&call),
            dbcn::EID_DBCN => self.console(&call),
            susp::EID_SUSP => self.suspend(hart, &call),
            _ => not_supported(),
        }
    }
}

fn ok(value: u64) -> EcallOutcome {
    EcallOutcome::Return(SbiReturn::ok(value))
}

/// `code` is one of the constants of `sbi_spec::binary`: a negative number in two's complement.
fn error(code: usize) -> EcallOutcome {
    EcallOutcome::Return(SbiReturn::error(code as i64))
}

fn not_supported() -> EcallOutcome {
    error(RET_ERR_NOT_SUPPORTED)
}

fn invalid_param() -> EcallOutcome {
    error(RET_ERR_INVALID_PARAM)
}
