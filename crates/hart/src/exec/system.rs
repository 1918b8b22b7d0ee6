//! Environment calls, returns, fences and CSR instructions (privileged specification, 3.3 and 10.2; Zicsr).

use std::sync::atomic::{Ordering, fence};

use vmcore::park::{fence_kind, flag};
use vmcore::{EcallOutcome, Exit, SbiCall, SbiReturn};

use super::{Flow, Leave};
use crate::csr::{After, numbers, status};
use crate::hart::Hart;
use crate::op::{Code, Op};
use crate::trap::{Cause, Mode, Trap};

/// Registers a0 and a7.
const A0: usize = 10;
const A7: usize = 17;

impl Hart {
    /// Executes `op`, whose address is `pc`.
    pub(super) fn system(&mut self, op: &Op, pc: u64) -> Flow {
        let bits = op.imm as u32;
        let next = pc.wrapping_add(4);
        let illegal = Flow::Trap(Trap::illegal(bits));
        let status = self.csr.mstatus;
        match op.code {
            Code::Csrrw | Code::Csrrs | Code::Csrrc | Code::Csrrwi | Code::Csrrsi | Code::Csrrci => {
                self.csr_instruction(op, bits, next)
            }
            Code::Ecall => self.ecall(pc),
            Code::Ebreak => Flow::Trap(Trap::new(Cause::Breakpoint, pc)),
            Code::Mret if self.mode == Mode::Machine => {
                self.machine_return();
                self.pc &= self.pc_mask();
                Flow::Resume
            }
            Code::Sret if self.may(Mode::Supervisor, status::TSR) => {
                self.supervisor_return();
                self.pc &= self.pc_mask();
                Flow::Resume
            }
            // In user mode `wfi` is illegal, as for every hart with a supervisor that does not bound the wait.
            Code::Wfi
                if self.mode == Mode::Machine
                    || self.mode == Mode::Supervisor && status & status::TW == 0 =>
            {
                if self.pending() & self.csr.mie != 0 {
                    Flow::Check(next)
                } else {
                    Flow::Leave(next, Exit::Wait)
                }
            }
            Code::SfenceVma if self.may(Mode::Supervisor, status::TVM) => {
                match op.rs1 {
                    0 => self.tlb.flush_translated(),
                    _ => self.tlb.flush_page(self.x[usize::from(op.rs1)]),
                }
                Flow::Jump(next)
            }
            Code::Pause => {
                // A hart that spins waits for another one. Where harts outnumber the host's processors that one may have
                // no processor: let it have this one.
                if self.crowded {
                    std::thread::yield_now()
                } else {
                    std::hint::spin_loop()
                }
                Flow::Jump(next)
            }
            Code::FenceI => {
                self.drop_cached(fence_kind::INSTRUCTION);
                Flow::Jump(next)
            }
            _ => illegal,
        }
    }

    /// Whether an instruction of supervisor mode that `trap` makes illegal there may be executed.
    fn may(&self, mode: Mode, trap: u64) -> bool {
        self.mode > mode || self.mode == mode && self.csr.mstatus & trap == 0
    }

    fn csr_instruction(&mut self, op: &Op, bits: u32, next: u64) -> Flow {
        let csr = bits >> 20;
        let source = bits >> 15 & 31;
        let swap = matches!(op.code, Code::Csrrw | Code::Csrrwi);
        let write = swap || source != 0;
        let operand = match op.code {
            Code::Csrrw | Code::Csrrs | Code::Csrrc => self.x[usize::from(op.rs1)],
            _ => source.into(),
        };
        let Ok(old) = self.read_csr(csr, write) else { return Flow::Trap(Trap::illegal(bits)) };
        let mut after = After::Nothing;
        if write {
            let new = match op.code {
                Code::Csrrw | Code::Csrrwi => operand,
                Code::Csrrs | Code::Csrrsi => old | operand,
                _ => old & !operand,
            };
            let set = matches!(op.code, Code::Csrrs | Code::Csrrsi);
            after = if !swap && matches!(csr, numbers::SIP | numbers::MIP) {
                self.change_pending(csr, operand, set)
            } else {
                match self.write_csr(csr, new) {
                    Ok(after) => after,
                    Err(_) => return Flow::Trap(Trap::illegal(bits)),
                }
            };
        }
        self.x[usize::from(op.rd)] = old;
        match after {
            After::Nothing => Flow::Jump(next),
            After::Interrupts => Flow::Check(next),
        }
    }

    fn ecall(&mut self, pc: u64) -> Flow {
        let cause = match self.mode {
            Mode::User => Cause::UserEcall,
            Mode::Supervisor => Cause::SupervisorEcall,
            Mode::Machine => Cause::MachineEcall,
        };
        let Some(firmware) = self.firmware.clone().filter(|_| self.mode == Mode::Supervisor) else {
            return Flow::Trap(Trap::new(cause, 0));
        };
        self.publish_retired_before();
        self.settle_code_writes();
        let call = SbiCall {
            extension: self.x[A7],
            function: self.x[A7 - 1],
            args: std::array::from_fn(|at| self.x[A0 + at]),
        };
        let next = pc.wrapping_add(4);
        let losses = self.ram.misses();
        let outcome = firmware.ecall(self.shared.id(), call);
        if self.ram.misses() != losses {
            // What the firmware made of it is none of the guest's business.
            return Flow::Trap(Trap::new(Cause::MemoryLost, 0));
        }
        match outcome {
            EcallOutcome::Return(result) => {
                self.set_result(result);
                Flow::Check(next)
            }
            // The thread may be outside its gate by now: nothing is looked at, let alone executed.
            EcallOutcome::Again => Flow::Stay(Leave::Exit(Exit::Signal)),
            EcallOutcome::Post(request) => Flow::Stay(Leave::Exit(Exit::Request { request, ecall: true })),
            EcallOutcome::Stopped => Flow::Stay(Leave::Exit(Exit::Stopped)),
            EcallOutcome::Wait => {
                self.set_result(SbiReturn::ok(0));
                Flow::Leave(next, Exit::Wait)
            }
        }
    }

    /// Puts the result of a call into a0 and a1.
    pub(crate) fn set_result(&mut self, result: SbiReturn) {
        self.x[A0] = result.error as u64;
        self.x[A0 + 1] = result.value;
    }

    /// Before the hart tells others of its stores (a fence, a release, a call): ends the generations of pages that have
    /// become code while it could still store to them. Without this a hart that decoded such a page after this block was
    /// entered would take its decoded form for current, though the store came later.
    pub(crate) fn settle_code_writes(&mut self) {
        // The other half is in `block_at_pc`: either its read of the page sees the stores, or its flag is seen here.
        fence(Ordering::SeqCst);
        if self.shared.gate().flags() & flag::FENCE != 0 {
            self.tlb.drop_writes_to_code();
        }
    }

    /// Drops what the fence `kinds` name.
    pub(crate) fn drop_cached(&mut self, kinds: u32) {
        // First of all, while it is known which pages may have been written.
        if kinds & (fence_kind::ALL_WRITES | fence_kind::CONTENT) != 0 {
            self.tlb.drop_writes();
        } else if kinds & fence_kind::WRITE_ENTRIES != 0 {
            self.tlb.drop_writes_to_code();
        }
        if kinds & fence_kind::CONTENT != 0 {
            self.tlb.flush_all();
        }
        if kinds & fence_kind::TRANSLATION != 0 {
            self.tlb.flush_translated();
        }
        if kinds & fence_kind::INSTRUCTION != 0 {
            self.tlb.flush_fetch();
        }
    }
}
