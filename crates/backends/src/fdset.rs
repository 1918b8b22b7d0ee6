//! Descriptor sets (`-add-fd set=N,fd=M`, `add-fd`): files that a manager opened for us and that paths `/dev/fdset/N` name.

use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Descriptors that may be in sets, all together.
pub const MOST: usize = 256;

/// The sets by number. Clones are the same sets.
#[derive(Debug, Clone, Default)]
pub struct FdSets {
    sets: Arc<Mutex<BTreeMap<u32, Vec<Member>>>>,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    /// What the manager calls it; shown by `query-fdsets`.
    opaque: Option<String>,
}

/// A member of a set, as `query-fdsets` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdInfo {
    /// The set.
    pub set: u32,
    /// The number of the descriptor in this process, which names it in the set.
    pub fd: RawFd,
    /// What the manager calls it.
    pub opaque: Option<String>,
}

/// A path into a descriptor set cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FdSetError {
    /// No such set.
    #[error("file descriptor set {0} does not exist")]
    NoSuchSet(u32),
    /// A set without a descriptor that was opened for writing.
    #[error("file descriptor set {0} holds no descriptor that can be written to")]
    NotWritable(u32),
    /// A set without a descriptor that was opened for reading.
    #[error("file descriptor set {0} holds no descriptor that can be read")]
    NotReadable(u32),
    /// More descriptors than a program keeps for others (256).
    #[error("file descriptor sets cannot hold more than {MOST} descriptors")]
    Full,
    /// Duplicating it failed.
    #[error("cannot use file descriptor set {set}")]
    Io {
        /// The set.
        set: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FdSets {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<Member>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a descriptor into a set, which is made if need be, or into the first free one. Gives the set and the number.
    ///
    /// # Errors
    /// [`FdSetError::Full`]; the descriptor is closed.
    pub fn add(
        &self,
        set: Option<u32>,
        fd: OwnedFd,
        opaque: Option<String>,
    ) -> Result<(u32, RawFd), FdSetError> {
        let mut sets = self.lock();
        if sets.values().map(Vec::len).sum::<usize>() >= MOST {
            return Err(FdSetError::Full);
        }
        let set = set.unwrap_or_else(|| (0..).find(|number| !sets.contains_key(number)).unwrap_or(u32::MAX));
        let number = fd.as_raw_fd();
        sets.entry(set).or_default().push(Member { fd, opaque });
        Ok((set, number))
    }

    /// Takes a descriptor, or all of them, out of a set, and closes what was taken; the last one takes the set with it. False
    /// when there is no such descriptor. What has been opened from the set stays open.
    #[must_use]
    pub fn remove(&self, set: u32, fd: Option<RawFd>) -> bool {
        let mut sets = self.lock();
        let Some(members) = sets.get_mut(&set) else { return false };
        let before = members.len();
        members.retain(|member| fd.is_some_and(|fd| member.fd.as_raw_fd() != fd));
        let removed = members.len() < before;
        if members.is_empty() {
            sets.remove(&set);
        }
        removed
    }

    /// The number in a path of the form `/dev/fdset/N`.
    #[must_use]
    pub fn number_in(path: &str) -> Option<u32> {
        path.strip_prefix("/dev/fdset/")?.parse().ok()
    }

    /// A duplicate of the set's first descriptor that can be written to.
    ///
    /// # Errors
    /// [`FdSetError`] when there is none.
    pub fn open_for_writing(&self, set: u32) -> Result<OwnedFd, FdSetError> {
        self.open(set, OFlags::RDONLY)?.ok_or(FdSetError::NotWritable(set))
    }

    /// A duplicate of the set's first descriptor that can be read.
    ///
    /// # Errors
    /// [`FdSetError`] when there is none.
    pub fn open_for_reading(&self, set: u32) -> Result<OwnedFd, FdSetError> {
        self.open(set, OFlags::WRONLY)?.ok_or(FdSetError::NotReadable(set))
    }

    /// A duplicate of the set's first descriptor that is open in another mode than `not`.
    fn open(&self, set: u32, not: OFlags) -> Result<Option<OwnedFd>, FdSetError> {
        let io = |source: rustix::io::Errno| FdSetError::Io { set, source: source.into() };
        let sets = self.lock();
        for member in sets.get(&set).ok_or(FdSetError::NoSuchSet(set))? {
            let mode = rustix::fs::fcntl_getfl(&member.fd).map_err(io)? & OFlags::RWMODE;
            if mode != not {
                return rustix::io::fcntl_dupfd_cloexec(&member.fd, 3).map(Some).map_err(io);
            }
        }
        Ok(None)
    }

    /// Every member, set by set.
    #[must_use]
    pub fn list(&self) -> Vec<FdInfo> {
        let info =
            |set, member: &Member| FdInfo { set, fd: member.fd.as_raw_fd(), opaque: member.opaque.clone() };
        let sets = self.lock();
        sets.iter().flat_map(|(&set, members)| members.iter().map(move |member| info(set, member))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_set_gives_the_member_that_can_be_written() {
        let (reader, writer) = io::pipe().unwrap();
        let sets = FdSets::default();
        let (_, first) = sets.add(Some(3), reader.try_clone().unwrap().into(), None).unwrap();
        assert!(matches!(sets.open_for_writing(3), Err(FdSetError::NotWritable(3))));
        let (_, second) = sets.add(Some(3), writer.into(), Some("log".to_owned())).unwrap();
        std::fs::File::from(sets.open_for_writing(3).unwrap()).write_all(b"x").unwrap();
        let mut byte = [0];
        std::fs::File::from(sets.open_for_reading(3).unwrap()).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let info = |fd, opaque: Option<&str>| FdInfo { set: 3, fd, opaque: opaque.map(str::to_owned) };
        assert_eq!(sets.list(), [info(first, None), info(second, Some("log"))]);
    }

    #[test]
    fn what_is_removed_is_closed_and_an_empty_set_goes() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sets = FdSets::default();
        let (set, fd) = sets.add(None, writer.into(), None).unwrap();
        assert_eq!(set, 0);
        assert!(!sets.remove(0, Some(fd + 1)) && !sets.remove(1, None));
        assert!(sets.remove(0, Some(fd)));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the other end is closed");
        assert!(sets.list().is_empty() && !sets.remove(0, None));
    }

    #[test]
    fn sets_are_bounded() {
        let sets = FdSets::default();
        let open = || OwnedFd::from(io::pipe().unwrap().0);
        for _ in 0..MOST {
            sets.add(Some(1), open(), None).unwrap();
        }
        assert!(matches!(sets.add(None, open(), None), Err(FdSetError::Full)));
        assert!(sets.remove(1, None));
        assert_eq!(sets.add(None, open(), None).unwrap().0, 0);
    }

    #[test]
    fn paths_and_missing_sets() {
        assert_eq!(FdSets::number_in("/dev/fdset/12"), Some(12));
        assert_eq!(FdSets::number_in("/dev/fdset/x"), None);
        assert_eq!(FdSets::number_in("/tmp/log"), None);
        assert!(matches!(FdSets::default().open_for_writing(0), Err(FdSetError::NoSuchSet(0))));
    }
}
