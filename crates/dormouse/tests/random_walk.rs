//! A random walk on the real machine: the embedded guest on the board, under the engine, with several clients at once.
//!
//! ```text
//!   clients ──┐                                         ┌─ answers
//!   guest ────┼─► engine (threads, board, real guest) ──┼─ status    ──► some order of the same requests on the pure
//!   clock ────┘                                         └─ records       value must give the same answers and status
//! ```
//!
//! Clients stop, go on, wake, reset, press the power button, change the actions and which sources may wake; the guest
//! sleeps, with an alarm of either clock or without, has its watchdog bite, panics and shuts down.
//!
//! Requests of one round are made at the same moment, so their order is not known: [`Model`]s are kept for every order
//! that agrees with what was seen, and the walk fails when none is left. The host's clock stands unless the walk moves
//! it, so guest time is known to the nanosecond, from the guest's own reads too.
//!
//! A part of it runs with the other tests. The whole, a million operations:
//! `DORMOUSE_WALK_OPERATIONS=1000000 cargo test --release -p dormouse --test random_walk -- --nocapture`;
//! `DORMOUSE_WALK_SEED` repeats the choices of a walk (not the order of its threads).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use board::{Board, BoardConfig, ImageSource};
use clock::{GuestClock, HostClock, RtcOptions, TestClock, TimerQueue};
use devices::SerialPort;
use devices::virtio::EntropySource;
use engine::{Builder, Engine, EngineConfig, Last, ManageError, Record, Status, Subscriber};
use runstate::{
    ActionChange, Config, DeviceRequest, Effect, EngineReport, Event, GuestRequest, Lifecycle,
    ManagementRequest as M, PanicAction, Power, RebootAction, Refusal, Request, ShutdownAction,
    ShutdownCause, Sleep, WakeChange, WakeFate, WakeSource, WakeSwitch, WatchdogAction,
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
/// The D1's RTC, whose alarms wake by the interrupt controller, and the goldfish RTC, which judges its own.
const D1: WakeSource = WakeSource::Rtc(0);
const GOLDFISH: WakeSource = WakeSource::Rtc(1);

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
    /// How often the watchdog was told to have bitten.
    bites: AtomicU64,
    /// The epoch of the last reset that was told.
    epoch: AtomicU64,
    /// When each source was last forbidden to wake the guest, on the host's clock in ns.
    forbidden: Mutex<HashMap<WakeSource, u64>>,
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
        if let Some(Last { what: (source, WakeFate::Forbidden), at }) = &status.last_refused_wake {
            self.forbidden.lock().unwrap().insert(*source, at.host_ns);
        }
        let mut resumed = self.resumed.lock().unwrap();
        match record.and_then(|record| record.event) {
            Some(Event::Stop) => assert!(std::mem::replace(&mut *resumed, false), "STOP after STOP"),
            Some(Event::Resume) => assert!(!std::mem::replace(&mut *resumed, true), "RESUME after RESUME"),
            Some(Event::Watchdog { .. }) => {
                self.bites.fetch_add(1, Ordering::SeqCst);
            }
            // The harts are parked: what comes from here on is the next guest's.
            Some(Event::Reset { .. }) => {
                self.terminal.lock().clear();
                self.epoch.store(status.epoch, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

/// An alarm that the guest has set: of which clock, and when on the wall clock in ns.
type Alarm = (WakeSource, u64);

/// What the machine may be in.
#[derive(Clone, Debug)]
struct Model {
    life: Lifecycle,
    /// What the guest was told to ask and has not been seen to ask yet, with the alarm that goes with a suspend.
    pending: Option<(GuestRequest, Option<Alarm>)>,
    /// While it sleeps.
    alarm: Option<Alarm>,
    /// How much awake time is left until the watchdog bites, in ns.
    watchdog: Option<u64>,
    /// How often it was woken, and by what the last time.
    wakes: (u64, Option<WakeSource>),
}

impl Model {
    fn at(life: Lifecycle) -> Model {
        Model { life, pending: None, alarm: None, watchdog: None, wakes: (0, None) }
    }

    /// The source of an alarm that is due, whether or not it is allowed to wake the guest.
    fn due(&self, wall: u64) -> Option<WakeSource> {
        let (source, at) = self.alarm.filter(|_| self.life.is_asleep())?;
        (at <= wall).then_some(source)
    }

    /// The source of an alarm that is due and wakes the guest if the machine is live.
    fn wake_due(&self, wall: u64) -> Option<WakeSource> {
        self.due(wall).filter(|source| self.life.wake_policy().allows(*source))
    }

    fn is_awake(&self) -> bool {
        self.life.is_live() && self.life.power() == Power::Awake
    }

    /// A request of a device that comes by itself now.
    fn device_asks(&self, wall: u64) -> Option<DeviceRequest> {
        if self.is_awake() && self.watchdog == Some(0) {
            return Some(DeviceRequest::Watchdog);
        }
        self.wake_due(wall).filter(|_| self.life.is_live()).map(DeviceRequest::Wake)
    }

    /// Applies a request with all that follows from it, as an engine does.
    fn ask(&self, request: Request, wall: u64) -> Result<Model, Refusal> {
        let mut model = self.clone();
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let outcome = model.life.apply(&request)?;
            if outcome.next.epoch() != model.life.epoch() {
                (model.pending, model.alarm, model.watchdog) = (None, None, None);
            }
            model.life = outcome.next;
            for effect in outcome.effects {
                next = match effect {
                    Effect::Prepare => Some(EngineReport::Prepared.into()),
                    Effect::StartDevices => {
                        Some(EngineReport::DevicesStarted { due: model.due(wall) }.into())
                    }
                    Effect::WakeDevices(source) => {
                        model.wakes = (model.wakes.0 + 1, Some(source));
                        continue;
                    }
                    Effect::AskWakeSources => {
                        model.wake_due(wall).map(|source| DeviceRequest::Wake(source).at(model.life.epoch()))
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
        self.pending.is_some() && self.is_awake() || self.device_asks(wall).is_some()
    }

    /// Whether a client would see this.
    fn agrees(&self, status: &Status) -> bool {
        let life = &self.life;
        (status.state, status.power, status.holds, status.epoch)
            == (life.view(), life.power(), *life.holds(), life.epoch())
            && (status.latched.is_some(), status.pending_reset, status.exiting)
                == (life.latched().is_some(), life.pending_reset(), life.is_exiting())
            && (status.actions, status.wake_policy) == (life.actions(), life.wake_policy())
            && (status.wakes, status.last_wake.as_ref().map(|last| last.what)) == self.wakes
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
    if let Some(request) = model.device_asks(wall)
        && let Ok(mut next) = model.ask(request.at(model.life.epoch()), wall)
    {
        if request == DeviceRequest::Watchdog {
            next.watchdog = None;
        }
        orders(&next, requests, wall, out);
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

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
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
    /// Of them with an alarm of the one clock, and of the other.
    goldfish_alarms: u64,
    d1_alarms: u64,
    /// Times that passed to where an alarm is due that the policy forbids.
    forbidden_wakes: u64,
    powerdowns: u64,
    action_changes: u64,
    policy_changes: u64,
    watchdogs_armed: u64,
    watchdog_bites: u64,
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
            identity: vmcore::Identity { generation: [1; 16], mac_seed: [2; 8] },
            vmgenid: board::GenerationId::Absent,
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
            bites: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            forbidden: Mutex::default(),
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
            models: vec![Model::at(life)],
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
        let quiet = self.models.iter().all(idle);
        let at_prompt = quiet && self.models.iter().all(Model::is_awake);
        match self.random.below(16) {
            0..=3 if quiet => self.pass_time(),
            4..=8 if at_prompt => self.guest_round(),
            _ => {
                let requests = self.requests();
                self.manage(&requests);
            }
        }
        self.settle();
    }

    fn requests(&mut self) -> Vec<M> {
        let count = 1 + self.random.below(CLIENTS as u64);
        (0..count).map(|_| self.request()).collect()
    }

    fn request(&mut self) -> M {
        match self.random.below(64) {
            0..=19 => M::Stop,
            20..=39 => M::Cont,
            40..=47 => M::SystemWakeup,
            48..=51 => M::SystemReset,
            52..=55 => {
                self.counts.powerdowns += 1;
                M::SystemPowerdown
            }
            56..=59 => {
                self.counts.policy_changes += 1;
                let switch = [WakeSwitch::Rtc0, WakeSwitch::Rtc1, WakeSwitch::PowerButton];
                let on = self.random.below(3) != 0;
                M::SetWakePolicy(WakeChange::default().set(self.random.of(&switch), on))
            }
            _ => {
                self.counts.action_changes += 1;
                M::SetActions(self.actions())
            }
        }
    }

    /// One action or several; none of those that would end the process.
    fn actions(&mut self) -> ActionChange {
        let mut change = ActionChange::default();
        if self.random.below(2) == 0 {
            let off = self.random.below(4) == 0;
            change.reboot = Some(if off { RebootAction::Shutdown } else { RebootAction::Reset });
        }
        if self.random.below(2) == 0 {
            change.panic = Some(self.random.of(PanicAction::ALL));
        }
        if self.random.below(2) == 0 {
            let bite = self.random.of(WatchdogAction::ALL);
            change.watchdog = Some(bite).filter(|bite| *bite != WatchdogAction::Poweroff);
        }
        change
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
        let seconds = 1 + self.random.below(3);
        let (line, request, alarm) = match self.random.below(32) {
            0..=3 => return self.read_clocks(),
            4..=7 => return self.arm_watchdog(seconds),
            8..=13 => ("sleep".to_owned(), suspend, None),
            14..=20 => {
                self.counts.goldfish_alarms += 1;
                (format!("sleep {seconds}"), suspend, Some((GOLDFISH, self.wall() + seconds * SECOND)))
            }
            21..=27 => {
                self.counts.d1_alarms += 1;
                // It counts from the start of the present second.
                let at = (self.wall() / SECOND + seconds) * SECOND;
                (format!("nap {seconds}"), suspend, Some((D1, at)))
            }
            28 | 29 => ("event 1".to_owned(), GuestRequest::Panic, None),
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

    /// The watchdog bites when so much awake time has passed, once.
    fn arm_watchdog(&mut self, seconds: u64) {
        self.terminal.lock().clear();
        self.type_bytes(format!("watchdog {seconds}\n").as_bytes());
        self.terminal.wait_for(|text| text.contains("watchdog: armed") && text.ends_with(PROMPT));
        for model in &mut self.models {
            model.watchdog = Some(seconds * SECOND);
        }
        self.counts.watchdogs_armed += 1;
    }

    fn pass_time(&mut self) {
        self.counts.operations += 1;
        let ns = self.random.below(2 * SECOND);
        if self.models.iter().all(|model| model.life.is_live()) {
            self.guest_ns += ns;
        }
        for model in &mut self.models {
            if model.is_awake() {
                model.watchdog = model.watchdog.map(|left| left.saturating_sub(ns));
            }
        }
        let bites = |model: &Model| model.is_awake() && model.watchdog == Some(0);
        self.counts.watchdog_bites += u64::from(self.models.iter().any(bites));
        let forbidden = |model: &Model| {
            model.life.is_live() && model.due(self.wall() + ns) != model.wake_due(self.wall() + ns)
        };
        self.counts.forbidden_wakes += u64::from(self.models.iter().any(forbidden));
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
            let told = told && self.is_told(&status, &resting);
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

    /// What changes nothing that a query shows has been handled too: bites, wakes that the policy forbids, the last step of a
    /// reset that no client waits for.
    fn is_told(&self, status: &Status, resting: &[Model]) -> bool {
        let told = self.folder.forbidden.lock().unwrap();
        let is_told = |source| told.get(&source).is_some_and(|at| *at > status.power_since.host_ns);
        let forbidden = |model: &Model| model.due(self.wall()).filter(|_| model.life.is_live());
        self.folder.epoch.load(Ordering::SeqCst) == status.epoch
            && self.folder.bites.load(Ordering::SeqCst) == self.counts.watchdog_bites
            && resting.iter().filter_map(forbidden).all(is_told)
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
    // A panic with panic=exit-failure sticks.
    let code = walk.engine.wait();
    assert!(walk.models.iter().any(|model| model.life.exit_code() == code), "it ends with {code}");
}
