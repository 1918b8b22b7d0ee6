//! How fast memory goes into and out of a saved form, in GiB of the machine's memory a second.
//!
//! `cargo run --release -p stream --example rate [DIRECTORY]`; files are made in DIRECTORY, or where temporary files are.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use stream::{
    CHUNK_PAGES, CHUNK_SIZE, Compression, FileId, Header, Item, Limits, MappedFile, MappedWriter, Reader,
    Writer,
};

const MEMORY: u64 = 1 << 30;
const CHUNKS: u64 = MEMORY / CHUNK_SIZE as u64;

/// Best of this many.
const RUNS: usize = 3;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (name, memory) in [("zero", zeros()), ("random", random()), ("text", text())] {
        rate(&format!("{name}, hash alone"), || {
            for (_, bytes) in chunks(&memory) {
                black_box(xxhash_rust::xxh3::xxh3_64(bytes));
            }
            Ok(())
        })?;
        streamed(name, Compression::None, &memory)?;
        streamed(name, Compression::Zstd, &memory)?;
        socket(name, &memory)?;
        mapped(name, &memory, &directory)?;
    }
    Ok(())
}

fn rate(what: &str, mut run: impl FnMut() -> Outcome) -> Outcome {
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let begin = Instant::now();
        run()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    println!("{what:32} {:7.2} GiB/s {:8.1} ms", MEMORY as f64 / best / f64::from(1 << 30), best * 1e3);
    Ok(())
}

fn chunks(memory: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (0..).zip(memory.chunks(CHUNK_SIZE))
}

fn write<W: io::Write>(out: W, compression: Compression, memory: &[u8]) -> Result<W, Box<dyn Error>> {
    let header = Header { compression, ..Header::new(FileId([0; 16]), MEMORY) };
    let mut writer = Writer::new(out, &header)?;
    for (chunk, bytes) in chunks(memory) {
        writer.memory(chunk * CHUNK_PAGES, bytes)?;
    }
    Ok(writer.end()?)
}

fn read(input: impl io::Read) -> Outcome {
    let mut reader = Reader::new(input, &Limits::default())?;
    while black_box(reader.read()?) != Item::End {}
    Ok(())
}

fn streamed(name: &str, compression: Compression, memory: &[u8]) -> Outcome {
    let mut bytes = Vec::new();
    rate(&format!("{name}, streamed {compression:?}, write"), || {
        bytes = write(std::mem::take(&mut bytes), compression, memory)?;
        black_box(&bytes);
        bytes.clear();
        Ok(())
    })?;
    let bytes = write(bytes, compression, memory)?;
    rate(&format!("{name}, streamed {compression:?}, read"), || read(&bytes[..]))
}

/// From one thread to another through a socket.
fn socket(name: &str, memory: &[u8]) -> Outcome {
    rate(&format!("{name}, through a unix socket"), || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || read(theirs).map_err(|error| error.to_string()));
            write(ours, Compression::None, memory)?;
            reader.join().map_err(|_| "the reader panicked")?.map_err(Into::into)
        })
    })
}

fn mapped(name: &str, memory: &[u8], directory: &Path) -> Outcome {
    let path = directory.join(format!("rate-{}", std::process::id()));
    let save = |threads: u64| -> Result<MappedWriter, Box<dyn Error>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let writer = MappedWriter::new(file, MEMORY)?;
        let share = |thread| -> Result<(), String> {
            let mut own = chunks(memory).filter(|(chunk, _)| chunk % threads == thread);
            own.try_for_each(|(chunk, bytes)| writer.chunk(chunk, bytes).map(drop))
                .map_err(|error| error.to_string())
        };
        std::thread::scope(|scope| {
            let share = &share;
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || share(thread))).collect();
            share(0)?;
            others
                .into_iter()
                .try_for_each(|other| other.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        })?;
        Ok(writer)
    };
    rate(&format!("{name}, mapped, write 1 thread"), || save(1).map(drop))?;
    rate(&format!("{name}, mapped, write 2 threads"), || save(2).map(drop))?;
    let begin = Instant::now();
    let file = save(1)?.finish(&Header::new(FileId([0; 16]), MEMORY), None, &[])?;
    println!("{name}, mapped, write and finish {:27.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    std::fs::remove_file(&path)?;
    let begin = Instant::now();
    let file = MappedFile::open(file, &Limits::default())?;
    println!("{name}, mapped, open {:39.2} ms", begin.elapsed().as_secs_f64() * 1e3);
    let mut buffer = vec![0; CHUNK_SIZE];
    rate(&format!("{name}, mapped, read"), || {
        for chunk in 0..CHUNKS {
            black_box(file.read_chunk(chunk, &mut buffer)?);
        }
        Ok(())
    })?;
    rate(&format!("{name}, mapped, verify"), || Ok(file.verify()?))
}

/// Memory that has been touched, so that no page of it is the kernel's zero page.
fn zeros() -> Vec<u8> {
    let mut memory = vec![1; MEMORY as usize];
    memory.fill(0);
    memory
}

fn random() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..MEMORY / 8).flat_map(|_| next()).collect()
}

fn text() -> Vec<u8> {
    b"the dormouse sleeps in its nest. ".iter().copied().cycle().take(MEMORY as usize).collect()
}
