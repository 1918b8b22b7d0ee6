//! What the guest and its devices do (lifecycle rules 2.2). Their epoch has been checked.
//!
//! Each function says whether the request meant anything; one that did not is dropped.

use super::steps::Step;
use crate::{
    DeviceRequest, Effect, Event, Fault, GuestRequest, Hold, IoErrorAction, Owner, PanicAction, PanicOutcome,
    Power, ShutdownAction, ShutdownCause, Sleep, WakeFate, WatchdogAction,
};

impl Step {
    /// A guest that is off or broken executes nothing: what it had in flight is void.
    pub(super) fn guest(&mut self, request: GuestRequest) -> bool {
        if self.value.needs_reset() {
            return false;
        }
        match request {
            GuestRequest::Suspend(sleep) => return self.suspend(sleep),
            GuestRequest::ShutDown { cause, exit_code } => self.shut_down(cause, exit_code),
            GuestRequest::Reset => self.request_reset(ShutdownCause::GuestReset),
            GuestRequest::Panic => self.panic(),
            GuestRequest::CrashLoaded => self.emit(Event::GuestCrashloaded { action: PanicOutcome::Run }),
            GuestRequest::PvShutdown => {
                self.emit(Event::GuestPvshutdown);
                self.shut_down(ShutdownCause::GuestShutdown, 0);
            }
            GuestRequest::DebugStop => self.debug_stop(),
        }
        true
    }

    /// SUSP. It may meet a `stop` that came first: the guest is then simply asleep and held (B2), and nothing is frozen
    /// twice. Devices are asked at once whether a wake is due already, so none is lost between arming and falling asleep.
    fn suspend(&mut self, sleep: Sleep) -> bool {
        if self.value.power != Power::Awake || !self.value.wakeup_supported {
            return false;
        }
        self.value.power = Power::Asleep(sleep);
        self.publish();
        self.effect(Effect::SleepHart(sleep));
        self.emit(Event::Suspend);
        self.effect(Effect::SleepDevices);
        true
    }

    fn panic(&mut self) {
        let paused = self.value.actions.shutdown == ShutdownAction::Pause;
        match self.value.actions.panic {
            PanicAction::None => self.emit(Event::GuestPanicked { action: PanicOutcome::Run }),
            PanicAction::Shutdown if !paused => self.panic_shut_down(0),
            PanicAction::ExitFailure => self.panic_shut_down(1),
            PanicAction::Pause | PanicAction::Shutdown => {
                self.hold(Hold::of(Owner::Panic), Some(Event::GuestPanicked { action: PanicOutcome::Pause }));
            }
        }
    }

    fn panic_shut_down(&mut self, exit_code: i32) {
        self.emit(Event::GuestPanicked { action: PanicOutcome::Poweroff });
        self.shut_down(ShutdownCause::GuestPanic, exit_code);
    }

    pub(super) fn device(&mut self, request: DeviceRequest) -> bool {
        match request {
            DeviceRequest::Wake(source) => {
                if !self.value.is_asleep() {
                    return false;
                }
                self.wake_or_latch(source);
            }
            DeviceRequest::MaskedWake(source) => {
                if !self.value.is_asleep() {
                    return false;
                }
                self.effect(Effect::NoteWake { source, fate: WakeFate::Masked });
            }
            DeviceRequest::Watchdog => {
                if self.value.needs_reset() {
                    return false;
                }
                self.watchdog();
            }
            DeviceRequest::IoError { device, action } => {
                let told = Event::BlockIoError { device, action };
                match action {
                    IoErrorAction::Stop => self.hold(Hold::of(Owner::Device(device)), Some(told)),
                    IoErrorAction::Ignore | IoErrorAction::Report => self.emit(told),
                }
            }
            DeviceRequest::HartFailed { what } => {
                if self.value.needs_reset() {
                    return false;
                }
                self.break_down(what);
            }
        }
        true
    }

    fn watchdog(&mut self) {
        let action = self.value.actions.watchdog;
        let told = Event::Watchdog { action };
        if action == WatchdogAction::Pause {
            return self.hold(Hold::of(Owner::Watchdog), Some(told));
        }
        self.emit(told);
        match action {
            WatchdogAction::Reset => self.request_reset(ShutdownCause::GuestReset),
            WatchdogAction::Shutdown => self.power_button(),
            // QEMU ends without a word here; clients are told (lifecycle rules, section 6).
            WatchdogAction::Poweroff => self.exit(ShutdownCause::GuestShutdown),
            WatchdogAction::Pause
            | WatchdogAction::Debug
            | WatchdogAction::None
            | WatchdogAction::InjectNmi => {}
        }
    }

    /// The machine cannot go on until it is reset.
    pub(super) fn break_down(&mut self, what: Fault) {
        let was_live = self.value.is_live();
        self.set_dead(Power::Broken { what }, Owner::Fault);
        self.halted(was_live, None);
    }
}
