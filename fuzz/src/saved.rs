//! Saved machines from strangers: any bytes, and frames with good checksums, which alone reach what is behind them.
//!
//! The first byte says which; frames then come as kind, length (u16), payload. A Memory frame's content is taken from the
//! bytes behind it, and its hash is made good.

use std::fs::File;
use std::io::Write as _;

use stream::{
    Compression, Content, FileId, Header, Item, Layout, Limits, MappedWriter, Parent, Reader, Survey, Writer,
};

const PREAMBLE: usize = 16;
const PAGE: usize = stream::PAGE_SIZE as usize;
/// Kind of a Memory frame, and where its hash and the length of its content are.
const MEMORY: u8 = 4;
const HASH: std::ops::Range<usize> = 16..24;
const STORED: std::ops::Range<usize> = 24..28;

/// A form gives an error or a value, the same from a file and from a pipe; a value written again is the same; a part of
/// it is none.
pub fn saved(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let form = match how % 4 {
        0 => rest.to_vec(),
        1 => behind_header(rest),
        2 => forged(*b"DORMOUSE\x01\0\0\0\0\0\0\0", rest),
        _ => mapped(rest),
    };
    let limits = Limits { memory: 1 << 30, ..Limits::default() };
    let pipe = Survey::of(&form[..], &limits);
    let file = Survey::of_file(file_of(&form), &limits);
    assert_eq!(pipe.is_ok(), file.is_ok(), "{pipe:?} {file:?}");
    let Ok(survey) = pipe else { return };
    assert_eq!(Some(&survey), file.as_ref().ok());
    assert!(Survey::of(&form[..form.len() - 1], &limits).is_err(), "a part was taken for the whole");
    if survey.layout == Layout::Streamed {
        let again = written_again(&form, &limits);
        let again = Survey::of(&again[..], &limits).expect("what was written again is read again");
        assert_eq!(
            (again.header, again.sections, again.summary),
            (survey.header, survey.sections, survey.summary)
        );
    }
}

fn header(memory: u64) -> Header {
    let parent = Some(Parent { id: FileId([1; 16]), name: String::new() });
    Header { parent, ..Header::new(FileId([0; 16]), memory) }
}

/// Frames behind the header of a stream.
fn behind_header(rest: &[u8]) -> Vec<u8> {
    let header = Header { compression: Compression::Zstd, two_way: true, ..header(1 << 20) };
    let mut form = Writer::new(Vec::new(), &header).and_then(Writer::end).expect("memory takes it");
    form.truncate(form.len() - 12);
    let crc = crc_behind_header(&form, PREAMBLE);
    append(&mut form, crc, rest);
    form
}

/// Frames behind nothing but a preamble.
fn forged(preamble: [u8; PREAMBLE], rest: &[u8]) -> Vec<u8> {
    let mut form = preamble.to_vec();
    append(&mut form, crc32fast::hash(&preamble), rest);
    form
}

/// Frames behind the header of a mapped file with two pages of memory.
fn mapped(rest: &[u8]) -> Vec<u8> {
    let memory = 2 * PAGE as u64;
    let good = MappedWriter::new(file_of(&[]), memory).and_then(|writer| {
        writer.zero(0)?;
        writer.finish(&header(memory), None, &[])
    });
    let mut form = bytes_of(&good.expect("memory takes it"));
    let index = 3 * PAGE;
    let header = 12 + u32::from_le_bytes(form[index + 4..index + 8].try_into().unwrap()) as usize;
    form.truncate(index + header);
    let crc = crc_behind_header(&form, index);
    append(&mut form, crc, rest);
    let length = form.len() as u64;
    form[24..32].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&form[..32]);
    form[32..36].copy_from_slice(&crc.to_le_bytes());
    form
}

/// The checksum of the Header frame at `at`.
fn crc_behind_header(form: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(form[at + 8..at + 12].try_into().unwrap())
}

/// Appends frames behind one with the checksum `crc`.
fn append(form: &mut Vec<u8>, mut crc: u32, mut rest: &[u8]) {
    while let Some((&[kind, l0, l1], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(after.len().min(u16::from_le_bytes([l0, l1]).into()));
        let mut payload = payload.to_vec();
        rest = after;
        let mut content = &[][..];
        if kind == MEMORY && payload.len() == 32 {
            let stored = u32::from_le_bytes(payload[STORED].try_into().unwrap()) as usize;
            (content, rest) = rest.split_at(rest.len().min(stored));
            let hash = if content.is_empty() { 0 } else { xxhash_rust::xxh3::xxh3_64(content) };
            payload[HASH].copy_from_slice(&hash.to_le_bytes());
        }
        let length = (payload.len() as u32).to_le_bytes();
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        [&[kind][..], &length, &payload].into_iter().for_each(|part| hasher.update(part));
        crc = hasher.finalize();
        form.extend_from_slice(&[kind, 0, 0, 0]);
        form.extend_from_slice(&length);
        form.extend_from_slice(&crc.to_le_bytes());
        form.extend_from_slice(&payload);
        form.extend_from_slice(content);
    }
}

/// What is in a good stream, by another writer.
fn written_again(form: &[u8], limits: &Limits) -> Vec<u8> {
    let mut reader = Reader::new(form, limits).expect("it was read before");
    let mut writer = Writer::new(Vec::new(), reader.header()).expect("a header that was read can be written");
    loop {
        let written = match reader.read().expect("it was read before") {
            Item::Section(section) => writer.section(&section),
            Item::Summary(summary) => writer.summary(&summary),
            Item::Control(control) => writer.control(&control),
            Item::Memory(piece) => match piece.content {
                Content::Zero => writer.zero(piece.page, piece.pages),
                Content::Parent => writer.parent(piece.page, piece.pages),
                Content::Bytes(bytes) => writer.memory(piece.page, bytes).map(drop),
            },
            Item::End => return writer.end().expect("memory takes it"),
        };
        written.expect("what was read can be written");
    }
}

fn file_of(bytes: &[u8]) -> File {
    let fd = rustix::fs::memfd_create("saved", rustix::fs::MemfdFlags::CLOEXEC).expect("memory for a file");
    let mut file = File::from(fd);
    file.write_all(bytes).expect("memory takes it");
    file
}

fn bytes_of(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; file.metadata().expect("a file").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("memory gives it");
    bytes
}
