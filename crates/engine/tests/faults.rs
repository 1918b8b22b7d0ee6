//! What goes wrong, in a hart, in a timer or in the machine thread itself, and requests that meet in unlucky moments.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use clock::{Timer, TimerClass, TimerTarget};
use engine::{ManageError, Record, Status, Subscriber};
use runstate::{
    DeviceRequest, Event, GuestRequest, ManagementRequest as Ask, RunState, ShutdownCause, WakeSource,
};
use support::World;
use vmcore::testing::Step;
use vmcore::{DevicePort, mip};

const RESUME_ADDR: u64 = 0x8040_0000;

#[test]
fn a_suspend_that_meets_a_wake_never_returns_to_the_caller() {
    let world = World::running(1);
    for _ in 0..100 {
        world.machine.device().due_at_sleep(WakeSource::Rtc(0));
        world.scripts[0].then(Step::Ecall(world.suspend()));
        world.scripts[0].then(Step::Spin);
        world.sees("WAKEUP running");
        world.saw(&["SUSPEND suspended", "WAKEUP running"]);
        // Answered by the machine thread, which must not wait for a hart that executes.
        assert_eq!(world.describe(0), format!("pc {RESUME_ADDR:#x} a0 None"));
    }
}

#[test]
fn boot_images_that_cannot_be_placed_break_the_machine_until_the_next_reset() {
    let world = World::running(1);
    world.machine.misplace();
    world.ask(Ask::SystemReset);
    // The rest of the reset is abandoned: no RESET is told of a reset that did not happen.
    world.saw(&["STOP internal-error"]);
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["RESET prelaunch", "RESUME running"]);
    world.hart_runs(0);
}

struct Panics;

impl TimerTarget for Panics {
    fn expired(&self) {
        panic!("the test says so");
    }
}

#[test]
fn a_timer_that_panics_breaks_the_machine_and_the_others_still_fire_after_a_reset() {
    let world = World::running(1);
    let timer = world.timers.add(TimerClass::GuestTime, Arc::new(Panics));
    timer.arm(world.clock.now_ns() + 10);
    world.host.advance(20);
    world.sees("STOP internal-error");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["STOP internal-error", "RESET prelaunch", "RESUME running"]);
    world.hart(0).set_stimecmp(world.hart(0).time() + 1);
    world.host.advance(1_000);
    world.until("the timer interrupt", || world.hart(0).pending() & mip::STIP != 0);
}

#[test]
fn a_hart_that_panics_while_it_waits_breaks_the_machine() {
    let world = World::running(1);
    world.scripts[0].then(Step::PanicWaiting);
    world.sees("STOP internal-error");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.hart_runs(0);
}

#[test]
fn a_panic_of_the_machine_thread_ends_the_process_and_leaves_nobody_waiting() {
    let world = World::running(2);
    world.machine.device().panic_at_stop();
    let queued: Vec<_> = (0..4)
        .map(|_| {
            let engine = world.engine.clone();
            std::thread::spawn(move || engine.manage(Ask::Stop))
        })
        .collect();
    for client in queued {
        assert_eq!(client.join().unwrap(), Err(ManageError::Ended));
    }
    assert_eq!(world.engine.wait(), 1);
    assert_eq!(world.engine.describe_hart(0), None);
}

#[test]
fn a_hart_that_hangs_does_not_keep_the_process() {
    let world = World::running(2);
    world.scripts[0].then(Step::Hang);
    world.until("the hart's last block", || world.scripts[0].is_done());
    world.ask(Ask::Quit { cause: ShutdownCause::HostSignal });
    assert_eq!(world.engine.wait(), 0);
}

#[test]
fn devices_are_held_before_the_first_start() {
    let world = World::new(1);
    assert_eq!(world.machine.device().take_log(), ["stop", "reset"]);
    world.ask(Ask::Cont);
    assert_eq!(world.machine.device().take_log(), ["start"]);
}

/// Writes down whose resets were told.
#[derive(Default)]
struct Resets(Mutex<Vec<bool>>);

impl Subscriber for Resets {
    fn publish(&self, _status: &Arc<Status>, record: Option<&Arc<Record>>) {
        if let Some(Event::Reset { guest, .. }) = record.and_then(|record| record.event) {
            self.0.lock().unwrap().push(guest);
        }
    }
}

#[test]
fn a_request_made_before_a_reset_does_nothing_after_it() {
    let world = World::running(1);
    let resets = Arc::new(Resets::default());
    world.engine.subscribe(Arc::clone(&resets) as Arc<dyn Subscriber>);
    for round in 0..3000 {
        world.scripts[0].then(Step::Store(GuestRequest::Reset));
        world.ask(Ask::SystemReset);
        // The reset has taken the script away: what the hart asks now, it asked before.
        world.describe(0);
        world.describe(0);
        let told = std::mem::take(&mut *resets.0.lock().unwrap());
        assert_eq!(told.last(), Some(&false), "round {round}: the guest's reset came after ours: {told:?}");
    }
}

#[test]
fn a_suspend_that_meets_a_stop_is_not_lost_whichever_comes_first() {
    let world = World::running(1);
    for _ in 0..300 {
        world.scripts[0].then(Step::Ecall(world.suspend()));
        world.ask(Ask::Stop);
        world.ask(Ask::Cont);
        world.sees("SUSPEND suspended");
        world.until("the sleep", || world.state() == RunState::Suspended);
        world.ask(Ask::Stop);
        assert_eq!(world.state(), RunState::Paused);
        world.ask(Ask::Cont);
        world.ask(Ask::SystemWakeup);
        assert_eq!(world.state(), RunState::Running);
        world.events();
    }
}

#[test]
fn a_hart_that_fails_as_it_is_stopped_breaks_the_machine_with_one_stop() {
    let world = World::running(1);
    for _ in 0..100 {
        world.scripts[0].then(Step::Panic);
        world.ask(Ask::Stop);
        // Refused if the hart has failed; else it fails once it may execute again.
        let _ = world.engine.manage(Ask::Cont);
        world.until("the failure", || world.state() == RunState::InternalError);
        // The state is published before the STOP that belongs to it: have the machine thread finish.
        world.describe(0);
        alternates(&world.events());
        world.ask(Ask::SystemReset);
        world.ask(Ask::Cont);
        world.saw(&["RESET prelaunch", "RESUME running"]);
    }
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

#[test]
fn thousand_stops_and_starts_of_harts_that_spin() {
    let world = World::running(4);
    for hart in 1..4 {
        let params = vmcore::StartParams { pc: 0x8000_1000, opaque: 1 };
        world.hart(hart).hsm_start(params).unwrap();
    }
    for hart in 0..4 {
        world.hart_runs(hart);
    }
    for _ in 0..1000 {
        world.ask(Ask::Stop);
        let (blocks, time) = (world.blocks(), world.clock.now_ns());
        world.host.advance(1_000);
        assert_eq!((world.blocks(), world.clock.now_ns()), (blocks, time));
        world.ask(Ask::Cont);
    }
    for hart in 0..4 {
        world.hart_runs(hart);
    }
    alternates(&world.events());
}

#[test]
fn clients_that_race_see_one_order_and_the_process_ends() {
    for seed in 1..=4_u64 {
        let world = World::running(2);
        world.scripts[0].then(Step::Spin);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let engine = world.engine.clone();
                std::thread::spawn(move || {
                    let mut random = seed * 1000 + client;
                    for _ in 0..300 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let ask = match (random >> 33) % 5 {
                            0 => Ask::Stop,
                            1 => Ask::SystemReset,
                            2 => Ask::SystemWakeup,
                            3 => Ask::SystemPowerdown,
                            _ => Ask::Cont,
                        };
                        // Refused or not: every request is answered.
                        let _ = engine.manage(ask);
                    }
                })
            })
            .collect();
        while !clients.iter().all(|client| client.is_finished()) {
            world.scripts[0].then(Step::Ecall(world.suspend()));
            world.scripts[1].then(Step::Spin);
            world.port.post(DeviceRequest::Wake(WakeSource::Rtc(0)));
            std::thread::yield_now();
        }
        for client in clients {
            client.join().unwrap();
        }
        world.describe(0);
        world.ask(Ask::Stop);
        let events = world.events();
        alternates(&events);
        let last = events.iter().rev().find(|event| !event.starts_with("POWERDOWN")).unwrap();
        assert!(last.ends_with(world.state().as_str()), "{last} and {:?}", world.state());
        let quits: Vec<_> = (0..3)
            .map(|_| {
                let engine = world.engine.clone();
                std::thread::spawn(move || engine.manage(Ask::Quit { cause: ShutdownCause::HostQmpQuit }))
            })
            .collect();
        let answered = quits.into_iter().filter_map(|quit| quit.join().unwrap().ok()).count();
        assert_eq!(answered, 1, "one quit ends the machine");
        assert_eq!(world.engine.wait(), 0);
    }
}

#[test]
fn all_of_many_harts_start_under_firmware_and_after_each_reset() {
    let world = World::running(32);
    world.machine.boot_firmware();
    for _ in 0..3 {
        world.ask(Ask::SystemReset);
        for hart in 0..32 {
            world.hart_runs(hart);
            assert!(world.describe(hart as u32).starts_with("pc 0x80000000"));
        }
    }
    world.ask(Ask::Stop);
    let blocks = world.blocks();
    world.ask(Ask::SystemReset);
    std::thread::yield_now();
    assert_eq!(world.blocks(), blocks, "reset, and held");
    world.ask(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
    assert_eq!(world.engine.wait(), 0);
}

// ---- a guest that resets faster than its clients read ----

/// A client that does not keep up while told so.
#[derive(Default)]
struct Slow(AtomicBool);

impl Subscriber for Slow {
    fn publish(&self, _status: &Arc<Status>, _record: Option<&Arc<Record>>) {}

    fn is_behind(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A running machine whose hart has asked for a reset that waits for the client.
fn with_a_reset_that_waits() -> (World, Arc<Slow>) {
    let world = World::running(1);
    let slow = Arc::new(Slow::default());
    slow.0.store(true, Ordering::SeqCst);
    world.engine.subscribe(Arc::clone(&slow) as Arc<dyn Subscriber>);
    world.scripts[0].then(Step::Store(GuestRequest::Reset));
    world.until("the request", || world.scripts[0].is_done());
    (world, slow)
}

#[test]
fn a_reset_that_waits_for_clients_comes_when_they_have_read_or_patience_is_over() {
    let (world, slow) = with_a_reset_that_waits();
    world.ask(Ask::Stop);
    slow.0.store(false, Ordering::SeqCst);
    world.sees("RESET prelaunch");
    world.ask(Ask::Cont);
    slow.0.store(true, Ordering::SeqCst);
    world.events();
    world.scripts[0].then(Step::Store(GuestRequest::Reset));
    world.sees("RESET running");
}

#[test]
fn a_reset_that_waits_for_clients_is_forgotten_by_ours() {
    let (world, slow) = with_a_reset_that_waits();
    world.ask(Ask::SystemReset);
    slow.0.store(false, Ordering::SeqCst);
    world.hart_runs(0);
    world.ask(Ask::Stop);
    world.saw(&["RESET running", "STOP paused"]);
}

#[test]
fn quit_does_not_wait_for_clients_that_hold_up_a_reset() {
    let (world, _slow) = with_a_reset_that_waits();
    world.ask(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
    assert_eq!(world.engine.wait(), 0);
    assert!(!world.events().iter().any(|event| event.starts_with("RESET")));
}

// ---- counted time ----

#[test]
fn counted_time_keeps_every_deadline_that_a_running_hart_sets() {
    let world = World::counted();
    world.scripts[0].then(Step::Spin);
    for _ in 0..5 {
        world.scripts[0].then(Step::Compare(3));
        world.until("the timer interrupt", || world.hart(0).pending() & mip::STIP != 0);
        world.hart(0).set_pending(mip::STIP, false);
    }
}

/// A wake source that looks many times before it wakes.
struct Patient {
    timer: OnceLock<Timer>,
    looks: AtomicU32,
    port: Arc<engine::Port>,
}

impl TimerTarget for Patient {
    fn expired(&self) {
        let timer = self.timer.get().unwrap();
        match self.looks.fetch_add(1, Ordering::SeqCst) {
            1000.. => self.port.post(DeviceRequest::Wake(WakeSource::Rtc(0))),
            _ => timer.arm(timer.now_ns() + 1_000_000_000),
        }
    }
}

#[test]
fn counted_time_jumps_from_deadline_to_deadline_while_asleep() {
    let world = World::counted();
    let patient =
        Arc::new(Patient { timer: OnceLock::new(), looks: AtomicU32::new(0), port: Arc::clone(&world.port) });
    let timer = world.timers.add(TimerClass::Wake, Arc::clone(&patient) as Arc<dyn TimerTarget>);
    timer.arm(1_000_000_000);
    assert!(patient.timer.set(timer).is_ok());
    world.scripts[0].then(Step::Ecall(world.suspend()));
    world.sees("WAKEUP running");
    assert!(world.clock.now_ns() >= 1000 * 1_000_000_000);
}

#[test]
fn counted_time_goes_on_when_the_only_hart_has_stopped_itself() {
    let world = World::counted();
    world.scripts[0].then(Step::Compare(1_000));
    world.scripts[0].then(Step::Stop);
    world.until("the deadline", || world.hart(0).pending() & mip::STIP != 0);
    assert!(world.clock.now_ns() >= 100_000);
}

#[test]
fn counted_time_stands_while_held_and_thousand_stops_lose_no_hart() {
    let world = World::counted();
    world.hart_runs(0);
    for _ in 0..1000 {
        world.ask(Ask::Stop);
        let before = (world.blocks(), world.clock.now_ns());
        std::thread::yield_now();
        assert_eq!((world.blocks(), world.clock.now_ns()), before);
        world.ask(Ask::Cont);
    }
    world.hart_runs(0);
}
