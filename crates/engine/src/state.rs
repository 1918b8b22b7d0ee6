//! The guest part of the machine as a value: taken as a whole while the machine is held, judged as a whole, and swapped in
//! as a whole by a load or an arrival.
//!
//! ```text
//!   save_state ──► GuestState ──► (file, wire) ──► GuestState ──► check_state ──► stage ──► AdoptGuest
//!
//!   board       what is fixed of the machine          first, so that it can be refused before all else
//!   clock       guest time at the freeze, and how it is counted
//!   last-ran    the wall clock then, of a guest that has run
//!   harts       what each hart is about: HSM state; executing, waiting, stopped or past its last word
//!   hartN       the registers of hart N
//!   ...         each device, under its name
//! ```
//!
//! Nothing else of the host is in it, so that two states of one held machine are equal, and so is one that was loaded. The
//! lifecycle value ([`runstate::SavedLifecycle`]) and memory travel beside it: the one because it still changes while
//! the rest is on its way, the other because of its size.
//!
//! Invariants:
//! * what is saved is of one moment: no request of a hart or a device is on its way to the machine thread, and no hart
//!   stands in the middle of a call. A hart whose request was handled and has no answer (it suspended, it shut down) says so;
//! * [`Engine::check_state`] is complete: what passes is adopted, and adopting it cannot fail;
//! * adopting drops whatever belonged to the guest before: starts, posted requests, cached translations and code, steps of
//!   the debugger. Points of the debugger stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use clock::{GuestClock, GuestClockState, IcountShift};
use ram::Ram;
use runstate::{Power, Refusal, SavedLifecycle};
use serde::{Deserialize, Serialize};
use vmcore::park::fence_kind;
use vmcore::{BoardInfo, HsmState, Identity, LoadError, OtherBoard, Renewal, Section};

use crate::Engine;
use crate::arrival;
use crate::hart::{Doing, Slot};
use crate::lost;
use crate::machine::MachineThread;

/// The guest part of a machine, but for its memory and its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuestState {
    /// The sections, in the order in which they were taken; it does not matter when they are read.
    pub sections: Vec<Section>,
}

/// Has the content of memory replaced, or says where it comes from. Called with no hart executing, no device at work, and
/// before the harts drop what they have cached of memory.
pub type Refill = Box<dyn FnOnce(&Ram) + Send>;

/// What [`runstate::Effect::AdoptGuest`] swaps in.
pub struct Staged {
    /// The state, which has passed [`Engine::check_state`].
    pub state: GuestState,
    /// New content of memory. None where memory is as it should be already.
    pub memory: Option<Refill>,
    /// What of the machine's identity begins anew, after the state has been taken over. None: it is the one in the state.
    pub renewal: Option<Renewal>,
}

/// Guest time in a saved state.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SavedClock {
    /// Guest time in ns.
    pub guest_ns: u64,
    /// As much of it as the guest was awake.
    pub awake_ns: u64,
    /// Where time is made of instructions: each lasts `1 << shift` ns.
    pub icount_shift: Option<u8>,
}

/// Why a state cannot come into this machine. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is of another machine.
    #[error(transparent)]
    Board(#[from] OtherBoard),
    /// A component refuses its section.
    #[error(transparent)]
    Section(#[from] LoadError),
    /// A section is missing.
    #[error("the saved state has no section '{0}'")]
    Missing(String),
    /// A section is there twice.
    #[error("the saved state has two sections '{0}'")]
    Twice(String),
    /// Nobody knows this section.
    #[error("the saved state has a section '{0}', which this machine does not know")]
    Unknown(String),
    /// Time is counted otherwise.
    #[error("guest time of the saved machine {}, of this machine {}", counted(*saved), counted(*here))]
    Counting {
        /// There.
        saved: Option<u8>,
        /// Here.
        here: Option<u8>,
    },
    /// The life that goes with it cannot go on here.
    #[error(transparent)]
    Life(#[from] Refusal),
    /// The hart that sleeps does not exist.
    #[error("the saved machine was suspended by hart {0}, which this machine has not")]
    Sleeper(u32),
    /// This machine is no more.
    #[error("the machine has ended")]
    Ended,
}

fn counted(shift: Option<u8>) -> String {
    shift.map_or_else(
        || "follows the host's clock".to_owned(),
        |shift| format!("is counted in instructions (shift {shift})"),
    )
}

/// Nothing was staged, or something that does not pass: a fault of the job's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error("no state is staged")]
    Nothing,
    #[error("the staged state cannot be taken over")]
    State(#[from] StateError),
    #[error("the guest clock cannot be set")]
    Clock(#[from] clock::SetError),
}

impl From<LoadError> for AdoptError {
    fn from(error: LoadError) -> Self {
        StateError::from(error).into()
    }
}

const CLOCK: &str = "clock";
const HARTS: &str = "harts";
const VERSION: u32 = 1;

/// What a hart is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct SavedHart {
    hsm: SavedHsm,
    doing: SavedDoing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum SavedHsm {
    Started,
    Stopped,
    Suspended,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum SavedDoing {
    Stopped,
    Runs,
    Waits,
    Rests,
}

impl SavedHart {
    /// Of a hart that has nothing on its way to the machine thread; none otherwise.
    fn of(hsm: HsmState, doing: Doing) -> Option<Self> {
        let doing = match doing {
            Doing::Stopped => SavedDoing::Stopped,
            Doing::Runs => SavedDoing::Runs,
            Doing::Waits => SavedDoing::Waits,
            Doing::Rests { .. } => SavedDoing::Rests,
            Doing::AwaitsAnswer { .. } => return None,
        };
        let hsm = match hsm {
            HsmState::Started => SavedHsm::Started,
            HsmState::Stopped => SavedHsm::Stopped,
            HsmState::Suspended => SavedHsm::Suspended,
        };
        Some(Self { hsm, doing })
    }

    fn hsm(self) -> HsmState {
        match self.hsm {
            SavedHsm::Started => HsmState::Started,
            SavedHsm::Stopped => HsmState::Stopped,
            SavedHsm::Suspended => HsmState::Suspended,
        }
    }

    fn doing(self) -> Doing {
        match self.doing {
            SavedDoing::Stopped => Doing::Stopped,
            SavedDoing::Runs => Doing::Runs,
            SavedDoing::Waits => Doing::Waits,
            SavedDoing::Rests => Doing::Rests { ecall: false },
        }
    }

    /// A STARTED hart may be about anything: one that has failed is stopped for good.
    fn is_possible(self) -> bool {
        match self.hsm {
            SavedHsm::Started => true,
            SavedHsm::Stopped => self.doing == SavedDoing::Stopped,
            SavedHsm::Suspended => matches!(self.doing, SavedDoing::Waits | SavedDoing::Rests),
        }
    }
}

impl GuestState {
    /// Guest time in it.
    pub fn clock(&self) -> Result<SavedClock, StateError> {
        let section = self.sections.iter().find(|section| section.name == CLOCK);
        decode_clock(section.ok_or_else(|| StateError::Missing(CLOCK.to_owned()))?)
    }
}

fn decode_clock(section: &Section) -> Result<SavedClock, StateError> {
    let clock: SavedClock = section.decode(CLOCK, VERSION)?;
    if clock.awake_ns > clock.guest_ns {
        return Err(section.bad_value("awake time").into());
    }
    Ok(clock)
}

/// The sections by name, each taken once.
struct Sections<'a>(BTreeMap<&'a str, &'a Section>);

impl<'a> Sections<'a> {
    fn new(state: &'a GuestState) -> Result<Self, StateError> {
        let mut all = BTreeMap::new();
        for section in &state.sections {
            if all.insert(section.name.as_str(), section).is_some() {
                return Err(StateError::Twice(section.name.clone()));
            }
        }
        Ok(Self(all))
    }

    /// When the guest last ran, if the state says it.
    fn take_last_ran(&mut self) -> Result<Option<u64>, LoadError> {
        self.0.remove(arrival::SECTION).map(arrival::decode).transpose()
    }

    fn take(&mut self, name: &str) -> Result<&'a Section, StateError> {
        self.0.remove(name).ok_or_else(|| StateError::Missing(name.to_owned()))
    }

    fn end(self) -> Result<(), StateError> {
        self.0.into_keys().next().map_or(Ok(()), |name| Err(StateError::Unknown(name.to_owned())))
    }
}

impl Engine {
    /// What is fixed of the machine, saved, for whoever wants to know early whether its guest can go on there.
    pub fn board(&self) -> Section {
        self.inner.vm.board().save()
    }

    /// Whether a guest of that board could go on here.
    pub fn check_board(&self, board: &Section) -> Result<(), StateError> {
        Ok(self.inner.vm.board().accepts(&BoardInfo::decode(board)?)?)
    }

    /// What tells the machine apart from others that began from the same saved state, if anything does.
    pub fn identity(&self) -> Option<Identity> {
        self.inner.vm.identity()
    }

    /// The guest part, for a job that holds the machine. What harts and devices had posted before is handled first. None:
    /// the machine has ended, or nothing holds it.
    pub fn save_state(&self) -> Option<GuestState> {
        loop {
            match self.on_machine(MachineThread::capture_guest)? {
                Captured::State(state) => return Some(state),
                Captured::Live => return None,
                // A hart's thread or a device's is just about to post what it has to say.
                Captured::Again => thread::yield_now(),
            }
        }
    }

    /// The life that goes with the guest part at this moment; None once the machine has ended. A migration takes
    /// what [`JobControl::commit`](crate::JobControl::commit) gives instead.
    pub fn saved_lifecycle(&self) -> Option<SavedLifecycle> {
        self.on_machine(|machine| machine.lifecycle.saved())
    }

    /// Judges a state completely, without touching anything but each hart, which is parked for a moment if it executes.
    pub fn check_state(&self, state: &GuestState) -> Result<(), StateError> {
        let state = state.clone();
        self.on_machine(move |machine| machine.check_guest(&state)).unwrap_or(Err(StateError::Ended))
    }

    /// Judges the life that goes with a state: whether the steps that bring it in will be accepted.
    pub fn check_lifecycle(&self, saved: &SavedLifecycle) -> Result<(), StateError> {
        let saved = *saved;
        self.on_machine(move |machine| machine.check_life(&saved)).unwrap_or(Err(StateError::Ended))
    }

    /// Puts a state that has passed [`Engine::check_state`] where the job's [`LoadDone`](runstate::MigrationRequest) or
    /// `IncomingLoaded` finds it. It goes when another job begins.
    pub fn stage(&self, staged: Staged) {
        // A machine that has ended adopts nothing.
        let _ = self.on_machine(move |machine| machine.staged = Some(staged));
    }

    /// Has every hart drop its write entries and returns when it has: stores that come after it are noticed anew (lifecycle
    /// rules 5.12). Does not stop the machine.
    pub fn drop_write_tags(&self) {
        self.inner.vm.harts().fence_all(fence_kind::ALL_WRITES);
    }
}

/// What came of an attempt to take the guest part.
enum Captured {
    State(GuestState),
    /// Nothing holds the machine.
    Live,
    /// Something is still on its way.
    Again,
}

impl MachineThread {
    fn capture_guest(&mut self) -> Captured {
        if self.lifecycle.is_live() {
            return Captured::Live;
        }
        // Clients that do not keep up hold up nobody now.
        self.handle_all_deferred();
        if self.awaits_worker() || self.receiver.has_device_requests() {
            return Captured::Again;
        }
        let mut sections = vec![self.machine.board().save(), self.save_clock()];
        sections.extend(self.arrivals.save());
        let mut about = Vec::new();
        let mut registers = Vec::new();
        for hart in &self.harts {
            let shared = &hart.shared;
            let looked = self.look_at(shared.id(), |slot| (slot.doing, slot.hit.is_some(), slot.vcpu.save()));
            let Some((doing, hit, section)) = looked else { continue };
            let Some(saved) = SavedHart::of(shared.hsm_state(), doing).filter(|_| !hit) else {
                return Captured::Again;
            };
            about.push(saved);
            registers.push(section);
        }
        sections.push(Section::encode(HARTS, VERSION, &about));
        sections.extend(registers);
        sections.extend(self.machine.devices().iter().map(|device| device.save()));
        Captured::State(GuestState { sections })
    }

    fn save_clock(&self) -> Section {
        let clock = self.timers.clock();
        let GuestClockState { guest_ns, awake_ns } = clock.save();
        let saved = SavedClock { guest_ns, awake_ns, icount_shift: shift(clock) };
        Section::encode(CLOCK, VERSION, &saved)
    }

    fn check_guest(&self, state: &GuestState) -> Result<(), StateError> {
        let mut sections = Sections::new(state)?;
        let board = BoardInfo::decode(sections.take(BoardInfo::SECTION)?)?;
        self.machine.board().accepts(&board)?;
        let clock = decode_clock(sections.take(CLOCK)?)?;
        let here = shift(self.timers.clock());
        if clock.icount_shift != here {
            return Err(StateError::Counting { saved: clock.icount_shift, here });
        }
        sections.take_last_ran()?;
        self.decode_harts(sections.take(HARTS)?)?;
        for hart in &self.harts {
            let section = sections.take(&hart_name(hart.shared.id()))?;
            self.look_at(hart.shared.id(), |slot| slot.vcpu.check(section)).unwrap_or(Ok(()))?;
        }
        for device in self.machine.devices() {
            device.check(sections.take(device.name())?)?;
        }
        sections.end()
    }

    fn decode_harts(&self, section: &Section) -> Result<Vec<SavedHart>, StateError> {
        let harts: Vec<SavedHart> = section.decode(HARTS, VERSION)?;
        if harts.len() != self.harts.len() {
            return Err(section.bad_value("number of harts").into());
        }
        if !harts.iter().all(|hart| hart.is_possible()) {
            return Err(section.bad_value("state of a hart").into());
        }
        Ok(harts)
    }

    fn check_life(&self, saved: &SavedLifecycle) -> Result<(), StateError> {
        self.lifecycle.accepts(saved)?;
        match saved.power() {
            Power::Asleep(sleep) if self.hart(sleep.hart).is_none() => Err(StateError::Sleeper(sleep.hart)),
            _ => Ok(()),
        }
    }

    /// Swaps in what is staged, as a whole. The machine is held and stays it: what falls due by it, an alarm say, is found
    /// when the machine goes on. All that can fail has been tried by [`check_guest`](Self::check_guest).
    pub(crate) fn adopt_guest(&mut self) -> Result<(), AdoptError> {
        let Staged { state, memory, renewal } = self.staged.take().ok_or(AdoptError::Nothing)?;
        self.check_guest(&state)?;
        let mut sections = Sections::new(&state)?;
        let ram = memory.zip(self.machine.ram()).map(|(replace, ram)| {
            replace(ram);
            ram
        });
        // Behind it: what was found missing in the memory of before belongs to the epoch before. So may what has been found
        // missing in the new one by now.
        self.machine.harts().set_epoch(self.lifecycle.epoch());
        if let Some(failure) = ram.and_then(|ram| lost::missing(ram)) {
            self.break_after(failure);
        }
        // A new timeline, and first of all: loads arm timers on it.
        let clock = decode_clock(sections.take(CLOCK)?)?;
        self.timers.set_asleep(false);
        self.timers
            .clock()
            .restore(&GuestClockState { guest_ns: clock.guest_ns, awake_ns: clock.awake_ns })?;
        self.arrivals.adopted(clock.guest_ns, sections.take_last_ran()?);
        self.adopt_harts(&mut sections)?;
        // The interrupt controller comes first: then the devices drive its inputs to what they have loaded.
        for device in self.machine.devices().iter().rev() {
            device.wake();
            device.load(sections.take(device.name())?)?;
        }
        if let Some(renewal) = renewal {
            self.machine.renew(renewal);
        }
        if self.lifecycle.is_asleep() {
            self.timers.set_asleep(true);
            self.wakes.fell_asleep();
            // Whoever is due says so once more when the machine goes on.
            for device in self.machine.devices() {
                let _ = device.sleep();
            }
        }
        tracing::info!(guest_ns = clock.guest_ns, "a saved guest takes this machine over");
        Ok(())
    }

    fn adopt_harts(&self, sections: &mut Sections<'_>) -> Result<(), AdoptError> {
        let about = self.decode_harts(sections.take(HARTS)?)?;
        let sleeper = self.lifecycle.power().sleep().map(|sleep| sleep.hart);
        for (hart, saved) in self.harts.iter().zip(about) {
            let id = hart.shared.id();
            let section = sections.take(&hart_name(id))?;
            let mut slot = hart.slot();
            let Slot { vcpu, doing, .. } = &mut *slot;
            vcpu.load(section)?;
            // A guest that sleeps is woken by its hart alone, whatever the section says of it.
            let sleeps = sleeper == Some(id);
            *doing = if sleeps { Doing::Rests { ecall: false } } else { saved.doing() };
            hart.shared.set_hsm(if sleeps { HsmState::Suspended } else { saved.hsm() });
            slot.forget_debugger();
        }
        for hart in self.machine.harts().iter() {
            hart.gate().post_fence(fence_kind::CONTENT | fence_kind::TRANSLATION | fence_kind::INSTRUCTION);
            hart.gate().raise(vmcore::park::flag::CONTROL);
        }
        Ok(())
    }
}

fn hart_name(id: u32) -> String {
    format!("hart{id}")
}

fn shift(clock: &Arc<GuestClock>) -> Option<u8> {
    clock.icount_shift().map(IcountShift::bits)
}
