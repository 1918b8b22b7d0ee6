//! Background snapshots: the machine as it was at the command, whatever it does meanwhile.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use migration::{Address, Capability, MigrationError};
use runstate::{ManagementRequest as Ask, RunState};
use support::{World, unix};

const RAM: u64 = 0x8000_0000;

fn file(folder: &Path) -> Address {
    Address::File { path: folder.join("snapshot"), offset: 0 }
}

fn enable(world: &World, capabilities: &[Capability]) {
    let changes: Vec<_> = capabilities.iter().map(|capability| (*capability, true)).collect();
    world.migrations.set_capabilities(&changes).unwrap();
}

/// Sends a background snapshot, and gives what was told.
#[track_caller]
fn sent(world: &World, to: &Address) -> Vec<String> {
    let job = world.migrate(to).unwrap();
    let control = job.control().clone();
    assert!(job.wait());
    assert_eq!(control.report().error, None);
    world.take()
}

/// A machine that has taken in what is there.
#[track_caller]
fn arrived(from: &Address) -> World {
    let there = World::waiting(true);
    let job = there.take_in(from).unwrap();
    let control = job.control().clone();
    assert!(job.wait());
    assert_eq!(control.report().error, None);
    there
}

#[test]
fn a_running_machine_runs_on_and_is_restored_as_it_was() {
    for capabilities in
        [&[Capability::BackgroundSnapshot][..], &[Capability::BackgroundSnapshot, Capability::MappedRam]]
    {
        let folder = tempfile::tempdir().unwrap();
        let here = World::running();
        enable(&here, capabilities);
        here.ram().write(RAM + 0x12_3456, b"as it was").unwrap();
        here.host.advance(5_000);
        assert_eq!(
            sent(&here, &file(folder.path())),
            [
                "MIGRATION{setup} running",
                "MIGRATION{active} running",
                "STOP paused",
                "RESUME running",
                "MIGRATION{completed} running",
            ]
        );
        assert_eq!(here.state(), RunState::Running);
        let report = here.migrations.report().unwrap();
        assert_eq!(
            (report.ram.remaining, report.ram.duplicate + report.ram.normal),
            (0, here.ram().size() / 4096)
        );
        assert!(report.downtime.is_some() && report.error.is_none());
        here.ram().write(RAM + 0x12_3456, b"since").unwrap();
        for _ in 0..2 {
            let there = arrived(&file(folder.path()));
            assert_eq!((there.state(), there.clock.now_ns()), (RunState::Running, 5_000));
            let mut bytes = [0; 9];
            there.ram().read(RAM + 0x12_3456, &mut bytes).unwrap();
            assert_eq!(&bytes, b"as it was");
        }
        // It may be done again.
        sent(&here, &file(folder.path()));
    }
}

#[test]
fn every_state_stays_and_is_restored_under_its_name() {
    type Make = fn(&World);
    let sleeps: Make = |world| world.fall_asleep();
    let stopped: Make = |world| world.ask(Ask::Stop);
    let both: Make = |world| {
        world.fall_asleep();
        world.ask(Ask::Stop);
    };
    let off: Make = |world| {
        world.ask(Ask::Stop);
        world.ask(Ask::SystemReset);
    };
    for (make, state, told) in [
        (sleeps, RunState::Suspended, &["STOP paused", "RESUME suspended", "SUSPEND suspended"][..]),
        (stopped, RunState::Paused, &[]),
        (both, RunState::Paused, &[]),
        (off, RunState::Prelaunch, &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let here = World::running();
        enable(&here, &[Capability::BackgroundSnapshot]);
        make(&here);
        let power = here.engine.status().power;
        here.take();
        let lines = sent(&here, &file(folder.path()));
        let life: Vec<&str> =
            lines.iter().map(String::as_str).filter(|line| !line.starts_with("MIGRATION")).collect();
        assert_eq!((life.as_slice(), here.state()), (told, state));
        let there = arrived(&file(folder.path()));
        assert_eq!((there.state(), there.engine.status().power), (state, power));
    }
}

/// What is written while the bytes go out slowly is not in them.
#[test]
fn what_is_written_meanwhile_is_not_in_it_and_nobody_waits_for_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let Address::Unix(path) = &place else { panic!("not a socket") };
    let listener = UnixListener::bind(path).unwrap();
    let here = World::running();
    enable(&here, &[Capability::BackgroundSnapshot]);
    let chunk = vec![7; 64 << 10];
    let (first, count) = (RAM, here.ram().size() / (64 << 10));
    for number in 0..count {
        here.ram().write(first + number * (64 << 10), &chunk).unwrap();
    }
    let job = here.migrate(&place).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    here.until("RESUME running");
    // The other side has read nothing: a socket takes far less than all of it.
    for number in 0..count {
        here.ram().write(first + number * (64 << 10) + 5, b"since").unwrap();
    }
    here.ask(Ask::Stop);
    here.ask(Ask::Cont);
    here.ask(Ask::SystemReset);
    assert!(!job.control().report().ended);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(job.wait());
    assert_eq!(here.take().last().map(String::as_str), Some("MIGRATION{completed} running"));
    let kept = folder.path().join("snapshot");
    std::fs::write(&kept, bytes).unwrap();
    let there = arrived(&Address::File { path: kept, offset: 0 });
    for number in 0..count {
        let mut back = vec![0; 64 << 10];
        there.ram().read(first + number * (64 << 10), &mut back).unwrap();
        assert!(back == chunk, "chunk {number}");
    }
}

#[test]
fn one_that_is_cancelled_or_fails_leaves_the_machine_running() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let Address::Unix(path) = &place else { panic!("not a socket") };
    let here = World::running();
    enable(&here, &[Capability::BackgroundSnapshot]);
    // Nobody is there: the machine is not even held for it.
    let job = here.migrate(&place).unwrap();
    assert!(job.wait());
    assert_eq!(here.take(), ["MIGRATION{setup} running", "MIGRATION{failed} running"]);
    assert!(here.migrations.report().unwrap().error.is_some());
    // Somebody, who does not read.
    let listener = UnixListener::bind(path).unwrap();
    let noise: Vec<u8> = (0..here.ram().size()).map(|at| at as u8 | 1).collect();
    here.ram().write(RAM, &noise).unwrap();
    let job = here.migrate(&place).unwrap();
    let (stream, _) = listener.accept().unwrap();
    here.until("RESUME running");
    here.migrations.cancel(engine::By::Unnamed).unwrap();
    assert!(job.wait());
    assert_eq!(here.take(), ["MIGRATION{cancelling} running", "MIGRATION{cancelled} running"]);
    drop(stream);
    // Somebody, who hangs up.
    let job = here.migrate(&place).unwrap();
    drop(listener.accept().unwrap());
    assert!(job.wait());
    assert_eq!(here.take().last().map(String::as_str), Some("MIGRATION{failed} running"));
    assert!(!here.ram().is_being_saved());
    // And it can be tried again.
    sent(&here, &file(folder.path()));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let world = World::running();
    for other in [
        Capability::PostcopyRam,
        Capability::ReturnPath,
        Capability::PauseBeforeSwitchover,
        Capability::AutoConverge,
    ] {
        let error = world
            .migrations
            .set_capabilities(&[(Capability::BackgroundSnapshot, true), (other, true)])
            .unwrap_err();
        assert_eq!(error.to_string(), format!("Background-snapshot is not compatible with {}", other.name()));
    }
    assert_eq!(world.migrations.capabilities(), migration::Capabilities::default());
    let folder = tempfile::tempdir().unwrap();
    enable(&world, &[Capability::BackgroundSnapshot]);
    struct Nowhere;
    impl ram::ChunkSink for Nowhere {
        fn save(&self, _chunk: usize, _bytes: &[u8]) {}
    }
    let save = world.ram().begin_save(ram::Portion::All, std::sync::Arc::new(Nowhere), || {}).unwrap();
    assert!(matches!(world.migrate(&file(folder.path())), Err(MigrationError::Saving)));
    drop(save);
    sent(&world, &file(folder.path()));
}
