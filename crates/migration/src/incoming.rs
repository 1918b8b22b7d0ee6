//! A machine arrives: memory as it comes, then the rest, judged as a whole before it replaces what is here.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use engine::{Engine, GuestState, JobControl, JobWork, ManageError, Staged, StateError, Status};
use ram::{CHUNK_SIZE, ChunkSource, FillError, PAGE_SIZE, PAGES_PER_CHUNK, Portion, Ram, RamError};
use runstate::{IncomingStage, Job, MigrationRequest, MigrationStatus, Refusal, SavedLifecycle};
use stream::{Content, Control, Header, Item, MappedFile, Piece, ReadError, WriteError};

use crate::capabilities::Capability;
use crate::channel::{Channel, Cutter, Reader, Writer};
use crate::form::{self, Arrived};
use crate::open::{OpenError, Opened, Source, reason};
use crate::postcopy::{self, Assembly, BadSet, Chunks, InRam, Line, LinkIn, Pull, Taking, tell_arrivals};
use crate::statistics::Progress;
use crate::{MigrationError, Shared, Underway};

/// What refuses `migrate-incoming`, by what is published: asked before anything is opened.
pub(crate) fn may_begin(status: &Status) -> Result<(), MigrationError> {
    match status.job {
        Some(Job::Incoming { stage: IncomingStage::Waiting }) => Ok(()),
        Some(Job::Incoming { .. }) => Err(Refusal::IncomingStarted.into()),
        _ => Err(Refusal::NoIncoming.into()),
    }
}

/// Why a machine did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Memory(#[from] RamError),
    #[error(transparent)]
    Step(#[from] ManageError),
    #[error("the saved machine has {saved} bytes of RAM, this machine has {here}")]
    OtherMemory { saved: u64, here: u64 },
    #[error("this machine has no memory")]
    NoMemory,
    #[error("{0} of {1} chunks of memory have not arrived")]
    Incomplete(usize, usize),
    #[error("the stream is incremental and its parent is not here")]
    Parent,
    #[error("{0} does not belong here")]
    Misplaced(&'static str),
    #[error(transparent)]
    Set(#[from] BadSet),
    #[error(transparent)]
    Chunk(#[from] ram::OpenError),
    #[error("the source may go over to postcopy, for which the capability postcopy-ram is not on here")]
    NoPostcopy,
    #[error("postcopy needs a connection that goes both ways")]
    OneWay,
    #[error("this is not the migration that was paused here")]
    OtherMigration,
    #[error("the source has kept the machine: {0}")]
    GivenUp(String),
    #[error("the machine has ended")]
    Ended,
}

impl From<ReadError> for IncomingError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            error => Self::Read(error),
        }
    }
}

/// The job. `exit`: if it fails the process is to end.
pub(crate) fn work(shared: &Arc<Shared>, underway: &Underway, source: Source, exit: bool) -> JobWork {
    let shared = Arc::clone(shared);
    let Underway { progress, cutter, line, .. } = underway.clone();
    let work = move |control: &JobControl| {
        let hook = (cutter.clone(), Arc::clone(&line));
        control.on_cancel(move || {
            hook.0.cut();
            hook.1.cancel();
        });
        let postcopy = shared.settings().capabilities.has(Capability::PostcopyRam);
        let (engine, progress, cutter) = (&shared.engine, &*progress, &cutter);
        let incoming = Incoming { engine, progress, cutter, line: &line, control, postcopy };
        let arrived = incoming.run(source);
        progress.ended(Instant::now());
        match arrived {
            Ok(last) => last,
            Err(error) => {
                let text = format!("load of migration failed: {error}");
                tracing::error!("{text}");
                progress.fail(&text);
                control.fail(&text);
                forget(engine);
                MigrationRequest::IncomingFailed { exit }
            }
        }
    };
    JobWork::new(work, MigrationRequest::IncomingFailed { exit })
}

/// What has come of memory goes, unless a guest runs in it already: the next one finds none of it.
fn forget(engine: &Engine) {
    if let (Some(Job::Incoming { stage: IncomingStage::Loading }), Some(ram)) =
        (engine.status().job, engine.ram())
    {
        ram.clear();
    }
}

struct Incoming<'a> {
    engine: &'a Engine,
    progress: &'a Progress,
    cutter: &'a Cutter,
    line: &'a Arc<Line>,
    control: &'a JobControl,
    /// The guest may run before all of its memory is here.
    postcopy: bool,
}

impl Incoming<'_> {
    /// Takes in a machine up to its life, with which it may run; or, if some of its memory follows, to its end. Gives the job's
    /// last step.
    fn run(&self, mut source: Source) -> Result<MigrationRequest, IncomingError> {
        let ram = self.engine.ram().ok_or(IncomingError::NoMemory)?;
        let opened = source.open(self.cutter)?;
        self.control.ask(MigrationRequest::Announce(MigrationStatus::Active))?;
        let (mut channel, is_file) = match opened {
            Opened::Channel(channel) => (channel, false),
            Opened::File { file, offset } => {
                if offset == 0
                    && let Some(mapped) = mapped(&file)?
                {
                    let saved = self.take_mapped(ram, mapped)?;
                    return Ok(MigrationRequest::IncomingLoaded { saved, postcopy: false });
                }
                (Channel::from_file(file, offset, self.cutter)?, true)
            }
        };
        self.progress.set_up(Instant::now());
        let reader = stream::Reader::new(channel.take_reader()?, &form::limits(stream::MAX_MEMORY))?;
        let header = reader.header().clone();
        let answers = if header.two_way {
            let header = Header { two_way: true, ..Header::new(header.id, header.memory) };
            Some(stream::Writer::new(channel.take_writer()?, &header)?)
        } else {
            None
        };
        let postcopy = false;
        let mut arrival =
            Arrival { incoming: self, ram: &ram, reader, answers, arrived: Arrived::default(), postcopy };
        let taken = arrival.take(&header);
        if let (Err(error), Some(answers)) = (&taken, &mut arrival.answers) {
            // Who has hung up does not want to know.
            let _ = answers.control(&Control::Refused { text: error.to_string() });
        }
        match taken? {
            Taken::Whole(saved) => {
                if is_file {
                    arrival.reader.finish()?;
                }
                Ok(MigrationRequest::IncomingLoaded { saved: *saved, postcopy: false })
            }
            Taken::But(pull) => {
                // Nobody else is to come to this place, but to the same one perhaps after a lost connection.
                drop(source);
                let Arrival { reader, answers, .. } = arrival;
                let writer = answers.ok_or(IncomingError::OneWay)?;
                let Incoming { engine, progress, control, line, .. } = *self;
                let header = Header { two_way: true, ..Header::new(header.id, header.memory) };
                Taking { engine, ram, header, pull, progress, control, line }.run(LinkIn {
                    reader,
                    writer,
                    cutter: self.cutter.clone(),
                })
            }
        }
    }
}

/// The file, if each chunk has its place in it.
fn mapped(file: &File) -> Result<Option<MappedFile>, IncomingError> {
    match MappedFile::open(file.try_clone()?, &form::limits(stream::MAX_MEMORY)) {
        Ok(mapped) => Ok(Some(mapped)),
        Err(ReadError::WrongLayout { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file that memory comes from as it is touched.
struct FileSource(MappedFile);

impl ChunkSource for FileSource {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        let read = self.0.read_chunk(chunk as u64, into);
        read.map(drop).map_err(|error| FillError::Failed(error.into()))
    }
}

/// Reads what the guest has not needed yet.
fn fill_behind(ram: Arc<Ram>) {
    let fill = move || {
        let mut next = 0;
        while let Ok(Some(chunk)) = ram.fill_next(next) {
            next = chunk + 1;
        }
    };
    // Without a thread it is read when it is needed; an error is found then, too, and told.
    let _ = thread::Builder::new().name("restore".to_owned()).spawn(fill);
}

impl Incoming<'_> {
    /// All but memory is judged; that comes as it is touched, and from a thread behind the guest.
    fn take_mapped(&self, ram: Arc<Ram>, file: MappedFile) -> Result<SavedLifecycle, IncomingError> {
        let header = file.header();
        if header.parent.is_some() {
            return Err(IncomingError::Parent);
        }
        let (saved, here) = (header.memory, ram.size());
        if saved != here {
            return Err(IncomingError::OtherMemory { saved, here });
        }
        self.progress.total.set(here);
        let mut arrived = Arrived::default();
        file.sections().iter().try_for_each(|section| arrived.add(section.clone()))?;
        let state = arrived.take_state();
        self.engine.check_state(&state)?;
        let life = arrived.life()?;
        self.engine.check_lifecycle(&life)?;
        let replace = move |memory: &Ram| {
            memory.replace(Portion::All, Arc::new(FileSource(file)), || {});
            fill_behind(ram);
        };
        self.engine.stage(Staged { state, memory: Some(Box::new(replace)), renewal: None });
        Ok(life)
    }
}

/// A machine on its way in.
struct Arrival<'a> {
    incoming: &'a Incoming<'a>,
    ram: &'a Ram,
    reader: stream::Reader<Reader>,
    answers: Option<stream::Writer<Writer>>,
    arrived: Arrived,
    /// Both sides can do with memory that follows.
    postcopy: bool,
}

/// How much of a machine has come.
enum Taken {
    /// All of it.
    Whole(Box<SavedLifecycle>),
    /// All but some of its memory, and its life.
    But(Arc<Pull>),
}

impl Arrival<'_> {
    fn take(&mut self, header: &Header) -> Result<Taken, IncomingError> {
        let here = self.ram.size();
        if header.parent.is_some() {
            return Err(IncomingError::Parent);
        }
        if self.answers.is_some() {
            self.greet()?;
        }
        if header.memory != here {
            return Err(IncomingError::OtherMemory { saved: header.memory, here });
        }
        // What is here is of a guest that never ran; from here on all is zero that has not come.
        self.ram.clear();
        let mut seen = vec![Seen::Not; self.ram.chunk_count()];
        let progress = self.incoming.progress;
        progress.total.set(here);
        let mut absent = Assembly::new(seen.len());
        loop {
            match self.reader.read()? {
                Item::Memory(piece) => put(self.ram, &piece, &mut seen)?,
                Item::Section(section) => self.arrived.add(section)?,
                Item::Summary(_) => {}
                Item::Control(Control::Round { number }) => progress.dirty_sync_count.set(number.into()),
                Item::Control(Control::Absent { first, bits }) if self.postcopy => {
                    absent.add(first, &bits)?
                }
                Item::Control(Control::Ready) if self.answers.is_some() => break,
                Item::End if self.answers.is_none() => break,
                Item::Control(_) => return Err(IncomingError::Misplaced("a word of the handshake")),
                Item::End => return Err(IncomingError::Misplaced("the end")),
            }
        }
        let absent = absent.whole().filter(|absent| !absent.is_empty());
        let follows = |chunk: usize| absent.is_some_and(|absent| absent.has(chunk));
        let missing =
            seen.iter().enumerate().filter(|(at, seen)| **seen == Seen::Not && !follows(*at)).count();
        if missing > 0 {
            return Err(IncomingError::Incomplete(missing, seen.len()));
        }
        let state = self.arrived.take_state();
        self.incoming.engine.check_state(&state)?;
        if let Some(absent) = absent {
            return self.stage_without(state, absent.clone());
        }
        self.incoming.engine.stage(Staged { state, memory: None, renewal: None });
        if let Some(answers) = &mut self.answers {
            answers.control(&Control::Ready)?;
            self.wait_for_commit()?;
        }
        let saved = self.arrived.life()?;
        self.incoming.engine.check_lifecycle(&saved)?;
        if let Some(answers) = &mut self.answers {
            // The machine is this one's now, whether that can be told or not.
            let _ = answers.control(&Control::Done);
        }
        progress.transferred.set(self.reader.totals().bytes);
        Ok(Taken::Whole(Box::new(saved)))
    }

    /// Stages what has come; `absent` of memory follows when it runs.
    fn stage_without(&mut self, state: GuestState, absent: Chunks) -> Result<Taken, IncomingError> {
        let Incoming { engine, progress, line, .. } = *self.incoming;
        let ram = engine.ram().ok_or(IncomingError::NoMemory)?;
        let pull = Pull::new(ram.chunk_count());
        tell_arrivals(Arc::clone(&ram), Arc::clone(&pull), Arc::clone(line))?;
        let source = Arc::new(InRam(Arc::clone(&pull)));
        let replace = move |memory: &Ram| memory.replace(Portion::Chunks(absent.words()), source, || {});
        engine.stage(Staged { state, memory: Some(Box::new(replace)), renewal: None });
        progress.transferred.set(self.reader.totals().bytes);
        if let Some(answers) = &mut self.answers {
            answers.control(&Control::Ready)?;
        }
        Ok(Taken::But(pull))
    }

    /// HELLO: whether a guest of that machine can go on here.
    fn greet(&mut self) -> Result<(), IncomingError> {
        let Item::Control(Control::Hello { board, features }) = self.reader.read()? else {
            return Err(IncomingError::Misplaced("what comes before HELLO"));
        };
        let board =
            form::decode_board(&board).ok_or(IncomingError::Misplaced("a board without a version"))?;
        self.incoming.engine.check_board(&board)?;
        self.postcopy = features.iter().any(|name| name == postcopy::FEATURE);
        if self.postcopy && !self.incoming.postcopy {
            return Err(IncomingError::NoPostcopy);
        }
        if let Some(answers) = &mut self.answers {
            let features = if self.postcopy { vec![postcopy::FEATURE.to_owned()] } else { Vec::new() };
            answers.control(&Control::Accepted { features })?;
        }
        Ok(())
    }

    /// The life, then COMMIT. Without it the machine is still the other side's.
    fn wait_for_commit(&mut self) -> Result<(), IncomingError> {
        loop {
            match self.reader.read()? {
                Item::Section(section) if section.name == form::LIFE => self.arrived.add(section)?,
                Item::Control(Control::Commit { postcopy: false }) => return Ok(()),
                _ => return Err(IncomingError::Misplaced("what comes after READY")),
            }
        }
    }
}

/// What has come of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    /// Nothing yet: it is zero.
    Not,
    /// That it is zero.
    Zero,
    /// Content.
    Content,
}

/// Puts pages where they belong, and notes which chunks have come.
fn put(ram: &Ram, piece: &Piece<'_>, seen: &mut [Seen]) -> Result<(), IncomingError> {
    let (first, pages) = (piece.page as usize, piece.pages as usize);
    match piece.content {
        Content::Bytes(bytes) => {
            let chunk = first / PAGES_PER_CHUNK;
            if bytes.len() == ram.chunk_len(chunk) {
                ram.write_chunk(chunk, bytes)?;
                note(seen, chunk, Seen::Content);
            } else {
                begun(seen, chunk)?;
                note(seen, chunk, Seen::Content);
                ram.write(ram.base() + piece.page * PAGE_SIZE, bytes)?;
            }
        }
        Content::Zero => {
            let mut page = first;
            while page < first + pages {
                let chunk = page / PAGES_PER_CHUNK;
                let in_chunk = ram.chunk_len(chunk) / PAGE_SIZE as usize;
                let offset = page % PAGES_PER_CHUNK;
                let count = (in_chunk - offset).min(first + pages - page);
                if count == in_chunk {
                    if seen.get(chunk) == Some(&Seen::Content) {
                        ram.zero_chunk(chunk)?;
                    }
                    note(seen, chunk, Seen::Zero);
                } else if begun(seen, chunk)? == Seen::Content {
                    let zeros = &[0; CHUNK_SIZE][..count * PAGE_SIZE as usize];
                    ram.write(ram.base() + page as u64 * PAGE_SIZE, zeros)?;
                }
                page += count;
            }
        }
        Content::Parent => return Err(IncomingError::Parent),
    }
    Ok(())
}

fn note(seen: &mut [Seen], chunk: usize, now: Seen) {
    if let Some(seen) = seen.get_mut(chunk) {
        *seen = now;
    }
}

/// What there is of a chunk of which some pages come anew.
fn begun(seen: &[Seen], chunk: usize) -> Result<Seen, IncomingError> {
    let before = seen.get(chunk).copied().filter(|seen| *seen != Seen::Not);
    before.ok_or(IncomingError::Misplaced("a part of a chunk that has not come"))
}
