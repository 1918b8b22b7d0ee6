//! A QMP client that costs next to nothing, so that what is measured is the server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A connection; lines are split here and not parsed.
pub struct Qmp {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that belong to lines already given out.
    used: usize,
}

impl Qmp {
    /// Connects as soon as the socket listens, and reads the greeting.
    pub fn connect(path: &Path, patience: Duration) -> Result<Qmp> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > patience => {
                    return Err(error).with_context(|| format!("no monitor at {}", path.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_micros(50)),
            }
        };
        stream.set_read_timeout(Some(patience)).context("cannot set a time limit")?;
        let mut qmp = Qmp { stream, buffer: Vec::with_capacity(1 << 20), used: 0 };
        let greeting = qmp.line()?;
        if !has(&greeting, "\"QMP\"") {
            bail!("not a QMP greeting: {}", String::from_utf8_lossy(&greeting));
        }
        Ok(qmp)
    }

    /// Leaves negotiation.
    pub fn negotiate(&mut self) -> Result<()> {
        self.call("qmp_capabilities")
    }

    /// The next line that the server sends.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        let mut looked = self.used;
        loop {
            if let Some(length) = self.buffer.iter().skip(looked).position(|&byte| byte == b'\n') {
                let end = looked + length;
                let line = self.buffer.get(self.used..end).unwrap_or_default().to_vec();
                self.used = end + 1;
                return Ok(line);
            }
            looked = self.buffer.len();
            if self.used == self.buffer.len() {
                self.buffer.clear();
                (self.used, looked) = (0, 0);
            }
            let mut piece = [0; 65536];
            let n = self.stream.read(&mut piece).context("cannot read from the monitor")?;
            if n == 0 {
                bail!("the monitor closed the connection");
            }
            self.buffer.extend_from_slice(piece.get(..n).unwrap_or_default());
        }
    }

    /// Executes a command without arguments and waits for its reply; events in between are skipped.
    pub fn call(&mut self, command: &str) -> Result<()> {
        self.send(&format!("{{\"execute\":\"{command}\"}}"))?;
        self.reply()
    }

    /// Sends text as it is.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes()).context("cannot write to the monitor")
    }

    /// Waits for the next reply; an error is an error.
    pub fn reply(&mut self) -> Result<()> {
        self.answer().map(drop)
    }

    /// The next reply itself; an error is an error.
    pub fn answer(&mut self) -> Result<Vec<u8>> {
        loop {
            let line = self.line()?;
            if Qmp::is_reply(&line)? {
                return Ok(line);
            }
        }
    }

    /// Executes a command that must be refused.
    pub fn refused(&mut self, command: &str) -> Result<()> {
        self.send(&format!("{{\"execute\":\"{command}\"}}"))?;
        loop {
            let line = self.line()?;
            if has(&line, "\"error\"") {
                return Ok(());
            }
            if has(&line, "\"return\"") {
                bail!("{command} was not refused");
            }
        }
    }

    /// Whether a line is a reply; an error is an error.
    pub fn is_reply(line: &[u8]) -> Result<bool> {
        // The schema is looked at from its beginning only.
        if has(line.get(..64).unwrap_or(line), "\"return\"") {
            return Ok(true);
        }
        if has(line, "\"error\"") {
            bail!("{}", String::from_utf8_lossy(line));
        }
        Ok(false)
    }

    /// Whether a whole line has been read already.
    pub fn has_line(&self) -> bool {
        self.buffer.iter().skip(self.used).any(|&byte| byte == b'\n')
    }

    /// What to poll.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Whether a line is the event of this name.
pub fn is_event(line: &[u8], name: &str) -> bool {
    has(line, "\"event\"") && has(line, &format!("\"{name}\""))
}

fn has(line: &[u8], text: &str) -> bool {
    line.windows(text.len()).any(|part| part == text.as_bytes())
}
