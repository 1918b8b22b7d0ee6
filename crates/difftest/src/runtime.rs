//! The program that runs the cases: sets each one up, enters it, takes its traps and writes its record.
//!
//! ```text
//!   next_case ── mret ──► case ── trap ──► handler (M, or S if delegated): logs, skips the instruction ──► case
//!       ▲                   │
//!       └──── case_end ◄────┘ the exit ecall, or too many traps
//! ```
//!
//! A trap handler goes on behind the instruction that trapped; after a trap of a fetch, at x1 (cases jump to doubtful places
//! with x1 as the link only). Handlers always run where instruction and data addresses are physical or mapped
//! one to one, and find the case's code through the bases in its descriptor.

mod handlers;

use self::handlers::{M, MIX, S, machine_handler, mix, supervisor_handler};
use crate::asm::Asm;
use crate::layout::{self, desc, record};

const MPRV: u64 = 1 << 17;
/// Bits of `mip` that programs can write.
const SOFTWARE_PENDING: i64 = 0x222;
const FS: u64 = 3 << 13;

/// Variables that both handlers share. Byte offsets.
mod var {
    /// The running case's descriptor.
    pub const CURRENT: i64 = 0;
    /// Traps so far.
    pub const TRAPS: i64 = 8;
    /// Hash of the traps so far.
    pub const HASH: i64 = 16;
    /// The running case's record.
    pub const RECORD: i64 = 24;
    /// Behind the last descriptor.
    pub const END: i64 = 32;
}

/// The runtime's code, for the start of RAM; `cases` descriptors follow at [`layout::CASES`].
pub fn assemble(cases: u64) -> Vec<u16> {
    let mut asm = Asm::new();
    // mtvec and stvec must be aligned; the handlers come first, behind a jump.
    asm.jump("start");
    asm.half(1);
    asm.half(1);
    asm.label("m_handler");
    machine_handler(&mut asm);
    case_end(&mut asm);
    start(&mut asm, cases);
    next_case(&mut asm);
    finish(&mut asm);
    while !asm.len().is_multiple_of(8) {
        asm.half(1);
    }
    let supervisor = asm.len() as u64;
    supervisor_handler(&mut asm);
    patch_addresses(asm, supervisor)
}

/// Fills in the addresses that only the finished layout tells.
fn patch_addresses(asm: Asm, supervisor: u64) -> Vec<u16> {
    let exit = asm.offset_of("s_exit");
    let places = [("load_s_exit", exit), ("load_stvec", supervisor)].map(|(at, to)| (asm.offset_of(at), to));
    let mut code = asm.finish();
    for (at, to) in places {
        // `auipc` and `addi` stand there; the distance from the first is split between them.
        let distance = to as i64 - at as i64;
        let low = distance << 52 >> 52;
        or_word(&mut code, at, (distance - low) as u32);
        or_word(&mut code, at + 4, (low as u32 & 0xfff) << 20);
    }
    code
}

/// Sets bits in the instruction at byte `offset`.
fn or_word(code: &mut [u16], offset: u64, bits: u32) {
    let index = offset as usize / 2;
    code[index] |= bits as u16;
    code[index + 1] |= (bits >> 16) as u16;
}

/// Leaves room for an address to be loaded into `rd`.
fn address(asm: &mut Asm, label: &'static str, rd: u32) {
    asm.label(label);
    asm.op("auipc", crate::isa::Fields { rd, ..Default::default() });
    asm.i("addi", rd, rd, 0);
}

/// Writes the record: x8 = the machine handler's context, x9 = shared variables.
fn case_end(asm: &mut Asm) {
    asm.label("case_end");
    asm.li(17, MPRV);
    asm.csr("csrrc", 13, M.status, 17);
    asm.li(17, FS);
    asm.csr("csrrs", 0, M.status, 17);
    asm.i("ld", 16, 9, var::RECORD);
    let put = |asm: &mut Asm, reg: u32, at: usize| asm.s("sd", reg, 8 * at as i64, 16);
    asm.csr("csrrs", 18, 0x003, 0);
    put(asm, 18, record::FCSR);
    put(asm, 13, record::CSR);
    for (at, (_, csr)) in layout::CSRS.iter().enumerate() {
        asm.csr("csrrs", 17, *csr, 0);
        if *csr == M.pending {
            // The others are wires of devices that only one side has.
            asm.i("andi", 17, 17, SOFTWARE_PENDING);
        }
        put(asm, 17, record::CSR + 1 + at);
    }
    // A protected region that is smaller than an access stops even machine mode.
    asm.csr("csrrw", 0, 0x3a0, 0);
    for reg in 1..32 {
        asm.i("ld", 17, 8, 8 * i64::from(reg));
        put(asm, 17, record::X + reg as usize);
    }
    for reg in 0..32 {
        asm.s("fsd", reg, 8 * (record::F as i64 + i64::from(reg)), 16);
    }
    for (from, to) in [(var::TRAPS, record::TRAPS), (var::HASH, record::TRAP_HASH)] {
        asm.i("ld", 17, 9, from);
        put(asm, 17, to);
    }
    asm.i("ld", 20, 9, var::CURRENT);
    asm.i("ld", 21, 20, desc::SCRATCH_LEN);
    asm.li(22, layout::SCRATCH);
    asm.r("add", 21, 21, 22);
    asm.li(18, 0);
    asm.li(19, MIX);
    asm.label("hash_scratch");
    asm.i("ld", 23, 22, 0);
    mix(asm, 18, 23, 19, 24);
    asm.i("addi", 22, 22, 8);
    asm.branch("bltu", 22, 21, "hash_scratch");
    put(asm, 18, record::SCRATCH_HASH);
    asm.li(17, record::DONE_MARK);
    put(asm, 17, record::DONE);
    asm.i("addi", 20, 20, desc::SIZE);
    asm.s("sd", 20, var::CURRENT, 9);
    asm.li(17, 8 * record::WORDS as u64);
    asm.r("add", 16, 16, 17);
    asm.s("sd", 16, var::RECORD, 9);
    asm.jump("next_case");
}

fn start(asm: &mut Asm, cases: u64) {
    asm.label("start");
    asm.li(5, layout::RAM + asm.offset_of("m_handler"));
    asm.csr("csrrw", 0, 0x305, 5);
    asm.li(9, layout::CONTEXT + layout::SHARED);
    for (var, value) in [
        (var::CURRENT, layout::CASES),
        (var::RECORD, layout::RESULTS),
        (var::END, layout::CASES + cases * desc::SIZE as u64),
    ] {
        asm.li(5, value);
        asm.s("sd", 5, var, 9);
    }
}

/// Sets the next case up and enters it.
fn next_case(asm: &mut Asm) {
    asm.label("next_case");
    asm.li(8, layout::CONTEXT);
    asm.li(9, layout::CONTEXT + layout::SHARED);
    asm.i("ld", 20, 9, var::CURRENT);
    asm.i("ld", 21, 9, var::END);
    asm.branch("beq", 20, 21, "finish");
    asm.s("sd", 0, var::TRAPS, 9);
    asm.s("sd", 0, var::HASH, 9);
    set_csrs(asm);
    make_copies(asm);
    fill_scratch(asm);
    asm.op("fence.i", Default::default());
    asm.li(5, FS);
    asm.csr("csrrw", 0, M.status, 5);
    for reg in 0..32 {
        asm.i("fld", reg, 20, desc::F + 8 * i64::from(reg));
    }
    let csrs_last =
        [(0x003, desc::FCSR), (M.status, desc::MSTATUS), (M.epc, desc::ENTRY), (0x180, desc::SATP)];
    for (csr, from) in csrs_last {
        asm.i("ld", 5, 20, from);
        asm.csr("csrrw", 0, csr, 5);
    }
    asm.op("sfence.vma", Default::default());
    asm.i("addi", 31, 20, 0);
    for reg in 1..32 {
        asm.i("ld", reg, 31, desc::X + 8 * i64::from(reg));
    }
    asm.op("mret", Default::default());
}

/// Puts every CSR that a case may have changed to a known value.
fn set_csrs(asm: &mut Asm) {
    asm.csr("csrrw", 0, 0x180, 0);
    asm.op("sfence.vma", Default::default());
    asm.csr("csrrw", 0, M.scratch, 8);
    asm.i("addi", 5, 8, layout::SUPERVISOR_CONTEXT as i64);
    asm.csr("csrrw", 0, S.scratch, 5);
    address(asm, "load_stvec", 5);
    asm.csr("csrrw", 0, 0x105, 5);
    // menvcfg, mip, sepc, scause, stval, pmpcfg0
    for csr in [0x30a, M.pending, S.epc, S.cause, S.tval, 0x3a0] {
        asm.csr("csrrw", 0, csr, 0);
    }
    for csr in 0x3b1..0x3b8 {
        asm.csr("csrrw", 0, csr, 0);
    }
    // One PMP entry for all of memory, readable, writable, executable (NAPOT).
    asm.li(5, u64::MAX >> 10);
    asm.csr("csrrw", 0, 0x3b0, 5);
    asm.li(5, 0x1f);
    asm.csr("csrrw", 0, 0x3a0, 5);
    for (csr, from) in [
        (0x302, desc::MEDELEG),
        (0x303, desc::MIDELEG),
        (M.enable, desc::MIE),
        (0x306, desc::COUNTEREN),
        (0x106, desc::COUNTEREN),
    ] {
        asm.i("ld", 5, 20, from);
        asm.csr("csrrw", 0, csr, 5);
    }
}

fn make_copies(asm: &mut Asm) {
    asm.i("ld", 21, 20, desc::COPIES);
    asm.i("ld", 22, 20, desc::COPY_LIST);
    asm.label("next_copy");
    asm.branch("beq", 21, 0, "copied");
    for (reg, at) in [(23, 0), (24, 8), (25, 16)] {
        asm.i("ld", reg, 22, at);
    }
    asm.r("add", 25, 25, 23);
    asm.label("copy");
    asm.i("ld", 26, 24, 0);
    asm.s("sd", 26, 0, 23);
    asm.i("addi", 23, 23, 8);
    asm.i("addi", 24, 24, 8);
    asm.branch("bltu", 23, 25, "copy");
    asm.i("addi", 22, 22, 24);
    asm.i("addi", 21, 21, -1);
    asm.jump("next_copy");
    asm.label("copied");
}

/// Fills the scratch memory from the seed by xorshift (Marsaglia 2003).
fn fill_scratch(asm: &mut Asm) {
    asm.i("ld", 21, 20, desc::SEED);
    asm.i("ld", 22, 20, desc::SCRATCH_LEN);
    asm.li(23, layout::SCRATCH);
    asm.r("add", 22, 22, 23);
    asm.label("fill");
    for (name, by) in [("slli", 13), ("srli", 7), ("slli", 17)] {
        asm.i(name, 24, 21, by);
        asm.r("xor", 21, 21, 24);
    }
    asm.s("sd", 21, 0, 23);
    asm.i("addi", 23, 23, 8);
    asm.branch("bltu", 23, 22, "fill");
}

/// Says a word on the UART and ends the machine.
fn finish(asm: &mut Asm) {
    asm.label("finish");
    asm.li(5, layout::UART);
    for byte in *b"done\n" {
        asm.li(6, byte.into());
        asm.s("sb", 6, 0, 5);
    }
    asm.li(5, layout::FINISHER.0);
    asm.li(6, layout::FINISHER.1.into());
    asm.s("sw", 6, 0, 5);
    asm.label("forever");
    asm.jump("forever");
}
