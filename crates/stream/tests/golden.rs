//! Files of every format version, kept for good: what an older program wrote is read as it was meant.
//!
//! A file here is never changed. A new format version adds files: `WRITE_GOLDEN=1 cargo test -p stream --test golden` writes
//! those that are missing.

mod common;

use std::path::PathBuf;

use common::{Owned, bytes_of, empty, noise, read, sections, summary, text, write};
use stream::{
    Compression, Control, FileId, Header, Limits, MappedFile, MappedWriter, PAGE_SIZE, Parent, Survey,
};

/// The file of this name; `now` is what this program would write.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header() -> Header {
    Header {
        channel: 1,
        created_ms: 1_795_723_200_000,
        program: "dormouse 0.1.0".to_owned(),
        name: "größer".to_owned(),
        description: "the first of its kind".to_owned(),
        ..Header::new(FileId(*b"fedcba9876543210"), 40 * PAGE_SIZE)
    }
}

fn parent() -> Option<Parent> {
    Some(Parent { id: FileId([0xfe; 16]), name: "base".to_owned() })
}

fn state() -> Vec<Owned> {
    [Owned::Summary(summary())].into_iter().chain(sections().into_iter().map(Owned::Section)).collect()
}

/// Memory: two zero runs, a page of noise, and pages that pack well.
fn memory() -> Vec<Owned> {
    let page = PAGE_SIZE as usize;
    vec![
        Owned::Zero(0, 3),
        Owned::Bytes(3, noise(page, 3)),
        Owned::Zero(4, 12),
        Owned::Bytes(16, text(16 * page)),
    ]
}

#[test]
fn version_1_streamed() {
    let names = || vec!["one".to_owned(), "two".to_owned()];
    let mut items: Vec<Owned> = vec![
        Control::Hello { board: b"virt".to_vec(), features: names() },
        Control::Accepted { features: names() },
        Control::Refused { text: "no".to_owned() },
        Control::Round { number: 0x0102_0304 },
        Control::Ready,
        Control::Commit { postcopy: true },
        Control::Done,
        Control::PageRequest { chunk: 0x0102_0304_0506_0708, count: 9 },
        Control::Absent { first: 8, bits: vec![1, 0x80] },
        Control::Received { first: 16, bits: vec![2] },
        Control::Recover { id: FileId([3; 16]) },
    ]
    .into_iter()
    .map(Owned::Control)
    .collect();
    items.extend(state());
    items.extend(memory().into_iter().take(3));
    items.push(Owned::Parent(32, 8));
    let header = Header { two_way: true, parent: parent(), ..header() };
    let now = write(&header, &items);
    let then = golden("v1-streamed.bin", &now);
    let (found, read, _) = read(&then).unwrap();
    assert_eq!((found, read), (header, items));
    assert_eq!(now, then, "the format has changed without a new version");
}

#[test]
fn version_1_compressed() {
    let header = Header { compression: Compression::Zstd, ..header() };
    let items: Vec<Owned> = state().into_iter().chain(memory()).collect();
    // Other versions of zstd may pack in another way, and are read all the same.
    let then = golden("v1-zstd.bin", &write(&header, &items));
    let (found, read, totals) = read(&then).unwrap();
    assert_eq!((found, read), (header, items));
    assert_eq!(totals.packed, 16);
}

#[test]
fn version_1_mapped() {
    let page = PAGE_SIZE as usize;
    let header = Header { parent: parent(), memory: 17 * PAGE_SIZE, ..header() };
    // A chunk with a page of something, and a short one that is as in the parent.
    let chunk = [vec![0; 15 * page], noise(page, 9)].concat();
    let writer = MappedWriter::new(empty(), header.memory).unwrap();
    writer.chunk(0, &chunk).unwrap();
    writer.parent(1).unwrap();
    let now = bytes_of(&writer.finish(&header, Some(&summary()), &sections()).unwrap());
    // Kept without the zeros of its first chunk, as files should be small.
    let holes = page..16 * page;
    let squeezed = [&now[..holes.start], &now[holes.end..]].concat();
    let then = golden("v1-mapped.bin", &squeezed);
    assert_eq!(squeezed, then, "the format has changed without a new version");
    let then = [&then[..holes.start], &vec![0; holes.len()], &then[holes.start..]].concat();
    let found = Survey::of(&then[..], &Limits::default()).unwrap();
    assert_eq!((found.header, found.sections, found.summary), (header, sections(), Some(summary())));
    let file = MappedFile::open(common::file_of(&then), &Limits::default()).unwrap();
    let mut read = vec![1; chunk.len()];
    file.read_chunk(0, &mut read).unwrap();
    assert_eq!(read, chunk);
    assert_eq!(file.form(1), Some(stream::Form::Parent));
}
