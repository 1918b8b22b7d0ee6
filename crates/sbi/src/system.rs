//! Calls about the whole machine: SRST and SUSP. What they ask is the machine thread's to do.

use runstate::{GuestRequest, ShutdownCause, Sleep};
use sbi_spec::binary::{RET_ERR_DENIED, RET_ERR_INVALID_ADDRESS};
use sbi_spec::{srst, susp};
use vmcore::{EcallOutcome, SbiCall};

use crate::{Sbi, error, invalid_param, not_supported};

/// The only sleep type there is: suspend to RAM (SBI 13.1).
const SUSPEND_TO_RAM: u32 = 0;

impl Sbi {
    /// SRST, chapter 10. A shutdown for the reason "system failure" is a panic of the guest, of which the
    /// machine's action decides what is done; where the guest is to live on, the call fails. Types and reasons beyond the
    /// ones that every platform has are reserved or another platform's.
    pub(crate) fn reset(&self, call: &SbiCall) -> EcallOutcome {
        let [kind, reason, ..] = call.args.map(|arg| arg as u32);
        if call.function as usize != srst::SYSTEM_RESET {
            return not_supported();
        }
        let failed = match reason {
            srst::RESET_REASON_NO_REASON => false,
            srst::RESET_REASON_SYSTEM_FAILURE => true,
            _ => return invalid_param(),
        };
        let request = match (kind, failed) {
            (srst::RESET_TYPE_SHUTDOWN, false) => {
                GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 }
            }
            (srst::RESET_TYPE_SHUTDOWN, true) => GuestRequest::Panic,
            (srst::RESET_TYPE_COLD_REBOOT | srst::RESET_TYPE_WARM_REBOOT, _) => GuestRequest::Reset,
            _ => return invalid_param(),
        };
        EcallOutcome::Post(request)
    }

    /// SUSP, chapter 13. On success it does not return: the machine sleeps, and the hart starts anew at the resume address.
    pub(crate) fn suspend(&self, hart: u32, call: &SbiCall) -> EcallOutcome {
        let [kind, resume_addr, opaque, ..] = call.args;
        if call.function as usize != susp::SUSPEND {
            return not_supported();
        }
        if kind as u32 != SUSPEND_TO_RAM {
            return invalid_param();
        }
        if !self.is_entry(resume_addr) {
            return error(RET_ERR_INVALID_ADDRESS);
        }
        if !self.harts.others_stopped(hart) {
            return error(RET_ERR_DENIED);
        }
        EcallOutcome::Post(GuestRequest::Suspend(Sleep { hart, resume_addr, opaque }))
    }
}
