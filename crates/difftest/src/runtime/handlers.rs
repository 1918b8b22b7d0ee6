//! The trap handlers of machine and supervisor mode. See the runtime's documentation.

use super::{address, var};
use crate::asm::Asm;
use crate::layout::{self, desc, record};

/// The multiplier of every hash here.
pub(super) const MIX: u64 = 0x9ddf_ea08_eb38_2d69;
const MPP: u64 = 3 << 11;

/// The CSRs of a handler's mode.
pub(super) struct ModeCsrs {
    pub(super) level: u32,
    pub(super) scratch: u32,
    pub(super) cause: u32,
    pub(super) epc: u32,
    pub(super) tval: u32,
    pub(super) status: u32,
    pub(super) enable: u32,
    pub(super) pending: u32,
}

const fn mode_csrs(level: u32) -> ModeCsrs {
    let base = level << 8;
    ModeCsrs {
        level,
        scratch: base | 0x40,
        epc: base | 0x41,
        cause: base | 0x42,
        tval: base | 0x43,
        pending: base | 0x44,
        status: base,
        enable: base | 0x04,
    }
}

pub(super) const M: ModeCsrs = mode_csrs(3);
pub(super) const S: ModeCsrs = mode_csrs(1);

/// Enters a handler: all registers saved, x8 = context, x9 = shared variables, x10 to x13 = cause, epc, tval, status.
fn enter(asm: &mut Asm, mode: &ModeCsrs) {
    asm.csr("csrrw", 31, mode.scratch, 31);
    for reg in 1..31 {
        asm.s("sd", reg, 8 * i64::from(reg), 31);
    }
    asm.csr("csrrs", 1, mode.scratch, 0);
    asm.s("sd", 1, 8 * 31, 31);
    asm.csr("csrrw", 0, mode.scratch, 31);
    asm.i("addi", 8, 31, 0);
    let shared = layout::SHARED - if mode.level == 3 { 0 } else { layout::SUPERVISOR_CONTEXT };
    asm.i("addi", 9, 8, shared as i64);
    for (rd, csr) in [(10, mode.cause), (11, mode.epc), (12, mode.tval), (13, mode.status)] {
        asm.csr("csrrs", rd, csr, 0);
    }
}

/// Logs the trap and mixes it into the hash. x14 = number of traps before, x20 = descriptor.
fn log(asm: &mut Asm, mode: &ModeCsrs, [no_room, known, valued]: [&'static str; 3]) {
    // See `MisalignedAtomicCause` in `known`: which of the two it is is not compared.
    asm.li(21, 6);
    asm.branch("bne", 10, 21, known);
    asm.li(10, 4);
    asm.csr("csrrw", 0, mode.cause, 10);
    asm.label(known);
    // See `PrivilegedTval` in `known`: the value is dropped where cases ask for that.
    asm.i("ld", 20, 9, var::CURRENT);
    asm.i("ld", 21, 20, desc::DROP_TVAL);
    asm.branch("beq", 21, 0, valued);
    asm.li(21, 2);
    asm.branch("bne", 10, 21, valued);
    asm.li(12, 0);
    asm.csr("csrrw", 0, mode.tval, 0);
    asm.label(valued);
    asm.i("ld", 14, 9, var::TRAPS);
    asm.i("addi", 15, 14, 1);
    asm.s("sd", 15, var::TRAPS, 9);
    asm.i("ld", 16, 9, var::RECORD);
    asm.li(17, record::LOG_LEN as u64);
    asm.branch("bgeu", 14, 17, no_room);
    asm.li(17, 8 * record::LOG_ENTRY as u64);
    asm.r("mul", 18, 14, 17);
    asm.r("add", 18, 18, 16);
    asm.li(17, mode.level.into());
    for (at, reg) in [10, 11, 12, 13, 17].into_iter().enumerate() {
        asm.s("sd", reg, 8 * (record::LOG + at) as i64, 18);
    }
    asm.label(no_room);
    asm.i("ld", 18, 9, var::HASH);
    asm.li(19, MIX);
    for reg in 10..14 {
        mix(asm, 18, reg, 19, 21);
    }
    asm.s("sd", 18, var::HASH, 9);
}

/// hash = mix(hash ^ value), with the multiplier in `by`.
pub(super) fn mix(asm: &mut Asm, hash: u32, value: u32, by: u32, temp: u32) {
    asm.r("xor", hash, hash, value);
    asm.r("mul", hash, hash, by);
    asm.i("srli", temp, hash, 29);
    asm.r("xor", hash, hash, temp);
}

/// An interrupt is disabled, and taken back where that can be done; then the case goes on.
fn interrupt(asm: &mut Asm, mode: &ModeCsrs, restore: &'static str) {
    asm.li(19, 1);
    asm.r("sll", 19, 19, 10);
    asm.csr("csrrc", 0, mode.enable, 19);
    asm.csr("csrrc", 0, mode.pending, 19);
    asm.jump(restore);
}

/// Takes the case on: behind the instruction, or at x1 if it was the fetch that trapped.
fn skip(asm: &mut Asm, mode: &ModeCsrs, labels: [&'static str; 3]) {
    let [by_link, set, restore] = labels;
    for cause in [0, 1, 12] {
        asm.li(21, cause);
        asm.branch("beq", 10, 21, by_link);
    }
    if mode.level == 3 {
        asm.i("srli", 21, 13, 11);
        asm.i("andi", 21, 21, 3);
    } else {
        asm.i("srli", 21, 13, 8);
        asm.i("andi", 21, 21, 1);
    }
    asm.i("slli", 21, 21, 3);
    asm.r("add", 21, 21, 20);
    asm.i("ld", 22, 21, desc::BASES);
    asm.i("ld", 23, 20, desc::BASES + 24);
    asm.r("sub", 24, 11, 22);
    asm.li(25, layout::CODE_SIZE);
    asm.branch("bgeu", 24, 25, by_link);
    asm.r("add", 24, 24, 23);
    asm.i("lhu", 24, 24, 0);
    asm.i("andi", 24, 24, 3);
    asm.i("addi", 24, 24, -3);
    asm.i("sltiu", 24, 24, 1);
    asm.i("slli", 24, 24, 1);
    asm.i("addi", 24, 24, 2);
    asm.r("add", 11, 11, 24);
    asm.jump(set);
    asm.label(by_link);
    asm.i("ld", 11, 8, 8);
    asm.i("andi", 11, 11, -2);
    asm.label(set);
    asm.csr("csrrw", 0, mode.epc, 11);
    asm.label(restore);
    restore_registers(asm);
}

fn restore_registers(asm: &mut Asm) {
    asm.i("addi", 31, 8, 0);
    for reg in 1..32 {
        asm.i("ld", reg, 31, 8 * i64::from(reg));
    }
}

/// Loads the address of the case's code in the mode whose number is in `mode`.
fn base_of(asm: &mut Asm, mode: u32, base: u32) {
    asm.i("slli", 28, mode, 3);
    asm.r("add", 28, 28, 20);
    asm.i("ld", base, 28, desc::BASES);
}

pub(super) fn machine_handler(asm: &mut Asm) {
    enter(asm, &M);
    log(asm, &M, ["m_no_room", "m_known", "m_valued"]);
    asm.branch("bge", 10, 0, "m_exception");
    interrupt(asm, &M, "m_restore");
    asm.label("m_exception");
    asm.li(19, layout::TRAP_LIMIT);
    asm.branch("bgeu", 14, 19, "case_end");
    // An ecall?
    asm.i("addi", 25, 10, -8);
    asm.li(21, 4);
    asm.branch("bgeu", 25, 21, "m_skip");
    base_of(asm, 25, 26);
    asm.i("ld", 22, 20, desc::EXIT);
    asm.r("add", 22, 22, 26);
    asm.branch("beq", 11, 22, "case_end");
    address(asm, "load_s_exit", 22);
    asm.branch("beq", 11, 22, "case_end");
    asm.i("ld", 22, 8, 8 * 17);
    asm.li(23, layout::SWITCH_MODE);
    asm.branch("bne", 22, 23, "m_skip");
    asm.i("ld", 24, 8, 8 * 16);
    // Asked once: the next call is not to find it still there.
    asm.s("sd", 0, 8 * 17, 8);
    base_of(asm, 24, 27);
    asm.r("sub", 11, 11, 26);
    asm.r("add", 11, 11, 27);
    asm.i("addi", 11, 11, 4);
    asm.li(28, MPP);
    asm.csr("csrrc", 0, M.status, 28);
    asm.i("slli", 24, 24, 11);
    asm.csr("csrrs", 0, M.status, 24);
    asm.jump("m_set");
    asm.label("m_skip");
    skip(asm, &M, ["m_by_link", "m_set", "m_restore"]);
    asm.op("mret", Default::default());
}

pub(super) fn supervisor_handler(asm: &mut Asm) {
    enter(asm, &S);
    log(asm, &S, ["s_no_room", "s_known", "s_valued"]);
    asm.branch("bge", 10, 0, "s_exception");
    interrupt(asm, &S, "s_restore");
    asm.label("s_exception");
    asm.li(19, layout::TRAP_LIMIT);
    asm.branch("bgeu", 14, 19, "s_end");
    asm.li(21, 8);
    asm.branch("bne", 10, 21, "s_skip");
    asm.i("ld", 22, 20, desc::EXIT);
    asm.i("ld", 23, 20, desc::BASES);
    asm.r("add", 22, 22, 23);
    asm.branch("beq", 11, 22, "s_end");
    asm.label("s_skip");
    skip(asm, &S, ["s_by_link", "s_set", "s_restore"]);
    asm.op("sret", Default::default());
    asm.label("s_end");
    restore_registers(asm);
    asm.label("s_exit");
    asm.op("ecall", Default::default());
}
