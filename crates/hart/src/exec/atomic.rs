//! The A extension. Every operation is one sequentially consistent host atomic, whatever its `aq` and `rl` say.
//!
//! A reservation is the host address and the value that was loaded; `sc` is a compare-exchange against that value.

use super::Flow;
use super::data::AtomicWord;
use crate::hart::{Hart, Reservation};
use crate::mem::HostWord;
use crate::op::{Code, Op};
use crate::pmp::Access;
use crate::trap::{Cause, Trap};

impl Hart {
    fn word_at(&mut self, addr: u64, double: bool, access: Access) -> Result<AtomicWord<'_>, Trap> {
        let size = if double { 8 } else { 4 };
        if !addr.is_multiple_of(size) {
            let cause = if access == Access::Read { Cause::MisalignedLoad } else { Cause::MisalignedStore };
            return Err(Trap::new(cause, addr));
        }
        if double { self.atomic_word::<u64>(addr, access) } else { self.atomic_word::<u32>(addr, access) }
    }

    /// The first half of a release: stores to code that came before it are known as such.
    fn release(&mut self, op: &Op) {
        if op.imm != 0 && self.harts.len() > 1 {
            self.settle_code_writes();
        }
    }

    pub(super) fn load_reserved(&mut self, op: &Op) -> Flow {
        let double = op.code == Code::LrD;
        let addr = self.x[usize::from(op.rs1)];
        let word = match self.word_at(addr, double, Access::Read) {
            Ok((word, _)) => word,
            Err(trap) => return Flow::Trap(trap),
        };
        let (host, value) = (word.addr(), word.reserve(double));
        self.reservation = Some(Reservation { host, value, double });
        self.x[usize::from(op.rd)] = if double { value } else { value as i32 as u64 };
        Flow::Next
    }

    pub(super) fn store_conditional(&mut self, op: &Op) -> Flow {
        let double = op.code == Code::ScD;
        let addr = self.x[usize::from(op.rs1)];
        let new = self.x[usize::from(op.rs2)];
        // First of all, for what a watchpoint stops is executed again.
        if let Err(trap) = self.check_watch(addr, if double { 8 } else { 4 }, Access::Write) {
            return Flow::Trap(trap);
        }
        let reservation = self.reservation.take();
        self.release(op);
        let (word, phys) = match self.word_at(addr, double, Access::Write) {
            Ok(word) => word,
            Err(trap) => {
                if trap.is_foreign() {
                    // It is executed again.
                    self.reservation = reservation;
                }
                return Flow::Trap(trap);
            }
        };
        let stored = reservation.is_some_and(|held| {
            held.host == word.addr() && held.double == double && word.exchange(double, held.value, new)
        });
        if let Some(phys) = phys {
            self.written(phys);
        }
        self.x[usize::from(op.rd)] = u64::from(!stored);
        Flow::Next
    }

    pub(super) fn amo(&mut self, op: &Op) -> Flow {
        let double = op.code as u16 >= Code::AmoswapD as u16;
        let addr = self.x[usize::from(op.rs1)];
        let operand = self.x[usize::from(op.rs2)];
        if let Err(trap) = self.check_watch(addr, if double { 8 } else { 4 }, Access::Read) {
            return Flow::Trap(trap);
        }
        self.release(op);
        let (word, phys) = match self.word_at(addr, double, Access::Write) {
            Ok(word) => word,
            Err(trap) => return Flow::Trap(trap),
        };
        let old = change(op.code, word, double, operand);
        if let Some(phys) = phys {
            self.written(phys);
        }
        self.x[usize::from(op.rd)] = if double { old } else { old as i32 as u64 };
        Flow::Next
    }
}

/// Executes `code` on `word` and returns what was there.
fn change(code: Code, word: HostWord<'_>, double: bool, operand: u64) -> u64 {
    // Words compare by their own width: both sides brought to it, by sign or by zeros.
    let signed = |value: u64| if double { value as i64 } else { i64::from(value as i32) };
    let unsigned = |value: u64| if double { value } else { u64::from(value as u32) };
    match code {
        Code::AmoswapW | Code::AmoswapD => word.update(double, |_| operand),
        Code::AmoaddW | Code::AmoaddD => word.update(double, |old| old.wrapping_add(operand)),
        Code::AmoxorW | Code::AmoxorD => word.update(double, |old| old ^ operand),
        Code::AmoandW | Code::AmoandD => word.update(double, |old| old & operand),
        Code::AmoorW | Code::AmoorD => word.update(double, |old| old | operand),
        Code::AmominW | Code::AmominD => {
            word.update(double, |old| if signed(operand) < signed(old) { operand } else { old })
        }
        Code::AmomaxW | Code::AmomaxD => {
            word.update(double, |old| if signed(operand) > signed(old) { operand } else { old })
        }
        Code::AmominuW | Code::AmominuD => {
            word.update(double, |old| if unsigned(operand) < unsigned(old) { operand } else { old })
        }
        _ => word.update(double, |old| if unsigned(operand) > unsigned(old) { operand } else { old }),
    }
}
