//! Copy before write: memory is saved as it was at one moment while everybody goes on writing it.

use std::sync::Arc;

use crate::Ram;
use crate::error::OpenError;
use crate::memory::Memory;
use crate::set::Portion;
use crate::sync::atomic::Ordering;
use crate::sync::write;
use crate::tracking::on;

/// Takes the content of chunks as it was when the save began.
pub trait ChunkSink: Send + Sync {
    /// Takes chunk `chunk`. Each comes once, in any order, from whatever thread is about to write it or has asked for
    /// the next; several may come at once. What goes wrong is for the sink to note.
    fn save(&self, chunk: usize, bytes: &[u8]);
}

/// A save is on already.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("memory is being saved already")]
pub struct SaveInUse;

/// A save that is on. Dropping it ends it: the sink gets nothing more, whether it has everything or not.
#[derive(Debug)]
pub struct Save {
    memory: Memory,
    next: usize,
}

impl Ram {
    /// Begins to save `portion` as it is now to `sink`: whoever writes a chunk from here on saves it first.
    ///
    /// Every hart is outside and no device is at work until this returns; `drop_writes` has each hart drop its write
    /// entries (`vmcore::park::fence_kind::ALL_WRITES`) before it executes anything.
    pub fn begin_save(
        &self,
        portion: Portion<'_>,
        sink: Arc<dyn ChunkSink>,
        drop_writes: impl FnOnce(),
    ) -> Result<Save, SaveInUse> {
        let tracking = &self.memory.tracking;
        let mut slot = write(&tracking.sink);
        if slot.is_some() {
            return Err(SaveInUse);
        }
        *slot = Some(sink);
        let count = tracking.unsaved.add_words(portion.words());
        tracking.unsaved_left.store(count, Ordering::SeqCst);
        tracking.turn_on(on::SAVE);
        drop(slot);
        drop_writes();
        Ok(Save { memory: self.memory.clone(), next: 0 })
    }
}

impl Ram {
    /// Whether a save is on.
    pub fn is_being_saved(&self) -> bool {
        self.memory.tracking.on() & on::SAVE != 0
    }
}

impl Save {
    /// Saves one more chunk, filled first if it is absent; `false`: all are saved. For one who saves in the background
    /// what nobody writes.
    pub fn save_next(&mut self) -> Result<bool, OpenError> {
        let Some(chunk) = self.memory.tracking.unsaved.next(self.next) else {
            return Ok(false);
        };
        self.memory.settle(chunk, true)?;
        self.next = chunk + 1;
        Ok(true)
    }

    /// How many chunks are still to be saved.
    pub fn left(&self) -> usize {
        self.memory.tracking.unsaved_left.load(Ordering::SeqCst)
    }
}

impl Drop for Save {
    fn drop(&mut self) {
        let tracking = &self.memory.tracking;
        // Waits for saves that are under way.
        let mut slot = write(&tracking.sink);
        tracking.turn_off(on::SAVE);
        tracking.unsaved.take();
        tracking.unsaved_left.store(0, Ordering::SeqCst);
        let sink = slot.take();
        drop(slot);
        drop(sink);
    }
}
