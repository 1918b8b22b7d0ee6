//! What is known about memory while it is filled, saved and logged.
#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use ram::{
    CHUNK_SIZE, ChunkSource, FillError, LogsInUse, OpenError, PAGE_SIZE, PAGES_PER_CHUNK, PageSet, Portion,
    Ram, RamError, SaveInUse,
};
use support::*;
use vm_memory::{Bytes, GuestAddress};

const CHUNKS: usize = 8;
const SIZE: u64 = (CHUNKS * CHUNK_SIZE) as u64;

fn lazy(source: &Arc<Source>) -> Ram {
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.replace(Portion::All, Arc::clone(source) as _, no_harts);
    ram
}

fn pages(set: &PageSet) -> Vec<usize> {
    set.iter().collect()
}

#[test]
fn a_chunk_is_filled_once_and_by_whoever_needs_it_first() {
    let source = Arc::new(Source::willing(CHUNKS));
    let ram = lazy(&source);
    assert_eq!(
        (ram.absent(), source.counts()),
        (CHUNKS, vec![0; CHUNKS]),
        "nothing is asked for ahead of need"
    );
    ram.open_read(chunk_at(1) + 5).unwrap();
    ram.open_write(chunk_at(1) + 0x9000).unwrap();
    let mut bytes = [0; 2];
    ram.read(chunk_at(3) - 1, &mut bytes).unwrap();
    assert_eq!(bytes, [content(2), content(3)]);
    ram.memory().write_obj(7_u8, GuestAddress(chunk_at(5) + 1)).unwrap();
    ram.read(chunk_at(5), &mut bytes).unwrap();
    assert_eq!(bytes, [content(5), 7], "what is around a first write was filled before it");
    assert_eq!(source.counts(), [0, 1, 1, 1, 0, 1, 0, 0]);
    assert_eq!(ram.absent(), 4);
}

#[test]
fn the_background_reader_fills_the_rest_and_the_source_is_let_go() {
    let source = Arc::new(Source::willing(CHUNKS));
    let ram = lazy(&source);
    ram.open_read(chunk_at(0)).unwrap();
    let mut filled = vec![];
    let mut from = 0;
    while let Some(chunk) = ram.fill_next(from).unwrap() {
        filled.push(chunk);
        from = chunk + 1;
    }
    assert_eq!(filled, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((ram.absent(), Arc::strong_count(&source)), (0, 1));
    assert!(
        image(&ram).chunks(CHUNK_SIZE).enumerate().all(|(at, bytes)| bytes.iter().all(|&b| b == content(at)))
    );
}

#[test]
fn a_chunk_that_is_written_whole_is_asked_of_nobody() {
    let source = Arc::new(Source::willing(CHUNKS));
    let ram = lazy(&source);
    ram.write_chunk(2, &[9; CHUNK_SIZE]).unwrap();
    ram.zero_chunk(3).unwrap();
    let mut bytes = [0; 1];
    ram.read(chunk_at(2), &mut bytes).unwrap();
    assert_eq!(bytes, [9]);
    assert!(ram.is_zero_chunk(3).unwrap() && !ram.is_zero_chunk(2).unwrap());
    assert_eq!((ram.absent(), source.counts()), (CHUNKS - 2, vec![0; CHUNKS]));
    for (chunk, len) in [(2, CHUNK_SIZE - 1), (CHUNKS, CHUNK_SIZE), (usize::MAX, CHUNK_SIZE), (2, 0)] {
        assert!(matches!(ram.write_chunk(chunk, &vec![0; len]), Err(RamError::OutOfRange { .. })));
    }
    assert!(matches!(ram.read_chunk(CHUNKS, &mut []), Err(OpenError::Outside)));
}

#[test]
fn lost_memory_fails_the_access_and_is_told_with_its_reason() {
    let source =
        Arc::new(Source::answering(CHUNKS, |chunk, _| if chunk == 2 { Answer::Fail } else { Answer::Give }));
    let ram = lazy(&source);
    let told = Arc::new(Mutex::new(vec![]));
    let teller = Arc::clone(&told);
    ram.report_misses(move |loss| teller.lock().unwrap().push(loss.to_string()));
    assert!(matches!(ram.open_write(chunk_at(2)), Err(OpenError::Lost(_))));
    assert!(told.lock().unwrap().is_empty(), "a hart says so itself");
    let before = ram.misses();
    let error = ram.memory().write_obj(1_u32, GuestAddress(chunk_at(2) + 4)).unwrap_err();
    assert!(error.to_string().contains("0x80020000 cannot be had: checksum mismatch"), "{error}");
    assert!(matches!(ram.write(chunk_at(2) - 1, &[1, 2]), Err(RamError::Lost(_))));
    let mut bytes = [0; 1];
    ram.read(chunk_at(2) - 1, &mut bytes).unwrap();
    assert_eq!(bytes, [content(1)], "a write that reached into lost memory wrote something");
    assert_eq!((ram.misses() - before, told.lock().unwrap().len()), (2, 2));
    assert!(ram.missing().unwrap().to_string().ends_with("checksum mismatch"));
    ram.replace(Portion::All, Arc::new(Source::willing(CHUNKS)), no_harts);
    assert!(ram.missing().is_none());
    ram.open_write(chunk_at(2)).unwrap();
}

#[test]
fn what_is_given_up_is_zero_but_for_what_is_still_to_be_saved() {
    let source =
        Arc::new(Source::answering(CHUNKS, |chunk, _| if chunk >= 2 { Answer::Fail } else { Answer::Give }));
    let ram = lazy(&source);
    ram.write(chunk_at(0), &[1]).unwrap();
    ram.write(chunk_at(2), &[1]).unwrap_err();
    let sink = Arc::new(Kept::default());
    let mut save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
    ram.give_up_absent();
    assert!(ram.missing().is_none());
    ram.write(chunk_at(2), &[1]).unwrap_err();
    while save.save_next().is_ok_and(|more| more) {}
    drop(save);
    ram.give_up_absent();
    let mut bytes = [1; 2];
    ram.write(chunk_at(2), &[7]).unwrap();
    ram.read(chunk_at(2), &mut bytes).unwrap();
    assert_eq!((bytes, ram.absent(), ram.missing().is_none()), ([7, 0], 0, true));
    ram.read(chunk_at(0), &mut bytes).unwrap();
    assert_eq!(bytes, [1, content(0)], "what was there stays");
}

#[test]
fn a_device_outlasts_interruptions_and_a_hart_is_told_of_them() {
    let source = Arc::new(Source::answering(CHUNKS, |_, before| match before {
        0..3 => Answer::Interrupt,
        _ => Answer::Give,
    }));
    let ram = lazy(&source);
    assert!(matches!(ram.open_read(chunk_at(0)), Err(OpenError::Interrupted)));
    let mut bytes = [0; 1];
    ram.read(chunk_at(0), &mut bytes).unwrap();
    assert_eq!((bytes, source.counts()[0]), ([content(0)], 4));
    assert!(ram.missing().is_none());
}

/// Another host that gives nothing until it is told to, and is never waited for by who cannot go back.
#[derive(Default)]
struct Far {
    gives: AtomicBool,
    wanted: Mutex<Vec<usize>>,
}

impl ChunkSource for Far {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        if !self.gives.load(Ordering::SeqCst) {
            return Err(FillError::Interrupted);
        }
        into.fill(content(chunk));
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }

    fn want(&self, chunk: usize) {
        self.wanted.lock().unwrap().push(chunk);
    }
}

#[test]
fn nobody_is_kept_waiting_for_another_host() {
    let far = Arc::new(Far::default());
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.write_chunk(0, &[9; CHUNK_SIZE]).unwrap();
    ram.write_chunk(1, &[9; CHUNK_SIZE]).unwrap();
    ram.replace(Portion::Chunks(&[0b1110]), Arc::clone(&far) as _, || {});
    assert_eq!((ram.absent_chunks(), ram.absent(), ram.fills_from_afar()), (vec![0b1110], 3, true));
    let memory = ram.memory();
    assert!(memory.is_here(BASE, CHUNK_SIZE) && memory.is_here(BASE - 5, 5) && memory.is_here(BASE, 0));
    assert!(!memory.is_here(BASE + 10, 2 * CHUNK_SIZE), "a part of it is not");
    assert_eq!(*far.wanted.lock().unwrap(), [1, 2]);
    let mut bytes = [0; 2];
    let at = chunk_at(1) - 1;
    assert!(matches!(ram.read(at, &mut bytes), Err(RamError::Delayed { addr }) if addr == at));
    assert!(matches!(ram.write(at, &bytes), Err(RamError::Delayed { .. })));
    assert!(memory.read_slice(&mut bytes, GuestAddress(at)).is_err() && ram.missing().is_none());
    assert_eq!(far.wanted.lock().unwrap()[2..], [1], "a device that comes upon it sends for it too");

    let told = Arc::new(AtomicUsize::new(0));
    let teller = Arc::clone(&told);
    ram.on_arrival(move || {
        teller.fetch_add(1, Ordering::SeqCst);
    });
    far.gives.store(true, Ordering::SeqCst);
    ram.fill_chunk(1).unwrap();
    ram.tell_arrival();
    assert_eq!(told.load(Ordering::SeqCst), 1);
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    assert_eq!((bytes, ram.absent()), ([9, content(1)], 2));
    ram.give_up_absent();
    assert!(memory.is_here(BASE, SIZE as usize) && !ram.fills_from_afar());
}

#[test]
fn replaced_memory_is_given_back_and_ends_what_was_decoded() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.write_chunk(1, &[1; CHUNK_SIZE]).unwrap();
    let page = ram.page_index(chunk_at(1)).unwrap();
    let (generation, _) = ram.code().decoded(page);
    let mut dropped = false;
    ram.replace(Portion::All, Arc::new(Source::willing(CHUNKS)), || dropped = true);
    assert!(dropped && !ram.code().is_current(page, generation));
    // Straight from the host's page, past everything that is known about it.
    let host = ram.open_read(chunk_at(0)).unwrap();
    let old = host.wrapping_add(CHUNK_SIZE);
    // SAFETY: inside of the mapping that `ram` keeps.
    assert_eq!(unsafe { old.read_volatile() }, 0);
}

#[test]
fn only_the_chunks_of_a_portion_are_replaced() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    for chunk in 0..CHUNKS {
        ram.write_chunk(chunk, &[0xaa; CHUNK_SIZE]).unwrap();
    }
    let log = ram.start_log(no_harts).unwrap();
    ram.write(chunk_at(4) + 7 * PAGE_SIZE, &[1]).unwrap();
    ram.write(chunk_at(6), &[1]).unwrap();
    let some = log.take(no_harts);
    let source = Arc::new(Source::willing(CHUNKS));
    ram.replace(Portion::ChunksOf(&some), Arc::clone(&source) as _, no_harts);
    assert_eq!(ram.absent(), 2);
    let found: Vec<u8> = image(&ram).chunks(CHUNK_SIZE).map(|bytes| bytes[70]).collect();
    assert_eq!(found, [0xaa, 0xaa, 0xaa, 0xaa, content(4), 0xaa, content(6), 0xaa]);
    assert_eq!(ram.absent(), 0);
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn memory_that_nobody_has_written_is_found_zero_without_a_page_of_the_host() {
    let ram = Ram::new(BASE, 1 << 30).unwrap();
    ram.write(BASE + (5 << 20), &[1]).unwrap();
    let last = ram.chunk_count() - 1;
    let at = ram.open_write(BASE + ram.size() - PAGE_SIZE).unwrap();
    // SAFETY: inside of the mapping that `ram` keeps.
    unsafe { at.write_volatile(1) };
    let before = resident();
    let mut bytes = [1; CHUNK_SIZE];
    let nonzero: Vec<_> = (0..=last)
        .filter(|&chunk| {
            ram.read_chunk(chunk, &mut bytes).unwrap();
            let zero = ram.is_zero_chunk(chunk).unwrap();
            assert_eq!(zero, bytes.iter().all(|&byte| byte == 0));
            !zero
        })
        .collect();
    assert_eq!(nonzero, [(5 << 20) / CHUNK_SIZE, last]);
    assert!(resident() < before + (16 << 20), "{} bytes for it", resident() - before);
    ram.zero_chunk(last).unwrap();
    assert!(ram.is_zero_chunk(last).unwrap());
}

#[test]
fn a_log_holds_the_pages_that_were_written_since_it_was_taken() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    ram.write(BASE, &[1]).unwrap();
    let log = ram.start_log(no_harts).unwrap();
    assert!(log.take(no_harts).is_empty(), "what was written before the start");
    ram.open_read(BASE + PAGE_SIZE).unwrap();
    ram.open_write(BASE + 2 * PAGE_SIZE + 8).unwrap();
    ram.write(BASE + 4 * PAGE_SIZE - 1, &[1, 2]).unwrap();
    ram.memory().write_obj(1_u16, GuestAddress(BASE + 9 * PAGE_SIZE)).unwrap();
    ram.memory().store(1_u16, GuestAddress(BASE + 11 * PAGE_SIZE), Ordering::Release).unwrap();
    let _: u32 = ram.memory().read_obj(GuestAddress(BASE + 10 * PAGE_SIZE)).unwrap();
    let set = log.take(no_harts);
    assert_eq!(pages(&set), [2, 3, 4, 9, 11]);
    assert!(log.take(no_harts).is_empty());
    log.put_back(&set);
    ram.write_chunk(1, &[0; CHUNK_SIZE]).unwrap();
    let all = log.take(no_harts);
    assert_eq!((all.len(), all.contains(11), all.contains(16)), (5 + PAGES_PER_CHUNK, true, true));
}

#[test]
fn two_logs_are_kept_apart_and_no_third() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    let snapshot = ram.start_log(no_harts).unwrap();
    ram.write(BASE, &[1]).unwrap();
    let migration = ram.start_log(no_harts).unwrap();
    assert_eq!(ram.start_log(no_harts).unwrap_err(), LogsInUse);
    ram.write(BASE + PAGE_SIZE, &[1]).unwrap();
    assert_eq!(pages(&migration.take(no_harts)), [1]);
    assert_eq!(pages(&snapshot.take(no_harts)), [0, 1]);
    drop(migration);
    ram.write(BASE + 2 * PAGE_SIZE, &[1]).unwrap();
    let again = ram.start_log(no_harts).unwrap();
    assert!(again.take(no_harts).is_empty());
    assert_eq!(pages(&snapshot.take(no_harts)), [2]);
}

#[test]
fn filling_is_not_writing() {
    let source = Arc::new(Source::willing(CHUNKS));
    let ram = lazy(&source);
    let log = ram.start_log(no_harts).unwrap();
    ram.open_read(BASE).unwrap();
    ram.fill_next(3).unwrap();
    assert!(log.take(no_harts).is_empty());
}

#[test]
fn what_is_saved_is_memory_as_it_was_when_the_save_began() {
    let source = Arc::new(Source::willing(CHUNKS));
    let ram = lazy(&source);
    ram.write(chunk_at(1), b"before").unwrap();
    let sink = Arc::new(Kept::default());
    let mut save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
    let begun = {
        let mut bytes: Vec<u8> = (0..CHUNKS).flat_map(|chunk| vec![content(chunk); CHUNK_SIZE]).collect();
        bytes[CHUNK_SIZE..CHUNK_SIZE + 6].copy_from_slice(b"before");
        bytes
    };
    assert_eq!(ram.begin_save(Portion::All, Arc::new(Kept::default()), no_harts).unwrap_err(), SaveInUse);
    ram.write(chunk_at(1), b"after!").unwrap();
    ram.open_write(chunk_at(6)).unwrap();
    ram.write_chunk(7, &[3; CHUNK_SIZE]).unwrap();
    assert_eq!(save.left(), CHUNKS - 3);
    ram.open_read(chunk_at(2)).unwrap();
    assert_eq!(save.left(), CHUNKS - 3, "reading saves nothing");
    while save.save_next().unwrap() {
        ram.write(chunk_at(3), b"meanwhile").unwrap();
    }
    assert!(sink.image(CHUNKS).unwrap() == begun);
    assert_eq!(save.left(), 0);
    drop(save);
    ram.write(chunk_at(3), b"later").unwrap();
    assert_eq!(Arc::strong_count(&sink), 1, "the sink is let go");
}

#[test]
fn a_save_that_ends_early_saves_nothing_more() {
    let ram = Ram::new(BASE, SIZE).unwrap();
    let sink = Arc::new(Kept::default());
    let mut save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
    assert!(save.save_next().unwrap());
    drop(save);
    ram.write(chunk_at(5), &[1]).unwrap();
    assert_eq!(sink.0.lock().unwrap().len(), 1);
    let log = ram.start_log(no_harts).unwrap();
    ram.write(chunk_at(6), &[1]).unwrap();
    let dirty = log.take(no_harts);
    let sink = Arc::new(Kept::default());
    let mut save = ram.begin_save(Portion::ChunksOf(&dirty), Arc::clone(&sink) as _, no_harts).unwrap();
    assert_eq!(save.left(), 1, "a save of what has changed is about nothing else");
    while save.save_next().unwrap() {}
    assert_eq!(sink.0.lock().unwrap().keys().copied().collect::<Vec<_>>(), [6]);
}

#[test]
fn a_last_chunk_may_be_short() {
    let size = CHUNK_SIZE as u64 + 2 * PAGE_SIZE;
    let ram = Ram::new(BASE, size).unwrap();
    let source = Arc::new(Source::willing(2));
    ram.replace(Portion::All, source, no_harts);
    assert_eq!((ram.chunk_count(), ram.chunk_len(1), ram.chunk_len(2)), (2, 2 * PAGE_SIZE as usize, 0));
    let mut bytes = vec![0; 2 * PAGE_SIZE as usize];
    ram.read_chunk(1, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == content(1)));
    ram.read(BASE + size - 1, &mut bytes[..1]).unwrap();
    assert_eq!(ram.absent(), 1);
    let sink = Arc::new(Kept::default());
    let mut save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
    while save.save_next().unwrap() {}
    assert_eq!(sink.image(2).unwrap().len() as u64, size);
}

/// Many threads want the same chunks at once: each is asked for once, by one of them, and nobody goes on before it is there.
#[test]
fn threads_that_race_for_chunks_all_find_them_and_each_is_filled_once() {
    const THREADS: usize = 6;
    let source = Arc::new(Source::answering(CHUNKS, |_, _| {
        std::thread::yield_now();
        Answer::Give
    }));
    let ram = Arc::new(lazy(&source));
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|id| {
            let (ram, start) = (Arc::clone(&ram), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                for chunk in 0..CHUNKS {
                    let mut bytes = [0; 2];
                    ram.read(chunk_at(chunk) + 100, &mut bytes).unwrap();
                    assert_eq!(bytes, [content(chunk); 2]);
                    ram.write(chunk_at(chunk) + id as u64, &[id as u8]).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(source.counts(), [1; CHUNKS]);
    let mut bytes = [0; THREADS];
    ram.read(chunk_at(3), &mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2, 3, 4, 5], "a fill came over a write");
}

/// A slow fill holds up nobody who needs another chunk.
#[test]
fn one_waits_for_ones_own_chunk_only() {
    let (entered, released) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let gate = (Arc::clone(&entered), Arc::clone(&released));
    struct Slow((Arc<Barrier>, Arc<Barrier>));
    impl ram::ChunkSource for Slow {
        fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), ram::FillError> {
            if chunk == 0 {
                self.0.0.wait();
                self.0.1.wait();
            }
            into.fill(content(chunk));
            Ok(())
        }
    }
    let ram = Arc::new(Ram::new(BASE, SIZE).unwrap());
    ram.replace(Portion::All, Arc::new(Slow(gate)), no_harts);
    let slow = {
        let ram = Arc::clone(&ram);
        std::thread::spawn(move || ram.open_read(BASE).is_ok())
    };
    entered.wait();
    for chunk in 1..CHUNKS {
        ram.open_write(chunk_at(chunk)).unwrap();
    }
    released.wait();
    assert!(slow.join().unwrap());
}

/// Writers that go on while a save runs never get into what it saves.
#[test]
fn a_save_sees_no_write_that_comes_after_its_begin() {
    let ram = Arc::new(Ram::new(BASE, SIZE).unwrap());
    let sink = Arc::new(Kept::default());
    for chunk in 0..CHUNKS {
        ram.write_chunk(chunk, &[0x55; CHUNK_SIZE]).unwrap();
    }
    let mut save = ram.begin_save(Portion::All, Arc::clone(&sink) as _, no_harts).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|id| {
            let (ram, over) = (Arc::clone(&ram), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut at = id * 7919;
                while !over.load(Ordering::SeqCst) {
                    at = (at * 31 + 17) % (SIZE - 64);
                    ram.write(BASE + at, &[id as u8; 64]).unwrap();
                }
            })
        })
        .collect();
    while save.save_next().unwrap() {
        std::thread::yield_now();
    }
    over.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(sink.image(CHUNKS).unwrap().iter().all(|&byte| byte == 0x55));
}
