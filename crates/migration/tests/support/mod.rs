//! A machine without a board and its migrations, and what was told of its life.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backends::FdSets;
use clock::{GuestClock, TestClock, TimerQueue};
use engine::{Builder, By, Engine, EngineConfig, Job, Port, Record, Status, Subscriber};
use migration::{Address, Change, Lent, MigrationError, Migrations, Text};
use ram::Ram;
use runstate::{Config, GuestRequest, Lifecycle, ManagementRequest, RunState, ShutdownCause, Sleep};
use vmcore::testing::{FakeMachine, FakeStorage, Script, Step};

/// Long enough for any host: a test that runs into it has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What was told, as `EVENT state`.
#[derive(Default)]
pub struct Recorder {
    seen: Mutex<Vec<String>>,
    news: Condvar,
}

impl Subscriber for Recorder {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        if let Some(event) = record.and_then(|record| record.event) {
            self.seen.lock().unwrap().push(format!("{event} {}", status.state.as_str()));
        }
        self.news.notify_all();
    }

    fn is_behind(&self) -> bool {
        false
    }
}

pub struct World {
    pub engine: Engine,
    pub migrations: Migrations,
    pub host: TestClock,
    pub clock: Arc<GuestClock>,
    pub scripts: Vec<Script>,
    pub machine: Arc<FakeMachine>,
    /// Where its devices report.
    pub port: Arc<Port>,
    recorder: Arc<Recorder>,
}

impl World {
    pub fn new() -> Self {
        Self::with(1, Config::default())
    }

    pub fn running() -> Self {
        let world = Self::new();
        world.ask(ManagementRequest::Cont);
        world.take();
        world
    }

    /// Waits for a machine; `autostart`: it runs on arrival.
    pub fn waiting(autostart: bool) -> Self {
        Self::with(1, Config { incoming: true, autostart, ..Config::default() })
    }

    /// A machine that runs, whose device keeps data.
    pub fn keeping(storage: &Arc<FakeStorage>) -> Self {
        let world = Self::made(1, Config::default(), Some(Arc::clone(storage)));
        world.ask(ManagementRequest::Cont);
        world.take();
        world
    }

    /// Waits for a machine; its device keeps data.
    pub fn waiting_with(storage: &Arc<FakeStorage>) -> Self {
        let config = Config { incoming: true, autostart: true, ..Config::default() };
        Self::made(1, config, Some(Arc::clone(storage)))
    }

    pub fn with(harts: u32, config: Config) -> Self {
        Self::made(harts, config, None)
    }

    fn made(harts: u32, config: Config, storage: Option<Arc<FakeStorage>>) -> Self {
        let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
        let (machine, vcpus, scripts) = FakeMachine::with_storage(harts, &clock, &timers, storage);
        let config = EngineConfig {
            machine: Arc::clone(&machine) as _,
            vcpus,
            timers,
            host: Arc::new(host.clone()),
            lifecycle: Lifecycle::new(config),
            counted: None,
            hart_nice: None,
        };
        let builder = Builder::new();
        let port = builder.port();
        let engine = builder.start(config).unwrap();
        let recorder = Arc::new(Recorder::default());
        engine.subscribe(Arc::clone(&recorder) as _);
        let migrations = Migrations::new(engine.clone());
        Self { engine, migrations, host, clock, scripts, machine, port, recorder }
    }

    pub fn ask(&self, request: ManagementRequest) {
        self.engine.manage(request).unwrap_or_else(|error| panic!("{request:?} was refused: {error}"));
    }

    pub fn state(&self) -> RunState {
        self.engine.status().state
    }

    pub fn ram(&self) -> Arc<Ram> {
        self.engine.ram().unwrap()
    }

    /// Waits until this was told, and gives what was told up to it.
    #[track_caller]
    pub fn until(&self, last: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.recorder.seen.lock().unwrap();
        loop {
            if let Some(at) = seen.iter().position(|line| line.starts_with(last)) {
                return seen.drain(..=at).collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{last} was not told, but {seen:?}");
            seen = self.recorder.news.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// What was told since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.recorder.seen.lock().unwrap())
    }

    /// The guest suspends itself.
    #[track_caller]
    pub fn fall_asleep(&self) {
        let sleep = Sleep { hart: 0, resume_addr: 0x8040_0000, opaque: 7 };
        self.scripts[0].then(Step::Ecall(GuestRequest::Suspend(sleep)));
        self.until("SUSPEND");
    }

    /// Ends an incoming migration that may still wait for somebody.
    pub fn give_up(&self, arriving: Job) {
        self.ask(ManagementRequest::Quit { cause: ShutdownCause::HostQmpQuit });
        arriving.wait();
    }

    pub fn set(&self, text: Text, value: &str) {
        let change = Change { texts: vec![(text, value.to_owned())], ..Change::default() };
        self.migrations.set_parameters(&change).unwrap();
    }

    pub fn migrate(&self, to: &Address) -> Result<Job, MigrationError> {
        lending(None, |lent| self.migrations.migrate(By::Unnamed, to, lent))
    }

    pub fn take_in(&self, from: &Address) -> Result<Job, MigrationError> {
        lending(None, |lent| self.migrations.take_in(By::Unnamed, from, lent, false))
    }

    /// Through a descriptor that was passed.
    pub fn migrate_through(&self, fd: OwnedFd) -> Result<Job, MigrationError> {
        let to = Address::Fd("passed".to_owned());
        lending(Some(fd), |lent| self.migrations.migrate(By::Unnamed, &to, lent))
    }

    /// The same, the other way.
    pub fn take_in_through(&self, fd: OwnedFd) -> Result<Job, MigrationError> {
        let from = Address::Fd("passed".to_owned());
        lending(Some(fd), |lent| self.migrations.take_in(By::Unnamed, &from, lent, false))
    }
}

fn lending<T>(fd: Option<OwnedFd>, run: impl FnOnce(&Lent<'_>) -> T) -> T {
    let (fd, fdsets) = (Mutex::new(fd), FdSets::default());
    run(&Lent { named: &|_| fd.lock().unwrap().take(), fdsets: &fdsets })
}

impl World {
    /// `migrate` with `resume`.
    pub fn resume(&self, to: &Address) -> Result<(), MigrationError> {
        let fdsets = FdSets::default();
        self.migrations.resume(to, &Lent { named: &|_| None, fdsets: &fdsets })
    }

    pub fn recover(&self, from: &Address) -> Result<(), MigrationError> {
        let fdsets = FdSets::default();
        self.migrations.recover(from, &Lent { named: &|_| None, fdsets: &fdsets })
    }
}

pub fn unix(folder: &Path) -> Address {
    Address::Unix(folder.join("m"))
}

/// The link of a move through a proxy is cut after `from_source` bytes one way or `from_target` the other. Gives how many went
/// each way.
pub fn cut_link(
    there: &Path,
    listener: UnixListener,
    from_source: usize,
    from_target: usize,
) -> JoinHandle<[usize; 2]> {
    let target = there.to_owned();
    thread::spawn(move || {
        let (source, _) = listener.accept().unwrap();
        let target = UnixStream::connect(target).unwrap();
        let pump = |mut from: UnixStream, mut to: UnixStream, limit: usize| {
            thread::spawn(move || {
                let mut left = limit;
                let mut buffer = [0; 4096];
                while left > 0 {
                    let want = left.min(buffer.len());
                    match from.read(&mut buffer[..want]) {
                        Ok(0) | Err(_) => break,
                        Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
                        Ok(count) => left -= count,
                    }
                }
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                limit - left
            })
        };
        let out = pump(source.try_clone().unwrap(), target.try_clone().unwrap(), from_source);
        let back = pump(target, source, from_target);
        [out.join().unwrap(), back.join().unwrap()]
    })
}
