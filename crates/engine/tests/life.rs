//! The machine's life on the machine without a board: what clients see, in which order, and what harts, devices and
//! time do meanwhile.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use runstate::{GuestRequest, ManagementRequest as Ask, RunState, ShutdownCause, WakeSource};
use support::World;
use vmcore::testing::Step;

const RESUME_ADDR: u64 = 0x8040_0000;

#[test]
fn prelaunch_then_cont() {
    let world = World::new(1);
    assert_eq!(world.state(), RunState::Prelaunch);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    world.ask(Ask::Cont);
    world.saw(&[]);
}

#[test]
fn stop_stop_cont_cont() {
    let world = World::running(1);
    world.ask(Ask::Stop);
    world.saw(&["STOP paused"]);
    world.ask(Ask::Stop);
    world.saw(&[]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    world.ask(Ask::Cont);
    world.saw(&[]);
}

#[test]
fn a_stopped_sleeper_is_remembered_refuses_a_wakeup_and_sleeps_on() {
    let world = World::running(1);
    world.fall_asleep();
    world.ask(Ask::Stop);
    world.saw(&["STOP paused"]);
    assert_eq!(world.refused(Ask::SystemWakeup), "Unable to wake up: guest is not in suspended state");
    world.ask(Ask::Cont);
    world.saw(&["RESUME suspended", "SUSPEND suspended"]);
    world.ask(Ask::SystemWakeup);
    world.saw(&["WAKEUP running"]);
    world.hart_runs(0);
    assert!(world.describe(0).contains(&format!("{RESUME_ADDR:#x}")), "{}", world.describe(0));
}

#[test]
fn a_reset_forgets_the_sleep_of_a_stopped_guest() {
    let world = World::running(1);
    world.fall_asleep();
    world.ask(Ask::Stop);
    world.ask(Ask::SystemReset);
    world.saw(&["STOP paused", "RESET prelaunch"]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    world.hart_runs(0);
}

#[test]
fn a_live_sleeping_machine_that_is_reset_runs_on() {
    let world = World::running(1);
    world.fall_asleep();
    let placed = world.machine.placed();
    world.ask(Ask::SystemReset);
    world.saw(&["RESET running"]);
    assert_eq!(world.machine.placed(), placed + 1, "the boot images are placed anew");
    world.hart_runs(0);
    world.ask(Ask::Cont);
    world.saw(&[]);
}

#[test]
fn a_device_wakes_a_sleeping_machine() {
    let world = World::running(1);
    world.fall_asleep();
    world.device_wakes();
    world.sees("WAKEUP running");
    world.hart_runs(0);
}

#[test]
fn a_wake_of_a_guest_that_is_awake_is_not_kept() {
    let world = World::running(1);
    world.device_wakes();
    world.fall_asleep();
    world.ask(Ask::Stop);
    world.ask(Ask::Cont);
    world.saw(&["STOP paused", "RESUME suspended", "SUSPEND suspended"]);
}

#[test]
fn a_wake_that_a_device_finds_due_as_the_guest_falls_asleep_is_delivered() {
    let world = World::running(1);
    world.machine.device().due_at_sleep(WakeSource::Rtc(0));
    world.scripts[0].then(Step::Ecall(world.suspend()));
    world.sees("WAKEUP running");
    world.saw(&["SUSPEND suspended", "WAKEUP running"]);
}

#[test]
fn a_wake_that_fell_due_while_stopped_is_delivered_once_after_cont() {
    let world = World::running(1);
    world.fall_asleep();
    world.ask(Ask::Stop);
    world.machine.device().due_at_start(WakeSource::Rtc(0));
    world.saw(&["STOP paused"]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME suspended", "WAKEUP running"]);
    world.ask(Ask::Stop);
    world.ask(Ask::Cont);
    world.saw(&["STOP paused", "RESUME running"]);
}

#[test]
fn a_wake_that_is_handled_while_stopped_is_latched_until_cont_and_a_reset_forgets_it() {
    let world = World::running(1);
    world.fall_asleep();
    world.ask(Ask::Stop);
    world.device_wakes();
    world.saw(&["STOP paused"]);
    world.ask(Ask::Cont);
    world.saw(&["RESUME suspended", "WAKEUP running"]);

    world.hart_runs(0);
    world.scripts[0].then(Step::Ecall(world.suspend()));
    world.sees("SUSPEND suspended");
    world.ask(Ask::Stop);
    world.device_wakes();
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["SUSPEND suspended", "STOP paused", "RESET prelaunch", "RESUME running"]);
}

#[test]
fn a_stopped_machine_executes_nothing_and_its_clock_stands() {
    let world = World::running(2);
    for script in &world.scripts {
        script.then(Step::Spin);
    }
    world.start_second_hart();
    world.hart_runs(0);
    world.hart_runs(1);
    for _ in 0..200 {
        world.ask(Ask::Stop);
        let (blocks, time) = (world.blocks(), world.clock.now_ns());
        world.host.advance(1_000_000);
        std::thread::yield_now();
        assert_eq!((world.blocks(), world.clock.now_ns()), (blocks, time));
        world.ask(Ask::Cont);
    }
}

#[test]
fn time_runs_while_asleep_and_stands_while_held() {
    let world = World::running(1);
    world.fall_asleep();
    let before = world.clock.now_ns();
    world.host.advance(10);
    assert_eq!(world.clock.now_ns(), before + 10);
    world.ask(Ask::Stop);
    world.host.advance(100);
    assert_eq!(world.clock.now_ns(), before + 10);
    world.ask(Ask::Cont);
    world.host.advance(1000);
    assert_eq!(world.clock.now_ns(), before + 1010);
}

#[test]
fn devices_are_told_to_stop_and_start_alternately() {
    let world = World::running(1);
    world.machine.device().take_log();
    for ask in [Ask::Stop, Ask::Stop, Ask::Cont, Ask::Cont, Ask::Stop, Ask::SystemReset, Ask::Cont] {
        world.ask(ask);
    }
    assert_eq!(world.machine.device().take_log(), ["stop", "start", "stop", "reset", "start"]);
    world.events();
    world.fall_asleep();
    world.ask(Ask::SystemWakeup);
    assert_eq!(world.machine.device().take_log(), ["sleep", "wake"]);
}

#[test]
fn a_hart_that_panics_breaks_the_machine_and_a_reset_mends_it() {
    let world = World::running(1);
    world.scripts[0].then(Step::Panic);
    world.sees("STOP internal-error");
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["STOP internal-error", "RESET prelaunch", "RESUME running"]);
    world.hart_runs(0);
}

#[test]
fn a_guest_that_resets_runs_on_from_its_boot_images() {
    let world = World::running(1);
    let placed = world.machine.placed();
    world.scripts[0].then(Step::Store(GuestRequest::Reset));
    world.sees("RESET running");
    assert_eq!(world.machine.placed(), placed + 1);
    world.hart_runs(0);
}

#[test]
fn a_power_off_ends_the_process_with_the_guests_code_and_without_stop() {
    let world = World::running(1);
    let request = GuestRequest::ShutDown { cause: ShutdownCause::GuestPanic, exit_code: 7 };
    world.scripts[0].then(Step::Store(request));
    assert_eq!(world.engine.wait(), 7);
    let events = world.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("SHUTDOWN"), "{events:?}");
}

#[test]
fn quit_is_answered_and_ends_every_thread() {
    let world = World::running(3);
    world.ask(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
    assert_eq!(world.engine.wait(), 0);
    assert_eq!(world.events().len(), 1, "SHUTDOWN and no STOP");
    assert!(world.engine.manage(Ask::Stop).is_err());
}

#[test]
fn every_subscriber_sees_the_same_events_in_the_same_order_and_before_the_reply() {
    let world = World::running(1);
    let second = world.follow();
    for _ in 0..50 {
        world.ask(Ask::Stop);
        assert_eq!(second.last(), "STOP paused");
        world.ask(Ask::Cont);
        assert_eq!(second.last(), "RESUME running");
    }
    assert_eq!(second.take(), world.events());
}
