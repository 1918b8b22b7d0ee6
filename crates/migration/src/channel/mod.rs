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
//! * what is sealed (TLS) stays sealed: there is no way back, and nothing goes beside it;
//! * a descriptor's mode is not changed: whoever passed it may still use it.

mod cutter;
mod program;
mod session;
mod wire;

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek as _, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl};

use rustls::Connection;

pub use cutter::Cutter;
pub(crate) use program::{Ending, Program};
use wire::{Kind, Wire};

use crate::tls::{Failure, looks_sealed};

/// How long a program's end is waited for that takes or gives nothing more.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Where a channel's bytes are read.
#[derive(Debug)]
pub struct Reader {
    wire: Arc<Wire>,
    patience: Patience,
    /// Nothing has come yet.
    fresh: bool,
    /// What ends its waits, if not what ends all of the channel's.
    cutter: Option<Cutter>,
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
    /// The same, whose waits `cutter` ends: a part of the channel's, so that it can still be answered.
    pub(crate) fn ended_by(self, cutter: Cutter) -> Self {
        Self { cutter: Some(cutter), ..self }
    }

    /// Until when it waits.
    pub fn patience(&self) -> Patience {
        self.patience.clone()
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let cutter = self.cutter.as_ref().unwrap_or(self.wire.cutter());
        let count = self.wire.read(bytes, self.patience.get(), cutter)?;
        if std::mem::take(&mut self.fresh)
            && let Some(bytes) = bytes.get(..count)
            && looks_sealed(bytes)
        {
            return Err(io::Error::other(Failure::Sealed));
        }
        Ok(count)
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
        Ok(Self::over(Wire::new(fd, cutter)?, mode, cutter))
    }

    fn over(wire: Wire, mode: OFlags, cutter: &Cutter) -> Self {
        let wire = Arc::new(wire);
        let two_way = wire.kind == Kind::Socket;
        let reader = (mode != OFlags::WRONLY).then(|| Reader {
            wire: Arc::clone(&wire),
            patience: Patience::default(),
            fresh: true,
            cutter: None,
        });
        let writer = (mode != OFlags::RDONLY).then(|| Writer(wire));
        Self { reader, writer, program: None, two_way, cutter: cutter.clone() }
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

    /// The same, sealed, once each side has seen who the other is. `words` says what an error means.
    pub(crate) fn seal(
        self,
        connection: Connection,
        deadline: Option<Instant>,
        words: impl Fn(rustls::Error) -> Failure,
    ) -> Result<Self, Failure> {
        let Self { reader, writer, program, two_way, cutter } = self;
        drop(writer);
        let wire = reader.and_then(|reader| Arc::into_inner(reader.wire)).filter(|_| two_way);
        let mut wire = wire.ok_or(Failure::OneWay)?;
        wire.seal(connection, deadline, words)?;
        Ok(Self { program, ..Self::over(wire, OFlags::RDWR, &cutter) })
    }

    /// The name in the certificate that the other side has shown, if it has.
    pub(crate) fn peer_name(&self) -> Option<String> {
        self.reader.as_ref()?.wire.peer_name()
    }

    /// A descriptor that is readable when something has come.
    pub(crate) fn watch(&self) -> io::Result<OwnedFd> {
        let reader = self.reader.as_ref().ok_or_else(|| io::Error::other("the channel cannot be read"))?;
        reader.wire.watch()
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
    pub fn finish(&mut self) -> io::Result<()> {
        self.writer = None;
        self.reader = None;
        match self.program.take() {
            Some(mut program) => program.finish(&self.cutter),
            None => Ok(()),
        }
    }

    /// How the program has ended that takes or gives nothing more: the reason may be its own. None: there is none, or it
    /// lives on.
    pub(crate) fn ending(&mut self) -> Option<Ending> {
        self.program.as_mut()?.ending(&self.cutter, Some(Instant::now() + END_PATIENCE)).ok()?
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
