//! The directory that snapshots are kept in: one file each, `NAME.snapshot`.
//!
//! Invariants:
//! * a name is of a complete file, always: a new one is written beside it under a name of its own, is on the disk before it
//!   takes the name, and takes it in one step. A crash leaves what was there before;
//! * what a crash leaves behind is swept away by whoever writes next: a file that is being written is locked, so that several
//!   programs may share a directory;
//! * names are checked: none leads out of the directory.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use stream::FileId;

/// What the files of snapshots end with.
const SUFFIX: &str = ".snapshot";

/// What files that are being written begin with. No name of a snapshot begins with a dot.
const UNFINISHED: &str = ".unfinished-";

/// Most bytes of a snapshot's name: with what is added it is a file's name everywhere.
pub(crate) const MAX_NAME: usize = 128;

/// Most snapshots that are listed.
const MOST_LISTED: usize = 10_000;

/// Why the directory does not do what was asked. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Not a name.
    #[error(
        "'{0}' is no name for a snapshot: 1 to {MAX_NAME} bytes, no '/', no control characters, no '.' at the beginning"
    )]
    BadName(String),
    /// The host refuses.
    #[error("snapshot directory '{}': cannot {what}: {source}", path.display())]
    Host {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

/// A name that is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new(name: &str) -> Result<Self, DirectoryError> {
        let good = (1..=MAX_NAME).contains(&name.len())
            && !name.starts_with('.')
            && !name.chars().any(|c| c == '/' || c.is_control());
        if good {
            Ok(Self(name.to_owned()))
        } else {
            Err(DirectoryError::BadName(name.chars().take(MAX_NAME).collect()))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn file(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }

    /// The name of the snapshot in this file, if it is one.
    fn of_file(file: &CStr) -> Option<Self> {
        Self::new(file.to_str().ok()?.strip_suffix(SUFFIX)?).ok()
    }
}

/// The directory, held open: it stays the same one wherever the process goes.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.to_owned(), fd }),
            Err(error) => {
                Err(DirectoryError::Host { path: path.to_owned(), what: "open it", source: error.into() })
            }
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(Errno) -> DirectoryError {
        let path = self.path.clone();
        move |error| DirectoryError::Host { path, what, source: error.into() }
    }

    /// The file of a snapshot, to read. None: there is no such snapshot.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<File>, DirectoryError> {
        // Not to wait for a writer, should it be a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, name.file(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("open a snapshot")(error)),
        }
    }

    /// Whether there is a file of that name.
    pub(crate) fn has(&self, name: &Name) -> Result<bool, DirectoryError> {
        match rustix::fs::statat(&self.fd, name.file(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.failed("look for a snapshot")(error)),
        }
    }

    /// The names of all snapshots, sorted.
    pub(crate) fn names(&self) -> Result<Vec<Name>, DirectoryError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(self.failed("list it"))? {
            let entry = entry.map_err(self.failed("list it"))?;
            names.extend(Name::of_file(entry.file_name()));
            if names.len() >= MOST_LISTED {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Takes the directory for a change that depends on what is in it, against other programs. Until the guard is dropped.
    pub(crate) fn lock(&self) -> Result<impl Drop + use<>, DirectoryError> {
        struct Guard(#[expect(dead_code, reason = "closing it gives the lock back")] OwnedFd);
        impl Drop for Guard {
            fn drop(&mut self) {}
        }
        // A description of its own, so that the lock keeps threads of this program apart too.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(self.failed("open it"))?;
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            // A file system without locks has one user.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK) => Ok(Guard(fd)),
            Err(error) => Err(self.failed("lock it")(error)),
        }
    }

    /// A new file, which is gone again unless it is [published](Self::publish).
    pub(crate) fn create(&self) -> Result<Unfinished<'_>, DirectoryError> {
        // So that nobody sweeps the new file before it is locked.
        let _guard = self.lock()?;
        self.sweep();
        let failed = self.failed("write to it");
        let id = FileId::random().map_err(|error| DirectoryError::Host {
            path: self.path.clone(),
            what: "name a file",
            source: error,
        })?;
        let name = format!("{UNFINISHED}{id}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Ok(Unfinished { directory: self, name, file: fd.into(), published: false })
    }

    /// Gives a complete file, whose content is on the disk, its name. `replace`: in the place of one that has it.
    pub(crate) fn publish(
        &self,
        mut file: Unfinished<'_>,
        name: &Name,
        replace: bool,
    ) -> Result<(), DirectoryError> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let renamed = match rustix::fs::renameat_with(&self.fd, &file.name, &self.fd, name.file(), flags) {
            // The file system cannot refuse; whoever asks has looked, under the lock.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::renameat(&self.fd, &file.name, &self.fd, name.file())
            }
            other => other,
        };
        renamed.map_err(self.failed("name a snapshot"))?;
        file.published = true;
        self.sync()
    }

    /// Removes a snapshot. Whoever has it open keeps it.
    pub(crate) fn remove(&self, name: &Name) -> Result<(), DirectoryError> {
        rustix::fs::unlinkat(&self.fd, name.file(), AtFlags::empty())
            .map_err(self.failed("remove a snapshot"))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), DirectoryError> {
        match rustix::fs::fsync(&self.fd) {
            // Not every file system knows that of directories.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(self.failed("write it to the disk")(error)),
        }
    }

    /// Removes what writers that are no more have left. What cannot be removed stays and harms nobody.
    fn sweep(&self) {
        let Ok(entries) = Dir::read_from(&self.fd) else { return };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name();
            if !name.to_bytes().starts_with(UNFINISHED.as_bytes()) {
                continue;
            }
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
            let Ok(fd) = rustix::fs::openat(&self.fd, name, flags, Mode::empty()) else { continue };
            if rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
            }
        }
    }
}

/// A file that is being written. Dropped, it is gone.
pub(crate) struct Unfinished<'a> {
    directory: &'a Directory,
    name: String,
    file: File,
    published: bool,
}

impl Unfinished<'_> {
    /// The file, once more.
    pub(crate) fn file(&self) -> Result<File, DirectoryError> {
        self.file.try_clone().map_err(|source| DirectoryError::Host {
            path: self.directory.path.clone(),
            what: "write to it",
            source,
        })
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = rustix::fs::unlinkat(&self.directory.fd, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    fn directory() -> (tempfile::TempDir, Directory) {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        (temp, directory)
    }

    fn put(directory: &Directory, name: &str, text: &str, replace: bool) -> Result<(), DirectoryError> {
        let new = directory.create()?;
        new.file()?.write_all(text.as_bytes()).unwrap();
        directory.publish(new, &Name::new(name)?, replace)
    }

    fn get(directory: &Directory, name: &str) -> Option<String> {
        let mut text = String::new();
        directory.find(&Name::new(name).unwrap()).unwrap()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn files(temp: &tempfile::TempDir) -> Vec<String> {
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", ".", "..", ".a", "a/b", "../a", "/a", "a\0", "a\n", &"a".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "vm-20261126", "before the update", "schlafend, 3 Ä", &"a".repeat(128)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_file_takes_its_name_whole_or_not_at_all() {
        let (temp, directory) = directory();
        put(&directory, "a", "old", false).unwrap();
        let half = directory.create().unwrap();
        half.file().unwrap().write_all(b"ne").unwrap();
        assert_eq!(get(&directory, "a").as_deref(), Some("old"));
        assert_eq!(files(&temp).len(), 2);
        drop(half);
        assert_eq!(files(&temp), ["a.snapshot"]);
        put(&directory, "a", "new", true).unwrap();
        assert_eq!(get(&directory, "a").as_deref(), Some("new"));
        assert!(put(&directory, "a", "newer", false).is_err(), "the name is taken");
        assert_eq!((get(&directory, "a").as_deref(), files(&temp).len()), (Some("new"), 1));
    }

    #[test]
    fn only_snapshots_are_listed_and_removed() {
        let (temp, directory) = directory();
        for name in ["b", "a"] {
            put(&directory, name, name, false).unwrap();
        }
        std::fs::write(temp.path().join("notes.txt"), "").unwrap();
        std::fs::write(temp.path().join(".x.snapshot"), "").unwrap();
        let names = directory.names().unwrap();
        assert_eq!(names.iter().map(Name::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert!(directory.has(&names[0]).unwrap());
        directory.remove(&names[0]).unwrap();
        assert!(!directory.has(&names[0]).unwrap() && get(&directory, "a").is_none());
        assert!(directory.remove(&names[0]).is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not() {
        let (temp, directory) = directory();
        let dead = temp.path().join(".unfinished-dead");
        std::fs::write(&dead, "half").unwrap();
        // Another process that holds the lock of the file that it writes.
        let mut other = Command::new("flock")
            .arg(temp.path().join(".unfinished-alive"))
            .args(["-c", "echo locked; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        other.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        let own = directory.create().unwrap();
        let second = directory.create().unwrap();
        assert_eq!(files(&temp).len(), 3, "{:?}", files(&temp));
        assert!(!dead.exists());
        drop((own, second));
        assert_eq!(files(&temp), [".unfinished-alive"]);
        drop(other.stdin.take());
        other.wait().unwrap();
        drop(directory.create().unwrap());
        assert!(files(&temp).is_empty());
    }
}
