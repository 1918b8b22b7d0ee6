//! Pseudo-terminals that others open and close as they like, without polling for it.
//!
//! The master side reports a hang-up as long as nobody has the slave open, and nothing when that changes; so the slave's file
//! is watched for being opened.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::pty::OpenptFlags;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Where the system has no watch left: how often to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The master side, and a watch on the slave's file.
#[derive(Debug)]
pub(crate) struct Pty {
    master: OwnedFd,
    watch: Option<OwnedFd>,
    path: String,
}

impl Pty {
    /// Makes a pair with the slave in raw mode.
    pub(crate) fn open() -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let path = rustix::pty::ptsname(&master, Vec::new())?
            .into_string()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        let mut termios = rustix::termios::tcgetattr(&slave)?;
        termios.make_raw();
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &termios)?;
        drop(slave);
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .and_then(|watch| {
                inotify::add_watch(&watch, path.as_str(), inotify::WatchFlags::OPEN)?;
                Ok(watch)
            })
            .ok();
        Ok(Self { master, watch, path })
    }

    /// The slave's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Whether somebody has the slave open.
    pub(crate) fn is_open(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
        Ok(!fds[0].revents().contains(PollFlags::HUP))
    }

    /// What to wait for until somebody may have opened it.
    pub(crate) fn opening(&self) -> (Option<BorrowedFd<'_>>, Option<Duration>) {
        match &self.watch {
            Some(watch) => (Some(watch.as_fd()), None),
            None => (None, Some(LOOK_EVERY)),
        }
    }

    /// Takes the reports of openings off the watch; the caller looks for itself.
    pub(crate) fn forget_openings(&self) {
        let mut buffer = [0; 1024];
        if let Some(watch) = &self.watch {
            while matches!(rustix::io::read(watch, &mut buffer), Ok(count) if count > 0) {}
        }
    }
}
