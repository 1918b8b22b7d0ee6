//! The hart: its state, its life between runs, and its door to the engine.

use std::sync::{Arc, OnceLock};

use clock::CountedSource;
use ram::Ram;
use vmcore::park::flag;
use vmcore::{Bus, Exit, Firmware, HartShared, Harts, LoadError, SbiReturn, Section, StartParams, Vcpu, mip};

use crate::block::PageCache;
use crate::csr::{COUNTERS, Csrs, DELEGABLE, STCE, SUPERVISOR_INTERRUPTS};
use crate::exec::Leave;
use crate::extensions::Extensions;
use crate::op::SLOTS;
use crate::pmp::Pmp;
use crate::points::Points;
use crate::tlb::Tlb;
use crate::trap::Mode;

/// What a hart is made of and put among.
pub struct HartConfig {
    /// Its part that others touch; says its id.
    pub shared: Arc<HartShared>,
    /// All harts of the machine.
    pub harts: Harts,
    /// Guest memory.
    pub ram: Arc<Ram>,
    /// The devices.
    pub bus: Arc<Bus>,
    /// The supervisor's execution environment; without one the guest brings its own in machine mode.
    pub firmware: Option<Arc<dyn Firmware>>,
    /// Which extensions it has.
    pub extensions: Extensions,
    /// Where retired instructions are published, when guest time is counted in them.
    pub count: Option<CountedSource>,
}

/// What `lr` reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// Host address of the word.
    pub host: usize,
    /// What was loaded.
    pub value: u64,
    /// 64 bits rather than 32.
    pub double: bool,
}

/// A RISC-V hart in software. See the crate's documentation.
pub struct Hart {
    /// The register file; see [`crate::op`].
    pub(crate) x: [u64; SLOTS],
    /// Valid outside of the executor's loop.
    pub(crate) pc: u64,
    /// Instructions until the bound of this run, charged by the block.
    pub(crate) budget: i64,
    /// Value of the retired count when the budget is zero.
    horizon: u64,
    /// Instructions of the block that are charged and not executed, while a device is being accessed.
    pub(crate) behind: u8,
    /// Bits of a pc that may not be set.
    pub(crate) misaligned_pc: u64,
    pub(crate) tlb: Tlb,
    pub(crate) mode: Mode,
    pub(crate) csr: Csrs,
    pub(crate) reservation: Option<Reservation>,
    /// Retired count at the last trap, and how many traps in a row have found it so.
    pub(crate) last_trap: u64,
    pub(crate) trap_streak: u32,
    /// The executor has left because memory that the instruction at the pc needs is lost.
    pub(crate) memory_lost: bool,
    pub(crate) points: Points,
    pub(crate) pages: PageCache,
    pub(crate) shared: Arc<HartShared>,
    pub(crate) harts: Harts,
    pub(crate) ram: Arc<Ram>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) firmware: Option<Arc<dyn Firmware>>,
    pub(crate) extensions: Extensions,
    /// The machine has more harts than the host has processors.
    pub(crate) crowded: bool,
    count: Option<CountedSource>,
}

impl Hart {
    /// A hart after power-on.
    pub fn new(config: HartConfig) -> Self {
        let HartConfig { shared, harts, ram, bus, firmware, extensions, count } = config;
        let crowded = harts.len() > host_processors();
        let mut hart = Self {
            x: [0; SLOTS],
            pc: 0,
            budget: 0,
            horizon: 0,
            behind: 0,
            misaligned_pc: if extensions.c { 1 } else { 3 },
            tlb: Tlb::new(Arc::clone(&ram)),
            mode: Mode::Machine,
            csr: Csrs::default(),
            reservation: None,
            last_trap: 0,
            trap_streak: 0,
            memory_lost: false,
            points: Points::default(),
            pages: PageCache::new(),
            shared,
            harts,
            ram,
            bus,
            firmware,
            extensions,
            crowded,
            count,
        };
        hart.clear();
        hart
    }

    /// Which extensions the hart has.
    pub fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// Integer register `number`; 0 beyond `x31`.
    pub fn x(&self, number: usize) -> u64 {
        if number < 32 { self.x[number] } else { 0 }
    }

    /// Floating-point register `number`, as bits; 0 beyond `f31`.
    pub fn f(&self, number: usize) -> u64 {
        if number < 32 { self.x[usize::from(crate::op::F0) + number] } else { 0 }
    }

    /// Sets integer register `number`. `x0`, and what is beyond `x31`, stays.
    pub fn set_x(&mut self, number: usize, value: u64) {
        if (1..32).contains(&number) {
            self.x[number] = value;
        }
    }

    /// Sets floating-point register `number` to these bits.
    pub fn set_f(&mut self, number: usize, bits: u64) {
        if number < 32 {
            self.x[usize::from(crate::op::F0) + number] = bits;
        }
    }

    /// The program counter.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// Sets the program counter; bit 0 is dropped.
    pub fn set_pc(&mut self, pc: u64) {
        self.pc = pc & !1;
    }

    /// The privilege mode: 0 user, 1 supervisor, 3 machine.
    pub fn privilege(&self) -> u8 {
        self.mode as u8
    }

    /// Reads a CSR by its number as machine mode would; `None` if it does not exist.
    pub fn csr(&mut self, number: u16) -> Option<u64> {
        let mode = std::mem::replace(&mut self.mode, Mode::Machine);
        let value = self.read_csr(number.into(), false).ok();
        self.mode = mode;
        // No instruction is reading it that would have to be left out of the count.
        value.map(|value| value.wrapping_add(self.outside_count(number.into())))
    }

    /// Writes a CSR by its number as machine mode would: unknown ones and read-only ones are not written, which is what
    /// `false` says, and values are made legal.
    pub fn set_csr(&mut self, number: u16, value: u64) -> bool {
        let mode = std::mem::replace(&mut self.mode, Mode::Machine);
        let number = number.into();
        let written = self.read_csr(number, true).is_ok() && self.write_csr(number, value).is_ok();
        self.mode = mode;
        self.update_context();
        written
    }

    /// Changes the privilege mode; `false` if there is no such mode.
    pub fn set_privilege(&mut self, mode: u8) -> bool {
        let Some(mode) = Mode::from_bits(mode.into()) else { return false };
        self.mode = mode;
        self.update_context();
        true
    }

    /// Instructions retired so far; exact outside of the executor's loop and where `behind` is set.
    #[inline]
    pub(crate) fn retired_now(&self) -> u64 {
        self.horizon.wrapping_sub(self.budget as u64).wrapping_sub(self.behind.into())
    }

    /// Publishes the retired count for the clock.
    #[inline]
    pub(crate) fn publish_retired(&self) {
        if let Some(count) = &self.count {
            count.publish(self.retired_now());
        }
    }

    /// The same within an instruction, which counts once it is retired: it may trap, or be executed again.
    #[inline]
    pub(crate) fn publish_retired_before(&self) {
        if let Some(count) = &self.count {
            count.publish(self.retired_now().saturating_sub(1));
        }
    }

    pub(crate) fn set_bound(&mut self, limit: u64) {
        let retired = self.retired_now();
        // What does not fit is out of reach.
        let budget = i64::try_from(limit.saturating_sub(retired)).unwrap_or(i64::MAX);
        self.budget = budget;
        self.horizon = retired.wrapping_add(budget as u64);
    }

    /// All registers to what they are after power-on, nothing cached. Counters go on.
    fn clear(&mut self) {
        let retired = self.retired_now();
        self.x = [0; SLOTS];
        self.pc = 0;
        self.mode = Mode::Machine;
        self.csr = Csrs { cycle_offset: 0_u64.wrapping_sub(retired), ..Csrs::default() };
        self.csr.instret_offset = self.csr.cycle_offset;
        if self.firmware.is_some() {
            self.prepare_supervisor();
        }
        self.forget();
    }

    /// The machine registers as firmware leaves them for a supervisor.
    fn prepare_supervisor(&mut self) {
        // What the firmware would pass back to the supervisor anyway is delegated at once: all but its own calls.
        self.csr.medeleg = DELEGABLE & !(1 << crate::trap::Cause::SupervisorEcall as u64);
        self.csr.mideleg = SUPERVISOR_INTERRUPTS;
        self.csr.mcounteren = COUNTERS;
        self.csr.scounteren = COUNTERS;
        self.csr.menvcfg = if self.extensions.sstc { STCE } else { 0 };
        self.csr.pmp = Pmp::open();
        self.mode = Mode::Supervisor;
    }

    /// Drops what is cached and the reservation, and follows the mode.
    pub(crate) fn forget(&mut self) {
        self.reservation = None;
        self.trap_streak = 0;
        self.tlb.flush_all();
        self.update_context();
    }

    /// What to leave a run with that has come to `exit`.
    pub(crate) fn exit_for(&mut self, exit: Exit) -> Exit {
        if std::mem::take(&mut self.memory_lost) { Exit::MemoryLost } else { exit }
    }

    /// Serves interrupts and fences; `Some` if somebody wants more than that.
    pub(crate) fn serve_flags(&mut self) -> Option<Exit> {
        let shared = Arc::clone(&self.shared);
        let flags = shared.gate().flags();
        if flags & flag::FENCE != 0 {
            shared.gate().serve_fences(|kinds| self.drop_cached(kinds));
        }
        if flags & flag::IRQ != 0 {
            shared.gate().take(flag::IRQ);
        }
        (flags & !(flag::FENCE | flag::IRQ) != 0).then_some(Exit::Signal)
    }
}

/// How many threads the host runs at once; it is asked once.
fn host_processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl Vcpu for Hart {
    /// A guest that only takes traps and retires nothing makes this return [`Exit::Signal`] now and then, as does memory
    /// that is still on its way.
    fn run(&mut self, limit: u64) -> Exit {
        if let Some(owed) = self.take_owed() {
            return owed;
        }
        let mut start = None;
        let exit = loop {
            if self.shared.gate().flags() != 0 {
                // What was decoded for `start` may be older than a fence that is about to be served.
                start = None;
            }
            if let Some(exit) = self.serve_flags() {
                break exit;
            }
            if self.retired_now() >= limit {
                break Exit::Limit;
            }
            if let Some(number) = self.interrupt_due() {
                self.take_interrupt(number);
                start = None;
            }
            self.set_bound(limit);
            match self.execute(start.take()) {
                Leave::Look => {}
                Leave::Exit(Exit::Signal) if self.has_met_watchpoint() => {
                    if let Some(exit) = self.finish_watched() {
                        break exit;
                    }
                }
                Leave::Exit(exit) => break exit,
                Leave::Budget => {
                    // The next block is too long: as many of its instructions as may be executed.
                    let most = u8::try_from(self.budget).unwrap_or(u8::MAX);
                    if most != 0 {
                        match self.locate_few(most) {
                            Ok(cursor) => start = Some(cursor),
                            Err(trap) => {
                                if self.take_trap(trap) {
                                    break Exit::Signal;
                                }
                            }
                        }
                    }
                }
            }
        };
        self.publish_retired();
        self.exit_for(exit)
    }

    fn retired(&self) -> u64 {
        self.retired_now()
    }

    fn fence(&mut self, kinds: u32) {
        self.drop_cached(kinds);
    }

    fn interrupt_pending(&self) -> bool {
        self.pending() & self.csr.mie != 0
    }

    fn answer(&mut self, result: SbiReturn) {
        self.set_result(result);
        self.pc = self.pc.wrapping_add(4);
        self.horizon = self.horizon.wrapping_add(1);
        self.publish_retired();
    }

    fn reset(&mut self) {
        self.clear();
        self.shared.set_stimecmp(u64::MAX);
        self.shared.set_pending(u64::MAX, false);
    }

    fn start_supervisor(&mut self, params: StartParams) {
        self.clear();
        if self.firmware.is_none() {
            self.prepare_supervisor();
        }
        self.mode = Mode::Supervisor;
        self.set_pc(params.pc);
        self.set_x(10, self.shared.id().into());
        self.set_x(11, params.opaque);
        self.forget();
    }

    fn start_machine(&mut self, pc: u64, a1: u64, a2: u64) {
        self.clear();
        self.mode = Mode::Machine;
        self.set_pc(pc);
        self.set_x(10, self.shared.id().into());
        self.set_x(11, a1);
        self.set_x(12, a2);
        self.forget();
    }

    fn save(&self) -> Section {
        self.save_state()
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.check_state(section)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.load_state(section)
    }

    fn describe(&self) -> String {
        self.describe_registers()
    }
}

/// Interrupts that a hart itself raises and that no device would raise again after a load.
pub(crate) const OWN_INTERRUPTS: u64 = mip::SSIP;
