//! Requests that meet each other, on the real engine: in one order, in the other, and at once from several clients. What
//! comes of them is stated in `docs/meetings.md`.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::thread;

use runstate::{
    ActionChange, DeviceRequest, GuestRequest, ManagementRequest as Ask, PanicAction, RunState,
    ShutdownCause, WatchdogAction,
};
use support::World;
use vmcore::DevicePort;
use vmcore::testing::Step;

const RESUME_ADDR: u64 = 0x8040_0000;
const QUIT: Ask = Ask::Quit { cause: ShutdownCause::HostQmpQuit };
const ROUNDS: usize = 100;

fn acting(panic: PanicAction, watchdog: WatchdogAction) -> World {
    let world = World::running(1);
    let change = ActionChange { panic: Some(panic), watchdog: Some(watchdog), ..ActionChange::default() };
    world.ask(Ask::SetActions(change));
    world
}

/// STOP and RESUME alternate, beginning with a running machine.
fn alternates(events: &[String]) {
    let mut live = true;
    for event in events {
        match event.split(' ').next() {
            Some("STOP") => assert!(std::mem::replace(&mut live, false), "two STOP in a row: {events:?}"),
            Some("RESUME") => assert!(!std::mem::replace(&mut live, true), "two RESUME in a row: {events:?}"),
            _ => {}
        }
    }
}

/// Asks from a client of its own for each request, all at the same time, refused or not.
fn at_once(world: &World, asks: &[Ask]) {
    thread::scope(|scope| {
        for ask in asks {
            scope.spawn(|| world.engine.manage(*ask));
        }
    });
}

#[test]
fn panic_then_stop_is_a_panic_and_stop_then_panic_a_stop_and_both_are_told() {
    let world = acting(PanicAction::Pause, WatchdogAction::Pause);
    world.scripts[0].then(Step::Store(GuestRequest::Panic));
    world.sees("STOP guest-panicked");
    world.ask(Ask::Stop);
    world.saw(&["GUEST_PANICKED guest-panicked", "STOP guest-panicked"]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    for _ in 0..ROUNDS {
        world.scripts[0].then(Step::Store(GuestRequest::Panic));
        at_once(&world, &[Ask::Stop, Ask::Stop]);
        world.sees(&format!(
            "GUEST_PANICKED {}",
            if panicked_first(&world) { "guest-panicked" } else { "paused" }
        ));
        let state = world.state();
        assert!(matches!(state, RunState::Paused | RunState::GuestPanicked), "{state:?}");
        alternates(&world.events());
        world.ask(Ask::Cont);
        world.saw(&["RESUME running"]);
        world.hart_runs(0);
        world.ask(Ask::SystemReset);
        world.events();
    }
}

/// Waits until the panic has been handled, which a stop that came first delays until the machine goes on.
fn panicked_first(world: &World) -> bool {
    world.until("the end of the step", || world.scripts[0].is_done() || world.state() == RunState::Paused);
    if !world.scripts[0].is_done() {
        // Stopped before the hart came to it: it panics once it may go on.
        world.ask(Ask::Cont);
        world.until("the panic", || world.state() == RunState::GuestPanicked);
    }
    world.describe(0);
    world.state() == RunState::GuestPanicked
}

#[test]
fn a_watchdog_that_meets_a_wake_holds_the_woken_guest_and_loses_no_wake() {
    let world = acting(PanicAction::Pause, WatchdogAction::Pause);
    world.fall_asleep();
    world.port.post(DeviceRequest::Watchdog);
    world.sees("STOP watchdog");
    world.device_wakes();
    world.ask(Ask::Cont);
    world.saw(&["WATCHDOG watchdog", "STOP watchdog", "RESUME suspended", "WAKEUP running"]);
    world.hart_runs(0);
    world.fall_asleep();
    world.device_wakes();
    world.port.post(DeviceRequest::Watchdog);
    world.sees("STOP watchdog");
    world.saw(&["WAKEUP running", "WATCHDOG watchdog", "STOP watchdog"]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    for _ in 0..ROUNDS {
        world.hart_runs(0);
        world.fall_asleep();
        thread::scope(|scope| {
            scope.spawn(|| world.port.post(DeviceRequest::Watchdog));
            scope.spawn(|| world.device_wakes());
        });
        world.sees("STOP watchdog");
        world.describe(0);
        world.ask(Ask::Cont);
        assert_eq!(world.state(), RunState::Running, "the wake was lost");
        alternates(&world.events());
    }
}

#[test]
fn a_reset_that_meets_a_stop_gives_prelaunch_or_paused_and_never_a_running_guest() {
    let world = World::running(1);
    world.ask(Ask::SystemReset);
    world.ask(Ask::Stop);
    world.saw(&["RESET running", "STOP paused"]);
    world.ask(Ask::SystemReset);
    world.saw(&["RESET prelaunch"]);
    world.ask(Ask::Cont);
    world.events();
    for _ in 0..ROUNDS {
        at_once(&world, &[Ask::Stop, Ask::SystemReset, Ask::SystemPowerdown]);
        let state = world.state();
        assert!(matches!(state, RunState::Paused | RunState::Prelaunch), "{state:?}");
        alternates(&world.events());
        world.ask(Ask::Cont);
        world.events();
    }
}

#[test]
fn quit_ends_the_machine_whatever_it_meets_and_everybody_is_answered() {
    for others in [
        &[Ask::Stop, Ask::Cont][..],
        &[Ask::SystemReset, Ask::SystemReset],
        &[Ask::SystemWakeup, Ask::SystemPowerdown, Ask::Stop],
        &[QUIT, QUIT],
    ] {
        for asleep in [false, true] {
            let world = World::running(2);
            if asleep {
                world.fall_asleep();
            }
            let asks: Vec<Ask> = others.iter().copied().chain([QUIT]).collect();
            at_once(&world, &asks);
            assert_eq!(world.engine.wait(), 0);
            let events = world.events();
            assert!(events.last().is_some_and(|last| last.starts_with("SHUTDOWN")), "{events:?}");
            alternates(&events);
        }
    }
}
