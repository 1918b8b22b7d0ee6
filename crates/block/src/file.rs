//! Raw images in files and on block devices of the host.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
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
pub struct RawFile {
    file: File,
    /// Bytes in the file when it was opened.
    len: u64,
    read_only: bool,
}

impl RawFile {
    /// Opens an image and, unless told otherwise, keeps others from writing to it.
    pub fn open(options: &FileOptions) -> Result<Self, OpenError> {
        let path = &options.path;
        let failed = |error| OpenError::Open { path: path.clone(), error };
        let (mut file, read_only) = open(options).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotAFile { path: path.clone() });
        }
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if !options.unlocked {
            lock::keep(file.as_fd(), path, !read_only)?;
        }
        Ok(Self { file, len, read_only })
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
        self.len.next_multiple_of(SECTOR)
    }

    fn allocated(&self) -> io::Result<u64> {
        // In units of 512 bytes whatever the file system's own (stat(2)).
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// What lies behind the end of the file as it was opened is the rest of its last sector, and zero. A file that has
    /// become shorter since is an error: its bytes are gone, and nobody knows what they were.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let inside = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        let (stored, behind) = bytes.split_at_mut(inside);
        behind.fill(0);
        self.file.read_exact_at(stored, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::from(Errno::IO),
            _ => error,
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::WriteZero => io::Error::from(Errno::NOSPC),
            _ => error,
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// A host that cannot do it has done enough: a discard is a hint.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, len) {
            Err(error) if is_unsupported(error) => Ok(()),
            done => Ok(done?),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let how = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(error) if is_unsupported(error) => self.write_all_zeroes(offset, len),
            done => Ok(done?),
        }
    }
}
