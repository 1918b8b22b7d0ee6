//! Where a dump goes: a file, in which zeros become holes, or anything else that can be written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use engine::JobControl;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

/// How often a dump that waits for a reader looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(100);

/// What a pipe that is writable takes at once (POSIX, `PIPE_BUF` on Linux).
const AT_ONCE: usize = 4096;

/// The open target.
pub(crate) struct Target {
    file: File,
    regular: bool,
}

impl Target {
    /// The target behind `fd`. What a file had is gone.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let regular = FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile;
        let file = File::from(fd);
        if regular {
            file.set_len(0)?;
        }
        Ok(Self { file, regular })
    }

    /// Appends `bytes`. Never waits for good: a reader that does not read cannot keep a job that was cancelled.
    pub(crate) fn write(&mut self, bytes: &[u8], control: &JobControl) -> io::Result<()> {
        if !self.regular {
            return self.write_slowly(bytes, control);
        }
        if bytes.iter().all(|byte| *byte == 0) {
            self.file.seek(SeekFrom::Current(bytes.len() as i64)).map(drop)
        } else {
            self.file.write_all(bytes)
        }
    }

    fn write_slowly(&mut self, mut bytes: &[u8], control: &JobControl) -> io::Result<()> {
        while let Some(chunk) = bytes.get(..bytes.len().min(AT_ONCE)).filter(|chunk| !chunk.is_empty()) {
            self.wait_writable(control)?;
            match self.file.write(chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_writable(&self, control: &JobControl) -> io::Result<()> {
        let glance = rustix::time::Timespec { tv_sec: 0, tv_nsec: GLANCE.as_nanos() as i64 };
        while !control.is_cancelled() {
            match poll(&mut [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::OUT)], Some(&glance)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("cancelled"))
    }

    /// The end of the dump: a hole at the end is part of the file, and what was written is with the host.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.regular {
            let len = self.file.stream_position()?;
            self.file.set_len(len)?;
        }
        Ok(())
    }
}
