//! A hart in words, for the human monitor's `info registers`.

use std::fmt::Write;

use crate::csr::status;
use crate::hart::Hart;
use crate::op::F0;

const X_NAMES: [&str; 32] = [
    "x0/zero", "x1/ra", "x2/sp", "x3/gp", "x4/tp", "x5/t0", "x6/t1", "x7/t2", "x8/s0", "x9/s1", "x10/a0",
    "x11/a1", "x12/a2", "x13/a3", "x14/a4", "x15/a5", "x16/a6", "x17/a7", "x18/s2", "x19/s3", "x20/s4",
    "x21/s5", "x22/s6", "x23/s7", "x24/s8", "x25/s9", "x26/s10", "x27/s11", "x28/t3", "x29/t4", "x30/t5",
    "x31/t6",
];

impl Hart {
    pub(crate) fn describe_registers(&self) -> String {
        let csr = &self.csr;
        let named: [(&str, u64); 21] = [
            ("mhartid", self.shared.id().into()),
            ("mstatus", status::read(csr.mstatus)),
            ("mip", self.pending()),
            ("mie", csr.mie),
            ("mideleg", csr.mideleg),
            ("medeleg", csr.medeleg),
            ("mtvec", csr.mtvec),
            ("stvec", csr.stvec),
            ("mepc", csr.mepc),
            ("sepc", csr.sepc),
            ("mcause", csr.mcause),
            ("scause", csr.scause),
            ("mtval", csr.mtval),
            ("stval", csr.stval),
            ("mscratch", csr.mscratch),
            ("sscratch", csr.sscratch),
            ("satp", csr.satp),
            ("stimecmp", self.shared.stimecmp()),
            ("menvcfg", csr.menvcfg),
            ("instret", self.retired_now()),
            ("fcsr", u64::from(csr.frm) << 5 | u64::from(csr.fflags)),
        ];
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(text, " {:<8} {:016x} {}", "pc", self.pc, self.mode.letter());
        for (name, value) in named {
            let _ = writeln!(text, " {name:<8} {value:016x}");
        }
        table(&mut text, |at| (X_NAMES[at].to_owned(), self.x[at]));
        table(&mut text, |at| (format!("f{at}"), self.x[usize::from(F0) + at]));
        text
    }
}

fn table(text: &mut String, entry: impl Fn(usize) -> (String, u64)) {
    for at in 0..32 {
        let (name, value) = entry(at);
        let end = if at % 4 == 3 { '\n' } else { ' ' };
        let _ = write!(text, " {name:<8} {value:016x}{end}");
    }
}
