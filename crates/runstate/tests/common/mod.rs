//! A machine in miniature: it interprets effects the way an engine does, and answers the reports from its fields.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod space;

use runstate::*;

pub use runstate::DeviceRequest as D;
pub use runstate::GuestRequest as G;
pub use runstate::ManagementRequest as M;
pub use runstate::MigrationRequest as J;

pub const SLEEP: Sleep = Sleep { hart: 1, resume_addr: 0x8020_0000, opaque: 7 };
pub const DISK: DeviceId = DeviceId(3);
pub const FAILS: D = D::IoError { device: DISK, action: IoErrorAction::Stop };
pub const ALARM: WakeSource = WakeSource::Rtc(0);
pub const QUIT: M = M::Quit { cause: ShutdownCause::HostQmpQuit };
pub const POWER_OFF: G = G::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 };
pub const BROKEN: D = D::HartFailed { what: Fault::HartThread { hart: 0 } };

pub struct Machine {
    pub life: Lifecycle,
    /// Whether `Prepare` succeeds.
    pub prepare: bool,
    /// What devices find due when they start, and when they go to sleep.
    pub due: Option<WakeSource>,
    pub due_on_sleep: Option<WakeSource>,
    /// All effects so far, reports answered.
    pub effects: Vec<Effect>,
}

/// Anything a test can ask for: guests and devices get the epoch of now.
pub trait Ask {
    fn request(self, epoch: Epoch) -> Request;
}
impl Ask for M {
    fn request(self, _: Epoch) -> Request {
        self.into()
    }
}
impl Ask for J {
    fn request(self, _: Epoch) -> Request {
        self.into()
    }
}
impl Ask for EngineReport {
    fn request(self, _: Epoch) -> Request {
        self.into()
    }
}
impl Ask for G {
    fn request(self, epoch: Epoch) -> Request {
        self.at(epoch)
    }
}
impl Ask for D {
    fn request(self, epoch: Epoch) -> Request {
        self.at(epoch)
    }
}
impl Ask for Request {
    fn request(self, _: Epoch) -> Request {
        self
    }
}

impl Machine {
    pub fn with(config: Config) -> Machine {
        Machine {
            life: Lifecycle::new(config),
            prepare: true,
            due: None,
            due_on_sleep: None,
            effects: vec![],
        }
    }

    /// Held in prelaunch.
    pub fn held() -> Machine {
        Machine::with(Config::default())
    }

    /// Running.
    pub fn running() -> Machine {
        Machine::held().after(M::Cont)
    }

    /// Live and asleep.
    pub fn asleep() -> Machine {
        Machine::running().after(G::Suspend(SLEEP))
    }

    pub fn acting(change: ActionChange) -> Machine {
        Machine::running().after(M::SetActions(change))
    }

    pub fn no_shutdown() -> Machine {
        Machine::acting(ActionChange { shutdown: Some(ShutdownAction::Pause), ..ActionChange::default() })
    }

    pub fn incoming(autostart: bool) -> Machine {
        Machine::with(Config { incoming: true, autostart, ..Config::default() }).after(M::MigrateIncoming)
    }

    /// A machine on which `request` has been carried out.
    pub fn after(mut self, request: impl Ask) -> Machine {
        self.ask(request).expect("the request is not refused");
        self
    }

    /// Carries out a request with all that its effects yield, and gives the events, separated by blanks.
    pub fn ask(&mut self, request: impl Ask) -> Result<String, Refusal> {
        let from = self.effects.len();
        let mut next = Some(request.request(self.life.epoch()));
        while let Some(request) = next.take() {
            let outcome = self.life.apply(&request)?;
            self.life = outcome.next;
            for effect in outcome.effects {
                self.effects.push(effect);
                let report = match effect {
                    Effect::Prepare if self.prepare => EngineReport::Prepared.into(),
                    Effect::Prepare => EngineReport::PrepareFailed.into(),
                    Effect::StartDevices => EngineReport::DevicesStarted { due: self.due }.into(),
                    Effect::SleepDevices => match self.due_on_sleep {
                        Some(source) => D::Wake(source).at(self.life.epoch()),
                        None => continue,
                    },
                    _ => continue,
                };
                next = Some(report);
            }
        }
        Ok(events(&self.effects[from..]))
    }

    /// The events of a request that is not refused, and the name that the machine has then: `"STOP -> paused"`.
    pub fn then(&mut self, request: impl Ask) -> String {
        let events = self.ask(request).expect("the request is not refused");
        format!("{events} -> {}", self.name()).trim_start().to_owned()
    }

    pub fn name(&self) -> RunState {
        self.life.view()
    }

    /// The exit status with which the process ends, if it does.
    pub fn exit(&self) -> Option<i32> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Exit { code } => Some(*code),
            _ => None,
        })
    }

    /// Asserts that `request` is refused with `text` and changes nothing.
    pub fn refuses(&self, request: impl Ask, text: &str) {
        let refusal = self.life.apply(&request.request(self.life.epoch())).expect_err("refused");
        assert_eq!(refusal.to_string(), text);
    }
}

pub fn events(effects: &[Effect]) -> String {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Emit(event) => Some(event.to_string()),
        _ => None,
    });
    told.collect::<Vec<_>>().join(" ")
}

pub const RESET_NEEDED: &str = "Resetting the Virtual Machine is required";
pub const NOT_SUSPENDED: &str = "Unable to wake up: guest is not in suspended state";
pub const DUMPING: &str = "There is a dump in process, please wait.";

/// What another machine, driven there by `requests`, would send.
pub fn saved(machine: &Machine) -> SavedLifecycle {
    machine.life.saved()
}

/// An outgoing migration up to its switch-over.
pub fn switched_over(machine: Machine) -> Machine {
    machine.after(M::MigrateStart).after(J::SwitchOver)
}

/// An outgoing migration that has moved the guest away.
pub fn moved(machine: Machine) -> Machine {
    switched_over(machine).after(J::Seal).after(J::Commit { postcopy: false }).after(J::OutgoingDone)
}

pub fn all_actions() -> Vec<ActionChange> {
    let mut all = vec![];
    for reboot in RebootAction::ALL {
        for shutdown in ShutdownAction::ALL {
            for panic in PanicAction::ALL {
                for watchdog in WatchdogAction::ALL {
                    all.push(ActionChange {
                        reboot: Some(*reboot),
                        shutdown: Some(*shutdown),
                        panic: Some(*panic),
                        watchdog: Some(*watchdog),
                    });
                }
            }
        }
    }
    all
}
