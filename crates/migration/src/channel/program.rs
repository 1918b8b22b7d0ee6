//! A program at the other end of a channel.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid};

use super::cutter::Cutter;

/// How a program has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// By itself, with this exit status.
    Status(i32),
    Killed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the program ended with exit status {status}"),
            Self::Killed => f.write_str("the program was killed"),
        }
    }
}

/// A program at the other end.
#[derive(Debug)]
pub(crate) struct Program {
    pid: Pid,
    /// It has ended and was waited for.
    gone: bool,
}

impl Program {
    /// A child that leads a process group of its own.
    pub(crate) fn new(pid: Pid) -> Self {
        Self { pid, gone: false }
    }

    /// Waits for its end, which has to be a good one.
    pub(super) fn finish(&mut self, cutter: &Cutter) -> io::Result<()> {
        match self.ending(cutter, None)? {
            Some(Ending::Status(0)) => Ok(()),
            Some(ending) => Err(io::Error::other(ending.to_string())),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for its end until `deadline`. None: it has not ended.
    pub(super) fn ending(
        &mut self,
        cutter: &Cutter,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Ending>> {
        let end = pidfd_open(self.pid, PidfdFlags::empty())?;
        if !cutter.wait_until(end.as_fd(), PollFlags::IN, deadline)? {
            return Ok(None);
        }
        self.gone = true;
        let status = waitpid(Some(self.pid), WaitOptions::empty())?.map(|(_, status)| status);
        let code = status.and_then(|status| status.exit_status());
        Ok(Some(code.map_or(Ending::Killed, Ending::Status)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // All that it has started goes with it. Once killed it cannot be long.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}
