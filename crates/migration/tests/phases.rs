//! What is asked of a machine while it is on its way, in every phase of that, is honoured in the end, whichever way the
//! migration ends.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use engine::Job;
use migration::{Address, Capability};
use runstate::{
    DeviceRequest, ManagementRequest as Ask, MigrationStatus, Power, RunState, ShutdownCause, Sleep,
    WakeSource,
};
use support::{World, unix};
use vmcore::DevicePort as _;

const RAM: u64 = 0x8000_0000;

/// More than waits in sockets on the way.
const FILLED: u64 = 4 << 20;

const NOT_ASLEEP: &str = "Unable to wake up: guest is not in suspended state";

/// A link that can be shut and opened again, each way.
#[derive(Default)]
struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    shut: [bool; 2],
    cut: bool,
    ends: Vec<UnixStream>,
}

impl Link {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn cut(&self) {
        self.change(|state| {
            state.cut = true;
            for end in &state.ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }

    /// Waits until bytes may pass this way; false: never again.
    fn passes(&self, way: usize) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.shut[way] && !state.cut).unwrap();
        !state.cut
    }

    fn lay(self: &Arc<Self>, listener: UnixListener, target: &Path) -> JoinHandle<()> {
        let (link, target) = (Arc::clone(self), target.to_owned());
        thread::spawn(move || {
            let (source, _) = listener.accept().unwrap();
            let target = UnixStream::connect(target).unwrap();
            link.change(|state| state.ends = vec![source.try_clone().unwrap(), target.try_clone().unwrap()]);
            let out = link.pump(0, &source, &target);
            let back = link.pump(1, &target, &source);
            out.join().unwrap();
            back.join().unwrap();
        })
    }

    fn pump(self: &Arc<Self>, way: usize, from: &UnixStream, to: &UnixStream) -> JoinHandle<()> {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let link = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = from.read(&mut buffer).unwrap_or(0);
                if count == 0 || !link.passes(way) || to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        })
    }
}

/// Where the migration stands when something is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Memory goes, the guest runs.
    Active,
    /// The machine stands, nothing of its state has been taken.
    PreSwitchover,
    /// Everything is there but the word to run.
    Sealed,
}

const PHASES: [Phase; 3] = [Phase::Active, Phase::PreSwitchover, Phase::Sealed];

/// How it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Completed,
    Cancelled,
    Cut,
}

const ENDS: [End; 3] = [End::Completed, End::Cancelled, End::Cut];

/// A migration that stands in a phase.
struct Move {
    here: World,
    there: World,
    link: Arc<Link>,
    going: Job,
    arriving: Job,
    proxy: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Move {
    fn at(phase: Phase, make: impl FnOnce(&World)) -> Self {
        let (here, there) = (World::running(), World::waiting(true));
        for page in 0..FILLED / 4096 {
            here.ram().write(RAM + page * 4096, &(page + 1).to_le_bytes()).unwrap();
        }
        make(&here);
        here.migrations.set_capabilities(&[(Capability::PauseBeforeSwitchover, true)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("m")).unwrap();
        let behind = folder.path().join("behind");
        let arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
        let link = Arc::new(Link::default());
        let proxy = link.lay(listener, &behind);
        link.change(|state| state.shut[0] = phase == Phase::Active);
        let going = here.migrate(&unix(folder.path())).unwrap();
        if phase == Phase::Active {
            here.until("MIGRATION{setup}");
        } else {
            here.until("MIGRATION{pre-switchover}");
        }
        let moving = Self { here, there, link, going, arriving, proxy, _folder: folder };
        if phase == Phase::Sealed {
            moving.link.change(|state| state.shut[1] = true);
            moving.here.migrations.go_on(Some(MigrationStatus::PreSwitchover)).unwrap();
            moving.here.until("MIGRATION{device}");
        }
        moving.here.take();
        moving
    }

    /// Lets it end so; gives both machines.
    fn end(self, phase: Phase, end: End) -> (World, World) {
        match end {
            End::Completed => {
                self.link.change(|state| state.shut = [false; 2]);
                if phase == Phase::Active {
                    self.here.until("MIGRATION{pre-switchover}");
                }
                if phase != Phase::Sealed {
                    self.here.migrations.go_on(Some(MigrationStatus::PreSwitchover)).unwrap();
                }
            }
            End::Cancelled => self.here.migrations.cancel(engine::By::Unnamed).unwrap(),
            End::Cut => {}
        }
        if end != End::Completed {
            self.link.cut();
            // Where it waits for its manager it does not look at its link.
            let _ = self.here.migrations.go_on(Some(MigrationStatus::PreSwitchover));
        }
        assert!(self.going.wait() && self.arriving.wait());
        self.proxy.join().unwrap();
        (self.here, self.there)
    }
}

/// Asks a machine in every phase, and judges the one that has the guest in the end.
fn every(make: fn(&World), ask: fn(&World, Phase), judge: fn(&World, Phase, End)) {
    for phase in PHASES {
        for end in ENDS {
            let moving = Move::at(phase, make);
            ask(&moving.here, phase);
            let (here, there) = moving.end(phase, end);
            let other = if end == End::Completed { RunState::PostMigrate } else { RunState::InMigrate };
            let (has_it, left) = if end == End::Completed { (there, here) } else { (here, there) };
            assert_eq!(left.state(), other, "{phase:?} {end:?}");
            judge(&has_it, phase, end);
        }
    }
}

fn life(machine: &World) -> (RunState, Power) {
    let status = machine.engine.status();
    (status.state, status.power)
}

/// As `World::fall_asleep` has it.
const ASLEEP: Power = Power::Asleep(Sleep { hart: 0, resume_addr: 0x8040_0000, opaque: 7 });

#[test]
fn a_stop() {
    every(
        |_| {},
        |here, _| here.ask(Ask::Stop),
        |machine, _, end| {
            assert_eq!(life(machine), (RunState::Paused, Power::Awake), "{end:?}");
        },
    );
}

/// While the machine stands for its migration nobody lets it go on; before, it goes on and then moves.
#[test]
fn a_cont() {
    let ask = |here: &World, phase| match (phase, here.engine.manage(Ask::Cont)) {
        (Phase::Active, Ok(())) => {}
        (_, Err(error)) => assert_eq!(error.to_string(), "Migration is not finalized yet"),
        (_, Ok(())) => panic!("{phase:?}"),
    };
    every(
        |here| here.ask(Ask::Stop),
        ask,
        |machine, phase, _| {
            let expected = if phase == Phase::Active { RunState::Running } else { RunState::Paused };
            assert_eq!(life(machine), (expected, Power::Awake), "{phase:?}");
        },
    );
}

/// Refused while the machine stands, as ever: no wake gets lost, for none was accepted.
#[test]
fn a_wake_by_the_manager() {
    let ask = |here: &World, phase| match (phase, here.engine.manage(Ask::SystemWakeup)) {
        (Phase::Active, Ok(())) => {}
        (_, Err(error)) => assert_eq!(error.to_string(), NOT_ASLEEP),
        (_, Ok(())) => panic!("{phase:?}"),
    };
    every(World::fall_asleep, ask, |machine, phase, _| {
        let awake = (RunState::Running, Power::Awake);
        let expected = if phase == Phase::Active { awake } else { (RunState::Suspended, ASLEEP) };
        assert_eq!(life(machine), expected, "{phase:?}");
    });
}

#[test]
fn a_wake_by_a_device() {
    let ask = |here: &World, _| here.port.post(DeviceRequest::Wake(WakeSource::Rtc(0)));
    every(World::fall_asleep, ask, |machine, _, end| {
        assert_eq!(life(machine), (RunState::Running, Power::Awake), "{end:?}");
    });
}

/// Once the devices have been captured it is refused: a key that is pressed then would not arrive.
#[test]
fn a_press_of_the_power_button() {
    let ask = |here: &World, phase| match (phase, here.engine.manage(Ask::SystemPowerdown)) {
        (Phase::Active | Phase::PreSwitchover, Ok(())) => {}
        (_, Err(error)) => assert_eq!(error.to_string(), "Migration is not finalized yet"),
        (_, Ok(())) => panic!("{phase:?}"),
    };
    every(World::fall_asleep, ask, |machine, phase, _| {
        let awake = (RunState::Running, Power::Awake);
        let expected = if phase == Phase::Sealed { (RunState::Suspended, ASLEEP) } else { awake };
        assert_eq!(life(machine), expected, "{phase:?}");
    });
}

#[test]
fn a_reset() {
    every(
        |_| {},
        |here, _| here.ask(Ask::SystemReset),
        |machine, phase, end| {
            assert_eq!(life(machine), (RunState::Running, Power::Awake), "{phase:?} {end:?}");
            // Once everything has been taken it is made up for where the guest is in the end.
            let late = machine.take().iter().any(|line| line.starts_with("RESET"));
            assert_eq!(late, phase == Phase::Sealed || end != End::Completed, "{phase:?} {end:?}");
        },
    );
}

#[test]
fn the_guests_own_sleep() {
    for end in ENDS {
        let moving = Move::at(Phase::Active, |_| {});
        moving.here.fall_asleep();
        let (here, there) = moving.end(Phase::Active, end);
        let machine = if end == End::Completed { &there } else { &here };
        assert_eq!(life(machine), (RunState::Suspended, ASLEEP), "{end:?}");
    }
}

#[test]
fn a_quit() {
    for phase in PHASES {
        let moving = Move::at(phase, |_| {});
        moving.here.ask(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
        moving.link.cut();
        assert_eq!(moving.here.engine.wait(), 0);
        moving.going.wait();
        assert!(moving.arriving.wait());
        assert_eq!(moving.there.state(), RunState::InMigrate);
    }
}
