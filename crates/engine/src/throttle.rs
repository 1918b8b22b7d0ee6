//! Slows the guest down: its harts rest for a part of the time, so that they write less. Guest time goes on meanwhile, as
//! under a busy host.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmcore::Harts;
use vmcore::park::flag;

use crate::Engine;

/// How long harts execute between two rests.
const SLICE: Duration = Duration::from_millis(10);

/// Most percent of their time that harts may rest.
const MOST: u32 = 99;

/// Slows the guest down for as long as it lives.
#[derive(Debug)]
pub struct Throttle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    percent: u32,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false: it is over.
    fn wait(&self, time: Duration) -> bool {
        let wanted = self.lock();
        let waited = self.changed.wait_timeout_while(wanted, time, |wanted| !wanted.over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.over
    }
}

impl Engine {
    /// A throttle, which does nothing yet.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub fn throttle(&self) -> io::Result<Throttle> {
        let shared = Arc::new(Shared::default());
        let (own, harts) = (Arc::clone(&shared), self.inner.vm.harts().clone());
        let thread = thread::Builder::new().name("throttle".to_owned()).spawn(move || run(&own, &harts))?;
        Ok(Throttle { shared, thread: Some(thread) })
    }
}

impl Throttle {
    /// Harts rest for `percent` of the time from now on, at most 99.
    pub fn set(&self, percent: u32) {
        self.shared.lock().percent = percent.min(MOST);
        self.shared.changed.notify_all();
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, harts: &Harts) {
    loop {
        let wanted = shared.lock();
        let idle = |wanted: &mut Wanted| wanted.percent == 0 && !wanted.over;
        let wanted = shared.changed.wait_while(wanted, idle).unwrap_or_else(PoisonError::into_inner);
        if wanted.over {
            return;
        }
        let rest = SLICE * wanted.percent / (100 - wanted.percent);
        drop(wanted);
        harts.iter().for_each(|hart| hart.gate().raise(flag::REST));
        let goes_on = shared.wait(rest);
        harts.iter().for_each(|hart| hart.gate().lower(flag::REST));
        if !goes_on || !shared.wait(SLICE) {
            return;
        }
    }
}
