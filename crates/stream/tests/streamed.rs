//! The streamed layout: what goes in comes out, and nothing else does.

mod common;

use common::{MEMORY, Owned, header, noise, read, read_within, sample, sections, text, write};
use proptest::prelude::*;
use stream::{
    CHUNK_PAGES, CHUNK_SIZE, Compression, Control, Damage, FileId, Form, Header, Limits, PAGE_SIZE, Parent,
    ReadError, Reader, Section, Summary, WriteError, Writer,
};

#[test]
fn what_is_written_is_read() {
    for compression in [Compression::None, Compression::Zstd] {
        let (header, items) = sample(compression);
        let (found, read, totals) = read(&write(&header, &items)).unwrap();
        assert_eq!(found, header);
        assert_eq!(read, items);
        assert_eq!((totals.sections, totals.zero, totals.parent), (3, 20, 18));
        let packed = u64::from(compression == Compression::Zstd);
        assert_eq!((totals.raw, totals.packed), (2 - packed, packed), "noise is not packed");
    }
}

#[test]
fn every_word_of_the_handshake_is_read_as_it_was_said() {
    let names = || vec!["postcopy".to_owned(), "multifd".to_owned()];
    let words = [
        Control::Hello { board: vec![1, 2, 3], features: names() },
        Control::Accepted { features: names() },
        Control::Refused { text: "another board, größer".to_owned() },
        Control::Round { number: 7 },
        Control::Ready,
        Control::Commit { postcopy: true },
        Control::Commit { postcopy: false },
        Control::Done,
        Control::PageRequest { chunk: 1 << 40, count: 9 },
        Control::Absent { first: 64, bits: vec![0xa5; Control::MAX_BITS] },
        Control::Received { first: 0, bits: Vec::new() },
        Control::Recover { id: FileId([9; 16]) },
    ]
    .map(Owned::Control);
    let header = Header { two_way: true, ..header(Compression::None) };
    assert_eq!(header.features(), ["two-way", "incremental"]);
    let (found, read, _) = read(&write(&header, &words)).unwrap();
    assert_eq!((found, read.as_slice()), (header, &words[..]));
}

#[test]
fn a_refusal_that_is_too_long_is_cut_between_characters() {
    let word = Owned::Control(Control::Refused { text: "ö".repeat(4000) });
    let (_, read, _) = read(&write(&header(Compression::None), &[word])).unwrap();
    assert_eq!(read, [Owned::Control(Control::Refused { text: "ö".repeat(2048) })]);
}

#[test]
fn zero_pages_cost_one_record() {
    let header = Header::new(FileId([0; 16]), 1 << 30);
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    let zeros = vec![0; CHUNK_SIZE];
    for chunk in 0..(1 << 30) / CHUNK_SIZE as u64 {
        assert_eq!(writer.memory(chunk * CHUNK_PAGES, &zeros).unwrap(), Form::Zero);
    }
    let bytes = writer.end().unwrap();
    assert!(bytes.len() < 128, "{}", bytes.len());
    let (_, items, _) = read(&bytes).unwrap();
    assert_eq!(items, [Owned::Zero(0, 1 << 18)]);
}

#[test]
fn every_flipped_bit_is_found() {
    for compression in [Compression::None, Compression::Zstd] {
        let (header, items) = sample(compression);
        let mut bytes = write(&header, &items);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit} of {}", bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(read(&bytes).is_ok());
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let (header, items) = sample(Compression::Zstd);
    let mut bytes = write(&header, &items);
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).unwrap_err();
        assert!(
            matches!(error, ReadError::Truncated { offset, .. } if offset == length as u64),
            "{length}: {error}"
        );
    }
    bytes.push(0);
    let end = bytes.len() as u64 - 1;
    assert!(matches!(read(&bytes), Err(ReadError::Trailing { offset }) if offset == end));
}

/// The frames behind the preamble, cut apart.
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = &bytes[16..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let mut length = 12 + u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        if rest[0] == 4 {
            length += u32::from_le_bytes(rest[12 + 24..12 + 28].try_into().unwrap()) as usize;
        }
        let (frame, left) = rest.split_at(length);
        frames.push(frame);
        rest = left;
    }
    frames
}

#[test]
fn a_frame_that_is_missing_doubled_or_exchanged_is_found() {
    let (header, items) = sample(Compression::None);
    let bytes = write(&header, &items);
    let frames = frames(&bytes);
    let joined = |frames: &[&[u8]]| [&bytes[..16], &frames.concat()].concat();
    assert_eq!(joined(&frames), bytes);
    for at in 0..frames.len() - 1 {
        let (mut without, mut doubled, mut exchanged) = (frames.clone(), frames.clone(), frames.clone());
        without.remove(at);
        doubled.insert(at, frames[at]);
        exchanged.swap(at, at + 1);
        for wrong in [without, doubled, exchanged] {
            assert!(read(&joined(&wrong)).is_err(), "frame {at}");
        }
    }
}

#[test]
fn other_files_newer_formats_and_the_other_layout_are_told_apart() {
    let bytes = write(&header(Compression::None), &[]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        read(&bytes).unwrap_err()
    };
    assert!(matches!(changed(0, b'Q'), ReadError::NotOurs { .. }));
    assert!(matches!(changed(8, 2), ReadError::NewerFormat { found: 2 }));
    assert_eq!(
        changed(8, 2).to_string(),
        "the saved state has format version 2, this program reads up to 1: use the version of dormouse that saved it, \
         or a newer one"
    );
    assert!(matches!(changed(8, 0), ReadError::NoFormat));
    assert!(matches!(changed(12, 1), ReadError::WrongLayout { .. }));
    assert!(matches!(changed(12, 2), ReadError::Damaged { damage: Damage::Layout(2), .. }));
    assert!(matches!(changed(13, 1), ReadError::Damaged { .. }));
}

/// A frame with a good checksum behind `before`, whose last frame has the checksum `crc`.
fn forged(before: &[u8], crc: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    let length = (payload.len() as u32).to_le_bytes();
    [&[kind][..], &length, payload].iter().for_each(|part| hasher.update(part));
    let crc = hasher.finalize().to_le_bytes();
    [before, &[kind, 0, 0, 0], &length, &crc, payload].concat()
}

#[test]
fn a_feature_from_the_future_is_refused_by_its_name() {
    // Whatever follows the names is not looked at.
    let names = vec!["zstd", "holograms", "smell"];
    let payload = [postcard::to_stdvec(&names).unwrap(), vec![0xff; 9]].concat();
    let preamble = *b"DORMOUSE\x01\0\0\0\0\0\0\0";
    let bytes = forged(&preamble, crc32fast::hash(&preamble), 1, &payload);
    let error = read(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the saved state needs 'holograms', 'smell', which this program does not know: use the version of dormouse \
         that saved it, or a newer one"
    );
}

#[test]
fn lengths_are_held_against_caps_before_anything_is_read() {
    let limits = Limits { memory: MEMORY, section: 40, all_sections: 56, sections: 3 };
    let header = header(Compression::None);
    let within = |sections: &[Section]| {
        let items: Vec<Owned> = sections.iter().cloned().map(Owned::Section).collect();
        read_within(&write(&header, &items), &limits).map(|_| ())
    };
    let section = |length: usize| Section { name: "a".to_owned(), version: 1, data: vec![0; length] };
    within(&[section(40), section(14)]).unwrap();
    within(&vec![section(0); 3]).unwrap();
    assert!(matches!(within(&[section(41)]), Err(ReadError::TooLarge { announced: 41, most: 40, .. })));
    assert!(matches!(within(&[section(40), section(15)]), Err(ReadError::TooLarge { .. })));
    assert!(matches!(within(&vec![section(0); 4]), Err(ReadError::TooLarge { announced: 4, most: 3, .. })));
    let smaller = Limits { memory: MEMORY - 1, ..limits };
    let error = read_within(&write(&header, &[]), &smaller).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { what: "memory", announced: MEMORY, .. }));
    // A header that announces 4 GiB of itself and then stays silent.
    let mut huge = write(&header, &[]);
    huge.truncate(28);
    huge[20..24].copy_from_slice(&[0xff; 4]);
    assert!(matches!(read(&huge), Err(ReadError::TooLarge { what: "the header", .. })));
}

#[test]
fn a_writer_refuses_what_no_reader_takes() {
    let long = "x".repeat(5000);
    let good = header(Compression::None);
    for wrong in [
        Header { name: long.clone(), ..good.clone() },
        Header { description: long.clone(), ..good.clone() },
        Header { program: long.clone(), ..good.clone() },
        Header { parent: Some(Parent { id: FileId([0; 16]), name: long.clone() }), ..good.clone() },
    ] {
        assert!(matches!(Writer::new(Vec::new(), &wrong), Err(WriteError::TooLong { .. })));
    }
    for memory in [PAGE_SIZE + 1, stream::MAX_MEMORY + PAGE_SIZE] {
        let wrong = Header { memory, ..good.clone() };
        assert!(matches!(Writer::new(Vec::new(), &wrong), Err(WriteError::BadMemory { .. })));
    }
    let mut writer = Writer::new(Vec::new(), &Header { parent: None, ..good }).unwrap();
    let page = [1; PAGE_SIZE as usize];
    let last = MEMORY / PAGE_SIZE;
    for (at, bytes) in [
        (0, &page[1..]),
        (0, &[]),
        (last, &page),
        (u64::MAX, &page),
        (CHUNK_PAGES - 1, &[page, page].concat()),
        (0, &vec![1; CHUNK_SIZE + PAGE_SIZE as usize]),
    ] {
        assert!(matches!(writer.memory(at, bytes), Err(WriteError::Range { .. })), "{at} {}", bytes.len());
    }
    for (at, pages) in [(0, 0), (last, 1), (1, u64::MAX), (0, last + 1)] {
        assert!(matches!(writer.zero(at, pages), Err(WriteError::Range { .. })), "{at} {pages}");
    }
    assert!(matches!(writer.parent(0, 1), Err(WriteError::NoParent)));
    let nameless = Section { name: String::new(), version: 1, data: Vec::new() };
    assert!(matches!(writer.section(&nameless), Err(WriteError::NoName)));
    let named = Section { name: "x".repeat(256), ..nameless };
    assert!(matches!(writer.section(&named), Err(WriteError::TooLong { .. })));
    assert!(matches!(
        writer.control(&Control::Absent { first: 0, bits: vec![0; Control::MAX_BITS + 1] }),
        Err(WriteError::TooLong { .. })
    ));
    // What was refused has left no trace.
    assert_eq!(read(&writer.end().unwrap()).unwrap().1, []);
}

#[test]
fn the_source_may_give_its_bytes_one_at_a_time() {
    struct Drip<'a>(&'a [u8]);
    impl std::io::Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let length = into.len().min(1);
            std::io::Read::read(&mut self.0, &mut into[..length])
        }
    }
    let (header, items) = sample(Compression::Zstd);
    let bytes = write(&header, &items);
    let mut reader = Reader::new(Drip(&bytes), &Limits::default()).unwrap();
    let mut count = 0;
    while reader.read().unwrap() != stream::Item::End {
        count += 1;
    }
    assert_eq!(count, items.len());
    reader.finish().unwrap();
}

#[test]
fn a_full_disk_is_an_error_even_at_the_end() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let header = header(Compression::None);
    let length = write(&header, &[]).len();
    assert!(Writer::new(Full(length), &header).unwrap().end().is_ok());
    assert!(matches!(Writer::new(Full(length - 1), &header).unwrap().end(), Err(WriteError::Io(_))));
}

/// Whole pages of one chunk with some content.
fn pages() -> impl Strategy<Value = Owned> {
    (0..MEMORY / PAGE_SIZE, 1..=CHUNK_PAGES, 0..3, any::<u64>()).prop_map(|(page, pages, sort, seed)| {
        let pages = pages.min(CHUNK_PAGES - page % CHUNK_PAGES).min(MEMORY / PAGE_SIZE - page);
        let length = (pages * PAGE_SIZE) as usize;
        match sort {
            0 => Owned::Zero(page, pages),
            1 => Owned::Bytes(page, noise(length, seed)),
            _ => Owned::Bytes(page, text(length)),
        }
    })
}

fn item() -> impl Strategy<Value = Owned> {
    let section = (".{1,40}", any::<u32>(), prop::collection::vec(any::<u8>(), 0..300));
    let word = (".{0,20}", ".{0,20}", any::<u64>());
    prop_oneof![
        section.prop_map(|(name, version, data)| Owned::Section(Section { name, version, data })),
        word.prop_map(|(state, power, guest_ns)| Owned::Summary(Summary { state, power, guest_ns })),
        pages(),
        (0..50_u64, 1..16_u64).prop_map(|(page, pages)| Owned::Parent(page, pages)),
        any::<u32>().prop_map(|number| Owned::Control(Control::Round { number })),
        (any::<u64>(), prop::collection::vec(any::<u8>(), 0..99))
            .prop_map(|(first, bits)| Owned::Control(Control::Received { first, bits })),
    ]
}

/// Memory, page by page: 0 for zeros, 1 for the parent's, else a checksum.
fn memory(items: &[Owned]) -> Vec<u64> {
    let mut memory = vec![2; (MEMORY / PAGE_SIZE) as usize];
    for item in items {
        match item {
            Owned::Zero(page, pages) => memory[*page as usize..][..*pages as usize].fill(0),
            Owned::Parent(page, pages) => memory[*page as usize..][..*pages as usize].fill(1),
            Owned::Bytes(page, bytes) => {
                for (n, bytes) in bytes.chunks(PAGE_SIZE as usize).enumerate() {
                    memory[*page as usize + n] = xxhash_rust::xxh3::xxh3_64(bytes);
                }
            }
            _ => {}
        }
    }
    memory
}

/// Bytes, as often as not of a length and with values that a record of memory has.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        prop::collection::vec(prop_oneof![3 => Just(0), 1 => 0..20_u8, 1 => any::<u8>()], 32..80),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn anything_that_is_written_is_read(items in prop::collection::vec(item(), 0..20), zstd: bool) {
        let header = header(if zstd { Compression::Zstd } else { Compression::None });
        let (found, read, _) = read(&write(&header, &items)).unwrap();
        prop_assert_eq!(found, header);
        prop_assert_eq!(memory(&read), memory(&items));
        // Runs of zero pages may have grown together; all else is there in its order.
        let others = |items: &[Owned]| -> Vec<Owned> {
            items.iter().filter(|item| !matches!(item, Owned::Zero(..) | Owned::Parent(..))).cloned().collect()
        };
        prop_assert_eq!(others(&read), others(&items));
    }

    #[test]
    fn garbage_gives_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), front in 0..3) {
        let valid = write(&header(Compression::None), &sections().into_iter().map(Owned::Section).collect::<Vec<_>>());
        let front = match front { 0 => 0, 1 => 16, _ => valid.len() - 12 };
        prop_assert!(read(&[&valid[..front], &bytes].concat()).is_err());
    }

    /// Forged frames with good checksums reach the decoders of payloads.
    #[test]
    fn forged_frames_give_an_error_or_a_value(kind in 0..40_u8, payload in payload()) {
        let mut front = write(&header(Compression::Zstd), &[]);
        front.truncate(front.len() - 12);
        let crc = u32::from_le_bytes(front[24..28].try_into().unwrap());
        let result = read(&forged(&front, crc, kind, &payload));
        let is_frame_error = matches!(result, Err(ReadError::Damaged { damage: Damage::Frame { .. }, .. }));
        prop_assert!(!is_frame_error, "the checksum is good");
    }
}
