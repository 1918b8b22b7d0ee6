//! A connection that is lost in postcopy, anywhere: it is taken up again, one machine is whole, and what is asked of it
//! meanwhile is done.

#[path = "support/postcopy.rs"]
mod postcopy;
#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use engine::{By, Job};
use migration::Address;
use postcopy::*;
use ram::RamError;
use runstate::{ManagementRequest as Ask, MigrationStatus, RunState};
use support::{World, unix};
use vmcore::testing::{FakeStorage, Mishap, Step};

/// Begins a move, and waits until the guest runs over there with its memory here.
#[track_caller]
fn apart(here: &World, there: &World, folder: &Path) -> [Job; 2] {
    let place = unix(folder);
    let jobs = early(here, there, &place, &place);
    here.until("MIGRATION{postcopy-active}");
    there.until("MIGRATION{postcopy-active}");
    jobs
}

/// Passes bytes on and keeps those that come from the source, until so many have gone one way or the other.
struct Proxy {
    threads: Vec<JoinHandle<()>>,
    seen: [Arc<Mutex<Vec<u8>>>; 2],
}

impl Proxy {
    fn between(listener: UnixListener, there: &Path, from_source: usize, from_target: usize) -> Self {
        let seen: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let kept = seen.clone();
        let there = there.to_owned();
        let accept = std::thread::spawn(move || {
            let (source, _) = listener.accept().unwrap();
            let target = UnixStream::connect(there).unwrap();
            let back = (target.try_clone().unwrap(), source.try_clone().unwrap());
            let [out, answers] = kept;
            let thread = std::thread::spawn(move || pass(back.0, back.1, from_target, &answers));
            pass(source, target, from_source, &out);
            thread.join().unwrap();
        });
        Self { threads: vec![accept], seen }
    }

    /// What has gone each way.
    fn seen(self) -> [Vec<u8>; 2] {
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.seen.map(|seen| std::mem::take(&mut *seen.lock().unwrap()))
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, limit: usize, seen: &Mutex<Vec<u8>>) {
    let mut left = limit;
    let mut buffer = [0; 4096];
    while left > 0 {
        let want = left.min(buffer.len());
        match from.read(&mut buffer[..want]) {
            Ok(0) | Err(_) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
            Ok(count) => {
                left -= count;
                seen.lock().unwrap().extend(&buffer[..count]);
            }
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Where frames end in a stream: behind each head, payload and content (`docs/saved-form.md`).
fn frame_ends(bytes: &[u8]) -> Vec<(u8, usize)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut ends, mut at) = (Vec::new(), 16);
    while at + 12 <= bytes.len() {
        let (kind, length) = (bytes[at], word(at + 4));
        let content = if kind == 4 { word(at + 12 + 24) } else { 0 };
        at += 12 + length + content;
        ends.push((kind, at));
    }
    ends
}

/// READY, and what is its own number in frames.
const READY: u8 = 20;

/// Moves a machine over a connection that is cut, and takes it up again if it can be. Gives both states, and what went.
fn cut_and_recovered(from_source: usize, from_target: usize) -> (RunState, RunState, [Vec<u8>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("m")).unwrap();
    let behind = Address::Unix(folder.path().join("behind"));
    let (here, there) = (World::running(), World::waiting(true));
    [&here, &there].into_iter().for_each(able);
    fill(&here, 6);
    let arriving = there.take_in(&behind).unwrap();
    let proxy = Proxy::between(listener, &folder.path().join("behind"), from_source, from_target);
    pace(&here, 1, 0);
    let going = here.migrate(&unix(folder.path())).unwrap();
    use MigrationStatus::{Active, Completed, Failed, PostcopyPaused};
    status(&here, &[Active, Failed]);
    here.migrations.start_postcopy().unwrap();
    let seen = proxy.seen();
    let over = |world: &World| status(world, &[Completed, Failed, PostcopyPaused]);
    match (over(&here), over(&there)) {
        (PostcopyPaused, PostcopyPaused) => {
            let again = Address::Unix(folder.path().join("again"));
            there.recover(&again).unwrap();
            here.resume(&again).unwrap();
            wait([going, arriving]);
            assert_eq!(here.migrations.report().unwrap().error, None);
        }
        // DONE was lost: it is all there, and the source keeps what it has.
        (PostcopyPaused, Completed) => assert!(arriving.wait()),
        // READY was lost: the machine is the source's, and the destination cannot know.
        (Failed, PostcopyPaused) => assert!(going.wait()),
        _ => wait([going, arriving]),
    }
    let states = (here.state(), there.state());
    if states.1 == RunState::Running {
        same_memory(&here, &there);
    }
    // Who still waits ends with the machine.
    for world in [&here, &there] {
        world.ask(Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit });
    }
    (states.0, states.1, seen)
}

#[test]
fn a_connection_cut_at_any_frame_is_taken_up_again_and_one_machine_has_all_of_its_memory() {
    const NEVER: usize = usize::MAX;
    let (here, there, [out, back]) = cut_and_recovered(NEVER, NEVER);
    assert_eq!((here, there), (RunState::PostMigrate, RunState::Running));
    let ends = frame_ends(&out);
    let ready = ends.iter().position(|(kind, _)| *kind == READY).unwrap();
    let answers = frame_ends(&back);
    let out_cuts = ends[ready - 1..].iter().flat_map(|(_, end)| [end - 1, *end]).map(|cut| (cut, NEVER));
    let back_cuts = answers.iter().flat_map(|(_, end)| [end - 1, *end]).map(|cut| (NEVER, cut));
    let mut recovered = 0;
    for (from_source, from_target) in out_cuts.chain(back_cuts) {
        match cut_and_recovered(from_source, from_target) {
            (RunState::PostMigrate, RunState::Running, _) => recovered += 1,
            // Before READY has come back: as it was.
            (RunState::Running, RunState::InMigrate, _) => {}
            // DONE was lost.
            (RunState::FinishMigrate, RunState::Running, _) => {}
            (here, there, _) => panic!("cut after {from_source}, {from_target}: {here:?}, {there:?}"),
        }
    }
    assert!(recovered > ends.len() - ready, "{recovered}");
}

#[test]
fn a_paused_machine_over_there_is_asked_stopped_and_woken_and_goes_on_when_it_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let jobs = apart(&here, &there, folder.path());
    here.migrations.pause().unwrap();
    assert_eq!(here.until("MIGRATION{postcopy-paused}"), ["MIGRATION{postcopy-paused} finish-migrate"]);
    assert_eq!(
        there.until("MIGRATION{postcopy-paused}").last().unwrap(),
        "MIGRATION{postcopy-paused} running"
    );
    let report = here.migrations.report().unwrap();
    assert_eq!(report.error.as_deref(), Some("the connection was cut by migrate-pause"));
    // The guest falls asleep by itself, and is woken.
    there.fall_asleep();
    there.ask(Ask::SystemWakeup);
    assert_eq!(there.take(), ["WAKEUP running"]);
    // A hart that needs what is absent stands before its access, and the machine can be stopped all the same.
    there.scripts[0].then(Step::Write(RAM + 14 * CHUNK, None));
    assert!(matches!(there.ram().read(RAM + 14 * CHUNK, &mut [0]), Err(RamError::Delayed { .. })));
    there.ask(Ask::Stop);
    there.ask(Ask::Cont);
    assert_eq!(there.take(), ["STOP paused", "RESUME running"]);
    let begun = here.migrate(&unix(folder.path())).unwrap_err();
    assert_eq!(begun.to_string(), "There's a migration process in progress");
    // A place where nobody comes is given up for another one, even for the same.
    let place = unix(folder.path());
    there.recover(&place).unwrap();
    there.recover(&place).unwrap();
    let nowhere = Address::Unix(folder.path().join("nowhere"));
    here.resume(&nowhere).unwrap();
    assert_eq!(
        here.until("MIGRATION{postcopy-paused}"),
        ["MIGRATION{postcopy-recover-setup} finish-migrate", "MIGRATION{postcopy-paused} finish-migrate",]
    );
    let error = here.migrations.report().unwrap().error.unwrap();
    assert!(error.starts_with("Failed to connect to"), "{error}");
    here.resume(&place).unwrap();
    assert_eq!(
        here.until("MIGRATION{postcopy-active}"),
        [
            "MIGRATION{postcopy-recover-setup} finish-migrate",
            "MIGRATION{postcopy-recover} finish-migrate",
            "MIGRATION{postcopy-active} finish-migrate",
        ]
    );
    let into = there.until("MIGRATION{postcopy-active}");
    assert_eq!(
        into[into.len() - 2..],
        ["MIGRATION{postcopy-recover} running", "MIGRATION{postcopy-active} running",]
    );
    pace(&here, 0, 0);
    wait(jobs);
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    assert_eq!(here.migrations.report().unwrap().error, None);
}

#[test]
fn a_stranger_at_the_place_of_recovery_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let jobs = apart(&here, &there, folder.path());
    there.migrations.pause().unwrap();
    here.until("MIGRATION{postcopy-paused}");
    there.until("MIGRATION{postcopy-paused}");
    let place = Address::Unix(folder.path().join("again"));
    there.recover(&place).unwrap();
    let (other, _) = pair();
    let going = other.migrate(&place).unwrap();
    assert!(going.wait());
    let error = other.migrations.report().unwrap().error.unwrap();
    assert_eq!(
        (&*error, other.state()),
        ("this is not the migration that was paused here", RunState::Running)
    );
    there.until("MIGRATION{postcopy-paused}");
    there.recover(&place).unwrap();
    here.resume(&place).unwrap();
    pace(&here, 0, 0);
    wait(jobs);
    same_memory(&here, &there);
}

/// A reset gives up what is absent: no guest asks for what was in memory before it.
#[test]
fn a_reset_over_there_is_the_end_of_it_whether_there_is_a_connection_or_not() {
    for connected in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = pair();
        let [going, arriving] = apart(&here, &there, folder.path());
        if !connected {
            there.migrations.pause().unwrap();
            here.until("MIGRATION{postcopy-paused}");
            there.until("MIGRATION{postcopy-paused}");
        }
        there.take();
        there.ask(Ask::SystemReset);
        assert!(arriving.wait());
        assert_eq!(
            there.take(),
            ["RESET{true,host-qmp-system-reset} running", "MIGRATION{completed} running"]
                .map(|line| line.replace("true,", "false,"))
        );
        assert_eq!(there.ram().absent(), 0);
        assert_eq!(byte(&there, RAM + 14 * CHUNK), 0, "as after power-on");
        if connected {
            assert!(going.wait());
            assert_eq!(here.state(), RunState::PostMigrate);
        } else {
            assert_eq!(
                here.state(),
                RunState::FinishMigrate,
                "it keeps its memory, and never runs by itself"
            );
        }
    }
}

#[test]
fn either_side_can_be_ended_while_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let _jobs = apart(&here, &there, folder.path());
    there.scripts[0].then(Step::Write(RAM + 14 * CHUNK, None));
    here.migrations.pause().unwrap();
    here.until("MIGRATION{postcopy-paused}");
    there.until("MIGRATION{postcopy-paused}");
    for world in [here, there] {
        world.ask(Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit });
        assert_eq!(world.engine.wait(), 0);
    }
}

/// After READY the destination waits to be told: also that the machine stays where it is.
#[test]
fn a_source_that_keeps_its_machine_says_so_to_a_destination_that_is_ready() {
    for (mishap, cancel) in [(Mishap::Fail, false), (Mishap::Hang, true)] {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(FakeStorage::default());
        storage.next("inactivate", mishap);
        let (here, there) = (World::keeping(&storage), World::waiting(true));
        [&here, &there].into_iter().for_each(able);
        fill(&here, 6);
        let place = unix(folder.path());
        let jobs = early(&here, &there, &place, &place);
        if cancel {
            storage.wait_for_hang();
            here.migrations.cancel(By::Unnamed).unwrap();
            storage.release();
        }
        status(&there, &[MigrationStatus::Failed]);
        wait(jobs);
        assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
        assert_eq!(there.engine.status().migration, Some(MigrationStatus::Failed));
        let error = there.migrations.report().unwrap().error.unwrap();
        assert!(error.contains("the source has kept the machine"), "{error}");
        // Another one may come.
        assert!(storage.is_active());
        pace(&here, 0, 0);
        let arriving = there.take_in(&place).unwrap();
        wait([here.migrate(&place).unwrap(), arriving]);
        assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    }
}
