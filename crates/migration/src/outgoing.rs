//! The machine goes away: memory while it runs, then the rest of it while it stands, then the word that makes it the other
//! side's.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine::{Engine, JobControl, JobWork, ManageError, Status};
use ram::{Ram, RamError};
use runstate::{Hold, Job, MigrationRequest, MigrationStatus, Owner, Refusal};
use stream::{Control, FileId, Header, Item, ReadError, Summary, WriteError};

use crate::brake::Brake;
use crate::capabilities::Capability;
use crate::channel::{Channel, Cutter, Patience, Reader};
use crate::open::{OpenError, Opened, Target, reason};
use crate::parameters::{Compression, Number, Parameters};
use crate::rounds::{Pace, Rounds};
use crate::statistics::Progress;
use crate::{MigrationError, Shared, Underway, form};

/// How often a migration that waits to go on looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(20);

/// How long the word of the other side is waited for that it has taken over. It has nothing more to do.
const DONE_PATIENCE: Duration = Duration::from_secs(30);

/// How long its reason is waited for when it does not take what is sent.
const REASON_PATIENCE: Duration = Duration::from_secs(1);

/// What is said of the outcome when nobody knows it.
const UNKNOWN: &str =
    "whether the destination runs the machine is unknown: it did not answer the word to run";

/// What is said when its last bytes did not get through to who does not answer.
const UNFINISHED: &str =
    "what was written of the machine may not be complete, it stands here until it is continued";

/// Shortest round: more often than that nobody wants to be told of passes.
const ROUND: Duration = Duration::from_millis(10);

/// What goes in this time is not worth a pass of its own.
const NOTHING: Duration = Duration::from_micros(200);

/// Where a migration waits for `migrate-continue`.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets it go on.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits until it may go on. False: it was cancelled.
    fn wait(&self, cutter: &Cutter) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            if cutter.is_cut() {
                return false;
            }
            open = self.opened.wait_timeout(open, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// What refuses `migrate`, by what is published: asked before anything is opened, in QEMU's order.
pub(crate) fn may_begin(status: &Status) -> Result<(), MigrationError> {
    let refusal = match status.job {
        Some(Job::Dump { .. }) => Refusal::MigrationBlockedByDump,
        Some(Job::Incoming { .. }) => Refusal::IncomingPending,
        Some(_) => Refusal::MigrationInProgress,
        None if status.holds.iter().any(|hold: &Hold| hold.owner == Owner::Moved) => Refusal::AlreadyMigrated,
        None => return Ok(()),
    };
    Err(refusal.into())
}

/// Why a machine did not go, or why nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the destination's answer: {0}")]
    Read(#[from] ReadError),
    /// In the destination's words.
    #[error("{0}")]
    Refused(String),
    #[error("the destination answers with {0}, which does not belong here")]
    Misplaced(&'static str),
    #[error(transparent)]
    Step(#[from] ManageError),
    #[error(transparent)]
    Memory(#[from] RamError),
    #[error(transparent)]
    Chunk(#[from] ram::OpenError),
    #[error(transparent)]
    Log(#[from] ram::LogsInUse),
    #[error("this machine has no memory")]
    NoMemory,
    #[error("the host has lost a page of guest memory")]
    HostMemory,
    #[error("the machine has ended")]
    Ended,
    #[error("a disk cannot be flushed: {0}")]
    Flush(Arc<str>),
    #[error("Mapped-ram migration needs a file, file:PATH")]
    NotMappable,
    #[error("Mapped-ram migration writes a file from its beginning, not from an offset")]
    MappedOffset,
    #[error("the migration was cancelled")]
    Cancelled,
}

/// The job.
pub(crate) fn work(shared: &Arc<Shared>, underway: &Underway, target: Target) -> JobWork {
    let shared = Arc::clone(shared);
    let Underway { progress, cutter, gate } = underway.clone();
    let work = move |control: &JobControl| {
        let hook = cutter.clone();
        control.on_cancel(move || hook.cut());
        let mut outgoing =
            Outgoing { shared, progress, cutter, gate, control, committed: false, one_way: false };
        let done = outgoing.run(target);
        outgoing.end(done)
    };
    JobWork::new(work, MigrationRequest::OutgoingFailed)
}

/// One migration as its job sees it.
struct Outgoing<'a> {
    shared: Arc<Shared>,
    progress: Arc<Progress>,
    cutter: Cutter,
    gate: Arc<Gate>,
    control: &'a JobControl,
    committed: bool,
    /// Nobody answers.
    one_way: bool,
}

impl Outgoing<'_> {
    fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    fn number(&self, number: Number) -> u64 {
        self.shared.settings().parameters.number(number)
    }

    fn has(&self, capability: Capability) -> bool {
        self.shared.settings().capabilities.has(capability)
    }

    fn run(&mut self, target: Target) -> Result<(), OutgoingError> {
        let compresses = target.compresses();
        let ram = self.engine().ram().ok_or(OutgoingError::NoMemory)?;
        let mut header = Header::new(FileId::random()?, ram.size());
        header.created_ms = since_1970_ms();
        header.program = concat!("dormouse ", env!("CARGO_PKG_VERSION")).to_owned();
        let channel = match target.open(&self.cutter)? {
            Opened::File { file, offset } if self.has(Capability::MappedRam) => {
                if offset != 0 {
                    return Err(OutgoingError::MappedOffset);
                }
                file.set_len(0)?;
                let mut rounds = Rounds::mapped(Arc::clone(&ram), file, header, Arc::clone(&self.progress))?;
                self.send(&ram, &mut rounds, None)?;
                return self.commit(rounds, None, None);
            }
            _ if self.has(Capability::MappedRam) => return Err(OutgoingError::NotMappable),
            Opened::File { file, offset } => Channel::to_file(file, offset, &self.cutter)?,
            Opened::Channel(channel) => channel,
        };
        let chosen = self.shared.settings().parameters.compression();
        let packed = chosen.map_or(compresses, |chosen| chosen == Compression::Zstd);
        header.compression = if packed { stream::Compression::Zstd } else { stream::Compression::None };
        self.through(&ram, channel, header)
    }

    fn through(
        &mut self,
        ram: &Arc<Ram>,
        mut channel: Channel,
        mut header: Header,
    ) -> Result<(), OutgoingError> {
        header.two_way = channel.is_two_way();
        let reader = if header.two_way { Some(channel.take_reader()?) } else { None };
        let writer = channel.take_writer()?;
        let mut rounds = Rounds::new(Arc::clone(ram), writer, &header, Arc::clone(&self.progress))?;
        let mut peer = reader.map(Peer::new);
        let sent = self.send(ram, &mut rounds, peer.as_mut());
        if let (Err(OutgoingError::Write(WriteError::Io(_))), Some(peer)) = (&sent, &mut peer) {
            // It has hung up: perhaps it has said why.
            if let Some(text) = peer.reason() {
                return Err(OutgoingError::Refused(text));
            }
        }
        sent?;
        self.commit(rounds, peer, Some(channel))
    }

    /// Everything but the life: when it is over the machine stands, and the other side has all of it and is content.
    fn send(
        &mut self,
        ram: &Arc<Ram>,
        rounds: &mut Rounds,
        mut peer: Option<&mut Peer>,
    ) -> Result<(), OutgoingError> {
        if let Some(peer) = &mut peer {
            let board = form::encode_board(&self.engine().board());
            rounds.control(&Control::Hello { board, features: Vec::new() })?;
            peer.expect("Accepted", |control| matches!(control, Control::Accepted { .. }))?;
        }
        rounds.summary(self.summary())?;
        self.progress.set_up(Instant::now());
        let engine = self.engine().clone();
        let drop_writes = || engine.drop_write_tags();
        let lost = ram.host_errors();
        let log = ram.start_log(drop_writes)?;
        self.control.ask(MigrationRequest::Pass(1))?;
        self.control.ask(MigrationRequest::Announce(MigrationStatus::Active))?;
        self.progress.dirty_sync_count.set(1);

        let shared = Arc::clone(&self.shared);
        let most = || shared.settings().parameters.number(Number::MaxBandwidth);
        let cutter = self.cutter.clone();
        let pace = Pace { most: &most, cutter: &cutter };
        let mut brake = Brake::default();
        let mut begin = Instant::now();
        rounds.all(&pace)?;
        let mut pass = 1;
        let mut before = 0;
        let mut last = usize::MAX;
        loop {
            let pages = rounds.look(&log, drop_writes, begin.elapsed());
            let left = rounds
                .time_for(pages.len() as u64 * ram::PAGE_SIZE, self.number(Number::AvailSwitchoverBandwidth));
            let fits = left <= Duration::from_millis(self.number(Number::DowntimeLimit));
            // What fits already goes before the stop all the same, while each pass leaves less than half of the last.
            let shrinks = pages.len() < std::mem::replace(&mut last, pages.len()) / 2;
            if fits && (left < NOTHING || !shrinks) {
                log.put_back(&pages);
                break;
            }
            let all = rounds.bytes();
            if !fits && self.has(Capability::AutoConverge) {
                let percent =
                    brake.look(&self.parameters(), pages.len() as u64 * ram::PAGE_SIZE, all - before);
                self.slow_down(&mut brake, percent)?;
            }
            before = all;
            pass += 1;
            if !fits {
                self.cutter.sleep(ROUND.saturating_sub(begin.elapsed()))?;
            }
            self.begin_pass(pass)?;
            begin = Instant::now();
            rounds.pages(&pages, Some(&pace))?;
        }
        self.progress.precopy_bytes.set(rounds.bytes());
        self.stop()?;
        drop(brake);
        self.control.ask(MigrationRequest::Seal)?;
        self.control.ask(MigrationRequest::Announce(MigrationStatus::Device))?;
        self.begin_pass(pass + 1)?;
        // Nothing runs any more: no store is under way, and none comes.
        let pages = rounds.look(&log, || {}, begin.elapsed());
        rounds.pages(&pages, None)?;
        drop(log);
        if ram.host_errors() != lost {
            return Err(OutgoingError::HostMemory);
        }
        let state = self.engine().save_state().ok_or(OutgoingError::Ended)?;
        for section in state.sections {
            rounds.section(form::to_form(section))?;
        }
        match &mut peer {
            Some(peer) => {
                rounds.control(&Control::Ready)?;
                peer.expect("Ready", |control| *control == Control::Ready)?;
            }
            None => rounds.flush()?,
        }
        Ok(())
    }

    fn parameters(&self) -> Parameters {
        self.shared.settings().parameters.clone()
    }

    /// The guest runs for less of the time from now on.
    fn slow_down(&self, brake: &mut Brake, percent: u64) -> Result<(), OutgoingError> {
        if percent == 0 {
            return Ok(());
        }
        let throttle = match &brake.throttle {
            Some(throttle) => throttle,
            None => brake.throttle.insert(self.engine().throttle()?),
        };
        throttle.set(percent as u32);
        self.progress.throttle.set(percent);
        Ok(())
    }

    fn begin_pass(&self, pass: u32) -> Result<(), OutgoingError> {
        self.progress.dirty_sync_count.set(pass.into());
        Ok(self.control.ask(MigrationRequest::Pass(pass))?)
    }

    /// The machine stands from here on.
    fn stop(&self) -> Result<(), OutgoingError> {
        self.progress.stopped(Instant::now());
        self.control.ask(MigrationRequest::SwitchOver)?;
        if let Some(error) = &self.engine().status().flush_error {
            return Err(OutgoingError::Flush(Arc::clone(&error.what)));
        }
        if self.has(Capability::PauseBeforeSwitchover) {
            self.control.ask(MigrationRequest::Announce(MigrationStatus::PreSwitchover))?;
            if !self.gate.wait(&self.cutter) {
                return Err(OutgoingError::Cancelled);
            }
        }
        Ok(())
    }

    /// From here on the machine is the other side's, unless the word does not reach it.
    fn commit(
        &mut self,
        mut rounds: Rounds,
        peer: Option<Peer>,
        channel: Option<Channel>,
    ) -> Result<(), OutgoingError> {
        let saved = self.control.commit(false)?;
        self.committed = true;
        rounds.section(form::save_life(&saved))?;
        match peer {
            Some(mut peer) => {
                rounds.control(&Control::Commit { postcopy: false })?;
                peer.patience.set(Some(Instant::now() + DONE_PATIENCE));
                peer.expect("Done", |control| *control == Control::Done)?;
                rounds.count();
            }
            None => {
                self.one_way = true;
                rounds.count();
                rounds.end()?;
                if let Some(channel) = channel {
                    channel.finish()?;
                }
            }
        }
        let progress = &self.progress;
        progress.restarted(Instant::now());
        progress.downtime_bytes.set(progress.transferred.get().saturating_sub(progress.precopy_bytes.get()));
        progress.remaining.set(0);
        progress.throttle.set(0);
        Ok(())
    }

    /// The last step.
    fn end(&self, done: Result<(), OutgoingError>) -> MigrationRequest {
        self.progress.ended(Instant::now());
        let Err(error) = done else { return MigrationRequest::OutgoingDone };
        if !self.committed && self.control.is_cancelled() {
            return MigrationRequest::OutgoingFailed;
        }
        let text = match (self.committed, self.one_way) {
            (false, _) => error.to_string(),
            (true, false) => format!("{UNKNOWN} ({error})"),
            (true, true) => format!("{UNFINISHED} ({error})"),
        };
        tracing::warn!(error = text, "a migration has failed");
        self.progress.fail(&text);
        self.control.fail(&text);
        if self.committed { MigrationRequest::LinkLost } else { MigrationRequest::OutgoingFailed }
    }

    fn summary(&self) -> Summary {
        let status = self.engine().status();
        Summary {
            state: status.state.as_str().to_owned(),
            power: engine::power_name(&status.power).to_owned(),
            guest_ns: self.engine().guest_clock().now_ns(),
        }
    }
}

fn since_1970_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The other side, as far as it answers.
struct Peer {
    /// Its stream, whose beginning comes with its first word.
    reader: Option<stream::Reader<Reader>>,
    raw: Option<Reader>,
    patience: Patience,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl Peer {
    fn new(reader: Reader) -> Self {
        let patience = reader.patience();
        Self { reader: None, raw: Some(reader), patience }
    }

    fn word(&mut self) -> Result<Control, OutgoingError> {
        if let Some(raw) = self.raw.take() {
            self.reader = Some(stream::Reader::new(raw, &form::limits(stream::MAX_MEMORY))?);
        }
        let reader = self.reader.as_mut().ok_or(OutgoingError::Misplaced("nothing"))?;
        match reader.read()? {
            Item::Control(control) => Ok(control),
            _ => Err(OutgoingError::Misplaced("no word of the handshake")),
        }
    }

    /// Waits for a word.
    fn expect(&mut self, what: &'static str, is: impl Fn(&Control) -> bool) -> Result<(), OutgoingError> {
        match self.word()? {
            Control::Refused { text } => Err(OutgoingError::Refused(text)),
            control if is(&control) => Ok(()),
            _ => Err(OutgoingError::Misplaced(match what {
                "Done" => "another word than that it is done",
                "Ready" => "another word than that it is ready",
                _ => "another word than that it accepts",
            })),
        }
    }

    /// Why it has hung up, if it says so.
    fn reason(&mut self) -> Option<String> {
        self.patience.set(Some(Instant::now() + REASON_PATIENCE));
        match self.word() {
            Ok(Control::Refused { text }) => Some(text),
            _ => None,
        }
    }
}
