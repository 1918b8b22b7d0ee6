//! Who is at work on which chunk: one thread at a time, and nobody waits for another chunk than its own.

use crate::sync::{Condvar, Mutex, lock};

/// The chunks that are being worked on; as many as there are threads at it.
#[derive(Debug)]
pub(crate) struct Claims {
    taken: Mutex<Vec<usize>>,
    freed: Condvar,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self { taken: Mutex::new(Vec::new()), freed: Condvar::new() }
    }

    /// Waits until nobody has `chunk` and takes it.
    pub(crate) fn claim(&self, chunk: usize) -> Claim<'_> {
        let mut taken = lock(&self.taken);
        while taken.contains(&chunk) {
            taken = self.freed.wait(taken).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        taken.push(chunk);
        Claim { claims: self, chunk }
    }
}

/// The chunk is this thread's until it drops this.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    chunk: usize,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.claims.taken).retain(|&chunk| chunk != self.chunk);
        self.claims.freed.notify_all();
    }
}
