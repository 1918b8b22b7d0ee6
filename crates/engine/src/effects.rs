//! Effects, carried out: the second half of the machine thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runstate::{
    DeviceRequest, Effect, Effects, EngineReport, Event, Request, WakeFate, WakeSource, WatchdogAction,
};
use vmcore::park::flag;
use vmcore::{BootEntry, Device, PlaceError, StartParams};

use crate::hart::{Doing, Hart, Slot};
use crate::job::{Go, JobControl};
use crate::machine::{MachineThread, Unpark};
use crate::state::AdoptError;
use crate::work::Task;

/// How long the end of the machine waits for harts to park, which they do at once.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// Why an effect could not be carried out.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}

/// How often boot images are placed, at most, where host memory is lost under them.
const PLACE_TRIES: usize = 3;

impl MachineThread {
    /// Carries out `effects` in order. Where one fails the rest is abandoned, and that is reported before all else.
    pub(crate) fn carry_out(&mut self, effects: Effects, follow: &mut VecDeque<Request>) {
        for effect in effects {
            if let Err(error) = self.step(effect, follow) {
                tracing::error!(%error, ?effect, "a step of the machine cannot be carried out");
                follow.push_front(EngineReport::EffectFailed.into());
                return;
            }
        }
    }

    fn step(&mut self, effect: Effect, follow: &mut VecDeque<Request>) -> Result<(), StepError> {
        match effect {
            Effect::PublishState => self.publish(None),
            Effect::Emit(event) => self.publish(Some(event)),
            // Freezing takes the timers' lock and waits for callbacks in flight, so it quiesces them too.
            Effect::FreezeClock | Effect::QuiesceTimers => {
                if self.timers.freeze() {
                    self.arrivals.froze(self.publisher.now());
                }
            }
            Effect::ThawClock => {
                self.arrivals.thaws(self.publisher.now());
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
            Effect::Prepare => {
                if !self.start_task(Task::Prepare) {
                    follow.push_front(Request::Engine(EngineReport::Prepared));
                }
            }
            Effect::Flush => {
                self.start_task(Task::Flush);
            }
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
            Effect::BeginJob(_) => self.begin_job(),
            Effect::CancelJob(_) => {
                if let Some(job) = &self.job {
                    job.cancel();
                }
            }
            Effect::Exit { code } => self.exit = Some(code),
            Effect::AdoptGuest => self.adopt_guest()?,
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

    pub(crate) fn start_task(&mut self, task: Task) -> bool {
        let started = self.worker.start(task);
        self.tasks += u32::from(started);
        started
    }

    /// Sets the job going that was asked for. One asked for without its work has nothing to do and never ends: only
    /// tests of the lifecycle do that.
    fn begin_job(&mut self) {
        self.staged = None;
        self.job = self.go.take().map(Go::start);
    }

    pub(crate) fn publish(&self, event: Option<Event>) {
        self.wakes.set(&self.lifecycle);
        if let Some(Event::BlockIoError { device, .. }) = event {
            self.publisher.note_io_error(self.worker.io_error(device));
        }
        if let Some(Event::DumpCompleted { .. }) = event {
            self.publisher.note_job(self.job.as_ref().map(JobControl::report).unwrap_or_default());
        }
        if let Some(Event::Watchdog { action: WatchdogAction::Debug }) = event {
            tracing::warn!("the guest's watchdog has expired");
        }
        self.publisher.publish(&self.lifecycle, &self.cause, event);
    }

    pub(crate) fn hart(&self, id: u32) -> Option<&Arc<Hart>> {
        self.harts.get(usize::try_from(id).ok()?)
    }

    pub(crate) fn stop_devices(&self) {
        self.machine.devices().iter().rev().for_each(|device| device.stop());
    }

    pub(crate) fn park(&mut self) {
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

    /// Lets the harts go that the last message's effects have set free.
    pub(crate) fn unpark(&mut self) {
        let unpark = std::mem::take(&mut self.unpark_due);
        for hart in &self.harts {
            if unpark == Unpark::All || unpark == Unpark::One(hart.shared.id()) {
                hart.shared.gate().lower(flag::PARK);
            }
        }
    }

    /// Harts (parked) and devices to power-on, boot images copied anew.
    pub(crate) fn reset_machine(&mut self) -> Result<(), PlaceError> {
        // The next guest does without what the one before could not have, or not have yet: nobody waits for another host.
        if let Some(ram) = self.machine.ram().filter(|ram| ram.is_damaged() || ram.fills_from_afar()) {
            ram.give_up_absent();
        }
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
        match self.place_images()? {
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

    /// Where a page turns out to be lost the images are placed once more, on the empty one that has taken its place.
    fn place_images(&self) -> Result<BootEntry, PlaceError> {
        for _ in 0..PLACE_TRIES {
            let entry = self.machine.place_images()?;
            if self.machine.ram().and_then(|ram| ram.take_own_host_error()).is_none() {
                return Ok(entry);
            }
        }
        let source = "host memory is lost again and again".into();
        Err(PlaceError { what: "boot images", source })
    }

    /// Where a hart is. It is parked for the look; guest time goes on, as it would under a busy host.
    pub(crate) fn describe(&self, hart: u32) -> Option<String> {
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
