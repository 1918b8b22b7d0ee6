//! The executor: one loop that dispatches on operations, with a cursor in decoded code and nothing else.
//!
//! The pc exists only between blocks; inside one it is the virtual address of the page plus the operation's offset. The
//! budget (instructions until the bound of this run) is charged for a whole block when it is entered, and what was
//! not executed is given back when it is left early: by a taken branch, a trap, a device's request.
//!
//! At every block entry, chained jumps included, the flags of the gate are read once; a raised flag and an exhausted
//! budget leave the loop with a precise pc.

mod atomic;
mod data;
mod float;
mod integer;
mod locate;
mod system;

use runstate::GuestRequest;
use vmcore::Exit;

use crate::alu;
use crate::block::Cursor;
use crate::hart::Hart;
use crate::op::Code;
use crate::trap::{Cause, Trap};

const PAGE: u64 = ram::PAGE_SIZE;

/// Why the loop was left. The hart is between two instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leave {
    /// Look at the flags and the interrupts, then go on.
    Look,
    /// The next block is longer than what is left of the budget.
    Budget,
    /// Return this.
    Exit(Exit),
}

/// What an operation outside the loop wants.
pub(crate) enum Flow {
    /// Go on with the next operation of the block.
    Next,
    /// Go on at this pc.
    Jump(u64),
    /// The same, if no interrupt has become due.
    Check(u64),
    /// Go on at the pc that is set already, if no interrupt has become due.
    Resume,
    /// The instruction does not retire.
    Trap(Trap),
    /// Retired; leave with this pc.
    Leave(u64, Exit),
    /// Not retired: leave with the pc on the instruction.
    Stay(Leave),
}

impl Hart {
    /// Executes from `start`, or else from the pc.
    #[inline(never)]
    pub(crate) fn execute(&mut self, start: Option<Cursor>) -> Leave {
        let mut cursor = match start {
            Some(cursor) => cursor,
            None => match self.locate() {
                Ok(cursor) => cursor,
                Err(leave) => return leave,
            },
        };
        // Virtual address of the page that the cursor is in.
        let mut page = self.pc & !(PAGE - 1);

        macro_rules! pc {
            () => {
                page.wrapping_add(cursor.op().off.into())
            };
        }
        macro_rules! set {
            ($value:expr) => {{
                let value = $value;
                self.x[usize::from(cursor.op().rd)] = value;
            }};
        }
        macro_rules! a {
            () => {
                self.x[usize::from(cursor.op().rs1)]
            };
        }
        macro_rules! b {
            () => {
                self.x[usize::from(cursor.op().rs2)]
            };
        }
        macro_rules! imm {
            () => {
                cursor.op().imm as u64
            };
        }

        'block: loop {
            if self.shared.gate().flags() != 0 {
                self.pc = pc!();
                return Leave::Look;
            }
            let count = i64::from(cursor.op().left);
            self.budget -= count;
            if self.budget < 0 {
                self.budget += count;
                self.pc = pc!();
                return Leave::Budget;
            }
            cursor.advance();

            macro_rules! trap {
                ($trap:expr) => {{
                    self.pc = pc!();
                    self.budget += i64::from(cursor.op().left) + 1;
                    if self.take_trap($trap) {
                        return Leave::Exit(Exit::Signal);
                    }
                    self.pc
                }};
            }
            macro_rules! branch {
                ($taken:expr, $ops:lifetime) => {
                    if $taken {
                        let left = i64::from(cursor.op().left);
                        let chain = cursor.op().chain();
                        if chain != 0 {
                            self.budget += left;
                            cursor.enter(chain);
                            continue 'block;
                        }
                        let target = pc!().wrapping_add(cursor.op().disp() as u64);
                        if target & self.misaligned_pc != 0 {
                            break $ops trap!(Trap::new(Cause::MisalignedFetch, target));
                        }
                        self.budget += left;
                        break $ops target;
                    }
                };
            }
            macro_rules! load {
                ($word:ty, $extend:expr, $addend:expr, $ops:lifetime) => {{
                    let addr = a!().wrapping_add($addend);
                    let value = match self.tlb.load::<$word>(addr) {
                        Some(value) => value,
                        None => match self.load_slow::<$word>(addr, cursor.op().left) {
                            Ok(value) => value,
                            Err(trap) => break $ops trap!(trap),
                        },
                    };
                    set!($extend(value));
                }};
            }
            macro_rules! store {
                ($word:ty, $addend:expr, $ops:lifetime) => {{
                    let addr = a!().wrapping_add($addend);
                    let value = b!() as $word;
                    if !self.tlb.store::<$word>(addr, value) {
                        match self.store_slow::<$word>(addr, value, cursor.op().left) {
                            Ok(None) => {}
                            Ok(Some(request)) => {
                                self.budget += i64::from(cursor.op().left);
                                self.pc = pc!().wrapping_add(cursor.op().rd.into());
                                return Leave::Exit(Exit::Request { request, ecall: false });
                            }
                            Err(trap) => break $ops trap!(trap),
                        }
                    }
                }};
            }

            let target = 'ops: loop {
                match cursor.op().code {
                    Code::Li => set!(imm!()),
                    Code::Auipc => set!(page.wrapping_add(imm!())),
                    Code::Mv => set!(a!()),
                    Code::Addi => set!(a!().wrapping_add(imm!())),
                    Code::Slti => set!(u64::from((a!() as i64) < cursor.op().imm)),
                    Code::Sltiu => set!(u64::from(a!() < imm!())),
                    Code::Xori => set!(a!() ^ imm!()),
                    Code::Ori => set!(a!() | imm!()),
                    Code::Andi => set!(a!() & imm!()),
                    Code::Slli => set!(a!() << (imm!() & 63)),
                    Code::Srli => set!(a!() >> (imm!() & 63)),
                    Code::Srai => set!(((a!() as i64) >> (imm!() & 63)) as u64),
                    Code::Addiw => set!(alu::word(a!().wrapping_add(imm!()))),
                    Code::Slliw => set!(alu::word(a!() << (imm!() & 31))),
                    Code::Srliw => set!(alu::word((a!() as u32 >> (imm!() & 31)).into())),
                    Code::Sraiw => set!((a!() as i32 >> (imm!() & 31)) as u64),
                    Code::Add => set!(a!().wrapping_add(b!())),
                    Code::Sub => set!(a!().wrapping_sub(b!())),
                    Code::Sll => set!(a!() << (b!() & 63)),
                    Code::Slt => set!(u64::from((a!() as i64) < b!() as i64)),
                    Code::Sltu => set!(u64::from(a!() < b!())),
                    Code::Xor => set!(a!() ^ b!()),
                    Code::Srl => set!(a!() >> (b!() & 63)),
                    Code::Sra => set!(((a!() as i64) >> (b!() & 63)) as u64),
                    Code::Or => set!(a!() | b!()),
                    Code::And => set!(a!() & b!()),
                    Code::Addw => set!(alu::word(a!().wrapping_add(b!()))),
                    Code::Subw => set!(alu::word(a!().wrapping_sub(b!()))),
                    Code::Sllw => set!(alu::word(a!() << (b!() & 31))),
                    Code::Srlw => set!(alu::word((a!() as u32 >> (b!() & 31)).into())),
                    Code::Sraw => set!((a!() as i32 >> (b!() & 31)) as u64),
                    Code::Mul => set!(a!().wrapping_mul(b!())),
                    Code::Mulhu => set!(alu::mulhu(a!(), b!())),
                    Code::Mulw => set!(alu::word(a!().wrapping_mul(b!()))),
                    Code::Divu => set!(alu::divu(a!(), b!())),
                    Code::Remu => set!(alu::remu(a!(), b!())),
                    Code::AddUw => set!(b!().wrapping_add(a!() & 0xffff_ffff)),
                    Code::Sh1add => set!(b!().wrapping_add(a!() << 1)),
                    Code::Sh2add => set!(b!().wrapping_add(a!() << 2)),
                    Code::Sh3add => set!(b!().wrapping_add(a!() << 3)),
                    Code::ShlShr => {
                        let (left, right) = (imm!() & 63, imm!() >> 8 & 63);
                        set!(a!() << left >> right);
                    }
                    Code::Lb => load!(u8, |v| v as i8 as u64, imm!(), 'ops),
                    Code::Lbu => load!(u8, u64::from, imm!(), 'ops),
                    Code::Lh => load!(u16, |v| v as i16 as u64, imm!(), 'ops),
                    Code::Lhu => load!(u16, u64::from, imm!(), 'ops),
                    Code::Lw => load!(u32, |v| v as i32 as u64, imm!(), 'ops),
                    Code::Lwu => load!(u32, u64::from, imm!(), 'ops),
                    Code::Ld => load!(u64, |v| v, imm!(), 'ops),
                    Code::Sb => store!(u8, imm!(), 'ops),
                    Code::Sh => store!(u16, imm!(), 'ops),
                    Code::Sw => store!(u32, imm!(), 'ops),
                    Code::Sd => store!(u64, imm!(), 'ops),
                    Code::Fld if self.fp_is_dirty() => {
                        load!(u64, |v| v, cursor.op().fp_imm() as u64, 'ops);
                    }
                    Code::Flw if self.fp_is_dirty() => {
                        load!(u32, crate::fpu::box_f32, cursor.op().fp_imm() as u64, 'ops);
                    }
                    Code::Fsd if self.fp_is_dirty() => {
                        store!(u64, cursor.op().fp_imm() as u64, 'ops);
                    }
                    Code::Fsw if self.fp_is_dirty() => {
                        store!(u32, cursor.op().fp_imm() as u64, 'ops);
                    }
                    Code::Fence => self.settle_code_writes(),
                    Code::Beq => branch!(a!() == b!(), 'ops),
                    Code::Bne => branch!(a!() != b!(), 'ops),
                    Code::Blt => branch!((a!() as i64) < b!() as i64, 'ops),
                    Code::Bge => branch!((a!() as i64) >= b!() as i64, 'ops),
                    Code::Bltu => branch!(a!() < b!(), 'ops),
                    Code::Bgeu => branch!(a!() >= b!(), 'ops),
                    Code::Jal => {
                        let op = cursor.op();
                        let link = pc!().wrapping_add(op.rs2.into());
                        let chain = op.chain();
                        if chain != 0 {
                            set!(link);
                            cursor.enter(chain);
                            continue 'block;
                        }
                        let target = pc!().wrapping_add(op.disp() as u64);
                        if target & self.misaligned_pc != 0 {
                            break 'ops trap!(Trap::new(Cause::MisalignedFetch, target));
                        }
                        set!(link);
                        break 'ops target;
                    }
                    Code::Goto => {
                        let chain = cursor.op().chain();
                        if chain != 0 {
                            cursor.enter(chain);
                            continue 'block;
                        }
                        break 'ops pc!().wrapping_add(cursor.op().disp() as u64);
                    }
                    Code::Jalr => {
                        let target = a!().wrapping_add(imm!()) & !1;
                        if target & self.misaligned_pc != 0 {
                            break 'ops trap!(Trap::new(Cause::MisalignedFetch, target));
                        }
                        set!(pc!().wrapping_add(cursor.op().rs2.into()));
                        break 'ops target;
                    }
                    Code::Straddle => {
                        self.pc = pc!();
                        if self.points.alone {
                            return Leave::Look;
                        }
                        cursor = match self.locate_single() {
                            Ok(cursor) => cursor,
                            Err(trap) => {
                                if self.take_trap(trap) {
                                    return Leave::Exit(Exit::Signal);
                                }
                                break 'ops self.pc;
                            }
                        };
                        continue 'block;
                    }
                    code if (code as u16) < Code::Lb as u16 => {
                        let op = cursor.op();
                        set!(integer::execute(op.code, a!(), b!(), imm!()));
                    }
                    _ => match self.outside(&cursor, page) {
                        Flow::Next => {}
                        Flow::Jump(target) => break 'ops target,
                        Flow::Check(target) => {
                            if self.interrupt_due().is_some() {
                                self.pc = target;
                                return Leave::Look;
                            }
                            break 'ops target;
                        }
                        Flow::Resume => {
                            if self.interrupt_due().is_some() {
                                return Leave::Look;
                            }
                            break 'ops self.pc;
                        }
                        Flow::Trap(trap) => break 'ops trap!(trap),
                        Flow::Leave(target, exit) => {
                            self.budget += i64::from(cursor.op().left);
                            self.pc = target;
                            return Leave::Exit(exit);
                        }
                        Flow::Stay(leave) => {
                            self.budget += i64::from(cursor.op().left) + 1;
                            self.pc = pc!();
                            return leave;
                        }
                    },
                }
                cursor.advance();
            };

            // A jump that is not chained.
            let off = target & (PAGE - 1);
            match self.tlb.fetch(target).and_then(|found| Cursor::find(found, off)) {
                Some(at) => {
                    if target & !(PAGE - 1) == page {
                        cursor.chain_to(at);
                    }
                    cursor = at;
                    page = target & !(PAGE - 1);
                }
                None => {
                    self.pc = target;
                    cursor = match self.locate() {
                        Ok(cursor) => cursor,
                        Err(leave) => return leave,
                    };
                    page = self.pc & !(PAGE - 1);
                }
            }
        }
    }

    /// Executes what has no place in the loop.
    #[inline(never)]
    fn outside(&mut self, cursor: &Cursor, page: u64) -> Flow {
        let op = *cursor.op();
        match op.code {
            Code::LrW | Code::LrD => self.load_reserved(&op),
            Code::ScW | Code::ScD => self.store_conditional(&op),
            code if (Code::AmoswapW as u16..=Code::AmomaxuD as u16).contains(&(code as u16)) => self.amo(&op),
            Code::Flw | Code::Fld | Code::Fsw | Code::Fsd => self.float_access(&op, page),
            code if (code as u16) < Code::Beq as u16 => self.float(&op),
            _ => self.system(&op, page.wrapping_add(op.off.into())),
        }
    }
}

/// A device's request in answer to a store, or nothing.
pub(crate) type StoreOutcome = Result<Option<GuestRequest>, Trap>;
