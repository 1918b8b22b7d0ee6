//! The registers as gdb numbers them, and the description of the target that it reads.
//!
//! Features and names are those of gdb's RISC-V port ("RISC-V Features" in its manual). Integer registers and pc are in
//! `g`; all others are read one by one when somebody looks at them.

use std::fmt::Write as _;

use vmcore::Register;

/// Registers that `g` and `G` carry: x0 to x31, and pc.
pub(crate) const GENERAL: u64 = 33;
const FIRST_FLOAT: u64 = 33;
const FIRST_CSR: u64 = 65;
const PRIVILEGE: u64 = FIRST_CSR + 4096;

const INTEGER_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

const FLOAT_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4",
    "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8",
    "ft9", "ft10", "ft11",
];

/// Control and status registers that gdb shows, by address.
const CSRS: [(u16, &str); 50] = [
    (0x100, "sstatus"),
    (0x104, "sie"),
    (0x105, "stvec"),
    (0x106, "scounteren"),
    (0x10a, "senvcfg"),
    (0x140, "sscratch"),
    (0x141, "sepc"),
    (0x142, "scause"),
    (0x143, "stval"),
    (0x144, "sip"),
    (0x14d, "stimecmp"),
    (0x180, "satp"),
    (0x300, "mstatus"),
    (0x301, "misa"),
    (0x302, "medeleg"),
    (0x303, "mideleg"),
    (0x304, "mie"),
    (0x305, "mtvec"),
    (0x306, "mcounteren"),
    (0x30a, "menvcfg"),
    (0x320, "mcountinhibit"),
    (0x340, "mscratch"),
    (0x341, "mepc"),
    (0x342, "mcause"),
    (0x343, "mtval"),
    (0x344, "mip"),
    (0x3a0, "pmpcfg0"),
    (0x3a2, "pmpcfg2"),
    (0x3b0, "pmpaddr0"),
    (0x3b1, "pmpaddr1"),
    (0x3b2, "pmpaddr2"),
    (0x3b3, "pmpaddr3"),
    (0x3b4, "pmpaddr4"),
    (0x3b5, "pmpaddr5"),
    (0x3b6, "pmpaddr6"),
    (0x3b7, "pmpaddr7"),
    (0x3b8, "pmpaddr8"),
    (0x3b9, "pmpaddr9"),
    (0x3ba, "pmpaddr10"),
    (0x3bb, "pmpaddr11"),
    (0x3bc, "pmpaddr12"),
    (0x3bd, "pmpaddr13"),
    (0x3be, "pmpaddr14"),
    (0x3bf, "pmpaddr15"),
    (0xb00, "mcycle"),
    (0xb02, "minstret"),
    (0xc00, "cycle"),
    (0xc01, "time"),
    (0xc02, "instret"),
    (0xf14, "mhartid"),
];

/// The register with gdb's number `number`.
pub(crate) fn register(number: u64) -> Option<Register> {
    let below = |first: u64| u8::try_from(number - first).ok();
    Some(match number {
        0..=31 => Register::Integer(below(0)?),
        32 => Register::Pc,
        FIRST_FLOAT..FIRST_CSR => Register::Float(below(FIRST_FLOAT)?),
        FIRST_CSR..PRIVILEGE => Register::Csr(u16::try_from(number - FIRST_CSR).ok()?),
        PRIVILEGE => Register::Privilege,
        _ => return None,
    })
}

/// How many bytes gdb takes the register for.
pub(crate) fn width(register: Register) -> usize {
    // fflags, frm and fcsr are described with 32 bits.
    if matches!(register, Register::Csr(1..=3)) { 4 } else { 8 }
}

/// `target.xml`.
pub(crate) fn description() -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">\
         <architecture>riscv:rv64</architecture>",
    );
    let mut add = |line: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ = xml.write_fmt(line);
    };
    add(format_args!("<feature name=\"org.gnu.gdb.riscv.cpu\">"));
    for (number, name) in INTEGER_NAMES.iter().enumerate() {
        let kind = match *name {
            "ra" => "code_ptr",
            "sp" | "gp" | "tp" | "fp" => "data_ptr",
            _ => "int",
        };
        add(format_args!("<reg name=\"{name}\" bitsize=\"64\" type=\"{kind}\" regnum=\"{number}\"/>"));
    }
    add(format_args!("<reg name=\"pc\" bitsize=\"64\" type=\"code_ptr\" regnum=\"32\"/></feature>"));
    add(format_args!("<feature name=\"org.gnu.gdb.riscv.fpu\">"));
    for (number, name) in (FIRST_FLOAT..).zip(FLOAT_NAMES) {
        add(format_args!("<reg name=\"{name}\" bitsize=\"64\" type=\"ieee_double\" regnum=\"{number}\"/>"));
    }
    for (number, name) in (FIRST_CSR + 1..).zip(["fflags", "frm", "fcsr"]) {
        add(format_args!("<reg name=\"{name}\" bitsize=\"32\" type=\"int\" regnum=\"{number}\"/>"));
    }
    add(format_args!("</feature><feature name=\"org.gnu.gdb.riscv.virtual\">"));
    add(format_args!("<reg name=\"priv\" bitsize=\"64\" type=\"int\" regnum=\"{PRIVILEGE}\"/></feature>"));
    add(format_args!("<feature name=\"org.gnu.gdb.riscv.csr\">"));
    for (csr, name) in CSRS {
        let number = FIRST_CSR + u64::from(csr);
        add(format_args!("<reg name=\"{name}\" bitsize=\"64\" type=\"int\" regnum=\"{number}\"/>"));
    }
    add(format_args!("</feature></target>"));
    xml
}
