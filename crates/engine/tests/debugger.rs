//! A debugger beside other clients (lifecycle rules 2.3), on harts that follow a script.

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use engine::{DebugError, DebugStop, Debugger, ManageError, Resume};
use runstate::{
    ActionChange, GuestRequest, ManagementRequest, Refusal, RunState, ShutdownAction, ShutdownCause,
};
use support::World;
use vmcore::testing::Step;
use vmcore::{DebugHit, Point, Register};

const RESUME_ADDR: u64 = 0x8000_2000;

fn attach(world: &World) -> Debugger {
    let (debugger, interrupted) = world.engine.debug().expect("nobody else debugs");
    interrupted.unwrap();
    debugger
}

fn pc(debugger: &Debugger, hart: u32) -> Result<u64, DebugError> {
    debugger.hart(hart, |vcpu| vcpu.read_register(Register::Pc).unwrap())
}

fn stay_when_off(world: &World) {
    let change = ActionChange { shutdown: Some(ShutdownAction::Pause), ..ActionChange::default() };
    world.ask(ManagementRequest::SetActions(change));
}

fn power_off() -> GuestRequest {
    GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 }
}

fn points(world: &World, hart: u32) -> bool {
    world.engine.describe_hart(hart).unwrap().contains("points 1")
}

fn stop(hart: u32, hit: DebugHit) -> Option<DebugStop> {
    Some(DebugStop { hart, hit })
}

#[test]
fn attaching_stops_and_detaching_starts_even_what_was_never_started() {
    let world = World::new(1);
    let debugger = attach(&world);
    world.saw(&[]);
    assert_eq!(world.state(), RunState::Prelaunch, "held by two");
    debugger.detach().unwrap();
    world.saw(&["RESUME running"]);
    let debugger = attach(&world);
    world.saw(&["STOP paused"]);
    debugger.detach().unwrap();
    world.saw(&["RESUME running"]);
}

#[test]
fn there_is_one_debugger_at_a_time() {
    let world = World::running(1);
    let first = attach(&world);
    assert!(world.engine.debug().is_none());
    drop(first);
    assert!(world.engine.debug().is_some());
}

#[test]
fn a_breakpoint_is_debug_with_one_stop_and_its_hart_is_told() {
    let world = World::running(2);
    let debugger = attach(&world);
    debugger.set_points(vec![Point::Break(0x44)]).unwrap();
    debugger.resume(Resume::All).unwrap();
    assert!(points(&world, 0) && points(&world, 1));
    world.saw(&["STOP paused", "RESUME running"]);
    world.scripts[0].then(Step::Hit(DebugHit::Breakpoint));
    world.sees("STOP debug");
    world.saw(&["STOP debug"]);
    let status = debugger.status().unwrap();
    assert_eq!((status.live, status.stop), (false, stop(0, DebugHit::Breakpoint)));
    assert_eq!(pc(&debugger, 0), Ok(0x8020_0000));
    // A manager lifts it as well, and then the stop is past.
    world.ask(ManagementRequest::Cont);
    world.saw(&["RESUME running"]);
    assert_eq!(debugger.status().unwrap().stop, None);
    assert_eq!(pc(&debugger, 0), Err(DebugError::Running));
}

#[test]
fn a_stop_of_the_manager_is_lifted_by_continue() {
    let world = World::running(1);
    let debugger = attach(&world);
    debugger.resume(Resume::All).unwrap();
    world.ask(ManagementRequest::Stop);
    debugger.resume(Resume::All).unwrap();
    world.saw(&["STOP paused", "RESUME running", "STOP paused", "RESUME running"]);
}

#[test]
fn a_lost_connection_takes_its_points_and_its_own_hold_alone() {
    let world = World::running(1);
    let debugger = attach(&world);
    debugger.set_points(vec![Point::Break(0x44)]).unwrap();
    world.ask(ManagementRequest::Stop);
    drop(debugger);
    world.saw(&["STOP paused"]);
    assert_eq!(world.state(), RunState::Paused, "the manager's hold is still there");
    assert!(!points(&world, 0));
    let debugger = attach(&world);
    world.ask(ManagementRequest::Cont);
    world.saw(&["RESUME running"]);
    drop(debugger);
    world.saw(&[]);
    // The other way round: the debugger's hold alone.
    let debugger = attach(&world);
    drop(debugger);
    world.saw(&["STOP paused", "RESUME running"]);
}

#[test]
fn a_hit_that_nobody_waits_for_any_more_does_not_stop_the_machine() {
    let world = World::running(1);
    world.scripts[0].then(Step::Hit(DebugHit::Breakpoint));
    world.scripts[0].then(Step::Spin);
    world.until("it", || world.scripts[0].is_done());
    world.saw(&[]);
    assert_eq!(world.state(), RunState::Running);
}

#[test]
fn a_step_unparks_one_hart_for_one_instruction() {
    let world = World::running(2);
    world.scripts[0].then(Step::Spin);
    let debugger = attach(&world);
    world.saw(&["STOP paused"]);
    let before = world.scripts[0].blocks();
    for step in 1..=3 {
        debugger.resume(Resume::Step(0)).unwrap();
        world.sees("STOP debug");
        world.saw(&["RESUME running", "STOP debug"]);
        assert_eq!(debugger.status().unwrap().stop, stop(0, DebugHit::Step));
        assert_eq!(pc(&debugger, 0), Ok(0x8020_0000 + 4 * step));
    }
    assert_eq!(world.scripts[0].blocks(), before, "nothing ran but the steps");
}

#[test]
fn a_step_ends_a_wait() {
    let world = World::running(1);
    // An empty script waits for an interrupt.
    world.until("the wait", || world.scripts[0].blocks() > 0);
    let debugger = attach(&world);
    world.saw(&["STOP paused"]);
    debugger.resume(Resume::Step(0)).unwrap();
    world.sees("STOP debug");
    assert_eq!(pc(&debugger, 0), Ok(0x8020_0004));
}

#[test]
fn a_step_that_was_overtaken_does_not_happen_later() {
    let world = World::running(2);
    let debugger = attach(&world);
    world.saw(&["STOP paused"]);
    // Hart 1 is STOPPED: its step waits.
    debugger.resume(Resume::Step(1)).unwrap();
    world.saw(&["RESUME running"]);
    debugger.interrupt().unwrap();
    world.saw(&["STOP paused"]);
    debugger.resume(Resume::All).unwrap();
    world.start_second_hart();
    world.scripts[1].then(Step::Spin);
    world.until("it", || world.scripts[1].blocks() > 10);
    world.saw(&["RESUME running"]);
}

#[test]
fn a_step_of_a_running_machine_stops_it_first() {
    let world = World::running(1);
    world.scripts[0].then(Step::Spin);
    let debugger = attach(&world);
    debugger.resume(Resume::All).unwrap();
    world.saw(&["STOP paused", "RESUME running"]);
    debugger.resume(Resume::Step(0)).unwrap();
    world.sees("STOP debug");
    world.saw(&["STOP paused", "RESUME running", "STOP debug"]);
}

#[test]
fn one_hart_alone_goes_on_while_the_other_waits() {
    let world = World::running(2);
    world.start_second_hart();
    for script in &world.scripts {
        script.then(Step::Spin);
    }
    world.until("it", || world.scripts.iter().all(|script| script.blocks() > 10));
    let debugger = attach(&world);
    let before = world.scripts[0].blocks();
    let other = world.scripts[1].blocks();
    debugger.resume(Resume::One(1)).unwrap();
    world.until("it", || world.scripts[1].blocks() > other + 10);
    assert_eq!(world.scripts[0].blocks(), before);
}

/// B11: QEMU's gdb continue of a sleeping guest runs it without a wake-up.
#[test]
fn continue_and_step_leave_a_sleeping_guest_asleep() {
    for resume in [Resume::All, Resume::Step(0)] {
        let world = World::running(1);
        world.fall_asleep();
        let debugger = attach(&world);
        world.saw(&["STOP paused"]);
        debugger.resume(resume).unwrap();
        world.saw(&["RESUME suspended", "SUSPEND suspended"]);
        assert_eq!(world.state(), RunState::Suspended);
        debugger.interrupt().unwrap();
        world.saw(&["STOP paused"]);
        debugger.resume(Resume::All).unwrap();
        world.ask(ManagementRequest::SystemWakeup);
        world.saw(&["RESUME suspended", "SUSPEND suspended", "WAKEUP running"]);
    }
}

#[test]
fn a_machine_that_needs_a_reset_refuses_to_go_on_and_keeps_its_points_over_it() {
    let world = World::running(1);
    stay_when_off(&world);
    let debugger = attach(&world);
    debugger.set_points(vec![Point::Break(0x44)]).unwrap();
    debugger.resume(Resume::All).unwrap();
    world.scripts[0].then(Step::Ecall(power_off()));
    world.sees("STOP shutdown");
    world.events();
    for resume in [Resume::All, Resume::Step(0)] {
        assert_eq!(debugger.resume(resume), Err(ManageError::Refused(Refusal::ResetRequired)));
    }
    world.saw(&[]);
    world.ask(ManagementRequest::SystemReset);
    assert!(points(&world, 0), "a reset keeps breakpoints");
    debugger.resume(Resume::All).unwrap();
    world.saw(&["RESET prelaunch", "RESUME running"]);
}

#[test]
fn detaching_from_a_machine_that_needs_a_reset_leaves_no_hold_behind() {
    let world = World::running(1);
    stay_when_off(&world);
    let debugger = attach(&world);
    debugger.resume(Resume::All).unwrap();
    world.scripts[0].then(Step::Ecall(power_off()));
    world.sees("STOP shutdown");
    debugger.interrupt().unwrap();
    assert_eq!(debugger.detach(), Err(ManageError::Refused(Refusal::ResetRequired)));
    assert_eq!(world.state(), RunState::Shutdown);
    assert!(world.engine.debug().is_some(), "another one may come");
}
