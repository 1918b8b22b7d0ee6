//! The destination from READY to DONE, over as many connections as it takes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine::{Engine, JobControl, ManageError};
use ram::{CHUNK_SIZE, PAGE_SIZE, PAGES_PER_CHUNK, Ram};
use runstate::{MigrationRequest, MigrationStatus, SavedLifecycle};
use stream::{Content, Control, Header, Item, Piece};

use super::pull::{Ask, Pull};
use super::{Chunks, Line, Offer, PAUSED, Place};
use crate::channel::{Channel, Cutter, Reader, Writer};
use crate::form::{self, Arrived};
use crate::incoming::IncomingError;
use crate::open::Opened;
use crate::statistics::Progress;

/// How long the source has to hang up once it knows that everything is here.
const GOODBYE: Duration = Duration::from_secs(5);

/// A machine that is staged, some of its memory absent.
pub(crate) struct Taking<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) ram: Arc<Ram>,
    pub(crate) header: Header,
    pub(crate) pull: Arc<Pull>,
    pub(crate) progress: &'a Progress,
    pub(crate) control: &'a JobControl,
    pub(crate) line: &'a Line,
}

/// A connection to the source.
pub(crate) struct Link {
    pub(crate) reader: stream::Reader<Reader>,
    pub(crate) writer: stream::Writer<Writer>,
    pub(crate) cutter: Cutter,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.pull.release();
        if thread::panicking() {
            // Whoever needs what is absent is told that nobody brings it.
            self.pull.abandon();
        }
    }
}

/// Tells devices, on a thread of its own, that memory has come which they wait for; and at the end the job, if it waits.
pub(crate) fn tell_arrivals(ram: Arc<Ram>, pull: Arc<Pull>, line: Arc<Line>) -> std::io::Result<()> {
    let tell = move || {
        while pull.wait_news() {
            ram.tell_arrival();
        }
        ram.tell_arrival();
        line.release();
    };
    thread::Builder::new().name("arrivals".to_owned()).spawn(tell).map(drop)
}

impl Taking<'_> {
    /// Waits for the word to run, runs, and takes the rest of memory. Gives the job's last step.
    pub(crate) fn run(self, mut link: Link) -> Result<MigrationRequest, IncomingError> {
        self.line.connected(&link.cutter);
        // Until it is told, this side does not know whose the machine is.
        let saved = loop {
            match wait_for_commit(&mut link.reader) {
                Ok(saved) => break saved,
                Err(given_up @ IncomingError::GivenUp(_)) => return Err(given_up),
                Err(lost) => match self.again(lost, false)? {
                    Some(next) => link = next,
                    None => return Err(IncomingError::Ended),
                },
            }
        };
        self.engine.check_lifecycle(&saved)?;
        match self.control.ask(MigrationRequest::IncomingLoaded { saved, postcopy: true }) {
            // It is here, and paused, because it could not be started.
            Ok(()) | Err(ManageError::Storage(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let mut link = Some(link);
        while let Some(now) = link {
            let lost = self.take(now);
            link = if self.pull.is_over() { None } else { self.again(lost, true)? };
        }
        self.progress.trouble(None);
        Ok(MigrationRequest::IncomingDone)
    }

    fn announce(&self, status: MigrationStatus) -> Result<(), IncomingError> {
        Ok(self.control.ask(MigrationRequest::Announce(status))?)
    }

    /// Takes what comes over one connection until it ends, and gives how.
    fn take(&self, link: Link) -> IncomingError {
        let Link { mut reader, mut writer, cutter } = link;
        let number = self.pull.connect();
        let before = self.progress.transferred.get();
        thread::scope(|scope| {
            let asker = || self.ask(&mut writer, number, &cutter);
            let asker = thread::Builder::new().name("postcopy".to_owned()).spawn_scoped(scope, asker);
            let lost = match asker {
                Ok(_) => loop {
                    match self.take_piece(&mut reader) {
                        Ok(()) => self.progress.transferred.set(before + reader.totals().bytes),
                        Err(lost) => break lost,
                    }
                },
                Err(error) => error.into(),
            };
            // The asker asks no more, nor waits for the other side.
            self.pull.connect();
            cutter.cut();
            lost
        })
    }

    /// Asks for what is needed, and says at last that nothing is.
    fn ask(&self, writer: &mut stream::Writer<Writer>, number: u64, cutter: &Cutter) {
        loop {
            let asked = match self.pull.next(number) {
                Ask::For(chunk) => writer.control(&Control::PageRequest { chunk: chunk as u64, count: 1 }),
                Ask::Done => {
                    // All is here, whether the source learns of it or not.
                    let said = writer.control(&Control::Done);
                    if said.is_err() || !self.pull.wait_gone(number, GOODBYE) {
                        cutter.cut();
                    }
                    return;
                }
                Ask::End => return,
            };
            if asked.is_err() {
                return cutter.cut();
            }
        }
    }

    fn take_piece(&self, reader: &mut stream::Reader<Reader>) -> Result<(), IncomingError> {
        let Item::Memory(piece) = reader.read()? else {
            return Err(IncomingError::Misplaced("what is no memory"));
        };
        let Piece { page, pages, content } = piece;
        let (first, end) = (page as usize, (page + pages) as usize);
        let chunks = first / PAGES_PER_CHUNK..end.div_ceil(PAGES_PER_CHUNK);
        let whole = first.is_multiple_of(PAGES_PER_CHUNK)
            && (end.is_multiple_of(PAGES_PER_CHUNK) || end as u64 * PAGE_SIZE == self.ram.size());
        if !whole || chunks.end > self.ram.chunk_count() {
            return Err(IncomingError::Misplaced("a part of a chunk"));
        }
        let bytes = match content {
            Content::Bytes(bytes) if bytes.len() <= CHUNK_SIZE => Some(bytes),
            Content::Zero => None,
            _ => return Err(IncomingError::Misplaced("memory of this kind")),
        };
        for chunk in chunks {
            self.pull.give(&self.ram, chunk, bytes)?;
        }
        Ok(())
    }

    /// Waits for another connection, until one is good. None: nothing is absent any more. `loaded`: the machine is this side's.
    fn again(&self, lost: IncomingError, loaded: bool) -> Result<Option<Link>, IncomingError> {
        let mut why = if self.line.was_paused() { PAUSED.to_owned() } else { lost.to_string() };
        loop {
            if self.control.is_cancelled() {
                return Err(IncomingError::Ended);
            }
            tracing::warn!(why, "the connection of a postcopy is lost");
            self.progress.trouble(Some(&why));
            let paused = MigrationRequest::Announce(MigrationStatus::PostcopyPaused);
            self.control.ask(if loaded { MigrationRequest::LinkLost } else { paused })?;
            let (channel, cutter) = loop {
                match self.line.wait() {
                    Some(offer) => match accept(offer) {
                        Ok(accepted) => break accepted,
                        Err(error) => self.progress.trouble(Some(&error.to_string())),
                    },
                    None if self.pull.is_over() => return Ok(None),
                    None => return Err(IncomingError::Ended),
                }
            };
            self.line.connected(&cutter);
            self.announce(MigrationStatus::PostcopyRecover)?;
            match self.greet(channel, cutter, loaded) {
                Ok(link) => {
                    self.progress.trouble(None);
                    if loaded {
                        self.announce(MigrationStatus::PostcopyActive)?;
                        self.pull.make_news();
                    }
                    return Ok(Some(link));
                }
                Err(error) => why = error.to_string(),
            }
        }
    }

    /// Hears who it is, and says what is here.
    fn greet(&self, mut channel: Channel, cutter: Cutter, loaded: bool) -> Result<Link, IncomingError> {
        let limits = form::limits(stream::MAX_MEMORY);
        let mut reader = stream::Reader::new(channel.take_reader()?, &limits)?;
        let mut writer = stream::Writer::new(channel.take_writer()?, &self.header)?;
        let theirs = reader.header();
        let same = theirs.id == self.header.id && theirs.memory == self.header.memory;
        let recovers =
            same && matches!(reader.read()?, Item::Control(Control::Recover { id }) if id == self.header.id);
        if !recovers {
            let error = IncomingError::OtherMigration;
            // Who has hung up does not want to know.
            let _ = writer.control(&Control::Refused { text: error.to_string() });
            return Err(error);
        }
        if loaded {
            let count = self.ram.chunk_count();
            let received = Chunks::from_words(self.ram.absent_chunks(), count).others();
            for control in received.said(|first, bits| Control::Received { first, bits }) {
                writer.control_later(&control)?;
            }
            writer.flush()?;
        } else {
            writer.control(&Control::Ready)?;
        }
        Ok(Link { reader, writer, cutter })
    }
}

/// Waits for somebody at a place.
fn accept(offer: Offer) -> Result<(Channel, Cutter), IncomingError> {
    let Offer { place: Place::From(mut source), cutter } = offer else {
        return Err(IncomingError::Misplaced("a way out"));
    };
    match source.open(&cutter)? {
        Opened::Channel(channel) if channel.is_two_way() => Ok((channel, cutter)),
        _ => Err(IncomingError::OneWay),
    }
}

/// The life, then COMMIT. Without it the machine is still the other side's.
fn wait_for_commit(reader: &mut stream::Reader<Reader>) -> Result<SavedLifecycle, IncomingError> {
    let mut arrived = Arrived::default();
    loop {
        match reader.read()? {
            Item::Section(section) if section.name == form::LIFE => arrived.add(section)?,
            Item::Control(Control::Commit { postcopy: true }) => return Ok(arrived.life()?),
            Item::Control(Control::Refused { text }) => return Err(IncomingError::GivenUp(text)),
            _ => return Err(IncomingError::Misplaced("what comes after READY")),
        }
    }
}
