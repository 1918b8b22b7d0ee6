//! The bytes of a migration on their way: a socket, a pipe or a program, read and written without ever hanging.
//!
//! ```text
//!   job's thread ── read, write ──► poll { descriptor, cut } ──► read, write what is ready
//!   anybody ────── Cutter::cut ───────────────────────┘          or: "cut"
//! ```
//! Invariants:
//! * nothing waits but in `poll`, together with the cut: whoever cuts ends every wait at once, also one that begins later;
//! * when a channel goes, its other end learns it: sockets are shut down, also where another process holds a copy, and a
//!   program that is still there is killed;
//! * a descriptor's mode is not changed: whoever passed it may still use it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid};

/// What a pipe that is writable takes at once (POSIX, `PIPE_BUF` on Linux).
const AT_ONCE: usize = 4096;

/// Ends every wait on the channels that were made with it. Clones cut the same.
#[derive(Clone, Debug)]
pub struct Cutter {
    shared: Arc<Cut>,
}

#[derive(Debug)]
struct Cut {
    done: AtomicBool,
    /// Readable from the cut on.
    event: OwnedFd,
}

impl Cutter {
    /// Nothing is cut yet.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Cut { done: AtomicBool::new(false), event }) })
    }

    /// Ends all waits. Never blocks.
    pub fn cut(&self) {
        self.shared.done.store(true, Ordering::SeqCst);
        // Its counter cannot be full after one.
        let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Waits until `fd` is ready for `wanted`, or has failed.
    pub fn wait(&self, fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<()> {
        self.wait_until(fd, wanted, None).map(drop)
    }

    /// The same at most until `deadline`. Gives whether it is ready.
    pub fn wait_until(
        &self,
        fd: BorrowedFd<'_>,
        wanted: PollFlags,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        loop {
            if self.is_cut() {
                return Err(cut());
            }
            let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
            let mut fds = [
                PollFd::from_borrowed_fd(fd, wanted),
                PollFd::from_borrowed_fd(self.shared.event.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) if self.is_cut() => {}
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sleeps, or until the cut: for pacing.
    pub fn sleep(&self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        loop {
            if self.is_cut() {
                return Err(cut());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let mut fds = [PollFd::from_borrowed_fd(self.shared.event.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the migration was cancelled")
}

/// How a descriptor is read and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Socket,
    /// A pipe or a device. Without a mode of its own it is written in pieces that never block.
    Pipe {
        nonblocking: bool,
    },
    /// A regular file: always ready.
    File,
}

/// A descriptor with its cutter. Readers and writers share it.
#[derive(Debug)]
struct Wire {
    fd: OwnedFd,
    kind: Kind,
    cutter: Cutter,
}

impl Wire {
    fn new(fd: OwnedFd, cutter: &Cutter) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::RegularFile => Kind::File,
            FileType::Fifo => {
                let (fd, nonblocking) = apart(fd)?;
                return Ok(Self { fd, kind: Kind::Pipe { nonblocking }, cutter: cutter.clone() });
            }
            _ => Kind::Pipe { nonblocking: false },
        };
        Ok(Self { fd, kind, cutter: cutter.clone() })
    }

    fn read(&self, bytes: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            if self.kind != Kind::File {
                if !self.cutter.wait_until(self.fd.as_fd(), PollFlags::IN, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            } else if self.cutter.is_cut() {
                return Err(cut());
            }
            let read = match self.kind {
                Kind::Socket => recv(&self.fd, &mut *bytes, RecvFlags::DONTWAIT).map(|(read, _)| read),
                Kind::Pipe { .. } | Kind::File => rustix::io::read(&self.fd, &mut *bytes),
            };
            match read {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            if self.kind != Kind::File {
                self.cutter.wait(self.fd.as_fd(), PollFlags::OUT)?;
            } else if self.cutter.is_cut() {
                return Err(cut());
            }
            let written = match self.kind {
                Kind::Socket => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    sendmsg(&self.fd, parts, &mut SendAncillaryBuffer::default(), flags)
                }
                Kind::Pipe { nonblocking: false } => {
                    let first: &[u8] = parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part);
                    rustix::io::write(&self.fd, first.get(..AT_ONCE).unwrap_or(first))
                }
                Kind::Pipe { nonblocking: true } | Kind::File => rustix::io::writev(&self.fd, parts),
            };
            match written {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.kind == Kind::Socket {
            // The other end may have gone already.
            let _ = shutdown(&self.fd, Shutdown::Both);
        }
    }
}

/// The same pipe through an open file of our own, which does not block. Where `/proc` is not to be had it stays as it is.
fn apart(fd: OwnedFd) -> io::Result<(OwnedFd, bool)> {
    use std::os::fd::AsRawFd as _;
    let mode = fcntl_getfl(&fd)? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match open(path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(own) => Ok((own, true)),
        Err(_) => Ok((fd, false)),
    }
}

/// Where a channel's bytes are read.
#[derive(Debug)]
pub struct Reader {
    wire: Arc<Wire>,
    patience: Patience,
}

/// Until when a reader waits. Clones are of the same reader.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<Mutex<Option<Instant>>>);

impl Patience {
    /// From now on it waits until `deadline`; none is for good.
    pub fn set(&self, deadline: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Until when it waits.
    pub fn patience(&self) -> Patience {
        self.patience.clone()
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wire.read(bytes, self.patience.get())
    }
}

/// Where a channel's bytes are written. It keeps nothing back.
#[derive(Debug)]
pub struct Writer(Arc<Wire>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A program at the other end.
#[derive(Debug)]
pub(crate) struct Program {
    pid: Pid,
    /// It has ended and was waited for.
    gone: bool,
}

impl Program {
    /// A child that leads a process group of its own.
    pub(crate) fn new(pid: Pid) -> Self {
        Self { pid, gone: false }
    }

    /// Waits for its end, which has to be a good one.
    fn finish(&mut self, cutter: &Cutter) -> io::Result<()> {
        let end = pidfd_open(self.pid, PidfdFlags::empty())?;
        cutter.wait(end.as_fd(), PollFlags::IN)?;
        self.gone = true;
        let status = waitpid(Some(self.pid), WaitOptions::empty())?.map(|(_, status)| status);
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::other(format!("the program ended with exit status {code}"))),
            None => Err(io::Error::other("the program was killed")),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // All that it has started goes with it. Once killed it cannot be long.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// A stream of bytes to or from another process, or both.
#[derive(Debug)]
pub struct Channel {
    reader: Option<Reader>,
    writer: Option<Writer>,
    program: Option<Program>,
    two_way: bool,
    cutter: Cutter,
}

impl Channel {
    /// A channel over a descriptor: both ways if it is a socket, else the one for which it is open.
    pub fn new(fd: OwnedFd, cutter: &Cutter) -> io::Result<Self> {
        let mode = fcntl_getfl(&fd)? & OFlags::RWMODE;
        let wire = Arc::new(Wire::new(fd, cutter)?);
        let two_way = wire.kind == Kind::Socket;
        let reader = (mode != OFlags::WRONLY)
            .then(|| Reader { wire: Arc::clone(&wire), patience: Patience::default() });
        let writer = (mode != OFlags::RDONLY).then(|| Writer(wire));
        Ok(Self { reader, writer, program: None, two_way, cutter: cutter.clone() })
    }

    /// A stream into `file`, in which what is before `offset` stays and what is behind it goes.
    pub(crate) fn to_file(file: File, offset: u64, cutter: &Cutter) -> io::Result<Self> {
        file.set_len(offset)?;
        Self::from_file(file, offset, cutter)
    }

    /// A stream out of `file`, from `offset` on.
    pub(crate) fn from_file(mut file: File, offset: u64, cutter: &Cutter) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Self::new(file.into(), cutter)
    }

    /// The same with the program whose pipe it is.
    pub(crate) fn with_program(self, program: Program) -> Self {
        Self { program: Some(program), ..self }
    }

    /// Whether what is sent can be answered.
    pub fn is_two_way(&self) -> bool {
        self.two_way
    }

    /// Takes the end that is read. An error if there is none (any more).
    pub fn take_reader(&mut self) -> io::Result<Reader> {
        self.reader.take().ok_or_else(|| io::Error::other("the channel cannot be read"))
    }

    /// Takes the end that is written. An error if there is none (any more).
    pub fn take_writer(&mut self) -> io::Result<Writer> {
        self.writer.take().ok_or_else(|| io::Error::other("the channel cannot be written"))
    }

    /// After the last byte was written and the writer dropped: waits until a program has taken it all and ended well.
    pub fn finish(mut self) -> io::Result<()> {
        self.writer = None;
        self.reader = None;
        match self.program.take() {
            Some(mut program) => program.finish(&self.cutter),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn cutter() -> Cutter {
        Cutter::new().unwrap()
    }

    /// Runs `blocked` on a thread, cuts, and gives how it ended.
    fn cut_while<T: Send + 'static>(cutter: &Cutter, blocked: impl FnOnce() -> T + Send + 'static) -> T {
        let (begin, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            begin.send(()).unwrap();
            blocked()
        });
        begun.recv().unwrap();
        cutter.cut();
        thread.join().unwrap()
    }

    #[test]
    fn a_socket_goes_both_ways_and_ends_for_the_other_side_when_it_goes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let copy = ours.try_clone().unwrap();
        let mut channel = Channel::new(ours.into(), &cutter()).unwrap();
        assert!(channel.is_two_way());
        channel.take_writer().unwrap().write_all(b"there").unwrap();
        let mut five = [0; 5];
        theirs.read_exact(&mut five).unwrap();
        theirs.write_all(b"again").unwrap();
        channel.take_reader().unwrap().read_exact(&mut five).unwrap();
        assert_eq!(&five, b"again");
        drop(channel);
        assert_eq!(theirs.read(&mut five).unwrap(), 0, "shut down although somebody holds a copy");
        drop(copy);
    }

    #[test]
    fn a_pipe_goes_one_way_and_its_mode_stays() {
        let (mut reader, writer) = io::pipe().unwrap();
        let kept = writer.try_clone().unwrap();
        let mut channel = Channel::new(writer.into(), &cutter()).unwrap();
        assert!(!channel.is_two_way() && channel.take_reader().is_err());
        let thread = std::thread::spawn(move || {
            channel.take_writer().unwrap().write_all(&[7; 200_000]).unwrap();
            channel.finish().unwrap();
        });
        let mut all = vec![0; 200_000];
        reader.read_exact(&mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
        thread.join().unwrap();
        assert!(!fcntl_getfl(&kept).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_cut_ends_whoever_waits() {
        let cutter = cutter();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(ours.into(), &cutter).unwrap();
        let mut reader = channel.take_reader().unwrap();
        let mut writer = channel.take_writer().unwrap();
        let read = cut_while(&cutter, move || reader.read(&mut [0]).unwrap_err());
        assert_eq!(read.kind(), io::ErrorKind::ConnectionAborted);
        let written = writer.write(&[0]).unwrap_err();
        assert_eq!(written.to_string(), "the migration was cancelled", "also what begins later");
    }

    #[test]
    fn a_writer_whose_reader_does_not_read_is_cut() {
        let cutter = cutter();
        let (_reader, writer) = io::pipe().unwrap();
        let mut channel = Channel::new(writer.into(), &cutter).unwrap();
        let mut writer = channel.take_writer().unwrap();
        assert!(cut_while(&cutter, move || writer.write_all(&[0; 1 << 20]).is_err()));
    }
}
