//! Where the debugger wants the hart to stop, at no cost while that is nowhere.
//!
//! *Breakpoints* are looked for where a pc is turned into decoded code the slow way. A virtual page that has one gets no
//! fetch slot, so that each of its instructions is looked up, and decoded alone; all other pages run at full speed. Guest
//! memory is not written, so the guest cannot see them, and every address space has them.
//!
//! *Watchpoints* are looked for where a load or store misses the translation cache. A watched virtual page gets no data slot. An
//! access that meets one first traps to nowhere ([`Cause::Watchpoint`]), which leaves the executor with a precise pc;
//! then its instruction is executed alone, unwatched, and if it retires the hart stops behind it.

use std::sync::Arc;

use ram::RamError;
use vmcore::{Debug, DebugHit, Exit, Point, Register, Space, Watch};

use crate::csr::{numbers, status};
use crate::exec::Leave;
use crate::hart::Hart;
use crate::pmp::Access;
use crate::trap::{Cause, Trap};

const PAGE_MASK: u64 = !(ram::PAGE_SIZE - 1);

/// How often the debugger asks for memory that is on its way from another host, some milliseconds each time.
const ATTEMPTS: usize = 50;

/// Accesses memory that may be on its way.
fn patiently(mut access: impl FnMut() -> Result<(), RamError>) -> Result<(), RamError> {
    let mut attempts = 1;
    loop {
        match access() {
            Err(RamError::Delayed { .. }) if attempts < ATTEMPTS => attempts += 1,
            other => return other,
        }
    }
}

/// One watchpoint: first and last address, and what it waits for.
#[derive(Clone, Copy, Debug)]
struct Watched {
    first: u64,
    last: u64,
    kind: Watch,
}

impl Watched {
    fn waits_for(self, access: Access) -> bool {
        match self.kind {
            Watch::Write => access == Access::Write,
            Watch::Read => access == Access::Read,
            Watch::Access => access != Access::Execute,
        }
    }
}

/// The points of one hart, and what it is doing about them.
#[derive(Debug, Default)]
pub(crate) struct Points {
    /// As they were given.
    all: Arc<[Point]>,
    /// Addresses of breakpoints, ascending.
    breaks: Vec<u64>,
    watches: Vec<Watched>,
    /// The breakpoint that the hart has been reported at: pc and retired count.
    passed: Option<(u64, u64)>,
    /// The watchpoint that the instruction at the pc has met, on the way out of the executor.
    met: Option<DebugHit>,
    /// The same, to be told by the next run: the exit of the instruction itself went first.
    owed: Option<DebugHit>,
    /// One instruction is being executed: nothing else is to be looked up.
    pub(crate) alone: bool,
    /// That instruction has taken a trap.
    trapped: bool,
    /// That instruction has met its watchpoint already.
    unwatched: bool,
}

impl Points {
    /// Whether code in the page of `pc` is executed instruction by instruction.
    #[inline]
    pub(crate) fn in_page(&self, pc: u64) -> bool {
        if self.breaks.is_empty() {
            return false;
        }
        let page = pc & PAGE_MASK;
        let at = self.breaks.partition_point(|&point| point < page);
        self.breaks.get(at).is_some_and(|point| point & PAGE_MASK == page)
    }

    /// Whether accesses to the page of `addr` are watched.
    #[inline]
    pub(crate) fn watch_page(&self, addr: u64) -> bool {
        let page = addr & PAGE_MASK;
        self.watches.iter().any(|watch| watch.first <= page | !PAGE_MASK && page <= watch.last)
    }

    /// Notes that a trap ends the instruction, which may be one that is executed alone.
    pub(crate) fn note_trap(&mut self) {
        self.trapped |= self.alone;
    }
}

/// What became of one instruction.
enum Alone {
    /// It retired.
    Retired,
    /// It took a trap.
    Trapped,
    /// Something is wanted of the thread, or it met a watchpoint: it is still to be executed.
    Waiting,
    /// It left by this exit.
    Left(Exit),
}

impl Hart {
    /// Whether the hart stops before the instruction at the pc.
    pub(crate) fn at_breakpoint(&self) -> bool {
        !self.points.breaks.is_empty()
            && self.points.breaks.binary_search(&self.pc).is_ok()
            && self.points.passed != Some((self.pc, self.retired_now()))
    }

    /// Stops an access of `len` bytes at `addr` that somebody watches.
    pub(crate) fn check_watch(&mut self, addr: u64, len: u64, access: Access) -> Result<(), Trap> {
        if self.points.watches.is_empty() || self.points.unwatched {
            return Ok(());
        }
        let last = addr.saturating_add(len - 1);
        let met = |watch: &&Watched| watch.waits_for(access) && watch.first <= last && addr <= watch.last;
        let Some(watch) = self.points.watches.iter().find(met) else { return Ok(()) };
        let addr = addr.max(watch.first);
        self.points.met = Some(DebugHit::Watchpoint { addr, kind: watch.kind });
        Err(Trap::new(Cause::Watchpoint, addr))
    }

    /// Executes the instruction at the pc and nothing else; takes no interrupt.
    fn execute_alone(&mut self) -> Alone {
        let before = self.retired_now();
        self.points.alone = true;
        self.points.trapped = false;
        self.set_bound(before.wrapping_add(1));
        let leave = match self.locate_alone() {
            Ok(cursor) => self.execute(Some(cursor)),
            Err(trap) => {
                self.take_trap(trap);
                Leave::Look
            }
        };
        self.points.alone = false;
        match leave {
            _ if self.points.trapped => Alone::Trapped,
            Leave::Exit(exit) if exit != Exit::Signal => Alone::Left(exit),
            _ if self.retired_now() != before => Alone::Retired,
            _ => Alone::Waiting,
        }
    }

    /// Where the executor has left because of a watchpoint: executes the instruction that has met it. `None`: it took a
    /// trap instead, and the hart goes on.
    pub(crate) fn finish_watched(&mut self) -> Option<Exit> {
        let hit = self.points.met.take()?;
        self.points.unwatched = true;
        let outcome = self.execute_alone();
        self.points.unwatched = false;
        match outcome {
            Alone::Retired => Some(Exit::Debug(hit)),
            Alone::Trapped => None,
            Alone::Waiting => Some(Exit::Signal),
            Alone::Left(exit) => {
                self.points.owed = Some(hit);
                Some(exit)
            }
        }
    }

    /// Whether the executor has left because of a watchpoint.
    pub(crate) fn has_met_watchpoint(&self) -> bool {
        self.points.met.is_some()
    }

    /// The hit that is still to be told.
    pub(crate) fn take_owed(&mut self) -> Option<Exit> {
        self.points.owed.take().map(Exit::Debug)
    }
}

impl Debug for Hart {
    fn read_register(&mut self, register: Register) -> Option<u64> {
        match register {
            Register::Integer(number) => (number < 32).then(|| self.x(number.into())),
            Register::Pc => Some(self.pc),
            Register::Float(number) => (number < 32).then(|| self.f(number.into())),
            // There also while the guest has floating point switched off.
            Register::Csr(number) if number == numbers::FFLAGS as u16 => Some(self.csr.fflags.into()),
            Register::Csr(number) if number == numbers::FRM as u16 => Some(self.csr.frm.into()),
            Register::Csr(number) if number == numbers::FCSR as u16 => {
                Some(u64::from(self.csr.frm) << 5 | u64::from(self.csr.fflags))
            }
            Register::Csr(number) => self.csr(number),
            Register::Privilege => Some(self.privilege().into()),
        }
    }

    fn write_register(&mut self, register: Register, value: u64) -> bool {
        match register {
            Register::Integer(number) => {
                self.set_x(number.into(), value);
                number < 32
            }
            Register::Pc => {
                self.set_pc(value);
                self.points.passed = None;
                true
            }
            Register::Float(number) => {
                self.set_f(number.into(), value);
                if self.csr.mstatus & status::FS != 0 {
                    // Or the guest would not save it.
                    self.csr.mstatus |= status::FS;
                }
                number < 32
            }
            Register::Csr(number) => self.set_csr(number, value),
            Register::Privilege => u8::try_from(value).is_ok_and(|mode| self.set_privilege(mode)),
        }
    }

    fn read_memory(&self, space: Space, addr: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some((phys, len)) = self.piece(space, addr, done, bytes.len()) else { break };
            let Some(part) = bytes.get_mut(done..done + len) else { break };
            if patiently(|| self.ram.read(phys, part)).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    fn write_memory(&mut self, space: Space, addr: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some((phys, len)) = self.piece(space, addr, done, bytes.len()) else { break };
            let Some(part) = bytes.get(done..done + len) else { break };
            if patiently(|| self.ram.write(phys, part)).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    fn set_points(&mut self, points: Arc<[Point]>) {
        if points == self.points.all {
            return;
        }
        self.points.breaks.clear();
        self.points.watches.clear();
        for point in points.iter() {
            match *point {
                Point::Break(addr) => self.points.breaks.push(addr),
                Point::Watch { addr, len, kind } => {
                    let last = addr.saturating_add(len.saturating_sub(1));
                    self.points.watches.push(Watched { first: addr, last, kind });
                }
            }
        }
        self.points.breaks.sort_unstable();
        self.points.all = points;
        self.tlb.flush_all();
    }

    fn pass_breakpoint(&mut self) {
        self.points.passed = Some((self.pc, self.retired_now()));
    }

    fn step(&mut self) -> Exit {
        if let Some(exit) = self.take_owed().or_else(|| self.serve_flags()) {
            return exit;
        }
        let exit = match self.execute_alone() {
            Alone::Retired | Alone::Trapped => Exit::Debug(DebugHit::Step),
            Alone::Left(exit) => exit,
            Alone::Waiting if self.has_met_watchpoint() => {
                self.finish_watched().unwrap_or(Exit::Debug(DebugHit::Step))
            }
            Alone::Waiting => Exit::Signal,
        };
        self.publish_retired();
        self.exit_for(exit)
    }
}

impl Hart {
    /// Physical address and length of what follows the first `done` of `len` bytes from `addr`, up to the page's end.
    fn piece(&self, space: Space, addr: u64, done: usize, len: usize) -> Option<(u64, usize)> {
        let at = addr.checked_add(done as u64)?;
        let phys = match space {
            Space::Virtual => self.peek(at)?,
            Space::Physical => at,
        };
        let left = ram::PAGE_SIZE - at % ram::PAGE_SIZE;
        Some((phys, (len - done).min(left as usize)))
    }
}
