//! A running engine on a machine without a board, and what its clients have seen.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use clock::{CountedSource, GuestClock, IcountShift, TestClock, TimerQueue};
use engine::{Builder, Engine, EngineConfig, Port, Record, Status, Subscriber};
use runstate::{
    Config, DeviceRequest, GuestRequest, Lifecycle, ManagementRequest, Owner, RunState, Sleep, WakeSource,
};
use vmcore::Storage as _;
use vmcore::testing::{FakeMachine, FakeStorage, Script, Step};
use vmcore::{DevicePort, HartShared, Machine, StartParams};

/// Long enough for any host: a test that runs into it has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that writes down every event with the state that came with it.
#[derive(Default)]
pub struct Recorder {
    seen: Mutex<Vec<String>>,
    all: Mutex<Vec<String>>,
    news: Condvar,
}

impl Recorder {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn last(&self) -> String {
        self.all.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn wait_for(&self, line: &str) {
        let all = self.seen.lock().unwrap();
        let (seen, timeout) = self
            .news
            .wait_timeout_while(all, PATIENCE, |seen| !seen.iter().any(|other| other == line))
            .unwrap();
        assert!(!timeout.timed_out(), "{line} never came; seen {seen:?}");
    }
}

impl Subscriber for Recorder {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let Some(event) = record.and_then(|record| record.event) else { return };
        let line = format!("{} {}", event.name(), status.state.as_str());
        self.all.lock().unwrap().push(line.clone());
        self.seen.lock().unwrap().push(line);
        self.news.notify_all();
    }
}

pub struct World {
    pub engine: Engine,
    pub machine: Arc<FakeMachine>,
    pub scripts: Vec<Script>,
    pub host: TestClock,
    pub clock: Arc<GuestClock>,
    pub timers: Arc<TimerQueue>,
    pub port: Arc<Port>,
    recorder: Arc<Recorder>,
}

impl World {
    pub fn new(harts: u32) -> Self {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        Self::with(harts, host, clock, None, None)
    }

    /// One hart, and a guest that is to come.
    pub fn incoming() -> Self {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let config = Config { incoming: true, ..Config::default() };
        Self::with_config(1, host, clock, None, None, config)
    }

    /// One hart, and a device that keeps data.
    pub fn with_storage() -> (Self, Arc<FakeStorage>) {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let storage = Arc::new(FakeStorage::default());
        (Self::with(1, host, clock, None, Some(Arc::clone(&storage))), storage)
    }

    /// One hart that waits for a guest, and a device that keeps data, which is somebody else's still.
    pub fn incoming_with_storage() -> (Self, Arc<FakeStorage>) {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let storage = Arc::new(FakeStorage::default());
        storage.inactivate().unwrap();
        storage.take_log();
        let config = Config { incoming: true, ..Config::default() };
        (Self::with_config(1, host, clock, None, Some(Arc::clone(&storage)), config), storage)
    }

    /// One hart, and a nanosecond of guest time for each block that it executes.
    pub fn counted() -> Self {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let source = CountedSource::default();
        let clock = Arc::new(GuestClock::icount(source.clone(), IcountShift::try_from(0).unwrap()));
        let world = Self::with(1, host, clock, Some(source), None);
        world.ask(ManagementRequest::Cont);
        world.saw(&["RESUME running"]);
        world
    }

    fn with(
        harts: u32,
        host: TestClock,
        clock: Arc<GuestClock>,
        counted: Option<CountedSource>,
        storage: Option<Arc<FakeStorage>>,
    ) -> Self {
        Self::with_config(harts, host, clock, counted, storage, Config::default())
    }

    fn with_config(
        harts: u32,
        host: TestClock,
        clock: Arc<GuestClock>,
        counted: Option<CountedSource>,
        storage: Option<Arc<FakeStorage>>,
        config: Config,
    ) -> Self {
        let lifecycle = Lifecycle::new(config);
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
        let (machine, vcpus, scripts) = FakeMachine::with_storage(harts, &clock, &timers, storage);
        let config = EngineConfig {
            machine: Arc::clone(&machine) as Arc<dyn Machine>,
            vcpus,
            timers: Arc::clone(&timers),
            host: Arc::new(host.clone()),
            lifecycle,
            counted,
            hart_nice: None,
        };
        let builder = Builder::new();
        let port = builder.port();
        let engine = builder.start(config).unwrap();
        let recorder = Arc::new(Recorder::default());
        engine.subscribe(Arc::clone(&recorder) as Arc<dyn Subscriber>);
        Self { engine, machine, scripts, host, clock, timers, port, recorder }
    }

    pub fn running(harts: u32) -> Self {
        let world = Self::new(harts);
        world.ask(ManagementRequest::Cont);
        world.saw(&["RESUME running"]);
        world
    }

    /// What the hold that a fault has left says of its reason.
    pub fn fault(&self) -> Option<String> {
        let status = self.engine.status();
        let held = status.held.iter().find(|held| held.hold.owner == Owner::Fault)?;
        Some(held.cause.by.to_string())
    }

    pub fn ask(&self, request: ManagementRequest) {
        self.engine.manage(request).unwrap_or_else(|error| panic!("{request:?} was refused: {error}"));
    }

    pub fn refused(&self, request: ManagementRequest) -> String {
        let before = (self.state(), self.recorder.seen.lock().unwrap().len());
        let text = self.engine.manage(request).expect_err("should be refused").to_string();
        let after = (self.state(), self.recorder.seen.lock().unwrap().len());
        assert_eq!(before, after, "a refusal changed something");
        text
    }

    pub fn state(&self) -> RunState {
        self.engine.status().state
    }

    pub fn follow(&self) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::default());
        self.engine.subscribe(Arc::clone(&recorder) as Arc<dyn Subscriber>);
        recorder
    }

    /// Asserts the events since the last call.
    pub fn saw(&self, lines: &[&str]) {
        assert_eq!(self.recorder.take(), lines);
    }

    pub fn events(&self) -> Vec<String> {
        self.recorder.take()
    }

    /// Waits for an event that the guest or a device causes.
    pub fn sees(&self, line: &str) {
        self.recorder.wait_for(line);
    }

    pub fn hart(&self, id: u32) -> &Arc<HartShared> {
        self.machine.harts().get(id).unwrap()
    }

    pub fn describe(&self, id: u32) -> String {
        self.engine.describe_hart(id).unwrap()
    }

    pub fn suspend(&self) -> GuestRequest {
        GuestRequest::Suspend(Sleep { hart: 0, resume_addr: super::RESUME_ADDR, opaque: 42 })
    }

    pub fn fall_asleep(&self) {
        self.scripts[0].then(Step::Ecall(self.suspend()));
        self.sees("SUSPEND suspended");
        self.saw(&["SUSPEND suspended"]);
    }

    /// A device posts a wake; returns when the machine has handled it, which it does before any later request.
    pub fn device_wakes(&self) {
        self.port.post(DeviceRequest::Wake(WakeSource::Rtc(0)));
        self.describe(0);
    }

    pub fn start_second_hart(&self) {
        self.hart(1).hsm_start(StartParams { pc: 0x8000_1000, opaque: 1 }).unwrap();
    }

    /// Waits until `done`, which other threads make true.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !done() {
            assert!(begun.elapsed() < PATIENCE, "{what} never came");
            std::thread::yield_now();
        }
    }

    pub fn blocks(&self) -> Vec<u64> {
        self.scripts.iter().map(Script::blocks).collect()
    }

    /// Waits until the hart has executed something more.
    pub fn hart_runs(&self, id: usize) {
        let before = self.scripts[id].blocks();
        self.scripts[id].then(Step::Spin);
        let begun = std::time::Instant::now();
        while self.scripts[id].blocks() == before {
            assert!(begun.elapsed() < PATIENCE, "hart {id} executes nothing");
            std::thread::yield_now();
        }
    }
}
