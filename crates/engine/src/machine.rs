//! The machine thread: sole owner of the machine's life. Takes requests from its queue, one at a time, and carries out
//! what [`runstate`] says.
//!
//! ```text
//!   queue ──► Lifecycle::apply ──► effects, in order ──┬─► harts, timers, devices
//!                  ▲                                   ├─► published state and events
//!                  └── reports, wakes that are due ◄───┘
//!                      (all before the reply)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use clock::TimerQueue;
use runstate::{
    DeviceRequest, Effect, Effects, EngineReport, GuestRequest, Lifecycle, ManagementRequest, Power, Refusal,
    Request, WakeFate, WakeSource,
};
use vmcore::park::flag;
use vmcore::{BootEntry, Device, Machine, PlaceError, SbiReturn, StartParams};

use crate::debug::DebugState;
use crate::hart::{Doing, Hart, Slot};
use crate::publish::Publisher;
use crate::queue::{Message, Receiver};
use crate::record::{By, Cause};
use crate::wakes::WakeBook;

/// `SBI_ERR_FAILED`: what a request that led to nothing returns to the guest.
const FAILED: i64 = -1;
/// `SBI_ERR_DENIED`.
const DENIED: i64 = -4;

/// How long a guest that resets in a loop waits, at most, for clients that do not keep up.
const RESET_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether they have caught up.
const RESET_GLANCE: Duration = Duration::from_millis(10);

/// How long the end of the machine waits for harts to park, which they do at once.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// A request of a hart that waits until clients have caught up.
struct Deferred {
    hart: u32,
    epoch: u64,
    request: GuestRequest,
    until: Instant,
}

/// Which harts are to be unparked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Unpark {
    #[default]
    None,
    One(u32),
    All,
}

/// The machine thread's state.
pub(crate) struct MachineThread {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) harts: Vec<Arc<Hart>>,
    pub(crate) timers: Arc<TimerQueue>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) receiver: Receiver,
    wakes: Arc<WakeBook>,
    /// What led to what is being carried out.
    cause: Cause,
    deferred: VecDeque<Deferred>,
    /// Harts to unpark once the message at hand is answered.
    unpark_due: Unpark,
    pub(crate) debug: DebugState,
    exit: Option<i32>,
}

impl MachineThread {
    pub(crate) fn new(
        lifecycle: Lifecycle,
        machine: Arc<dyn Machine>,
        harts: Vec<Arc<Hart>>,
        timers: Arc<TimerQueue>,
        publisher: Arc<Publisher>,
        receiver: Receiver,
        wakes: Arc<WakeBook>,
    ) -> Self {
        Self {
            lifecycle,
            machine,
            harts,
            timers,
            publisher,
            receiver,
            wakes,
            cause: Cause::START,
            deferred: VecDeque::new(),
            unpark_due: Unpark::None,
            debug: DebugState::default(),
            exit: None,
        }
    }

    /// Puts harts, devices and images into the state after power-on, held: no input comes in before the first start.
    pub(crate) fn boot(&mut self) -> Result<(), PlaceError> {
        self.park();
        self.stop_devices();
        self.reset_machine()
    }

    /// The thread's body: returns the process's exit status when the machine ends.
    pub(crate) fn run(mut self) -> i32 {
        while let Some(message) = self.next() {
            self.handle(message);
        }
        // Without a status every handle is gone: nobody can ever ask anything again.
        self.exit.unwrap_or(0)
    }

    /// The next message; none once the machine has ended. While requests are deferred it looks at those in between; while counted time has to jump because
    /// no hart can execute, it jumps.
    fn next(&mut self) -> Option<Message> {
        loop {
            self.handle_deferred();
            if self.exit.is_some() {
                return None;
            }
            if !self.deferred.is_empty() {
                match self.receiver.messages.recv_timeout(RESET_GLANCE) {
                    Ok(message) => return Some(message),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
            match self.receiver.messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.jump_asleep() => {}
                Err(TryRecvError::Empty) => return self.receiver.messages.recv().ok(),
            }
        }
    }

    /// Counted time and the guest asleep: jumps to the next deadline that may wake it. Returns whether it did.
    fn jump_asleep(&self) -> bool {
        let asleep = self.lifecycle.is_live() && self.lifecycle.is_asleep();
        if !asleep || self.timers.advance_idle(None).is_none() {
            return false;
        }
        // Not asked how many fired: the timers' thread may have been faster, and there may be more to jump to.
        self.timers.run_due();
        true
    }

    fn handle(&mut self, message: Message) {
        self.answer(message);
        self.unpark();
    }

    fn answer(&mut self, message: Message) {
        match message {
            Message::Management { request, by, reply } => {
                let result = self.manage_by(request, by);
                // The asker may be gone; what it asked for has happened all the same.
                let _ = reply.send(result);
            }
            Message::Guest { hart, epoch, request } => self.guest(hart, epoch, request),
            Message::Device => {
                for (epoch, request) in self.receiver.take_device_requests() {
                    if self.exit.is_none() {
                        self.device(epoch, request);
                    }
                }
            }
            Message::Debug(ask) => ask(self),
            Message::Describe { hart, reply } => {
                let _ = reply.send(self.describe(hart));
            }
        }
    }

    /// Asked by the debugger.
    pub(crate) fn manage(&mut self, request: ManagementRequest) -> Result<(), Refusal> {
        self.manage_by(request, By::Debugger)
    }

    fn manage_by(&mut self, request: ManagementRequest, by: By) -> Result<(), Refusal> {
        self.apply_by(Request::Management(request), by).map(|_| ())
    }

    fn device(&mut self, epoch: u64, request: DeviceRequest) {
        if let Err(refusal) = self.apply(request.at(epoch)) {
            tracing::debug!(?request, %refusal, "a device's request was refused");
        }
    }

    fn guest(&mut self, hart: u32, epoch: u64, request: GuestRequest) {
        if request == GuestRequest::DebugStop {
            return self.debug_stop(hart, epoch);
        }
        // One of an older epoch does nothing, so it need not wait; what waits is at most one request a hart.
        self.deferred.retain(|deferred| deferred.epoch == self.lifecycle.epoch());
        let current = epoch == self.lifecycle.epoch();
        if current && is_reset(&request) && self.publisher.anyone_behind() {
            let until = Instant::now() + RESET_PATIENCE;
            self.deferred.push_back(Deferred { hart, epoch, request, until });
        } else {
            self.guest_now(hart, epoch, request);
        }
    }

    fn guest_now(&mut self, hart: u32, epoch: u64, request: GuestRequest) {
        let dropped = match self.apply_by(request.at(epoch), By::Hart(hart)) {
            Ok(dropped) => dropped,
            Err(refusal) => {
                tracing::debug!(?request, %refusal, "the guest's request was refused");
                true
            }
        };
        // Made before a reset or a load, or followed by one: the hart that asked is no more.
        if epoch != self.lifecycle.epoch() {
            return;
        }
        // A suspend that was accepted is never answered: the hart is asleep or, where a wake was due already, was
        // started at its resume address and executes. One that asked for a reset has nothing more to do.
        let returns =
            !matches!(request, GuestRequest::Suspend(_)) && self.lifecycle.pending_reset().is_none();
        let goes_on = dropped || (returns && matches!(self.lifecycle.power(), Power::Awake));
        if let (true, Some(hart)) = (goes_on, self.hart(hart)) {
            hart.answer(SbiReturn::error(if dropped { DENIED } else { FAILED }));
        }
    }

    fn handle_deferred(&mut self) {
        while let Some(first) = self.deferred.front() {
            if self.exit.is_some() || (self.publisher.anyone_behind() && Instant::now() < first.until) {
                return;
            }
            if let Some(Deferred { hart, epoch, request, .. }) = self.deferred.pop_front() {
                self.guest_now(hart, epoch, request);
                self.unpark();
            }
        }
    }

    /// Applies a request and carries out everything that follows from it: its effects, the reports that they ask for,
    /// and the wakes that they find due. Returns whether the request was dropped.
    pub(crate) fn apply(&mut self, request: Request) -> Result<bool, Refusal> {
        let cause = Cause::of(&request);
        self.apply_for(request, cause)
    }

    /// The same for a request whose maker is known.
    fn apply_by(&mut self, request: Request, by: By) -> Result<bool, Refusal> {
        let cause = Cause { by, ..Cause::of(&request) };
        self.apply_for(request, cause)
    }

    fn apply_for(&mut self, request: Request, cause: Cause) -> Result<bool, Refusal> {
        let outcome = self.lifecycle.apply(&request)?;
        self.lifecycle = outcome.next;
        self.cause = cause;
        let mut follow = VecDeque::new();
        self.carry_out(outcome.effects, &mut follow);
        while let Some(request) = follow.pop_front() {
            match self.lifecycle.apply(&request) {
                Ok(outcome) => {
                    self.lifecycle = outcome.next;
                    if let Some(cause) = Cause::of_follow_up(&request) {
                        self.cause = cause;
                    }
                    self.carry_out(outcome.effects, &mut follow);
                }
                // A report is never refused; a wake that comes too late is nobody's failure.
                Err(refusal) => tracing::debug!(?request, %refusal, "a follow-up was refused"),
            }
        }
        Ok(outcome.dropped)
    }

    /// Carries out `effects` in order. Where one fails the rest is abandoned, and that is reported before all else.
    fn carry_out(&mut self, effects: Effects, follow: &mut VecDeque<Request>) {
        for effect in effects {
            if let Err(error) = self.step(effect, follow) {
                tracing::error!(%error, ?effect, "a step of the machine cannot be carried out");
                follow.push_front(EngineReport::EffectFailed.into());
                return;
            }
        }
    }

    fn step(&mut self, effect: Effect, follow: &mut VecDeque<Request>) -> Result<(), PlaceError> {
        match effect {
            Effect::PublishState => self.publish(None),
            Effect::Emit(event) => self.publish(Some(event)),
            // Freezing takes the timers' lock and waits for callbacks in flight, so it quiesces them too.
            Effect::FreezeClock | Effect::QuiesceTimers => {
                self.timers.freeze();
            }
            Effect::ThawClock => {
                self.timers.thaw();
            }
            Effect::ParkHarts if self.lifecycle.is_exiting() => self.park_to_exit(),
            Effect::ParkHarts => self.park(),
            Effect::UnparkHarts => {
                self.forget_stop();
                self.unpark_due = Unpark::All;
            }
            Effect::UnparkOne { hart } => {
                self.forget_stop();
                self.unpark_due = Unpark::One(hart);
            }
            Effect::StopDevices => self.stop_devices(),
            Effect::StartDevices => {
                let mut due = self.due_wakes(|device| device.start());
                // One that may wake the guest now, before it is told to be asleep again; the rest has its turn behind.
                let policy = self.lifecycle.wake_policy();
                due.sort_by_key(|source| !policy.allows(*source));
                let mut due = due.into_iter();
                let report = EngineReport::DevicesStarted { due: due.next() };
                follow.push_front(report.into());
                follow.extend(due.map(|source| self.wake(source)));
            }
            Effect::Prepare => follow.push_front(Request::Engine(EngineReport::Prepared)),
            Effect::SleepHart(sleep) => {
                if let Some(hart) = self.hart(sleep.hart) {
                    hart.shared.hsm_suspend();
                }
                self.timers.set_asleep(true);
                self.wakes.fell_asleep();
            }
            Effect::SleepDevices => {
                let due = self.due_wakes(|device| device.sleep());
                follow.extend(due.into_iter().map(|source| self.wake(source)));
            }
            Effect::AskWakeSources => {
                let due = self.due_wakes(|_| None).into_iter();
                let allowed = due.filter(|source| self.lifecycle.wake_policy().allows(*source));
                follow.extend(allowed.map(|source| self.wake(source)));
            }
            Effect::WakeHart(sleep) => {
                self.timers.set_asleep(false);
                if let Some(hart) = self.hart(sleep.hart) {
                    hart.shared.force_start(StartParams { pc: sleep.resume_addr, opaque: sleep.opaque });
                }
            }
            Effect::WakeDevices(source) => {
                self.publisher.note_wake(source);
                self.wakes.delivered(source, self.publisher.now());
                self.machine.devices().iter().for_each(|device| device.wake());
            }
            Effect::ResetMachine => self.reset_machine()?,
            Effect::PressPowerButton => {
                for device in self.machine.devices() {
                    device.press_power_button();
                }
            }
            Effect::Exit { code } => self.exit = Some(code),
            // Disks, snapshots and migration come with their own issues: nothing to flush, no job to begin or cancel.
            Effect::Flush | Effect::AdoptGuest | Effect::BeginJob(_) | Effect::CancelJob(_) => {}
            Effect::NoteWake { source, fate } => {
                let counted = self.wakes.noted(source, fate, self.publisher.now());
                // What is latched has been published with the rest of the value.
                if counted && fate != WakeFate::Latched {
                    self.publisher.note_refused(source, fate);
                    self.publish(None);
                }
            }
        }
        Ok(())
    }

    /// Has each device take a step, and collects what it reports due, then what else is due by the machine's account.
    fn due_wakes(&self, step: impl Fn(&dyn Device) -> Option<WakeSource>) -> Vec<WakeSource> {
        let mut due: Vec<_> = self.machine.devices().iter().filter_map(|device| step(&**device)).collect();
        for state in self.machine.wake_sources() {
            if state.due && !due.contains(&state.source) {
                due.push(state.source);
            }
        }
        due
    }

    /// A wake of now.
    fn wake(&self, source: WakeSource) -> Request {
        DeviceRequest::Wake(source).at(self.lifecycle.epoch())
    }

    fn publish(&self, event: Option<runstate::Event>) {
        self.wakes.set(&self.lifecycle);
        self.publisher.publish(&self.lifecycle, &self.cause, event);
    }

    pub(crate) fn hart(&self, id: u32) -> Option<&Arc<Hart>> {
        self.harts.get(usize::try_from(id).ok()?)
    }

    fn stop_devices(&self) {
        self.machine.devices().iter().rev().for_each(|device| device.stop());
    }

    fn park(&mut self) {
        self.unpark_due = Unpark::None;
        for hart in &self.harts {
            hart.shared.gate().raise(flag::PARK);
        }
        for hart in &self.harts {
            hart.shared.gate().wait_outside();
        }
        self.disarm();
    }

    /// Parks the harts for good. One that hangs, through a fault of this program, must not keep the process.
    fn park_to_exit(&self) {
        for hart in &self.harts {
            hart.shared.gate().raise(flag::PARK);
        }
        let until = Instant::now() + EXIT_PATIENCE;
        while !self.harts.iter().all(|hart| hart.shared.gate().is_outside()) {
            if Instant::now() >= until {
                tracing::error!("a hart hangs and is left behind");
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Lets the harts go that the last message's effects have set free. After its reply: the harts would compete with the
    /// asker for the host's processors, and nothing that is asked next can be handled before.
    fn unpark(&mut self) {
        let unpark = std::mem::take(&mut self.unpark_due);
        for hart in &self.harts {
            if unpark == Unpark::All || unpark == Unpark::One(hart.shared.id()) {
                hart.shared.gate().lower(flag::PARK);
            }
        }
    }

    /// Harts (parked) and devices to power-on, boot images copied anew.
    fn reset_machine(&mut self) -> Result<(), PlaceError> {
        for device in self.machine.devices() {
            device.reset();
        }
        for hart in &self.harts {
            let mut slot = hart.slot();
            slot.reset();
            hart.shared.reset();
        }
        self.timers.set_asleep(false);
        self.machine.harts().set_epoch(self.lifecycle.epoch());
        match self.machine.place_images()? {
            BootEntry::Supervisor { pc, device_tree } => {
                if let Some(hart) = self.harts.first() {
                    hart.shared.force_start(StartParams { pc, opaque: device_tree });
                }
            }
            BootEntry::Machine { pc, device_tree, info } => {
                for hart in &self.harts {
                    let mut slot = hart.slot();
                    slot.vcpu.start_machine(pc, device_tree, info);
                    slot.doing = Doing::Runs;
                    hart.shared.hsm_resume();
                    drop(slot);
                    hart.shared.gate().raise(flag::CONTROL);
                }
            }
        }
        Ok(())
    }

    /// Where a hart is. It is parked for the look; guest time goes on, as it would under a busy host.
    fn describe(&self, hart: u32) -> Option<String> {
        self.look_at(hart, |slot| slot.vcpu.describe())
    }

    /// Has a look at a hart, which is parked for it.
    pub(crate) fn look_at<T>(&self, hart: u32, look: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let hart = self.hart(hart)?;
        let gate = hart.shared.gate();
        let was_parked = gate.flags() & flag::PARK != 0;
        gate.raise(flag::PARK);
        gate.wait_outside();
        let mut slot = hart.slot();
        slot.apply_start(&hart.shared);
        let seen = look(&mut slot);
        drop(slot);
        if !was_parked {
            gate.lower(flag::PARK);
        }
        Some(seen)
    }
}

fn is_reset(request: &GuestRequest) -> bool {
    matches!(request, GuestRequest::Reset)
}
