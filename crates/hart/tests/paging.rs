//! Address translation and physical memory protection.

mod support;

use support::asm::*;
use support::{
    BASE, MACHINE_HANDLER, MODE_M, MODE_S, MODE_U, Machine, SPIN, Taken, steps, supervised, trapped,
};
use vmcore::Vcpu;

const V: u64 = 1;
const R: u64 = 2;
const W: u64 = 4;
const X: u64 = 8;
const U: u64 = 16;
const A: u64 = 64;
const D: u64 = 128;
const ALL: u64 = V | R | W | X | A | D;

const SUM: u64 = 1 << 18;
const MXR: u64 = 1 << 19;
const MPRV: u64 = 1 << 17;

const ROOT: u64 = BASE + 0x10_0000;
const MIDDLE: u64 = ROOT + 0x1000;
const LEAVES: u64 = ROOT + 0x2000;
/// Where the pages under test are.
const DATA: u64 = BASE + 0x20_0000;
/// Virtual address of the first entry of `LEAVES`.
const VIRTUAL: u64 = 0x4000_0000;

const FETCH_PAGE: u64 = 12;
const LOAD_PAGE: u64 = 13;
const STORE_PAGE: u64 = 15;
const FETCH_ACCESS: u64 = 1;
const LOAD_ACCESS: u64 = 5;
const STORE_ACCESS: u64 = 7;

fn pte(phys: u64, flags: u64) -> u64 {
    phys >> 12 << 10 | flags
}

/// Sv39: the gigabyte with RAM as an identity for supervisor code, and `leaves` at `VIRTUAL`.
fn tables(machine: &Machine, leaves: &[u64]) {
    machine.put(ROOT + 2 * 8, pte(0x8000_0000, ALL));
    machine.put(ROOT + 8, pte(MIDDLE, V));
    machine.put(MIDDLE, pte(LEAVES, V));
    for (at, leaf) in leaves.iter().enumerate() {
        machine.put(LEAVES + 8 * at as u64, *leaf);
    }
}

/// A hart in supervisor mode with those tables, about to execute `code`.
fn paged(leaves: &[u64], code: &[u32]) -> (Machine, hart::Hart) {
    let (machine, mut hart) = supervised(MODE_S, code);
    tables(&machine, leaves);
    assert!(hart.set_csr(0x180, 8 << 60 | ROOT >> 12));
    (machine, hart)
}

/// The trap that `instruction` takes with a0 = `addr`, if it takes one.
fn fault(leaves: &[u64], instruction: u32, addr: u64, status: u64) -> Option<(u64, u64)> {
    let (_machine, mut hart) = paged(leaves, &[instruction, SPIN]);
    hart.set_csr(0x300, status);
    hart.set_privilege(MODE_S);
    hart.set_x(10, addr);
    hart.run(10);
    if hart.pc() == BASE + 4 {
        return None;
    }
    let taken = support::taken(&mut hart);
    assert_eq!((taken.mode, taken.epc), (MODE_M, BASE));
    Some((taken.cause, taken.tval))
}

fn load() -> u32 {
    ld(A1, A0, 0)
}

fn store() -> u32 {
    sd(A1, A0, 0)
}

#[test]
fn leaves_permit_what_their_bits_say() {
    let read = (LOAD_PAGE, VIRTUAL);
    let write = (STORE_PAGE, VIRTUAL);
    let page = |flags| [pte(DATA, flags)];
    // Flags, mstatus, what a load and a store take.
    let cases = [
        (ALL, 0, None, None),
        (V | R | A, 0, None, Some(write)),
        (V | R | W | D, 0, Some(read), Some(write)),
        (V | R | W | A, 0, None, Some(write)),
        (V | X | A, 0, Some(read), Some(write)),
        (V | X | A, MXR, None, Some(write)),
        (ALL | U, 0, Some(read), Some(write)),
        (ALL | U, SUM, None, None),
        (ALL & !V, 0, Some(read), Some(write)),
        (V | W | A | D, 0, Some(read), Some(write)),
        (V | W | X | A | D, 0, Some(read), Some(write)),
        (ALL | 1 << 54, 0, Some(read), Some(write)),
        (ALL | 1 << 60, 0, Some(read), Some(write)),
        (ALL | 1 << 61, 0, Some(read), Some(write)),
        (ALL | 1 << 63, 0, Some(read), Some(write)),
        (ALL | 3 << 8, 0, None, None),
        // A pointer at the last level.
        (V, 0, Some(read), Some(write)),
    ];
    for (flags, status, on_load, on_store) in cases {
        assert_eq!(fault(&page(flags), load(), VIRTUAL, status), on_load, "load, {flags:#x} {status:#x}");
        assert_eq!(fault(&page(flags), store(), VIRTUAL, status), on_store, "store, {flags:#x} {status:#x}");
    }
}

#[test]
fn addresses_that_are_not_canonical_fault() {
    for addr in [1 << 38, 1 << 39, 1 << 63, u64::MAX << 40 | VIRTUAL] {
        assert_eq!(fault(&[pte(DATA, ALL)], load(), addr, 0), Some((LOAD_PAGE, addr)), "{addr:#x}");
    }
}

#[test]
fn superpages_have_to_be_aligned() {
    let megapage = |phys| {
        let (machine, mut hart) = paged(&[], &[load(), SPIN]);
        machine.put(MIDDLE, pte(phys, ALL));
        machine.put(DATA + 0x1_2340, 99);
        hart.set_x(10, VIRTUAL + 0x1_2340);
        hart.run(10);
        (hart.pc() == BASE + 4).then(|| hart.x(11))
    };
    assert_eq!(megapage(DATA), Some(99));
    assert_eq!(megapage(DATA + 0x1000), None);
}

#[test]
fn pointers_with_leaf_bits_are_reserved() {
    for bit in [U, A, D] {
        let (machine, mut hart) = paged(&[pte(DATA, ALL)], &[load(), SPIN]);
        machine.put(MIDDLE, pte(LEAVES, V | bit));
        hart.set_x(10, VIRTUAL);
        assert_eq!(trapped(&mut hart).cause, LOAD_PAGE, "{bit:#x}");
    }
}

#[test]
fn what_is_not_memory_is_an_access_fault() {
    assert_eq!(fault(&[pte(0x1000, ALL)], load(), VIRTUAL, 0), Some((LOAD_ACCESS, VIRTUAL)));
    assert_eq!(fault(&[pte(0x1000, ALL)], store(), VIRTUAL, 0), Some((STORE_ACCESS, VIRTUAL)));
    assert_eq!(
        fault(&[pte(0x1000, ALL)], amo(0, true, A1, A0, A1), VIRTUAL, 0),
        Some((STORE_ACCESS, VIRTUAL))
    );
    assert_eq!(fault(&[pte(0x1000, ALL)], lr_d(A1, A0), VIRTUAL, 0), Some((LOAD_ACCESS, VIRTUAL)));
    // A table outside of memory: the fault of the access that walked.
    let (machine, mut hart) = paged(&[], &[store(), SPIN]);
    machine.put(MIDDLE, pte(0x1000, V));
    hart.set_x(10, VIRTUAL);
    assert_eq!(trapped(&mut hart).cause, STORE_ACCESS);
}

#[test]
fn fetches_need_execute_permission_of_the_right_mode() {
    let cases = [
        (ALL, MODE_S, None),
        (ALL, MODE_U, Some(FETCH_PAGE)),
        (ALL | U, MODE_U, None),
        (ALL | U, MODE_S, Some(FETCH_PAGE)),
        (ALL & !X, MODE_S, Some(FETCH_PAGE)),
        (ALL & !A, MODE_S, Some(FETCH_PAGE)),
    ];
    for (flags, mode, cause) in cases {
        let (machine, mut hart) = paged(&[pte(DATA, flags)], &[]);
        machine.code(DATA, &[SPIN]);
        // SUM does not let the supervisor execute user pages.
        hart.set_csr(0x300, SUM);
        hart.set_privilege(mode);
        hart.set_pc(VIRTUAL);
        hart.run(10);
        let found = (hart.pc() != VIRTUAL).then(|| support::taken(&mut hart));
        let expected = cause.map(|cause| Taken { mode: MODE_M, cause, tval: VIRTUAL, epc: VIRTUAL });
        assert_eq!(found, expected, "{flags:#x} in mode {mode}");
    }
    let (_machine, mut hart) = paged(&[pte(0x1000, ALL)], &[]);
    hart.set_pc(VIRTUAL);
    assert_eq!(trapped(&mut hart).cause, FETCH_ACCESS);
}

#[test]
fn an_instruction_may_straddle_two_pages_and_its_second_half_may_fault() {
    let instruction = addi(A0, A0, 5);
    let begin = |leaves: &[u64]| {
        let (machine, mut hart) = paged(leaves, &[]);
        machine.ram.write(DATA + 0xffe, &instruction.to_le_bytes()[..2]).unwrap();
        machine.ram.write(DATA + 0x5000, &instruction.to_le_bytes()[2..]).unwrap();
        machine.ram.write(DATA + 0x5002, &SPIN.to_le_bytes()).unwrap();
        hart.set_pc(VIRTUAL + 0xffe);
        (machine, hart)
    };
    // The second page is somewhere else.
    let (_machine, mut hart) = begin(&[pte(DATA, ALL), pte(DATA + 0x5000, ALL)]);
    steps(&mut hart, 2);
    assert_eq!((hart.x(10), hart.pc()), (5, VIRTUAL + 0x1002));
    let (_machine, mut hart) = begin(&[pte(DATA, ALL)]);
    let expected = Taken { mode: MODE_M, cause: FETCH_PAGE, tval: VIRTUAL + 0x1000, epc: VIRTUAL + 0xffe };
    assert_eq!(trapped(&mut hart), expected);
}

#[test]
fn a_misaligned_access_across_pages_is_whole_or_not_at_all() {
    let leaves = [pte(DATA, ALL), pte(DATA + 0x7000, ALL), pte(DATA, V | R | A)];
    let (machine, mut hart) = paged(&leaves, &[store(), ld(A2, A0, 0), SPIN]);
    hart.set_x(10, VIRTUAL + 0xffd);
    hart.set_x(11, 0x1122_3344_5566_7788);
    steps(&mut hart, 2);
    assert_eq!(hart.x(12), 0x1122_3344_5566_7788);
    assert_eq!(machine.get(DATA + 0xff8) >> 40, 0x66_7788);
    assert_eq!(machine.get(DATA + 0x7000) & 0xff_ffff_ffff, 0x11_2233_4455);
    // The second page may not be written: nothing of the first is.
    let before = machine.get(DATA + 0x7ff8);
    hart.set_pc(BASE);
    hart.set_x(10, VIRTUAL + 0x1ffd);
    let expected = Taken { mode: MODE_M, cause: STORE_PAGE, tval: VIRTUAL + 0x2000, epc: BASE };
    assert_eq!(trapped(&mut hart), expected);
    assert_eq!(machine.get(DATA + 0x7ff8), before);
}

#[test]
fn translations_are_kept_until_the_fence() {
    for code in [sfence_vma(0, 0), sfence_vma(A0, 0), csrrw(0, 0x180, A2)] {
        let (machine, mut hart) = paged(&[pte(DATA, ALL)], &[load(), code, ld(A3, A0, 0), SPIN]);
        machine.put(DATA, 1);
        machine.put(DATA + 0x1000, 2);
        hart.set_x(10, VIRTUAL);
        let satp = hart.csr(0x180).unwrap();
        hart.set_x(12, satp);
        steps(&mut hart, 1);
        machine.put(LEAVES, pte(DATA + 0x1000, ALL));
        steps(&mut hart, 2);
        assert_eq!((hart.x(11), hart.x(13)), (1, 2), "{code:#x}");
    }
}

#[test]
fn a_fence_for_one_address_reaches_all_of_its_superpage() {
    let code = [load(), sfence_vma(A2, 0), ld(A3, A0, 0)];
    let (machine, mut hart) = paged(&[], &code);
    machine.put(MIDDLE, pte(DATA, ALL));
    machine.put(DATA + 0x3000, 1);
    machine.put(DATA + 0x20_3000, 2);
    hart.set_x(10, VIRTUAL + 0x3000);
    hart.set_x(12, VIRTUAL + 0x1f_0000);
    steps(&mut hart, 1);
    machine.put(MIDDLE, pte(DATA + 0x20_0000, ALL));
    steps(&mut hart, 2);
    assert_eq!((hart.x(11), hart.x(13)), (1, 2));
}

#[test]
fn four_levels_translate_and_three_refuse_what_only_they_reach() {
    let addr = 0x40_0000_0000;
    let (machine, mut hart) = paged(&[pte(DATA, ALL)], &[load(), SPIN]);
    machine.put(DATA, 77);
    // Sv48: a root above the tables of Sv39; address bits 39 to 47 choose in it.
    let top = ROOT + 0x8000;
    machine.put(top, pte(ROOT, V));
    machine.put(ROOT + 8 * (addr >> 30 & 0x1ff), pte(MIDDLE, V));
    hart.set_x(10, addr);
    hart.set_csr(0x180, 9 << 60 | top >> 12);
    steps(&mut hart, 1);
    assert_eq!(hart.x(11), 77);
    hart.set_csr(0x180, 8 << 60 | ROOT >> 12);
    hart.set_pc(BASE);
    assert_eq!(trapped(&mut hart).cause, LOAD_PAGE);
}

#[test]
fn mprv_makes_data_accesses_in_the_previous_mode() {
    let (machine, mut hart) = paged(&[pte(DATA, ALL | U)], &[load(), SPIN]);
    machine.put(DATA, 5);
    hart.set_privilege(MODE_M);
    hart.set_x(10, VIRTUAL);
    hart.set_csr(0x300, MPRV);
    steps(&mut hart, 1);
    assert_eq!(hart.x(11), 5, "as the user");
    hart.set_pc(BASE);
    hart.set_csr(0x300, MPRV | 1 << 11);
    assert_eq!(trapped(&mut hart).cause, LOAD_PAGE, "as the supervisor");
    assert_eq!(hart.pc(), MACHINE_HANDLER, "fetches are not concerned");
}

#[test]
fn protection_of_physical_memory_is_checked_on_every_path() {
    // Entry 0: four bytes that nobody may touch. Entry 1: all of memory.
    let hole = DATA + 0x100;
    let setup = |code: &[u32], config: u64| {
        let (machine, mut hart) = supervised(MODE_S, code);
        assert!(hart.set_csr(0x3b0, hole >> 2) && hart.set_csr(0x3b1, u64::MAX >> 10));
        assert!(hart.set_csr(0x3a0, 0x1f00 | config));
        hart.set_x(10, hole);
        (machine, hart)
    };
    const NA4: u64 = 2 << 3;
    let word = lw(A1, A0, 0);
    for (code, cause) in
        [(word, LOAD_ACCESS), (sw(A1, A0, 0), STORE_ACCESS), (amo(0, false, A1, A0, A1), STORE_ACCESS)]
    {
        let (_machine, mut hart) = setup(&[code, SPIN], NA4);
        let expected = Taken { mode: MODE_M, cause, tval: hole, epc: BASE };
        assert_eq!(trapped(&mut hart), expected);
    }
    // Next to it, all goes.
    let (machine, mut hart) = setup(&[lw(A1, A0, 4), lw(A1, A0, -4), SPIN], NA4);
    machine.put(hole - 8, 6 << 32);
    steps(&mut hart, 3);
    assert_eq!(hart.x(11), 6);
    // An access that is only partly in it fails, and so does a misaligned one.
    for offset in [-4, -2] {
        let (_machine, mut hart) = setup(&[ld(A1, A0, offset), SPIN], NA4 | 7);
        assert_eq!(trapped(&mut hart).cause, LOAD_ACCESS, "offset {offset}");
    }
    // Machine mode is bound by locked entries only.
    for (lock, allowed) in [(0, true), (0x80, false)] {
        let (_machine, mut hart) = setup(&[word, SPIN], NA4 | lock);
        hart.set_privilege(MODE_M);
        hart.run(10);
        assert_eq!(hart.pc() == BASE + 4, allowed);
    }
    // Fetching from it.
    let (machine, mut hart) = setup(&[], NA4);
    machine.code(hole - 8, &[NOP, NOP, NOP]);
    hart.set_pc(hole - 8);
    let expected = Taken { mode: MODE_M, cause: FETCH_ACCESS, tval: hole, epc: hole };
    assert_eq!(trapped(&mut hart), expected);
}

#[test]
fn without_a_matching_entry_only_machine_mode_gets_through() {
    let (_machine, mut hart) = supervised(MODE_S, &[NOP, SPIN]);
    assert!(hart.set_csr(0x3a0, 0));
    assert_eq!(trapped(&mut hart).cause, FETCH_ACCESS);
    hart.set_pc(BASE);
    hart.set_privilege(MODE_M);
    steps(&mut hart, 5);
    assert_eq!(hart.pc(), BASE + 4);
}
