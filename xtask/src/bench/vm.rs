//! A virtual machine under measurement: its process, its console, its monitor.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::qmp::Qmp;

/// A program that takes QEMU's command line.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What its figures are printed under.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
}

/// How long anything that a machine is waited for may take.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running machine; killed when dropped.
pub struct Vm {
    child: Child,
    console: ChildStdin,
    /// Console output, piece by piece as a thread of its own reads it.
    output: Receiver<(Instant, Vec<u8>)>,
    /// Console output that was read and not yet looked at.
    seen: Vec<u8>,
    monitor: PathBuf,
    started: Instant,
}

impl Vm {
    /// Starts a `virt` machine with its console on pipes and a QMP monitor on a fresh socket.
    pub fn start(peer: &Peer, folder: &Path, extra: &[&str]) -> Result<Vm> {
        let monitor = folder.join("qmp.sock");
        // A socket that an earlier machine left behind would be connected to, in vain.
        let _ = std::fs::remove_file(&monitor);
        let mut command = Command::new(&peer.program);
        command
            .args(["-machine", "virt", "-nodefaults", "-display", "none", "-serial", "stdio", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", peer.program.display()))?;
        let (console, mut out) =
            child.stdin.take().zip(child.stdout.take()).context("the child has no pipes")?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                let piece = buffer.get(..n).unwrap_or_default().to_vec();
                if sender.send((Instant::now(), piece)).is_err() {
                    break;
                }
            }
        });
        Ok(Vm { child, console, output, seen: Vec::new(), monitor, started })
    }

    /// When the process was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Types on the console.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.console.write_all(text.as_bytes()).context("cannot write to the console")
    }

    /// Waits for a text on the console and gives what came up to its end.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|part| part == text.as_bytes()) {
                let rest = self.seen.split_off(at + text.len());
                let taken = std::mem::replace(&mut self.seen, rest);
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok((_, piece)) => self.seen.extend(piece),
                Err(_) => bail!("{text:?} did not come; last: {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Waits for output that has not been looked at, and gives the moment when it came.
    pub fn next_output(&mut self) -> Result<Instant> {
        let (when, piece) = self.output.recv_timeout(PATIENCE).context("the console stays silent")?;
        self.seen.extend(piece);
        Ok(when)
    }

    /// When the last output came that has not been looked at.
    pub fn last_output(&mut self) -> Option<Instant> {
        let mut last = None;
        while let Ok((when, piece)) = self.output.try_recv() {
            self.seen.extend(piece);
            last = Some(when);
        }
        last
    }

    /// Connects to the monitor, waiting until it listens, and reads the greeting.
    pub fn connect(&self) -> Result<Qmp> {
        Qmp::connect(&self.monitor, PATIENCE)
    }

    /// CPU time of all threads that are alive, user and system, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let folder = format!("/proc/{}/task", self.child.id());
        let mut ns = 0u64;
        for task in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            ns += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(ns as f64 / 1e9)
    }

    /// A number that `/proc/PID/status` has; memory is in KiB.
    pub fn status(&self, key: &str) -> Result<f64> {
        self.number("status", key)
    }

    /// A number that `/proc/PID/smaps_rollup` has, in KiB.
    pub fn memory(&self, key: &str) -> Result<f64> {
        self.number("smaps_rollup", key)
    }

    fn number(&self, file: &str, key: &str) -> Result<f64> {
        let file = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("{file} has no {key}"))
    }

    /// How many descriptors are open.
    pub fn descriptors(&self) -> Result<f64> {
        let folder = format!("/proc/{}/fd", self.child.id());
        let files = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
        Ok(files.count() as f64)
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait for the machine")?;
        if !status.success() {
            bail!("the machine ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and the status is there to be taken.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
