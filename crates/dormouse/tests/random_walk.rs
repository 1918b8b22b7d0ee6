//! A random walk on the real machine: the embedded guest on the board, under the engine, with several clients at once.
//!
//! ```text
//!   clients ──┐                                         ┌─ answers
//!   guest ────┼─► engine (threads, board, real guest) ──┼─ status    ──► some order of the same requests on the pure
//!   clock ────┘                                         └─ records       value must give the same answers and status
//! ```
//!
//! Requests of one round are made at the same moment, so their order is not known: [`Model`]s are kept for every order
//! that agrees with what was seen, and the walk fails when none is left. The host's clock stands unless the walk moves
//! it, so guest time is known to the nanosecond, from the guest's own reads too.
//!
//! A part of it runs with the other tests. The whole, a million operations:
//! `DORMOUSE_WALK_OPERATIONS=1000000 cargo test --release -p dormouse --test random_walk -- --nocapture`;
//! `DORMOUSE_WALK_SEED` repeats the choices of a walk (not the order of its threads).

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use board::{Board, BoardConfig, ImageSource};
use clock::{GuestClock, HostClock, RtcOptions, TestClock, TimerQueue};
use devices::SerialPort;
use devices::virtio::EntropySource;
use engine::{Builder, Engine, EngineConfig, ManageError, Record, Status, Subscriber};
use runstate::{
    ActionChange, Config, DeviceRequest, Effect, EngineReport, Event, GuestRequest, Lifecycle,
    ManagementRequest as M, Power, RebootAction, Refusal, Request, ShutdownAction, ShutdownCause, Sleep,
    WakeSource,
};
use vmcore::Machine;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T00:00:00Z in ns since 1970.
const TODAY: u64 = 20_780 * 86_400 * SECOND;
const GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");
const PROMPT: &str = "dormouse> ";
const CLIENTS: usize = 3;
/// Long enough for any host: a walk that runs into it has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);
const ALARM: WakeSource = WakeSource::Rtc(1);

/// What the guest has printed since it was last reset.
#[derive(Default)]
struct Terminal {
    text: Mutex<String>,
    news: Condvar,
}

impl Terminal {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap()
    }

    fn wait_for(&self, what: impl Fn(&str) -> bool) -> String {
        let (text, late) = self.news.wait_timeout_while(self.lock(), PATIENCE, |text| !what(text)).unwrap();
        assert!(!late.timed_out(), "the guest does not come back to its prompt: {text:?}");
        text.clone()
    }
}

impl SerialPort for Terminal {
    fn try_write(&self, bytes: &[u8]) -> usize {
        self.lock().push_str(&String::from_utf8_lossy(bytes));
        self.news.notify_all();
        bytes.len()
    }

    fn resume_input(&self) {}

    fn hold(&self, _held: bool) {}
}

struct Still;

impl EntropySource for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Folds the records, and holds each of them to the published status and to the alternation of STOP and RESUME.
struct Folder {
    folded: Mutex<Option<Arc<Status>>>,
    resumed: Mutex<bool>,
    terminal: Arc<Terminal>,
}

impl Subscriber for Folder {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let mut folded = self.folded.lock().unwrap();
        if let (Some(before), Some(record)) = (folded.as_ref(), record) {
            let after = before.fold(record).expect("records have no gap");
            assert_eq!(after, **status, "the fold and the query disagree");
        }
        *folded = Some(Arc::clone(status));
        let mut resumed = self.resumed.lock().unwrap();
        match record.and_then(|record| record.event) {
            Some(Event::Stop) => assert!(std::mem::replace(&mut *resumed, false), "STOP after STOP"),
            Some(Event::Resume) => assert!(!std::mem::replace(&mut *resumed, true), "RESUME after RESUME"),
            // The harts are parked: what comes from here on is the next guest's.
            Some(Event::Reset { .. }) => self.terminal.lock().clear(),
            _ => {}
        }
    }
}

/// What the machine may be in.
#[derive(Clone, Debug)]
struct Model {
    life: Lifecycle,
    /// What the guest was told to ask and has not been seen to ask yet, with the alarm that goes with a suspend.
    pending: Option<(GuestRequest, Option<u64>)>,
    /// When its alarm is due, on the wall clock, while it sleeps.
    alarm: Option<u64>,
}

impl Model {
    fn alarm_due(&self, wall: u64) -> bool {
        self.life.is_asleep() && self.alarm.is_some_and(|alarm| alarm <= wall)
    }

    /// Applies a request with all that follows from it, as an engine does.
    fn ask(&self, request: Request, wall: u64) -> Result<Model, Refusal> {
        let mut model = self.clone();
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let outcome = model.life.apply(&request)?;
            if outcome.next.epoch() != model.life.epoch() {
                (model.pending, model.alarm) = (None, None);
            }
            model.life = outcome.next;
            for effect in outcome.effects {
                next = match effect {
                    Effect::Prepare => Some(EngineReport::Prepared.into()),
                    Effect::StartDevices => {
                        let due = model.alarm_due(wall).then_some(ALARM);
                        Some(EngineReport::DevicesStarted { due }.into())
                    }
                    _ => continue,
                };
            }
        }
        if !model.life.is_asleep() {
            model.alarm = None;
        }
        Ok(model)
    }

    /// The guest asks what it was told to.
    fn guest_asks(&self, wall: u64) -> Option<Model> {
        let (request, alarm) = self.pending?;
        let asked = Model { pending: None, ..self.clone() };
        let mut asked = asked.ask(request.at(self.life.epoch()), wall).ok()?;
        if asked.life.is_asleep() {
            asked.alarm = alarm;
        }
        Some(asked)
    }

    /// Whether something is going to happen without anybody's doing.
    fn is_restless(&self, wall: u64) -> bool {
        let asks = self.pending.is_some() && self.life.power() == Power::Awake;
        self.life.is_live() && (asks || self.alarm_due(wall))
    }

    /// Whether a client would see this.
    fn agrees(&self, status: &Status) -> bool {
        let life = &self.life;
        (status.state, status.power, status.holds, status.epoch)
            == (life.view(), life.power(), *life.holds(), life.epoch())
            && (status.latched.is_some(), status.pending_reset, status.actions, status.exiting)
                == (life.latched().is_some(), life.pending_reset(), life.actions(), life.is_exiting())
    }
}

/// Every model to which `requests`, made at the same moment and answered so, may lead. The guest and its alarm come in
/// between whenever they like.
fn orders(model: &Model, requests: &[(M, Result<(), Refusal>)], wall: u64, out: &mut Vec<Model>) {
    if requests.is_empty() {
        out.push(model.clone());
    }
    for (at, (request, answer)) in requests.iter().enumerate() {
        let next = match (model.ask((*request).into(), wall), answer) {
            (Ok(next), Ok(())) => next,
            (Err(ours), Err(theirs)) if ours == *theirs => model.clone(),
            _ => continue,
        };
        let mut rest = requests.to_vec();
        let (_, _) = rest.remove(at);
        orders(&next, &rest, wall, out);
    }
    if let Some(next) = model.guest_asks(wall) {
        orders(&next, requests, wall, out);
    }
    if model.life.is_live() && model.alarm_due(wall) {
        let wake = DeviceRequest::Wake(ALARM).at(model.life.epoch());
        if let Ok(next) = model.ask(wake, wall) {
            orders(&next, requests, wall, out);
        }
    }
}

/// A small repeatable generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A client on a thread of its own.
struct Client {
    ask: Sender<M>,
    answer: Receiver<Result<(), ManageError>>,
}

impl Client {
    fn new(engine: Engine) -> Self {
        let ((ask, asked), (tell, answer)) = (channel(), channel());
        std::thread::spawn(move || {
            asked.into_iter().all(|request| tell.send(engine.manage(request)).is_ok())
        });
        Self { ask, answer }
    }
}

#[derive(Debug, Default)]
struct Counts {
    operations: u64,
    rounds: u64,
    refused: u64,
    rounds_at_once: u64,
    sleeps: u64,
    panics: u64,
    shut_downs: u64,
    clock_reads: u64,
    most_models: usize,
}

struct Walk {
    random: Random,
    host: TestClock,
    engine: Engine,
    board: Arc<Board>,
    terminal: Arc<Terminal>,
    folder: Arc<Folder>,
    clients: Vec<Client>,
    models: Vec<Model>,
    /// What the guest suspends with: the same every time.
    sleep: Sleep,
    /// Guest time that must have passed, in ns.
    guest_ns: u64,
    counts: Counts,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let host = TestClock::new(SECOND, TODAY);
        let shared: Arc<dyn HostClock> = Arc::new(host.clone());
        let clock = Arc::new(GuestClock::new(Arc::clone(&shared)));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::clone(&shared));
        let builder = Builder::new();
        let terminal = Arc::new(Terminal::default());
        let (board, vcpus) = Board::build(BoardConfig {
            ram_size: 16 << 20,
            harts: 2,
            extensions: hart::Extensions::default(),
            count: None,
            firmware: None,
            kernel: Some(ImageSource::Bytes("embedded guest".to_owned(), GUEST.into())),
            initrd: None,
            device_tree: None,
            bootargs: String::new(),
            rtc: RtcOptions::default(),
            local_offset_s: 0,
            sun_rtc: true,
            suspend: true,
            virtio: Vec::new(),
            clock,
            timers: Arc::clone(&timers),
            host: Arc::clone(&shared),
            port: builder.port(),
            serial: vec![Arc::clone(&terminal) as _],
            entropy: Arc::new(Still),
        })
        .unwrap();
        let mut config = Config { wakeup_supported: true, ..Config::default() };
        config.actions.shutdown = ShutdownAction::Pause;
        let life = Lifecycle::new(config);
        let engine = builder
            .start(EngineConfig {
                machine: Arc::clone(&board) as Arc<dyn Machine>,
                vcpus,
                timers,
                host: shared,
                lifecycle: life.clone(),
                counted: None,
                hart_nice: None,
            })
            .unwrap();
        let folder = Arc::new(Folder {
            folded: Mutex::default(),
            resumed: Mutex::new(false),
            terminal: Arc::clone(&terminal),
        });
        engine.subscribe(Arc::clone(&folder) as Arc<dyn Subscriber>);
        let mut walk = Self {
            random: Random(seed),
            host,
            clients: (0..CLIENTS).map(|_| Client::new(engine.clone())).collect(),
            engine,
            board,
            terminal,
            folder,
            models: vec![Model { life, pending: None, alarm: None }],
            sleep: Sleep { hart: 0, resume_addr: 0, opaque: 0 },
            guest_ns: 0,
            counts: Counts::default(),
        };
        walk.manage(&[M::Cont]);
        walk.settle();
        walk.learn_sleep();
        walk
    }

    /// Has the guest sleep once, alone, to see what it suspends with.
    fn learn_sleep(&mut self) {
        self.terminal.wait_for(|text| text.ends_with(PROMPT));
        self.type_bytes(b"sleep\n");
        let since = Instant::now();
        self.sleep = loop {
            if let Power::Asleep(sleep) = self.engine.status().power {
                break sleep;
            }
            assert!(since.elapsed() < PATIENCE, "it does not sleep");
            std::thread::yield_now();
        };
        for model in &mut self.models {
            model.pending = Some((GuestRequest::Suspend(self.sleep), None));
        }
        self.settle();
        self.manage(&[M::SystemWakeup]);
        self.settle();
    }

    fn wall(&self) -> u64 {
        self.host.realtime_ns()
    }

    fn round(&mut self) {
        self.counts.rounds += 1;
        let idle = |model: &Model| model.pending.is_none();
        let awake = |model: &Model| model.life.is_live() && model.life.power() == Power::Awake;
        let quiet = self.models.iter().all(idle);
        let at_prompt = quiet && self.models.iter().all(awake);
        match self.random.below(16) {
            0 | 1 if quiet => self.pass_time(),
            2..=5 if at_prompt => self.guest_round(),
            _ => {
                let requests = self.requests();
                self.manage(&requests);
            }
        }
        self.settle();
    }

    fn requests(&mut self) -> Vec<M> {
        let count = 1 + self.random.below(CLIENTS as u64);
        (0..count)
            .map(|_| match self.random.below(32) {
                0..=10 => M::Stop,
                11..=22 => M::Cont,
                23..=27 => M::SystemWakeup,
                28 | 29 => M::SystemReset,
                _ => {
                    let off = self.random.below(4) == 0;
                    let reboot = Some(if off { RebootAction::Shutdown } else { RebootAction::Reset });
                    M::SetActions(ActionChange { reboot, ..ActionChange::default() })
                }
            })
            .collect()
    }

    /// Has the clients ask at once, and keeps the models that explain their answers.
    fn manage(&mut self, requests: &[M]) {
        for (client, request) in self.clients.iter().zip(requests) {
            client.ask.send(*request).unwrap();
        }
        let mut answered = Vec::new();
        for (client, request) in self.clients.iter().zip(requests) {
            let answer = client.answer.recv_timeout(PATIENCE).expect("every request is answered");
            let answer = answer.map_err(|error| match error {
                ManageError::Refused(refusal) => refusal,
                other => panic!("{request:?} got {other}"),
            });
            self.counts.refused += u64::from(answer.is_err());
            answered.push((*request, answer));
        }
        self.counts.operations += requests.len() as u64;
        self.counts.rounds_at_once += u64::from(requests.len() > 1);
        let (mut out, wall) = (Vec::new(), self.wall());
        self.models.iter().for_each(|model| orders(model, &answered, wall, &mut out));
        assert!(!out.is_empty(), "no order explains {answered:?} on {:#?}", self.models);
        self.models = out;
    }

    /// The guest is told to do something, with or without clients in its way.
    fn guest_round(&mut self) {
        self.terminal.wait_for(|text| text.ends_with(PROMPT));
        self.counts.operations += 1;
        let suspend = GuestRequest::Suspend(self.sleep);
        let (line, request, alarm) = match self.random.below(16) {
            0..=2 => return self.read_clocks(),
            3..=7 => ("sleep".to_owned(), suspend, None),
            14 => ("event 1".to_owned(), GuestRequest::Panic, None),
            8..=13 => {
                let seconds = 1 + self.random.below(3);
                (format!("sleep {seconds}"), suspend, Some(self.wall() + seconds * SECOND))
            }
            // By the panic device: the way through SBI waits for time to pass, which stands here.
            _ => ("event 4".to_owned(), GuestRequest::PvShutdown, None),
        };
        match request {
            GuestRequest::Suspend(_) => self.counts.sleeps += 1,
            GuestRequest::Panic => self.counts.panics += 1,
            _ => self.counts.shut_downs += 1,
        }
        self.type_bytes(line.as_bytes());
        for model in &mut self.models {
            model.pending = Some((request, alarm));
        }
        let requests = if self.random.below(2) == 0 { Vec::new() } else { self.requests() };
        self.type_bytes(b"\n");
        self.manage(&requests);
    }

    fn type_bytes(&self, bytes: &[u8]) {
        let (since, uart) = (Instant::now(), self.board.uart());
        for byte in bytes {
            while uart.can_receive() == 0 {
                assert!(since.elapsed() < PATIENCE, "the guest does not read: {:?}", self.terminal.lock());
                std::thread::yield_now();
            }
            uart.receive(&[*byte]);
        }
    }

    /// The guest's own reads: both its clocks are exact.
    fn read_clocks(&mut self) {
        self.terminal.lock().clear();
        self.type_bytes(b"clocks\n");
        let text = self.terminal.wait_for(|text| text.contains("epoch") && text.ends_with(PROMPT));
        // The monotonic clock has ticks of 100 ns; both are printed in us.
        for (what, us) in [("monotonic", self.guest_ns / 1000), ("epoch", self.wall() / 1000)] {
            let expected = format!("{what} {}.{:06} s", us / 1_000_000, us % 1_000_000);
            assert!(text.contains(&expected), "{expected} is not in {text:?}");
        }
        self.counts.clock_reads += 1;
    }

    fn pass_time(&mut self) {
        self.counts.operations += 1;
        let ns = self.random.below(2 * SECOND);
        if self.models.iter().all(|model| model.life.is_live()) {
            self.guest_ns += ns;
        }
        self.host.advance(ns);
    }

    /// Waits until nothing moves, keeps the models that agree with what everybody sees, and checks time and fold.
    fn settle(&mut self) {
        let (since, wall) = (Instant::now(), self.wall());
        let mut all = Vec::new();
        self.models.iter().for_each(|model| orders(model, &[], wall, &mut all));
        loop {
            let status = self.engine.status();
            let agreeing = || all.iter().filter(|model| model.agrees(&status));
            let resting: Vec<_> = agreeing().filter(|model| !model.is_restless(wall)).cloned().collect();
            // The state is published before the machine stands, STOP is told after.
            let told = *self.folder.resumed.lock().unwrap() == status.state.is_live();
            // Where the guest may have asked already or be about to, its prompt tells.
            let open = agreeing().count() > resting.len() && !self.terminal.lock().ends_with(PROMPT);
            if told && !open && !resting.is_empty() {
                let mut seen = HashSet::new();
                self.models = resting;
                self.models.retain(|model| seen.insert(format!("{model:?}")));
                break;
            }
            if since.elapsed() > PATIENCE {
                let state = (status.state, status.power, status.holds);
                let text = self.terminal.lock();
                panic!("no model agrees with {state:?} or comes to rest: {:?}; guest: {text:?}", self.models);
            }
            std::thread::yield_now();
        }
        self.counts.most_models = self.counts.most_models.max(self.models.len());
        assert_eq!(self.engine.guest_clock().now_ns(), self.guest_ns, "guest time is not exact");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Descriptors, threads, and KiB of anonymous memory of this process.
fn footprint() -> (usize, usize, u64) {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib = line.split_whitespace().next().unwrap().parse().unwrap();
    (count("/proc/self/fd"), count("/proc/self/task"), kib)
}

#[test]
fn model_and_engine_agree() {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("DORMOUSE_WALK_SEED").unwrap_or_else(now);
    let operations = number("DORMOUSE_WALK_OPERATIONS").unwrap_or(100_000);
    println!("DORMOUSE_WALK_SEED={seed}");
    let since = Instant::now();
    let mut walk = Walk::new(seed);
    // The journal fills, caches are built: then nothing grows any more.
    while walk.counts.operations < operations / 2 {
        walk.round();
    }
    let warm = footprint();
    while walk.counts.operations < operations {
        walk.round();
    }
    let after = footprint();
    println!("{:?} in {:.1} s", walk.counts, since.elapsed().as_secs_f64());
    println!("guest time {} ns, error 0; descriptors, threads, KiB: {warm:?}, then {after:?}", walk.guest_ns);
    assert_eq!((warm.0, warm.1), (after.0, after.1), "descriptors or threads leak");
    assert!(after.2 < warm.2 + 4096, "memory grows: {warm:?}, then {after:?}");
    // The end, asked for by all at once: for those that come late the machine has ended.
    let quit = M::Quit { cause: ShutdownCause::HostQmpQuit };
    walk.clients.iter().for_each(|client| client.ask.send(quit).unwrap());
    let answers: Vec<_> =
        walk.clients.iter().map(|client| client.answer.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(answers.contains(&Ok(())), "{answers:?}");
    assert_eq!(walk.engine.wait(), 0);
}
