//! Exceptions and interrupts: what they are, where they go, and how one returns (privileged specification, 3.1 and 4.1).

use ram::OpenError;
use serde::{Deserialize, Serialize};
use vmcore::mip;

use crate::csr::status;
use crate::hart::Hart;

/// Privilege modes, by their encoding.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Mode {
    User = 0,
    Supervisor = 1,
    Machine = 3,
}

impl Mode {
    /// The mode with this encoding; 2 is reserved.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => Some(Self::User),
            1 => Some(Self::Supervisor),
            3 => Some(Self::Machine),
            _ => None,
        }
    }

    /// One letter, for people.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::User => 'U',
            Self::Supervisor => 'S',
            Self::Machine => 'M',
        }
    }
}

/// Exception causes (privileged specification, table 14).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Cause {
    MisalignedFetch = 0,
    FetchAccess = 1,
    Illegal = 2,
    Breakpoint = 3,
    LoadAccess = 5,
    MisalignedStore = 6,
    StoreAccess = 7,
    UserEcall = 8,
    SupervisorEcall = 9,
    MachineEcall = 11,
    FetchPage = 12,
    LoadPage = 13,
    StorePage = 15,
    MisalignedLoad = 4,
    /// None of the guest's: memory that is needed is still on its way. Never taken.
    Delayed = 61,
    /// None of the guest's: memory that is needed is lost. Never taken.
    MemoryLost = 62,
    /// None of the guest's: a debugger watches what was about to be accessed. Never taken.
    Watchpoint = 63,
}

/// An exception about to be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Trap {
    pub cause: Cause,
    /// What `mtval` or `stval` gets.
    pub tval: u64,
}

impl Trap {
    pub(crate) fn new(cause: Cause, tval: u64) -> Self {
        Self { cause, tval }
    }

    /// What becomes of an access to RAM that could not be opened; `fault` is for where there is none.
    #[cold]
    pub(crate) fn unopened(error: &OpenError, fault: Trap) -> Self {
        match error {
            OpenError::Outside => fault,
            OpenError::Interrupted => Self::new(Cause::Delayed, fault.tval),
            OpenError::Lost(_) => Self::new(Cause::MemoryLost, fault.tval),
        }
    }

    /// Whether the guest never sees it: the instruction is executed again, or the machine is broken.
    pub(crate) fn is_foreign(&self) -> bool {
        self.cause as u8 >= Cause::Delayed as u8
    }

    pub(crate) fn illegal(bits: u32) -> Self {
        Self::new(Cause::Illegal, bits.into())
    }
}

/// Bit of `mcause` that says interrupt.
const INTERRUPT: u64 = 1 << 63;

/// Interrupts by falling priority (privileged specification, 3.1.9).
const PRIORITY: [u64; 6] = [mip::MEIP, mip::MSIP, mip::MTIP, mip::SEIP, mip::SSIP, mip::STIP];

/// So many traps in a row without an instruction retired are a guest that cannot go on by itself.
const STUCK: u32 = 1024;

impl Hart {
    /// Takes an exception; `pc` is the instruction's. Returns whether the hart spins in traps without retiring
    /// anything, so that whoever bounds its run should have a look.
    #[cold]
    pub(crate) fn take_trap(&mut self, trap: Trap) -> bool {
        if trap.is_foreign() {
            self.memory_lost |= trap.cause == Cause::MemoryLost;
            return true;
        }
        self.points.note_trap();
        self.enter_trap(trap.cause as u64, trap.tval);
        if self.points.alone {
            return true;
        }
        let retired = self.retired_now();
        if self.last_trap == retired {
            self.trap_streak += 1;
        } else {
            self.last_trap = retired;
            self.trap_streak = 0;
        }
        let stuck = self.trap_streak >= STUCK;
        if stuck {
            self.trap_streak = 0;
        }
        stuck
    }

    /// The interrupt to take now, as its number.
    pub(crate) fn interrupt_due(&self) -> Option<u32> {
        let pending = self.pending() & self.csr.mie;
        if pending == 0 {
            return None;
        }
        let enabled =
            |mode: Mode, bit: u64| self.mode < mode || self.mode == mode && self.csr.mstatus & bit != 0;
        let machine = pending & !self.csr.mideleg;
        let supervisor = pending & self.csr.mideleg;
        let candidates = if machine != 0 && enabled(Mode::Machine, status::MIE) {
            machine
        } else if supervisor != 0 && enabled(Mode::Supervisor, status::SIE) {
            supervisor
        } else {
            return None;
        };
        PRIORITY.iter().find(|&&bit| candidates & bit != 0).map(|bit| bit.trailing_zeros())
    }

    /// Takes interrupt `number`; `pc` is that of the next instruction.
    pub(crate) fn take_interrupt(&mut self, number: u32) {
        self.enter_trap(INTERRUPT | u64::from(number), 0);
    }

    fn enter_trap(&mut self, cause: u64, tval: u64) {
        let number = cause & 63;
        let deleg = if cause & INTERRUPT != 0 { self.csr.mideleg } else { self.csr.medeleg };
        let csr = &mut self.csr;
        let old = csr.mstatus;
        let vector;
        if self.mode <= Mode::Supervisor && deleg >> number & 1 != 0 {
            csr.sepc = self.pc;
            csr.scause = cause;
            csr.stval = tval;
            vector = csr.stvec;
            let spie = if old & status::SIE != 0 { status::SPIE } else { 0 };
            let spp = if self.mode == Mode::Supervisor { status::SPP } else { 0 };
            csr.mstatus = old & !(status::SIE | status::SPIE | status::SPP) | spie | spp;
            self.mode = Mode::Supervisor;
        } else {
            csr.mepc = self.pc;
            csr.mcause = cause;
            csr.mtval = tval;
            vector = csr.mtvec;
            let mpie = if old & status::MIE != 0 { status::MPIE } else { 0 };
            let mpp = (self.mode as u64) << status::MPP_SHIFT;
            csr.mstatus = old & !(status::MIE | status::MPIE | status::MPP) | mpie | mpp;
            self.mode = Mode::Machine;
        }
        let vectored = vector & 3 == 1 && cause & INTERRUPT != 0;
        self.pc = (vector & !3).wrapping_add(if vectored { number * 4 } else { 0 });
        // A reservation does not outlive a trap: the handler's own stores would not end it.
        self.reservation = None;
        self.update_context();
    }

    /// `mret`.
    pub(crate) fn machine_return(&mut self) {
        let old = self.csr.mstatus;
        let to = Mode::from_bits(old >> status::MPP_SHIFT & 3).unwrap_or(Mode::User);
        let mie = if old & status::MPIE != 0 { status::MIE } else { 0 };
        let mut new = old & !(status::MIE | status::MPP) | mie | status::MPIE;
        if to != Mode::Machine {
            new &= !status::MPRV;
        }
        self.csr.mstatus = new;
        self.mode = to;
        self.pc = self.csr.mepc;
        self.update_context();
    }

    /// `sret`.
    pub(crate) fn supervisor_return(&mut self) {
        let old = self.csr.mstatus;
        let to = if old & status::SPP != 0 { Mode::Supervisor } else { Mode::User };
        let sie = if old & status::SPIE != 0 { status::SIE } else { 0 };
        let cleared = old & !(status::SIE | status::SPP | status::MPRV);
        self.csr.mstatus = cleared | sie | status::SPIE;
        self.mode = to;
        self.pc = self.csr.sepc;
        self.update_context();
    }
}
