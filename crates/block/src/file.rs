//! Raw images in files and on block devices of the host.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use crate::backend::{BlockBackend, SECTOR};
use crate::lock::{self, LockError};

/// How much is written at once where the host cannot write zeroes by itself.
const ZEROES: usize = 64 << 10;

/// How an image is opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileOptions {
    /// The file.
    pub path: PathBuf,
    /// Never write.
    pub read_only: bool,
    /// Do not write if the host does not allow it.
    pub auto_read_only: bool,
    /// Do not keep other processes from writing, nor heed those that do.
    pub unlocked: bool,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host refuses.
    #[error("Could not open '{}': {}", path.display(), text(error))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host said; the text above has it.
        error: io::Error,
    },
    /// A directory, a terminal, a pipe.
    #[error("'file' driver requires '{}' to be a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Somebody else uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An image of a format that there is no driver for.
    #[error("'{}' looks like a {format} image, which is not supported by this program; format=raw takes it as it is", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
    },
    /// A node below that is not there.
    #[error("Cannot find device='{name}' nor node-name='{name}'")]
    NoChild {
        /// Its name.
        name: String,
    },
    /// The host refuses a thread.
    #[error("the host refuses a thread for '{name}': {}", text(error))]
    Thread {
        /// Of what.
        name: String,
        /// What it said; the text above has it.
        error: io::Error,
    },
}

/// What the system says of an error, without the number that the standard library adds.
pub fn text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// A raw image.
///
/// It is *active* while this process may use it: from the beginning to [`inactivate`](Self::inactivate), and again from
/// [`activate`](Self::activate) on. Other processes are kept from writing to it while
/// it is active and a disk is attached to it.
pub struct RawFile {
    file: File,
    path: PathBuf,
    /// Bytes in the file when it was opened or last became active.
    len: AtomicU64,
    read_only: bool,
    unlocked: bool,
    active: AtomicBool,
    /// Shared by operations on the file, exclusive to what changes whose it is; says whether a disk is attached.
    attached: RwLock<bool>,
}

impl RawFile {
    /// Opens an image.
    pub fn open(options: &FileOptions) -> Result<Self, OpenError> {
        let path = &options.path;
        let failed = |error| OpenError::Open { path: path.clone(), error };
        let (file, read_only) = open(options).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotAFile { path: path.clone() });
        }
        let len = length(&file).map_err(failed)?;
        Ok(Self {
            file,
            path: path.clone(),
            len: len.into(),
            read_only,
            unlocked: options.unlocked,
            active: true.into(),
            attached: RwLock::default(),
        })
    }

    /// Whether this process may use it.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    /// A disk is attached: others are kept from writing while the image is active.
    pub fn attach(&self) -> Result<(), OpenError> {
        let mut attached = self.exclusive();
        if self.is_active() {
            self.lock()?;
        }
        *attached = true;
        Ok(())
    }

    /// From here on this process may use it, however others have changed it meanwhile. An active image stays as it is.
    pub fn activate(&self) -> Result<(), OpenError> {
        let attached = self.exclusive();
        if self.is_active() {
            return Ok(());
        }
        if *attached {
            self.lock()?;
        }
        // Only a hint: file systems that several hosts share look anew when a lock is taken.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let len = length(&self.file).map_err(|error| {
            lock::give_back(self.file.as_fd());
            OpenError::Open { path: self.path.clone(), error }
        })?;
        self.len.store(len, Ordering::SeqCst);
        self.active.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Leaves it to others, once what is under way has ended. What is to be durable has to be flushed before.
    pub fn inactivate(&self) {
        let _attached = self.exclusive();
        self.active.store(false, Ordering::SeqCst);
        lock::give_back(self.file.as_fd());
    }

    fn lock(&self) -> Result<(), LockError> {
        if self.unlocked { Ok(()) } else { lock::keep(self.file.as_fd(), &self.path, !self.read_only) }
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, bool> {
        self.attached.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the image this process's for the time of an operation.
    fn used(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let used = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_active() { Ok(used) } else { Err(Errno::PERM.into()) }
    }

    /// Refuses what is obviously no raw image. For those who did not say what it is.
    pub fn check_raw(&self, path: &Path) -> Result<(), OpenError> {
        const MAGICS: [(&[u8], &str); 6] = [
            (b"QFI\xfb", "qcow2"),
            (b"KDMV", "vmdk"),
            (b"QED\0", "qed"),
            (b"vhdxfile", "vhdx"),
            (b"conectix", "vpc"),
            (b"<<< ", "vdi"),
        ];
        let mut head = [0; 8];
        // A short file is no image of any of these.
        if self.file.read_exact_at(&mut head, 0).is_err() {
            return Ok(());
        }
        match MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
            Some((_, format)) => Err(OpenError::Format { path: path.to_owned(), format }),
            None => Ok(()),
        }
    }

    /// Whether nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn write_all_zeroes(&self, mut offset: u64, len: u64) -> io::Result<()> {
        let zeroes = [0; ZEROES];
        let end = offset + len;
        while offset < end {
            let count = usize::try_from(end - offset).unwrap_or(ZEROES).min(ZEROES);
            self.file.write_all_at(zeroes.get(..count).unwrap_or_default(), offset)?;
            offset += count as u64;
        }
        Ok(())
    }
}

/// Bytes in the file, or on the device.
fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Opens the file, and says whether it is for reading only.
fn open(options: &FileOptions) -> io::Result<(File, bool)> {
    let reading = || Ok((File::open(&options.path)?, true));
    if options.read_only {
        return reading();
    }
    match OpenOptions::new().read(true).write(true).open(&options.path) {
        Ok(file) => Ok((file, false)),
        Err(error) if options.auto_read_only && refuses_writing(&error) => reading(),
        Err(error) => Err(error),
    }
}

fn refuses_writing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS | Errno::INVAL | Errno::NOTTY)
}

impl BlockBackend for RawFile {
    fn size(&self) -> u64 {
        self.len.load(Ordering::SeqCst).next_multiple_of(SECTOR)
    }

    fn allocated(&self) -> io::Result<u64> {
        // In units of 512 bytes whatever the file system's own (stat(2)).
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// What lies behind the end of the file as it was opened is the rest of its last sector, and zero. A file that has
    /// become shorter since is an error: its bytes are gone, and nobody knows what they were.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let _used = self.used()?;
        let len = self.len.load(Ordering::SeqCst);
        let inside = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        let (stored, behind) = bytes.split_at_mut(inside);
        behind.fill(0);
        self.file.read_exact_at(stored, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::from(Errno::IO),
            _ => error,
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _used = self.used()?;
        self.file.write_all_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::WriteZero => io::Error::from(Errno::NOSPC),
            _ => error,
        })
    }

    /// Of an image that is somebody else's nothing is here to be made durable.
    fn flush(&self) -> io::Result<()> {
        if self.is_active() { self.file.sync_data() } else { Ok(()) }
    }

    /// A host that cannot do it has done enough: a discard is a hint.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let _used = self.used()?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, len) {
            Err(error) if is_unsupported(error) => Ok(()),
            done => Ok(done?),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let _used = self.used()?;
        let how = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(error) if is_unsupported(error) => self.write_all_zeroes(offset, len),
            done => Ok(done?),
        }
    }
}
