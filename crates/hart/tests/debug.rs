//! The hart under a debugger: breakpoints, watchpoints, steps, registers and memory.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use support::asm::*;
use support::{BASE, MACHINE_HANDLER, MODE_S, Machine, SPIN, boot, scramble, supervised};
use vmcore::park::flag;
use vmcore::{Debug, DebugHit, Exit, Point, Register, Space, Vcpu, Watch};

const BREAKPOINT: Exit = Exit::Debug(DebugHit::Breakpoint);
const STEP: Exit = Exit::Debug(DebugHit::Step);
const DATA: u64 = BASE + 0x4000;

fn met(addr: u64, kind: Watch) -> Exit {
    Exit::Debug(DebugHit::Watchpoint { addr, kind })
}

fn watch(addr: u64, len: u64, kind: Watch) -> Point {
    Point::Watch { addr, len, kind }
}

fn points(list: &[Point]) -> Arc<[Point]> {
    list.into()
}

/// Adds 1 to a0, 2 to a1, and jumps back.
const LOOP: [u32; 3] = [addi_const(10, 1), addi_const(11, 2), 0xff9f_f06f];

const fn addi_const(register: u32, imm: u32) -> u32 {
    imm << 20 | register << 15 | register << 7 | 0x13
}

#[test]
fn a_breakpoint_stops_before_its_instruction_each_time() {
    let (_machine, mut hart) = boot(&LOOP);
    // Decoded before there is a breakpoint.
    hart.run(300);
    hart.set_points(points(&[Point::Break(BASE + 4)]));
    hart.set_x(10, 0);
    hart.set_x(11, 0);
    for round in 1..=5 {
        assert_eq!(hart.run(u64::MAX), BREAKPOINT);
        assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 4, round, 2 * (round - 1)));
        assert_eq!(hart.run(u64::MAX), BREAKPOINT, "it stays where it is until it has been reported");
        hart.pass_breakpoint();
    }
    hart.set_points(points(&[]));
    let limit = hart.retired() + 300;
    assert_eq!(hart.run(limit), Exit::Limit);
    assert_eq!(hart.x(10), 5 + 100);
}

#[test]
fn a_breakpoint_is_found_behind_a_jump_in_another_page_and_where_nothing_is_mapped() {
    let (machine, mut hart) = boot(&[jal(0, 0x2000)]);
    machine.code(BASE + 0x2000, &[addi(10, 0, 1), addi(11, 0, 2), jalr(0, 12, 0)]);
    hart.set_x(12, 0x1234_0000);
    hart.set_points(points(&[Point::Break(BASE + 0x2004), Point::Break(0x1234_0000)]));
    assert_eq!(hart.run(u64::MAX), BREAKPOINT);
    assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 0x2004, 1, 0));
    hart.pass_breakpoint();
    assert_eq!(hart.run(u64::MAX), BREAKPOINT);
    assert_eq!((hart.pc(), hart.x(11)), (0x1234_0000, 2));
}

#[test]
fn breakpoints_go_by_the_address_that_the_guest_uses() {
    // One page of code, mapped twice: by the identity and at 0x4000_0000.
    let (machine, mut hart) = supervised(MODE_S, &[jalr(1, 12, 0), SPIN]);
    machine.code(DATA, &[addi(10, 10, 1), jalr(0, 1, 0)]);
    let root = BASE + 0x10_0000;
    machine.put(root + 16, BASE >> 2 | 0xcf);
    machine.put(root + 8, (root + 0x1000) >> 2 | 1);
    machine.put(root + 0x1000, (root + 0x2000) >> 2 | 1);
    machine.put(root + 0x2000, DATA >> 2 | 0xcf);
    assert!(hart.set_csr(0x180, 8 << 60 | root >> 12));
    hart.set_points(points(&[Point::Break(0x4000_0000)]));
    hart.set_x(12, DATA);
    let limit = hart.retired() + 10;
    assert_eq!(hart.run(limit), Exit::Limit, "the same code at another address");
    assert_eq!(hart.x(10), 1);
    hart.set_pc(BASE);
    hart.set_x(12, 0x4000_0000);
    assert_eq!(hart.run(u64::MAX), BREAKPOINT);
    assert_eq!((hart.pc(), hart.x(10)), (0x4000_0000, 1));
}

#[test]
fn breakpoints_outlive_a_reset_and_the_guests_ebreak_is_its_own() {
    let (machine, mut hart) = boot(&[addi(10, 0, 1), EBREAK, SPIN]);
    machine.code(MACHINE_HANDLER, &[SPIN]);
    hart.set_points(points(&[Point::Break(BASE)]));
    hart.reset();
    hart.start_machine(BASE, 0, 0);
    hart.set_csr(0x305, MACHINE_HANDLER);
    assert_eq!(hart.run(u64::MAX), BREAKPOINT);
    hart.pass_breakpoint();
    let limit = hart.retired() + 3;
    assert_eq!(hart.run(limit), Exit::Limit);
    assert_eq!((hart.pc(), hart.csr(0x342)), (MACHINE_HANDLER, Some(3)));
    assert_eq!(machine.get(BASE) as u32, addi(10, 0, 1), "guest memory is not written");
}

#[test]
fn a_watchpoint_stops_after_the_access_and_names_it() {
    let code = [sd(10, 12, 0), ld(11, 12, 0), sw(10, 12, 4), sw(10, 12, 8), SPIN];
    for (kind, expected) in [
        (Watch::Write, vec![(4, Watch::Write), (12, Watch::Write)]),
        (Watch::Read, vec![(8, Watch::Read)]),
        (Watch::Access, vec![(4, Watch::Access), (8, Watch::Access), (12, Watch::Access)]),
    ] {
        let (machine, mut hart) = boot(&code);
        hart.set_x(10, 7);
        hart.set_x(12, DATA);
        // Slots for the page are there before it is watched.
        hart.run(4);
        hart.set_pc(BASE);
        hart.set_x(10, 8);
        hart.set_points(points(&[watch(DATA + 4, 4, kind)]));
        for (pc, kind) in expected {
            assert_eq!(hart.run(u64::MAX), met(DATA + 4, kind));
            assert_eq!(hart.pc(), BASE + pc, "behind the access");
        }
        assert_eq!(machine.get(DATA), if kind == Watch::Read { 8 } else { 8 << 32 | 8 });
        let limit = hart.retired() + 10;
        assert_eq!(hart.run(limit), Exit::Limit, "what is beside it is not watched");
    }
}

#[test]
fn atomics_are_watched_and_still_succeed() {
    // lr and sc, then amoadd.
    let code = [lr_d(10, 12), addi(10, 10, 1), sc_d(11, 12, 10), amo(0, true, 13, 12, 10), SPIN];
    let (machine, mut hart) = boot(&code);
    hart.set_x(12, DATA);
    machine.put(DATA, 40);
    hart.set_points(points(&[watch(DATA, 8, Watch::Write)]));
    assert_eq!(hart.run(u64::MAX), met(DATA, Watch::Write));
    assert_eq!((hart.pc(), hart.x(11), machine.get(DATA)), (BASE + 12, 0, 41), "the reservation held");
    assert_eq!(hart.run(u64::MAX), met(DATA, Watch::Write));
    assert_eq!((hart.x(13), machine.get(DATA)), (41, 82));
    hart.set_pc(BASE);
    hart.set_points(points(&[watch(DATA, 8, Watch::Read)]));
    assert_eq!(hart.run(u64::MAX), met(DATA, Watch::Read));
    assert_eq!(hart.pc(), BASE + 4);
    assert_eq!(hart.run(u64::MAX), met(DATA, Watch::Read));
    assert_eq!(hart.pc(), BASE + 16, "an amo reads too");
}

#[test]
fn a_misaligned_access_is_watched_and_a_faulting_one_only_traps() {
    let (machine, mut hart) = supervised(MODE_S, &[sd(10, 12, 0), sd(10, 13, 0), SPIN]);
    hart.set_x(10, u64::MAX);
    hart.set_x(12, DATA + 0xffd);
    hart.set_x(13, 0x10);
    hart.set_points(points(&[watch(DATA + 0x1000, 1, Watch::Write), watch(0x10, 8, Watch::Access)]));
    assert_eq!(hart.run(u64::MAX), met(DATA + 0x1000, Watch::Write));
    assert_eq!((hart.pc(), machine.get(DATA + 0x1000)), (BASE + 4, 0xff_ffff_ffff));
    let limit = hart.retired() + 2;
    assert_eq!(hart.run(limit), Exit::Limit);
    assert_eq!((hart.pc(), hart.csr(0x342)), (MACHINE_HANDLER, Some(7)), "a store access fault");
}

#[test]
fn a_step_is_one_instruction_or_one_trap() {
    let (_machine, mut hart) = supervised(MODE_S, &[addi(10, 0, 1), jal(0, 8), SPIN, ECALL, SPIN]);
    let start = hart.retired();
    assert_eq!(hart.step(), STEP);
    assert_eq!((hart.pc(), hart.retired()), (BASE + 4, start + 1));
    assert_eq!(hart.step(), STEP);
    assert_eq!((hart.pc(), hart.retired()), (BASE + 12, start + 2));
    assert_eq!(hart.step(), STEP);
    assert_eq!((hart.pc(), hart.retired()), (MACHINE_HANDLER, start + 2), "the handler is not begun");
    // A jump to where nothing can be fetched is done when it has jumped.
    let (_machine, mut hart) = supervised(MODE_S, &[jalr(0, 10, 0)]);
    hart.set_x(10, 0x44);
    assert_eq!(hart.step(), STEP);
    assert_eq!(hart.pc(), 0x44);
    assert_eq!(hart.step(), STEP);
    assert_eq!((hart.pc(), hart.csr(0x342)), (MACHINE_HANDLER, Some(1)));
}

#[test]
fn a_step_takes_no_interrupt_and_goes_over_its_own_breakpoint() {
    let (machine, mut hart) = boot(&LOOP);
    machine.code(MACHINE_HANDLER, &[SPIN]);
    for (csr, value) in [(0x305, MACHINE_HANDLER), (0x304, 2), (0x300, 8)] {
        hart.set_csr(csr, value);
    }
    hart.set_points(points(&[Point::Break(BASE), Point::Break(BASE + 4)]));
    machine.shared(0).set_pending(vmcore::mip::SSIP, true);
    assert_eq!(hart.step(), STEP);
    assert_eq!(hart.pc(), BASE + 4);
    let limit = hart.retired() + 1;
    assert_eq!(hart.run(limit), Exit::Limit);
    assert_eq!(hart.pc(), MACHINE_HANDLER, "the interrupt has waited");
}

#[test]
fn a_step_waits_for_whoever_wants_the_thread() {
    let (machine, mut hart) = boot(&LOOP);
    machine.shared(0).gate().raise(flag::PARK);
    assert_eq!(hart.step(), Exit::Signal);
    assert_eq!(hart.pc(), BASE);
    machine.shared(0).gate().lower(flag::PARK);
    assert_eq!(hart.step(), STEP);
    assert_eq!(hart.pc(), BASE + 4);
}

#[test]
fn a_step_that_meets_a_watchpoint_says_so() {
    let (machine, mut hart) = boot(&[sd(10, 12, 0), SPIN]);
    hart.set_x(12, DATA);
    hart.set_x(10, 5);
    hart.set_points(points(&[watch(DATA, 8, Watch::Write)]));
    assert_eq!(hart.step(), met(DATA, Watch::Write));
    assert_eq!((hart.pc(), machine.get(DATA)), (BASE + 4, 5));
}

#[test]
fn registers_are_read_and_written_by_name() {
    let (_machine, mut hart) = boot(&[SPIN]);
    for (register, value) in [
        (Register::Integer(31), 1),
        (Register::Pc, BASE + 0x100),
        (Register::Float(31), 2),
        (Register::Csr(0x340), 3),
        (Register::Privilege, 1),
    ] {
        assert!(hart.write_register(register, value));
        assert_eq!(hart.read_register(register), Some(value));
    }
    assert!(hart.write_register(Register::Integer(0), 9));
    assert_eq!(hart.read_register(Register::Integer(0)), Some(0));
    assert_eq!(hart.read_register(Register::Csr(3)), Some(0), "also with floating point switched off");
    for nothing in [Register::Integer(32), Register::Float(32), Register::Csr(0x7c0)] {
        assert_eq!((hart.read_register(nothing), hart.write_register(nothing, 1)), (None, false));
    }
    assert!(!hart.write_register(Register::Privilege, 2));
    assert!(!hart.write_register(Register::Csr(0xf14), 1), "mhartid is read-only");
}

#[test]
fn memory_is_reached_by_virtual_and_by_physical_address_and_devices_are_not() {
    let (machine, mut hart) = supervised(MODE_S, &[addi(10, 0, 1), SPIN]);
    let root = BASE + 0x10_0000;
    machine.put(root + 16, BASE >> 2 | 0xcf);
    machine.put(root + 8, (root + 0x1000) >> 2 | 1);
    machine.put(root + 0x1000, (root + 0x2000) >> 2 | 1);
    // One page that may only be executed, by user mode; none behind it.
    machine.put(root + 0x2000, DATA >> 2 | 0x59);
    assert!(hart.set_csr(0x180, 8 << 60 | root >> 12));
    assert_eq!(hart.write_memory(Space::Virtual, 0x4000_0ffe, &[1, 2, 3]), 2);
    let mut bytes = [0; 4];
    assert_eq!(hart.read_memory(Space::Virtual, 0x4000_0ffe, &mut bytes), 2);
    assert_eq!(bytes, [1, 2, 0, 0]);
    assert_eq!(hart.read_memory(Space::Physical, DATA + 0xffe, &mut bytes), 4);
    assert_eq!(bytes, [1, 2, 0, 0]);
    for nowhere in [0x1000_0000, u64::MAX - 1] {
        assert_eq!(hart.read_memory(Space::Physical, nowhere, &mut bytes), 0);
        assert_eq!(hart.write_memory(Space::Physical, nowhere, &bytes), 0);
    }
    // Code that has been decoded is decoded anew.
    hart.run(2);
    assert_eq!(hart.write_memory(Space::Virtual, BASE, &addi(10, 0, 2).to_le_bytes()), 4);
    hart.fence(vmcore::park::fence_kind::INSTRUCTION);
    hart.set_pc(BASE);
    let limit = hart.retired() + 1;
    hart.run(limit);
    assert_eq!(hart.x(10), 2);
}

/// Two machines in the same random state.
fn twins(seed: u64) -> [(Machine, hart::Hart); 2] {
    std::array::from_fn(|_| {
        let machine = Machine::new(1);
        let mut hart = machine.hart(0);
        hart.start_machine(BASE, 0, 0);
        scramble(&machine, &mut hart, seed);
        (machine, hart)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Points that nothing meets change nothing, though every instruction and access goes the slow way.
    #[test]
    fn points_that_are_not_met_are_not_seen(seed: u64, count in 1..400_u64) {
        let [(plain_machine, mut plain), (watched_machine, mut watched)] = twins(seed);
        let list: Vec<Point> = (0..16)
            // Odd: no instruction is there. And a watchpoint for the other bytes of pages than the first.
            .map(|page| Point::Break(BASE + page * 0x1000 + 1))
            .chain([watch(BASE + 0x20_0000, 8, Watch::Access)])
            .collect();
        watched.set_points(list.into());
        let limit = plain.retired() + count;
        for _ in 0..2 {
            prop_assert_eq!(plain.run(limit), watched.run(limit));
        }
        prop_assert_eq!(plain.save(), watched.save());
        let mut memory = [vec![0; 0x10000], vec![0; 0x10000]];
        plain_machine.ram.read(BASE, &mut memory[0]).unwrap();
        watched_machine.ram.read(BASE, &mut memory[1]).unwrap();
        prop_assert!(memory[0] == memory[1]);
    }

    /// A step does what a run of one instruction does, except that it takes no interrupt and stops at a trap.
    #[test]
    fn a_step_is_a_run_of_one(seed: u64) {
        let [(_one, mut stepped), (_two, mut run)] = twins(seed);
        for hart in [&mut stepped, &mut run] {
            hart.set_csr(0x304, 0);
        }
        for _ in 0..40 {
            let before = stepped.retired();
            let exit = stepped.step();
            if stepped.retired() == before + 1 {
                prop_assert!(matches!(exit, STEP | Exit::Wait), "{:?}", exit);
                let ran = run.run(before + 1);
                prop_assert_eq!(run.retired(), before + 1);
                if ran == Exit::Signal {
                    // What comes next cannot be fetched, nor can its handler: the run has trapped until it gave up.
                    return Ok(());
                }
                prop_assert!(matches!(ran, Exit::Limit | Exit::Wait), "{:?}", ran);
                // A run that is at its bound may have found already that what comes next cannot be fetched.
                if stepped.save() != run.save() {
                    prop_assert_eq!((stepped.step(), stepped.retired()), (STEP, before + 1));
                }
                prop_assert_eq!(stepped.save(), run.save());
            } else {
                prop_assert_eq!((exit, stepped.retired()), (STEP, before));
                let mode: u16 = if stepped.privilege() == 3 { 0x305 } else { 0x105 };
                let vector = stepped.csr(mode).unwrap() & !3;
                prop_assert_eq!(stepped.pc(), vector, "at the handler");
                return Ok(());
            }
            if run.interrupt_pending() {
                return Ok(());
            }
        }
    }
}
