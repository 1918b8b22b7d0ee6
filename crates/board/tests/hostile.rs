//! Machines that were damaged on their way, on purpose or not: whatever is wrong with what arrives, it fails with a reason or
//! is a machine, and after a failure nothing of it is left.
//!
//! The number of them is `DORMOUSE_HOSTILE` (500 of each kind), the seed `DORMOUSE_HOSTILE_SEED` (1).

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use backends::FdSets;
use board::{Board, BoardConfig};
use common::{Ground, MIB, bytes};
use devices::virtio::EntropySource;
use engine::{Builder, By, Engine, EngineConfig, GuestState};
use migration::{Address, Capability, Lent, Migrations};
use ram::{CHUNK_SIZE, Ram};
use runstate::{Config, Lifecycle, ManagementRequest as Ask, RunState, ShutdownCause};
use stream::{Content, Header, Item, Limits, Reader, Section, Summary, Writer};

const GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");

struct Sevens;

impl EntropySource for Sevens {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// A machine with all its devices, and its migrations.
struct World {
    engine: Engine,
    migrations: Migrations,
}

impl World {
    fn new(incoming: bool) -> Self {
        let ground = Ground::new();
        ground.timers.freeze();
        let builder = Builder::new();
        let config = BoardConfig {
            ram_size: 8 * MIB,
            port: builder.port(),
            // The seed in the device tree would be another after every failure.
            entropy: Arc::new(Sevens),
            ..ground.config(Some(bytes("embedded", GUEST)))
        };
        let (board, vcpus) = Board::build(config).unwrap();
        let config = EngineConfig {
            machine: board,
            vcpus,
            timers: Arc::clone(&ground.timers),
            host: Arc::new(ground.host.clone()),
            lifecycle: Lifecycle::new(Config { incoming, ..Config::default() }),
            counted: None,
            hart_nice: None,
        };
        let engine = builder.start(config).unwrap();
        let migrations = Migrations::new(engine.clone());
        Self { engine, migrations }
    }

    fn ram(&self) -> Arc<Ram> {
        self.engine.ram().unwrap()
    }

    /// Whether it has come in.
    fn takes(&self, from: &Address) -> bool {
        let fdsets = FdSets::default();
        let lent = Lent { named: &|_| None, fdsets: &fdsets };
        let job = self.migrations.take_in(By::Unnamed, from, &lent, false).unwrap();
        assert!(job.wait());
        let error = self.migrations.report().unwrap().error;
        let waits = self.engine.status().state == RunState::InMigrate;
        assert_eq!(waits, error.is_some(), "{error:?}");
        !waits
    }

    fn writes(&self, to: &Address) {
        let fdsets = FdSets::default();
        let lent = Lent { named: &|_| None, fdsets: &fdsets };
        assert!(self.migrations.migrate(By::Unnamed, to, &lent).unwrap().wait());
        assert_eq!(self.engine.status().state, RunState::PostMigrate);
    }

    fn end(&self) {
        let _ = self.engine.manage(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
        self.engine.wait();
    }
}

/// All of a machine that is held.
#[derive(PartialEq)]
struct Whole {
    state: GuestState,
    chunks: Vec<(usize, Vec<u8>)>,
}

impl Whole {
    fn of(world: &World) -> Self {
        let ram = world.ram();
        let read = |chunk| {
            let mut bytes = vec![0; CHUNK_SIZE];
            ram.read_chunk(chunk, &mut bytes).unwrap();
            (chunk, bytes)
        };
        let full = (0..ram.chunk_count()).filter(|chunk| !ram.is_zero_chunk(*chunk).unwrap());
        Self { state: world.engine.save_state().unwrap(), chunks: full.map(read).collect() }
    }

    /// Sees that nothing is left of machine `number`.
    fn is_still(&self, world: &World, number: usize) {
        let now = Self::of(world);
        for (now, then) in now.state.sections.iter().zip(&self.state.sections) {
            assert_eq!(now, then, "after machine {number}");
        }
        let touched = |whole: &Self| whole.chunks.iter().map(|(chunk, _)| *chunk).collect::<Vec<_>>();
        assert_eq!(touched(&now), touched(self), "after machine {number}");
        assert!(now == *self, "memory is another after machine {number}");
    }
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

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Changes some bytes: a bit, another value, an end that is missing or too much, two places for each other.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match (self.below(6), bytes.get_mut(at)) {
            (0, _) => bytes.truncate(at),
            (1, _) => bytes.extend(self.next().to_le_bytes()),
            (2, Some(byte)) => *byte = [0, 1, 0x7f, 0x80, 0xff][self.next() as usize % 5],
            (3, Some(_)) => {
                let other = self.below(bytes.len());
                bytes.swap(at, other);
            }
            (_, Some(byte)) => *byte ^= 1 << self.below(8),
            (_, None) => bytes.push(0),
        }
    }
}

/// What a stream is made of.
#[derive(Clone)]
enum Part {
    Section(Section),
    Summary(Summary),
    Memory { page: u64, bytes: Vec<u8> },
    Zero { page: u64, pages: u64 },
}

/// A stream in its parts, so that they can be changed behind its checksums.
#[derive(Clone)]
struct Parts {
    header: Header,
    parts: Vec<Part>,
}

impl Parts {
    fn of(stream: &[u8]) -> Self {
        let mut reader = Reader::new(stream, &Limits::default()).unwrap();
        let header = reader.header().clone();
        let mut parts = Vec::new();
        loop {
            parts.push(match reader.read().unwrap() {
                Item::Section(section) => Part::Section(section),
                Item::Summary(summary) => Part::Summary(summary),
                Item::Memory(piece) => match piece.content {
                    Content::Bytes(bytes) => Part::Memory { page: piece.page, bytes: bytes.to_vec() },
                    _ => Part::Zero { page: piece.page, pages: piece.pages },
                },
                Item::Control(_) => continue,
                Item::End => return Self { header, parts },
            });
        }
    }

    /// Written, as far as a writer takes such parts.
    fn write(&self) -> Option<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), &self.header).ok()?;
        for part in &self.parts {
            match part {
                Part::Section(section) => writer.section(section).ok()?,
                Part::Summary(summary) => writer.summary(summary).ok()?,
                Part::Memory { page, bytes } => drop(writer.memory(*page, bytes).ok()?),
                Part::Zero { page, pages } => writer.zero(*page, *pages).ok()?,
            }
        }
        writer.end().ok()
    }

    fn damage(&mut self, random: &mut Random) {
        if self.parts.is_empty() {
            return;
        }
        let at = random.below(self.parts.len());
        match random.below(12) {
            0 => drop(self.parts.remove(at)),
            1 => self.parts.insert(at, self.parts[at].clone()),
            2 => {
                let other = random.below(self.parts.len());
                self.parts.swap(at, other);
            }
            3 => self.parts.truncate(at),
            4 => self.header.memory = random.next() >> random.below(64) << 12,
            _ => match &mut self.parts[at] {
                Part::Section(section) if random.below(10) == 0 => section.version = random.next() as u32 % 4,
                Part::Section(section) if random.below(10) == 0 => section.name.push('x'),
                Part::Section(section) => random.damage(&mut section.data),
                Part::Summary(summary) => summary.guest_ns = random.next(),
                Part::Memory { page, .. } => *page ^= 1 << random.below(12),
                Part::Zero { page, .. } if random.below(2) == 0 => *page ^= 1 << random.below(12),
                Part::Zero { pages, .. } => *pages = random.next() >> random.below(64),
            },
        }
    }
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Where machines are read from.
struct Place {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("f"), _folder: folder }
    }

    fn address(&self) -> Address {
        Address::File { path: self.path.clone(), offset: 0 }
    }

    /// A machine that has run and been told to go there.
    fn written(&self, mapped: bool) -> Vec<u8> {
        let source = World::new(false);
        source.migrations.set_capabilities(&[(Capability::MappedRam, mapped)]).unwrap();
        source.engine.manage(Ask::Cont).unwrap();
        source.writes(&self.address());
        source.end();
        fs::read(&self.path).unwrap()
    }

    /// Takes in `count` machines, each of which `make` has damaged. Returns how many came in.
    fn feed(&self, mut make: impl FnMut(&mut Random) -> Option<Vec<u8>>) -> usize {
        let mut random = Random(number("DORMOUSE_HOSTILE_SEED", 1) as u64);
        let mut world = World::new(true);
        let pristine = Whole::of(&world);
        let mut came = 0;
        for number in 0..number("DORMOUSE_HOSTILE", 500) {
            let Some(stream) = make(&mut random) else { continue };
            fs::write(&self.path, &stream).unwrap();
            if world.takes(&self.address()) {
                // A machine like any other.
                came += 1;
                let _ = world.engine.manage(Ask::Stop);
                let state = world.engine.save_state().unwrap();
                world.engine.check_state(&state).unwrap();
                world.end();
                world = World::new(true);
            } else if number % 16 == 0 {
                pristine.is_still(&world, number);
            }
        }
        pristine.is_still(&world, usize::MAX);
        world.end();
        came
    }
}

#[test]
fn damage_that_checksums_find() {
    let place = Place::new();
    let whole = place.written(false);
    let came = place.feed(|random| {
        let mut stream = whole.clone();
        random.damage(&mut stream);
        Some(stream).filter(|stream| *stream != whole && !stream.starts_with(&whole))
    });
    assert_eq!(came, 0);
}

#[test]
fn damage_behind_the_checksums() {
    let place = Place::new();
    let whole = Parts::of(&place.written(false));
    let came = place.feed(|random| {
        let mut parts = whole.clone();
        for _ in 0..=random.below(3) {
            parts.damage(random);
        }
        parts.write()
    });
    assert!(came > 0, "not everything matters");
}

/// Memory of such a file is looked at when it is touched, so a machine may come in and find it out later.
#[test]
fn damage_of_a_mapped_file() {
    let place = Place::new();
    let whole = place.written(true);
    let came = place.feed(|random| {
        let mut file = whole.clone();
        // Where the machine's state is, at the ends, no less often than in all of its memory.
        match random.below(3) {
            0 => random.damage(&mut file),
            1 => {
                let mut end = file.split_off(file.len() - file.len().min(4096));
                random.damage(&mut end);
                file.extend(end);
            }
            _ => {
                let mut rest = file.split_off(4096);
                random.damage(&mut file);
                file.append(&mut rest);
            }
        }
        Some(file)
    });
    println!("{came} came in");
}
