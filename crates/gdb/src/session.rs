//! One client, from its connection to its end.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};

use engine::{DebugError, DebugStatus, Debugger, Engine, ManageError, Resume};
use runstate::{ManagementRequest, ShutdownCause};
use vmcore::{HsmState, Point, Register, Space, Vcpu};

use crate::command::{Command, Document, Thread, Unread, parse, thread_id};
use crate::inbox::{Inbox, News};
use crate::packet::{Incoming, PACKET_SIZE, Reader, frame};
use crate::server::MonitorLine;
use crate::{hex, resume, stop, target};

/// Most points at a time.
const MOST_POINTS: usize = 1024;

/// How often a machine that somebody keeps starting is stopped for one request.
const ATTEMPTS: usize = 3;

/// Malformed, or not possible now.
const EINVAL: &str = "E16";
/// Memory that is not there.
const EFAULT: &str = "E0e";
/// Too many points.
const ENOSPC: &str = "E1c";

/// The connection's end: what is done about the debugger.
enum End {
    /// gdb said goodbye.
    Detached,
    /// It did not, or the machine has ended.
    Gone,
}

/// What follows a packet.
enum Answer {
    Reply(String),
    /// It has been given.
    None,
    /// The machine goes on: the answer is the next stop.
    Later,
    End(End),
}

/// See the module's documentation.
pub(crate) struct Session<'a, W> {
    engine: &'a Engine,
    debugger: Debugger,
    inbox: &'a Inbox,
    output: W,
    monitor: &'a MonitorLine,
    acknowledges: bool,
    last: Vec<u8>,
    points: BTreeSet<Point>,
    space: Space,
    harts: u32,
    /// The hart that registers and memory are those of.
    current: u32,
    /// The hart that `s` without a thread steps.
    resumed: Option<u32>,
    /// gdb has let the machine go on and hears of its next stop.
    waiting: bool,
}

impl<'a, W: Write> Session<'a, W> {
    pub(crate) fn new(
        engine: &'a Engine,
        debugger: Debugger,
        inbox: &'a Inbox,
        output: W,
        monitor: &'a MonitorLine,
    ) -> Self {
        Self {
            engine,
            debugger,
            inbox,
            output,
            monitor,
            acknowledges: true,
            last: Vec::new(),
            points: BTreeSet::new(),
            space: Space::Virtual,
            harts: u32::try_from(engine.harts().len()).unwrap_or(u32::MAX),
            current: 0,
            resumed: None,
            waiting: false,
        }
    }

    /// Serves the client to its end.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut reader = Reader::default();
        loop {
            match self.inbox.wait() {
                News::Bytes(bytes) => {
                    for incoming in bytes.into_iter().filter_map(|byte| reader.take(byte)) {
                        match self.take(incoming)? {
                            Some(End::Detached) => {
                                // A machine that needs a reset cannot go on; it is detached from all the same.
                                let _ = self.debugger.detach();
                                return Ok(());
                            }
                            Some(End::Gone) => return Ok(()),
                            None => {}
                        }
                    }
                }
                News::Changed => self.look()?,
                News::Closed => return Ok(()),
                News::Ended(status) => {
                    if self.waiting {
                        self.send(&format!("W{:02x}", status & 0xff))?;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, incoming: Incoming) -> io::Result<Option<End>> {
        let body = match incoming {
            Incoming::Interrupt => {
                self.interrupt()?;
                return Ok(None);
            }
            Incoming::Again => {
                self.output.write_all(&self.last)?;
                return Ok(None);
            }
            Incoming::Damaged => {
                if self.acknowledges {
                    self.output.write_all(b"-")?;
                }
                return Ok(None);
            }
            Incoming::Packet(body) => body,
        };
        if self.acknowledges {
            self.output.write_all(b"+")?;
        }
        if self.waiting {
            // gdb does not do this. Whoever does is answered in order: first what is owed.
            self.interrupt()?;
        }
        let answer = match parse(&body) {
            Ok(command) => self.carry_out(command)?,
            Err(Unread::Unknown) => Answer::Reply(String::new()),
            Err(Unread::Malformed) => Answer::Reply(EINVAL.to_owned()),
        };
        match answer {
            Answer::Reply(reply) => self.send(&reply)?,
            Answer::None => {}
            Answer::Later => {
                self.waiting = true;
                self.look()?;
            }
            Answer::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }

    fn carry_out(&mut self, command: Command<'_>) -> io::Result<Answer> {
        let reply = match command {
            Command::GoOn { step, at } => return self.go_on(step, at),
            Command::ContinueActions(actions) => {
                match resume::actions(actions, self.harts, self.resumed.unwrap_or(self.current)) {
                    Some(resume) => return self.resume(resume),
                    None => EINVAL.to_owned(),
                }
            }
            Command::Detach => {
                self.send("OK")?;
                return Ok(Answer::End(End::Detached));
            }
            Command::Kill => {
                self.send("OK")?;
                tracing::warn!("terminated by gdb");
                let _ = self.engine.manage(ManagementRequest::Quit { cause: ShutdownCause::HostUi });
                return Ok(Answer::End(End::Gone));
            }
            Command::NoAcknowledgements => {
                self.send("OK")?;
                self.acknowledges = false;
                return Ok(Answer::None);
            }
            Command::StopReason => self.stop_reason(),
            Command::ReadGeneral => self.read_general(),
            Command::WriteGeneral(values) => self.write_general(values),
            Command::ReadRegister(number) => self.read_register(number),
            Command::WriteRegister(number, value) => self.write_register(number, value),
            Command::ReadMemory { addr, len } => self.read_memory(addr, len),
            Command::WriteMemory { addr, bytes } => self.write_memory(addr, bytes),
            Command::Insert(point) => self.insert(point),
            Command::Remove(point) => self.remove(point),
            Command::Monitor(line) => {
                let printed = (self.monitor)(&String::from_utf8_lossy(&line));
                for part in printed.as_bytes().chunks(PACKET_SIZE / 2 - 1) {
                    self.send(&format!("O{}", hex::text(part)))?;
                }
                "OK".to_owned()
            }
            other => self.answer(other),
        };
        Ok(Answer::Reply(reply))
    }

    /// What can be answered without the machine.
    fn answer(&mut self, command: Command<'_>) -> String {
        let ok = |fine: bool| if fine { "OK".to_owned() } else { EINVAL.to_owned() };
        match command {
            Command::ContinueHelp => "vCont;c;C;s;S".to_owned(),
            Command::SelectThread(thread) => {
                let thread = thread_id(thread, self.harts);
                if let Some(Thread::Hart(hart)) = thread {
                    self.current = hart;
                }
                ok(thread.is_some())
            }
            Command::SelectResumed(thread) => {
                let thread = thread_id(thread, self.harts);
                self.resumed = if let Some(Thread::Hart(hart)) = thread { Some(hart) } else { None };
                ok(thread.is_some())
            }
            Command::IsAlive(thread) => ok(matches!(thread_id(thread, self.harts), Some(Thread::Hart(_)))),
            Command::CurrentThread => format!("QC{:02x}", stop::thread(self.current)),
            Command::FirstThreads => {
                let numbers: Vec<_> =
                    (0..self.harts).map(|hart| format!("{:02x}", stop::thread(hart))).collect();
                if numbers.is_empty() { "l".to_owned() } else { format!("m{}", numbers.join(",")) }
            }
            Command::MoreThreads => "l".to_owned(),
            Command::ThreadInfo(thread) => match thread_id(thread, self.harts) {
                Some(Thread::Hart(hart)) => hex::text(self.describe(hart).as_bytes()),
                _ => EINVAL.to_owned(),
            },
            Command::Supported => format!(
                "PacketSize={PACKET_SIZE:x};QStartNoAckMode+;vContSupported+;qXfer:features:read+;qXfer:threads:read+"
            ),
            Command::Attached => "1".to_owned(),
            Command::Transfer { what, offset, len } => {
                let document = match what {
                    Document::Target => target::description(),
                    Document::Threads => self.threads(),
                };
                part(&document, offset, len)
            }
            Command::MemoryMode => if self.space == Space::Physical { "1" } else { "0" }.to_owned(),
            Command::SetMemoryMode(space) => {
                self.space = space;
                "OK".to_owned()
            }
            _ => String::new(),
        }
    }

    // ---- going on and stopping ----

    fn go_on(&mut self, step: bool, at: Option<u64>) -> io::Result<Answer> {
        let hart = self.resumed.unwrap_or(self.current);
        if let Some(at) = at {
            let moved = self.held(hart, move |vcpu| vcpu.write_register(Register::Pc, at));
            if moved != Ok(true) {
                return Ok(Answer::Reply(EINVAL.to_owned()));
            }
        }
        self.resume(if step { Resume::Step(hart) } else { Resume::All })
    }

    fn resume(&mut self, resume: Resume) -> io::Result<Answer> {
        match self.debugger.resume(resume) {
            Ok(()) => Ok(Answer::Later),
            Err(error) => {
                self.say(&error)?;
                let status = self.debugger.status().ok();
                Ok(Answer::Reply(self.stopped(status)))
            }
        }
    }

    /// Says to the user why something was refused. For a client that waits.
    fn say(&mut self, error: &ManageError) -> io::Result<()> {
        self.send(&format!("O{}", hex::text(format!("{error}\n").as_bytes())))
    }

    /// The interrupt byte. While gdb is not waiting it hears of nothing.
    fn interrupt(&mut self) -> io::Result<()> {
        let interrupted = self.debugger.interrupt();
        if !self.waiting {
            return Ok(());
        }
        if let Err(error) = interrupted {
            return self.say(&error);
        }
        self.report()
    }

    /// The machine's state has changed: a stop is told to whoever waits for it.
    fn look(&mut self) -> io::Result<()> {
        match self.debugger.status() {
            Ok(status) if self.waiting && stop::is_told(&status) => self.report(),
            _ => Ok(()),
        }
    }

    fn report(&mut self) -> io::Result<()> {
        self.waiting = false;
        let status = self.debugger.status().ok();
        let reply = self.stopped(status);
        self.send(&reply)
    }

    /// The stop reply for a machine in this state.
    fn stopped(&mut self, status: Option<DebugStatus>) -> String {
        let Some(status) = status else { return stop::reply(stop::SIGTRAP, self.current, None) };
        let Some(stop) = status.stop else {
            return stop::reply(stop::signal(status.state), self.current, None);
        };
        self.current = stop.hart;
        stop::reply(stop::SIGTRAP, stop.hart, Some(stop.hit))
    }

    /// The answer to `?`: a trap unless something better is known.
    fn stop_reason(&mut self) -> String {
        match self.debugger.status() {
            Ok(status) if status.stop.is_some() => self.stopped(Some(status)),
            _ => stop::reply(stop::SIGTRAP, self.current, None),
        }
    }

    // ---- registers, memory, points ----

    /// Looks at a hart. A machine that somebody else has started is stopped for it: gdb takes it for stopped.
    fn held<T: Send + 'static>(
        &self,
        hart: u32,
        look: impl Fn(&mut dyn Vcpu) -> T + Clone + Send + 'static,
    ) -> Result<T, DebugError> {
        self.stopped_for(|debugger| debugger.hart(hart, look.clone()))
    }

    fn stopped_for<T>(&self, ask: impl Fn(&Debugger) -> Result<T, DebugError>) -> Result<T, DebugError> {
        for _ in 1..ATTEMPTS {
            match ask(&self.debugger) {
                // A refusal shows in the next attempt.
                Err(DebugError::Running) => drop(self.debugger.interrupt()),
                other => return other,
            }
        }
        ask(&self.debugger)
    }

    fn read_general(&self) -> String {
        let read = |vcpu: &mut dyn Vcpu| -> Vec<u64> {
            let registers = (0..target::GENERAL).filter_map(target::register);
            registers.filter_map(|register| vcpu.read_register(register)).collect()
        };
        match self.held(self.current, read) {
            Ok(values) => values.iter().map(|value| hex::text(&value.to_le_bytes())).collect(),
            Err(_) => EINVAL.to_owned(),
        }
    }

    fn write_general(&self, values: Vec<u64>) -> String {
        let written = self.held(self.current, move |vcpu| {
            for (register, value) in (0..target::GENERAL).filter_map(target::register).zip(&values) {
                vcpu.write_register(register, *value);
            }
        });
        done(written.is_ok())
    }

    fn read_register(&self, number: u64) -> String {
        let Some(register) = target::register(number) else { return EINVAL.to_owned() };
        match self.held(self.current, move |vcpu| vcpu.read_register(register)) {
            Ok(Some(value)) => {
                let bytes = value.to_le_bytes();
                hex::text(bytes.get(..target::width(register)).unwrap_or(&bytes))
            }
            _ => EINVAL.to_owned(),
        }
    }

    fn write_register(&self, number: u64, value: u64) -> String {
        let Some(register) = target::register(number) else { return EINVAL.to_owned() };
        done(self.held(self.current, move |vcpu| vcpu.write_register(register, value)) == Ok(true))
    }

    fn read_memory(&self, addr: u64, len: u64) -> String {
        // What does not fit in a reply is not given; gdb asks for the rest.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(PACKET_SIZE / 2);
        let space = self.space;
        let read = self.held(self.current, move |vcpu| {
            let mut bytes = vec![0; len];
            let count = vcpu.read_memory(space, addr, &mut bytes);
            bytes.truncate(count);
            bytes
        });
        match read {
            Ok(bytes) if !bytes.is_empty() || len == 0 => hex::text(&bytes),
            Ok(_) => EFAULT.to_owned(),
            Err(_) => EINVAL.to_owned(),
        }
    }

    fn write_memory(&self, addr: u64, bytes: Vec<u8>) -> String {
        let written =
            self.stopped_for(|debugger| debugger.write_memory(self.current, self.space, addr, bytes.clone()));
        match written {
            Ok(count) if count == bytes.len() => "OK".to_owned(),
            Ok(_) => EFAULT.to_owned(),
            Err(_) => EINVAL.to_owned(),
        }
    }

    fn insert(&mut self, point: Point) -> String {
        if self.points.len() >= MOST_POINTS && !self.points.contains(&point) {
            return ENOSPC.to_owned();
        }
        self.points.insert(point);
        self.set_points()
    }

    fn remove(&mut self, point: Point) -> String {
        self.points.remove(&point);
        self.set_points()
    }

    fn set_points(&self) -> String {
        done(self.debugger.set_points(self.points.iter().copied().collect()).is_ok())
    }

    // ---- threads ----

    fn describe(&self, hart: u32) -> String {
        let state = self.engine.harts().into_iter().find(|info| info.id == hart).map(|info| info.state);
        format!("hart {hart} [{}]", state.map_or("", name))
    }

    fn threads(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\"?><threads>");
        for hart in self.engine.harts() {
            let (thread, state) = (stop::thread(hart.id), name(hart.state));
            // Writing to a String does not fail.
            let _ = write!(xml, "<thread id=\"{thread:x}\" name=\"hart {}\">{state}</thread>", hart.id);
        }
        xml.push_str("</threads>");
        xml
    }

    fn send(&mut self, body: &str) -> io::Result<()> {
        self.last = frame(body);
        self.output.write_all(&self.last)
    }
}

fn done(fine: bool) -> String {
    if fine { "OK".to_owned() } else { EINVAL.to_owned() }
}

/// HSM states in words.
fn name(state: HsmState) -> &'static str {
    match state {
        HsmState::Started => "started",
        HsmState::Stopped => "stopped",
        HsmState::Suspended => "suspended",
    }
}

/// `len` bytes of an ASCII document from `offset` on, with the letter that says whether more follows.
fn part(document: &str, offset: u64, len: u64) -> String {
    let at = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).min(document.len());
    let start = at(offset);
    let end = at(offset.saturating_add(len.min(PACKET_SIZE as u64 / 2)));
    let more = if end < document.len() { 'm' } else { 'l' };
    format!("{more}{}", document.get(start..end).unwrap_or_default())
}
