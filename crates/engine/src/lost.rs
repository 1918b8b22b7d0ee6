//! Memory of the guest's that the host has lost, or whose content cannot be had: the machine cannot go on, the process does.
//!
//! ```text
//!   access ─► SIGBUS ─► sys::memory: a page of zeros, noted, alarm ─┬─► harts leave the guest ─► its own? ─► Broken
//!                                                                   └─► timers ─► machine ─► others'? ─► Broken
//! ```
//!
//! Content that a source of lazy filling cannot give is known before it is accessed: to a hart as an exit, from devices and
//! from whoever reads behind the guest by [`Ram::report_misses`].
//!
//! A hart's thread answers for what it meets itself: it is over before the next block, and what the hart asked in the
//! block that saw the zeros is not carried out. The machine thread answers for itself too. What other threads meet
//! (workers of devices, jobs) it looks for before it handles whatever comes, so that a job that has met it does not end in a
//! guest that goes on; and if nothing comes, the timer thread sees to it that something does.

use std::sync::Arc;

use ram::Ram;
use runstate::Fault;
use vmcore::Harts;
use vmcore::park::flag;

use crate::queue::Sender;
use crate::record::Failure;
use crate::timer::Bell;

/// From now on whoever has to report a lost page looks for it at once, and content that a device needs and that cannot be had
/// is reported.
pub(crate) fn watch(ram: &Ram, harts: &Harts, bell: Arc<Bell>, queue: Sender) {
    let all = harts.clone();
    // In a signal's handler: atomics and two system calls.
    ram.on_host_error(Arc::new(move || {
        for hart in all.iter() {
            hart.gate().raise(flag::CONTROL);
        }
        bell.ring();
    }));
    let harts = harts.clone();
    ram.report_misses(move |lost| queue.post_failure(harts.epoch(), failure(None, lost.to_string())));
}

/// What the calling thread, which answers for its own, has found lost since it last asked. It is hart `hart`'s, if any.
pub(crate) fn take_own(ram: &Ram, hart: Option<u32>) -> Option<Failure> {
    ram.take_own_host_error().map(|page| failure(hart, lost_page(page)))
}

/// Content that could not be had since memory was replaced, whoever needed it.
pub(crate) fn missing(ram: &Ram) -> Option<Failure> {
    ram.missing().map(|lost| failure(None, lost.to_string()))
}

/// Hart `hart` needs content of memory that cannot be had.
pub(crate) fn content(ram: Option<&Arc<Ram>>, hart: u32) -> Failure {
    let lost = ram.and_then(|ram| ram.missing());
    failure(Some(hart), lost.map_or_else(|| "its content cannot be had".to_owned(), |lost| lost.to_string()))
}

fn lost_page(page: u64) -> String {
    format!("the host has lost the page at guest address {page:#x}")
}

fn failure(hart: Option<u32>, reason: String) -> Failure {
    let failure = Failure { what: Fault::HostMemory { hart }, reason: Some(reason.into()) };
    tracing::error!("{failure}");
    failure
}

/// How many pages threads have found lost that do not answer for their own, and how many of them are known.
pub(crate) struct LostPages {
    ram: Option<Arc<Ram>>,
    known: u64,
}

impl LostPages {
    pub(crate) fn new(ram: Option<Arc<Ram>>) -> Self {
        Self { ram, known: 0 }
    }

    /// Whether there are more than at the last look.
    pub(crate) fn news(&mut self) -> bool {
        let lost = self.ram.as_ref().map_or(0, |ram| ram.host_errors());
        std::mem::replace(&mut self.known, lost) != lost
    }

    /// The last of them. One that was lost before a reset and becomes known after it breaks the machine all the same: nobody
    /// knows any more whether the images had been placed.
    pub(crate) fn take_news(&mut self) -> Option<Failure> {
        let news = self.news();
        let page = self.ram.as_ref()?.last_host_error()?;
        news.then(|| failure(None, lost_page(page)))
    }
}
