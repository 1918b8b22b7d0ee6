//! A guest that is slowed down executes less and is otherwise as before.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::time::{Duration, Instant};

use runstate::{ManagementRequest as Ask, RunState};
use support::World;
use vmcore::testing::Step;

const RESUME_ADDR: u64 = 0x8040_0000;

/// Blocks that the hart executes in this time.
fn blocks(world: &World, time: Duration) -> u64 {
    let before = world.scripts[0].blocks();
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::thread::yield_now();
    }
    world.scripts[0].blocks() - before
}

#[test]
fn a_guest_that_rests_executes_less_and_stops_and_goes_on_as_before() {
    let world = World::running(1);
    world.scripts[0].then(Step::Spin);
    world.hart_runs(0);
    let throttle = world.engine.throttle().unwrap();
    throttle.set(99);
    // Rests of a second, with ten milliseconds between: whenever one looks, nearly nothing is executed.
    let deadline = Instant::now() + Duration::from_secs(60);
    while blocks(&world, Duration::from_millis(20)) != 0 {
        assert!(Instant::now() < deadline, "never rests");
    }
    world.ask(Ask::Stop);
    assert_eq!(world.state(), RunState::Paused);
    world.ask(Ask::Cont);
    drop(throttle);
    world.hart_runs(0);
    assert_eq!(world.state(), RunState::Running);
}
