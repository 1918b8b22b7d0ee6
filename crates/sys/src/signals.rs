//! Signals as something to read (lifecycle rule 5.15): blocked in every thread, taken from a descriptor, with the sender.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// The signals that end the machine in an orderly way.
pub const TERMINATION: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInfo {
    /// Its number (`SIGTERM` is 15).
    pub signal: i32,
    /// The process that sent it; 0 when the kernel did (a terminal's interrupt key, for one).
    pub pid: u32,
    /// The user who sent it.
    pub uid: u32,
}

/// A descriptor from which blocked signals are read.
///
/// The signals stay blocked when it is dropped: a program that took them over does not give them back.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Blocks `signals` in the calling thread and gives a descriptor that reports them.
    ///
    /// To be called before any other thread exists: threads inherit the mask, and a thread in which a signal is not blocked
    /// would take it the ordinary way.
    ///
    /// # Errors
    /// For a number that is no signal, or when the system has no descriptor left.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the whole set behind the valid, writable pointer.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for &signal in signals {
            // SAFETY: the set is initialised and borrowed exclusively; a bad number is reported, not undefined.
            if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the set is initialised; a null old-set pointer is allowed.
        let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        // SAFETY: -1 asks for a new descriptor and the set is initialised.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made for us and nobody else knows its number.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// As the system reports; interruptions are retried.
    pub fn read(&self) -> io::Result<SignalInfo> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let want = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is valid for writes of `want` bytes for the length of the call.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), want) };
            if usize::try_from(got) == Ok(want) {
                // SAFETY: the kernel filled all `want` bytes, and the structure is made of plain integers.
                let info = unsafe { info.assume_init() };
                let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                return Ok(SignalInfo { signal, pid: info.ssi_pid, uid: info.ssi_uid });
            }
            let error = io::Error::last_os_error();
            if got >= 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_with_its_sender() {
        // On a thread of its own: the mask is the thread's, and a signal directed at the thread stays with it.
        std::thread::spawn(|| {
            let signals = SignalFd::new(&[libc::SIGUSR1]).unwrap();
            // SAFETY: the calling thread is alive, and the signal is blocked in it.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) }, 0);
            let info = signals.read().unwrap();
            assert_eq!(info.signal, libc::SIGUSR1);
            assert_eq!(info.pid, std::process::id());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_number_that_is_no_signal_is_refused() {
        assert!(SignalFd::new(&[4000]).is_err());
    }
}
