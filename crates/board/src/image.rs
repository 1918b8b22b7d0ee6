//! Boot images: where they come from, and what can be wrong with them.
//!
//! A file is read once, when the machine is built, into a file in memory of our own, so that each reset copies what was
//! checked: the file on disk may have changed or gone by then. (Memory of that kind is no part of the process's own.)

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use ram::{Ram, RamError};
use rustix::fs::{MemfdFlags, memfd_create};

/// Where an image comes from.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// A file on the host.
    File(PathBuf),
    /// Bytes at hand, with a name for messages.
    Bytes(String, Arc<[u8]>),
}

/// What an image is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// `-bios`.
    Firmware,
    /// `-kernel`.
    Kernel,
    /// `-initrd`.
    Initrd,
    /// `-dtb`.
    DeviceTree,
}

impl Role {
    /// The word for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Firmware => "firmware",
            Role::Kernel => "kernel",
            Role::Initrd => "initrd",
            Role::DeviceTree => "device tree",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An image that cannot be used. One line: what, which, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not load {role} '{name}': {fault}")]
pub struct ImageError {
    /// What the image was for.
    pub role: Role,
    /// Path of the file, or the name that was given.
    pub name: String,
    /// What is wrong with it.
    pub fault: ImageFault,
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// It cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is larger than the machine's memory.
    #[error("it has more than the {ram} bytes of RAM")]
    LargerThanRam {
        /// Size of RAM in bytes.
        ram: u64,
    },
    /// It fits nowhere between what is there already.
    #[error("its {size} bytes do not fit into RAM ({from:#x} to {to:#x} is free)")]
    NoRoom {
        /// Bytes that it takes.
        size: u64,
        /// First free guest physical address.
        from: u64,
        /// First address behind the free range.
        to: u64,
    },
    /// A part of it belongs where there is no RAM.
    #[error("{size:#x} bytes at {addr:#x} are outside RAM ({ram_base:#x} to {ram_end:#x})")]
    OutsideRam {
        /// Guest physical address.
        addr: u64,
        /// Bytes.
        size: u64,
        /// First guest physical address of RAM.
        ram_base: u64,
        /// First address behind RAM.
        ram_end: u64,
    },
    /// It would cover another image, or another part of itself.
    #[error("{size:#x} bytes at {addr:#x} overlap the {other}")]
    Overlap {
        /// Guest physical address.
        addr: u64,
        /// Bytes.
        size: u64,
        /// What is there already.
        other: Role,
    },
    /// It ends before it should.
    #[error("it is cut short: {expected} bytes are needed, it has {found}")]
    Truncated {
        /// Bytes that it should have at least.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It is something else.
    #[error("it is {found}, not {wanted}")]
    Foreign {
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A value in it cannot be.
    #[error("its {what} is not valid")]
    Invalid {
        /// Which value.
        what: &'static str,
    },
}

/// An image that has been read.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) role: Role,
    pub(crate) name: String,
    data: Data,
    len: u64,
}

#[derive(Debug)]
enum Data {
    Bytes(Arc<[u8]>),
    File(File),
}

impl Image {
    /// Reads `source`, which may have `limit` bytes at most: more cannot fit into RAM.
    pub(crate) fn read(role: Role, source: &ImageSource, limit: u64) -> Result<Arc<Self>, ImageError> {
        let (name, read) = match source {
            ImageSource::Bytes(name, bytes) => {
                (name.clone(), Ok((Data::Bytes(Arc::clone(bytes)), bytes.len() as u64)))
            }
            ImageSource::File(path) => (path.display().to_string(), copy_file(path, limit)),
        };
        let fault = match read {
            Err(error) => ImageFault::Read(error),
            Ok((_, 0)) => ImageFault::Empty,
            Ok((_, len)) if len > limit => ImageFault::LargerThanRam { ram: limit },
            Ok((data, len)) => return Ok(Arc::new(Self { role, name, data, len })),
        };
        Err(ImageError { role, name, fault })
    }

    /// Length in bytes; not 0.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The error of this image.
    pub(crate) fn error(&self, fault: ImageFault) -> ImageError {
        ImageError { role: self.role, name: self.name.clone(), fault }
    }

    /// `len` bytes from `offset` on; an image that ends before is cut short.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        let expected = offset.saturating_add(len as u64);
        if expected > self.len {
            return Err(self.error(ImageFault::Truncated { expected, found: self.len }));
        }
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes).map_err(|error| self.error(ImageFault::Read(error)))?;
        Ok(bytes)
    }

    /// Like [`Image::bytes`], but as many as there are.
    pub(crate) fn head(&self, len: usize) -> Result<Vec<u8>, ImageError> {
        self.bytes(0, usize::try_from(self.len).unwrap_or(len).min(len))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match &self.data {
            Data::File(file) => file.read_exact_at(bytes, offset),
            Data::Bytes(all) => {
                let from = usize::try_from(offset).ok();
                let part = from.and_then(|from| all.get(from..)?.get(..bytes.len()));
                bytes.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Copies `len` bytes from `offset` on into guest memory at `addr`.
    pub(crate) fn place(&self, ram: &Ram, offset: u64, len: u64, addr: u64) -> Result<(), CopyError> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
        let mut done = 0;
        while done < len {
            let now = buffer.len().min(usize::try_from(len - done).unwrap_or(CHUNK));
            let Some(chunk) = buffer.get_mut(..now) else { break };
            self.read_at(offset + done, chunk)?;
            ram.write(addr + done, chunk)?;
            done += now as u64;
        }
        Ok(())
    }
}

/// Bytes copied at a time.
const CHUNK: usize = 64 * 1024;

/// An image could not be copied into guest memory, though all of it was checked before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("cannot read the image again")]
    Read(#[from] io::Error),
    #[error("cannot write guest memory")]
    Write(#[from] RamError),
}

/// Writes `len` zero bytes at `addr`.
pub(crate) fn clear(ram: &Ram, addr: u64, len: u64) -> Result<(), RamError> {
    let zeros = [0; 4096];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(zeros.len() as u64);
        ram.write(addr + done, zeros.get(..now as usize).unwrap_or(&zeros))?;
        done += now;
    }
    Ok(())
}

/// A private copy of a file and its length, which is more than `limit` if the file is.
fn copy_file(path: &std::path::Path, limit: u64) -> io::Result<(Data, u64)> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut copy = File::from(memfd_create(c"boot-image", MemfdFlags::CLOEXEC)?);
    let len = io::copy(&mut file.take(limit.saturating_add(1)), &mut copy)?;
    copy.seek(SeekFrom::Start(0))?;
    Ok((Data::File(copy), len))
}
