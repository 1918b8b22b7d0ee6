//! A program at the other end of a channel.

use std::io;
use std::os::fd::AsFd as _;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid};

use super::cutter::Cutter;

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
        let end = pidfd_open(self.pid, PidfdFlags::empty())?;
        cutter.wait(end.as_fd(), PollFlags::IN)?;
        self.gone = true;
        let status = waitpid(Some(self.pid), WaitOptions::empty())?.map(|(_, status)| status);
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::other(format!("the program ended with exit status {code}"))),
            None => Err(io::Error::other("the program was killed")),
        }
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
