//! A snapshot's file read back: judged as far as it can be without its memory, and its memory as a source of chunks.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{GuestState, StateError};
use ram::{CHUNK_SIZE, ChunkSource, FileRun, FillError};
use runstate::SavedLifecycle;
use stream::{
    CHUNK_PAGES, ChunkError, Content, Header, Item, Layout, Limits, MappedFile, PAGE_SIZE, Parent, ReadError,
    Reader, Summary,
};

use vmcore::OtherBoard;

use super::SnapshotError;
use super::directory::{Directory, Name};
use crate::form::Arrived;
use crate::jobs::Work;

/// How many runs of a file are mapped, the longest ones; Linux lets a process have 65,530 mappings (`vm.max_map_count`), and a
/// run may make two. What is beyond is copied.
const MOST_RUNS: usize = 16_384;

/// How many snapshots one may build on.
pub(super) const MOST_PARENTS: usize = 64;

/// A snapshot that can be loaded, as far as its file can tell.
pub(super) struct Opened {
    pub(super) state: GuestState,
    pub(super) saved: SavedLifecycle,
    pub(super) source: Arc<dyn ChunkSource>,
    /// The file that the source reads when the guest needs it; none if all of it has been read.
    pub(super) lazy: Option<Arc<MappedFile>>,
    /// What the next difference may be from; none if it is packed.
    pub(super) base: Option<Base>,
}

/// A snapshot that others may build on.
pub(super) struct Base {
    pub(super) it: Parent,
    /// How many it builds on itself.
    pub(super) depth: usize,
}

/// What is in the file of a snapshot, for lists.
pub(super) struct Card {
    pub(super) header: Header,
    pub(super) summary: Option<Summary>,
    pub(super) packed: bool,
    pub(super) layout: Layout,
}

/// Opens a snapshot for a machine with `memory` bytes. `whole`: all of its memory is read now. `takes_long` is called before
/// that, or before a snapshot is unpacked.
pub(super) fn open(
    directory: &Directory,
    name: &Name,
    memory: u64,
    whole: bool,
    work: &Work,
    takes_long: &dyn Fn(),
) -> Result<Opened, SnapshotError> {
    let file = directory.find(name)?.ok_or_else(|| SnapshotError::NotFound(name.as_str().to_owned()))?;
    let broken = |error| SnapshotError::broken(name, error);
    match layout(&file).map_err(broken)? {
        Layout::Mapped => {
            let mapped = MappedFile::open(file, &Limits::default()).map_err(broken)?;
            check_memory(name, mapped.header(), memory)?;
            let (mapped, depth) = chain(directory, mapped, name)?;
            let base =
                Some(Base { it: Parent { id: mapped.header().id, name: name.as_str().to_owned() }, depth });
            let (state, saved) = guest_in(mapped.sections().to_vec()).map_err(|error| bad(name, error))?;
            if whole {
                takes_long();
                let source = Arc::new(read_all(&mapped, work).map_err(|error| match error {
                    ReadAll::Cancelled => SnapshotError::Cancelled,
                    ReadAll::Chunk(error) => SnapshotError::Memory { name: name.as_str().to_owned(), error },
                })?);
                return Ok(Opened { state, saved, source, lazy: None, base });
            }
            Ok(Opened { state, saved, source: Arc::new(Lazy(Arc::clone(&mapped))), lazy: Some(mapped), base })
        }
        Layout::Streamed => {
            takes_long();
            unpack(file, name, memory, work)
        }
    }
}

/// Before anything is made that is as large as the saved memory.
fn check_memory(name: &Name, header: &Header, here: u64) -> Result<(), SnapshotError> {
    match header.memory {
        saved if saved == here => Ok(()),
        saved => Err(SnapshotError::misfit(name, OtherBoard::RamSize { saved, here }.into())),
    }
}

/// The layout of a file, which is then at its beginning again.
fn layout(mut file: &File) -> Result<Layout, ReadError> {
    let mut preamble = [0; 16];
    let mut begin = file.take(preamble.len() as u64);
    let mut got = 0;
    while let count @ 1.. = begin.read(&mut preamble[got..]).map_err(ReadError::Io)? {
        got += count;
    }
    file.rewind().map_err(ReadError::Io)?;
    // Whatever it is otherwise, the reader says what is wrong with it.
    Ok(if preamble[12] == 1 { Layout::Mapped } else { Layout::Streamed })
}

/// Gives an incremental file its parents, out of the same directory, and says how many there are.
fn chain(
    directory: &Directory,
    first: MappedFile,
    name: &Name,
) -> Result<(Arc<MappedFile>, usize), SnapshotError> {
    let mut files = vec![(name.clone(), first)];
    while let Some(parent) = files.last().and_then(|(_, file)| file.header().parent.clone()) {
        if files.len() > MOST_PARENTS {
            return Err(SnapshotError::TooDeep(name.as_str().to_owned()));
        }
        let child = || files[files.len() - 1].0.as_str().to_owned();
        let missing = || SnapshotError::NoParent { name: child(), parent: parent.name.clone() };
        let parent_name = Name::new(&parent.name).map_err(|_| missing())?;
        let file = directory.find(&parent_name)?.ok_or_else(missing)?;
        let file = MappedFile::open(file, &Limits::default())
            .map_err(|error| SnapshotError::broken(&parent_name, error))?;
        if file.header().id != parent.id {
            return Err(SnapshotError::OtherParent { name: child(), parent: parent.name.clone() });
        }
        files.push((parent_name, file));
    }
    let depth = files.len() - 1;
    let mut whole: Option<Arc<MappedFile>> = None;
    while let Some((name, file)) = files.pop() {
        let file = match whole.take() {
            Some(parent) => file.with_parent(parent).map_err(|error| bad(&name, error))?,
            None => file,
        };
        whole = Some(Arc::new(file));
    }
    let whole = whole.ok_or_else(|| SnapshotError::NotFound(name.as_str().to_owned()))?;
    Ok((whole, depth))
}

fn bad(name: &Name, error: impl std::error::Error + Send + Sync + 'static) -> SnapshotError {
    SnapshotError::Content { name: name.as_str().to_owned(), error: Box::new(error) }
}

/// The guest part and its life.
fn guest_in(sections: Vec<stream::Section>) -> Result<(GuestState, SavedLifecycle), StateError> {
    let mut arrived = Arrived::default();
    sections.into_iter().try_for_each(|section| arrived.add(section))?;
    Ok((arrived.take_state(), arrived.life()?))
}

/// Reads memory when it is needed. A read, not a mapping: a file that is cut short is an error, not a signal.
struct Lazy(Arc<MappedFile>);

impl ChunkSource for Lazy {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        self.0.read_chunk(chunk as u64, into).map(drop).map_err(|error| FillError::Failed(Box::new(error)))
    }
}

/// Where memory lies in files as it is: for those who share it.
pub(super) fn runs(file: &MappedFile) -> Vec<FileRun<'_>> {
    let mut runs: Vec<FileRun<'_>> = Vec::new();
    for chunk in 0..file.chunks() {
        let Some((own, offset)) = file.place_of(chunk) else { continue };
        let first = chunk as usize;
        match runs.last_mut() {
            Some(run) if run.first + run.count == first && is_same(run.file, own) => run.count += 1,
            _ => runs.push(FileRun { first, count: 1, file: own, offset }),
        }
    }
    if runs.len() > MOST_RUNS {
        runs.sort_unstable_by_key(|run| Reverse(run.count));
        runs.truncate(MOST_RUNS);
    }
    runs
}

/// Memory lies in each file at the offset that its chunks have in memory: runs in one file go on where they touch.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    one.as_raw_fd() == other.as_raw_fd()
}

/// Memory that has been read already; each chunk is given away once. None: zero.
struct Whole(Vec<Mutex<Option<Box<[u8]>>>>);

impl Whole {
    fn new(memory: u64) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(memory.div_ceil(CHUNK_SIZE as u64) as usize, Mutex::default);
        Self(chunks)
    }

    fn put(&mut self, page: u64, bytes: &[u8], memory: u64) {
        let chunk = page / CHUNK_PAGES;
        let length = (memory - chunk * CHUNK_SIZE as u64).min(CHUNK_SIZE as u64) as usize;
        let at = (page % CHUNK_PAGES * PAGE_SIZE) as usize;
        let slot = self.0[chunk as usize].get_mut().unwrap_or_else(PoisonError::into_inner);
        if at == 0 && bytes.len() == length {
            *slot = Some(bytes.into());
        } else {
            let whole = slot.get_or_insert_with(|| vec![0; length].into());
            whole[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn clear(&mut self, page: u64, pages: u64) {
        let mut page = page;
        let end = page + pages;
        while page < end {
            let stop = ((page / CHUNK_PAGES + 1) * CHUNK_PAGES).min(end);
            let slot =
                self.0[(page / CHUNK_PAGES) as usize].get_mut().unwrap_or_else(PoisonError::into_inner);
            if stop - page == CHUNK_PAGES {
                *slot = None;
            } else if let Some(bytes) = slot {
                let at = |page: u64| ((page % CHUNK_PAGES * PAGE_SIZE) as usize).min(bytes.len());
                let from = at(page);
                let to = (from + ((stop - page) * PAGE_SIZE) as usize).min(bytes.len());
                bytes[from..to].fill(0);
            }
            page = stop;
        }
    }
}

impl ChunkSource for Whole {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        let bytes =
            self.0.get(chunk).and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(bytes) = bytes.filter(|bytes| bytes.len() == into.len()) {
            into.copy_from_slice(&bytes);
        }
        Ok(())
    }
}

enum ReadAll {
    Cancelled,
    Chunk(ChunkError),
}

fn read_all(file: &MappedFile, work: &Work) -> Result<Whole, ReadAll> {
    let memory = file.header().memory;
    work.set_total(memory);
    let mut whole = Whole::new(memory);
    let mut buffer = vec![0; CHUNK_SIZE];
    for chunk in 0..file.chunks() {
        if work.is_cancelled() {
            return Err(ReadAll::Cancelled);
        }
        let into = &mut buffer[..file.chunk_length(chunk).unwrap_or(CHUNK_SIZE)];
        if file.read_chunk(chunk, into).map_err(ReadAll::Chunk)? != stream::Form::Zero {
            whole.put(chunk * CHUNK_PAGES, into, memory);
        }
        work.advance(into.len() as u64);
    }
    Ok(whole)
}

/// Reads a packed snapshot to its end: every checksum has been compared then.
fn unpack(file: File, name: &Name, memory: u64, work: &Work) -> Result<Opened, SnapshotError> {
    let broken = |error| SnapshotError::broken(name, error);
    let mut reader = Reader::new(file, &Limits::default()).map_err(broken)?;
    check_memory(name, reader.header(), memory)?;
    let parent = reader.header().parent.clone();
    if reader.header().two_way || parent.is_some() {
        return Err(SnapshotError::NotWhole(name.as_str().to_owned()));
    }
    work.set_total(memory);
    let mut whole = Whole::new(memory);
    let mut sections = Vec::new();
    loop {
        if work.is_cancelled() {
            return Err(SnapshotError::Cancelled);
        }
        match reader.read().map_err(broken)? {
            Item::Section(section) => sections.push(section),
            Item::Memory(piece) => {
                match piece.content {
                    Content::Bytes(bytes) => whole.put(piece.page, bytes, memory),
                    Content::Zero => whole.clear(piece.page, piece.pages),
                    Content::Parent => return Err(SnapshotError::NotWhole(name.as_str().to_owned())),
                }
                work.advance(piece.pages * PAGE_SIZE);
            }
            Item::Summary(_) => {}
            Item::Control(_) => return Err(SnapshotError::NotWhole(name.as_str().to_owned())),
            Item::End => break,
        }
    }
    reader.finish().map_err(broken)?;
    let (state, saved) = guest_in(sections).map_err(|error| bad(name, error))?;
    Ok(Opened { state, saved, source: Arc::new(whole), lazy: None, base: None })
}

/// Reads what lists show of a file.
pub(super) fn card(file: File) -> Result<Card, ReadError> {
    let limits = Limits::default();
    let layout = layout(&file)?;
    if layout == Layout::Mapped {
        let mapped = MappedFile::open(file, &limits)?;
        let (header, summary) = (mapped.header().clone(), mapped.summary().cloned());
        return Ok(Card { header, summary, packed: false, layout });
    }
    let mut reader = Reader::new(file, &limits)?;
    let header = reader.header().clone();
    let packed = header.compression != stream::Compression::None;
    // It is the first thing in what this program writes; else there is none to be shown.
    let summary = match reader.read()? {
        Item::Summary(summary) => Some(summary),
        _ => None,
    };
    Ok(Card { header, summary, packed, layout })
}

/// How many bytes a file takes on the disk.
pub(super) fn size_on_disk(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::{FileId, MappedWriter};

    const MEMORY: u64 = 3 * CHUNK_SIZE as u64 + PAGE_SIZE;

    fn id(number: u8) -> FileId {
        FileId([number; 16])
    }

    /// Puts a file there whose chunk 0 holds `number`; the others are zero, or as in the parent.
    fn put(directory: &Directory, number: u8, parent: Option<u8>) -> Name {
        let name = |number: u8| format!("s{number}");
        let unfinished = directory.create().unwrap();
        let writer = MappedWriter::new(unfinished.file().unwrap(), MEMORY).unwrap();
        writer.chunk(0, &[number; CHUNK_SIZE]).unwrap();
        for chunk in 1..4 {
            if parent.is_some() { writer.parent(chunk) } else { writer.zero(chunk) }.unwrap();
        }
        let parent = parent.map(|parent| Parent { id: id(parent), name: name(parent) });
        let header = Header { parent, ..Header::new(id(number), MEMORY) };
        writer.finish(&header, None, &[]).unwrap();
        let name = Name::new(&name(number)).unwrap();
        directory.publish(unfinished, &name, true).unwrap();
        name
    }

    fn chained(directory: &Directory, name: &Name) -> Result<(Arc<MappedFile>, usize), SnapshotError> {
        let file = directory.find(name).unwrap().unwrap();
        chain(directory, MappedFile::open(file, &Limits::default()).unwrap(), name)
    }

    #[test]
    fn parents_are_followed_as_far_as_they_may_go_and_never_in_a_circle() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        put(&directory, 0, None);
        for number in 1..=65 {
            put(&directory, number, Some(number - 1));
        }
        let name = |number: u8| Name::new(&format!("s{number}")).unwrap();
        let mut bytes = vec![0; CHUNK_SIZE];
        let (deep, depth) = chained(&directory, &name(64)).unwrap();
        assert_eq!(depth, 64);
        deep.read_chunk(0, &mut bytes).unwrap();
        assert_eq!(bytes[0], 64);
        deep.read_chunk(2, &mut bytes).unwrap();
        assert_eq!(bytes[0], 0, "from the first one of all");
        assert!(matches!(chained(&directory, &name(65)), Err(SnapshotError::TooDeep(_))));
        // Two that name one another, and one that names itself.
        put(&directory, 1, Some(2));
        assert!(matches!(chained(&directory, &name(2)), Err(SnapshotError::TooDeep(_))));
        put(&directory, 7, Some(7));
        assert!(matches!(chained(&directory, &name(7)), Err(SnapshotError::TooDeep(_))));
    }

    #[test]
    fn memory_is_mapped_from_whichever_file_has_it_in_as_few_runs_as_there_are() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        let save = |number: u8, parent: Option<u8>, write: &dyn Fn(&MappedWriter)| {
            let unfinished = directory.create().unwrap();
            let writer = MappedWriter::new(unfinished.file().unwrap(), MEMORY).unwrap();
            write(&writer);
            let parent = parent.map(|parent| Parent { id: id(parent), name: format!("s{parent}") });
            let header = Header { parent, ..Header::new(id(number), MEMORY) };
            writer.finish(&header, None, &[]).unwrap();
            directory.publish(unfinished, &Name::new(&format!("s{number}")).unwrap(), true).unwrap();
        };
        save(0, None, &|writer| {
            for chunk in 0..3 {
                writer.chunk(chunk, &[1; CHUNK_SIZE]).unwrap();
            }
            writer.chunk(3, &[1; PAGE_SIZE as usize]).unwrap();
        });
        save(1, Some(0), &|writer| {
            writer.zero(0).unwrap();
            writer.chunk(1, &[2; CHUNK_SIZE]).unwrap();
            writer.parent(2).unwrap();
            writer.parent(3).unwrap();
        });
        let shape = |number: u8| {
            let (file, _) = chained(&directory, &Name::new(&format!("s{number}")).unwrap()).unwrap();
            let runs = runs(&file).into_iter();
            runs.map(|run| (run.first, run.count, run.offset)).collect::<Vec<_>>()
        };
        let at = |chunk: u64| PAGE_SIZE + chunk * CHUNK_SIZE as u64;
        assert_eq!(shape(0), [(0, 4, at(0))]);
        assert_eq!(shape(1), [(1, 1, at(1)), (2, 2, at(2))]);
    }

    #[test]
    fn pages_in_any_order_make_the_memory_that_was_saved() {
        let mut whole = Whole::new(MEMORY);
        let last = MEMORY / PAGE_SIZE - 1;
        whole.put(0, &[1; CHUNK_SIZE], MEMORY);
        whole.put(CHUNK_PAGES + 1, &[2; PAGE_SIZE as usize], MEMORY);
        whole.put(last, &[3; PAGE_SIZE as usize], MEMORY);
        // Said again to be zero: the end of the first chunk, all of the second, and what is zero already.
        whole.clear(CHUNK_PAGES - 1, CHUNK_PAGES + 3);
        let read = |chunk: usize, length: usize| {
            let mut bytes = vec![0; length];
            whole.fill(chunk, &mut bytes).unwrap();
            bytes
        };
        let first = read(0, CHUNK_SIZE);
        let kept = CHUNK_SIZE - PAGE_SIZE as usize;
        assert!(first[..kept].iter().all(|&b| b == 1) && first[kept..].iter().all(|&b| b == 0));
        assert!(read(1, CHUNK_SIZE).iter().all(|&b| b == 0));
        assert!(read(3, PAGE_SIZE as usize).iter().all(|&b| b == 3));
    }
}
