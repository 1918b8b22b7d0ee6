//! The guest part of a machine, taken from one and swapped into another: nothing is lost on the way, nothing that is wrong
//! gets in, and what was here before is gone.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::mpsc::channel;

use clock::HostClock as _;
use engine::{By, GuestState, Job, JobControl, JobWork, Staged};
use runstate::{
    DeviceRequest, ManagementRequest as Ask, MigrationRequest as Step, RunState, SavedLifecycle, WakeSource,
};
use support::World;
use vmcore::testing::Step as Script;
use vmcore::{ArmedBy, DevicePort, HsmState, Machine as _, Section, WakeState};

const RESUME_ADDR: u64 = 0x8040_0000;

impl World {
    fn begin(&self, ask: Ask, failed: Step, run: impl FnOnce(&JobControl) -> Step + Send + 'static) -> Job {
        self.engine.begin(By::Unnamed, ask, JobWork::new(run, failed)).unwrap()
    }

    /// A snapshot, as `savevm` takes it.
    fn snapshot(&self) -> (GuestState, SavedLifecycle) {
        let (tell, told) = channel();
        let engine = self.engine.clone();
        let job = self.begin(Ask::SaveStart, Step::SaveEnd, move |_| {
            let state = engine.save_state().unwrap();
            tell.send((state, engine.saved_lifecycle().unwrap())).unwrap();
            Step::SaveEnd
        });
        assert!(job.wait());
        told.recv().unwrap()
    }

    /// Loads a snapshot, as `x-snapshot-load` does.
    fn load(&self, (state, saved): (GuestState, SavedLifecycle)) {
        self.engine.check_state(&state).unwrap();
        self.engine.check_lifecycle(&saved).unwrap();
        let engine = self.engine.clone();
        let job = self.begin(Ask::LoadStart { keep_asleep: true }, Step::LoadFailed, move |_| {
            engine.stage(Staged { state, memory: None, renewal: None });
            Step::LoadDone { saved }
        });
        assert!(job.wait());
    }

    fn refusal(&self, state: &GuestState) -> String {
        self.engine.check_state(state).unwrap_err().to_string()
    }
}

fn changed(state: &GuestState, name: &str, change: impl FnOnce(&mut Section)) -> GuestState {
    let mut state = state.clone();
    change(state.sections.iter_mut().find(|section| section.name == name).unwrap());
    state
}

#[test]
fn a_running_machine_goes_on_in_another_that_then_saves_the_same() {
    let (here, there) = (World::running(2), World::new(2));
    here.start_second_hart();
    here.hart_runs(1);
    here.host.advance(1_500);
    let (state, saved) = here.snapshot();
    there.host.advance(700);
    there.load((state.clone(), saved));
    // It was held before, and stays so.
    assert_eq!(there.state(), RunState::Prelaunch);
    assert_eq!(there.clock.now_ns(), 1_500);
    assert_eq!(there.snapshot().0, state);
    there.ask(Ask::Cont);
    there.hart_runs(0);
    there.hart_runs(1);
}

/// It is measured by the wall clocks, the one thing that two hosts have in common.
#[test]
fn how_long_the_guest_stood_is_told_and_nothing_of_it_is_added_to_its_time() {
    let (here, between, there) = (World::running(1), World::new(1), World::new(1));
    here.hart_runs(0);
    here.host.advance(1_500);
    here.ask(Ask::Stop);
    let left = here.host.realtime_ns();
    here.host.advance(40);
    let snapshot = here.snapshot();
    assert_eq!(here.engine.arrival(), None, "it began here");
    // It is passed on without having run.
    between.host.set_realtime(left + 1_000);
    between.load(snapshot);
    let arrival = between.engine.arrival().unwrap();
    assert_eq!((arrival.guest_ns, arrival.left_wall_ns), (1_500, Some(left)));
    assert_eq!((arrival.resumed, arrival.downtime_ns(), arrival.applied_ns()), (None, None, None));
    there.host.set_realtime(left + 2_000);
    there.load(between.snapshot());
    there.host.advance(345);
    there.ask(Ask::Cont);
    there.hart_runs(0);
    there.host.advance(5);
    there.ask(Ask::Stop);
    let arrival = there.engine.arrival().unwrap();
    assert_eq!((arrival.downtime_ns(), arrival.applied_ns()), (Some(2_345), Some(0)));
    assert_eq!(arrival.resumed.unwrap().wall_ns, left + 2_345);
}

#[test]
fn a_guest_that_sleeps_arrives_asleep_and_its_sleeper_wakes() {
    let (here, there) = (World::running(1), World::running(1));
    here.fall_asleep();
    here.host.advance(1_000);
    let (state, saved) = here.snapshot();
    assert_eq!(state.clock().unwrap().guest_ns, 1_000);
    assert_eq!(state.clock().unwrap().awake_ns, 0);
    there.machine.device().take_log();
    there.load((state.clone(), saved));
    there.saw(&["STOP restore-vm", "RESUME suspended", "SUSPEND suspended"]);
    assert_eq!(there.machine.device().take_log(), ["stop", "wake", "load", "sleep", "start"]);
    assert_eq!(there.hart(0).hsm_state(), HsmState::Suspended);
    there.host.advance(50);
    assert_eq!((there.clock.now_ns(), there.clock.awake_ns()), (1_050, 0));
    there.ask(Ask::SystemWakeup);
    there.saw(&["WAKEUP running"]);
    there.hart_runs(0);
    assert!(there.describe(0).contains(&format!("{RESUME_ADDR:#x}")));
}

#[test]
fn a_wake_that_is_due_where_the_guest_arrives_wakes_it() {
    let (here, there) = (World::running(1), World::running(1));
    here.fall_asleep();
    let snapshot = here.snapshot();
    there.machine.set_wake_sources(&[WakeState {
        source: WakeSource::Rtc(0),
        armed: Some(ArmedBy::Device),
        due: true,
        alarm: None,
    }]);
    there.load(snapshot);
    there.saw(&["STOP restore-vm", "RESUME suspended", "WAKEUP running"]);
}

#[test]
fn an_awake_guest_replaces_one_that_sleeps() {
    let world = World::running(1);
    let snapshot = world.snapshot();
    world.events();
    world.fall_asleep();
    world.load(snapshot);
    world.saw(&["STOP restore-vm", "RESUME running"]);
    world.hart_runs(0);
    assert!(!world.clock.is_asleep());
}

#[test]
fn devices_post_for_the_guest_that_has_come() {
    let world = World::running(1);
    let snapshot = world.snapshot();
    let epoch = world.machine.harts().epoch();
    world.load(snapshot);
    world.events();
    assert_ne!(world.machine.harts().epoch(), epoch);
    world.port.post(DeviceRequest::Watchdog);
    world.sees("RESET running");
}

#[test]
fn a_request_that_met_the_halt_is_handled_before_the_state_is_taken() {
    for _ in 0..50 {
        let world = World::running(1);
        world.scripts[0].then(Script::Ecall(world.suspend()));
        let (state, saved) = world.snapshot();
        let asleep = saved.power().sleep().is_some();
        let there = World::new(1);
        there.load((state, saved));
        there.ask(Ask::Cont);
        if asleep {
            assert_eq!(there.state(), RunState::Suspended);
            there.ask(Ask::SystemWakeup);
        }
        there.hart_runs(0);
    }
}

#[test]
fn a_state_is_refused_for_each_thing_that_is_wrong_with_it_and_nothing_has_changed() {
    let world = World::new(2);
    let (state, _) = world.snapshot();
    let other = World::new(1);
    assert_eq!(other.refusal(&state), "the saved machine has 2 harts, this machine has 1");
    let counted = World::counted();
    let one = World::new(1).snapshot().0;
    assert_eq!(
        counted.refusal(&one),
        "guest time of the saved machine follows the host's clock, \
         of this machine is counted in instructions (shift 0)"
    );
    for section in &state.sections {
        let name = &section.name;
        let mut without = state.clone();
        without.sections.retain(|other| other.name != *name);
        if name == "last-ran" {
            // Of a guest that has not run, or of an older program.
            world.engine.check_state(&without).unwrap();
        } else {
            assert_eq!(world.refusal(&without), format!("the saved state has no section '{name}'"));
        }
        let mut twice = state.clone();
        twice.sections.push(section.clone());
        assert_eq!(world.refusal(&twice), format!("the saved state has two sections '{name}'"));
        let newer = changed(&state, name, |section| section.version += 1);
        assert!(world.refusal(&newer).contains("version"));
        let longer = changed(&state, name, |section| section.data.push(0));
        assert!(world.refusal(&longer).contains("too many"));
        for len in 0..section.data.len() {
            let short = changed(&state, name, |section| section.data.truncate(len));
            world.refusal(&short);
        }
    }
    let mut more = state.clone();
    more.sections.push(Section::encode("another", 1, &()));
    assert_eq!(
        world.refusal(&more),
        "the saved state has a section 'another', which this machine does not know"
    );
    assert_eq!(world.snapshot().0, state, "a refusal changed something");
    world.engine.check_state(&state).unwrap();
}

#[test]
fn damaged_bytes_are_refused_or_lead_to_a_state_that_can_be_saved_again() {
    let world = World::new(2);
    let (state, saved) = world.snapshot();
    for index in 0..state.sections.len() {
        for at in 0..state.sections[index].data.len() {
            let mut damaged = state.clone();
            damaged.sections[index].data[at] ^= 1 << (at % 8);
            if world.engine.check_state(&damaged).is_ok() {
                world.load((damaged, saved));
                let again = world.snapshot().0;
                world.engine.check_state(&again).unwrap();
                world.load((state.clone(), saved));
            }
        }
    }
    assert_eq!(world.snapshot().0, state);
}

#[test]
fn a_job_that_stages_nothing_breaks_the_machine_instead_of_mixing_two_guests() {
    let world = World::running(1);
    let (_, saved) = world.snapshot();
    let job = world
        .begin(Ask::LoadStart { keep_asleep: false }, Step::LoadFailed, move |_| Step::LoadDone { saved });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::InternalError);
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.hart_runs(0);
}

#[test]
fn a_guest_that_does_not_arrive_leaves_power_on_and_another_may_come() {
    let (state, saved) = World::running(1).snapshot();
    let world = World::incoming();
    let placed = world.machine.placed();
    let failed = Step::IncomingFailed { exit: false };
    let engine = world.engine.clone();
    let half = state.clone();
    let job = world.begin(Ask::MigrateIncoming, failed, move |_| {
        engine.ram().unwrap().write(0x8000_0000, &[7; 8]).unwrap();
        engine.stage(Staged { state: half, memory: None, renewal: None });
        failed
    });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::InMigrate);
    assert_eq!(world.machine.placed(), placed + 1, "the images are there again");
    // What the first one staged is not what the second one loads.
    let job =
        world.begin(Ask::MigrateIncoming, failed, move |_| Step::IncomingLoaded { saved, postcopy: false });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::InternalError);
    let world = World::incoming();
    assert!(world.begin(Ask::MigrateIncoming, failed, move |_| failed).wait());
    let engine = world.engine.clone();
    let job = world.begin(Ask::MigrateIncoming, failed, move |_| {
        engine.stage(Staged { state, memory: None, renewal: None });
        Step::IncomingLoaded { saved, postcopy: false }
    });
    assert!(job.wait());
    assert_eq!(world.state(), RunState::Running);
    world.hart_runs(0);
}

#[test]
fn memory_is_replaced_in_the_same_turn() {
    let world = World::running(1);
    let (state, saved) = world.snapshot();
    let engine = world.engine.clone();
    let job = world.begin(Ask::LoadStart { keep_asleep: false }, Step::LoadFailed, move |_| {
        let memory = Box::new(|ram: &ram::Ram| ram.write(ram.base(), &[7; 8]).unwrap());
        engine.stage(Staged { state, memory: Some(memory), renewal: None });
        Step::LoadDone { saved }
    });
    assert!(job.wait());
    let mut bytes = [0; 8];
    world.engine.ram().unwrap().read(0x8000_0000, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 8]);
}

struct Damaged;

impl ram::ChunkSource for Damaged {
    fn fill(&self, _chunk: usize, _into: &mut [u8]) -> Result<(), ram::FillError> {
        Err(ram::FillError::Failed("checksum mismatch".into()))
    }
}

#[test]
fn memory_that_is_found_missing_before_the_guest_is_here_breaks_the_machine() {
    let world = World::running(1);
    let (state, saved) = world.snapshot();
    let engine = world.engine.clone();
    let job = world.begin(Ask::LoadStart { keep_asleep: false }, Step::LoadFailed, move |_| {
        let replace = |ram: &ram::Ram| {
            ram.replace(ram::Portion::All, std::sync::Arc::new(Damaged), || {});
            ram.fill_next(0).unwrap_err();
        };
        engine.stage(Staged { state, memory: Some(Box::new(replace)), renewal: None });
        Step::LoadDone { saved }
    });
    assert!(job.wait());
    world.until("the fault", || world.fault().is_some());
    let reason = world.fault().unwrap();
    assert!(reason.ends_with("at 0x80000000 cannot be had: checksum mismatch"), "{reason}");
}

#[test]
fn a_machine_that_runs_gives_no_state() {
    let world = World::running(1);
    assert_eq!(world.engine.save_state(), None);
}
