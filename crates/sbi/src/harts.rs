//! Calls about harts: TIME, sPI, RFNC and HSM.

use sbi_spec::binary::{RET_ERR_ALREADY_AVAILABLE, RET_ERR_FAILED, RET_ERR_INVALID_ADDRESS};
use sbi_spec::{hsm, rfnc, spi, time};
use vmcore::park::fence_kind;
use vmcore::{EcallOutcome, FenceWait, HsmState, SbiCall, StartParams, mip};

use crate::{Sbi, error, invalid_param, not_supported, ok};

/// A hart mask base that stands for all harts (SBI 3.1).
const ALL_HARTS: u64 = u64::MAX;

impl Sbi {
    /// TIME, chapter 6.
    pub(crate) fn time(&self, hart: u32, call: &SbiCall) -> EcallOutcome {
        let [value, ..] = call.args;
        if call.function as usize != time::SET_TIMER {
            return not_supported();
        }
        if let Some(hart) = self.harts.get(hart) {
            hart.set_stimecmp(value);
        }
        ok(0)
    }

    /// sPI, chapter 7. A STOPPED hart has nobody to interrupt, and none is left pending for when it starts.
    pub(crate) fn ipi(&self, call: &SbiCall) -> EcallOutcome {
        let [mask, base, ..] = call.args;
        if call.function as usize != spi::SEND_IPI {
            return not_supported();
        }
        let Some(targets) = self.targets(mask, base) else { return invalid_param() };
        for hart in targets.filter_map(|id| self.harts.get(id)) {
            if hart.hsm_state() != HsmState::Stopped {
                hart.set_pending(mip::SSIP, true);
            }
        }
        ok(0)
    }

    /// RFNC, chapter 8. Ranges and address spaces narrow what has to be dropped; dropping everything is allowed.
    pub(crate) fn fence(&self, hart: u32, call: &SbiCall) -> EcallOutcome {
        let [mask, base, start, size, ..] = call.args;
        let kinds = match call.function as usize {
            rfnc::REMOTE_FENCE_I => fence_kind::INSTRUCTION,
            rfnc::REMOTE_SFENCE_VMA | rfnc::REMOTE_SFENCE_VMA_ASID => fence_kind::TRANSLATION,
            // There is no hypervisor extension.
            _ => return not_supported(),
        };
        let everything = size == 0 || size == u64::MAX;
        if kinds == fence_kind::TRANSLATION && !everything && start.checked_add(size - 1).is_none() {
            return error(RET_ERR_INVALID_ADDRESS);
        }
        let Some(targets) = self.targets(mask, base) else { return invalid_param() };
        match self.harts.remote_fence(hart, targets, kinds) {
            FenceWait::Done => ok(0),
            FenceWait::Interrupted => EcallOutcome::Again,
        }
    }

    /// HSM, chapter 9.
    pub(crate) fn hsm(&self, hart: u32, call: &SbiCall) -> EcallOutcome {
        let [first, second, third, ..] = call.args;
        match call.function as usize {
            hsm::HART_START => self.hart_start(first, second, third),
            hsm::HART_STOP => match self.harts.get(hart) {
                Some(hart) => {
                    hart.hsm_stop();
                    EcallOutcome::Stopped
                }
                None => error(RET_ERR_FAILED),
            },
            hsm::HART_GET_STATUS => match self.hart(first) {
                Some(hart) => ok(hart.hsm_state() as u64),
                None => invalid_param(),
            },
            hsm::HART_SUSPEND => self.hart_suspend(hart, first),
            _ => not_supported(),
        }
    }

    fn hart_start(&self, id: u64, pc: u64, opaque: u64) -> EcallOutcome {
        let Some(hart) = self.hart(id) else { return invalid_param() };
        if hart.hsm_state() != HsmState::Stopped {
            return error(RET_ERR_ALREADY_AVAILABLE);
        }
        if !self.is_entry(pc) {
            return error(RET_ERR_INVALID_ADDRESS);
        }
        match hart.hsm_start(StartParams { pc, opaque }) {
            Ok(()) => ok(0),
            Err(_not_stopped) => error(RET_ERR_ALREADY_AVAILABLE),
        }
    }

    fn hart(&self, id: u64) -> Option<&vmcore::HartShared> {
        Some(self.harts.get(u32::try_from(id).ok()?)?)
    }

    /// The harts that `mask`, counted from `base`, names (SBI 3.1), or `None` if one of them does not exist.
    fn targets(&self, mask: u64, base: u64) -> Option<impl Iterator<Item = u32> + use<>> {
        let count = self.harts.len() as u64;
        let all = base == ALL_HARTS;
        let highest = base.saturating_add(mask.checked_ilog2().unwrap_or(0).into());
        if !all && highest >= count {
            return None;
        }
        let named = move |id: u64| id >= base && id - base < 64 && mask >> (id - base) & 1 != 0;
        Some((0..self.harts.len() as u32).filter(move |id| all || named(u64::from(*id))))
    }

    /// Only the default retentive type exists; the default non-retentive one is not supported, others are reserved or
    /// nobody's (SBI 9.4). The hart is SUSPENDED until an interrupt is pending for it; its thread then says otherwise.
    fn hart_suspend(&self, hart: u32, kind: u64) -> EcallOutcome {
        match kind as u32 {
            hsm::suspend_type::RETENTIVE => {
                if let Some(hart) = self.harts.get(hart) {
                    hart.hsm_suspend();
                }
                EcallOutcome::Wait
            }
            hsm::suspend_type::NON_RETENTIVE => not_supported(),
            _ => invalid_param(),
        }
    }
}
