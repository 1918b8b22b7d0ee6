//! A machine that runs over there before all of its memory is there: what each side tells, and that memory is whole in the end.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/postcopy.rs"]
mod postcopy;
#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::path::Path;
use std::sync::Arc;

use certificates::{Authority, Folder, Odd, equip};
use engine::By;
use migration::{Address, Endpoint, Listening};
use postcopy::*;
use runstate::{ManagementRequest as Ask, MigrationStatus, RunState};
use support::{World, unix};
use vmcore::testing::{FakeStorage, Mishap};

fn without_passes(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.starts_with("MIGRATION_PASS")).collect()
}

#[test]
fn a_guest_runs_over_there_before_its_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let place = unix(folder.path());
    let jobs = early(&here, &there, &place, &place);
    let out = here.until("MIGRATION{postcopy-active}");
    let into = there.until("MIGRATION{postcopy-active}");
    assert_eq!(
        without_passes(&out),
        [
            "STOP finish-migrate",
            "MIGRATION{device} finish-migrate",
            "MIGRATION{postcopy-active} finish-migrate",
        ]
    );
    assert_eq!(
        into,
        [
            "MIGRATION{setup} inmigrate",
            "MIGRATION{active} inmigrate",
            "RESUME running",
            "MIGRATION{postcopy-active} running",
        ]
    );
    assert!(there.ram().absent() > 0);
    // What is needed comes at once, though the rest would take hours at this pace.
    assert_eq!(
        (byte(&there, RAM + 10 * CHUNK + 7), byte(&there, RAM + 13 * CHUNK)),
        (content(10), content(13))
    );
    let refused = here.migrations.cancel(By::Unnamed).unwrap_err();
    assert_eq!(refused.to_string(), "Postcopy migration in progress, cannot cancel.");
    let refused = here.engine.manage(Ask::Cont).unwrap_err();
    assert_eq!(refused.to_string(), "Migration is not finalized yet");
    // The guest writes; what comes later does not come over it.
    let mine = RAM + 11 * CHUNK + 100;
    assert_eq!(byte(&there, mine), content(11));
    there.ram().write(mine, b"written over there").unwrap();
    pace(&here, 0, 0);
    wait(jobs);
    assert_eq!(here.take(), ["MIGRATION{completed} postmigrate"]);
    assert_eq!(there.take(), ["MIGRATION{completed} running"]);
    let mut bytes = [0; 18];
    there.ram().read(mine, &mut bytes).unwrap();
    assert_eq!((&bytes, there.ram().absent()), (b"written over there", 0));
    here.ram().write(mine, b"written over there").unwrap();
    same_memory(&here, &there);
    let report = here.migrations.report().unwrap();
    assert!(report.ram.postcopy_requests >= 3 && report.ram.postcopy_bytes > 0, "{report:?}");
    assert!(report.downtime.is_some() && report.error.is_none() && report.ram.remaining == 0);
}

/// Its memory is needed as it is until the end.
#[test]
fn what_is_asked_of_the_source_meanwhile_comes_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let place = unix(folder.path());
    let jobs = early(&here, &there, &place, &place);
    here.until("MIGRATION{postcopy-active}");
    there.until("MIGRATION{postcopy-active}");
    here.ask(Ask::Stop);
    here.ask(Ask::SystemReset);
    assert_eq!((here.take(), here.state()), (Vec::new(), RunState::FinishMigrate));
    assert_eq!(byte(&there, RAM + 10 * CHUNK), content(10));
    pace(&here, 0, 0);
    wait(jobs);
    assert_eq!(
        here.take(),
        ["MIGRATION{completed} prelaunch", "RESET{false,host-qmp-system-reset} prelaunch"]
    );
    assert_eq!((there.state(), byte(&there, RAM + 13 * CHUNK)), (RunState::Running, content(13)));
}

#[test]
fn what_fits_goes_as_precopy_does() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = pair();
    let place = unix(folder.path());
    let arriving = there.take_in(&place).unwrap();
    wait([here.migrate(&place).unwrap(), arriving]);
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    assert!(!here.take().iter().any(|line| line.contains("postcopy")));
    same_memory(&here, &there);
}

#[test]
fn it_is_refused_in_qemus_words() {
    let world = World::running();
    let text = |error: migration::MigrationError| error.to_string();
    let off = "Enable postcopy with migrate_set_capability before the start of migration";
    assert_eq!(text(world.migrations.start_postcopy().unwrap_err()), off);
    able(&world);
    let early = "Postcopy must be started after migration has been started";
    assert_eq!(text(world.migrations.start_postcopy().unwrap_err()), early);
    let pause = "migrate-pause is currently only supported during postcopy-active or postcopy-recover state";
    assert_eq!(text(world.migrations.pause().unwrap_err()), pause);
    let nowhere = unix(Path::new("/nonexistent"));
    assert_eq!(text(world.resume(&nowhere).unwrap_err()), "Cannot resume if there is no paused migration");
    let recover = "Migrate recover can only be run when postcopy is paused.";
    assert_eq!(text(world.recover(&nowhere).unwrap_err()), recover);
    // Whoever cannot answer cannot ask for pages.
    let folder = tempfile::tempdir().unwrap();
    let file = Address::File { path: folder.path().join("f"), offset: 0 };
    assert!(world.migrate(&file).unwrap().wait());
    let error = world.migrations.report().unwrap().error.unwrap();
    assert_eq!((&*error, world.state()), ("Unable to open return-path for postcopy", RunState::Running));
}

#[test]
fn a_destination_that_is_not_to_do_it_says_so_before_memory_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (World::running(), World::waiting(true));
    able(&here);
    let place = unix(folder.path());
    let arriving = there.take_in(&place).unwrap();
    wait([here.migrate(&place).unwrap(), arriving]);
    let error = here.migrations.report().unwrap().error.unwrap();
    assert!(error.contains("the capability postcopy-ram is not on here"), "{error}");
    assert_eq!((here.state(), there.state()), (RunState::Running, RunState::InMigrate));
}

/// B7: one rule for every arrival.
#[test]
fn every_state_arrives_under_its_name() {
    type Make = fn(&World);
    let cases: [(Make, bool, RunState); 4] = [
        (|_| {}, false, RunState::Paused),
        (|world| world.ask(Ask::Stop), true, RunState::Paused),
        (|world| world.fall_asleep(), true, RunState::Suspended),
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
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (World::running(), World::waiting(autostart));
        [&here, &there].into_iter().for_each(able);
        make(&here);
        fill(&here, 16);
        let power = here.engine.status().power;
        let place = unix(folder.path());
        let jobs = early(&here, &there, &place, &place);
        there.until("MIGRATION{postcopy-active}");
        pace(&here, 0, 0);
        wait(jobs);
        assert_eq!((here.state(), there.state()), (RunState::PostMigrate, expected));
        assert_eq!(there.engine.status().power, power);
        same_memory(&here, &there);
        if expected == RunState::Suspended {
            there.ask(Ask::SystemWakeup);
            assert_eq!(there.state(), RunState::Running);
        }
    }
}

/// Both directions at once, sealed, over two connections.
#[test]
fn it_goes_by_tls_and_is_taken_up_again_by_tls() {
    let authority = Authority::new(&Odd::default());
    let (here, there) = pair();
    equip(&here, Folder::of(&authority, Endpoint::Client).load(Endpoint::Client).unwrap());
    equip(&there, Folder::of(&authority, Endpoint::Server).load(Endpoint::Server).unwrap());
    let any: Address = "tcp:127.0.0.1:0".parse().unwrap();
    pace(&here, 1, 1);
    let arriving = there.take_in(&any).unwrap();
    let Some(Listening::Tcp(place)) = there.migrations.report().unwrap().listening else { panic!("no port") };
    let place: Address = format!("tcp:{place}").parse().unwrap();
    let going = here.migrate(&place).unwrap();
    here.until("MIGRATION{active}");
    here.migrations.start_postcopy().unwrap();
    there.until("MIGRATION{postcopy-active}");
    assert_eq!(byte(&there, RAM + 10 * CHUNK), content(10));
    here.migrations.pause().unwrap();
    for world in [&here, &there] {
        world.until("MIGRATION{postcopy-paused}");
    }
    there.recover(&place).unwrap();
    here.resume(&place).unwrap();
    assert_eq!(byte(&there, RAM + 13 * CHUNK), content(13));
    pace(&here, 0, 0);
    wait([going, arriving]);
    same_memory(&here, &there);
}

/// What cannot be started over there is paused over there, and its memory follows all the same.
#[test]
fn a_disk_that_cannot_be_had_holds_the_machine_where_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Arc::new(FakeStorage::default()), Arc::new(FakeStorage::default()));
    theirs.next("prepare", Mishap::Fail);
    let (here, there) = (World::keeping(&ours), World::waiting_with(&theirs));
    [&here, &there].into_iter().for_each(able);
    fill(&here, 16);
    let place = unix(folder.path());
    let jobs = early(&here, &there, &place, &place);
    status(&there, &[MigrationStatus::PostcopyActive]);
    assert_eq!((here.state(), there.state()), (RunState::FinishMigrate, RunState::Paused));
    assert_eq!(byte(&there, RAM + 10 * CHUNK), content(10));
    there.ask(Ask::Cont);
    pace(&here, 0, 0);
    wait(jobs);
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    same_memory(&here, &there);
}
