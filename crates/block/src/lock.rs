//! Who else uses an image: the locks by which processes that know them, QEMU among them, keep out of each other's way.
//!
//! Each use of an image is a bit. Whoever uses it so holds byte `USED + bit`; whoever does not let others use it so
//! holds byte `NOT_SHARED + bit`. All locks are shared ones, so holding is never refused: each process takes its own and
//! then looks for those that contradict. They vanish with the process.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use sys::ofd;

const USED: u32 = 100;
const NOT_SHARED: u32 = 200;

/// Bit and name.
type Use = (u32, &'static str);
const CONSISTENT_READ: Use = (0, "consistent read");
const WRITE: Use = (1, "write");
const RESIZE: Use = (3, "resize");

/// Somebody else uses the image in a way that does not go together with ours.
#[derive(Debug, thiserror::Error)]
#[error("Failed to get {kind}\"{what}\" lock. Is another process using the image [{}]?", path.display())]
pub struct LockError {
    kind: &'static str,
    what: &'static str,
    path: PathBuf,
}

/// What a machine that writes does with its image, and what none lets others do.
const IN_USE: [Use; 3] = [CONSISTENT_READ, WRITE, RESIZE];
const NOT_SHARED_USES: [Use; 2] = [WRITE, RESIZE];

/// Takes and checks the locks of a process that reads `file` and lets nobody else write it, and that itself writes it if
/// `write`. Refused, it has none. Without locks in the file system nobody is kept out.
pub(crate) fn keep(file: BorrowedFd<'_>, path: &Path, write: bool) -> Result<(), LockError> {
    match try_keep(file, write) {
        Ok(None) => Ok(()),
        Ok(Some((kind, what))) => {
            give_back(file);
            Err(LockError { kind, what, path: path.to_owned() })
        }
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "an image cannot be locked");
            Ok(())
        }
    }
}

/// Gives all of these locks back.
pub(crate) fn give_back(file: BorrowedFd<'_>) {
    for byte in IN_USE.iter().flat_map(|(bit, _)| [USED + bit, NOT_SHARED + bit]) {
        // Where there are no locks none is left.
        let _ = ofd::unlock(file, byte);
    }
}

/// Takes them unless something contradicts, and gives what does. Looked for before, so that who is refused holds nothing
/// even for a moment, and after: two that take them at the same time see each other.
fn try_keep(file: BorrowedFd<'_>, write: bool) -> io::Result<Option<(&'static str, &'static str)>> {
    let used: &[Use] = if write { &IN_USE } else { &[CONSISTENT_READ] };
    let found = contradiction(file, used)?;
    if found.is_some() {
        return Ok(found);
    }
    for (bit, _) in used {
        ofd::lock_shared(file, USED + bit)?;
    }
    for (bit, _) in NOT_SHARED_USES {
        ofd::lock_shared(file, NOT_SHARED + bit)?;
    }
    contradiction(file, used)
}

/// What others do that does not go together with these uses.
fn contradiction(file: BorrowedFd<'_>, used: &[Use]) -> io::Result<Option<(&'static str, &'static str)>> {
    for &(bit, what) in used {
        if ofd::is_locked_by_others(file, NOT_SHARED + bit)? {
            return Ok(Some(("", what)));
        }
    }
    for (bit, what) in NOT_SHARED_USES {
        if ofd::is_locked_by_others(file, USED + bit)? {
            return Ok(Some(("shared ", what)));
        }
    }
    Ok(None)
}
