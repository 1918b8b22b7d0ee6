//! Exceptions, interrupts, delegation and the instructions that may trap by choice.

mod support;

use support::asm::*;
use support::{
    BASE, MACHINE_HANDLER, MODE_M, MODE_S, MODE_U, SPIN, SUPERVISOR_HANDLER, Taken, boot, run, steps,
    supervised, taken, trap_of, trapped,
};
use vmcore::{Exit, Vcpu, mip};

const ILLEGAL: u64 = 2;
const INTERRUPT: u64 = 1 << 63;

const MSTATUS: u16 = 0x300;
const MEDELEG: u16 = 0x302;
const MIDELEG: u16 = 0x303;
const MIE: u16 = 0x304;
const MTVEC: u16 = 0x305;
const MENVCFG: u16 = 0x30a;

const STATUS_SIE: u64 = 1 << 1;
const STATUS_MIE: u64 = 1 << 3;
const FS_INITIAL: u64 = 1 << 13;
const TVM: u64 = 1 << 20;
const TW: u64 = 1 << 21;
const TSR: u64 = 1 << 22;

#[test]
fn illegal_instructions_report_their_bits() {
    let reserved_rounding = r(0x53, 5, 1, 0, 0, 0);
    let words = [
        0xffff_ffff,
        0x0000_707f,               // no such opcode
        0x0000_7003,               // load of funct3 7
        r(0x33, 0, 0x7f, 1, 1, 1), // no such funct7
        r(0x3b, 2, 0, 1, 1, 1),    // no slt of words
        amo(0x1f, true, 1, 1, 1),  // no such atomic
        amo(2, true, 1, 1, 1),     // lr with a second source
        SRET | 1 << 7,             // sret with a destination
        csrrs(1, 0x7c0, 0),        // no such CSR
        csrrw(0, 0xf14, 1),        // mhartid is read-only
        csrrw(0, 0xc00, 1),        // so is cycle
        csrrs(1, 0x3a1, 0),        // odd pmpcfg registers are RV32's
        reserved_rounding,
        r(0x53, 0, 1, 0, 0, 0), // fadd.d with FS off
        i(0x07, 3, 0, 0, 0),    // fld with FS off
        csrrs(1, 0x003, 0),     // fcsr with FS off
    ];
    for word in words {
        assert_eq!(trap_of(MODE_M, word, &[]), (ILLEGAL, word.into()), "{word:#010x}");
    }
}

#[test]
fn reserved_short_instructions_report_sixteen_bits() {
    // c.addi4spn 0, the reserved quadrant 0, c.addiw x0, c.lui 0, c.lwsp x0, c.jr x0, c.subw's reserved neighbours
    for half in [0x0000_u32, 0x0004, 0x8000, 0x2001, 0x6081, 0x4002, 0x8002, 0x9c41, 0x9c61] {
        assert_eq!(trap_of(MODE_M, half | 0xabcd_0000, &[]), (ILLEGAL, half.into()), "{half:#06x}");
    }
}

#[test]
fn calls_and_breakpoints_have_their_causes() {
    for (mode, cause) in [(MODE_U, 8), (MODE_S, 9), (MODE_M, 11)] {
        assert_eq!(trap_of(mode, ECALL, &[]), (cause, 0));
    }
    assert_eq!(trap_of(MODE_M, EBREAK, &[]), (3, BASE));
    assert_eq!(trap_of(MODE_M, 0x9002, &[]), (3, BASE), "c.ebreak");
}

#[test]
fn privileged_instructions_are_illegal_below_their_mode() {
    let fence = sfence_vma(0, 0);
    for word in [MRET, SRET, fence, WFI, csrrs(1, 0x100, 0)] {
        assert_eq!(trap_of(MODE_U, word, &[]), (ILLEGAL, word.into()), "{word:#x}");
    }
    for word in [MRET, csrrs(1, 0x300, 0)] {
        assert_eq!(trap_of(MODE_S, word, &[]), (ILLEGAL, word.into()), "{word:#x}");
    }
    for (bit, word) in
        [(TVM, fence), (TVM, csrrs(1, 0x180, 0)), (TVM, csrrw(0, 0x180, 0)), (TW, WFI), (TSR, SRET)]
    {
        let (_machine, mut hart) = supervised(MODE_S, &[word]);
        assert!(hart.set_csr(MSTATUS, bit));
        let expected = Taken { mode: MODE_M, cause: ILLEGAL, tval: word.into(), epc: BASE };
        assert_eq!(trapped(&mut hart), expected, "{word:#x}");
    }
}

#[test]
fn counters_are_open_as_both_enables_say() {
    let (_machine, mut hart) = supervised(MODE_U, &[csrrs(A0, 0xc02, 0)]);
    assert_eq!(trapped(&mut hart).cause, ILLEGAL);
    for (machine, supervisor, open) in [(4, 0, false), (0, 4, false), (4, 4, true)] {
        let (_machine, mut hart) = supervised(MODE_U, &[NOP, csrrs(A0, 0xc02, 0), SPIN]);
        assert!(hart.set_csr(0x306, machine) && hart.set_csr(0x106, supervisor));
        assert_eq!(hart.run(3), Exit::Limit);
        assert_eq!(hart.privilege() == MODE_U, open);
        assert_eq!(hart.x(10), u64::from(open), "one instruction was retired before");
    }
}

#[test]
fn delegated_exceptions_go_to_the_supervisor() {
    let (_machine, mut hart) = supervised(MODE_U, &[NOP, ECALL]);
    assert!(hart.set_csr(MEDELEG, u64::MAX));
    assert_eq!(hart.csr(MEDELEG), Some(0xb3ff));
    let expected = Taken { mode: MODE_S, cause: 8, tval: 0, epc: BASE + 4 };
    assert_eq!(trapped(&mut hart), expected);
    let status = hart.csr(MSTATUS).unwrap();
    assert_eq!(status >> 8 & 1, 0, "SPP says user");
    // What happens in machine mode stays there.
    let (_machine, mut hart) = supervised(MODE_M, &[EBREAK]);
    assert!(hart.set_csr(MEDELEG, u64::MAX));
    assert_eq!(trapped(&mut hart).mode, MODE_M);
}

#[test]
fn a_trap_and_its_return_stack_the_enables() {
    let (machine, mut hart) = supervised(MODE_S, &[ECALL, NOP]);
    machine.code(MACHINE_HANDLER, &[csrrs(A0, 0x341, 0), addi(A0, A0, 4), csrrw(0, 0x341, A0), MRET]);
    assert!(hart.set_csr(MSTATUS, STATUS_MIE | 1 << 17 /* MPRV */));
    assert!(hart.set_privilege(MODE_S));
    steps(&mut hart, 1);
    let inside = hart.csr(MSTATUS).unwrap();
    assert_eq!((inside >> 3 & 1, inside >> 7 & 1, inside >> 11 & 3), (0, 1, 1), "MIE, MPIE, MPP");
    steps(&mut hart, 3);
    assert_eq!((hart.pc(), hart.privilege()), (BASE + 4, MODE_S));
    let after = hart.csr(MSTATUS).unwrap();
    assert_eq!((after >> 3 & 1, after >> 7 & 1, after >> 11 & 3), (1, 1, 0), "MIE, MPIE, MPP");
    assert_eq!(after >> 17 & 1, 0, "MPRV is cleared by a return to a lower mode");
}

#[test]
fn interrupts_are_taken_by_priority() {
    let order =
        [(mip::MEIP, 11), (mip::MSIP, 3), (mip::MTIP, 7), (mip::SEIP, 9), (mip::SSIP, 1), (mip::STIP, 5)];
    let (machine, mut hart) = supervised(MODE_S, &[SPIN]);
    assert!(hart.set_csr(MIE, u64::MAX) && hart.set_csr(MENVCFG, 1 << 63));
    let mut pending = order.iter().fold(0, |all, (bit, _)| all | bit);
    for (bit, number) in order {
        machine.shared(0).set_pending(u64::MAX, false);
        machine.shared(0).set_pending(pending, true);
        hart.set_pc(BASE);
        hart.set_privilege(MODE_S);
        hart.run(hart.retired() + 5);
        let expected = Taken { mode: MODE_M, cause: INTERRUPT | number, tval: 0, epc: BASE };
        assert_eq!(taken(&mut hart), expected);
        pending &= !bit;
    }
}

#[test]
fn interrupts_obey_mode_enable_and_delegation() {
    // Mode, mstatus, delegated: where a supervisor software interrupt is taken.
    let cases = [
        (MODE_M, 0, false, None),
        (MODE_M, STATUS_MIE, false, Some(MODE_M)),
        (MODE_M, STATUS_MIE | STATUS_SIE, true, None),
        (MODE_S, 0, false, Some(MODE_M)),
        (MODE_S, 0, true, None),
        (MODE_S, STATUS_SIE, true, Some(MODE_S)),
        (MODE_U, 0, true, Some(MODE_S)),
        (MODE_U, 0, false, Some(MODE_M)),
    ];
    for (mode, status, delegated, expected) in cases {
        let (machine, mut hart) = supervised(mode, &[SPIN]);
        assert!(hart.set_csr(MSTATUS, status) && hart.set_csr(MIE, mip::SSIP));
        assert!(hart.set_csr(MIDELEG, if delegated { mip::SSIP } else { 0 }));
        hart.run(10);
        assert_eq!(hart.pc(), BASE, "nothing is pending yet");
        machine.shared(0).set_pending(mip::SSIP, true);
        hart.run(20);
        let taken = (hart.pc() != BASE).then_some(hart.privilege());
        assert_eq!(taken, expected, "mode {mode}, mstatus {status:#x}, delegated {delegated}");
    }
}

#[test]
fn vectored_interrupts_go_to_their_own_entry_and_exceptions_to_the_base() {
    let (machine, mut hart) = supervised(MODE_S, &[ECALL]);
    machine.code(MACHINE_HANDLER, &[SPIN; 16]);
    assert!(hart.set_csr(MTVEC, MACHINE_HANDLER | 1) && hart.set_csr(MIE, mip::MTIP));
    hart.run(5);
    assert_eq!(hart.pc(), MACHINE_HANDLER);
    machine.shared(0).set_pending(mip::MTIP, true);
    hart.set_privilege(MODE_S);
    hart.run(10);
    assert_eq!(hart.pc(), MACHINE_HANDLER + 7 * 4);
    assert!(hart.set_csr(MTVEC, BASE | 2));
    assert_eq!(hart.csr(MTVEC), Some(MACHINE_HANDLER | 1), "reserved modes change nothing");
}

#[test]
fn an_enable_by_csr_write_takes_what_is_pending_at_once() {
    let code = [addi(A0, 0, 2), csrrs(0, 0x100, A0), addi(A1, 0, 1)];
    let (machine, mut hart) = supervised(MODE_S, &code);
    assert!(hart.set_csr(MIDELEG, mip::SEIP) && hart.set_csr(MIE, mip::SEIP));
    machine.shared(0).set_pending(mip::SEIP, true);
    hart.run(10);
    let expected = Taken { mode: MODE_S, cause: INTERRUPT | 9, tval: 0, epc: BASE + 8 };
    assert_eq!(taken(&mut hart), expected);
    assert_eq!(hart.x(11), 0, "the next instruction was not executed");
}

#[test]
fn the_supervisor_clears_and_sets_its_software_interrupt_only() {
    let code = [csrrw(0, 0x144, A0), csrrw(0, 0x144, 0)];
    let (machine, mut hart) = supervised(MODE_S, &code);
    assert!(hart.set_csr(MIDELEG, 0x222));
    hart.set_x(10, u64::MAX);
    steps(&mut hart, 1);
    assert_eq!(machine.shared(0).pending(), mip::SSIP);
    machine.shared(0).set_pending(mip::SEIP, true);
    steps(&mut hart, 1);
    assert_eq!(machine.shared(0).pending(), mip::SEIP);
}

#[test]
fn wfi_waits_for_what_is_enabled_whatever_the_global_enable() {
    let (machine, mut hart) = supervised(MODE_S, &[WFI, SPIN]);
    assert!(hart.set_csr(MIE, mip::SSIP) && hart.set_csr(MIDELEG, mip::SSIP));
    assert_eq!(hart.run(100), Exit::Wait);
    assert_eq!((hart.pc(), hart.retired()), (BASE + 4, 1), "it is retired");
    assert!(!hart.interrupt_pending());
    machine.shared(0).set_pending(mip::SSIP, true);
    assert!(hart.interrupt_pending());
    hart.set_pc(BASE);
    assert_eq!(hart.run(100), Exit::Limit, "nothing to wait for, and nothing to take");
}

#[test]
fn stimecmp_is_the_supervisors_when_it_is_given() {
    let write = csrrw(0, 0x14d, A0);
    assert_eq!(trap_of(MODE_S, write, &[]), (ILLEGAL, write.into()));
    let (machine, mut hart) = supervised(MODE_S, &[write, csrrs(A1, 0x144, 0), write, csrrs(A2, 0x144, 0)]);
    assert!(hart.set_csr(MENVCFG, 1 << 63) && hart.set_csr(0x306, 2) && hart.set_csr(MIDELEG, mip::STIP));
    steps(&mut hart, 2);
    assert_eq!(hart.x(11), mip::STIP, "time is not below 0");
    hart.set_x(10, u64::MAX);
    steps(&mut hart, 2);
    assert_eq!((hart.x(12), machine.shared(0).stimecmp()), (0, u64::MAX));
}

#[test]
fn registers_keep_only_legal_values() {
    let (_machine, mut hart) = boot(&[]);
    let after = |hart: &mut hart::Hart, csr, value| {
        assert!(hart.set_csr(csr, value), "{csr:#x}");
        hart.csr(csr).unwrap()
    };
    assert_eq!(after(&mut hart, MIDELEG, u64::MAX), 0x222);
    assert_eq!(after(&mut hart, MIE, u64::MAX), 0xaaa);
    assert_eq!(after(&mut hart, 0x306, u64::MAX), 7);
    assert_eq!(after(&mut hart, 0x320, u64::MAX), 5);
    assert_eq!(after(&mut hart, 0x301, 0), 0x8000_0000_0014_112d, "misa is fixed");
    let status = after(&mut hart, MSTATUS, u64::MAX);
    assert_eq!(status, 0x8000_000a_007e_79aa, "mstatus");
    assert_eq!(after(&mut hart, MSTATUS, 2 << 11) >> 11 & 3, 3, "the reserved MPP keeps the old one");
    assert_eq!(after(&mut hart, 0x180, 8 << 60 | 5), 8 << 60 | 5);
    for mode in [1, 10, 15_u64] {
        assert_eq!(after(&mut hart, 0x180, mode << 60), 8 << 60 | 5, "mode {mode} changes nothing");
    }
    assert_eq!(after(&mut hart, 0x341, u64::MAX), u64::MAX - 1, "mepc");
}

#[test]
fn instret_counts_what_retires_and_stands_while_inhibited() {
    let read = |rd| csrrs(rd, 0xb02, 0);
    let code = [NOP, read(A0), read(A1), csrrw(0, 0xb02, 0), read(A2), NOP, read(A3)];
    let hart = run(&code, &[]);
    assert_eq!([10, 11, 12, 13].map(|at| hart.x(at)), [1, 2, 0, 2]);
    let hart = run(&[csrrwi(0, 0x320, 5), read(A0), NOP, read(A1), csrrwi(0, 0x320, 0), read(A2)], &[]);
    assert_eq!(hart.x(10), hart.x(11));
    assert_eq!(hart.x(12), hart.x(10), "counting goes on from there");
}

#[test]
fn floating_point_state_gets_dirty_by_what_changes_it() {
    let fs = |hart: &mut hart::Hart| hart.csr(MSTATUS).unwrap() >> 13 & 3;
    let nan = 0x7ff0_0000_0000_0001;
    // feq.d of signaling NaNs raises a flag; of zeros it does not. fmv.d.x writes a register.
    let feq = r(0x53, 2, 0x51, A0, 1, 1);
    for (bits, dirty) in [(0, false), (nan, true)] {
        let (_machine, mut hart) = boot(&[feq]);
        assert!(hart.set_csr(MSTATUS, FS_INITIAL));
        hart.set_f(1, bits);
        steps(&mut hart, 1);
        assert_eq!(fs(&mut hart) == 3, dirty, "{bits:#x}");
        assert_eq!(hart.csr(1), Some(if dirty { 16 } else { 0 }));
    }
    let (_machine, mut hart) = boot(&[r(0x53, 0, 0x79, 2, 0, 0)]);
    assert!(hart.set_csr(MSTATUS, FS_INITIAL));
    steps(&mut hart, 1);
    assert_eq!(fs(&mut hart), 3);
}

#[test]
fn a_reserved_dynamic_rounding_mode_is_illegal_when_used() {
    let dynamic = r(0x53, 7, 1, 0, 0, 0);
    for frm in 0..8 {
        let (_machine, mut hart) = supervised(MODE_M, &[dynamic, SPIN]);
        assert!(hart.set_csr(MSTATUS, FS_INITIAL) && hart.set_csr(2, frm));
        hart.run(10);
        assert_eq!(hart.pc() == BASE + 4, frm < 5, "frm {frm}");
    }
}

#[test]
fn without_compressed_instructions_a_target_off_four_bytes_traps_at_the_jump() {
    let mut machine = support::Machine::new(1);
    machine.extensions.c = false;
    for (jump, target) in [
        (jal(RA, 6), BASE + 6),
        (jalr(RA, A0, 2), BASE + 2),
        (beq(0, 0, 10), BASE + 10),
        (jal(RA, -0x1002), BASE - 0x1002),
    ] {
        machine.code(BASE, &[jump]);
        machine.code(MACHINE_HANDLER, &[SPIN]);
        let mut hart = machine.hart(0);
        hart.start_machine(BASE, 0, 0);
        hart.set_csr(MTVEC, MACHINE_HANDLER);
        hart.set_x(10, BASE);
        hart.set_x(1, 77);
        let expected = Taken { mode: MODE_M, cause: 0, tval: target, epc: BASE };
        assert_eq!(trapped(&mut hart), expected);
        assert_eq!(hart.x(1), 77, "the link is not written");
        // Again, now that both ends are decoded.
        hart.set_pc(BASE);
        assert_eq!(trapped(&mut hart), Taken { mode: MODE_M, cause: 0, tval: target, epc: BASE });
    }
}

#[test]
fn without_compressed_instructions_what_came_before_a_jump_that_traps_is_seen() {
    let mut machine = support::Machine::new(1);
    machine.extensions.c = false;
    // `call` by a pair: auipc ra, 1; jalr ra, 2(ra). The handler is in the same page.
    machine.code(BASE, &[auipc(RA, 1), jalr(RA, RA, 2), NOP, SPIN]);
    let mut hart = machine.hart(0);
    hart.start_machine(BASE, 0, 0);
    hart.set_csr(MTVEC, BASE + 12);
    for _ in 0..3 {
        hart.set_x(1, 0);
        hart.set_pc(BASE);
        hart.run(hart.retired() + 4);
        assert_eq!((hart.pc(), hart.x(1)), (BASE + 12, BASE + 0x1000));
        let trap = [0x341, 0x342, 0x343].map(|csr| hart.csr(csr));
        assert_eq!(trap, [Some(BASE + 4), Some(0), Some(BASE + 0x1002)]);
    }
}

#[test]
fn a_guest_that_traps_for_ever_gives_the_thread_back() {
    let (_machine, mut hart) = boot(&[]);
    hart.set_csr(MTVEC, 0x100);
    hart.set_pc(0x100);
    assert_eq!(hart.run(1), Exit::Signal);
    assert_eq!(hart.retired(), 0);
    let _ = SUPERVISOR_HANDLER;
}
