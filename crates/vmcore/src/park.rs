//! Parking and kicking: how a hart's thread and those who want something of it agree.
//!
//! Each hart has a [`Gate`]. Its thread is *outside* (it executes nothing) or *executing*. Everybody else raises
//! flags; the hart looks at the flags at every block boundary and before it goes in.
//!
//! ```text
//!   hart thread                              requester
//!   ───────────                              ─────────
//!   mode := EXECUTING                        flags |= PARK
//!   ── full fence ──                         ── full fence ──
//!   flags raised? ─ yes ─► mode := OUTSIDE   mode == OUTSIDE? ─ yes ─► parked
//!        │ no                  serve flags        │ no
//!   execute a block            try again     sleep until mode changes
//! ```
//!
//! The two fences make it impossible that the hart misses the flag *and* the requester misses the hart. A hart that
//! waits (WFI, stopped, for an answer) is outside already and is parked without being woken.
//!
//! `tests/loom.rs` checks this model exhaustively.

use crate::sync::Word;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// What others may want of a hart. A set of bits.
pub mod flag {
    /// Stay outside until the flag is taken away.
    pub const PARK: u32 = 1 << 0;
    /// An interrupt-pending bit has changed.
    pub const IRQ: u32 = 1 << 1;
    /// A fence (see [`fence_kind`](super::fence_kind)) waits to be served.
    pub const FENCE: u32 = 1 << 2;
    /// The hart was started, woken or reset: its thread must look at what it is to do.
    pub const CONTROL: u32 = 1 << 3;
    /// The thread is to end.
    pub const EXIT: u32 = 1 << 4;
    /// Stay outside for a while, until the flag is taken away: the guest is slowed down.
    pub const REST: u32 = 1 << 5;

    /// Somebody sleeps on the word.
    pub(super) const WAITING: u32 = 1 << 31;
}

/// What a fence drops at the hart that serves it. A set of bits.
pub mod fence_kind {
    /// Translations (`sfence.vma`).
    pub const TRANSLATION: u32 = 1 << 0;
    /// Fetched instructions (`fence.i`).
    pub const INSTRUCTION: u32 = 1 << 1;
    /// Write entries of pages that have become code.
    pub const WRITE_ENTRIES: u32 = 1 << 2;
    /// All write entries: the next store to each page is to be noticed.
    pub const ALL_WRITES: u32 = 1 << 3;
    /// Everything that is cached of guest memory: its content was replaced.
    pub const CONTENT: u32 = 1 << 4;
}

const OUTSIDE: u32 = 0;
const EXECUTING: u32 = 1;
const WATCHED: u32 = 2;

/// The meeting point of one hart's thread with everybody else. See the module's documentation.
#[derive(Debug)]
pub struct Gate {
    flags: Word,
    mode: Word,
    fence_kinds: AtomicU32,
    fences_posted: AtomicU64,
    fences_served: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A gate whose hart is outside and of which nothing is wanted.
    pub fn new() -> Self {
        Self {
            flags: Word::new(0),
            mode: Word::new(OUTSIDE),
            fence_kinds: AtomicU32::new(0),
            fences_posted: AtomicU64::new(0),
            fences_served: AtomicU64::new(0),
        }
    }

    // ---- the hart's thread ----

    /// The flags as they are now; the look at each block boundary.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed) & !flag::WAITING
    }

    /// Takes `mask` out of the flags and returns which of it were raised.
    pub fn take(&self, mask: u32) -> u32 {
        self.flags.fetch_and(!mask, Ordering::SeqCst) & mask
    }

    /// Goes from outside to executing. `false`: one of `blocking` is raised, the hart is still outside.
    pub fn enter(&self, blocking: u32) -> bool {
        self.mode.store(EXECUTING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.flags.load(Ordering::SeqCst) & blocking == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Goes outside. The thread executes nothing from here until [`Gate::enter`] says yes.
    pub fn leave(&self) {
        if self.mode.swap(OUTSIDE, Ordering::SeqCst) & WATCHED != 0 {
            self.mode.wake_all();
        }
    }

    /// Sleeps outside until one of `mask` is raised.
    pub fn wait_raised(&self, mask: u32) {
        self.wait_flags(|flags| flags & mask != 0);
    }

    /// Sleeps outside until all of `mask` are taken away or one of `other` is raised.
    pub fn wait_cleared(&self, mask: u32, other: u32) {
        self.wait_flags(|flags| flags & mask == 0 || flags & other != 0);
    }

    fn wait_flags(&self, done: impl Fn(u32) -> bool) {
        loop {
            let seen = self.flags.load(Ordering::SeqCst);
            if done(seen) {
                return;
            }
            let waiting = seen | flag::WAITING;
            if seen == waiting
                || self.flags.compare_exchange(seen, waiting, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                self.flags.wait(waiting);
            }
        }
    }

    /// Serves the fences that were posted: `drop_kinds` gets the union of what they ask for. Called executing at a block
    /// boundary, or outside before the hart goes in.
    pub fn serve_fences(&self, drop_kinds: impl FnOnce(u32)) {
        self.take(flag::FENCE);
        let posted = self.fences_posted.load(Ordering::SeqCst);
        drop_kinds(self.fence_kinds.swap(0, Ordering::SeqCst));
        self.fences_served.fetch_max(posted, Ordering::SeqCst);
        // Either this sees the watcher of `wait_fence`, or that sees the fence served.
        if self.mode.load(Ordering::SeqCst) & WATCHED != 0 {
            self.mode.fetch_and(!WATCHED, Ordering::SeqCst);
            self.mode.wake_all();
        }
    }

    // ---- everybody else ----

    /// Raises `mask` and wakes the hart's thread if it sleeps.
    pub fn raise(&self, mask: u32) {
        let old = self.flags.fetch_or(mask, Ordering::SeqCst);
        if old & flag::WAITING != 0 {
            self.wake();
        }
    }

    /// Takes `mask` away and wakes the hart's thread if it sleeps.
    pub fn lower(&self, mask: u32) {
        let old = self.flags.fetch_and(!mask, Ordering::SeqCst);
        if old & flag::WAITING != 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        self.flags.fetch_and(!flag::WAITING, Ordering::SeqCst);
        self.flags.wake_all();
    }

    /// Whether the hart is outside. Meaningful to one who has raised a blocking flag before.
    pub fn is_outside(&self) -> bool {
        fence(Ordering::SeqCst);
        self.mode.load(Ordering::SeqCst) & EXECUTING == 0
    }

    /// Sleeps until the hart is outside. The caller has raised a flag that makes it leave, and keeps it raised.
    pub fn wait_outside(&self) {
        self.wait_mode(|| false);
    }

    /// Sleeps until the hart is outside or `done`, of which the hart tells those who watch its mode.
    fn wait_mode(&self, done: impl Fn() -> bool) {
        fence(Ordering::SeqCst);
        loop {
            let seen = self.mode.load(Ordering::SeqCst);
            if seen & EXECUTING == 0 {
                return;
            }
            let watched = seen | WATCHED;
            if seen == watched
                || self.mode.compare_exchange(seen, watched, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                if done() {
                    return;
                }
                self.mode.wait(watched);
            }
        }
    }

    /// Asks the hart to drop `kinds` before it executes another block; returns the ticket for [`Gate::fence_done`].
    pub fn post_fence(&self, kinds: u32) -> u64 {
        self.fence_kinds.fetch_or(kinds, Ordering::SeqCst);
        let ticket = self.fences_posted.fetch_add(1, Ordering::SeqCst) + 1;
        self.raise(flag::FENCE);
        ticket
    }

    /// Whether the fence with this ticket is done: served, or the hart is outside and will serve it before it executes.
    pub fn fence_done(&self, ticket: u64) -> bool {
        self.fences_served.load(Ordering::SeqCst) >= ticket || self.is_outside()
    }

    /// Sleeps until the fence with this ticket is done, as [`Gate::fence_done`] has it. Not for a hart's own thread: it
    /// would not serve its own fences meanwhile.
    pub fn wait_fence(&self, ticket: u64) {
        self.wait_mode(|| self.fences_served.load(Ordering::SeqCst) >= ticket);
    }
}
