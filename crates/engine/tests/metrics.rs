//! Figures for those who watch many machines.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use runstate::ManagementRequest as Ask;
use support::World;
use vmcore::testing::Step;

const RESUME_ADDR: u64 = 0x8040_0000;

fn exits(world: &World, kind: &str) -> u64 {
    let figures = world.engine.hart_figures();
    figures[0].exits().find(|(other, _)| *other == kind).unwrap().1
}

#[test]
fn a_hart_that_never_leaves_the_guest_by_itself_is_counted_all_the_same() {
    let world = World::running(1);
    world.scripts[0].then(Step::Spin);
    world.hart_runs(0);
    let retired = || world.engine.hart_figures()[0].retired;
    let first = retired();
    world.until("more instructions", || retired() > first);
    world.ask(Ask::Stop);
    assert_eq!(retired(), retired(), "a held machine executes nothing");
}

#[test]
fn exits_are_counted_by_kind_and_requests_by_name() {
    let world = World::running(1);
    world.fall_asleep();
    assert_eq!(exits(&world, "request"), 1);
    world.ask(Ask::Stop);
    world.ask(Ask::Stop);
    world.ask(Ask::Cont);
    let latencies = world.engine.latencies();
    // The first `cont` started the machine.
    assert_eq!((latencies.stop.count, latencies.cont.count), (2, 2));
    assert_eq!(world.refused(Ask::InjectNmi), "machine does not provide NMIs");
    assert_eq!(world.engine.latencies(), latencies);
    let counts = world.engine.event_counts();
    assert_eq!(counts, [("RESUME", 2), ("SUSPEND", 2), ("STOP", 1)]);
}
