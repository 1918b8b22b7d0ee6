use std::io::Write as _;

use runstate::{Config, Lifecycle};
use serde_json::{Value, json};
use stream::{
    CHUNK_PAGES, Compression, FileId, Header, MappedWriter, PAGE_SIZE, Parent, ReadError, Section, Summary,
    Writer,
};

use super::*;

const MEMORY: u64 = 1 << 20;

fn header() -> Header {
    Header {
        created_ms: 1_795_723_445_000,
        program: "dormouse 0.1.0".to_owned(),
        name: "before\x1b[2Jthe update".to_owned(),
        description: "Thursday".to_owned(),
        ..Header::new(FileId([0xab; 16]), MEMORY)
    }
}

fn summary() -> Summary {
    Summary { state: "suspended".to_owned(), power: "asleep".to_owned(), guest_ns: 5_000_000_001 }
}

fn section(section: vmcore::Section) -> Section {
    let vmcore::Section { name, version, data } = section;
    Section { name, version, data }
}

/// A lifecycle as it is saved, one that does not decode, a device, a board and a clock.
fn sections() -> Vec<Section> {
    let saved = Lifecycle::new(Config::default()).saved();
    let good = section(vmcore::Section::encode("lifecycle", 1, &saved));
    let newer = Section { version: 2, ..good.clone() };
    let device = Section { name: "uart0".to_owned(), version: 3, data: vec![0; 12] };
    let part = |name: &str, kind: &str| vmcore::DeviceInfo { name: name.to_owned(), kind: kind.to_owned() };
    let board = vmcore::BoardInfo {
        machine: "virt".to_owned(),
        ram_base: 0x8000_0000,
        ram_size: MEMORY,
        harts: 2,
        isa: vec!["m".to_owned()],
        timebase_hz: 10_000_000,
        built_in_sbi: true,
        suspend: true,
        devices: vec![part("uart0", ""), part("virtio0", "virtio-blk")],
    };
    let clock = engine::SavedClock { guest_ns: 9, awake_ns: 8, icount_shift: Some(3) };
    vec![good, newer, device, section(board.save()), section(vmcore::Section::encode("clock", 1, &clock))]
}

fn streamed(header: &Header) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    writer.summary(&summary()).unwrap();
    sections().iter().for_each(|section| writer.section(section).unwrap());
    writer.memory(0, &[7; 2 * PAGE_SIZE as usize]).unwrap();
    writer.zero(CHUNK_PAGES, 240).unwrap();
    writer.end().unwrap()
}

fn mapped() -> File {
    let header = Header { parent: Some(Parent { id: FileId([1; 16]), name: "base".to_owned() }), ..header() };
    let writer = MappedWriter::new(tempfile(), MEMORY).unwrap();
    writer.chunk(0, &[7; stream::CHUNK_SIZE]).unwrap();
    writer.parent(1).unwrap();
    (2..16).for_each(|chunk| writer.zero(chunk).unwrap());
    writer.finish(&header, Some(&summary()), &sections()).unwrap()
}

fn tempfile() -> File {
    tempfile::tempfile().unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn report_of(file: File) -> Value {
    report::of(&Survey::of_file(file, &Limits::default()).unwrap())
}

#[test]
fn arguments() {
    let parse = |line: &str| parse(line.split_whitespace().map(OsString::from));
    let show = |path: &str, json| Task::Show { path: path.into(), json };
    assert_eq!(parse("a").unwrap(), show("a", false));
    assert_eq!(parse("--json -").unwrap(), show("-", true));
    assert_eq!(parse("a -o json").unwrap(), show("a", true));
    assert_eq!(parse("a -o text").unwrap(), show("a", false));
    assert_eq!(parse("--help a b c").unwrap(), Task::Help);
    for (wrong, why) in [
        ("", "no file"),
        ("a b", "more than one file"),
        ("a -o", "-o is json or text"),
        ("a -o xml", "-o is json or text"),
        ("a -x", "no option '-x'"),
    ] {
        let error = parse(wrong).unwrap_err().to_string();
        assert!(error.starts_with(&format!("inspect: {why}\nusage: ")), "{error}");
    }
}

#[test]
fn a_mapped_file_in_json() {
    let mut report = report_of(mapped());
    let sections = report["sections"].take();
    assert_eq!(sections[0]["content"]["power"], "awake");
    assert_eq!(sections[0]["error"], Value::Null);
    assert_eq!(sections[1]["error"], "section 'lifecycle' has version 2, this program reads version 1");
    assert_eq!(sections[2], json!({"name": "uart0", "version": 3, "bytes": 12}));
    assert_eq!(sections[3]["content"]["ram-size"], MEMORY);
    assert_eq!(sections[3]["content"]["devices"][1], json!({"name": "virtio0", "kind": "virtio-blk"}));
    assert_eq!(sections[4]["content"], json!({"guest-ns": 9, "awake-ns": 8, "icount-shift": 3}));
    assert!(report["bytes"].as_u64().unwrap() > MEMORY);
    report["bytes"].take();
    assert_eq!(
        report,
        json!({
            "layout": "mapped",
            "format-version": 1,
            "id": "ab".repeat(16),
            "name": "before\x1b[2Jthe update",
            "description": "Thursday",
            "program": "dormouse 0.1.0",
            "created-ms": 1_795_723_445_000_u64,
            "two-way": false,
            "channel": 0,
            "compression": "none",
            "features": ["incremental"],
            "restore": "lazy",
            "bytes": null,
            "memory": {
                "bytes": MEMORY,
                "zero-pages": 224,
                "raw-pages": 16,
                "packed-pages": 0,
                "packed-bytes": 0,
                "parent-pages": 16,
            },
            "control-frames": 0,
            "sections": null,
            "parent": {"id": "01".repeat(16), "name": "base"},
            "summary": {"state": "suspended", "power": "asleep", "guest-ns": 5_000_000_001_u64},
        })
    );
}

#[test]
fn a_compressed_stream_in_words() {
    let header = Header { compression: Compression::Zstd, ..header() };
    let text = text::of(&report_of(file_of(&streamed(&header))));
    for part in [
        "saved state   'before\\u{1b}[2Jthe update'\n",
        "description   Thursday\n",
        "format        version 1, streamed layout\n",
        "written       2026-11-26 20:04:05 UTC by dormouse 0.1.0\n",
        "state         suspended, guest power asleep, guest time 5.000000001 s\n",
        "memory        1 MiB\n",
        "  zero        960 KiB\n",
        "  packed      8 KiB in ",
        "restore       all of memory is read first, because it is compressed\n",
        "sections      5\n",
        "  uart0      v3      12 bytes\n",
        "    power: awake\n",
        "    holds: owner boot cause prelaunch\n",
        "    harts: 2\n",
        "    devices: name uart0, name virtio0 kind virtio-blk\n",
        "    icount-shift: 3\n",
        "    not understood: section 'lifecycle' has version 2",
        "every checksum is right\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "nothing of a file's reaches the terminal as it is");
}

#[test]
fn what_is_wrong_is_told() {
    let wrong = |bytes: &[u8]| Survey::of_file(file_of(bytes), &Limits::default()).unwrap_err();
    let error = wrong(b"QEVM\0\0\0\x03 and more");
    assert!(matches!(error, SurveyError::Read(ReadError::NotOurs { .. })), "{error}");
    let mut bytes = streamed(&header());
    bytes[300] ^= 1;
    assert!(matches!(wrong(&bytes), SurveyError::Read(ReadError::Damaged { .. })));
    let error = survey(Path::new("/nonexistent/file")).unwrap_err();
    assert_eq!(error.to_string(), "inspect: cannot read '/nonexistent/file'");
}
