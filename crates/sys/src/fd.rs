//! Descriptor numbers that a parent process left open for us (`-chardev socket,fd=N`, `-add-fd fd=N`).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The numbers that were handed out, so that no number gets two owners.
static ADOPTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The numbers that a parent process left open, once that has been noted.
static INHERITED: OnceLock<BTreeSet<RawFd>> = OnceLock::new();

/// Why an inherited descriptor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// 0, 1 and 2 belong to the standard library, negative numbers to nobody.
    #[error("file descriptor {0} cannot be taken over")]
    Reserved(RawFd),
    /// The number is named twice on the command line.
    #[error("file descriptor {0} is already in use")]
    Taken(RawFd),
    /// The parent did not leave such a descriptor open.
    #[error("file descriptor {fd} is not open")]
    NotOpen {
        /// The number asked for.
        fd: RawFd,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Notes which descriptors a parent process left open, and marks them close-on-exec. To be called first of all, before the
/// program opens anything: from then on [`adopt_fd`] gives out no other, however late it is asked.
///
/// # Errors
/// There is no `/proc` to look at; then nothing is noted.
pub fn note_inherited() -> io::Result<()> {
    let mut open = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    open.retain(|&fd| {
        // SAFETY: F_SETFD on a number is defined for every value: it changes only the close-on-exec flag, and fails on a
        // number that is not open, as the one is that the folder was read through.
        fd > 2 && unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0
    });
    // Noted once: what comes later is our own.
    let _ = INHERITED.set(open);
    Ok(())
}

/// Takes over descriptor `fd` of the process, which a parent left open, and marks it close-on-exec.
///
/// Unless [`note_inherited`] was called it is meant for numbers from the command line, and to be called while the program
/// starts, before it opens files of its own: later on the number may belong to something else.
///
/// # Errors
/// [`AdoptError`] when the number is reserved, was handed out before, or is not open.
pub fn adopt_fd(fd: RawFd) -> Result<OwnedFd, AdoptError> {
    if fd < 3 {
        return Err(AdoptError::Reserved(fd));
    }
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.contains(&fd) {
        return Err(AdoptError::Taken(fd));
    }
    if INHERITED.get().is_some_and(|inherited| !inherited.contains(&fd)) {
        return Err(AdoptError::NotOpen { fd, source: io::Error::from_raw_os_error(libc::EBADF) });
    }
    // SAFETY: F_SETFD on a number is defined for every value: it changes only the close-on-exec flag, and fails on a number
    // that is not open.
    let done = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if done < 0 {
        return Err(AdoptError::NotOpen { fd, source: io::Error::last_os_error() });
    }
    adopted.insert(fd);
    // SAFETY: the number is open (the call above succeeded) and is handed out at most once (`ADOPTED`). That nothing in this
    // process owns it is the documented duty of the caller: it names a descriptor that was inherited.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd as _;

    #[test]
    fn an_open_number_is_handed_out_once() {
        let (reader, _writer) = std::io::pipe().unwrap();
        // High up, so that no other test of the process gets the number while this one looks at it.
        let high = rustix::io::fcntl_dupfd_cloexec(&reader, 700).unwrap().into_raw_fd();
        let owned = adopt_fd(high).unwrap();
        assert!(matches!(adopt_fd(high), Err(AdoptError::Taken(n)) if n == high));
        drop(owned);
    }

    #[test]
    fn closed_and_reserved_numbers_are_refused() {
        assert!(matches!(adopt_fd(900), Err(AdoptError::NotOpen { fd: 900, .. })));
        assert!(matches!(adopt_fd(2), Err(AdoptError::Reserved(2))));
        assert!(matches!(adopt_fd(-1), Err(AdoptError::Reserved(-1))));
    }
}
