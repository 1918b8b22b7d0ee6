//! Calls to the firmware, and pending bits and interrupts at awkward places.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use support::asm::*;
use support::{BASE, MODE_S, Machine, SPIN, Taken, boot, steps, supervised, taken};
use vmcore::{EcallOutcome, Exit, Firmware, SbiCall, SbiReturn, StartParams, Vcpu, mip};

/// Says `Again` so often, then returns.
struct Patient(AtomicU32);

impl Firmware for Patient {
    fn ecall(&self, _hart: u32, _call: SbiCall) -> EcallOutcome {
        if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            EcallOutcome::Again
        } else {
            EcallOutcome::Return(SbiReturn::ok(42))
        }
    }
}

#[test]
fn a_call_to_be_repeated_gives_the_thread_back_each_time() {
    let machine = Machine::new(1);
    machine.code(BASE, &[NOP, ECALL, SPIN]);
    let mut hart = machine.hart_with(0, Some(Arc::new(Patient(AtomicU32::new(2)))));
    hart.start_supervisor(StartParams { pc: BASE, opaque: 0 });
    for _ in 0..2 {
        // An interrupt that waits is not looked at either.
        machine.shared(0).set_pending(mip::SSIP, true);
        assert_eq!(hart.run(100), Exit::Signal);
        assert_eq!((hart.pc(), hart.retired()), (BASE + 4, 1));
    }
    assert_eq!(hart.run(2), Exit::Limit);
    assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 8, 0, 42));
}

#[test]
fn setting_one_pending_bit_leaves_the_level_of_another_its_device() {
    let (machine, mut hart) = boot(&[csrrs(A0, 0x344, A1), csrrc(A0, 0x344, A1), csrrs(A0, 0x344, A2)]);
    machine.shared(0).set_pending(mip::SEIP, true);
    hart.set_x(11, mip::SSIP);
    hart.set_x(12, mip::SEIP);
    steps(&mut hart, 1);
    assert_eq!((hart.x(10), hart.csr(0x344)), (mip::SEIP, Some(mip::SEIP | mip::SSIP)));
    machine.shared(0).set_pending(mip::SEIP, false);
    assert_eq!(hart.csr(0x344), Some(mip::SSIP), "the level did not stick");
    steps(&mut hart, 1);
    assert_eq!(hart.csr(0x344), Some(0));
    // The written bit is the firmware's own and stays whatever the level.
    steps(&mut hart, 1);
    assert_eq!(hart.csr(0x344), Some(mip::SEIP));
}

#[test]
fn an_interrupt_at_a_straddling_instruction_returns_to_it() {
    let (machine, mut hart) = supervised(MODE_S, &[]);
    let start = BASE + 0x1ffa;
    machine.code(start, &[NOP, addi(A0, A0, 1), SPIN]);
    assert!(hart.set_csr(0x303, mip::SSIP) && hart.set_csr(0x304, mip::SSIP) && hart.set_csr(0x100, 2));
    hart.set_pc(start);
    steps(&mut hart, 1);
    machine.shared(0).set_pending(mip::SSIP, true);
    hart.run(hart.retired() + 1);
    let expected = Taken { mode: MODE_S, cause: 1 << 63 | 1, tval: 0, epc: start + 4 };
    assert_eq!((taken(&mut hart), hart.x(10)), (expected, 0));
}
