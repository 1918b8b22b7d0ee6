//! In-band commands that wait, on a connection that has switched `exec-oob` on, or on which a command has taken long.
//!
//! ```text
//!  reader ──┬── exec-oob ─────────────────────────────► answered at once
//!           └── the rest ──► lane (at most MOST) ──► worker ──► answered in order
//! ```
//!
//! So a command out of band overtakes what waits, and what runs; but only as far as the reader has come, which waits while
//! the lane is full, as in QEMU.
//!
//! A `quit` behind a command that hangs ends the wait of all that is before it: the reader sees it in [`Lane::push`], or the
//! worker in [`Lane::hangs`], whichever comes second.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use qmp::Input;

use crate::commands::Qmp;

/// Commands that may wait (`spec/clients.md` section 4, Ordering).
pub(crate) const MOST: usize = 8;

/// What waits: a command to run, or an answer that has its place in the order.
pub(crate) type Job = Input<&'static Qmp>;

/// What has become of a command that was to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// It waits.
    Waits,
    /// It is a `quit`, and waits behind what hangs.
    QuitBehindHanging,
    /// Nobody takes any more.
    Refused,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Lane {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// The worker has taken something and not finished it.
    busy: bool,
    /// What it has taken takes very long.
    hangs: bool,
    /// A `quit` is among what waits, or was.
    quits: bool,
    /// No more comes.
    ended: bool,
    /// Nobody takes any more.
    abandoned: bool,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything has been answered. Asked by the only one who pushes, so that it stays true until then.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && !state.busy
    }

    /// Waits for room and appends. What comes of it is for the only one who pushes.
    pub(crate) fn push(&self, job: Job) -> Pushed {
        let quits = matches!(&job, Input::Call(call) if call.command.is_quit());
        let mut state = self.lock();
        while state.waiting.len() >= MOST && !state.abandoned {
            state = self.wait(state);
        }
        if state.abandoned {
            return Pushed::Refused;
        }
        state.waiting.push_back(job);
        state.quits |= quits;
        self.changed.notify_all();
        if quits && state.hangs { Pushed::QuitBehindHanging } else { Pushed::Waits }
    }

    /// What runs takes very long. Returns whether a `quit` waits behind it.
    pub(crate) fn hangs(&self) -> bool {
        let mut state = self.lock();
        (state.busy, state.hangs) = (true, true);
        state.quits
    }

    /// Whether there is a `quit` that is to be answered although everything ends.
    pub(crate) fn quits(&self) -> bool {
        self.lock().quits
    }

    /// The worker's next job, which ends the one before; nothing when none waits, or, with `wait`, when none will come.
    pub(crate) fn take(&self, wait: bool) -> Option<Job> {
        let mut state = self.lock();
        (state.busy, state.hangs) = (false, false);
        while wait && state.waiting.is_empty() && !state.ended {
            state = self.wait(state);
        }
        let job = state.waiting.pop_front();
        state.busy = job.is_some();
        self.changed.notify_all();
        job
    }

    /// No more will be pushed.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// No more will be taken.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.busy = false;
        state.waiting.clear();
        self.changed.notify_all();
    }
}
