//! Images, their locks, faults on demand and the workers, on real files.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use block::{
    Disk, DiskConfig, Fault, FaultRule, FileOptions, Kind, Node, NodeOptions, OpenError, Operation, Outcome,
    Policy,
};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new(len: u64) -> Self {
        let image = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(image.path(), vec![7; usize::try_from(len).unwrap()]).unwrap();
        image
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn options(&self) -> FileOptions {
        FileOptions { path: self.path(), ..FileOptions::default() }
    }

    fn disk_with(&self, options: NodeOptions) -> Disk {
        let file = FileOptions { read_only: options.read_only, ..self.options() };
        disk_on(Node::file(options, &file, false).unwrap())
    }

    fn disk(&self) -> Disk {
        self.disk_with(NodeOptions { discard: true, ..NodeOptions::default() })
    }
}

fn disk_on(node: Arc<Node>) -> Disk {
    try_disk_on(node).unwrap()
}

fn submit(disk: &Disk, operation: Operation) -> Receiver<Outcome> {
    let (done, outcome) = channel();
    disk.submit(operation, move |result| done.send(result).unwrap());
    outcome
}

fn run(disk: &Disk, operation: Operation) -> Outcome {
    submit(disk, operation).recv_timeout(PATIENCE).unwrap()
}

fn write(disk: &Disk, offset: u64, data: &[u8]) -> Outcome {
    run(disk, Operation::Write { offset, data: data.to_vec(), durable: false })
}

fn read(disk: &Disk, offset: u64, len: usize) -> Outcome {
    run(disk, Operation::Read { offset, len })
}

fn try_disk_on(node: Arc<Node>) -> Result<Disk, OpenError> {
    Disk::new(DiskConfig {
        name: "d".into(),
        qdev: "disk0".into(),
        node,
        policy: Policy::default(),
        writeback: true,
    })
}

fn try_open(options: &FileOptions) -> Result<Disk, OpenError> {
    Node::file(NodeOptions::default(), options, true).and_then(try_disk_on)
}

/// As a machine opens it that is to arrive.
fn open_inactive(image: &Image) -> Disk {
    let options = NodeOptions { active: Some(false), ..NodeOptions::default() };
    disk_on(Node::file(options, &image.options(), false).unwrap())
}

fn open_error(options: &FileOptions) -> String {
    match try_open(options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn what_is_written_is_read_and_counted() {
    let image = Image::new(MIB);
    let disk = image.disk();
    write(&disk, 4096, b"hello").unwrap();
    assert_eq!(read(&disk, 4095, 7).unwrap(), b"\x07hello\x07");
    run(&disk, Operation::Flush).unwrap();
    disk.flush().unwrap();
    let all = disk.stats().snapshot();
    let counts = |kind| (all.of(kind).operations, all.of(kind).bytes, all.of(kind).failed);
    assert_eq!(counts(Kind::Write), (1, 5, 0));
    assert_eq!(counts(Kind::Read), (1, 7, 0));
    assert_eq!(counts(Kind::Flush), (1, 0, 0));
    assert_eq!(all.highest_written, 4101);
    assert!(all.of(Kind::Write).total_ns > 0);
    assert_eq!(std::fs::read(image.path()).unwrap()[4096..4101], *b"hello");
}

#[test]
fn discarded_space_goes_back_to_the_host_if_the_node_wants_that() {
    let image = Image::new(MIB);
    let blocks = || std::fs::metadata(image.path()).unwrap().blocks();
    let before = blocks();
    let keeps = image.disk_with(NodeOptions::default());
    run(&keeps, Operation::Discard { offset: 0, len: MIB / 2 }).unwrap();
    keeps.flush().unwrap();
    assert_eq!(blocks(), before);
    drop(keeps);
    // The lock goes with the last of the workers.
    let disk = loop {
        let node =
            Node::file(NodeOptions { discard: true, ..NodeOptions::default() }, &image.options(), false);
        match node.and_then(try_disk_on) {
            Ok(disk) => break disk,
            Err(OpenError::Lock(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    run(&disk, Operation::Discard { offset: 0, len: MIB / 2 }).unwrap();
    disk.flush().unwrap();
    assert!(blocks() < before, "{} of {before} blocks", blocks());
    assert_eq!(read(&disk, 0, 2).unwrap(), [0, 0]);
    assert_eq!(disk.stats().snapshot().of(Kind::Unmap).operations, 2 - 1);
}

#[test]
fn zeroes_are_written_with_and_without_their_space() {
    let image = Image::new(MIB);
    let disk = image.disk();
    for (offset, unmap) in [(0, false), (8192, true)] {
        run(&disk, Operation::WriteZeroes { offset, len: 4096, unmap, durable: true }).unwrap();
    }
    assert_eq!(read(&disk, 4095, 2).unwrap(), [0, 7]);
    assert_eq!(read(&disk, 8191, 2).unwrap(), [7, 0]);
    assert_eq!(std::fs::metadata(image.path()).unwrap().len(), MIB);
}

#[test]
fn an_odd_size_is_filled_up_with_zeroes_and_a_file_cut_short_is_an_error() {
    let image = Image::new(1000);
    let disk = image.disk();
    assert_eq!(disk.node().size(), 1024);
    let mut expected = vec![7; 488];
    expected.resize(512, 0);
    assert_eq!(read(&disk, 512, 512).unwrap(), expected);
    std::fs::OpenOptions::new().write(true).open(image.path()).unwrap().set_len(600).unwrap();
    let error = read(&disk, 512, 512).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "EIO, not zeroes that nobody wrote");
    assert_eq!(disk.stats().snapshot().of(Kind::Read).failed, 1);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not_alone_with_one() {
    let image = Image::new(MIB);
    let disk = try_open(&image.options()).unwrap();
    let path = image.path();
    let asked = format!("lock. Is another process using the image [{}]?", path.display());
    assert_eq!(open_error(&image.options()), format!("Failed to get \"write\" {asked}"));
    let reader = FileOptions { read_only: true, ..image.options() };
    assert_eq!(open_error(&reader), format!("Failed to get shared \"write\" {asked}"));
    drop(try_open(&FileOptions { unlocked: true, ..reader.clone() }).unwrap());
    disk.inactivate().unwrap();
    let readers: Vec<_> = (0..2).map(|_| try_open(&reader).unwrap()).collect();
    assert!(readers.iter().all(|disk| disk.node().is_read_only()));
    assert_eq!(open_error(&image.options()), format!("Failed to get \"write\" {asked}"));
}

#[test]
fn an_image_goes_from_one_to_another_and_back_and_never_is_both_theirs() {
    let image = Image::new(MIB);
    let here = image.disk();
    let there = open_inactive(&image);
    assert!(here.node().is_active() && !there.node().is_active());
    let refused = |disk: &Disk| disk.activate().unwrap_err().to_string();
    for round in 0..3_u8 {
        let (from, to) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        assert!(refused(to).starts_with("Failed to get \"write\" lock"));
        assert!(!to.node().is_active());
        for outcome in [read(to, 0, 1), write(to, 0, &[9])] {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        to.flush().unwrap();
        write(from, 0, &[round]).unwrap();
        from.inactivate().unwrap();
        to.activate().unwrap();
        to.activate().unwrap();
        assert_eq!(read(to, 0, 1).unwrap(), [round]);
        assert!(refused(from).starts_with("Failed to get \"write\" lock"));
        assert!(write(from, 0, &[9]).is_err() && to.node().is_active());
    }
    // One that was refused has left nothing behind that would keep others out.
    drop(here);
    there.inactivate().unwrap();
    there.activate().unwrap();
}

#[test]
fn an_image_that_becomes_active_is_as_others_have_left_it() {
    let image = Image::new(MIB);
    let there = open_inactive(&image);
    let file = std::fs::OpenOptions::new().write(true).open(image.path()).unwrap();
    file.set_len(2 * MIB).unwrap();
    assert_eq!(there.node().size(), MIB);
    there.activate().unwrap();
    assert_eq!(there.node().size(), 2 * MIB);
    assert_eq!(read(&there, 2 * MIB - 2, 2).unwrap(), [0, 0]);
}

#[test]
fn what_cannot_be_flushed_is_not_left_to_others() {
    let image = Image::new(MIB);
    let disk = image.disk();
    disk.node().faults().set(Kind::Flush, Some(FaultRule { fault: Fault::Io, times: Some(1) }));
    assert_eq!(disk.inactivate().unwrap_err().raw_os_error(), Some(5));
    assert!(disk.node().is_active());
    write(&disk, 0, &[1]).unwrap();
    assert!(open_error(&image.options()).starts_with("Failed to get \"write\" lock"));
    disk.inactivate().unwrap();
    try_open(&image.options()).unwrap();
}

#[test]
fn a_node_that_no_disk_uses_keeps_nobody_out() {
    let image = Image::new(MIB);
    let _node = Node::file(NodeOptions::default(), &image.options(), false).unwrap();
    try_open(&image.options()).unwrap();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let image = Image::new(MIB);
    let at = |path: &Path| FileOptions { path: path.to_owned(), ..FileOptions::default() };
    assert_eq!(open_error(&at(Path::new("/nope"))), "Could not open '/nope': No such file or directory");
    let read_only = FileOptions { read_only: true, ..at(Path::new("/dev")) };
    assert_eq!(open_error(&read_only), "'file' driver requires '/dev' to be a regular file");
    std::fs::write(image.path(), b"QFI\xfb\0\0\0\x03 and so on").unwrap();
    assert!(open_error(&image.options()).contains("looks like a qcow2 image"));
    Node::file(NodeOptions::default(), &image.options(), false).unwrap();
}

#[test]
fn faults_fail_as_many_operations_as_asked() {
    let image = Image::new(MIB);
    let disk = image.disk();
    let rule = |fault, times| Some(FaultRule { fault, times });
    let faults = || disk.node().faults();
    faults().set(Kind::Write, rule(Fault::NoSpace, Some(2)));
    for _ in 0..2 {
        assert_eq!(write(&disk, 0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    write(&disk, 0, b"x").unwrap();
    faults().set(Kind::Read, rule(Fault::Io, None));
    for _ in 0..3 {
        assert_eq!(read(&disk, 0, 1).unwrap_err().raw_os_error(), Some(5));
    }
    faults().set(Kind::Read, None);
    read(&disk, 0, 1).unwrap();
    assert_eq!(disk.stats().snapshot().of(Kind::Read).failed, 3);
}

#[test]
fn a_flush_waits_for_what_hangs_and_other_operations_do_not() {
    let image = Image::new(MIB);
    let disk = Arc::new(image.disk());
    disk.node().faults().set(Kind::Write, Some(FaultRule { fault: Fault::Hang, times: None }));
    let hanging = submit(&disk, Operation::Write { offset: 0, data: vec![1], durable: false });
    assert_eq!(read(&disk, 0, 1).unwrap(), [7]);
    let (done, flushed) = channel();
    let flushing = Arc::clone(&disk);
    std::thread::spawn(move || done.send(flushing.flush().is_ok()).unwrap());
    assert_eq!(flushed.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    disk.node().faults().set(Kind::Write, None);
    hanging.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(flushed.recv_timeout(PATIENCE).unwrap());
    assert_eq!(read(&disk, 0, 1).unwrap(), [1], "what hung was done in the end");
}

#[test]
fn a_disk_may_go_while_requests_are_under_way() {
    let image = Image::new(MIB);
    let node = Node::file(NodeOptions::default(), &image.options(), false).unwrap();
    let disk = disk_on(Arc::clone(&node));
    node.faults().set(Kind::Write, Some(FaultRule { fault: Fault::Hang, times: None }));
    let outcomes: Vec<_> = (0..10)
        .map(|at| submit(&disk, Operation::Write { offset: at, data: vec![1], durable: false }))
        .collect();
    drop(disk);
    node.faults().set(Kind::Write, None);
    for outcome in outcomes {
        outcome.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}
