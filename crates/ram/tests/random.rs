//! Whatever is done with tracked memory, in whatever order, it does as plain memory would, logs exactly what was written,
//! and saves exactly what was there.
#![cfg(not(loom))]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use ram::{CHUNK_SIZE, DirtyLog, FileRun, PAGE_SIZE, Portion, Ram, Save};
use support::*;

/// The last one is short.
const CHUNKS: usize = 4;
const SIZE: usize = (CHUNKS - 1) * CHUNK_SIZE + 3 * PAGE_SIZE as usize;

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize, len: usize },
    Write { at: usize, len: usize, byte: u8 },
    HartWrite { at: usize, byte: u8 },
    HartRead { at: usize },
    FillNext { from: usize },
    WriteChunk { chunk: usize, byte: u8 },
    ZeroChunk { chunk: usize },
    ReadChunk { chunk: usize },
    Replace,
    Share { first: usize, count: usize },
    ReplaceDirty,
    Log { log: usize },
    Take { log: usize },
    PutBack { log: usize },
    EndLog { log: usize },
    BeginSave,
    SaveNext,
    EndSave,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..SIZE;
    let len = prop_oneof![1..100_usize, 1..3 * CHUNK_SIZE];
    let log = 0..2_usize;
    let step = prop_oneof![
        4 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Read { at, len }),
        4 => (at.clone(), len, any::<u8>()).prop_map(|(at, len, byte)| Step::Write { at, len, byte }),
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Step::HartWrite { at, byte }),
        2 => at.prop_map(|at| Step::HartRead { at }),
        1 => (0..=CHUNKS).prop_map(|from| Step::FillNext { from }),
        1 => (0..CHUNKS, any::<u8>()).prop_map(|(chunk, byte)| Step::WriteChunk { chunk, byte }),
        1 => (0..CHUNKS).prop_map(|chunk| Step::ZeroChunk { chunk }),
        1 => (0..CHUNKS).prop_map(|chunk| Step::ReadChunk { chunk }),
        1 => Just(Step::Replace),
        1 => (0..CHUNKS, 1..=CHUNKS).prop_map(|(first, count)| Step::Share { first, count }),
        1 => Just(Step::ReplaceDirty),
        1 => log.clone().prop_map(|log| Step::Log { log }),
        2 => log.clone().prop_map(|log| Step::Take { log }),
        1 => log.clone().prop_map(|log| Step::PutBack { log }),
        1 => log.prop_map(|log| Step::EndLog { log }),
        1 => Just(Step::BeginSave),
        3 => Just(Step::SaveNext),
        1 => Just(Step::EndSave),
    ];
    prop::collection::vec(step, 1..60)
}

/// A log and the pages that it has to hold.
#[derive(Default)]
struct Logged {
    log: Option<DirtyLog>,
    pages: BTreeSet<usize>,
}

/// Plain memory, and what is to be known about it.
struct Model {
    bytes: Vec<u8>,
    logs: [Logged; 2],
    /// The sink, and what memory held when the save began.
    save: Option<(Save, Arc<Kept>, Vec<u8>)>,
}

fn chunk_range(chunk: usize) -> std::ops::Range<usize> {
    chunk * CHUNK_SIZE..((chunk + 1) * CHUNK_SIZE).min(SIZE)
}

impl Model {
    fn written(&mut self, range: std::ops::Range<usize>) {
        let page = PAGE_SIZE as usize;
        for logged in self.logs.iter_mut().filter(|logged| logged.log.is_some()) {
            logged.pages.extend(range.start / page..range.end.div_ceil(page));
        }
    }

    fn set(&mut self, range: std::ops::Range<usize>, byte: u8) {
        self.bytes[range.clone()].fill(byte);
        self.written(range);
    }

    /// What was saved is what was there, whether all of it was saved or not.
    fn end_save(&mut self) {
        let Some((save, sink, begun)) = self.save.take() else { return };
        drop(save);
        for (&chunk, bytes) in sink.0.lock().unwrap().iter() {
            assert!(bytes == &begun[chunk_range(chunk)], "chunk {chunk} was saved as it never was");
        }
    }

    fn replaced(&mut self, chunk: usize) {
        self.set(chunk_range(chunk), content(chunk));
    }
}

/// A file with what a willing source gives.
fn file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = tempfile::tempfile().unwrap();
        for chunk in 0..CHUNKS {
            let range = chunk_range(chunk);
            file.write_all_at(&vec![content(chunk); range.len()], range.start as u64).unwrap();
        }
        file
    })
}

/// Byte `at` through the host's address, as a hart has it.
fn host(page: *mut u8, at: usize) -> *mut u8 {
    page.wrapping_add(at % PAGE_SIZE as usize)
}

fn apply(ram: &Ram, model: &mut Model, step: Step) {
    let addr = |at: usize| BASE + at as u64;
    match step {
        Step::Read { at, len } => {
            let len = len.min(SIZE - at);
            let mut bytes = vec![0; len];
            ram.read(addr(at), &mut bytes).unwrap();
            assert!(bytes == model.bytes[at..at + len]);
        }
        Step::Write { at, len, byte } => {
            let len = len.min(SIZE - at);
            ram.write(addr(at), &vec![byte; len]).unwrap();
            model.set(at..at + len, byte);
        }
        Step::HartWrite { at, byte } => {
            let page = ram.open_write(addr(at)).unwrap();
            // SAFETY: inside of the page, which `ram` keeps mapped; nobody else is there.
            unsafe { host(page, at).write_volatile(byte) };
            model.set(at..at + 1, byte);
        }
        Step::HartRead { at } => {
            let page = ram.open_read(addr(at)).unwrap();
            // SAFETY: as above.
            assert_eq!(unsafe { host(page, at).read_volatile() }, model.bytes[at]);
        }
        Step::FillNext { from } => {
            let before = ram.absent();
            let filled = ram.fill_next(from).unwrap();
            assert_eq!(before - ram.absent(), usize::from(filled.is_some()));
        }
        Step::WriteChunk { chunk, byte } => {
            ram.write_chunk(chunk, &vec![byte; ram.chunk_len(chunk)]).unwrap();
            model.set(chunk_range(chunk), byte);
        }
        Step::ZeroChunk { chunk } => {
            ram.zero_chunk(chunk).unwrap();
            model.set(chunk_range(chunk), 0);
        }
        Step::ReadChunk { chunk } => {
            let plain = &model.bytes[chunk_range(chunk)];
            let mut bytes = vec![0; plain.len()];
            ram.read_chunk(chunk, &mut bytes).unwrap();
            assert!(bytes == plain);
            assert_eq!(ram.is_zero_chunk(chunk).unwrap(), plain.iter().all(|&byte| byte == 0));
        }
        Step::Replace => {
            model.end_save();
            ram.replace(Portion::All, Arc::new(Source::willing(CHUNKS)), no_harts);
            (0..CHUNKS).for_each(|chunk| model.replaced(chunk));
            assert_eq!(ram.absent(), CHUNKS);
        }
        Step::Share { first, count } => {
            model.end_save();
            ram.replace(Portion::All, Arc::new(Source::willing(CHUNKS)), no_harts);
            let count = count.min(CHUNKS - first);
            let offset = (first * CHUNK_SIZE) as u64;
            assert_eq!(ram.share([FileRun { first, count, file: file().as_fd(), offset }]), count);
            (0..CHUNKS).for_each(|chunk| model.replaced(chunk));
        }
        Step::ReplaceDirty => {
            let Some(log) = &model.logs[0].log else { return };
            let taken = log.take(no_harts);
            model.logs[0].pages.clear();
            model.end_save();
            ram.replace(Portion::ChunksOf(&taken), Arc::new(Source::willing(CHUNKS)), no_harts);
            taken.chunks().for_each(|chunk| model.replaced(chunk));
        }
        Step::Log { log } => {
            if model.logs[log].log.is_none() {
                model.logs[log] =
                    Logged { log: Some(ram.start_log(no_harts).unwrap()), pages: BTreeSet::new() };
            }
        }
        Step::Take { log } | Step::PutBack { log } => {
            let Logged { log: Some(log), pages } = &mut model.logs[log] else { return };
            let taken = log.take(no_harts);
            assert!(taken.iter().eq(pages.iter().copied()));
            if matches!(step, Step::PutBack { .. }) {
                log.put_back(&taken);
            } else {
                pages.clear();
            }
        }
        Step::EndLog { log } => model.logs[log] = Logged::default(),
        Step::BeginSave => {
            if model.save.is_none() {
                let sink = Arc::new(Kept::default());
                let save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
                model.save = Some((save, sink, model.bytes.clone()));
            }
        }
        Step::SaveNext => {
            if let Some((save, sink, _)) = &mut model.save {
                let more = save.save_next().unwrap();
                assert_eq!(sink.0.lock().unwrap().len() + save.left(), CHUNKS);
                assert!(more || save.left() == 0);
            }
        }
        Step::EndSave => model.end_save(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn tracked_memory_does_as_plain_memory_does(steps in steps()) {
        let ram = Ram::new(BASE, SIZE as u64).unwrap();
        let mut model = Model { bytes: vec![0; SIZE], logs: Default::default(), save: None };
        for step in steps {
            apply(&ram, &mut model, step);
        }
        model.end_save();
        prop_assert!(image(&ram) == model.bytes);
    }
}
