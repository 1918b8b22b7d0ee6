//! Pages of guest memory that the host has lost: found by a hart, by another thread, by the machine thread itself.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;

use ram::{ChunkSource, FillError, Portion, Ram};
use runstate::{GuestRequest, ManagementRequest as Ask, ShutdownCause};
use support::World;
use vmcore::testing::{FakeMachine, Step};
use vmcore::{Machine, Space};

const RESUME_ADDR: u64 = 0x8040_0000;
const PAGE: u64 = FakeMachine::RAM_BASE + 0x5000;

fn ram(world: &World) -> Arc<Ram> {
    Arc::clone(world.machine.ram().unwrap())
}

/// The machine is broken for this reason until it is reset.
fn mends(world: &World, reason: &str) {
    world.saw(&["STOP internal-error"]);
    assert_eq!(world.fault().as_deref(), Some(reason));
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["RESET prelaunch", "RESUME running"]);
    assert_eq!(world.fault(), None);
    world.hart_runs(0);
    world.describe(0);
    world.saw(&[]);
}

#[test]
fn a_hart_that_finds_a_page_lost_breaks_the_machine() {
    let world = World::running(2);
    for (hart, addr) in [(0, PAGE), (1, PAGE + 0x1008), (0, PAGE)] {
        if hart == 1 {
            world.start_second_hart();
        }
        ram(&world).spoil(addr).unwrap();
        world.scripts[hart].then(Step::Write(addr, None));
        world.sees("STOP internal-error");
        let page = addr & !0xfff;
        mends(
            &world,
            &format!(
                "hart {hart} met an error of host memory: the host has lost the page at guest address {page:#x}"
            ),
        );
    }
    assert_eq!(ram(&world).host_errors(), 0, "a hart answers for itself");
}

#[test]
fn what_a_hart_asks_after_it_has_seen_a_lost_page_is_not_done() {
    let world = World::running(1);
    let off = GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 };
    for request in [off, GuestRequest::Reset, GuestRequest::Panic, world.suspend()] {
        ram(&world).spoil(PAGE).unwrap();
        world.scripts[0].then(Step::Write(PAGE, Some(request)));
        world.sees("STOP internal-error");
        mends(
            &world,
            "hart 0 met an error of host memory: the host has lost the page at guest address 0x80005000",
        );
    }
}

#[test]
fn a_page_that_another_thread_finds_lost_breaks_the_machine() {
    let world = World::running(1);
    world.scripts[0].then(Step::Spin);
    ram(&world).spoil(PAGE).unwrap();
    // As a device's worker would.
    let memory = ram(&world);
    std::thread::spawn(move || memory.read(PAGE + 9, &mut [0]).unwrap()).join().unwrap();
    world.sees("STOP internal-error");
    mends(&world, "an error of host memory: the host has lost the page at guest address 0x80005000");
}

#[test]
fn a_page_found_lost_while_the_machine_is_held_or_asleep_breaks_it_too() {
    let world = World::running(1);
    let find = || {
        ram(&world).spoil(PAGE).unwrap();
        ram(&world).read(PAGE, &mut [0]).unwrap();
        world.until("the fault", || world.fault().is_some());
        // The fault is published before its STOP; what is asked now has its turn after both.
        world.describe(0);
    };
    world.ask(Ask::Stop);
    find();
    world.saw(&["STOP paused"]);
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["RESET prelaunch", "RESUME running"]);
    world.fall_asleep();
    find();
    mends(&world, "an error of host memory: the host has lost the page at guest address 0x80005000");
}

#[test]
fn images_are_placed_once_more_where_a_page_is_lost_under_them() {
    let world = World::running(1);
    let placed = world.machine.placed();
    ram(&world).spoil(FakeMachine::KERNEL).unwrap();
    world.ask(Ask::SystemReset);
    world.describe(0);
    world.saw(&["RESET running"]);
    assert_eq!((world.machine.placed(), world.fault()), (placed + 2, None));
    let mut kernel = [0; 6];
    ram(&world).read(FakeMachine::KERNEL, &mut kernel).unwrap();
    assert_eq!(&kernel, b"kernel");
    world.hart_runs(0);
}

#[test]
fn a_page_that_the_debugger_finds_lost_breaks_the_machine() {
    let world = World::running(1);
    let (debugger, stopped) = world.engine.debug().unwrap();
    stopped.unwrap();
    ram(&world).spoil(PAGE).unwrap();
    // On the machine thread, as a look at memory is.
    let memory = ram(&world);
    debugger.hart(0, move |_| memory.read(PAGE, &mut [0]).unwrap()).unwrap();
    let _ = debugger.write_memory(0, Space::Physical, PAGE, vec![1]);
    world.describe(0);
    let reason = "an error of host memory: the host has lost the page at guest address 0x80005000";
    assert_eq!(world.fault().as_deref(), Some(reason));
    world.saw(&["STOP paused"]);
}

struct Damaged;

impl ChunkSource for Damaged {
    fn fill(&self, _chunk: usize, _into: &mut [u8]) -> Result<(), FillError> {
        Err(FillError::Failed("checksum mismatch".into()))
    }
}

#[test]
fn content_that_a_device_needs_and_that_cannot_be_had_breaks_the_machine() {
    let world = World::running(1);
    world.ask(Ask::Stop);
    ram(&world).replace(Portion::All, Arc::new(Damaged), || ());
    world.ask(Ask::Cont);
    world.saw(&["STOP paused", "RESUME running"]);
    let memory = ram(&world);
    std::thread::spawn(move || memory.read(PAGE, &mut [0]).unwrap_err()).join().unwrap();
    world.sees("STOP internal-error");
    let reason = world.fault().unwrap();
    assert!(reason.ends_with("at 0x80000000 cannot be had: checksum mismatch"), "{reason}");
}

#[test]
fn content_that_nobody_needs_and_that_cannot_be_had_breaks_the_machine() {
    let world = World::running(1);
    // As one who reads behind the guest does.
    let lose = || {
        ram(&world).replace(Portion::All, Arc::new(Damaged), || ());
        ram(&world).fill_next(5).unwrap_err();
    };
    world.ask(Ask::Stop);
    ram(&world).replace(Portion::All, Arc::new(Damaged), || ());
    world.ask(Ask::Cont);
    world.saw(&["STOP paused", "RESUME running"]);
    ram(&world).fill_next(5).unwrap_err();
    world.sees("STOP internal-error");
    let lost = "65536 bytes of guest memory at 0x80050000 cannot be had: checksum mismatch";
    mends(&world, &format!("an error of host memory: {lost}"));
    world.ask(Ask::Stop);
    world.saw(&["STOP paused"]);
    lose();
    world.until("the fault", || world.fault().is_some());
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
}
