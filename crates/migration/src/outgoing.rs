//! The machine goes away: memory while it runs, then the rest of it while it stands, then the word that makes it the other
//! side's.

mod error;
mod way;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::{Engine, JobControl, JobWork, Status};
use ram::{PageSet, Ram};
use runstate::{Hold, IncomingStage, Job, MigrationRequest, MigrationStatus, Owner, Refusal};
use stream::{Control, Header, Summary};

use crate::brake::Brake;
use crate::capabilities::Capability;
use crate::channel::{Channel, Cutter};
use crate::multifd;
use crate::open::Target;
use crate::parameters::{Number, Parameters};
use crate::peer::Peer;
use crate::postcopy::{self, Chunks, Leaving, Line, Link};
use crate::rounds::{Pace, Rounds};
use crate::statistics::Progress;
use crate::{MigrationError, Shared, Underway, form};
pub(crate) use error::OutgoingError;
pub(crate) use way::{Way, level};

/// How often a migration that waits to go on looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(20);

/// How long the word of the other side is waited for that it has taken over. It has nothing more to do.
const DONE_PATIENCE: Duration = Duration::from_secs(30);

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
        Some(Job::Incoming { stage: IncomingStage::Postcopy }) => Refusal::MigrationInProgress,
        Some(Job::Incoming { .. }) => Refusal::IncomingPending,
        Some(_) => Refusal::MigrationInProgress,
        None if status.holds.iter().any(|hold: &Hold| hold.owner == Owner::Moved) => Refusal::AlreadyMigrated,
        None => return Ok(()),
    };
    Err(refusal.into())
}

/// The job.
pub(crate) fn work(shared: &Arc<Shared>, underway: &Underway, target: Target) -> JobWork {
    let shared = Arc::clone(shared);
    let Underway { progress, cutter, gate, line } = underway.clone();
    let work = move |control: &JobControl| {
        let hook = (cutter.clone(), Arc::clone(&line));
        control.on_cancel(move || {
            if !hook.1.is_pledged() {
                hook.0.cut();
            }
            hook.1.cancel();
        });
        let committed = Committed::Not;
        let mut outgoing = Outgoing { shared, progress, cutter, gate, line, control, committed };
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
    line: Arc<Line>,
    control: &'a JobControl,
    committed: Committed,
}

/// Whether the machine is still this side's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Committed {
    /// It is.
    Not,
    /// It is not.
    TwoWay,
    /// It is not, and nobody answers.
    OneWay,
    /// It is not, but some of its memory is here.
    Postcopy,
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
        let again = target.again();
        let ram = self.engine().ram().ok_or(OutgoingError::NoMemory)?;
        match Way::open(&self.shared, target, &ram, &self.progress, &self.cutter)? {
            Way::Mapped(mut rounds) => {
                self.send(&ram, &mut rounds, None)?;
                self.commit(rounds, None)
            }
            Way::Streamed(mut channel, header) => {
                let done = self.through(&ram, &mut channel, header, again);
                done.map_err(|error| error.with_ending(&mut channel))
            }
        }
    }

    fn through(
        &mut self,
        ram: &Arc<Ram>,
        channel: &mut Channel,
        mut header: Header,
        again: Option<Target>,
    ) -> Result<(), OutgoingError> {
        header.two_way = channel.is_two_way();
        if self.has(Capability::PostcopyRam) && !header.two_way {
            return Err(OutgoingError::NoReturnPath);
        }
        let reader = if header.two_way { Some(channel.take_reader()?) } else { None };
        let writer = channel.take_writer()?;
        let (progress, level) = (Arc::clone(&self.progress), level(&self.shared));
        let mut rounds = Rounds::new(Arc::clone(ram), writer, &header, progress, level)?;
        let mut peer = reader.map(Peer::new);
        let sent = match &mut peer {
            Some(peer) => self.meet(ram, &header, &mut rounds, peer, again),
            None => Ok(()),
        };
        let sent = sent.and_then(|()| self.send(ram, &mut rounds, peer.as_mut()));
        if let (Err(error), Some(peer)) = (&sent, &mut peer)
            && error.is_hang_up()
            // Perhaps it has said why.
            && let Some(why) = peer.reason()
        {
            return Err(why);
        }
        match (sent?, peer) {
            (None, Some(peer)) => self.commit_to(rounds, peer),
            (Some(absent), Some(peer)) => self.leave(ram, header, absent, rounds, peer),
            (_, None) => self.commit(rounds, Some(channel)),
        }
    }

    /// Everything but the life: when it is over the machine stands, and the other side has all of it and is content; or all
    /// but these chunks, which go when it runs there.
    fn send(
        &mut self,
        ram: &Arc<Ram>,
        rounds: &mut Rounds,
        mut peer: Option<&mut Peer>,
    ) -> Result<Option<Chunks>, OutgoingError> {
        rounds.summary(self.summary())?;
        self.progress.set_up(Instant::now());
        // Until it is known better, as in QEMU.
        self.progress.expected_downtime.set(self.number(Number::DowntimeLimit));
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
        let line = Arc::clone(&self.line);
        let postcopy = peer.is_some() && self.has(Capability::PostcopyRam);
        let goes_on_there = || postcopy && line.is_wanted();
        let pace = Pace { most: &most, cutter: &cutter, enough: &goes_on_there };
        let mut brake = Brake::default();
        let mut begin = Instant::now();
        let unsent = rounds.all(&pace)?;
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
            if goes_on_there() || fits && (left < NOTHING || !shrinks) {
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
            if !rounds.pages(&pages, Some(&pace))? {
                log.put_back(&pages);
            }
        }
        let postcopy = goes_on_there();
        self.progress.precopy_bytes.set(rounds.bytes());
        self.stop()?;
        drop(brake);
        self.control.ask(MigrationRequest::Seal)?;
        self.control.ask(MigrationRequest::Announce(MigrationStatus::Device))?;
        // Nothing runs any more: no store is under way, and none comes.
        let pages = rounds.look(&log, || {}, begin.elapsed());
        let absent = postcopy.then(|| self.absent(ram, &pages, unsent)).filter(|absent| !absent.is_empty());
        match &absent {
            Some(absent) => absent
                .said(|first, bits| Control::Absent { first, bits })
                .try_for_each(|control| rounds.control(&control))?,
            None => {
                self.begin_pass(pass + 1)?;
                rounds.pages(&pages, None)?;
                rounds.end_lanes()?;
            }
        }
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
        Ok(absent)
    }

    /// HELLO, and further channels if they are wanted.
    fn meet(
        &self,
        ram: &Arc<Ram>,
        header: &Header,
        rounds: &mut Rounds,
        peer: &mut Peer,
        again: Option<Target>,
    ) -> Result<(), OutgoingError> {
        let channels = self.has(Capability::Multifd).then(|| self.number(Number::MultifdChannels) as u16);
        self.greet(rounds, peer, channels)?;
        let Some((count, target)) = channels.zip(again) else { return Ok(()) };
        let (progress, level) = (Arc::clone(&self.progress), level(&self.shared));
        let plan = multifd::Plan { ram: Arc::clone(ram), header: header.clone(), level, progress, count };
        rounds.spread(multifd::Lanes::open(plan, &target, &self.cutter)?);
        Ok(())
    }

    fn greet(
        &self,
        rounds: &mut Rounds,
        peer: &mut Peer,
        channels: Option<u16>,
    ) -> Result<(), OutgoingError> {
        let board = form::encode_board(&self.engine().board());
        let postcopy = self.has(Capability::PostcopyRam).then(|| postcopy::FEATURE.to_owned());
        let multifd = channels.map(multifd::feature);
        let features = postcopy.iter().chain(&multifd).cloned().collect();
        rounds.control(&Control::Hello { board, features })?;
        match peer.word()? {
            Control::Accepted { features } => {
                let knows = |name: &Option<String>| name.as_ref().is_none_or(|name| features.contains(name));
                match (knows(&postcopy), knows(&multifd)) {
                    (true, true) => Ok(()),
                    (false, _) => Err(OutgoingError::NoPostcopy),
                    (_, false) => Err(OutgoingError::NoMultifd),
                }
            }
            Control::Refused { text } => Err(OutgoingError::Refused(text)),
            _ => Err(OutgoingError::Misplaced("another word than that it accepts")),
        }
    }

    /// What the other side does not have as it is: what was written since it was sent, and what was never sent.
    fn absent(&self, ram: &Ram, written: &PageSet, unsent: usize) -> Chunks {
        let count = ram.chunk_count();
        let mut absent = Chunks::none(count);
        for chunk in written.chunks().chain(unsent..count) {
            absent.add(chunk);
        }
        absent
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

    /// From here on the machine is whoever's who reads this.
    fn commit(&mut self, mut rounds: Rounds, channel: Option<&mut Channel>) -> Result<(), OutgoingError> {
        let saved = self.control.commit(false)?;
        self.committed = Committed::OneWay;
        rounds.section(form::save_life(&saved))?;
        rounds.count();
        rounds.end()?;
        if let Some(channel) = channel {
            channel.finish()?;
        }
        self.settle();
        Ok(())
    }

    /// From here on the machine is the other side's, unless the word does not reach it.
    fn commit_to(&mut self, mut rounds: Rounds, mut peer: Peer) -> Result<(), OutgoingError> {
        let saved = self.control.commit(false)?;
        self.committed = Committed::TwoWay;
        rounds.section(form::save_life(&saved))?;
        rounds.control(&Control::Commit { postcopy: false })?;
        peer.patience.set(Some(Instant::now() + DONE_PATIENCE));
        peer.expect("Done", |control| *control == Control::Done)?;
        rounds.count();
        self.settle();
        Ok(())
    }

    /// The same, and `absent` of its memory follows.
    fn leave(
        &mut self,
        ram: &Arc<Ram>,
        header: Header,
        absent: Chunks,
        mut rounds: Rounds,
        peer: Peer,
    ) -> Result<(), OutgoingError> {
        self.line.pledge();
        let saved = self.control.commit(true).inspect_err(|error| {
            // Or it would wait to be told. There is room for a word: it has taken all that came before.
            let _ = rounds.control(&Control::Refused { text: error.to_string() });
        })?;
        self.committed = Committed::Postcopy;
        let shared = Arc::clone(&self.shared);
        let most = move || shared.settings().parameters.number(Number::MaxPostcopyBandwidth);
        let leaving = Leaving {
            ram: Arc::clone(ram),
            header,
            level: level(&self.shared),
            life: form::save_life(&saved),
            absent,
            progress: Arc::clone(&self.progress),
            control: self.control,
            line: &self.line,
            most: &most,
        };
        leaving.run(Link { rounds, peer, cutter: self.cutter.clone() })?;
        self.progress.remaining.set(0);
        self.progress.throttle.set(0);
        Ok(())
    }

    /// It has gone: what is told of that.
    fn settle(&self) {
        let progress = &self.progress;
        progress.restarted(Instant::now());
        progress.downtime_bytes.set(progress.transferred.get().saturating_sub(progress.precopy_bytes.get()));
        progress.remaining.set(0);
        progress.throttle.set(0);
    }

    /// The last step.
    fn end(&self, done: Result<(), OutgoingError>) -> MigrationRequest {
        self.progress.ended(Instant::now());
        let Err(error) = done else { return MigrationRequest::OutgoingDone };
        if self.committed == Committed::Not && self.control.is_cancelled() {
            return MigrationRequest::OutgoingFailed;
        }
        let text = match self.committed {
            Committed::Not | Committed::Postcopy => error.to_string(),
            Committed::TwoWay => format!("{UNKNOWN} ({error})"),
            Committed::OneWay => format!("{UNFINISHED} ({error})"),
        };
        tracing::warn!(error = text, "a migration has failed");
        self.progress.fail(&text);
        self.control.fail(&text);
        match self.committed {
            Committed::Not | Committed::Postcopy => MigrationRequest::OutgoingFailed,
            Committed::TwoWay | Committed::OneWay => MigrationRequest::LinkLost,
        }
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
