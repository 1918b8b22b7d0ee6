//! Code that is written while it is there: by its own hart, and by another.

mod support;

use std::sync::{Arc, Mutex};

use hart::Hart;
use runstate::{GuestRequest, WakeSource};
use support::asm::*;
use support::{BASE, Machine, boot, steps};
use vmcore::park::fence_kind;
use vmcore::{AccessSize, Bus, Device, Exit, LoadError, Section, Vcpu};

const CODE: u64 = BASE + 0x4000;
const RET: u32 = 0x8067;

#[test]
fn own_stores_to_code_are_seen_after_fence_i() {
    // Calls CODE, patches its first instruction with a2, fences, calls again; twice, from the slow and the fast path.
    let patch = [jalr(RA, A0, 0), sw(A2, A0, 0), FENCE_I, jalr(RA, A0, 0)];
    let (machine, mut hart) = boot(&patch);
    machine.code(CODE, &[addi(A1, A1, 1), RET]);
    hart.set_x(10, CODE);
    for (add, sum) in [(100, 101), (1000, 1101 + 100), (7, 1000 + 7 + 1201)] {
        hart.set_x(12, addi(A1, A1, add).into());
        hart.set_pc(BASE);
        steps(&mut hart, 4 + 2 * 2);
        assert_eq!(hart.x(11), sum);
    }
}

#[test]
fn a_hart_that_patches_its_own_page_executes_what_it_wrote() {
    let code = [sw(A2, A0, 12), FENCE_I, NOP, addi(A1, 0, 1), addi(A3, 0, 9)];
    let (_machine, mut hart) = boot(&code);
    hart.set_x(10, BASE);
    for value in [5, 6, 7] {
        hart.set_x(12, addi(A1, 0, value).into());
        hart.set_pc(BASE);
        steps(&mut hart, 5);
        assert_eq!((hart.x(11), hart.x(13)), (value as u64, 9));
    }
}

/// Hart 1 has decoded CODE and hart 0 holds a write entry for its page; then hart 0 stores, and hart 1 is fenced.
#[test]
fn code_patched_by_another_hart_is_executed_after_a_fence() {
    let machine = Machine::new(2);
    machine.code(CODE, &[addi(A1, A1, 1), jal(ZERO, -4)]);
    machine.code(BASE, &[sw(ZERO, A0, 64), sw(A2, A0, 0), jal(ZERO, -4)]);
    let (mut writer, mut runner) = (machine.hart(0), machine.hart(1));
    writer.start_machine(BASE, 0, 0);
    writer.set_x(10, CODE);
    runner.start_machine(CODE, 0, 0);
    // The entry comes first, the decoded form after it.
    steps(&mut writer, 1);
    for value in 1..20_u64 {
        runner.set_x(11, 0);
        runner.set_pc(CODE);
        steps(&mut runner, 1);
        let before = runner.x(11);
        writer.set_x(12, addi(A1, A1, value as i32 * 3).into());
        steps(&mut writer, 2);
        let ticket = machine.shared(1).gate().post_fence(fence_kind::INSTRUCTION);
        runner.set_pc(CODE);
        steps(&mut runner, 1);
        assert!(machine.shared(1).gate().fence_done(ticket));
        assert_eq!(runner.x(11) - before, value * 3, "what hart 0 stored last");
    }
}

/// A device at whose writes a hart executes one instruction.
struct Stepper(Arc<Mutex<Option<Hart>>>);

impl Device for Stepper {
    fn name(&self) -> &str {
        "stepper"
    }
    fn read(&self, _offset: u64, _size: AccessSize) -> u64 {
        0
    }
    fn write(&self, _offset: u64, _size: AccessSize, _value: u64) -> Option<GuestRequest> {
        steps(self.0.lock().unwrap().as_mut().unwrap(), 1);
        None
    }
    fn reset(&self) {}
    fn stop(&self) {}
    fn start(&self) -> Option<WakeSource> {
        None
    }
    fn sleep(&self) -> Option<WakeSource> {
        None
    }
    fn wake(&self) {}
    fn save(&self) -> Section {
        Section { name: "stepper".into(), version: 1, data: Vec::new() }
    }
    fn check(&self, _section: &Section) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, _section: &Section) -> Result<(), LoadError> {
        Ok(())
    }
}

/// The narrow case: a page becomes code while the writer is inside of the block that stores to it and then tells. The
/// request to drop its write entry has not reached it when it stores.
#[test]
fn a_release_settles_stores_to_a_page_that_became_code_in_the_same_block() {
    const DEVICE: u64 = 0x1000_0000;
    let fence = 0x0ff0_000f;
    for settle in [fence, amo(0, true, A4, A5, A3) | 1 << 25, sc_d(A4, A5, A3) | 1 << 25] {
        let slot = Arc::new(Mutex::new(None));
        let mut bus = Bus::new();
        bus.map(DEVICE, 0x100, Arc::new(Stepper(Arc::clone(&slot)))).unwrap();
        let machine = Machine::with_bus(2, bus);
        machine.code(CODE, &[addi(A1, A1, 1), jal(ZERO, -4)]);
        let (mut writer, mut runner) = (machine.hart(0), machine.hart(1));
        writer.start_machine(BASE, 0, 0);
        runner.start_machine(CODE, 0, 0);
        *slot.lock().unwrap() = Some(runner);
        // The first block makes the write entry. In the second, hart 1 decodes the page at the store to the device.
        let told = [sw(ZERO, A3, 0), sw(A2, A0, 0), settle, WFI];
        machine.code(BASE, &[sw(ZERO, A0, 64), FENCE_I]);
        machine.code(BASE + 8, &told);
        writer.set_x(10, CODE);
        writer.set_x(12, addi(A1, A1, 100).into());
        writer.set_x(13, DEVICE);
        writer.set_x(15, BASE + 0x8000);
        assert_eq!(writer.run(u64::MAX), Exit::Wait);
        assert!(!machine.ram.code().is_code(4), "{settle:#x}: what hart 1 decoded is known to be stale");
        let mut runner = slot.lock().unwrap().take().unwrap();
        machine.shared(1).gate().post_fence(fence_kind::INSTRUCTION);
        runner.set_pc(CODE);
        steps(&mut runner, 1);
        assert_eq!(runner.x(11), 101);
    }
}

#[test]
fn harts_on_threads_see_each_others_patches() {
    // Hart 0: counts up, patches `addi a1, zero, n` at CODE, fences, publishes n, waits for hart 1 to confirm.
    // Hart 1: waits for a new n, fence.i, calls CODE, and confirms what it executed.
    const ROUNDS: i32 = 100;
    let (shared, answer) = (0_i32, 64);
    let fence = 0x0ff0_000f;
    let writer = [
        addi(A1, A1, 1),
        slli(A2, A1, 20),
        add(A2, A2, A4), // addi a1, zero, n
        sw(A2, A0, 0),
        fence,
        sw(A1, A5, shared),
        lw(A2, A5, answer),
        bne(A2, A1, -4),
        bne(A1, A3, -32),
        WFI,
    ];
    let runner = [
        addi(A2, A2, 1),
        lw(A1, A5, shared),
        bne(A1, A2, -4),
        fence,
        FENCE_I,
        jalr(RA, A0, 0),
        sw(A1, A5, answer),
        bne(A2, A3, -28),
        WFI,
    ];
    let machine = Machine::new(2);
    machine.code(CODE, &[addi(A1, 0, 0), RET]);
    machine.code(BASE, &writer);
    machine.code(BASE + 0x1000, &runner);
    std::thread::scope(|scope| {
        for id in 0..2 {
            let mut hart = machine.hart(id);
            hart.start_machine(BASE + 0x1000 * u64::from(id), 0, 0);
            hart.set_x(10, CODE);
            hart.set_x(11, 0);
            hart.set_x(12, 0);
            hart.set_x(13, ROUNDS as u64);
            hart.set_x(14, addi(A1, 0, 0).into());
            hart.set_x(15, BASE + 0x8000);
            let machine = &machine;
            scope.spawn(move || {
                // A runner that executes stale code confirms the wrong number, and the bound ends the wait.
                let exit = hart.run(5_000_000_000);
                let told = [0, 64].map(|at| machine.get(BASE + 0x8000 + at));
                assert_eq!(exit, Exit::Wait, "hart {id}: patched to and confirmed {told:?}");
                assert_eq!(hart.x(11), ROUNDS as u64);
                machine.shared(id).gate().leave();
            });
        }
    });
}
