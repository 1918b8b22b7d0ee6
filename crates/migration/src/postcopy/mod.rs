//! Postcopy: the guest runs over there while some of its memory is still here.
//!
//! ```text
//!   source                                                     destination
//!   ... precopy, until migrate-start-postcopy
//!   SwitchOver, Seal, sections, ABSENT, READY ─────────────►   checked and staged
//!                                             ◄───────── READY
//!   Commit: its memory stays as it is
//!   lifecycle, COMMIT{postcopy} ───────────────────────────►   IncomingLoaded: runs
//!   chunks that were asked for, then ◄──────── PageRequest     a hart or a device needs a chunk
//!   all others ────────────────────────────────────────────►   each is put where it is absent, and nowhere else
//!   postmigrate                               ◄────────── DONE nothing is absent any more
//!
//!   a lost connection: both are postcopy-paused, until migrate-recover there and migrate with resume here
//!   RECOVER{id} ───────────────────────────────────────────►
//!                                             ◄─────── RECEIVED  what is not absent; or READY: COMMIT was lost
//!   (lifecycle, COMMIT once more) what is still absent ─────►
//! ```
//!
//! Invariants:
//! * what is absent over there is as it was at the switch-over here, until DONE;
//! * a chunk that has come is never written again by who brings them;
//! * only harts wait for a chunk, some milliseconds at a time, whatever becomes of the connection: the machine over there
//!   can be stopped, reset, asked and ended at any time. A reset gives up what is absent, and that is the end of it;
//! * nobody believes the other side's sets of chunks, nor that it asks for a chunk once;
//! * after READY the destination does not know whether the machine is its own. If the connection is lost then it waits to be
//!   told, as it would after COMMIT; so no cut leaves a machine that neither side can have.

mod chunks;
mod leave;
mod pull;
mod push;
mod take;

pub(crate) use chunks::{Assembly, BadSet, Chunks};
pub(crate) use leave::{Leaving, Link};
pub(crate) use pull::{InRam, Pull};
use push::Push;
pub(crate) use take::{Link as LinkIn, Taking, tell_arrivals};

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::channel::Cutter;
use crate::open::{Source, Target};

/// The name by which both sides agree on it in HELLO.
pub(crate) const FEATURE: &str = "postcopy";

/// What is said of a connection that `migrate-pause` has cut.
pub(crate) const PAUSED: &str = "the connection was cut by migrate-pause";

/// How long a place that is given up has to be closed.
const WITHDRAWAL: Duration = Duration::from_secs(2);

/// What users do with a migration that is, or may come, in postcopy.
#[derive(Default)]
pub(crate) struct Line {
    /// `migrate-start-postcopy` was given.
    wanted: AtomicBool,
    /// The other side waits to be told whether the machine is its own, and is to hear it whatever happens here.
    pledged: AtomicBool,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Cuts the connection that there is, or that is waited for.
    current: Option<Cutter>,
    offer: Option<Offer>,
    /// Nobody has come to the place yet.
    waits: bool,
    /// The connection was cut by a user.
    paused: bool,
    /// None is needed any more.
    released: bool,
    /// The job is to end.
    over: bool,
}

/// A place for a new connection.
pub(crate) struct Offer {
    pub(crate) place: Place,
    /// Cuts it.
    pub(crate) cutter: Cutter,
}

/// Where it leads.
pub(crate) enum Place {
    /// To the destination.
    To(Target),
    /// From the source.
    From(Source),
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest is to run over there as soon as it can.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// The other side is told what becomes of the machine.
    pub(crate) fn pledge(&self) {
        self.pledged.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_pledged(&self) -> bool {
        self.pledged.load(Ordering::SeqCst)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// This is the connection now.
    pub(crate) fn connected(&self, cutter: &Cutter) {
        let mut state = self.state();
        (state.paused, state.waits) = (false, false);
        state.current = Some(cutter.clone());
        if state.over {
            cutter.cut();
        }
    }

    /// Cuts the connection.
    pub(crate) fn pause(&self) {
        let mut state = self.state();
        state.paused = true;
        if let Some(current) = &state.current {
            current.cut();
        }
    }

    /// Whether a user has cut it.
    pub(crate) fn was_paused(&self) -> bool {
        self.state().paused
    }

    /// A new place, instead of one that is being waited at.
    pub(crate) fn offer(&self, offer: Offer) {
        self.withdraw();
        self.state().offer = Some(offer);
        self.news.notify_all();
    }

    /// Gives up a place that is being waited at, and waits until it is closed: it may be wanted again.
    pub(crate) fn withdraw(&self) {
        let until = Instant::now() + WITHDRAWAL;
        let mut state = self.state();
        // Closed outside of the lock.
        let old = state.offer.take();
        while let Some(current) = state.current.as_ref().filter(|_| state.waits) {
            current.cut();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        drop(old);
    }

    /// Waits for a new place. None: the job is to end, or none is needed any more.
    pub(crate) fn wait(&self) -> Option<Offer> {
        let mut state = self.state();
        (state.current, state.waits) = (None, false);
        self.news.notify_all();
        loop {
            if state.over || state.released {
                return None;
            }
            if let Some(offer) = state.offer.take() {
                (state.paused, state.waits) = (false, true);
                state.current = Some(offer.cutter.clone());
                return Some(offer);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No connection is needed any more, unless there is one.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.released = true;
        if let Some(current) = state.current.as_ref().filter(|_| state.waits) {
            current.cut();
        }
        self.news.notify_all();
    }

    /// The job is to end. Never blocks.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.over = true;
        if let Some(current) = &state.current {
            current.cut();
        }
        self.news.notify_all();
    }
}
