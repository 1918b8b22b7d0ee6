//! The mapped layout: written in any order, complete or not at all, read a chunk at a time.

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use common::{
    CHUNKS, MEMORY, bytes_of, chunk_length, empty, file_of, header, mapped, noise, sections, summary, write,
};
use proptest::prelude::*;
use stream::{
    CHUNK_PAGES, CHUNK_SIZE, ChunkError, Compression, FileId, Form, Header, Layout, Limits, MappedFile,
    MappedWriter, PAGE_SIZE, Parent, ParentError, ReadError, Survey, SurveyError, WriteError,
};

fn open(file: File) -> Result<MappedFile, ReadError> {
    MappedFile::open(file, &Limits::default())
}

/// Reads a chunk into bytes that were something else before.
fn read(file: &MappedFile, chunk: u64) -> Result<Vec<u8>, ChunkError> {
    let mut bytes = vec![0xaa; file.chunk_length(chunk).unwrap()];
    file.read_chunk(chunk, &mut bytes)?;
    Ok(bytes)
}

/// What the program that shows a form would find wrong with `bytes`, as a file and through a pipe.
fn survey(bytes: &[u8]) -> [Result<Survey, SurveyError>; 2] {
    let limits = Limits::default();
    [Survey::of_file(file_of(bytes), &limits), Survey::of(bytes, &limits).map_err(SurveyError::from)]
}

fn parent(id: FileId, memory: u64) -> Arc<MappedFile> {
    let writer = MappedWriter::new(empty(), memory).unwrap();
    for chunk in 0..memory.div_ceil(CHUNK_SIZE as u64) {
        let length = (memory - chunk * CHUNK_SIZE as u64).min(CHUNK_SIZE as u64) as usize;
        writer.chunk(chunk, &noise(length, 100 + chunk)).unwrap();
    }
    Arc::new(open(writer.finish(&Header::new(id, memory), None, &[]).unwrap()).unwrap())
}

#[test]
fn what_is_written_is_read() {
    let file = open(mapped()).unwrap();
    assert_eq!(file.header(), &header(Compression::None));
    assert_eq!(file.summary(), Some(&summary()));
    assert_eq!(file.sections(), sections());
    assert_eq!(file.chunks(), CHUNKS);
    let forms: Vec<Form> = (0..CHUNKS).filter_map(|chunk| file.form(chunk)).collect();
    assert_eq!(forms, [Form::Zero, Form::Raw, Form::Parent, Form::Zero, Form::Raw]);
    assert_eq!(file.form(CHUNKS), None);
    let totals = file.totals();
    assert_eq!((totals.zero, totals.raw, totals.parent, totals.packed), (32, 18, 16, 0));
    assert_eq!(read(&file, 0).unwrap(), vec![0; CHUNK_SIZE]);
    assert_eq!(read(&file, 1).unwrap(), noise(CHUNK_SIZE, 1));
    assert_eq!(read(&file, 4).unwrap(), noise(2 * PAGE_SIZE as usize, 4));
    assert!(matches!(read(&file, 2), Err(ChunkError::NoParent { chunk: 2, .. })));
    for (chunk, length) in [(CHUNKS, CHUNK_SIZE), (u64::MAX, 0), (0, CHUNK_SIZE - 1), (4, CHUNK_SIZE)] {
        let error = file.read_chunk(chunk, &mut vec![0; length]).unwrap_err();
        assert!(matches!(error, ChunkError::Range { .. }), "{error}");
    }
    file.verify().unwrap();
}

#[test]
fn a_form_may_lie_behind_something_else_which_stays() {
    for base in [1, 4096, 12_345] {
        let head = noise(base as usize, 9);
        let file = file_of(&head);
        let inner = MappedWriter::behind(file.try_clone().unwrap(), base, MEMORY).unwrap();
        for chunk in 0..CHUNKS {
            // Twice, and what was something is nothing in the end.
            inner.chunk(chunk, &noise(chunk_length(chunk), chunk)).unwrap();
        }
        inner.zero(0).unwrap();
        inner.chunk(1, &noise(CHUNK_SIZE, 77)).unwrap();
        let unfinished = MappedFile::behind(file.try_clone().unwrap(), base, &Limits::default());
        assert!(matches!(unfinished, Err(ReadError::NotFinished)));
        drop(inner.finish(&Header::new(FileId([3; 16]), MEMORY), None, &sections()).unwrap());
        let bytes = bytes_of(&file);
        assert_eq!(bytes[..base as usize], head, "what was before");
        let read_back = MappedFile::behind(file.try_clone().unwrap(), base, &Limits::default()).unwrap();
        read_back.verify().unwrap();
        assert_eq!(read_back.sections(), sections());
        assert_eq!(read(&read_back, 0).unwrap(), vec![0; CHUNK_SIZE]);
        assert_eq!(read(&read_back, 1).unwrap(), noise(CHUNK_SIZE, 77));
        assert_eq!(read(&read_back, 2).unwrap(), noise(CHUNK_SIZE, 2));
        // The same without what is before it.
        open(file_of(&bytes[base as usize..])).unwrap().verify().unwrap();
        for elsewhere in [0, base - 1, base + 1, base + MEMORY, u64::MAX] {
            let wrong = MappedFile::behind(file.try_clone().unwrap(), elsewhere, &Limits::default());
            assert!(wrong.is_err(), "{elsewhere}");
        }
        let (file, limits) = (file_of(&bytes[..bytes.len() - 1]), Limits::default());
        assert!(matches!(MappedFile::behind(file, base, &limits), Err(ReadError::Truncated { .. })));
    }
    let longer = MappedWriter::behind(file_of(&[0; 10]), 9, MEMORY).unwrap_err();
    assert!(matches!(longer, WriteError::NotEmpty { length: 10 }));
    assert!(MappedWriter::behind(empty(), u64::MAX, MEMORY).is_err());
}

#[test]
fn a_survey_is_the_same_of_a_file_and_of_a_pipe() {
    let [file, pipe] = survey(&bytes_of(&mapped())).map(Result::unwrap);
    assert_eq!(file, pipe);
    assert_eq!((file.layout, file.sections, file.summary), (Layout::Mapped, sections(), Some(summary())));
    let [file, pipe] = survey(&write(&header(Compression::Zstd), &[])).map(Result::unwrap);
    assert_eq!(file, pipe);
    assert_eq!((file.layout, file.header), (Layout::Streamed, header(Compression::Zstd)));
}

#[test]
fn chunks_come_from_several_threads_in_any_order() {
    const MANY: u64 = 64;
    let memory = MANY * CHUNK_SIZE as u64;
    let writer = MappedWriter::new(empty(), memory).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                for chunk in (0..MANY).rev().filter(|chunk| chunk % 4 == thread) {
                    writer.chunk(chunk, &noise(CHUNK_SIZE, chunk)).unwrap();
                }
            });
        }
    });
    let file = open(writer.finish(&Header::new(FileId([1; 16]), memory), None, &[]).unwrap()).unwrap();
    for chunk in 0..MANY {
        assert_eq!(read(&file, chunk).unwrap(), noise(CHUNK_SIZE, chunk), "chunk {chunk}");
    }
}

#[test]
fn a_chunk_that_is_written_again_replaces_what_was_there() {
    let writer = MappedWriter::new(empty(), MEMORY).unwrap();
    for chunk in 0..CHUNKS {
        writer.chunk(chunk, &noise(chunk_length(chunk), 1)).unwrap();
    }
    writer.chunk(0, &noise(CHUNK_SIZE, 2)).unwrap();
    writer.chunk(1, &vec![0; CHUNK_SIZE]).unwrap();
    writer.parent(2).unwrap();
    writer.zero(3).unwrap();
    writer.chunk(3, &noise(CHUNK_SIZE, 3)).unwrap();
    let file = open(writer.finish(&header(Compression::None), None, &[]).unwrap()).unwrap();
    assert_eq!(read(&file, 0).unwrap(), noise(CHUNK_SIZE, 2));
    assert_eq!(read(&file, 1).unwrap(), vec![0; CHUNK_SIZE]);
    assert_eq!(file.form(2), Some(Form::Parent));
    assert_eq!(read(&file, 3).unwrap(), noise(CHUNK_SIZE, 3));
    file.verify().unwrap();
}

#[test]
fn zero_chunks_take_no_room_on_the_disk() {
    let memory = 1 << 30;
    let writer = MappedWriter::new(empty(), memory).unwrap();
    let zeros = vec![0; CHUNK_SIZE];
    for chunk in 0..memory / CHUNK_SIZE as u64 {
        assert_eq!(writer.chunk(chunk, &zeros).unwrap(), Form::Zero);
    }
    let file = writer.finish(&Header::new(FileId([1; 16]), memory), None, &[]).unwrap();
    let found = file.metadata().unwrap();
    assert!(found.len() > memory);
    assert!(found.blocks() * 512 < 1 << 20, "{} bytes", found.blocks() * 512);
    open(file).unwrap().verify().unwrap();
}

#[test]
fn a_file_that_was_not_finished_says_so() {
    let file = empty();
    let writer = MappedWriter::new(file.try_clone().unwrap(), MEMORY).unwrap();
    writer.chunk(1, &noise(CHUNK_SIZE, 1)).unwrap();
    assert!(matches!(open(file.try_clone().unwrap()), Err(ReadError::NotFinished)));
    assert!(matches!(
        writer.finish(&header(Compression::None), None, &[]),
        Err(WriteError::Missing { chunk: 0 })
    ));
    assert!(matches!(open(file), Err(ReadError::NotFinished)));
    // Everything was written but the word that it is there.
    let mut bytes = bytes_of(&mapped());
    bytes[16..36].fill(0);
    for result in survey(&bytes) {
        assert!(matches!(result, Err(SurveyError::Read(ReadError::NotFinished))), "{result:?}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    // Small, but with something of everything.
    let memory = 2 * PAGE_SIZE;
    let writer = MappedWriter::new(empty(), memory).unwrap();
    writer.chunk(0, &noise(memory as usize, 1)).unwrap();
    let header = Header { memory, ..header(Compression::None) };
    let file = writer.finish(&header, Some(&summary()), &sections()).unwrap();
    let bytes = bytes_of(&file);
    let check = |file: &File| open(file.try_clone().unwrap()).is_ok_and(|file| file.verify().is_ok());
    assert!(check(&file));
    for (at, &byte) in bytes.iter().enumerate() {
        // Each bit of what is dense, one a byte of memory and of the first page's rest.
        let bits = if at < 64 || at >= 3 * PAGE_SIZE as usize { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            file.write_all_at(&[byte ^ 1 << bit], at as u64).unwrap();
            assert!(!check(&file), "bit {bit} of byte {at}");
        }
        file.write_all_at(&[byte], at as u64).unwrap();
    }
    assert!(check(&file));
}

#[test]
fn a_flipped_bit_is_found_where_nothing_is_kept_and_in_a_pipe() {
    let bytes = bytes_of(&mapped());
    for chunk in 0..CHUNKS {
        let mut bytes = bytes.clone();
        bytes[(PAGE_SIZE + chunk * CHUNK_SIZE as u64) as usize + 77] ^= 4;
        for result in survey(&bytes) {
            assert!(
                matches!(result, Err(SurveyError::Read(_) | SurveyError::Chunk(_))),
                "chunk {chunk}: {result:?}"
            );
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let mut bytes = bytes_of(&mapped());
    let index = (PAGE_SIZE + MEMORY) as usize;
    let cuts = (0..40).chain((40..index).step_by(4099)).chain(index - 9..bytes.len());
    for length in cuts {
        for result in survey(&bytes[..length]) {
            assert!(
                matches!(result, Err(SurveyError::Read(ReadError::Truncated { .. }))),
                "{length}: {result:?}"
            );
        }
    }
    bytes.push(0);
    for result in survey(&bytes) {
        assert!(matches!(result, Err(SurveyError::Read(ReadError::Trailing { .. }))), "{result:?}");
    }
}

#[test]
fn a_file_that_is_cut_or_damaged_while_it_is_open_gives_errors_at_the_chunks_that_it_lost() {
    let raw = mapped();
    let file = open(raw.try_clone().unwrap()).unwrap();
    raw.write_all_at(b"?", PAGE_SIZE + CHUNK_SIZE as u64 + 5).unwrap();
    let error = read(&file, 1).unwrap_err();
    assert!(matches!(error, ChunkError::Damaged { chunk: 1, .. }), "{error}");
    raw.set_len(PAGE_SIZE + 4 * CHUNK_SIZE as u64 + 1).unwrap();
    assert!(matches!(read(&file, 4), Err(ChunkError::Truncated { chunk: 4, .. })));
    assert_eq!(read(&file, 0).unwrap(), vec![0; CHUNK_SIZE]);
}

#[test]
fn an_incremental_file_reads_through_to_its_parents() {
    let wanted = header(Compression::None).parent.unwrap().id;
    let base = parent(wanted, MEMORY);
    let child = Arc::new(open(mapped()).unwrap().with_parent(base).unwrap());
    assert_eq!(read(&child, 1).unwrap(), noise(CHUNK_SIZE, 1));
    assert_eq!(read(&child, 2).unwrap(), noise(CHUNK_SIZE, 102));
    // One more on top, in which everything is as below.
    let writer = MappedWriter::new(empty(), MEMORY).unwrap();
    (0..CHUNKS).for_each(|chunk| writer.parent(chunk).unwrap());
    let id = FileId([5; 16]);
    let parent = Some(Parent { id: child.header().id, name: child.header().name.clone() });
    let header = Header { parent, ..Header::new(id, MEMORY) };
    let top = open(writer.finish(&header, None, &[]).unwrap()).unwrap().with_parent(child.clone()).unwrap();
    for chunk in 0..CHUNKS {
        assert_eq!(read(&top, chunk).unwrap(), read(&child, chunk).unwrap());
    }
}

#[test]
fn only_the_right_parent_is_taken() {
    let wanted = header(Compression::None).parent.unwrap().id;
    let child = || open(mapped()).unwrap();
    let wrong = child().with_parent(parent(FileId([8; 16]), MEMORY)).unwrap_err();
    assert!(matches!(wrong, ParentError::WrongId { found: FileId([8, ..]), .. }), "{wrong}");
    let wrong = child().with_parent(parent(wanted, MEMORY + PAGE_SIZE)).unwrap_err();
    assert!(matches!(wrong, ParentError::OtherMemory { .. }), "{wrong}");
    let whole = open_whole(parent(wanted, MEMORY));
    let wrong = whole.with_parent(parent(wanted, MEMORY)).unwrap_err();
    assert!(matches!(wrong, ParentError::NotIncremental { .. }), "{wrong}");
    // One that lacks its own parent.
    let writer = MappedWriter::new(empty(), MEMORY).unwrap();
    (0..CHUNKS).for_each(|chunk| writer.parent(chunk).unwrap());
    let header = Header { id: wanted, ..header(Compression::None) };
    let orphan = Arc::new(open(writer.finish(&header, None, &[]).unwrap()).unwrap());
    let wrong = child().with_parent(orphan).unwrap_err();
    assert!(matches!(wrong, ParentError::Orphan { .. }), "{wrong}");
}

fn open_whole(file: Arc<MappedFile>) -> MappedFile {
    Arc::into_inner(file).unwrap()
}

#[test]
fn a_writer_refuses_what_a_mapped_file_cannot_be() {
    assert!(matches!(MappedWriter::new(file_of(b"x"), MEMORY), Err(WriteError::NotEmpty { length: 1 })));
    assert!(matches!(MappedWriter::new(empty(), 1), Err(WriteError::BadMemory { .. })));
    let null = File::options().write(true).open("/dev/null").unwrap();
    assert!(matches!(MappedWriter::new(null, MEMORY), Err(WriteError::NotMapped(_))));
    let complete = || {
        let writer = MappedWriter::new(empty(), MEMORY).unwrap();
        (0..CHUNKS).for_each(|chunk| writer.parent(chunk).unwrap());
        writer
    };
    let good = header(Compression::None);
    let finish = |header: &Header| complete().finish(header, None, &[]).unwrap_err();
    assert!(matches!(finish(&header(Compression::Zstd)), WriteError::NotMapped(_)));
    assert!(matches!(finish(&Header { two_way: true, ..good.clone() }), WriteError::NotMapped(_)));
    assert!(matches!(finish(&Header { parent: None, ..good.clone() }), WriteError::NoParent));
    assert!(matches!(finish(&Header { memory: 0, ..good }), WriteError::BadMemory { memory: 0 }));
    let writer = complete();
    for (chunk, length) in
        [(CHUNKS, CHUNK_SIZE), (u64::MAX, CHUNK_SIZE), (0, CHUNK_SIZE - 1), (4, CHUNK_SIZE)]
    {
        for byte in [0, 1] {
            let error = writer.chunk(chunk, &vec![byte; length]).unwrap_err();
            assert!(matches!(error, WriteError::Range { .. }), "{error}");
        }
    }
    assert!(
        matches!(writer.zero(CHUNKS), Err(WriteError::Range { page, .. }) if page == CHUNKS * CHUNK_PAGES)
    );
}

#[test]
fn more_memory_than_the_machine_has_is_refused_before_the_table_is_read() {
    let limits = Limits { memory: MEMORY - PAGE_SIZE, ..Limits::default() };
    let error = MappedFile::open(mapped(), &limits).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { what: "memory", announced: MEMORY, .. }), "{error}");
    let error = Survey::of(&bytes_of(&mapped())[..], &limits).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { what: "memory", announced: MEMORY, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_memory_comes_back(pages in 0..100_u64, seed: u64, zeros: u8) {
        let memory = pages * PAGE_SIZE;
        let length = |chunk: u64| (memory - chunk * CHUNK_SIZE as u64).min(CHUNK_SIZE as u64) as usize;
        let content = |chunk: u64| match zeros >> (chunk % 8) & 1 {
            0 => noise(length(chunk), seed ^ chunk),
            _ => vec![0; length(chunk)],
        };
        let writer = MappedWriter::new(empty(), memory).unwrap();
        let chunks = memory.div_ceil(CHUNK_SIZE as u64);
        for chunk in 0..chunks {
            writer.chunk(chunk, &content(chunk)).unwrap();
        }
        let file = open(writer.finish(&Header::new(FileId([1; 16]), memory), None, &sections()).unwrap()).unwrap();
        for chunk in 0..chunks {
            prop_assert_eq!(read(&file, chunk).unwrap(), content(chunk));
        }
    }

    #[test]
    fn garbage_gives_an_error(changes in prop::collection::vec((0..4096_usize, any::<u8>()), 1..8), in_index: bool) {
        let good = bytes_of(&mapped());
        let mut bytes = good.clone();
        let base = if in_index { (PAGE_SIZE + MEMORY) as usize } else { 0 };
        for (at, byte) in changes {
            let room = bytes.len() - base;
            bytes[base + at % room] = byte;
        }
        for result in survey(&bytes) {
            prop_assert_eq!(result.is_err(), bytes != good);
        }
    }
}
