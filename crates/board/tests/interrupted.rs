//! A run that is saved and loaded at arbitrary instructions ends as one that was not: bit for bit, in registers, memory,
//! devices and output. Time is made of instructions, so that there is one way for the guest to run. Every other time memory
//! comes as it does in postcopy, while the guest runs already.
//!
//! The number of points is `DORMOUSE_SAVE_POINTS` (300), the seed of their choice `DORMOUSE_SAVE_SEED` (1).

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use board::{Board, BoardConfig};
use clock::{
    CountedSource, GuestClock, HostClock, IcountShift, RtcBase, RtcClock, RtcOptions, TestClock, Timer,
    TimerClass, TimerQueue, TimerTarget,
};
use common::{Console, Ground, MIB, TODAY, bytes};
use engine::{Builder, By, Engine, EngineConfig, GuestState, JobWork, Refill, Staged};
use ram::{CHUNK_SIZE, ChunkSource, FillError, Portion, Ram};
use runstate::{
    Actions, Config, Lifecycle, ManagementRequest as Ask, MigrationRequest as Step, RunState, SavedLifecycle,
    ShutdownAction, ShutdownCause,
};

const GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");
/// Long enough for any host: a test that runs into it has found a hang.
const PATIENCE: Duration = Duration::from_secs(120);

const MS: u64 = 1_000_000;
/// What is typed, and when the first byte of it is, in ms of guest time.
const LINES: [(u64, &str); 8] = [
    (50, "clocks\n"),
    (100, "fill 1\n"),
    (300, "check\n"),
    (500, "sleep 1\n"),
    (2_000, "clocks\n"),
    (2_100, "nap 1\n"),
    (4_000, "check\n"),
    (4_200, "poweroff\n"),
];

/// The bytes, each with its moment in ns of guest time.
fn typed() -> Vec<(u64, u8)> {
    let line = |(at, line): &(u64, &'static str)| {
        let at = *at;
        line.bytes().zip(0..).map(move |(byte, index)| ((at + index) * MS, byte))
    };
    LINES.iter().flat_map(line).collect()
}

/// Types by the guest's clock, so that each byte meets the same instruction in every run.
struct Typist {
    typed: Vec<(u64, u8)>,
    next: AtomicUsize,
    board: Arc<Board>,
    timer: Timer,
}

impl Typist {
    fn new(board: &Arc<Board>, timers: &Arc<TimerQueue>, next: usize) -> Arc<Self> {
        let typist = Arc::new_cyclic(|me: &Weak<Self>| Self {
            typed: typed(),
            next: AtomicUsize::new(next),
            board: Arc::clone(board),
            timer: timers.add_weak(TimerClass::Wake, me.clone() as Weak<dyn TimerTarget>),
        });
        typist.arm();
        typist
    }

    fn arm(&self) {
        if let Some((at, _)) = self.typed.get(self.next.load(Ordering::SeqCst)) {
            self.timer.arm(*at);
        }
    }
}

impl TimerTarget for Typist {
    fn expired(&self) {
        if let Some((_, byte)) = self.typed.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            self.board.uart().receive(&[*byte]);
        }
        self.arm();
    }
}

/// Has time stand at its moment, from within the guest's own thread: not an instruction later.
struct Brake {
    timers: Arc<TimerQueue>,
    stands: Mutex<Sender<()>>,
}

impl TimerTarget for Brake {
    fn expired(&self) {
        self.timers.freeze();
        let _ = self.stands.lock().unwrap().send(());
    }
}

struct World {
    engine: Engine,
    timers: Arc<TimerQueue>,
    console: Arc<Console>,
    typist: Arc<Typist>,
    brake: Timer,
    stands: Receiver<()>,
}

/// All of a machine.
struct Snapshot {
    state: GuestState,
    life: SavedLifecycle,
    chunks: Vec<(usize, Vec<u8>)>,
}

impl World {
    /// A machine that is held at its beginning, with so much typed already.
    fn new(next: usize) -> Self {
        let host = TestClock::new(1, TODAY);
        let shared: Arc<dyn HostClock> = Arc::new(host.clone());
        let source = CountedSource::default();
        let clock = Arc::new(GuestClock::icount(source.clone(), IcountShift::try_from(0).unwrap()));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::clone(&shared));
        let console = Arc::<Console>::default();
        let builder = Builder::new();
        let config = BoardConfig {
            ram_size: 32 * MIB,
            count: Some(source.clone()),
            rtc: RtcOptions { base: RtcBase::Date(TODAY), clock: RtcClock::Vm },
            clock,
            timers: Arc::clone(&timers),
            host: Arc::clone(&shared),
            port: builder.port(),
            serial: vec![Arc::clone(&console) as _],
            ..Ground::new().config(Some(bytes("embedded", GUEST)))
        };
        let (board, vcpus) = Board::build(config).unwrap();
        let actions = Actions { shutdown: ShutdownAction::Pause, ..Actions::default() };
        let engine = builder
            .start(EngineConfig {
                machine: Arc::clone(&board) as _,
                vcpus,
                timers: Arc::clone(&timers),
                host: shared,
                lifecycle: Lifecycle::new(Config { actions, ..Config::default() }),
                counted: Some(source),
                hart_nice: None,
            })
            .unwrap();
        let (tell, stands) = channel();
        let brake = Arc::new(Brake { timers: Arc::clone(&timers), stands: Mutex::new(tell) });
        let brake = timers.add(TimerClass::Wake, brake);
        let typist = Typist::new(&board, &timers, next);
        Self { engine, timers, console, typist, brake, stands }
    }

    fn now_ns(&self) -> u64 {
        self.timers.clock().now_ns()
    }

    fn is_off(&self) -> bool {
        self.engine.status().state == RunState::Shutdown
    }

    /// Lets the guest go on for `ns`, or to its end. Returns whether it stands before its end.
    fn run_for(&self, ns: u64) -> bool {
        self.brake.arm(self.now_ns().saturating_add(ns));
        self.engine.manage(Ask::Cont).unwrap();
        let begun = Instant::now();
        loop {
            if self.stands.recv_timeout(Duration::from_millis(1)).is_ok() {
                // Where the last instruction before was the guest's last word, that is handled before this.
                self.engine.manage(Ask::Stop).unwrap();
                return !self.is_off();
            }
            if self.is_off() {
                self.brake.disarm();
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "it never ends:\n{}", self.console.text());
        }
    }

    fn run_to_its_end(&self) {
        while self.run_for(u64::MAX - self.now_ns()) {}
    }

    fn snapshot(&self) -> Snapshot {
        let (tell, told) = channel();
        let engine = self.engine.clone();
        let work = JobWork::new(
            move |_| {
                let ram = engine.ram().unwrap();
                let state = engine.save_state().unwrap();
                let life = engine.saved_lifecycle().unwrap();
                tell.send(Snapshot { state, life, chunks: chunks(&ram) }).unwrap();
                Step::SaveEnd
            },
            Step::SaveEnd,
        );
        assert!(self.engine.begin(By::Unnamed, Ask::SaveStart, work).unwrap().wait());
        told.recv().unwrap()
    }

    /// Loads it with its memory there at once, or coming as the guest touches it.
    fn load(&self, snapshot: Snapshot, afar: bool) {
        let Snapshot { state, life, chunks } = snapshot;
        self.engine.check_state(&state).unwrap();
        self.engine.check_lifecycle(&life).unwrap();
        let engine = self.engine.clone();
        let work = JobWork::new(
            move |_| {
                let memory: Refill = match afar {
                    false => Box::new(move |ram| refill(ram, &chunks)),
                    true => Box::new(move |ram| ram.replace(Portion::All, Afar::new(chunks), || {})),
                };
                engine.stage(Staged { state, memory: Some(memory), renewal: None });
                Step::LoadDone { saved: life }
            },
            Step::LoadFailed,
        );
        let job = self.engine.begin(By::Unnamed, Ask::LoadStart { keep_asleep: true }, work).unwrap();
        assert!(job.wait());
    }

    fn end(self) {
        self.engine.manage(Ask::Quit { cause: ShutdownCause::HostQmpQuit }).unwrap();
        self.engine.wait();
    }
}

/// Memory as it is on its way in postcopy: who asks for a chunk for the first time does not get it yet.
struct Afar {
    chunks: BTreeMap<usize, Vec<u8>>,
    asked: Mutex<BTreeSet<usize>>,
}

impl Afar {
    fn new(chunks: Vec<(usize, Vec<u8>)>) -> Arc<Self> {
        Arc::new(Self { chunks: chunks.into_iter().collect(), asked: Mutex::default() })
    }
}

impl ChunkSource for Afar {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        if self.asked.lock().unwrap().insert(chunk) {
            return Err(FillError::Interrupted);
        }
        if let Some(bytes) = self.chunks.get(&chunk) {
            into.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }
}

/// The chunks of memory that are not zero.
fn chunks(ram: &Ram) -> Vec<(usize, Vec<u8>)> {
    // What has not come yet comes now.
    (0..ram.chunk_count()).for_each(|chunk| while ram.fill_chunk(chunk).is_err() {});
    let read = |chunk| {
        let mut bytes = vec![0; CHUNK_SIZE];
        ram.read_chunk(chunk, &mut bytes).unwrap();
        (chunk, bytes)
    };
    (0..ram.chunk_count()).filter(|chunk| !ram.is_zero_chunk(*chunk).unwrap()).map(read).collect()
}

fn refill(ram: &Ram, chunks: &[(usize, Vec<u8>)]) {
    (0..ram.chunk_count()).for_each(|chunk| ram.zero_chunk(chunk).unwrap());
    chunks.iter().for_each(|(chunk, bytes)| ram.write_chunk(*chunk, bytes).unwrap());
}

/// A small repeatable generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From one instruction to a quarter of a second, each magnitude as likely.
    fn leg(&mut self) -> u64 {
        let magnitude = self.next() % 28;
        1 + self.next() % (1 << magnitude)
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

#[test]
fn a_run_that_is_saved_and_loaded_anywhere_ends_as_one_that_is_not() {
    let whole = World::new(0);
    whole.run_to_its_end();
    let expected = whole.snapshot();
    let output = whole.console.text();
    assert!(output.contains("awake after 1.000"), "{output}");
    whole.end();

    let points = number("DORMOUSE_SAVE_POINTS", 300);
    let mut random = Random(number("DORMOUSE_SAVE_SEED", 1));
    let (mut taken, mut asleep, mut elsewhere) = (0, 0, 0);
    while taken < points {
        let mut world = World::new(0);
        let mut said = String::new();
        while world.run_for(random.leg()) {
            let at = world.now_ns();
            let snapshot = world.snapshot();
            asleep += u64::from(snapshot.life.power().sleep().is_some());
            if random.next().is_multiple_of(2) {
                said += &world.console.text();
                let other = World::new(world.typist.next.load(Ordering::SeqCst));
                other.load(snapshot, random.next().is_multiple_of(2));
                std::mem::replace(&mut world, other).end();
                elsewhere += 1;
            } else {
                // It goes astray first, and comes back.
                world.load(snapshot, random.next().is_multiple_of(2));
            }
            assert_eq!(world.now_ns(), at, "a new timeline begins where the old one was left");
            taken += 1;
        }
        said += &world.console.text();
        assert_eq!(said, output);
        let ended = world.snapshot();
        for (now, then) in ended.state.sections.iter().zip(&expected.state.sections) {
            assert_eq!(now, then);
        }
        assert_eq!(ended.state.sections.len(), expected.state.sections.len());
        assert!(ended.chunks == expected.chunks, "memory differs");
        world.end();
    }
    println!("{taken} points, {asleep} of them asleep, {elsewhere} times into another machine");
    assert!(asleep > 0 && elsewhere > 0);
}
