//! Dumps of a machine without a board: what is written, and what becomes of the machine when it cannot be.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use clock::{GuestClock, TestClock, TimerQueue};
use dump::{begin, may_begin};
use engine::{Builder, By, Engine, EngineConfig, Record, Status, Subscriber};
use object::Endianness;
use object::read::elf::{FileHeader, ProgramHeader};
use runstate::{Config, Lifecycle, ManagementRequest as Ask, RunState, ShutdownCause};
use vmcore::Machine;
use vmcore::testing::FakeMachine;

const QUIT: Ask = Ask::Quit { cause: ShutdownCause::HostQmpQuit };

#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl Events {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Subscriber for Events {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        if let Some(event) = record.and_then(|record| record.event) {
            self.0.lock().unwrap().push(format!("{} {}", event.name(), status.state));
        }
    }
}

/// A machine of two harts that runs, and what its clients see.
fn running() -> (Engine, Arc<Events>) {
    let host = TestClock::new(1_000_000_000, 1_700_000_000_000_000_000);
    let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
    let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
    let (machine, vcpus, _scripts) = FakeMachine::new(2, &clock, &timers);
    let config = EngineConfig {
        machine: machine as Arc<dyn Machine>,
        vcpus,
        timers,
        host: Arc::new(host),
        lifecycle: Lifecycle::new(Config::default()),
        counted: None,
        hart_nice: None,
    };
    let engine = Builder::new().start(config).unwrap();
    let events = Arc::new(Events::default());
    engine.subscribe(Arc::clone(&events) as Arc<dyn Subscriber>);
    engine.manage(Ask::Cont).unwrap();
    events.take();
    (engine, events)
}

/// Dumps, waits, and gives the error.
fn dump(engine: &Engine, target: impl Into<OwnedFd>, range: Option<(u64, u64)>) -> Option<String> {
    let job = begin(engine, By::Unnamed, target.into(), range, false).unwrap();
    let control = job.control().clone();
    assert!(job.wait());
    let report = control.report();
    assert!(report.ended);
    report.error.as_deref().map(str::to_owned)
}

/// The memory of a core file: its first address, and its bytes.
fn memory(file: &[u8]) -> (u64, Vec<u8>) {
    let header = object::elf::FileHeader64::<Endianness>::parse(file).unwrap();
    let endian = header.endian().unwrap();
    let [notes, memory] = header.program_headers(endian, file).unwrap() else { panic!("not two segments") };
    let mut harts = 0;
    let mut all = notes.notes(endian, file).unwrap().unwrap();
    while all.next().unwrap().is_some() {
        harts += 1;
    }
    assert_eq!(harts, 2);
    (memory.p_paddr(endian), memory.data(endian, file).unwrap().to_vec())
}

#[test]
fn all_of_memory_is_written_while_the_machine_stands() {
    let (engine, events) = running();
    let ram = engine.ram().unwrap();
    let last = FakeMachine::RAM_BASE + FakeMachine::RAM_SIZE - 4;
    ram.write(FakeMachine::RAM_BASE + 0x1000, b"in the middle").unwrap();
    ram.write(last, b"last").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![1_u8; 9 << 20]).unwrap();
    assert_eq!(dump(&engine, file.reopen().unwrap(), None), None);
    assert_eq!(events.take(), ["STOP save-vm", "RESUME running"]);
    let (base, bytes) = memory(&std::fs::read(file.path()).unwrap());
    assert_eq!((base, bytes.len() as u64), (FakeMachine::RAM_BASE, FakeMachine::RAM_SIZE));
    assert_eq!(&bytes[0x1000..][..13], b"in the middle");
    assert_eq!(&bytes[bytes.len() - 4..], b"last");
    let kernel = (FakeMachine::KERNEL - FakeMachine::RAM_BASE) as usize;
    assert!(
        [0x2000..kernel, kernel + 6..bytes.len() - 4].into_iter().flatten().all(|at| bytes[at] == 0),
        "what was in the file before shows"
    );
}

#[test]
fn a_range_is_clipped_to_memory_and_one_without_memory_is_refused() {
    let (engine, events) = running();
    let (base, size) = (FakeMachine::RAM_BASE, FakeMachine::RAM_SIZE);
    for (range, expected) in [
        ((base + 0x1000, 0x2000), (base + 0x1000, 0x2000)),
        ((0, base + 5), (base, 5)),
        ((base + size - 1, u64::MAX), (base + size - 1, 1)),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(dump(&engine, file.reopen().unwrap(), Some(range)), None);
        let (from, bytes) = memory(&std::fs::read(file.path()).unwrap());
        assert_eq!((from, bytes.len() as u64), expected);
    }
    events.take();
    for range in [(0, base), (base, 0), (base + size, 1), (u64::MAX, u64::MAX)] {
        let error = begin(&engine, By::Unnamed, tempfile::tempfile().unwrap().into(), Some(range), false);
        assert_eq!(error.unwrap_err().to_string(), "Invalid parameter 'begin'");
    }
    assert!(events.take().is_empty(), "a refusal stopped the machine");
}

#[test]
fn a_full_disk_and_a_closed_pipe_fail_the_dump_alone() {
    let (engine, events) = running();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = dump(&engine, full, None);
    assert_eq!(error.as_deref(), Some("dump: failed to save memory: No space left on device"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(dump(&engine, writer, None).as_deref(), Some("dump: failed to save memory: Broken pipe"));
    assert_eq!(events.take(), ["STOP save-vm", "RESUME running", "STOP save-vm", "RESUME running"]);
}

#[test]
fn a_page_that_the_host_has_lost_fails_the_dump_and_breaks_the_machine() {
    let (engine, events) = running();
    let file = tempfile::NamedTempFile::new().unwrap();
    engine.ram().unwrap().spoil(FakeMachine::RAM_BASE + 0x5000).unwrap();
    let error = dump(&engine, file.reopen().unwrap(), None).unwrap();
    assert_eq!(error, "dump: failed to save memory: the host has lost a page of guest memory");
    // Known before the job ends, so that no guest goes on that has lost something.
    assert_eq!(events.take(), ["STOP save-vm"]);
    assert_eq!(engine.status().state, RunState::InternalError);
    engine.manage(Ask::SystemReset).unwrap();
    engine.manage(Ask::Cont).unwrap();
    assert_eq!(events.take(), ["RESET prelaunch", "RESUME running"]);
    assert_eq!(dump(&engine, file.reopen().unwrap(), None), None);
}

#[test]
fn quit_does_not_wait_for_a_reader_that_does_not_read() {
    let (engine, events) = running();
    let (_reader, writer) = std::io::pipe().unwrap();
    let job = begin(&engine, By::Unnamed, writer.into(), None, true).unwrap();
    assert_eq!(engine.status().state, RunState::SaveVm);
    let refused = may_begin(&engine).unwrap_err().to_string();
    assert_eq!(refused, "There is a dump in process, please wait.");
    engine.manage(QUIT).unwrap();
    assert_eq!(engine.wait(), 0);
    assert!(!job.wait());
    assert_eq!(events.take(), ["STOP save-vm", "SHUTDOWN shutdown"]);
}

#[test]
fn a_pipe_gets_the_same_bytes_as_a_file() {
    let (engine, _events) = running();
    engine.ram().unwrap().write(FakeMachine::RAM_BASE + 77, b"piped").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(dump(&engine, file.reopen().unwrap(), None), None);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let read = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        bytes
    });
    assert_eq!(dump(&engine, writer, None), None);
    assert!(read.join().unwrap() == std::fs::read(file.path()).unwrap());
}
