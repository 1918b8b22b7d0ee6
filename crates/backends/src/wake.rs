//! A wake-up for a thread that waits in `poll`.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// An event descriptor: any thread wakes, one thread waits.
#[derive(Debug)]
pub(crate) struct Wake {
    fd: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Woken {
    /// The descriptor has something to read, or an end or error to report.
    pub(crate) ready: bool,
    /// The other side is gone altogether.
    pub(crate) hung_up: bool,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Wakes the waiter, now or the next time it waits. Never blocks.
    pub(crate) fn wake(&self) {
        // The only failure is a counter at its limit, which wakes as well.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    /// Waits for [`Wake::wake`], for `other` to become readable, or for the time to be over.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<Woken> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&self.fd, PollFlags::empty())];
        let count = match &other {
            Some(fd) => {
                fds[1] = PollFd::new(fd, PollFlags::IN);
                2
            }
            None => 1,
        };
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Woken::default()),
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.fd, &mut count);
        }
        let seen = if count == 2 { fds[1].revents() } else { PollFlags::empty() };
        Ok(Woken { ready: !seen.is_empty(), hung_up: seen.contains(PollFlags::HUP) })
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
