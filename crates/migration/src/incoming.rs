//! A machine arrives: memory as it comes, then the rest, judged as a whole before it replaces what is here.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;

use engine::{Engine, GuestState, JobControl, JobWork, ManageError, Staged, StateError, Status};
use ram::{ChunkSource, FillError, Portion, Ram};
use runstate::{IncomingStage, Job, MigrationRequest, MigrationStatus, Refusal, SavedLifecycle};
use stream::{Control, Header, Item, MappedFile, ReadError, WriteError};

use crate::arrivals::{Arrivals, Misfit};
use crate::behind;
use crate::capabilities::Capability;
use crate::channel::{Channel, Cutter, Ending, Reader, Writer};
use crate::form::{self, Arrived};
use crate::multifd::{self, Lines};
use crate::open::{Doors, OpenError, Opened, Source, reason};
use crate::parameters::Number;
use crate::postcopy::{self, Assembly, BadSet, Chunks, InRam, Line, LinkIn, Pull, Taking, tell_arrivals};
use crate::statistics::Progress;
use crate::{MigrationError, Settings, Shared, Underway};

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
    #[error("the source takes no answer: {}", reason(.0))]
    Answer(#[source] io::Error),
    #[error(transparent)]
    Write(WriteError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Misfit(#[from] Misfit),
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
    #[error("Capability multifd is {0}, but received capability is {1}")]
    Capability(&'static str, &'static str),
    #[error("the source sends over {there} channels (multifd-channels), here {here} are expected")]
    Channels { there: u16, here: u16 },
    /// One of several.
    #[error("channel {channel}: {error}")]
    Lane { channel: u16, error: Box<IncomingError> },
    /// The program that was to give it is not there any more.
    #[error("{ending}: {error}")]
    Program { ending: Ending, error: Box<IncomingError> },
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

impl From<WriteError> for IncomingError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => Self::Answer(error),
            error => Self::Write(error),
        }
    }
}

impl IncomingError {
    /// The same with how the program has ended, if one has given less than it should.
    fn with_ending(self, channel: &mut Channel) -> Self {
        let ending =
            if matches!(self, Self::Read(ReadError::Truncated { .. })) { channel.ending() } else { None };
        match ending {
            Some(ending) => Self::Program { ending, error: Box::new(self) },
            None => self,
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
        let Settings { capabilities, parameters } = shared.settings().clone();
        let postcopy = capabilities.has(Capability::PostcopyRam);
        let channels = parameters.number(Number::MultifdChannels) as u16;
        let multifd = capabilities.has(Capability::Multifd).then_some(channels);
        let (engine, progress, cutter) = (&shared.engine, &*progress, &cutter);
        let incoming = Incoming { engine, progress, cutter, line: &line, control, postcopy, multifd };
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
    /// Memory comes over so many channels beside the main one.
    multifd: Option<u16>,
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
                if let Some(mapped) = mapped(&file, offset)? {
                    let saved = self.take_mapped(ram, mapped)?;
                    return Ok(MigrationRequest::IncomingLoaded { saved, postcopy: false });
                }
                (Channel::from_file(file, offset, self.cutter)?, true)
            }
        };
        self.progress.set_up(Instant::now());
        self.through(&mut channel, source, ram, is_file).map_err(|error| error.with_ending(&mut channel))
    }

    /// The same of what comes front to back.
    fn through(
        &self,
        channel: &mut Channel,
        source: Source,
        ram: Arc<Ram>,
        is_file: bool,
    ) -> Result<MigrationRequest, IncomingError> {
        let watch = self.multifd.map(|_| channel.watch()).transpose()?;
        // One channel that fails is to be told over this one.
        let alarm = self.cutter.part()?;
        let doors = watch.as_ref().and_then(|watch| source.doors(watch.as_fd(), &alarm));
        let reader = channel.take_reader()?.ended_by(alarm);
        let reader = stream::Reader::new(reader, &form::limits(stream::MAX_MEMORY))?;
        let header = reader.header().clone();
        let answers = if header.two_way {
            let header = Header { two_way: true, ..Header::new(header.id, header.memory) };
            Some(stream::Writer::new(channel.take_writer()?, &header)?)
        } else {
            None
        };
        let postcopy = false;
        let (arrived, ram_here) = (Arrived::default(), Arc::clone(&ram));
        let mut arrival =
            Arrival { incoming: self, ram: &ram_here, doors, reader, answers, arrived, postcopy };
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
                let Arrival { reader, answers, .. } = arrival;
                // Nobody else is to come to this place, but to the same one perhaps after a lost connection.
                drop(source);
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

/// The file, if behind `offset` each chunk has its place in it.
fn mapped(file: &File, offset: u64) -> Result<Option<MappedFile>, IncomingError> {
    match MappedFile::behind(file.try_clone()?, offset, &form::limits(stream::MAX_MEMORY)) {
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
            behind::fill(&ram);
        };
        self.engine.stage(Staged { state, memory: Some(Box::new(replace)), renewal: None });
        Ok(life)
    }
}

/// A machine on its way in.
struct Arrival<'a> {
    incoming: &'a Incoming<'a>,
    ram: &'a Arc<Ram>,
    /// Where further channels would come in.
    doors: Option<Doors<'a>>,
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
        let seen = Arc::new(Arrivals::new(self.ram.chunk_count()));
        let progress = self.incoming.progress;
        progress.total.set(here);
        let mut absent = Assembly::new(seen.count());
        let lines = self.gather(header, &seen)?;
        let come = self.memory(&seen, lines.as_ref(), &mut absent);
        if let (Err(_), Some(error)) = (&come, lines.as_ref().and_then(Lines::failure)) {
            // Of several connections that end the first one says more.
            return Err(error);
        }
        come?;
        drop(lines);
        let absent = absent.whole().filter(|absent| !absent.is_empty());
        let follows = |chunk: usize| absent.is_some_and(|absent| absent.has(chunk));
        let missing = seen.missing(follows);
        if missing > 0 {
            return Err(IncomingError::Incomplete(missing, seen.count()));
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

    /// Further channels, if the source has said that there are to be some.
    fn gather(&mut self, header: &Header, seen: &Arc<Arrivals>) -> Result<Option<Lines>, IncomingError> {
        let Some((count, doors)) = self.incoming.multifd.zip(self.doors.as_ref()) else { return Ok(None) };
        let into = (Arc::clone(self.ram), Arc::clone(seen));
        let lines = Lines::gather(doors, header, count, into, self.incoming.cutter)?;
        if lines.is_none() {
            self.reader.read()?;
            return Err(IncomingError::Misplaced("what comes before all channels are there"));
        }
        Ok(lines)
    }

    /// Everything up to READY, or the end of what nobody answers.
    fn memory(
        &mut self,
        seen: &Arrivals,
        lines: Option<&Lines>,
        absent: &mut Assembly,
    ) -> Result<(), IncomingError> {
        let progress = self.incoming.progress;
        loop {
            match self.reader.read()? {
                Item::Memory(piece) => seen.put(self.ram, &piece)?,
                Item::Section(section) => self.arrived.add(section)?,
                Item::Summary(_) => {}
                Item::Control(Control::Round { number }) => {
                    progress.dirty_sync_count.set(number.into());
                    lines.map_or(Ok(()), |lines| lines.round(number))?;
                }
                Item::Control(Control::Absent { first, bits }) if self.postcopy => {
                    absent.add(first, &bits)?
                }
                Item::Control(Control::Ready) if self.answers.is_some() => {
                    return lines.map_or(Ok(()), Lines::ended);
                }
                Item::End if self.answers.is_none() => return Ok(()),
                Item::Control(_) => return Err(IncomingError::Misplaced("a word of the handshake")),
                Item::End => return Err(IncomingError::Misplaced("the end")),
            }
        }
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
            // Or who tells of arrivals would wait for some as long as this stays staged.
            answers.control(&Control::Ready).inspect_err(|_| pull.release())?;
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
        match (multifd::channels(&features), self.incoming.multifd) {
            (Some(_), None) => return Err(IncomingError::Capability("off", "on")),
            (None, Some(_)) => return Err(IncomingError::Capability("on", "off")),
            (Some(there), Some(here)) if there != here => {
                return Err(IncomingError::Channels { there, here });
            }
            _ => {}
        }
        if let Some(answers) = &mut self.answers {
            let postcopy = self.postcopy.then(|| postcopy::FEATURE.to_owned());
            let multifd = self.incoming.multifd.map(multifd::feature);
            let features = postcopy.into_iter().chain(multifd).collect();
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
