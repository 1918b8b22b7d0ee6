//! The A extension: results, faults, and harts on two threads.

mod support;

use std::sync::Arc;

use runstate::{GuestRequest, WakeSource};
use support::asm::*;
use support::{BASE, MODE_M, Machine, SPIN, Taken, boot, steps, trap_of};
use vmcore::{AccessSize, Bus, Device, Exit, LoadError, Section, Vcpu};

const DATA: u64 = BASE + 0x10_0000;

fn lr_w(rd: u32, rs1: u32) -> u32 {
    amo(2, false, rd, rs1, 0)
}

fn sc_w(rd: u32, rs1: u32, rs2: u32) -> u32 {
    amo(3, false, rd, rs1, rs2)
}

/// What `code` leaves in a3 with a0 = `DATA`, a2 = `operand` and `value` at `DATA`, and the memory after it.
fn on(value: u64, operand: u64, code: &[u32]) -> (u64, u64) {
    let (machine, mut hart) = boot(code);
    machine.put(DATA, value);
    hart.set_x(10, DATA);
    hart.set_x(12, operand);
    steps(&mut hart, code.len() as u64);
    (hart.x(13), machine.get(DATA))
}

#[test]
fn every_operation_of_both_widths_computes_what_it_says() {
    type Reference = fn(i64, i64) -> i64;
    let operations: [(u32, Reference); 9] = [
        (0x01, |_, b| b),
        (0x00, i64::wrapping_add),
        (0x04, |a, b| a ^ b),
        (0x0c, |a, b| a & b),
        (0x08, |a, b| a | b),
        (0x10, i64::min),
        (0x14, i64::max),
        (0x18, |a, b| (a as u64).min(b as u64) as i64),
        (0x1c, |a, b| (a as u64).max(b as u64) as i64),
    ];
    let values = [0, 1, u64::MAX, 0x7fff_ffff, 0x8000_0000, 1 << 63, i64::MAX as u64, 0xdead_beef_8765_4321];
    for (funct5, reference) in operations {
        for value in values {
            for operand in values {
                let expected = reference(value as i64, operand as i64) as u64;
                let found = on(value, operand, &[amo(funct5, true, A3, A0, A2)]);
                assert_eq!(found, (value, expected), "{funct5:#x} {value:#x} {operand:#x}");
                // Words: sign extension keeps the order of unsigned values too.
                let narrow = reference((value as i32).into(), (operand as i32).into()) as u32;
                let expected = value & !0xffff_ffff | u64::from(narrow);
                let found = on(value, operand, &[amo(funct5, false, A3, A0, A2)]);
                assert_eq!(found, (value as i32 as u64, expected), "{funct5:#x} {value:#x} {operand:#x}");
            }
        }
    }
}

#[test]
fn a_store_conditional_needs_its_own_reservation() {
    let old = 0x1111_2222_8333_4444;
    let store = sc_d(A3, A0, A2);
    assert_eq!(on(old, 5, &[lr_d(A1, A0), store]), (0, 5));
    assert_eq!(on(old, 5, &[store]), (1, old), "nothing is reserved");
    assert_eq!(on(old, 5, &[lr_d(A1, A0), sc_d(A4, A0, A1), store]), (1, old), "it is good for once");
    assert_eq!(on(old, 5, &[lr_d(A1, A0), addi(A0, A0, 8), store]), (1, old), "another address");
    assert_eq!(on(old, 5, &[lr_d(A1, A0), sd(A2, A0, 0), store]), (1, 5), "it was written to");
    assert_eq!(on(old, 5, &[lr_w(A1, A0), store]), (1, old), "another width");
    assert_eq!(on(old, 5, &[lr_w(A1, A0), sc_w(A3, A0, A2)]), (0, old & !0xffff_ffff | 5));
    let (signed, _) = on(old, 0, &[lr_w(A3, A0)]);
    assert_eq!(signed, 0xffff_ffff_8333_4444);
}

#[test]
fn a_trap_ends_the_reservation() {
    let (machine, mut hart) = boot(&[lr_d(A1, A0), ECALL, sc_d(A3, A0, A2)]);
    machine.code(BASE + 0x1000, &[csrrs(T0, 0x341, 0), addi(T0, T0, 4), csrrw(0, 0x341, T0), MRET]);
    hart.set_csr(0x305, BASE + 0x1000);
    hart.set_x(10, DATA);
    // The return goes to the mode in MPP.
    hart.set_csr(0x300, 3 << 11);
    steps(&mut hart, 6);
    assert_eq!((hart.pc(), hart.x(13)), (BASE + 12, 1));
}

#[test]
fn misaligned_atomics_fault_as_their_kind_of_access() {
    for (word, offset, cause) in [
        (lr_w(A1, A0), 2, 4),
        (lr_d(A1, A0), 4, 4),
        (sc_w(A1, A0, A2), 1, 6),
        (sc_d(A1, A0, A2), 4, 6),
        (amo(0, false, A1, A0, A2), 2, 6),
        (amo(0, true, A1, A0, A2), 4, 6),
    ] {
        assert_eq!(trap_of(MODE_M, word, &[(10, DATA + offset)]), (cause, DATA + offset), "{word:#x}");
    }
}

/// A device that takes everything.
struct Anything;

impl Device for Anything {
    fn name(&self) -> &str {
        "anything"
    }
    fn read(&self, _offset: u64, _size: AccessSize) -> u64 {
        7
    }
    fn write(&self, _offset: u64, _size: AccessSize, _value: u64) -> Option<GuestRequest> {
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
        Section { name: "anything".into(), version: 1, data: Vec::new() }
    }
    fn check(&self, _section: &Section) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, _section: &Section) -> Result<(), LoadError> {
        Ok(())
    }
}

#[test]
fn devices_take_no_atomics_and_no_misaligned_accesses() {
    let device = 0x1000_0000;
    let cases = [
        (lw(A1, A0, 0), None),
        (sw(A1, A0, 0), None),
        (lw(A1, A0, 2), Some((5, device + 2))),
        (sw(A1, A0, 2), Some((7, device + 2))),
        (lr_w(A1, A0), Some((5, device))),
        (sc_w(A1, A0, A2), Some((7, device))),
        (amo(0, false, A1, A0, A2), Some((7, device))),
        (amo(1, true, A1, A0, A2), Some((7, device))),
    ];
    for (word, expected) in cases {
        let mut bus = Bus::new();
        bus.map(device, 0x100, Arc::new(Anything)).unwrap();
        let machine = Machine::with_bus(1, bus);
        machine.code(BASE, &[word, SPIN]);
        machine.code(support::MACHINE_HANDLER, &[SPIN]);
        let mut hart = machine.hart(0);
        hart.start_machine(BASE, 0, 0);
        hart.set_csr(0x305, support::MACHINE_HANDLER);
        hart.set_x(10, device);
        hart.run(5);
        let found = (hart.pc() != BASE + 4).then(|| support::taken(&mut hart));
        let expected = expected.map(|(cause, tval)| Taken { mode: MODE_M, cause, tval, epc: BASE });
        assert_eq!(found, expected, "{word:#x}");
    }
}

/// Runs all harts of `machine` on threads of their own from `BASE` until each has retired `WFI`.
fn run_all(machine: &Machine, harts: u32) {
    std::thread::scope(|scope| {
        for id in 0..harts {
            let mut hart = machine.hart(id);
            hart.start_machine(BASE, 0, 0);
            hart.set_x(10, DATA);
            scope.spawn(move || {
                let gate = machine.shared(id).gate();
                assert!(gate.enter(0));
                assert_eq!(hart.run(1 << 32), Exit::Wait);
                gate.leave();
            });
        }
    });
}

#[test]
fn harts_on_threads_count_together() {
    const TURNS: i32 = 1000;
    let one = addi(A2, 0, 1);
    let loops = |body: &[u32]| {
        let mut code = vec![one, addi(A1, 0, TURNS)];
        code.extend(body);
        code.extend([addi(A1, A1, -1), bne(A1, 0, -4 * (body.len() as i32 + 1)), WFI]);
        code
    };
    let bodies = [
        loops(&[amo(0, true, A3, A0, A2)]),
        loops(&[amo(0, false, A3, A0, A2)]),
        loops(&[lr_d(A3, A0), add(A3, A3, A2), sc_d(A4, A0, A3), bne(A4, 0, -12)]),
        loops(&[lr_w(A3, A0), add(A3, A3, A2), sc_w(A4, A0, A3), bne(A4, 0, -12)]),
        // A lock by amoswap.aq, a plain increment, a release by fence and store.
        loops(&[
            addi(A3, 0, 1),
            amo(1, false, A4, T0, A3) | 1 << 26,
            bne(A4, 0, -4),
            ld(A5, A0, 0),
            addi(A5, A5, 1),
            sd(A5, A0, 0),
            0x0ff0_000f,
            sw(0, T0, 0),
        ]),
    ];
    for (at, code) in bodies.iter().enumerate() {
        let machine = Machine::new(2);
        // t0 = the lock, beside the counter.
        let mut whole = vec![auipc(T0, 0x100), addi(T0, T0, 64)];
        whole.extend(code);
        machine.code(BASE, &whole);
        run_all(&machine, 2);
        assert_eq!(machine.get(DATA), 2 * TURNS as u64, "program {at}");
    }
}
