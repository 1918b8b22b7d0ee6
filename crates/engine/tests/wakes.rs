//! What the engine says of wakes: which source woke the guest, which did not and why.

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use runstate::{DeviceRequest, ManagementRequest, WakeChange, WakeFate, WakeSource, WakeSwitch};
use support::World;
use vmcore::{ArmedBy, DevicePort, WakeState};

/// Where the guest resumes, for the shared part of these tests.
pub const RESUME_ADDR: u64 = 0x8020_1000;

const RTC0: WakeSource = WakeSource::Rtc(0);
const SERIAL0: WakeSource = WakeSource::Serial(0);

fn state(source: WakeSource, due: bool) -> WakeState {
    WakeState { source, armed: Some(ArmedBy::InterruptController), due, alarm: None }
}

fn switch(switch: WakeSwitch, on: bool) -> ManagementRequest {
    ManagementRequest::SetWakePolicy(WakeChange::default().set(switch, on))
}

fn posts(world: &World, request: DeviceRequest) {
    world.port.post(request);
    world.describe(0);
}

fn counts(world: &World, source: WakeSource) -> [u64; 4] {
    let report = world.engine.wakes();
    let info = report.sources.iter().find(|info| info.state.source == source).expect("is listed");
    let counts = info.counts;
    [counts.delivered, counts.latched, counts.forbidden, counts.masked]
}

#[test]
fn the_source_of_a_wake_is_told_with_its_time() {
    let world = World::running(1);
    assert_eq!(world.engine.wakes().last_wake, None);
    world.fall_asleep();
    world.host.advance(5_000_000_000);
    posts(&world, DeviceRequest::Wake(RTC0));
    world.saw(&["WAKEUP running"]);
    let last = world.engine.wakes().last_wake.expect("it was woken");
    assert_eq!((last.source, last.fate), (RTC0, None));
    assert_eq!(last.guest_ns, world.clock.now_ns());
    world.fall_asleep();
    world.ask(ManagementRequest::SystemWakeup);
    assert_eq!(world.engine.wakes().last_wake.map(|wake| wake.source), Some(WakeSource::Management));
    assert_eq!(counts(&world, RTC0), [1, 0, 0, 0]);
    assert_eq!(counts(&world, WakeSource::Management), [1, 0, 0, 0]);
}

#[test]
fn a_latched_wake_is_shown_until_it_is_delivered() {
    let world = World::running(1);
    world.fall_asleep();
    world.ask(ManagementRequest::Stop);
    posts(&world, DeviceRequest::Wake(SERIAL0));
    posts(&world, DeviceRequest::Wake(RTC0));
    assert_eq!(world.engine.wakes().latched, Some(SERIAL0));
    assert_eq!(counts(&world, SERIAL0), [0, 1, 0, 0]);
    world.ask(ManagementRequest::Cont);
    assert_eq!(world.engine.wakes().latched, None);
    assert_eq!(counts(&world, SERIAL0), [1, 1, 0, 0]);
}

#[test]
fn a_refused_wake_says_why_once_a_sleep() {
    let world = World::running(1);
    world.ask(switch(WakeSwitch::Rtc0, false));
    for sleep in 1..=2 {
        world.fall_asleep();
        for _ in 0..3 {
            posts(&world, DeviceRequest::Wake(RTC0));
            posts(&world, DeviceRequest::MaskedWake(SERIAL0));
        }
        assert_eq!(counts(&world, RTC0), [0, 0, sleep, 0]);
        assert_eq!(counts(&world, SERIAL0), [0, 0, 0, sleep]);
        let refused = world.engine.wakes().last_refused.expect("two were");
        assert_eq!((refused.source, refused.fate), (SERIAL0, Some(WakeFate::Masked)));
        world.ask(ManagementRequest::SystemWakeup);
        world.saw(&["WAKEUP running"]);
    }
    let rtc0 = world.engine.wakes().sources.into_iter().find(|info| info.state.source == RTC0).unwrap();
    assert!(!rtc0.allowed);
    assert_eq!(rtc0.last.and_then(|last| last.fate), Some(WakeFate::Forbidden));
}

#[test]
fn each_press_of_a_forbidden_button_counts() {
    let world = World::running(1);
    world.ask(switch(WakeSwitch::PowerButton, false));
    world.fall_asleep();
    for _ in 0..3 {
        world.ask(ManagementRequest::SystemPowerdown);
    }
    world.saw(&["POWERDOWN suspended"; 3]);
    assert_eq!(counts(&world, WakeSource::PowerButton), [0, 0, 3, 0]);
}

#[test]
fn an_allowed_wake_is_not_hidden_by_a_forbidden_one() {
    let world = World::running(1);
    world.ask(switch(WakeSwitch::Rtc0, false));
    world.fall_asleep();
    world.ask(ManagementRequest::Stop);
    world.machine.device().due_at_start(RTC0);
    world.machine.set_wake_sources(&[state(RTC0, true), state(SERIAL0, true)]);
    world.events();
    world.ask(ManagementRequest::Cont);
    world.saw(&["RESUME suspended", "WAKEUP running"]);
    assert_eq!(world.engine.wakes().last_wake.map(|wake| wake.source), Some(SERIAL0));
}

#[test]
fn a_due_source_wakes_as_soon_as_it_is_allowed() {
    let world = World::running(1);
    world.ask(switch(WakeSwitch::Rtc0, false));
    world.machine.set_wake_sources(&[state(RTC0, true)]);
    world.scripts[0].then(vmcore::testing::Step::Ecall(world.suspend()));
    world.sees("SUSPEND suspended");
    world.describe(0);
    assert_eq!(counts(&world, RTC0), [0, 0, 1, 0]);
    world.ask(switch(WakeSwitch::Serial0, false));
    assert_eq!(counts(&world, RTC0), [0, 0, 1, 0]);
    world.ask(switch(WakeSwitch::Rtc0, true));
    world.saw(&["SUSPEND suspended", "WAKEUP running"]);
    assert_eq!(counts(&world, RTC0), [1, 0, 1, 0]);
}

#[test]
fn a_masked_source_says_nothing_while_the_guest_is_awake() {
    let world = World::running(1);
    posts(&world, DeviceRequest::MaskedWake(SERIAL0));
    assert!(world.engine.wakes().sources.iter().all(|info| info.state.source != SERIAL0));
    assert_eq!(world.engine.wakes().last_refused, None);
}
