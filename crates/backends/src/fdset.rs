//! Descriptor sets (`-add-fd set=N,fd=M`): files that a manager opened for us and that paths `/dev/fdset/N` name.

use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

/// The sets by number.
#[derive(Debug, Default)]
pub struct FdSets {
    sets: BTreeMap<u32, Vec<Member>>,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    /// What the manager calls it; shown by `query-fdsets`.
    opaque: Option<String>,
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
    /// Puts a descriptor into a set, which is made if need be.
    pub fn add(&mut self, set: u32, fd: OwnedFd, opaque: Option<String>) {
        self.sets.entry(set).or_default().push(Member { fd, opaque });
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
        let io = |source: rustix::io::Errno| FdSetError::Io { set, source: source.into() };
        let members = self.sets.get(&set).ok_or(FdSetError::NoSuchSet(set))?;
        for member in members {
            let mode = rustix::fs::fcntl_getfl(&member.fd).map_err(io)? & OFlags::RWMODE;
            if mode == OFlags::WRONLY || mode == OFlags::RDWR {
                return rustix::io::fcntl_dupfd_cloexec(&member.fd, 3).map_err(io);
            }
        }
        Err(FdSetError::NotWritable(set))
    }

    /// Every member as (set, opaque), for `query-fdsets`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Option<&str>)> {
        self.sets.iter().flat_map(|(&set, members)| members.iter().map(move |m| (set, m.opaque.as_deref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_set_gives_the_member_that_can_be_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut sets = FdSets::default();
        sets.add(3, reader.try_clone().unwrap().into(), None);
        assert!(matches!(sets.open_for_writing(3), Err(FdSetError::NotWritable(3))));
        sets.add(3, writer.into(), Some("log".to_owned()));
        std::fs::File::from(sets.open_for_writing(3).unwrap()).write_all(b"x").unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(sets.iter().collect::<Vec<_>>(), [(3, None), (3, Some("log"))]);
    }

    #[test]
    fn paths_and_missing_sets() {
        assert_eq!(FdSets::number_in("/dev/fdset/12"), Some(12));
        assert_eq!(FdSets::number_in("/dev/fdset/x"), None);
        assert_eq!(FdSets::number_in("/tmp/log"), None);
        assert!(matches!(FdSets::default().open_for_writing(0), Err(FdSetError::NoSuchSet(0))));
    }
}
