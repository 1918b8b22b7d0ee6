//! An alarm that falls due while the guest falls asleep, and a manager stops and continues, resets, or changes the policy.
//!
//! Real: [`Lifecycle::apply`], which decides everything. Modelled, each after the function that it names:
//!
//! * [`Queue`]: `engine::queue`, one order for all who post; a device's request carries the epoch that `DevicePort::post`
//!   reads.
//! * [`Machine`]: `MachineThread::serve`, `go_on`, `step` and `due_wakes`, with only the effects that have to do with wakes.
//!   A lift is prepared at once, as where `start_task` has no work.
//! * [`Alarm`]: `GoldfishRtc` (`judge`, `expired`, `start`, `stop`, `sleep`, `reset`) on the host's clock, and what
//!   `Wakers::states` says of it. The timers' thread calls `expired` at any moment, whether the machine is held or not.
//!
//! Mutations that these models catch:
//! * `SleepDevices` asks nobody; `StartDevices` reports nothing due; `AskWakeSources` asks nobody.
//! * `expired` posts nothing; `due_wakes` asks only the device, not the machine's account.
//! * The reset leaves the alarm as it is.
//! * (in the rules) a latched wake is forgotten as the machine goes on; a device's request of an older epoch counts.

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use runstate::{
    Config, DeviceRequest, Effect, EngineReport, Event, GuestRequest, Lifecycle, ManagementRequest, Request,
    Sleep, WakeChange, WakePolicy, WakeSource, WakeSwitch,
};

use crate::model;

const SOURCE: WakeSource = WakeSource::Rtc(0);
const SUSPEND: GuestRequest = GuestRequest::Suspend(Sleep { hart: 0, resume_addr: 0x8000_0000, opaque: 7 });

/// The machine thread's queue. It ends with the last of the posts that the threads have to make or to decline.
struct Queue {
    /// What waits, and how many posts are still to come.
    state: Mutex<(VecDeque<Request>, usize)>,
    changed: Condvar,
}

impl Queue {
    fn post(&self, request: impl Into<Request>) {
        self.answer(Some(request.into()));
    }

    fn answer(&self, request: Option<Request>) {
        let mut state = self.state.lock().unwrap();
        state.0.extend(request);
        state.1 -= 1;
        drop(state);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Request> {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(request) = state.0.pop_front() {
                return Some(request);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}

#[derive(Default)]
struct Registers {
    armed: bool,
    pending: bool,
    held: bool,
}

struct Alarm {
    /// The host's clock has passed the alarm's time.
    past: AtomicBool,
    registers: Mutex<Registers>,
}

impl Alarm {
    fn judge(&self, registers: &mut Registers) -> Option<WakeSource> {
        if registers.armed && !registers.held && self.past.load(Ordering::SeqCst) {
            registers.armed = false;
            registers.pending = true;
        }
        registers.pending.then_some(SOURCE)
    }

    /// The guest's write. It posts nothing.
    fn arm(&self) {
        let mut registers = self.registers.lock().unwrap();
        registers.armed = true;
        self.judge(&mut registers);
    }

    fn expired(&self, world: &World) {
        let mut registers = self.registers.lock().unwrap();
        let was_pending = registers.pending;
        let due = self.judge(&mut registers).filter(|_| !was_pending);
        world.queue.answer(due.map(|source| {
            let epoch = world.epoch.load(Ordering::SeqCst);
            DeviceRequest::Wake(source).at(epoch)
        }));
    }

    fn stop(&self) {
        self.registers.lock().unwrap().held = true;
    }

    fn start(&self) -> Option<WakeSource> {
        let mut registers = self.registers.lock().unwrap();
        registers.held = false;
        self.judge(&mut registers)
    }

    fn sleep(&self) -> Option<WakeSource> {
        self.judge(&mut self.registers.lock().unwrap())
    }

    fn reset(&self) {
        let mut registers = self.registers.lock().unwrap();
        registers.armed = false;
        registers.pending = false;
    }

    /// Due by the machine's account: a held device judges its alarm only later.
    fn is_due(&self) -> bool {
        let registers = self.registers.lock().unwrap();
        registers.pending || (registers.armed && self.past.load(Ordering::SeqCst))
    }
}

/// What the threads share.
struct World {
    queue: Queue,
    alarm: Alarm,
    /// `Harts::epoch`.
    epoch: AtomicU64,
}

struct Machine {
    life: Lifecycle,
    world: Arc<World>,
    events: Vec<Event>,
}

impl Machine {
    /// A machine that runs, and its world, in which so many posts are to come.
    fn running(posts: usize, wake_policy: WakePolicy) -> Machine {
        let queue = Queue { state: Mutex::new((VecDeque::new(), posts)), changed: Condvar::new() };
        let alarm = Alarm { past: AtomicBool::new(false), registers: Mutex::default() };
        let world = Arc::new(World { queue, alarm, epoch: AtomicU64::new(0) });
        let life = Lifecycle::new(Config { wake_policy, ..Config::default() });
        let mut machine = Machine { life, world, events: Vec::new() };
        machine.serve(ManagementRequest::Cont.into());
        machine
    }

    fn post_from(&self, body: impl FnOnce(&World) + Send + 'static) {
        let world = Arc::clone(&self.world);
        thread::spawn(move || body(&world));
    }

    /// The host's clock passes the alarm's time, and the timers' thread notices.
    fn time_passes(&self) {
        self.post_from(|world| {
            world.alarm.past.store(true, Ordering::SeqCst);
            world.alarm.expired(world);
        });
    }

    /// Until everything that anybody posts is handled.
    fn run(&mut self) {
        while let Some(request) = self.world.queue.next() {
            self.serve(request);
        }
    }

    fn serve(&mut self, request: Request) {
        let mut follow = VecDeque::from([request]);
        while let Some(request) = follow.pop_front() {
            let outcome = self.life.apply(&request).expect("nothing here is refused");
            self.life = outcome.next;
            for effect in outcome.effects {
                self.step(effect, &mut follow);
            }
        }
    }

    fn step(&mut self, effect: Effect, follow: &mut VecDeque<Request>) {
        let alarm = &self.world.alarm;
        match effect {
            Effect::Emit(event) => self.events.push(event),
            Effect::StopDevices => alarm.stop(),
            Effect::Prepare => follow.push_front(EngineReport::Prepared.into()),
            Effect::StartDevices => {
                let due = self.due_wake(Alarm::start);
                follow.push_front(EngineReport::DevicesStarted { due }.into());
            }
            Effect::SleepDevices => {
                let due = self.due_wake(Alarm::sleep);
                follow.extend(due.map(|source| self.wake(source)));
            }
            Effect::AskWakeSources => {
                let due = self.due_wake(|_| None);
                let allowed = due.filter(|source| self.life.wake_policy().allows(*source));
                follow.extend(allowed.map(|source| self.wake(source)));
            }
            Effect::ResetMachine => {
                alarm.reset();
                self.world.epoch.store(self.life.epoch(), Ordering::SeqCst);
                // The next guest falls asleep at once, with no alarm set.
                self.world.queue.post(SUSPEND.at(self.life.epoch()));
            }
            _ => {}
        }
    }

    fn due_wake(&self, step: impl Fn(&Alarm) -> Option<WakeSource>) -> Option<WakeSource> {
        let alarm = &self.world.alarm;
        step(alarm).or_else(|| alarm.is_due().then_some(SOURCE))
    }

    fn wake(&self, source: WakeSource) -> Request {
        DeviceRequest::Wake(source).at(self.life.epoch())
    }

    fn assert_woken_once(&self) {
        assert!(self.life.is_live() && !self.life.is_asleep(), "the guest sleeps on: {:?}", self.events);
        let (mut wakes, mut asleep) = (0, false);
        for event in &self.events {
            match event {
                Event::Suspend => asleep = true,
                Event::Wakeup => {
                    assert!(asleep, "woken before it slept: {:?}", self.events);
                    asleep = false;
                    wakes += 1;
                }
                _ => {}
            }
        }
        assert_eq!((wakes, asleep), (1, false), "{:?}", self.events);
    }
}

/// However the alarm, the suspend, `stop` and `cont` meet: the guest is woken once.
#[test]
fn a_wake_that_meets_a_stop_and_a_suspend_is_delivered_once() {
    model(2, || {
        let mut machine = Machine::running(4, WakePolicy::ALL);
        machine.post_from(|world| {
            world.alarm.arm();
            world.queue.post(SUSPEND.at(0));
        });
        machine.post_from(|world| {
            world.queue.post(ManagementRequest::Stop);
            world.queue.post(ManagementRequest::Cont);
        });
        machine.time_passes();
        machine.run();
        machine.assert_woken_once();
    });
}

/// What fell due for a guest that was reset does not wake the next one.
#[test]
fn a_wake_from_before_a_reset_does_not_wake_the_next_guest() {
    model(2, || {
        // With the next guest's suspend.
        let mut machine = Machine::running(4, WakePolicy::ALL);
        machine.world.alarm.arm();
        machine.post_from(|world| world.queue.post(SUSPEND.at(0)));
        machine.post_from(|world| {
            world.queue.post(ManagementRequest::SystemReset);
        });
        machine.time_passes();
        machine.run();
        let reset = machine.events.iter().position(|event| matches!(event, Event::Reset { .. })).unwrap();
        assert_eq!(machine.events[reset + 1..], [Event::Suspend], "{:?}", machine.events);
        assert!(machine.life.is_live() && machine.life.is_asleep());
    });
}

/// An alarm that the operator allows while it falls due wakes the guest once.
#[test]
fn a_wake_that_meets_its_permission_is_delivered_once() {
    model(2, || {
        let mut machine = Machine::running(3, WakePolicy::ALL.set(WakeSwitch::Rtc0, false));
        machine.post_from(|world| {
            world.alarm.arm();
            world.queue.post(SUSPEND.at(0));
        });
        let allow = WakeChange::default().set(WakeSwitch::Rtc0, true);
        machine.post_from(move |world| world.queue.post(ManagementRequest::SetWakePolicy(allow)));
        machine.time_passes();
        machine.run();
        machine.assert_woken_once();
    });
}

/// A wake that no device will report again, such as that of a moment, is kept while the machine is held.
#[test]
fn a_wake_of_a_moment_that_meets_a_stop_is_delivered_once() {
    model(2, || {
        let mut machine = Machine::running(3, WakePolicy::ALL);
        machine.serve(SUSPEND.at(0));
        machine.post_from(|world| {
            post_a_moment(world);
        });
        machine.post_from(|world| {
            world.queue.post(ManagementRequest::Stop);
            world.queue.post(ManagementRequest::Cont);
        });
        machine.run();
        machine.assert_woken_once();
    });
}

/// One that was made before a reset, and comes behind the next guest's suspend, does nothing.
#[test]
fn a_wake_of_a_moment_before_a_reset_does_not_wake_the_next_guest() {
    model(2, || {
        let mut machine = Machine::running(3, WakePolicy::ALL);
        machine.serve(SUSPEND.at(0));
        let world = Arc::clone(&machine.world);
        let moment = thread::spawn(move || post_a_moment(&world));
        machine.post_from(|world| world.queue.post(ManagementRequest::SystemReset));
        machine.run();
        let reset = machine.events.iter().position(|event| matches!(event, Event::Reset { .. })).unwrap();
        let woken = machine.events[reset..].contains(&Event::Wakeup);
        assert!(!woken || moment.join().unwrap() == 1, "{:?}", machine.events);
    });
}

/// `DevicePort::post` by one who holds no lock: the epoch may be over before the request is in the queue.
fn post_a_moment(world: &World) -> u64 {
    let epoch = world.epoch.load(Ordering::SeqCst);
    world.queue.post(DeviceRequest::Wake(WakeSource::Interrupt { line: 1 }).at(epoch));
    epoch
}
