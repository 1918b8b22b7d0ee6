//! Locks on single bytes of a file that belong to the open file description (`fcntl(2)`, `F_OFD_SETLK`): they last until
//! its last descriptor is closed, whatever other descriptors of the same file this process opens and closes.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Takes a shared lock on byte `at`.
///
/// # Errors
/// `EAGAIN` if somebody else has an exclusive one; `EINVAL` and others where the file system has no such locks.
pub fn lock_shared(file: BorrowedFd<'_>, at: u32) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, libc::F_RDLCK, at).map(|_| ())
}

/// Gives the lock on byte `at` back, if there is one.
///
/// # Errors
/// As [`lock_shared`].
pub fn unlock(file: BorrowedFd<'_>, at: u32) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, libc::F_UNLCK, at).map(|_| ())
}

/// Whether an open file description other than `file`'s has a lock on byte `at`.
///
/// # Errors
/// As [`lock_shared`].
pub fn is_locked_by_others(file: BorrowedFd<'_>, at: u32) -> io::Result<bool> {
    call(file, libc::F_OFD_GETLK, libc::F_WRLCK, at).map(|kind| i32::from(kind) != libc::F_UNLCK)
}

fn call(file: BorrowedFd<'_>, command: i32, kind: i32, at: u32) -> io::Result<libc::c_short> {
    // SAFETY: a flock is plain integers, for which zero is a value. l_pid must be 0 for these commands.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at.into();
    lock.l_len = 1;
    // SAFETY: the descriptor is open for as long as it is borrowed, and `lock` is a live flock that the call may write.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(lock.l_type) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_lock_is_seen_by_other_descriptions_until_it_is_given_back_or_closed() {
        let path = std::env::temp_dir().join(format!("dormouse-ofd-{}", std::process::id()));
        let one = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let other = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        lock_shared(one.as_fd(), 100).unwrap();
        assert!(!is_locked_by_others(one.as_fd(), 100).unwrap(), "one's own");
        assert!(is_locked_by_others(other.as_fd(), 100).unwrap());
        assert!(!is_locked_by_others(other.as_fd(), 101).unwrap());
        unlock(one.as_fd(), 100).unwrap();
        unlock(one.as_fd(), 101).unwrap();
        assert!(!is_locked_by_others(other.as_fd(), 100).unwrap());
        lock_shared(one.as_fd(), 100).unwrap();
        lock_shared(other.as_fd(), 100).unwrap();
        drop(one);
        assert!(!is_locked_by_others(other.as_fd(), 100).unwrap());
    }
}
