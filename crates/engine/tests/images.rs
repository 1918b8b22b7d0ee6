//! Whose images are while machines come and go: never two machines', and never nobody's while a machine runs.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;

use engine::{By, Job, JobControl, JobWork, ManageError, Staged};
use runstate::{ManagementRequest as Ask, MigrationRequest as Step, Refusal, RunState};
use support::World;
use vmcore::testing::{FakeStorage, Mishap};
use vmcore::{Storage as _, StorageError};

const RESUME_ADDR: u64 = 0x8040_0000;

/// What a disk says that another machine has.
const FAILED: &str = "cannot activate 'fake': the test says so";

impl World {
    fn migrate(&self, run: impl FnOnce(&JobControl) -> Step + Send + 'static) -> Job {
        let work = JobWork::new(run, Step::OutgoingFailed);
        self.engine.begin(By::Unnamed, Ask::MigrateStart, work).unwrap()
    }

    /// The guest of `from` arrives, or one like it.
    fn arrive(&self, from: &World, postcopy: bool) {
        let (tell, told) = channel();
        let leaves = from.migrate(move |control| {
            switch_over_and_seal(control);
            tell.send(control.commit(false).unwrap()).unwrap();
            Step::OutgoingDone
        });
        assert!(leaves.wait());
        let saved = told.recv().unwrap();
        let engine = self.engine.clone();
        let run = move |_: &JobControl| {
            let state = engine.save_state().unwrap();
            engine.stage(Staged { state, memory: None, renewal: None });
            Step::IncomingLoaded { saved, postcopy }
        };
        let work = JobWork::new(run, Step::IncomingFailed { exit: false });
        assert!(self.engine.begin(By::Unnamed, Ask::MigrateIncoming, work).unwrap().wait());
    }
}

fn switch_over_and_seal(control: &JobControl) {
    control.ask(Step::SwitchOver).unwrap();
    control.ask(Step::Seal).unwrap();
}

fn running() -> (World, Arc<FakeStorage>) {
    let (world, storage) = World::with_storage();
    world.ask(Ask::Cont);
    world.events();
    storage.take_log();
    (world, storage)
}

#[test]
fn images_are_left_before_the_word_to_run_goes_out_and_cont_takes_them_back() {
    let (world, storage) = running();
    let (seen, look) = (Arc::clone(&storage), world.engine.clone());
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        assert!(seen.is_active());
        assert_eq!(seen.take_log(), ["flush"]);
        control.commit(false).unwrap();
        assert_eq!(look.status().state, RunState::PostMigrate);
        assert_eq!(seen.take_log(), ["inactivate"]);
        Step::OutgoingDone
    });
    assert!(job.wait());
    assert!(!storage.is_active());
    // The other machine has them: refused, as often as it is asked, and nothing has changed.
    for _ in 0..2 {
        storage.next("activate", Mishap::Fail);
        assert_eq!(world.refused(Ask::Cont), FAILED);
        assert_eq!((world.state(), storage.is_active()), (RunState::PostMigrate, false));
    }
    world.ask(Ask::Cont);
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
}

#[test]
fn a_job_that_ends_without_its_word_takes_the_images_back_and_the_machine_goes_on() {
    let (world, storage) = running();
    let (at, is_at) = channel();
    let (go_on, wait) = channel::<()>();
    let seen = Arc::clone(&storage);
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        at.send(()).unwrap();
        wait.recv().unwrap();
        assert_eq!(control.commit(false), Err(Refusal::JobCancelled.into()));
        assert!(!seen.is_active(), "left before the word was refused");
        Step::OutgoingFailed
    });
    is_at.recv().unwrap();
    world.ask(Ask::MigrateCancel);
    go_on.send(()).unwrap();
    assert!(job.wait());
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
    assert_eq!(storage.take_log(), ["flush", "inactivate", "activate", "prepare"]);
}

#[test]
fn an_image_that_cannot_be_flushed_fails_the_move_and_stays_here() {
    let (world, storage) = running();
    storage.next("inactivate", Mishap::Fail);
    let job = world.migrate(|control| {
        switch_over_and_seal(control);
        let error = control.commit(false).unwrap_err();
        assert_eq!(error.to_string(), "cannot inactivate 'fake': the test says so");
        Step::OutgoingFailed
    });
    assert!(job.wait());
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
}

#[test]
fn a_machine_that_was_stopped_has_its_images_back_although_nothing_lifts_it() {
    let (world, storage) = running();
    world.ask(Ask::Stop);
    let engine = world.engine.clone();
    let seen = Arc::clone(&storage);
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        engine.manage(Ask::MigrateCancel).unwrap();
        control.commit(false).unwrap_err();
        assert!(!seen.is_active());
        Step::OutgoingFailed
    });
    assert!(job.wait());
    assert_eq!((world.state(), storage.is_active()), (RunState::Paused, true));
}

#[test]
fn a_machine_whose_images_somebody_has_taken_meanwhile_is_held_until_they_can_be_had() {
    let (world, storage) = running();
    let (engine, seen) = (world.engine.clone(), Arc::clone(&storage));
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        engine.manage(Ask::MigrateCancel).unwrap();
        control.commit(false).unwrap_err();
        // When the job ends, and when the machine is to go on.
        seen.next("activate", Mishap::Fail);
        seen.next("activate", Mishap::Fail);
        Step::OutgoingFailed
    });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::Paused);
    storage.next("activate", Mishap::Fail);
    assert_eq!(world.refused(Ask::Cont), FAILED);
    world.ask(Ask::Cont);
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
}

#[test]
fn one_that_panics_before_its_word_takes_the_images_back_and_one_after_it_does_not() {
    let (world, storage) = running();
    storage.next("inactivate", Mishap::Panic);
    let job = world.migrate(|control| {
        switch_over_and_seal(control);
        control.commit(false).map_or(Step::OutgoingFailed, |_| Step::OutgoingDone)
    });
    assert!(job.wait());
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
    let job = world.migrate(|control| {
        switch_over_and_seal(control);
        control.commit(false).unwrap();
        panic!("the test says so");
    });
    assert!(job.wait());
    assert_eq!((world.state(), storage.is_active()), (RunState::PostMigrate, false));
}

#[test]
fn a_guest_that_arrives_runs_with_images_and_one_that_arrives_stopped_has_none_until_cont() {
    for postcopy in [false, true] {
        let (from, _) = running();
        let (world, storage) = World::incoming_with_storage();
        world.arrive(&from, postcopy);
        assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
        assert_eq!(storage.take_log(), ["activate", "prepare"]);
    }
    let (from, _) = running();
    from.ask(Ask::Stop);
    let (world, storage) = World::incoming_with_storage();
    world.arrive(&from, false);
    assert_eq!((world.state(), storage.is_active()), (RunState::Paused, false));
    world.ask(Ask::Cont);
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
}

#[test]
fn a_guest_whose_images_cannot_be_had_arrives_stopped_and_cont_tries_again() {
    let (from, _) = running();
    let (world, storage) = World::incoming_with_storage();
    storage.next("activate", Mishap::Fail);
    world.arrive(&from, false);
    assert_eq!(world.state(), RunState::Paused);
    storage.next("activate", Mishap::Fail);
    assert_eq!(world.refused(Ask::Cont), FAILED);
    world.ask(Ask::Cont);
    assert_eq!((world.state(), storage.is_active()), (RunState::Running, true));
}

#[test]
fn clients_arrange_images_in_their_turn_and_not_under_a_machine_that_runs_or_leaves() {
    let (world, storage) = running();
    let arrange = |if_held: bool| {
        let storage = Arc::clone(&storage);
        world.engine.arrange_images(if_held, move || storage.inactivate().map_err(|error| error.to_string()))
    };
    assert_eq!(arrange(true), Err(ManageError::Live));
    assert!(storage.is_active());
    world.ask(Ask::Stop);
    arrange(true).unwrap();
    assert!(!storage.is_active());
    storage.next("inactivate", Mishap::Fail);
    let text = "cannot inactivate 'fake': the test says so";
    let error = arrange(true).unwrap_err();
    assert!(matches!(&error, ManageError::Storage(StorageError::Inactive(_))) && error.to_string() == text);
    world.ask(Ask::Cont);
    assert!(storage.is_active());
    let engine = world.engine.clone();
    let job = world.migrate(move |control| {
        switch_over_and_seal(control);
        let refused = engine.arrange_images(false, || panic!("asked although it was refused"));
        assert_eq!(refused, Err(Refusal::MigrationNotFinalized.into()));
        Step::OutgoingFailed
    });
    assert!(job.wait());
}
