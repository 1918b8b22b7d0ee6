//! A machine to save, and its saved form read back into values.
#![allow(dead_code, reason = "each test file uses its part")]

use stream::{
    CHUNK_PAGES, CHUNK_SIZE, Compression, Content, Control, FileId, Header, Item, Limits, PAGE_SIZE, Parent,
    ReadError, Reader, Section, Summary, Totals, Writer,
};

/// Bytes of the machine's memory: the last chunk is not whole.
pub const MEMORY: u64 = 4 * CHUNK_SIZE as u64 + 2 * PAGE_SIZE;

/// A header with something in every field.
pub fn header(compression: Compression) -> Header {
    Header {
        two_way: false,
        compression,
        channel: 3,
        created_ms: 1_795_000_000_123,
        program: "dormouse 0.1.0".to_owned(),
        name: "before the update".to_owned(),
        description: "as it was on Thursday".to_owned(),
        parent: Some(Parent { id: FileId([7; 16]), name: "base".to_owned() }),
        ..Header::new(FileId(*b"0123456789abcdef"), MEMORY)
    }
}

pub fn summary() -> Summary {
    Summary { state: "suspended".to_owned(), power: "asleep".to_owned(), guest_ns: 5_000_000_001 }
}

pub fn sections() -> Vec<Section> {
    let section =
        |name: &str, version, data: &[u8]| Section { name: name.to_owned(), version, data: data.to_vec() };
    vec![section("board", 1, b"virt"), section("hart 0", 2, &[0; 40]), section("lifecycle", 1, &[])]
}

/// Bytes that do not pack well.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Bytes that pack well.
pub fn text(length: usize) -> Vec<u8> {
    b"the dormouse sleeps in its nest. ".iter().copied().cycle().take(length).collect()
}

/// An item that does not borrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    Section(Section),
    Summary(Summary),
    Zero(u64, u64),
    Parent(u64, u64),
    Bytes(u64, Vec<u8>),
    Control(Control),
}

/// Writes `items`.
pub fn write(header: &Header, items: &[Owned]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for item in items {
        match item {
            Owned::Section(section) => writer.section(section).unwrap(),
            Owned::Summary(summary) => writer.summary(summary).unwrap(),
            Owned::Zero(page, pages) => writer.zero(*page, *pages).unwrap(),
            Owned::Parent(page, pages) => writer.parent(*page, *pages).unwrap(),
            Owned::Bytes(page, bytes) => drop(writer.memory(*page, bytes).unwrap()),
            Owned::Control(control) => writer.control(control).unwrap(),
        }
    }
    let totals = writer.totals();
    let bytes = writer.end().unwrap();
    assert!(totals.bytes <= bytes.len() as u64);
    bytes
}

/// Reads all of `bytes`, to the end mark and to its end.
pub fn read(bytes: &[u8]) -> Result<(Header, Vec<Owned>, Totals), ReadError> {
    read_within(bytes, &Limits::default())
}

pub fn read_within(bytes: &[u8], limits: &Limits) -> Result<(Header, Vec<Owned>, Totals), ReadError> {
    let mut reader = Reader::new(bytes, limits)?;
    let header = reader.header().clone();
    let mut items = Vec::new();
    loop {
        items.push(match reader.read()? {
            Item::Section(section) => Owned::Section(section),
            Item::Summary(summary) => Owned::Summary(summary),
            Item::Control(control) => Owned::Control(control),
            Item::Memory(piece) => match piece.content {
                Content::Zero => Owned::Zero(piece.page, piece.pages),
                Content::Parent => Owned::Parent(piece.page, piece.pages),
                Content::Bytes(bytes) => Owned::Bytes(piece.page, bytes.to_vec()),
            },
            Item::End => return Ok((header, items, reader.finish()?)),
        });
    }
}

/// A small form with something of everything.
pub fn sample(compression: Compression) -> (Header, Vec<Owned>) {
    let page = PAGE_SIZE as usize;
    let mut items = vec![Owned::Summary(summary())];
    items.extend(sections().into_iter().map(Owned::Section));
    items.extend([
        Owned::Zero(0, 20),
        Owned::Bytes(20, text(page)),
        Owned::Bytes(2 * CHUNK_PAGES + 1, noise(page, 1)),
        Owned::Parent(3 * CHUNK_PAGES, 18),
    ]);
    (header(compression), items)
}

/// How many chunks [`MEMORY`] has.
pub const CHUNKS: u64 = 5;

/// Length of chunk `chunk` of [`MEMORY`].
pub fn chunk_length(chunk: u64) -> usize {
    (MEMORY - chunk * CHUNK_SIZE as u64).min(CHUNK_SIZE as u64) as usize
}

/// An empty file without a name.
pub fn empty() -> std::fs::File {
    tempfile::tempfile().unwrap()
}

/// A mapped file of a machine with [`MEMORY`]: chunk 1 raw, 2 as in the parent, 4 (short) raw, the others zero.
pub fn mapped() -> std::fs::File {
    let writer = stream::MappedWriter::new(empty(), MEMORY).unwrap();
    writer.chunk(4, &noise(chunk_length(4), 4)).unwrap();
    writer.parent(2).unwrap();
    writer.zero(3).unwrap();
    writer.chunk(1, &noise(CHUNK_SIZE, 1)).unwrap();
    writer.chunk(0, &vec![0; CHUNK_SIZE]).unwrap();
    writer.finish(&header(Compression::None), Some(&summary()), &sections()).unwrap()
}

/// A mapped file that holds `bytes`.
pub fn file_of(bytes: &[u8]) -> std::fs::File {
    use std::os::unix::fs::FileExt;
    let file = empty();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// All bytes of a file.
pub fn bytes_of(file: &std::fs::File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
