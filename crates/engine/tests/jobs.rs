//! Jobs that take steps while they run: a migration from its beginning to its end, as its job and the clients see it.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::mpsc::{Sender, channel};
use std::thread;

use engine::{By, Job, JobControl, JobWork, ManageError};
use runstate::{ManagementRequest as Ask, MigrationRequest as Step, MigrationStatus, Refusal, RunState};
use support::World;
use vmcore::testing::Mishap;

const RESUME_ADDR: u64 = 0x8040_0000;

impl World {
    fn begin(&self, ask: Ask, failed: Step, run: impl FnOnce(&JobControl) -> Step + Send + 'static) -> Job {
        self.engine.begin(By::Unnamed, ask, JobWork::new(run, failed)).unwrap()
    }

    fn migrate(&self, run: impl FnOnce(&JobControl) -> Step + Send + 'static) -> Job {
        self.begin(Ask::MigrateStart, Step::OutgoingFailed, run)
    }
}

fn switch_over_and_seal(control: &JobControl) {
    control.ask(Step::Announce(MigrationStatus::Active)).unwrap();
    control.ask(Step::SwitchOver).unwrap();
    control.ask(Step::Seal).unwrap();
}

#[test]
fn a_migration_runs_beside_the_machine_and_takes_its_steps_in_order() {
    let world = World::running(1);
    let (go_on, wait) = channel::<()>();
    let engine = world.engine.clone();
    let job = world.migrate(move |control| {
        wait.recv().unwrap();
        switch_over_and_seal(control);
        assert_eq!(engine.status().state, RunState::FinishMigrate);
        let saved = control.commit(false).unwrap();
        assert!(saved.holds().is_empty(), "the guest ran");
        Step::OutgoingDone
    });
    world.hart_runs(0);
    world.saw(&["MIGRATION running"]);
    go_on.send(()).unwrap();
    assert!(job.wait());
    world.saw(&["MIGRATION running", "STOP finish-migrate", "MIGRATION postmigrate"]);
    assert_eq!(world.state(), RunState::PostMigrate);
}

#[test]
fn a_step_returns_once_the_halt_it_led_to_is_flushed_and_a_flush_error_is_seen() {
    let (world, storage) = World::with_storage();
    world.ask(Ask::Cont);
    world.events();
    storage.next("flush", Mishap::Fail);
    let engine = world.engine.clone();
    let job = world.migrate(move |control| {
        control.ask(Step::SwitchOver).unwrap();
        let error = engine.status().flush_error.clone().map(|error| error.what);
        assert_eq!(error.as_deref(), Some("cannot flush 'fake': the test says so"));
        control.fail("a disk cannot be flushed");
        Step::OutgoingFailed
    });
    let control = job.control().clone();
    assert!(job.wait());
    assert_eq!(control.report().error.as_deref(), Some("a disk cannot be flushed"));
    world.saw(&["MIGRATION running", "STOP finish-migrate", "MIGRATION finish-migrate", "RESUME running"]);
}

#[test]
fn a_cancelled_migration_is_told_so_at_its_next_step_and_the_machine_goes_on() {
    let world = World::running(1);
    let (hooked, cancelled) = channel();
    let (ready, is_ready) = channel::<()>();
    let job = world.migrate(move |control| {
        let hooked: Sender<()> = hooked;
        control.on_cancel(move || hooked.send(()).unwrap());
        ready.send(()).unwrap();
        cancelled.recv().unwrap();
        assert_eq!(control.ask(Step::SwitchOver), Err(Refusal::JobCancelled.into()));
        assert_eq!(control.commit(false), Err(Refusal::UnexpectedStep.into()));
        Step::OutgoingFailed
    });
    is_ready.recv().unwrap();
    world.ask(Ask::MigrateCancel);
    assert!(job.wait());
    world.saw(&["MIGRATION running", "MIGRATION running", "MIGRATION running"]);
    world.hart_runs(0);
}

#[test]
fn a_hook_that_comes_after_the_cancelling_is_called_all_the_same() {
    let world = World::running(1);
    let (go_on, wait) = channel::<()>();
    let (called, is_called) = channel();
    let job = world.migrate(move |control| {
        wait.recv().unwrap();
        control.on_cancel(move || called.send(()).unwrap());
        Step::OutgoingFailed
    });
    world.ask(Ask::MigrateCancel);
    go_on.send(()).unwrap();
    assert!(job.wait());
    is_called.recv().unwrap();
}

#[test]
fn a_last_step_that_is_refused_fails_the_job_instead_of_leaving_it_for_ever() {
    let world = World::running(1);
    let job = world.migrate(|_| Step::OutgoingDone);
    let control = job.control().clone();
    assert!(job.wait());
    assert!(control.report().error.is_some());
    world.saw(&["MIGRATION running", "MIGRATION running"]);
    // And the next one may begin.
    assert!(world.migrate(|_| Step::OutgoingFailed).wait());
}

#[test]
fn a_panic_after_commit_lets_nothing_run_twice() {
    let world = World::running(1);
    let job = world.migrate(|control| {
        switch_over_and_seal(control);
        control.commit(false).unwrap();
        panic!("the test says so");
    });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::PostMigrate);
}

#[test]
fn what_the_clients_do_between_two_steps_is_in_what_commit_gives() {
    let world = World::running(1);
    world.fall_asleep();
    let (sealed, is_sealed) = channel::<()>();
    let (go_on, wait) = channel::<()>();
    let (tell, told) = channel();
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        sealed.send(()).unwrap();
        wait.recv().unwrap();
        tell.send(control.commit(false).unwrap()).unwrap();
        Step::OutgoingDone
    });
    is_sealed.recv().unwrap();
    world.ask(Ask::Stop);
    go_on.send(()).unwrap();
    assert!(job.wait());
    let saved = told.recv().unwrap();
    assert!(saved.power().sleep().is_some());
    assert!(saved.holds().has(runstate::Owner::Manager));
}

#[test]
fn a_job_whose_machine_ends_is_told_so_whatever_it_asks() {
    let world = World::running(1);
    let (ready, is_ready) = channel::<()>();
    let (go_on, wait) = channel::<()>();
    let (tell, told) = channel();
    let job = world.migrate(move |control| {
        ready.send(()).unwrap();
        wait.recv().unwrap();
        assert!(control.is_cancelled());
        tell.send((control.ask(Step::SwitchOver), control.commit(false).map(drop))).unwrap();
        Step::OutgoingFailed
    });
    is_ready.recv().unwrap();
    world.ask(Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit });
    assert_eq!(world.engine.wait(), 0);
    go_on.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), (Err(ManageError::Ended), Err(ManageError::Ended)));
    assert!(!job.wait());
}

#[test]
fn quit_during_a_step_that_hangs_in_a_flush_frees_the_job() {
    let (world, storage) = World::with_storage();
    world.ask(Ask::Cont);
    storage.next("flush", Mishap::Hang);
    let (tell, told) = channel();
    let job = world.migrate(move |control| {
        tell.send(control.ask(Step::SwitchOver)).unwrap();
        Step::OutgoingFailed
    });
    storage.wait_for_hang();
    let engine = world.engine.clone();
    let quit =
        thread::spawn(move || engine.manage(Ask::Quit { cause: runstate::ShutdownCause::HostQmpQuit }));
    quit.join().unwrap().unwrap();
    assert!(told.recv().unwrap().is_err());
    assert!(!job.wait());
    storage.release();
    assert_eq!(world.engine.wait(), 0);
}

#[test]
fn a_background_snapshot_holds_the_machine_for_its_capture_alone() {
    let world = World::running(1);
    let (go_on, wait) = channel::<()>();
    let (captured, is_captured) = channel::<()>();
    let job = world.begin(Ask::BackgroundStart, Step::BackgroundEnd { ok: false }, move |control| {
        control.ask(Step::Announce(MigrationStatus::Active)).unwrap();
        control.ask(Step::BackgroundHold).unwrap();
        control.ask(Step::BackgroundCaptured).unwrap();
        captured.send(()).unwrap();
        wait.recv().unwrap();
        Step::BackgroundEnd { ok: true }
    });
    is_captured.recv().unwrap();
    assert_eq!(world.state(), RunState::Running);
    world.hart_runs(0);
    go_on.send(()).unwrap();
    assert!(job.wait());
    world.saw(&[
        "MIGRATION running",
        "MIGRATION running",
        "STOP paused",
        "RESUME running",
        "MIGRATION running",
    ]);
}
