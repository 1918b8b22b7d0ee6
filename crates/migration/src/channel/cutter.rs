//! What ends every wait on a channel.

use std::io;
use std::iter;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Ends every wait on the channels that were made with it. Clones cut the same.
#[derive(Clone, Debug)]
pub struct Cutter {
    shared: Arc<Cut>,
}

#[derive(Debug)]
struct Cut {
    done: AtomicBool,
    /// Readable from the cut on.
    event: OwnedFd,
    /// What cuts this as well.
    above: Option<Cutter>,
}

impl Cutter {
    /// Nothing is cut yet.
    pub fn new() -> io::Result<Self> {
        Self::under(None)
    }

    /// One that ends a part of what this one ends.
    pub(crate) fn part(&self) -> io::Result<Self> {
        Self::under(Some(self.clone()))
    }

    fn under(above: Option<Self>) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Cut { done: AtomicBool::new(false), event, above }) })
    }

    /// Ends all waits. Never blocks.
    pub fn cut(&self) {
        self.shared.done.store(true, Ordering::SeqCst);
        // Its counter cannot be full after one.
        let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.all().any(|cut| cut.done.load(Ordering::SeqCst))
    }

    fn all(&self) -> impl Iterator<Item = &Cut> {
        iter::successors(Some(&*self.shared), |cut| Some(&*cut.above.as_ref()?.shared))
    }

    /// Waits until `fd` is ready for `wanted`, or has failed.
    pub fn wait(&self, fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<()> {
        self.wait_until(fd, wanted, None).map(drop)
    }

    /// The same at most until `deadline`. Gives whether it is ready.
    pub fn wait_until(
        &self,
        fd: BorrowedFd<'_>,
        wanted: PollFlags,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        self.wait_any(&[fd], wanted, deadline)
    }

    /// The same for any of several.
    pub(crate) fn wait_any(
        &self,
        any: &[BorrowedFd<'_>],
        wanted: PollFlags,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let wanted = any.iter().map(|fd| PollFd::from_borrowed_fd(*fd, wanted));
        let cuts = self.all().map(|cut| PollFd::from_borrowed_fd(cut.event.as_fd(), PollFlags::IN));
        let mut fds: Vec<_> = wanted.chain(cuts).collect();
        loop {
            if self.is_cut() {
                return Err(cut());
            }
            let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) if self.is_cut() => {}
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sleeps, or until the cut: for pacing.
    pub fn sleep(&self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        while self.wait_any(&[], PollFlags::IN, Some(deadline))? {}
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

pub(super) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the migration was cancelled")
}
