//! A source and a sink that keep count.
#![allow(dead_code)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ram::{CHUNK_SIZE, ChunkSink, ChunkSource, FillError, Ram};

pub const BASE: u64 = 0x8000_0000;

/// What a [`Source`] does about a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    Give,
    Interrupt,
    Fail,
}

/// Gives chunks that are full of their own number plus one, and counts how often each was asked for.
pub struct Source {
    pub asked: Vec<AtomicUsize>,
    pub answer: Mutex<Box<dyn Fn(usize, usize) -> Answer + Send>>,
}

impl Source {
    /// Gives everything at once.
    pub fn willing(chunks: usize) -> Self {
        Self::answering(chunks, |_, _| Answer::Give)
    }

    /// Answers as `answer(chunk, times that it was asked for before)` says.
    pub fn answering(chunks: usize, answer: impl Fn(usize, usize) -> Answer + Send + 'static) -> Self {
        Self {
            asked: (0..chunks).map(|_| AtomicUsize::new(0)).collect(),
            answer: Mutex::new(Box::new(answer)),
        }
    }

    /// How often each chunk was asked for.
    pub fn counts(&self) -> Vec<usize> {
        self.asked.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

impl ChunkSource for Source {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        assert!(into.iter().all(|&byte| byte == 0));
        let before = self.asked[chunk].fetch_add(1, Ordering::SeqCst);
        match (self.answer.lock().unwrap())(chunk, before) {
            Answer::Give => {
                into.fill(content(chunk));
                Ok(())
            }
            Answer::Interrupt => Err(FillError::Interrupted),
            Answer::Fail => Err(FillError::Failed("checksum mismatch".into())),
        }
    }
}

/// What a source fills chunk `chunk` with.
pub fn content(chunk: usize) -> u8 {
    chunk as u8 + 1
}

/// Keeps what was saved.
#[derive(Default)]
pub struct Kept(pub Mutex<HashMap<usize, Vec<u8>>>);

impl ChunkSink for Kept {
    fn save(&self, chunk: usize, bytes: &[u8]) {
        assert!(self.0.lock().unwrap().insert(chunk, bytes.to_vec()).is_none(), "chunk {chunk} came twice");
    }
}

impl Kept {
    /// The whole image, if everything has been saved.
    pub fn image(&self, chunks: usize) -> Option<Vec<u8>> {
        let kept = self.0.lock().unwrap();
        (0..chunks)
            .map(|chunk| kept.get(&chunk).cloned())
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.concat())
    }
}

/// All of memory.
pub fn image(ram: &Ram) -> Vec<u8> {
    let mut bytes = vec![0; ram.size() as usize];
    ram.read(ram.base(), &mut bytes).unwrap();
    bytes
}

/// Guest physical address of chunk `chunk`.
pub fn chunk_at(chunk: usize) -> u64 {
    BASE + (chunk * CHUNK_SIZE) as u64
}

/// What has nothing to drop: there are no harts.
pub fn no_harts() {}
