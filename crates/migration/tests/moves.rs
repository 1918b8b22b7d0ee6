//! A machine moves between two engines of one process: what each side tells, where the guest is afterwards, and that it is
//! never in two places.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use migration::{Address, Capability};
use runstate::{ManagementRequest as Ask, MigrationStatus, RunState};
use stream::{Control, FileId, Header};
use support::{World, unix};

const RAM: u64 = 0x8000_0000;

/// Moves the machine of `here` into `there`; gives what each side has told.
#[track_caller]
fn moved(here: &World, there: &World) -> [Vec<String>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let arriving = there.take_in(&place).unwrap();
    let going = here.migrate(&place).unwrap();
    let (sent, received) = (going.control().clone(), arriving.control().clone());
    assert!(going.wait() && arriving.wait());
    assert_eq!((sent.report().error, received.report().error), (None, None));
    [here.take(), there.take()]
}

/// The passes are as many as it takes.
fn without_passes(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.starts_with("MIGRATION_PASS")).collect()
}

#[test]
fn a_running_guest_goes_on_over_there_with_its_memory_and_its_time() {
    let (here, there) = (World::running(), World::waiting(true));
    here.ram().write(RAM + 0x12_3456, b"of the guest").unwrap();
    there.ram().write(RAM + 0x30_0000, b"left over").unwrap();
    here.host.advance(5_000);
    let [out, into] = moved(&here, &there);
    assert_eq!(
        without_passes(&out),
        [
            "MIGRATION{setup} running",
            "MIGRATION{active} running",
            "STOP finish-migrate",
            "MIGRATION{device} finish-migrate",
            "MIGRATION{completed} postmigrate",
        ]
    );
    assert_eq!(out.iter().filter(|line| line.starts_with("MIGRATION_PASS")).count(), 2, "{out:?}");
    assert_eq!(
        into,
        [
            "MIGRATION{setup} inmigrate",
            "MIGRATION{active} inmigrate",
            "RESUME running",
            "MIGRATION{completed} running"
        ]
    );
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x12_3456, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
    there.ram().read(RAM + 0x30_0000, &mut bytes[..9]).unwrap();
    assert_eq!(bytes[..9], [0; 9], "what was here before is gone");
    assert_eq!(there.clock.now_ns(), 5_000);
    let report = here.migrations.report().unwrap();
    assert_eq!((report.ram.remaining, report.ram.total), (0, here.ram().size()));
    assert_eq!(report.ram.duplicate + report.ram.normal, here.ram().size() / 4096);
    assert!(report.downtime.is_some() && report.error.is_none());
}

#[test]
fn every_state_arrives_under_its_name() {
    type Make = fn(&World);
    let cases: [(Make, bool, RunState); 7] = [
        (|_| {}, true, RunState::Running),
        (|_| {}, false, RunState::Paused),
        (|world| world.ask(Ask::Stop), true, RunState::Paused),
        (|world| world.fall_asleep(), true, RunState::Suspended),
        (|world| world.fall_asleep(), false, RunState::Paused),
        (|world| world.ask(Ask::DebugInterrupt), true, RunState::Paused),
        (
            |world| {
                world.ask(Ask::Stop);
                world.ask(Ask::SystemReset);
            },
            true,
            RunState::Prelaunch,
        ),
    ];
    for (make, autostart, expected) in cases {
        let (here, there) = (World::running(), World::waiting(autostart));
        make(&here);
        let asleep = here.engine.status().power;
        here.take();
        moved(&here, &there);
        assert_eq!((here.state(), there.state()), (RunState::PostMigrate, expected));
        assert_eq!(there.engine.status().power, asleep, "power travels beside the state");
    }
}

/// B1: what went asleep is asleep again if it is taken back.
#[test]
fn the_source_of_a_sleeper_may_be_taken_back_asleep() {
    let (here, there) = (World::running(), World::waiting(true));
    here.fall_asleep();
    moved(&here, &there);
    here.ask(Ask::Cont);
    assert_eq!(here.take(), ["RESUME suspended", "SUSPEND suspended"]);
    here.ask(Ask::SystemWakeup);
    assert_eq!(here.state(), RunState::Running);
}

#[test]
fn a_sleeper_that_arrives_is_woken_there() {
    let (here, there) = (World::running(), World::waiting(true));
    here.fall_asleep();
    let [_, into] = moved(&here, &there);
    let told = ["RESUME suspended", "SUSPEND suspended", "MIGRATION{completed} suspended"];
    assert_eq!(into[2..], told, "{into:?}");
    there.ask(Ask::SystemWakeup);
    assert_eq!(there.state(), RunState::Running);
}

/// A file is a way too, and the same rule holds at its end.
#[test]
fn a_file_is_written_and_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, b"header...and what was there").unwrap();
    let place = Address::File { path: path.clone(), offset: 6 };
    let (here, there) = (World::running(), World::waiting(true));
    here.ram().write(RAM + 0x1000, b"of the guest").unwrap();
    assert!(here.migrate(&place).unwrap().wait());
    assert_eq!(here.state(), RunState::PostMigrate);
    assert!(std::fs::read(&path).unwrap().starts_with(b"headerDORMOUSE"));
    assert!(there.take_in(&place).unwrap().wait());
    assert_eq!(there.state(), RunState::Running);
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x1000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
}

#[test]
fn a_mapped_file_is_complete_or_says_so_and_gives_memory_as_it_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let place = Address::File { path: path.clone(), offset: 0 };
    let (here, there) = (World::running(), World::waiting(true));
    here.migrations.set_capabilities(&[(Capability::MappedRam, true)]).unwrap();
    here.ram().write(RAM + 0x20_1000, b"of the guest").unwrap();
    there.ram().write(RAM + 0x30_0000, b"left over").unwrap();
    assert!(here.migrate(&place).unwrap().wait());
    assert_eq!((here.state(), here.migrations.report().unwrap().error), (RunState::PostMigrate, None));
    let whole = std::fs::read(&path).unwrap();
    // Its first page is written last.
    let mut broken = whole.clone();
    broken[16..4096].fill(0);
    std::fs::write(&path, &broken).unwrap();
    assert!(there.take_in(&place).unwrap().wait());
    assert_eq!(there.state(), RunState::InMigrate);
    std::fs::write(&path, &whole).unwrap();
    assert!(there.take_in(&place).unwrap().wait());
    assert_eq!(there.state(), RunState::Running);
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x20_1000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
    there.ram().read(RAM + 0x30_0000, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 12]);
    // A socket has no places.
    here.ask(Ask::Cont);
    let refused = here.migrate(&unix(folder.path())).unwrap_err();
    assert_eq!(refused.to_string(), "Migration requires seekable transport (e.g. file)");
}

/// As a manager does that puts a header of its own before.
#[test]
fn a_mapped_file_may_lie_behind_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, b"header...and what was there").unwrap();
    let place = Address::File { path: path.clone(), offset: 6 };
    let (here, there) = (World::running(), World::waiting(true));
    here.migrations.set_capabilities(&[(Capability::MappedRam, true)]).unwrap();
    here.ram().write(RAM + 0x20_1000, b"of the guest").unwrap();
    assert!(here.migrate(&place).unwrap().wait());
    assert_eq!((here.state(), here.migrations.report().unwrap().error), (RunState::PostMigrate, None));
    assert!(std::fs::read(&path).unwrap().starts_with(b"headerDORMOUSE"));
    assert!(there.take_in(&place).unwrap().wait());
    assert_eq!(there.state(), RunState::Running);
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x20_1000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
}

/// A reset of a machine that nobody has come to yet is about that machine: it is over before the guest comes.
#[test]
fn a_reset_of_a_machine_that_listens_does_not_wait_for_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let (here, there) = (World::running(), World::waiting(true));
    here.ram().write(RAM + 0x1000, b"of the guest").unwrap();
    here.fall_asleep();
    let arriving = there.take_in(&place).unwrap();
    there.ask(Ask::SystemReset);
    there.until("RESET");
    let going = here.migrate(&place).unwrap();
    assert!(going.wait() && arriving.wait());
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Suspended));
    assert!(!there.take().iter().any(|line| line.starts_with("RESET")));
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x1000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest");
}

#[test]
fn programs_take_and_give_a_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f").display().to_string();
    let shell = |line: String| Address::Exec(["/bin/sh".into(), "-c".into(), line].into());
    let (here, there) = (World::running(), World::waiting(true));
    assert!(here.migrate(&shell(format!("gzip -1 > {path}"))).unwrap().wait());
    assert!(there.take_in(&shell(format!("gzip -dc {path}"))).unwrap().wait());
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
}

/// What cannot be written or read is the smaller part of it.
#[test]
fn a_program_that_ends_before_its_time_says_how_it_ended() {
    let shell = |line: &str| Address::Exec(["/bin/sh", "-c", line].map(str::to_owned).into());
    let (here, there) = (World::running(), World::waiting(true));
    // More than a pipe takes.
    here.ram().write(RAM, &vec![7; 1 << 20]).unwrap();
    let going = here.migrate(&shell("exit 3")).unwrap();
    let control = going.control().clone();
    assert!(going.wait());
    assert_eq!(
        control.report().error.as_deref(),
        Some("the program ended with exit status 3: cannot write the machine's state: Broken pipe")
    );
    assert_eq!(here.state(), RunState::Running);
    let arriving = there.take_in(&shell("kill $$")).unwrap();
    let control = arriving.control().clone();
    assert!(arriving.wait());
    let error = control.report().error.unwrap();
    let text = "load of migration failed: the program was killed: the saved state ends at byte 0, ";
    assert!(error.starts_with(text), "{error}");
    assert_eq!(there.state(), RunState::InMigrate);
}

#[test]
fn a_source_that_hangs_up_before_it_is_answered_has_not_taken_the_answer() {
    let there = World::waiting(true);
    let board = there.engine.board();
    let board = [&board.version.to_le_bytes()[..], &board.data].concat();
    let (mut source, ours) = UnixStream::pair().unwrap();
    let header = Header { two_way: true, ..Header::new(FileId([5; 16]), there.ram().size()) };
    let mut words = stream::Writer::new(&mut source, &header).unwrap();
    words.control(&Control::Hello { board, features: Vec::new() }).unwrap();
    drop(words);
    drop(source);
    let arriving = there.take_in_through(ours.into()).unwrap();
    let control = arriving.control().clone();
    assert!(arriving.wait());
    let text = "load of migration failed: the source takes no answer: Broken pipe";
    assert_eq!(control.report().error.as_deref(), Some(text));
}

/// B14, B25: what is no machine costs one attempt.
#[test]
fn bytes_that_are_no_machine_cost_one_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, b"this is no machine at all, and long enough to see it").unwrap();
    let place = Address::File { path, offset: 0 };
    let (here, there) = (World::running(), World::waiting(true));
    let failed = there.take_in(&place).unwrap();
    let control = failed.control().clone();
    assert!(failed.wait());
    let error = control.report().error.unwrap();
    assert!(error.starts_with("load of migration failed: "), "{error}");
    let told = there.take();
    assert_eq!(told.last().unwrap(), "MIGRATION{failed} inmigrate", "{told:?}");
    moved(&here, &there);
    assert_eq!(there.state(), RunState::Running);
}

#[test]
fn a_stream_that_is_cut_anywhere_touches_nothing_and_may_be_followed_by_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let place = Address::File { path: path.clone(), offset: 0 };
    let here = World::running();
    assert!(here.migrate(&place).unwrap().wait());
    let whole = std::fs::read(&path).unwrap();
    let there = World::waiting(true);
    for len in (0..whole.len()).step_by(whole.len().div_ceil(40)).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(there.take_in(&place).unwrap().wait());
        assert_eq!(
            (there.state(), there.engine.status().migration),
            (RunState::InMigrate, Some(MigrationStatus::Failed))
        );
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(there.take_in(&place).unwrap().wait());
    assert_eq!(there.state(), RunState::Running);
}

#[test]
fn another_machine_is_refused_before_its_memory_comes() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let here = World::running();
    let there = World::with(2, runstate::Config { incoming: true, ..runstate::Config::default() });
    let arriving = there.take_in(&place).unwrap();
    let going = here.migrate(&place).unwrap();
    let control = going.control().clone();
    assert!(going.wait() && arriving.wait());
    let error = control.report().error.unwrap();
    assert_eq!(&*error, "the saved machine has 1 harts, this machine has 2");
    assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
    assert!(!here.take().iter().any(|line| line.contains("STOP")));
}

/// B5: what was asked while the migration was under way holds however it ends.
#[test]
fn a_stop_before_the_switch_over_is_still_there_after_a_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let (here, there) = (World::running(), World::waiting(true));
    here.migrations.set_capabilities(&[(Capability::PauseBeforeSwitchover, true)]).unwrap();
    let arriving = there.take_in(&place).unwrap();
    let going = here.migrate(&place).unwrap();
    here.until("MIGRATION{pre-switchover}");
    assert_eq!(here.state(), RunState::FinishMigrate);
    here.ask(Ask::Stop);
    here.migrations.cancel(engine::By::Unnamed).unwrap();
    assert!(going.wait() && arriving.wait());
    assert_eq!(here.take(), ["MIGRATION{cancelling} finish-migrate", "MIGRATION{cancelled} paused"]);
    assert_eq!(there.state(), RunState::InMigrate);
}

#[test]
fn a_migration_that_waits_goes_on_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = unix(folder.path());
    let (here, there) = (World::running(), World::waiting(true));
    here.migrations.set_capabilities(&[(Capability::PauseBeforeSwitchover, true)]).unwrap();
    let arriving = there.take_in(&place).unwrap();
    let going = here.migrate(&place).unwrap();
    here.until("MIGRATION{pre-switchover}");
    let wrong = here.migrations.go_on(Some(MigrationStatus::Device)).unwrap_err();
    assert_eq!(wrong.to_string(), "Migration not in expected state: pre-switchover");
    here.migrations.go_on(Some(MigrationStatus::PreSwitchover)).unwrap();
    assert!(going.wait() && arriving.wait());
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
}

/// Takes what is sent and answers nothing, until `enough` bytes have come; then it hangs up.
fn hang_up_after(listener: UnixListener, enough: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut taken = 0;
        let mut buffer = [0; 4096];
        while taken < enough {
            match socket.read(&mut buffer).unwrap() {
                0 => return,
                count => taken += count,
            }
        }
    })
}

#[test]
fn whoever_hangs_up_leaves_the_source_as_it_was() {
    for enough in [1, 16, 100] {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("m")).unwrap();
        let peer = hang_up_after(listener, enough);
        let here = World::running();
        let going = here.migrate(&unix(folder.path())).unwrap();
        assert!(going.wait());
        peer.join().unwrap();
        assert_eq!(
            (here.state(), here.engine.status().migration),
            (RunState::Running, Some(MigrationStatus::Failed))
        );
        assert!(here.migrations.report().unwrap().error.is_some());
    }
}

#[test]
fn a_peer_that_answers_nothing_is_left_by_a_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("m")).unwrap();
    let here = World::running();
    let going = here.migrate(&unix(folder.path())).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    here.migrations.cancel(engine::By::Unnamed).unwrap();
    assert!(going.wait());
    assert_eq!(here.take().last().unwrap(), "MIGRATION{cancelled} running");
    // And it is told so.
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert!(socket.write_all(&[0; 1]).is_err());
}
