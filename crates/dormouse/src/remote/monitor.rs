//! The other process's monitor, as far as these uses need QMP.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use sys::signals::{SignalFd, TERMINATION};

use super::RemoteError;

/// How long a monitor may be silent when it is asked something.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest line that is taken.
const LONGEST: usize = 16 << 20;

/// Where a monitor is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(String),
}

impl Place {
    pub(crate) fn parse(text: &str) -> Self {
        match (text.strip_prefix("tcp:"), text.strip_prefix("unix:")) {
            (Some(address), _) => Self::Tcp(address.to_owned()),
            (None, path) => Self::Unix(path.unwrap_or(text).into()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "'{}'", path.display()),
            Self::Tcp(address) => write!(f, "'{address}'"),
        }
    }
}

trait Stream: Read + Write + AsFd {}
impl<T: Read + Write + AsFd> Stream for T {}

/// What came first.
enum Heard {
    /// Something of the monitor.
    Message(Value),
    /// An interrupt.
    Interrupt,
    /// Nothing, until then.
    Nothing,
}

/// A monitor that commands can be given to.
pub(crate) struct Monitor {
    stream: Box<dyn Stream>,
    signals: SignalFd,
    bytes: VecDeque<u8>,
    /// How many of them are known to have no end of a line.
    searched: usize,
    /// Interrupts that nobody has asked after yet.
    interrupts: u32,
}

impl Monitor {
    /// Connects, and negotiates.
    pub(crate) fn connect(place: &Place) -> Result<Self, RemoteError> {
        let signals = SignalFd::new(&TERMINATION).map_err(RemoteError::Signals)?;
        let unreachable = |source| RemoteError::Unreachable { place: place.to_string(), source };
        let stream: Box<dyn Stream> = match place {
            Place::Unix(path) => Box::new(UnixStream::connect(path).map_err(unreachable)?),
            Place::Tcp(address) => Box::new(TcpStream::connect(address).map_err(unreachable)?),
        };
        let mut monitor = Self { stream, signals, bytes: VecDeque::new(), searched: 0, interrupts: 0 };
        let greeting = monitor.message(Instant::now() + PATIENCE)?;
        if greeting.get("QMP").is_none() {
            return Err(RemoteError::NoMonitor(greeting.to_string()));
        }
        monitor.ask("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Gives a command, and its answer. Events that come before it are of no interest here.
    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, RemoteError> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.stream.write_all(line.as_bytes()).map_err(RemoteError::Gone)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let mut message = self.message(until)?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("an error without a text");
                return Err(RemoteError::Refused(text.to_owned()));
            }
        }
    }

    /// Waits for some time, or until something happens: an event, or an interrupt.
    pub(crate) fn pause(&mut self, time: Duration) -> Result<(), RemoteError> {
        if self.interrupts > 0 {
            return Ok(());
        }
        match self.hear(Instant::now() + time)? {
            Heard::Interrupt => self.interrupts += 1,
            Heard::Message(_) | Heard::Nothing => {}
        }
        Ok(())
    }

    /// Whether there was an interrupt since this was last asked.
    pub(crate) fn interrupted(&mut self) -> bool {
        let any = self.interrupts > 0;
        self.interrupts = 0;
        any
    }

    fn message(&mut self, until: Instant) -> Result<Value, RemoteError> {
        loop {
            match self.hear(until)? {
                Heard::Message(message) => return Ok(message),
                Heard::Interrupt if self.interrupts > 0 => return Err(RemoteError::Left),
                Heard::Interrupt => self.interrupts += 1,
                Heard::Nothing => return Err(RemoteError::Silent),
            }
        }
    }

    fn hear(&mut self, until: Instant) -> Result<Heard, RemoteError> {
        loop {
            if let Some(message) = self.line()? {
                return Ok(Heard::Message(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds =
                [PollFd::new(&self.stream, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            let ready = match poll(&mut fds, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready.map_err(|error| RemoteError::Gone(error.into()))?,
            };
            if ready == 0 {
                return Ok(Heard::Nothing);
            }
            if !fds[1].revents().is_empty() {
                self.signals.read().map_err(RemoteError::Signals)?;
                return Ok(Heard::Interrupt);
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).map_err(RemoteError::Gone)?;
            if count == 0 {
                return Err(RemoteError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            self.bytes.extend(buffer.iter().take(count));
        }
    }

    /// The next whole line of what has come.
    fn line(&mut self) -> Result<Option<Value>, RemoteError> {
        let Some(end) = self.bytes.iter().skip(self.searched).position(|&byte| byte == b'\n') else {
            self.searched = self.bytes.len();
            if self.searched > LONGEST {
                return Err(RemoteError::NoMonitor("a line without an end".to_owned()));
            }
            return Ok(None);
        };
        let end = self.searched + end;
        self.searched = 0;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| RemoteError::NoMonitor(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }
}
