//! The source from COMMIT to DONE, over as many connections as it takes.

use std::sync::Arc;
use std::time::Instant;

use engine::JobControl;
use ram::Ram;
use runstate::{MigrationRequest, MigrationStatus};
use stream::{Control, Header, Section};

use super::{Assembly, Chunks, Line, Offer, PAUSED, Place, Push};
use crate::channel::Cutter;
use crate::open::Opened;
use crate::outgoing::OutgoingError;
use crate::peer::Peer;
use crate::rounds::Rounds;
use crate::statistics::Progress;

/// A machine that has gone, but for some of its memory.
pub(crate) struct Leaving<'a> {
    pub(crate) ram: Arc<Ram>,
    pub(crate) header: Header,
    /// Of compression.
    pub(crate) level: i32,
    /// Its life, which goes with COMMIT.
    pub(crate) life: Section,
    /// What had not gone at the switch-over.
    pub(crate) absent: Chunks,
    pub(crate) progress: Arc<Progress>,
    pub(crate) control: &'a JobControl,
    pub(crate) line: &'a Line,
    /// Most bytes a second of what nobody has asked for; 0 is no bound.
    pub(crate) most: &'a dyn Fn() -> u64,
}

/// A connection to the destination.
pub(crate) struct Link {
    pub(crate) rounds: Rounds,
    pub(crate) peer: Peer,
    pub(crate) cutter: Cutter,
}

impl Leaving<'_> {
    /// Says COMMIT, and gives the rest. An error: the process ends, or cannot go on with it.
    pub(crate) fn run(&self, link: Link) -> Result<(), OutgoingError> {
        self.line.connected(&link.cutter);
        let mut attempt = self.first(link);
        loop {
            let lost = match attempt {
                Ok((link, left)) => match self.push(link, left) {
                    Ok(()) => return Ok(()),
                    Err(lost) => lost,
                },
                Err(lost) => lost,
            };
            attempt = self.again(&lost)?;
        }
    }

    fn first(&self, mut link: Link) -> Result<(Link, Chunks), OutgoingError> {
        let told = self.commit(&mut link.rounds);
        link.rounds.count();
        let progress = &self.progress;
        progress.restarted(Instant::now());
        progress.downtime_bytes.set(progress.transferred.get().saturating_sub(progress.precopy_bytes.get()));
        self.announce(MigrationStatus::PostcopyActive)?;
        told.map(|()| (link, self.absent.clone()))
    }

    fn commit(&self, rounds: &mut Rounds) -> Result<(), OutgoingError> {
        rounds.section(self.life.clone())?;
        rounds.control(&Control::Commit { postcopy: true })
    }

    fn announce(&self, status: MigrationStatus) -> Result<(), OutgoingError> {
        Ok(self.control.ask(MigrationRequest::Announce(status))?)
    }

    fn push(&self, mut link: Link, left: Chunks) -> Result<(), OutgoingError> {
        let Link { rounds, peer, cutter } = &mut link;
        Push { rounds, peer, cutter, progress: &self.progress, most: self.most }.run(left)
    }

    /// Waits for another connection and takes it up: that may fail in its turn. An error: there will be none.
    fn again(&self, lost: &OutgoingError) -> Result<Result<(Link, Chunks), OutgoingError>, OutgoingError> {
        if self.control.is_cancelled() {
            return Err(OutgoingError::Cancelled);
        }
        let why = if self.line.was_paused() { PAUSED.to_owned() } else { lost.to_string() };
        tracing::warn!(why, "the connection of a postcopy is lost");
        self.progress.trouble(Some(&why));
        self.control.ask(MigrationRequest::LinkLost)?;
        let offer = self.line.wait().ok_or(OutgoingError::Cancelled)?;
        let taken = self.take_up(offer);
        if taken.is_ok() {
            self.progress.trouble(None);
            self.announce(MigrationStatus::PostcopyActive)?;
        }
        Ok(taken)
    }

    /// Connects, and learns what is still absent.
    fn take_up(&self, offer: Offer) -> Result<(Link, Chunks), OutgoingError> {
        let Offer { place: Place::To(target), cutter } = offer else {
            return Err(OutgoingError::NoReturnPath);
        };
        self.announce(MigrationStatus::PostcopyRecoverSetup)?;
        let mut channel = match target.open(&cutter)? {
            Opened::Channel(channel) if channel.is_two_way() => channel,
            _ => return Err(OutgoingError::NoReturnPath),
        };
        self.line.connected(&cutter);
        self.announce(MigrationStatus::PostcopyRecover)?;
        let mut peer = Peer::new(channel.take_reader()?);
        let progress = Arc::clone(&self.progress);
        let writer = channel.take_writer()?;
        let mut rounds = Rounds::new(Arc::clone(&self.ram), writer, &self.header, progress, self.level)?;
        rounds.control(&Control::Recover { id: self.header.id })?;
        let left = self.still_absent(&mut rounds, &mut peer)?;
        Ok((Link { rounds, peer, cutter }, left))
    }

    fn still_absent(&self, rounds: &mut Rounds, peer: &mut Peer) -> Result<Chunks, OutgoingError> {
        let mut received = Assembly::new(self.ram.chunk_count());
        loop {
            let word = peer.word()?;
            if !peer.answers(self.header.id) {
                return Err(OutgoingError::OtherMachine);
            }
            match word {
                // It has all but the word to run, which was lost.
                Control::Ready => {
                    self.commit(rounds)?;
                    return Ok(self.absent.clone());
                }
                Control::Received { first, bits } => received.add(first, &bits)?,
                Control::Refused { text } => return Err(OutgoingError::Refused(text)),
                _ => return Err(OutgoingError::Misplaced("another word than what it has received")),
            }
            if let Some(received) = received.whole() {
                return Ok(self.absent.clone().also_in(&received.others()));
            }
        }
    }
}
