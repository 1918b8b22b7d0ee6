//! A hart as its thread sees it.

use runstate::GuestRequest;

use crate::debug::{Debug, DebugHit};
use crate::firmware::SbiReturn;
use crate::harts::StartParams;
use crate::saved::{LoadError, Section};

/// Why [`Vcpu::run`] returned. In every case the hart's state is precise: between two instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// A flag other than an interrupt or a fence (those the hart serves itself) is raised at its gate, or the firmware
    /// said [`EcallOutcome::Again`](crate::EcallOutcome::Again).
    Signal,
    /// `wfi` was retired, or a retentive suspend entered, and no enabled interrupt is pending.
    Wait,
    /// The hart has stopped itself; its HSM state is STOPPED.
    Stopped,
    /// The guest asks something of the machine's life. `ecall`: the pc still stands on the `ecall`; otherwise the store
    /// that asked is retired. The hart executes nothing until it is answered, started or reset.
    Request {
        /// What it asks.
        request: GuestRequest,
        /// Whether it came by `ecall` and gets its answer through [`Vcpu::answer`].
        ecall: bool,
    },
    /// The bound on retired instructions is reached.
    Limit,
    /// The debugger's: a point was hit, or a step is done.
    Debug(DebugHit),
    /// The content of memory that the next instruction needs cannot be had ([`Ram::missing`](ram::Ram::missing) says why). The pc
    /// stands on it, and nothing of it has reached the guest.
    MemoryLost,
}

/// A hart. Owned by its thread while that is executing, by the machine thread while it is parked.
pub trait Vcpu: Debug + Send {
    /// Executes until something else is wanted of the thread. The caller has entered the hart's gate.
    ///
    /// `limit` is the value of [`Vcpu::retired`] at which it returns at the latest, exactly (`u64::MAX`: no bound).
    fn run(&mut self, limit: u64) -> Exit;

    /// Instructions retired since the hart was made. Survives reset.
    fn retired(&self) -> u64;

    /// Drops what the fence `kinds` (see [`fence_kind`](crate::park::fence_kind)) name.
    fn fence(&mut self, kinds: u32);

    /// Whether an interrupt is pending and enabled in `mie`, regardless of the global enables: what ends a `wfi`.
    fn interrupt_pending(&self) -> bool;

    /// Retires the `ecall` that the hart stands on, with this result.
    fn answer(&mut self, result: SbiReturn);

    /// Power-on state. Interrupt-pending bits in the hart's shared part are cleared too.
    fn reset(&mut self);

    /// Starts in supervisor mode as HSM `hart_start` has it (SBI specification, section 9.1): pc, a0 = hart id, a1 =
    /// opaque, satp = 0, sstatus.SIE = 0, all other registers zero, no reservation, no cached translation.
    fn start_supervisor(&mut self, params: StartParams);

    /// Starts in machine mode at `pc` with a0 = hart id, a1 and a2 as given: what firmware expects.
    fn start_machine(&mut self, pc: u64, a1: u64, a2: u64);

    /// The whole state.
    fn save(&self) -> Section;

    /// Judges a saved state completely: what passes here loads. Depends on nothing but the section and what is fixed when
    /// the machine is made, and changes nothing.
    fn check(&self, section: &Section) -> Result<(), LoadError>;

    /// Replaces the state by a saved one that passes [`Vcpu::check`]. Nothing that was cached stays. A refusal leaves the hart as it was.
    fn load(&mut self, section: &Section) -> Result<(), LoadError>;

    /// A few words on where the hart is, for the human monitor's `info registers`.
    fn describe(&self) -> String;
}
