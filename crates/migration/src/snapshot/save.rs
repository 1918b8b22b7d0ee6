//! A machine saved while it runs: held for the switch, written behind it.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{By, Engine, JobControl, JobWork, ManageError};
use ram::{CHUNK_SIZE, ChunkSink, DirtyLog, OpenError, PageSet, Portion, Ram, Save};
use runstate::{ManagementRequest, MigrationRequest};
use stream::{FileId, Header, Parent, WriteError};

use super::directory::{Directory, Name};
use super::image::{Image, Machine};
use super::{SaveOptions, Shared, SnapshotError, Tracked, restore};
use crate::form::{self, save_life, to_form};
use crate::jobs::Work;

/// Saves; `switched` is called when the machine goes on.
pub(super) fn save(
    shared: &Shared,
    by: By,
    options: &SaveOptions,
    work: &Arc<Work>,
    switched: &dyn Fn(),
) -> Result<(), SnapshotError> {
    let directory = shared.directory()?;
    let name = Name::new(&options.name)?;
    if options.compress && options.incremental {
        return Err(SnapshotError::PackedDifference);
    }
    let _busy = shared.claim("saved", work)?;
    check_free(shared, directory, &name, options.replace)?;
    // Gone if anything fails from here on: then the next difference is a whole snapshot.
    let tracked = match options.incremental {
        true => shared.state().tracked.take().filter(|tracked| still_there(directory, tracked, &name)),
        false => None,
    };
    let depth = tracked.as_ref().map_or(0, |tracked| tracked.depth + 1);
    let (log, parent) = tracked.map(|tracked| (tracked.log, tracked.since)).unzip();
    let header = header(shared, options, parent)?;
    let since = Parent { id: header.id, name: header.name.clone() };
    let failed = |error| SnapshotError::Write { name: options.name.clone(), error };
    let unfinished = directory.create()?;
    let file = unfinished.file()?;
    let target = match options.compress {
        true => Target::Packed(file),
        false => {
            let image = Image::mapped(file, header.memory, Arc::clone(work)).map_err(failed)?;
            Target::Mapped(Arc::new(image))
        }
    };
    let switch = Switch {
        engine: shared.engine.clone(),
        ram: shared.engine.ram(),
        header,
        target,
        log,
        track: options.incremental,
        work: Arc::clone(work),
    };
    let taken = switch.carry_out(by)?.map_err(|error| error.of(options))?;
    switched();
    let log = taken.write(work).map_err(|error| error.of(options))?;
    let guard = directory.lock()?;
    check_free(shared, directory, &name, options.replace)?;
    directory.publish(unfinished, &name, options.replace)?;
    drop(guard);
    if let Some(log) = log {
        shared.state().tracked = Some(Tracked { log, since, depth });
    }
    Ok(())
}

/// Whether the name may be taken. To be asked once more under the directory's lock.
fn check_free(
    shared: &Shared,
    directory: &Directory,
    name: &Name,
    replace: bool,
) -> Result<(), SnapshotError> {
    if !directory.has(name)? {
        return Ok(());
    }
    if !replace {
        return Err(SnapshotError::Exists(name.as_str().to_owned()));
    }
    shared.check_unused(directory, name)
}

/// Whether what has been tracked is the difference from a snapshot that is still the one of that name, stays it, and may have
/// one more behind it.
fn still_there(directory: &Directory, tracked: &Tracked, new: &Name) -> bool {
    if tracked.depth >= restore::MOST_PARENTS {
        return false;
    }
    let Ok(name) = Name::new(&tracked.since.name) else { return false };
    let card = directory.find(&name).ok().flatten().and_then(|file| restore::card(file).ok());
    name != *new && card.is_some_and(|card| card.header.id == tracked.since.id)
}

fn header(shared: &Shared, options: &SaveOptions, parent: Option<Parent>) -> Result<Header, SnapshotError> {
    let id = FileId::random().map_err(|_| SnapshotError::Host("random bytes"))?;
    let memory = shared.engine.ram().map_or(0, |ram| ram.size());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Header {
        created_ms: now.as_millis().try_into().unwrap_or(u64::MAX),
        program: shared.program.clone(),
        name: options.name.clone(),
        description: options.description.clone(),
        parent,
        ..Header::new(id, memory)
    })
}

/// What went wrong, where the snapshot's name is not known.
enum Failure {
    Write(WriteError),
    Other(SnapshotError),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    fn of(self, options: &SaveOptions) -> SnapshotError {
        match self {
            Self::Write(error) => SnapshotError::Write { name: options.name.clone(), error },
            Self::Other(error) => error,
        }
    }
}

enum Target {
    Mapped(Arc<Image>),
    Packed(File),
}

/// What is done while the machine is held, all prepared.
struct Switch {
    engine: Engine,
    ram: Option<Arc<Ram>>,
    header: Header,
    target: Target,
    /// What has been written since the parent.
    log: Option<DirtyLog>,
    /// Whether to log what is written from now on.
    track: bool,
    work: Arc<Work>,
}

/// A machine whose state is taken and whose memory is being saved.
struct Taken {
    machine: Machine,
    image: Arc<Image>,
    save: Option<Save>,
    /// Of what is written since.
    log: Option<DirtyLog>,
    /// The pages that differ from the parent.
    changed: Option<PageSet>,
    chunks: usize,
    memory: Option<Memory>,
}

/// Guest memory, and how many pages of it the host had lost when the state was taken.
struct Memory {
    ram: Arc<Ram>,
    lost: u64,
}

impl Switch {
    /// Holds the machine, takes what is to be taken, and lets it go on.
    fn carry_out(self, by: By) -> Result<Result<Taken, Failure>, SnapshotError> {
        let engine = self.engine.clone();
        let (tell, told) = sync_channel(1);
        let run = move |control: &JobControl| {
            let taken = if control.is_cancelled() || self.work.is_cancelled() {
                Err(SnapshotError::Cancelled.into())
            } else {
                self.take()
            };
            // Whoever began the job waits for it.
            let _ = tell.send(taken);
            MigrationRequest::SaveEnd
        };
        let work = JobWork::new(run, MigrationRequest::SaveEnd);
        let job = engine.begin(by, ManagementRequest::SaveStart, work)?;
        if !job.wait() {
            return Err(ManageError::Ended.into());
        }
        told.recv().map_err(|_| ManageError::Ended.into())
    }

    fn take(self) -> Result<Taken, Failure> {
        let Self { engine, ram, header, target, log, track, work } = self;
        if let Some(error) = &engine.status().flush_error {
            return Err(SnapshotError::Flush(error.what.to_string()).into());
        }
        let ended = || SnapshotError::Manage(ManageError::Ended);
        let state = engine.save_state().ok_or_else(ended)?;
        let saved = engine.saved_lifecycle().ok_or_else(ended)?;
        let summary = form::summary(&state, &saved);
        let mut sections = vec![save_life(&saved)];
        sections.extend(state.sections.into_iter().map(to_form));
        let machine = Machine { header, summary, sections };
        let image = match target {
            Target::Mapped(image) => image,
            Target::Packed(file) => Arc::new(Image::packed(file, &machine, work)?),
        };
        let Some(ram) = ram else {
            let (save, log, changed, memory) = (None, None, None, None);
            return Ok(Taken { machine, image, save, log, changed, chunks: 0, memory });
        };
        let lost = ram.host_errors();
        let drop_writes = || engine.drop_write_tags();
        let changed = log.as_ref().map(|log| log.take(drop_writes));
        let log = match log {
            None if track => ram.start_log(drop_writes).ok(),
            log => log,
        };
        let portion = changed.as_ref().map_or(Portion::All, Portion::ChunksOf);
        let sink = Arc::clone(&image) as Arc<dyn ChunkSink>;
        let save = ram.begin_save(portion, sink, drop_writes);
        let save = save.map_err(|_| SnapshotError::Busy("saved"))?;
        let (save, chunks) = (Some(save), ram.chunk_count());
        Ok(Taken { machine, image, save, log, changed, chunks, memory: Some(Memory { ram, lost }) })
    }
}

impl Taken {
    /// Writes memory behind the machine, and completes the file.
    fn write(self, work: &Work) -> Result<Option<DirtyLog>, Failure> {
        let Self { machine, image, save, log, changed, chunks, memory } = self;
        if let Some(mut save) = save {
            work.set_total(save.left() as u64 * CHUNK_SIZE as u64);
            if let Some(changed) = changed {
                let mut own = changed.chunks().peekable();
                for chunk in (0..chunks).filter(|chunk| own.next_if_eq(chunk).is_none()) {
                    image.parent(chunk)?;
                }
            }
            write_memory(&mut save, &image, work)?;
            // Until here a hart may have been about to save a chunk.
            drop(save);
        }
        if let Some(error) = image.take_error() {
            return Err(error.into());
        }
        if memory.is_some_and(|memory| memory.ram.host_errors() != memory.lost) {
            return Err(SnapshotError::HostMemory.into());
        }
        let image = Arc::into_inner(image).ok_or(SnapshotError::Host("an end"))?;
        image.finish(&machine)?;
        if work.is_cancelled() {
            return Err(SnapshotError::Cancelled.into());
        }
        Ok(log)
    }
}

fn write_memory(save: &mut Save, image: &Image, work: &Work) -> Result<(), SnapshotError> {
    loop {
        if work.is_cancelled() {
            return Err(SnapshotError::Cancelled);
        }
        match save.save_next() {
            // What went wrong is told by whoever looks at the image then.
            Ok(true) if image.has_failed() => return Ok(()),
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(OpenError::Interrupted) => thread::yield_now(),
            Err(error) => return Err(SnapshotError::Lost(error)),
        }
    }
}
