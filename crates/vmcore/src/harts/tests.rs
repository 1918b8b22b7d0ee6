//! The shared part of a hart, on a host clock that the test moves.

use std::sync::Arc;

use clock::{GuestClock, TestClock, TimerQueue};

use super::*;
use crate::park::{fence_kind, flag};

const MS: u64 = 1_000_000;
/// Ticks of `time` in a millisecond at 10 MHz.
const TICKS: u64 = 10_000;

struct World {
    host: TestClock,
    timers: Arc<TimerQueue>,
    harts: Harts,
}

fn world(count: u32) -> World {
    let host = TestClock::new(5_000 * MS, 1_700_000_000_000 * MS);
    let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
    let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
    let harts = Harts::new(count, &clock, &timers);
    timers.thaw();
    World { host, timers, harts }
}

#[test]
fn stimecmp_raises_the_timer_interrupt_when_time_reaches_it_and_kicks_the_hart() {
    let world = world(1);
    let hart = world.harts.get(0).unwrap();
    hart.set_stimecmp(3 * TICKS);
    world.host.advance(2 * MS);
    world.timers.run_due();
    assert_eq!((hart.pending() & mip::STIP, hart.gate().flags()), (0, 0));
    world.host.advance(MS);
    world.timers.run_due();
    assert_eq!((hart.pending() & mip::STIP, hart.gate().flags()), (mip::STIP, flag::IRQ));
    hart.set_stimecmp(9 * TICKS);
    assert_eq!(hart.pending() & mip::STIP, 0, "a later compare value takes the interrupt back");
    hart.set_stimecmp(1);
    assert_eq!(hart.pending() & mip::STIP, mip::STIP, "a compare value in the past is pending at once");
}

#[test]
fn the_machine_timer_is_another_one() {
    let world = world(2);
    let hart = world.harts.get(1).unwrap();
    hart.set_mtimecmp(TICKS);
    hart.set_stimecmp(2 * TICKS);
    world.host.advance(MS);
    world.timers.run_due();
    assert_eq!(hart.pending(), mip::MTIP);
    assert_eq!(world.harts.get(0).unwrap().pending(), 0);
}

#[test]
fn time_stands_for_the_compare_registers_while_frozen() {
    let world = world(1);
    let hart = world.harts.get(0).unwrap();
    hart.set_stimecmp(3 * TICKS);
    world.timers.freeze();
    world.host.advance(100 * MS);
    world.timers.run_due();
    assert_eq!((hart.time(), hart.pending()), (0, 0));
    world.timers.thaw();
    world.host.advance(3 * MS);
    world.timers.run_due();
    assert_eq!((hart.time(), hart.pending()), (3 * TICKS, mip::STIP));
}

#[test]
fn hart_start_publishes_its_parameters_once_and_counts_as_started_at_once() {
    let world = world(2);
    let hart = world.harts.get(1).unwrap();
    let params = StartParams { pc: 0x8020_0000, opaque: 7 };
    assert!(world.harts.others_stopped(0));
    assert_eq!(hart.hsm_start(params), Ok(()));
    assert_eq!(hart.hsm_state(), HsmState::Started);
    assert!(!world.harts.others_stopped(0));
    assert_eq!(hart.hsm_start(StartParams { pc: 1, opaque: 1 }), Err(NotStopped));
    assert_eq!((hart.take_start(), hart.take_start()), (Some(params), None));
    hart.hsm_stop();
    assert_eq!(hart.hsm_state(), HsmState::Stopped);
}

#[test]
fn reset_leaves_nothing_pending_and_nothing_armed() {
    let world = world(1);
    let hart = world.harts.get(0).unwrap();
    hart.set_stimecmp(TICKS);
    hart.set_pending(mip::SEIP | mip::SSIP, true);
    hart.force_start(StartParams { pc: 1, opaque: 2 });
    hart.reset();
    world.host.advance(10 * MS);
    world.timers.run_due();
    assert_eq!((hart.pending(), hart.hsm_state(), hart.take_start()), (0, HsmState::Stopped, None));
}

#[test]
fn a_remote_fence_at_harts_that_are_outside_is_done_and_is_served_before_they_execute() {
    let world = world(3);
    let caller = world.harts.get(0).unwrap();
    assert!(caller.gate().enter(0));
    let done = world.harts.remote_fence(0, 0..3, fence_kind::TRANSLATION);
    assert_eq!(done, FenceWait::Done);
    for id in 0..3 {
        let gate = world.harts.get(id).unwrap().gate();
        assert_eq!(gate.flags() & flag::FENCE, flag::FENCE);
        let mut kinds = 0;
        gate.serve_fences(|wanted| kinds = wanted);
        assert_eq!((kinds, gate.flags() & flag::FENCE), (fence_kind::TRANSLATION, 0));
    }
}

#[test]
fn two_harts_that_fence_one_another_get_through() {
    let world = world(2);
    let bodies: Vec<_> = (0..2)
        .map(|id| {
            let harts = world.harts.clone();
            std::thread::spawn(move || {
                let gate = harts.get(id).unwrap().gate();
                for _ in 0..2_000 {
                    while !gate.enter(0) {}
                    gate.serve_fences(|_| {});
                    assert_eq!(harts.remote_fence(id, 0..2, fence_kind::TRANSLATION), FenceWait::Done);
                    gate.leave();
                }
            })
        })
        .collect();
    for body in bodies {
        body.join().unwrap();
    }
}

#[test]
fn a_fence_wait_gives_way_to_a_park() {
    let world = world(2);
    let (caller, target) = (world.harts.get(0).unwrap(), world.harts.get(1).unwrap());
    assert!(caller.gate().enter(0) && target.gate().enter(0));
    caller.gate().raise(flag::PARK);
    // The target never serves: without the park the caller would wait for ever.
    assert_eq!(world.harts.remote_fence(0, 1..2, fence_kind::TRANSLATION), FenceWait::Interrupted);
    assert!(caller.gate().is_outside());
}

#[test]
fn a_fence_at_all_harts_is_done_when_each_has_served_it_or_is_outside() {
    let world = world(2);
    let executing = Arc::clone(world.harts.get(1).unwrap());
    assert!(executing.gate().enter(0));
    let hart = std::thread::spawn(move || {
        while executing.gate().flags() & flag::FENCE == 0 {
            std::thread::yield_now();
        }
        let mut asked = 0;
        executing.gate().serve_fences(|kinds| asked = kinds);
        asked
    });
    world.harts.fence_all(fence_kind::ALL_WRITES);
    assert_eq!(hart.join().unwrap(), fence_kind::ALL_WRITES, "it served while it went on executing");
    let outside = world.harts.get(0).unwrap().gate();
    assert_eq!(outside.flags(), flag::FENCE, "this one serves before it executes");
    let mut asked = 0;
    outside.serve_fences(|kinds| asked = kinds);
    assert_eq!(asked, fence_kind::ALL_WRITES);
}
