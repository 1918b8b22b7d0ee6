//! Exhaustive models of how threads share the filling, saving and logging of memory. Loom's cells stand in for its bytes: a
//! source writes them, a sink reads them, and loom finds every access that is not ordered after what has to come first.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ram --release --test loom`.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use ram::{CHUNK_SIZE, ChunkSink, ChunkSource, FillError, Portion, Ram};

const BASE: u64 = 0x8000_0000;

/// The content of one chunk.
struct Content(UnsafeCell<u32>);

// SAFETY: what the model checks.
unsafe impl Sync for Content {}
// SAFETY: a number.
unsafe impl Send for Content {}

const OLD: u32 = 1;
const NEW: u32 = 2;

impl Content {
    fn new(value: u32) -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(value)))
    }

    fn get(&self) -> u32 {
        // SAFETY: loom fails the model if a write is not ordered against this.
        self.0.with(|at| unsafe { *at })
    }

    fn set(&self, value: u32) {
        // SAFETY: loom fails the model if any other access is not ordered against this.
        self.0.with_mut(|at| unsafe { *at = value });
    }
}

/// Gives chunk 0, the first `interruptions` times too late.
struct Source {
    content: Arc<Content>,
    asked: Arc<AtomicUsize>,
    interruptions: usize,
}

impl ChunkSource for Source {
    fn fill(&self, _chunk: usize, _into: &mut [u8]) -> Result<(), FillError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.interruptions {
            return Err(FillError::Interrupted);
        }
        self.content.set(OLD);
        Ok(())
    }
}

/// Takes chunk 0.
struct Sink {
    content: Arc<Content>,
    saved: Arc<Content>,
}

impl ChunkSink for Sink {
    fn save(&self, _chunk: usize, _bytes: &[u8]) {
        self.saved.set(self.content.get());
    }
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// A RAM of one chunk, which is absent.
fn lazy(interruptions: usize) -> (Arc<Ram>, Arc<Content>, Arc<AtomicUsize>) {
    let ram = Arc::new(Ram::new(BASE, CHUNK_SIZE as u64).unwrap());
    let (content, asked) = (Content::new(0), Arc::new(AtomicUsize::new(0)));
    let source = Source { content: Arc::clone(&content), asked: Arc::clone(&asked), interruptions };
    ram.replace(Portion::All, std::sync::Arc::new(source), || {});
    (ram, content, asked)
}

/// Opens the chunk until it is there.
fn open(ram: &Ram) {
    while ram.open_read(BASE).is_err() {
        thread::yield_now();
    }
}

/// Two threads and the background reader want the same chunk: one fills it, and all find it filled, whether they met the
/// fill, or found everything over.
#[test]
fn a_chunk_is_filled_once_before_anybody_goes_on() {
    model(|| {
        let (ram, content, asked) = lazy(0);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (ram, content) = (Arc::clone(&ram), Arc::clone(&content));
                thread::spawn(move || {
                    open(&ram);
                    assert_eq!(content.get(), OLD);
                })
            })
            .collect();
        ram.fill_next(0).unwrap();
        assert_eq!(content.get(), OLD);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((asked.load(Ordering::Relaxed), ram.absent()), (1, 0));
    });
}

/// One whose fill was interrupted leaves the chunk to the others, and neither of them goes on without it.
#[test]
fn an_interrupted_fill_is_made_up_for() {
    model(|| {
        let (ram, content, asked) = lazy(1);
        let other = {
            let (ram, content) = (Arc::clone(&ram), Arc::clone(&content));
            thread::spawn(move || {
                open(&ram);
                assert_eq!(content.get(), OLD);
            })
        };
        open(&ram);
        assert_eq!(content.get(), OLD);
        other.join().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    });
}

/// A chunk that is filled and one that writes it: what was written stays.
#[test]
fn a_fill_never_comes_over_a_write() {
    model(|| {
        let (ram, content, _) = lazy(0);
        let reader = {
            let ram = Arc::clone(&ram);
            thread::spawn(move || {
                ram.fill_next(0).unwrap();
            })
        };
        ram.open_write(BASE).unwrap();
        content.set(NEW);
        reader.join().unwrap();
        assert_eq!(content.get(), NEW);
    });
}

/// One writes a chunk while the background writer is at it: the sink gets it once, as it was.
#[test]
fn a_chunk_is_saved_before_anybody_writes_it() {
    model(|| {
        let ram = Arc::new(Ram::new(BASE, CHUNK_SIZE as u64).unwrap());
        let (content, saved) = (Content::new(OLD), Content::new(0));
        let sink = Sink { content: Arc::clone(&content), saved: Arc::clone(&saved) };
        let mut save = ram.begin_save(Portion::All, std::sync::Arc::new(sink), || {}).unwrap();
        let writer = {
            let (ram, content) = (Arc::clone(&ram), Arc::clone(&content));
            thread::spawn(move || {
                ram.open_write(BASE).unwrap();
                content.set(NEW);
            })
        };
        while save.save_next().unwrap() {}
        assert_eq!(saved.get(), OLD);
        writer.join().unwrap();
        drop(save);
        assert_eq!((saved.get(), content.get()), (OLD, NEW));
    });
}

/// The save ends while one is about to write: the sink is not called once that is over.
#[test]
fn a_sink_is_not_called_after_its_save() {
    model(|| {
        let ram = Arc::new(Ram::new(BASE, CHUNK_SIZE as u64).unwrap());
        let (content, saved) = (Content::new(OLD), Content::new(0));
        let sink = Sink { content: Arc::clone(&content), saved: Arc::clone(&saved) };
        let save = ram.begin_save(Portion::All, std::sync::Arc::new(sink), || {}).unwrap();
        let writer = {
            let (ram, content) = (Arc::clone(&ram), Arc::clone(&content));
            thread::spawn(move || {
                ram.open_write(BASE).unwrap();
                content.set(NEW);
            })
        };
        drop(save);
        // Loom finds a save that is still under way.
        let at_end = saved.get();
        writer.join().unwrap();
        assert_eq!(saved.get(), at_end);
        assert!(matches!(at_end, 0 | OLD));
    });
}

/// A device writes while the log is taken: what the reader of the pages does not see is in the next log.
#[test]
fn a_write_by_a_device_is_seen_or_in_the_next_log() {
    use vm_memory::{Bytes, GuestAddress};
    model(|| {
        let ram = Arc::new(Ram::new(BASE, CHUNK_SIZE as u64).unwrap());
        let log = ram.start_log(|| {}).unwrap();
        // What it writes: an atomic, as guest memory is.
        let byte = Arc::new(AtomicUsize::new(0));
        let device = {
            let (ram, byte) = (Arc::clone(&ram), Arc::clone(&byte));
            thread::spawn(move || {
                byte.store(1, Ordering::Relaxed);
                ram.memory().write_obj(1_u8, GuestAddress(BASE)).unwrap();
            })
        };
        log.take(|| {});
        let seen = byte.load(Ordering::Relaxed);
        device.join().unwrap();
        assert!(seen == 1 || log.take(|| {}).contains(0), "a write is lost");
    });
}

/// The same for the start of a log.
#[test]
fn a_write_by_a_device_is_seen_or_in_the_log_that_starts() {
    use vm_memory::{Bytes, GuestAddress};
    model(|| {
        let ram = Arc::new(Ram::new(BASE, CHUNK_SIZE as u64).unwrap());
        let byte = Arc::new(AtomicUsize::new(0));
        let device = {
            let (ram, byte) = (Arc::clone(&ram), Arc::clone(&byte));
            thread::spawn(move || {
                byte.store(1, Ordering::Relaxed);
                ram.memory().write_obj(1_u8, GuestAddress(BASE)).unwrap();
            })
        };
        let log = ram.start_log(|| {}).unwrap();
        let seen = byte.load(Ordering::Relaxed);
        device.join().unwrap();
        assert!(seen == 1 || log.take(|| {}).contains(0), "a write is lost");
    });
}
