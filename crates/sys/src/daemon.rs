//! `-daemonize`: the process goes to the background once it can be talked to.
//!
//! ```text
//! parent  fork ── waits on the pipe ───────────── reads the status byte ── exits with it
//!            \                                    /
//! child       setsid ── opens sockets, pidfile ──ready()── stdio to /dev/null ── runs on
//! ```
//! A manager that starts us may connect as soon as the parent is gone (`spec/clients.md` 2a). If the child ends without
//! having been ready, the parent ends with the child's status, so the manager sees the error and its text on stderr.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

/// The background process's side of the pipe that the parent waits on.
///
/// Dropping it without [`Daemon::ready`] tells nothing; the parent then waits until the process ends and passes its status on.
#[derive(Debug)]
pub struct Daemon {
    pipe: io::PipeWriter,
}

/// Forks; returns only in the child, now leader of a session of its own. The parent waits and exits inside.
///
/// # Errors
/// When the pipe or the fork fails, or when the process already has a second thread (a fork would leave locks held for
/// ever); then nothing has happened.
pub fn daemonize() -> io::Result<Daemon> {
    if thread_count()? != 1 {
        return Err(io::Error::other("cannot go to the background: other threads are running"));
    }
    let (reader, writer) = io::pipe()?;
    // SAFETY: the process has one thread (checked above), so the child finds no lock held by a thread that it does not have.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            rustix::process::setsid()?;
            Ok(Daemon { pipe: writer })
        }
        child => {
            drop(writer);
            let status = wait_for(reader, child);
            // SAFETY: `_exit` ends the process without running exit handlers, which belong to the child now.
            unsafe { libc::_exit(status) }
        }
    }
}

/// How many threads the process has, as the kernel counts them.
fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The parent's wait: a byte on the pipe, or the end of the child.
fn wait_for(mut pipe: io::PipeReader, child: libc::pid_t) -> i32 {
    let mut byte = [0];
    if pipe.read_exact(&mut byte).is_ok() {
        return i32::from(byte[0]);
    }
    let pid = rustix::process::Pid::from_raw(child);
    match rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()) {
        // A child that closed the pipe and ended well was never ready: that is a failure all the same.
        Ok(Some((_, status))) => status.exit_status().filter(|&s| s != 0).unwrap_or(1),
        _ => 1,
    }
}

impl Daemon {
    /// Says that the process can be talked to: standard streams go to `/dev/null`, the directory to `/`, and the parent exits 0.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened; the parent has not been told then.
    pub fn ready(mut self) -> io::Result<()> {
        rustix::process::chdir("/")?;
        let null: OwnedFd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        // The parent may have been killed meanwhile; the machine runs on regardless.
        let _ = self.pipe.write_all(&[0]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness runs this on a thread beside its own.
        assert_eq!(daemonize().unwrap_err().kind(), io::ErrorKind::Other);
    }
}
