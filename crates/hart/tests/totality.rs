//! Whatever the guest is made of, the hart goes on: no panic, no hang, and the same outcome however its run is cut.

mod support;

use std::sync::Arc;

use support::asm::*;
use support::{BASE, Machine, Random, boot, interesting, scramble, steps};
use vmcore::{Exit, Vcpu};

/// How much `run` may be called without retiring anything: traps without end give the thread back now and then.
const PATIENCE: u32 = 3;

/// Runs until `limit`, going on after whatever else stops the hart, a few times.
fn run_on(hart: &mut hart::Hart, limit: u64) -> bool {
    let mut fruitless = 0;
    loop {
        let before = hart.retired();
        match hart.run(limit) {
            Exit::Limit => {
                assert_eq!(hart.retired(), limit);
                return true;
            }
            exit => assert!(matches!(exit, Exit::Wait | Exit::Signal), "{exit:?}"),
        }
        assert!(hart.retired() <= limit);
        fruitless = if hart.retired() == before { fruitless + 1 } else { 0 };
        if fruitless == PATIENCE {
            return false;
        }
    }
}

fn memory(machine: &Machine) -> Vec<u8> {
    let mut bytes = vec![0; support::SIZE as usize];
    machine.ram.read(BASE, &mut bytes).unwrap();
    bytes
}

#[test]
fn random_programs_in_random_states_are_survived() {
    let mut finished = 0;
    for seed in 0..1500 {
        let machine = Machine::new(1);
        let mut hart = machine.hart(0);
        scramble(&machine, &mut hart, seed);
        finished += u32::from(run_on(&mut hart, 3000));
        assert_eq!(hart.x(0), 0, "seed {seed}");
        let _ = hart.describe();
    }
    assert!(finished > 300, "only {finished} programs went anywhere");
}

#[test]
fn pure_noise_is_survived() {
    for seed in 0..200 {
        let machine = Machine::new(1);
        let mut hart = machine.hart(0);
        let mut random = Random(seed);
        let noise: Vec<u8> = (0..8192).flat_map(|_| random.next().to_le_bytes()).collect();
        machine.ram.write(BASE, &noise).unwrap();
        for csr in [0x300, 0x302, 0x303, 0x304, 0x105, 0x305, 0x180] {
            hart.set_csr(csr, interesting(&mut random));
        }
        hart.set_privilege([0, 1, 3][seed as usize % 3]);
        hart.set_pc(BASE + random.below(0x8000));
        run_on(&mut hart, 2000);
    }
}

/// Running in pieces of any size is running in one go: registers, pc, CSRs, memory, count.
#[test]
fn a_run_in_pieces_is_the_run_in_one_go() {
    let mut compared = 0;
    for seed in 10_000..10_150 {
        let whole = Machine::new(1);
        let pieces = Machine::new(1);
        let (mut a, mut b) = (whole.hart(0), pieces.hart(0));
        scramble(&whole, &mut a, seed);
        scramble(&pieces, &mut b, seed);
        let limit = 600;
        let piece = [1, 1, 2, 3, 7, 50][seed as usize % 6];
        if !run_on(&mut a, limit) {
            continue;
        }
        compared += 1;
        for at in (0..=limit).step_by(piece) {
            assert!(run_on(&mut b, at), "seed {seed}");
        }
        assert!(run_on(&mut b, limit));
        assert_eq!(a.describe(), b.describe(), "seed {seed}");
        assert_eq!(a.save(), b.save(), "seed {seed}");
        assert!(memory(&whole) == memory(&pieces), "seed {seed}: memory differs");
    }
    assert!(compared > 40, "only {compared}");
}

#[test]
fn every_bound_is_exact_with_traps_branches_and_straddling_instructions() {
    // A handler that steps over what trapped, and a loop whose instructions lie across pages.
    let build = || {
        let machine = Machine::new(1);
        let handler = BASE + 0x8000;
        machine.code(
            handler,
            &[csrrs(T0, 0x341, 0), addi(T0, T0, 4), csrrw(0, 0x341, T0), csrrs(0, 0x300, T1), MRET],
        );
        let start = BASE + 0xff2;
        let code =
            [addi(A1, A1, 1), ECALL, lw(A2, ZERO, 0), addi(A3, A3, 3), beq(A1, A4, 8), jal(ZERO, -20), WFI];
        machine.code(start, &code);
        let mut hart = machine.hart(0);
        hart.start_machine(start, 0, 0);
        hart.set_csr(0x305, handler);
        // Every return is to machine mode.
        hart.set_x(6, 3 << 11);
        hart.set_x(14, 4);
        (machine, hart)
    };
    let keep = |hart: &hart::Hart| (hart.pc(), [5, 11, 12, 13].map(|at| hart.x(at)));
    let (_machine, mut single) = build();
    for limit in 0..200 {
        let (_machine, mut whole) = build();
        let exit = whole.run(limit);
        assert_eq!(exit, single.run(limit), "after {limit}");
        assert_eq!(keep(&whole), keep(&single), "after {limit}");
        assert!(whole.retired() == single.retired());
        if exit == Exit::Wait {
            assert_eq!((whole.x(11), whole.x(13)), (4, 12));
            return;
        }
        assert_eq!((exit, whole.retired()), (Exit::Limit, limit));
    }
    panic!("the program did not end");
}

#[test]
fn a_guest_that_jumps_all_over_its_memory_goes_on() {
    // Every page of RAM: jump to a random offset in the next page, for several rounds.
    let machine = Machine::new(1);
    let page = jal(ZERO, 4096);
    let pages = support::SIZE / 4096;
    for at in 0..pages {
        let code = if at + 1 == pages { jalr(ZERO, A0, 0) } else { page };
        machine.code(BASE + at * 4096, &[code]);
    }
    let mut hart = machine.hart(0);
    hart.start_machine(BASE, 0, 0);
    hart.set_x(10, BASE);
    steps(&mut hart, 5 * pages + 7);
    assert_eq!(hart.pc(), BASE + 7 * 4096);
}

#[test]
fn counted_time_is_the_retired_count_shifted() {
    use clock::{CountedSource, GuestClock, IcountShift, TestClock, TimerQueue};
    use vmcore::{Bus, Harts};
    for shift in [0_u64, 3, 10] {
        let count = CountedSource::default();
        let clock = Arc::new(GuestClock::icount(count.clone(), IcountShift::try_from(shift).unwrap()));
        clock.thaw();
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(TestClock::new(0, 0)));
        let harts = Harts::new(1, &clock, &timers);
        let ram = Arc::new(ram::Ram::new(BASE, 1 << 16).unwrap());
        let code = [NOP, csrrs(A0, 0xc01, 0), csrrs(A1, 0xc02, 0), addi(A2, A2, 1), jal(ZERO, -16)];
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        ram.write(BASE, &bytes).unwrap();
        let mut hart = hart::Hart::new(hart::HartConfig {
            shared: Arc::clone(harts.get(0).unwrap()),
            harts: harts.clone(),
            ram,
            bus: Arc::new(Bus::new()),
            firmware: None,
            extensions: hart::Extensions::ALL,
            count: Some(count.clone()),
        });
        hart.start_machine(BASE, 0, 0);
        for turn in 0..500 {
            // The instruction that reads the time counts: it is over when the value is there.
            steps(&mut hart, 5);
            let at = 5 * turn + 2;
            assert_eq!(hart.x(10), (at << shift) / 100, "shift {shift}, turn {turn}");
            assert_eq!(hart.x(11), at);
            assert_eq!(count.retired(), hart.retired());
        }
        steps(&mut hart, 123_456);
        assert_eq!(harts.get(0).unwrap().clock().now_ns(), hart.retired() << shift);
    }
}

#[test]
fn a_debugger_reads_counters_as_they_stand() {
    let (_machine, mut hart) = boot(&[NOP, NOP, NOP]);
    steps(&mut hart, 3);
    assert_eq!((hart.csr(0xb02), hart.csr(0xc00)), (Some(3), Some(3)));
    assert!(hart.set_csr(0xb02, 100));
    assert_eq!(hart.csr(0xb02), Some(100));
    assert!(hart.set_csr(0x320, 4));
    assert_eq!(hart.csr(0xb02), Some(100));
}
