//! The 32-bit instructions of RV64IMAFD, Zicsr, Zifencei, Zba, Zbb and Zbs as one table, which serves the generator as
//! encoder, the reports as disassembler, and the search for illegal encodings as the list of what is legal.
//!
//! Source: The RISC-V Instruction Set Manual, volume I, "RV32/64G instruction set listings", and the
//! bit-manipulation chapter.

use std::fmt::Write;

/// What an instruction is about; the generator draws from these groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Set {
    /// Integer computation.
    Integer,
    /// Multiplication and division.
    Multiply,
    /// Zba, Zbb, Zbs.
    Bits,
    /// Integer loads and stores.
    Load,
    /// Integer stores.
    Store,
    /// Atomic read-modify-write.
    Amo,
    /// `lr` and `sc`.
    Reserve,
    /// Computation in single precision.
    Single,
    /// Computation in double precision.
    Double,
    /// Floating-point loads.
    FloatLoad,
    /// Floating-point stores.
    FloatStore,
    /// Conditional branches.
    Branch,
    /// `jal`, `jalr`.
    Jump,
    /// CSR access.
    Csr,
    /// Fences and everything privileged.
    System,
}

/// One instruction: its fixed bits, and its operands as a format.
///
/// A format names the fields in the order of the assembler: `d 1 2` integer registers, `D A B C` floating-point ones
/// (`C` is the third source), `i` a 12-bit immediate, `s` a store offset, `b` `j` branch and jump displacements, `u` an
/// upper immediate, `h` and `w` shift amounts of 6 and 5 bits, `r` the rounding mode, `q` the aq and rl bits, `c` a
/// CSR number, `z` a 5-bit immediate in the place of rs1, `f` the operands of `fence`. Other characters are printed.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// Name in the assembler.
    pub name: &'static str,
    /// The fixed bits.
    pub bits: u32,
    /// The operands.
    pub format: &'static str,
    /// What it is about.
    pub set: Set,
}

/// The values of an instruction's fields; those that its format does not name are not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// Destination.
    pub rd: u32,
    /// First source.
    pub rs1: u32,
    /// Second source.
    pub rs2: u32,
    /// Third source.
    pub rs3: u32,
    /// Immediate, displacement, shift amount or CSR number.
    pub imm: i64,
    /// Rounding mode.
    pub rm: u32,
    /// aq (bit 1) and rl (bit 0).
    pub aqrl: u32,
}

impl Insn {
    /// The instruction with its fields filled in.
    pub fn encode(&self, fields: &Fields) -> u32 {
        let imm = fields.imm as u32;
        self.format.chars().fold(self.bits, |word, letter| {
            word | match letter {
                'd' | 'D' => fields.rd << 7,
                '1' | 'A' | 'z' => fields.rs1 << 15,
                '2' | 'B' => fields.rs2 << 20,
                'C' => fields.rs3 << 27,
                'i' | 'c' => (imm & 0xfff) << 20,
                's' => (imm >> 5 & 0x7f) << 25 | (imm & 0x1f) << 7,
                'b' => branch_bits(imm),
                'j' => jump_bits(imm),
                'u' => imm & 0xffff_f000,
                'h' => (imm & 0x3f) << 20,
                'w' => (imm & 0x1f) << 20,
                'r' => fields.rm << 12,
                'q' => fields.aqrl << 25,
                'f' => (imm & 0xff) << 20,
                _ => 0,
            }
        })
    }

    /// The bits that are the same in every instance.
    pub fn mask(&self) -> u32 {
        let ones = Fields { rd: 31, rs1: 31, rs2: 31, rs3: 31, imm: -1, rm: 7, aqrl: 3 };
        let mut fields = Insn { bits: 0, ..*self }.encode(&ones);
        if self.format.contains('f') {
            // fm, rd and rs1 of a fence are ignored.
            fields |= 0xf00f_8f80;
        }
        !fields
    }

    /// Whether the rounding mode in `word` is one that exists.
    fn rounding_is_legal(&self, word: u32) -> bool {
        !self.format.contains('r') || !matches!(word >> 12 & 7, 5 | 6)
    }

    /// Whether any field of the format is a floating-point register.
    pub fn is_float(&self) -> bool {
        self.format.contains(['D', 'A', 'B', 'C'])
    }
}

/// The displacement of a branch, in its place.
pub fn branch_bits(imm: u32) -> u32 {
    (imm >> 12 & 1) << 31 | (imm >> 5 & 0x3f) << 25 | (imm >> 1 & 0xf) << 8 | (imm >> 11 & 1) << 7
}

/// The displacement of `jal`, in its place.
pub fn jump_bits(imm: u32) -> u32 {
    (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21 | (imm >> 11 & 1) << 20 | imm & 0xf_f000
}

/// The entry of the table that `word` is an instance of.
pub fn find(word: u32) -> Option<&'static Insn> {
    TABLE.iter().find(|insn| word & insn.mask() == insn.bits && insn.rounding_is_legal(word))
}

/// The entry with this name. Only for names that are written in this crate's source.
///
/// # Panics
/// There is no such instruction.
pub fn named(name: &str) -> &'static Insn {
    TABLE.iter().find(|insn| insn.name == name).unwrap_or_else(|| panic!("no instruction '{name}'"))
}

/// All of `set`.
pub fn all_of(set: Set) -> impl Iterator<Item = &'static Insn> {
    TABLE.iter().filter(move |insn| insn.set == set)
}

/// A line of assembler for `word`, a 32-bit instruction.
pub fn disassemble(word: u32) -> String {
    let Some(insn) = find(word) else { return format!(".4byte {word:#010x}") };
    let field = |shift: u32, bits: u32| word >> shift & ((1 << bits) - 1);
    let mut text = format!("{} ", insn.name);
    for letter in insn.format.chars() {
        // Writing into a String does not fail.
        let _ = match letter {
            'd' => write!(text, "x{}", field(7, 5)),
            '1' => write!(text, "x{}", field(15, 5)),
            '2' => write!(text, "x{}", field(20, 5)),
            'D' => write!(text, "f{}", field(7, 5)),
            'A' => write!(text, "f{}", field(15, 5)),
            'B' => write!(text, "f{}", field(20, 5)),
            'C' => write!(text, "f{}", field(27, 5)),
            'i' => write!(text, "{}", word as i32 >> 20),
            'c' => write!(text, "{:#x}", field(20, 12)),
            'z' => write!(text, "{}", field(15, 5)),
            's' => write!(text, "{}", (word as i32 >> 25) << 5 | field(7, 5) as i32),
            'b' => {
                let high = (word as i32 >> 31) << 12 | (field(7, 1) as i32) << 11;
                write!(text, ".{:+}", high | (field(25, 6) as i32) << 5 | (field(8, 4) as i32) << 1)
            }
            'j' => {
                let high = (word as i32 >> 31) << 20 | (word & 0xf_f000) as i32 | (field(20, 1) as i32) << 11;
                write!(text, ".{:+}", high | (field(21, 10) as i32) << 1)
            }
            'u' => write!(text, "{:#x}", word >> 12),
            'h' => write!(text, "{}", field(20, 6)),
            'w' => write!(text, "{}", field(20, 5)),
            'r' => write!(
                text,
                "{}",
                ["rne", "rtz", "rdn", "rup", "rmm", "?", "?", "dyn"][field(12, 3) as usize]
            ),
            'q' => write!(text, "{}", ["", ".rl", ".aq", ".aqrl"][field(25, 2) as usize]),
            other => write!(text, "{other}"),
        };
    }
    text
}

macro_rules! table {
    ($($set:ident { $($name:literal $bits:literal $format:literal;)* })*) => {
        /// Every 32-bit instruction.
        pub const TABLE: &[Insn] =
            &[$($(Insn { name: $name, bits: $bits, format: $format, set: Set::$set },)*)*];
    };
}

table! {
    Integer {
        "lui" 0x37 "d,u"; "auipc" 0x17 "d,u";
        "addi" 0x13 "d,1,i"; "slti" 0x2013 "d,1,i"; "sltiu" 0x3013 "d,1,i";
        "xori" 0x4013 "d,1,i"; "ori" 0x6013 "d,1,i"; "andi" 0x7013 "d,1,i";
        "slli" 0x1013 "d,1,h"; "srli" 0x5013 "d,1,h"; "srai" 0x4000_5013 "d,1,h";
        "addiw" 0x1b "d,1,i"; "slliw" 0x101b "d,1,w"; "srliw" 0x501b "d,1,w"; "sraiw" 0x4000_501b "d,1,w";
        "add" 0x33 "d,1,2"; "sub" 0x4000_0033 "d,1,2"; "sll" 0x1033 "d,1,2"; "slt" 0x2033 "d,1,2";
        "sltu" 0x3033 "d,1,2"; "xor" 0x4033 "d,1,2"; "srl" 0x5033 "d,1,2"; "sra" 0x4000_5033 "d,1,2";
        "or" 0x6033 "d,1,2"; "and" 0x7033 "d,1,2";
        "addw" 0x3b "d,1,2"; "subw" 0x4000_003b "d,1,2"; "sllw" 0x103b "d,1,2";
        "srlw" 0x503b "d,1,2"; "sraw" 0x4000_503b "d,1,2";
    }
    Multiply {
        "mul" 0x0200_0033 "d,1,2"; "mulh" 0x0200_1033 "d,1,2"; "mulhsu" 0x0200_2033 "d,1,2";
        "mulhu" 0x0200_3033 "d,1,2"; "div" 0x0200_4033 "d,1,2"; "divu" 0x0200_5033 "d,1,2";
        "rem" 0x0200_6033 "d,1,2"; "remu" 0x0200_7033 "d,1,2"; "mulw" 0x0200_003b "d,1,2";
        "divw" 0x0200_403b "d,1,2"; "divuw" 0x0200_503b "d,1,2"; "remw" 0x0200_603b "d,1,2";
        "remuw" 0x0200_703b "d,1,2";
    }
    Bits {
        "add.uw" 0x0800_003b "d,1,2"; "sh1add" 0x2000_2033 "d,1,2"; "sh2add" 0x2000_4033 "d,1,2";
        "sh3add" 0x2000_6033 "d,1,2"; "sh1add.uw" 0x2000_203b "d,1,2"; "sh2add.uw" 0x2000_403b "d,1,2";
        "sh3add.uw" 0x2000_603b "d,1,2"; "slli.uw" 0x0800_101b "d,1,h";
        "andn" 0x4000_7033 "d,1,2"; "orn" 0x4000_6033 "d,1,2"; "xnor" 0x4000_4033 "d,1,2";
        "clz" 0x6000_1013 "d,1"; "ctz" 0x6010_1013 "d,1"; "cpop" 0x6020_1013 "d,1";
        "clzw" 0x6000_101b "d,1"; "ctzw" 0x6010_101b "d,1"; "cpopw" 0x6020_101b "d,1";
        "sext.b" 0x6040_1013 "d,1"; "sext.h" 0x6050_1013 "d,1"; "zext.h" 0x0800_403b "d,1";
        "max" 0x0a00_6033 "d,1,2"; "maxu" 0x0a00_7033 "d,1,2"; "min" 0x0a00_4033 "d,1,2"; "minu" 0x0a00_5033 "d,1,2";
        "rol" 0x6000_1033 "d,1,2"; "ror" 0x6000_5033 "d,1,2"; "rori" 0x6000_5013 "d,1,h";
        "rolw" 0x6000_103b "d,1,2"; "rorw" 0x6000_503b "d,1,2"; "roriw" 0x6000_501b "d,1,w";
        "orc.b" 0x2870_5013 "d,1"; "rev8" 0x6b80_5013 "d,1";
        "bclr" 0x4800_1033 "d,1,2"; "bext" 0x4800_5033 "d,1,2"; "binv" 0x6800_1033 "d,1,2"; "bset" 0x2800_1033 "d,1,2";
        "bclri" 0x4800_1013 "d,1,h"; "bexti" 0x4800_5013 "d,1,h"; "binvi" 0x6800_1013 "d,1,h"; "bseti" 0x2800_1013 "d,1,h";
    }
    Load {
        "lb" 0x03 "d,i(1)"; "lh" 0x1003 "d,i(1)"; "lw" 0x2003 "d,i(1)"; "ld" 0x3003 "d,i(1)";
        "lbu" 0x4003 "d,i(1)"; "lhu" 0x5003 "d,i(1)"; "lwu" 0x6003 "d,i(1)";
    }
    Store {
        "sb" 0x23 "2,s(1)"; "sh" 0x1023 "2,s(1)"; "sw" 0x2023 "2,s(1)"; "sd" 0x3023 "2,s(1)";
    }
    Amo {
        "amoswap.w" 0x0800_202f "q d,2,(1)"; "amoadd.w" 0x202f "q d,2,(1)"; "amoxor.w" 0x2000_202f "q d,2,(1)";
        "amoand.w" 0x6000_202f "q d,2,(1)"; "amoor.w" 0x4000_202f "q d,2,(1)"; "amomin.w" 0x8000_202f "q d,2,(1)";
        "amomax.w" 0xa000_202f "q d,2,(1)"; "amominu.w" 0xc000_202f "q d,2,(1)"; "amomaxu.w" 0xe000_202f "q d,2,(1)";
        "amoswap.d" 0x0800_302f "q d,2,(1)"; "amoadd.d" 0x302f "q d,2,(1)"; "amoxor.d" 0x2000_302f "q d,2,(1)";
        "amoand.d" 0x6000_302f "q d,2,(1)"; "amoor.d" 0x4000_302f "q d,2,(1)"; "amomin.d" 0x8000_302f "q d,2,(1)";
        "amomax.d" 0xa000_302f "q d,2,(1)"; "amominu.d" 0xc000_302f "q d,2,(1)"; "amomaxu.d" 0xe000_302f "q d,2,(1)";
    }
    Reserve {
        "lr.w" 0x1000_202f "q d,(1)"; "sc.w" 0x1800_202f "q d,2,(1)";
        "lr.d" 0x1000_302f "q d,(1)"; "sc.d" 0x1800_302f "q d,2,(1)";
    }
    Single {
        "fmadd.s" 0x43 "D,A,B,C,r"; "fmsub.s" 0x47 "D,A,B,C,r"; "fnmsub.s" 0x4b "D,A,B,C,r"; "fnmadd.s" 0x4f "D,A,B,C,r";
        "fadd.s" 0x53 "D,A,B,r"; "fsub.s" 0x0800_0053 "D,A,B,r"; "fmul.s" 0x1000_0053 "D,A,B,r";
        "fdiv.s" 0x1800_0053 "D,A,B,r"; "fsqrt.s" 0x5800_0053 "D,A,r";
        "fsgnj.s" 0x2000_0053 "D,A,B"; "fsgnjn.s" 0x2000_1053 "D,A,B"; "fsgnjx.s" 0x2000_2053 "D,A,B";
        "fmin.s" 0x2800_0053 "D,A,B"; "fmax.s" 0x2800_1053 "D,A,B";
        "fle.s" 0xa000_0053 "d,A,B"; "flt.s" 0xa000_1053 "d,A,B"; "feq.s" 0xa000_2053 "d,A,B"; "fclass.s" 0xe000_1053 "d,A";
        "fcvt.w.s" 0xc000_0053 "d,A,r"; "fcvt.wu.s" 0xc010_0053 "d,A,r"; "fcvt.l.s" 0xc020_0053 "d,A,r";
        "fcvt.lu.s" 0xc030_0053 "d,A,r"; "fcvt.s.w" 0xd000_0053 "D,1,r"; "fcvt.s.wu" 0xd010_0053 "D,1,r";
        "fcvt.s.l" 0xd020_0053 "D,1,r"; "fcvt.s.lu" 0xd030_0053 "D,1,r";
        "fmv.x.w" 0xe000_0053 "d,A"; "fmv.w.x" 0xf000_0053 "D,1";
    }
    Double {
        "fmadd.d" 0x0200_0043 "D,A,B,C,r"; "fmsub.d" 0x0200_0047 "D,A,B,C,r"; "fnmsub.d" 0x0200_004b "D,A,B,C,r";
        "fnmadd.d" 0x0200_004f "D,A,B,C,r"; "fadd.d" 0x0200_0053 "D,A,B,r"; "fsub.d" 0x0a00_0053 "D,A,B,r";
        "fmul.d" 0x1200_0053 "D,A,B,r"; "fdiv.d" 0x1a00_0053 "D,A,B,r"; "fsqrt.d" 0x5a00_0053 "D,A,r";
        "fsgnj.d" 0x2200_0053 "D,A,B"; "fsgnjn.d" 0x2200_1053 "D,A,B"; "fsgnjx.d" 0x2200_2053 "D,A,B";
        "fmin.d" 0x2a00_0053 "D,A,B"; "fmax.d" 0x2a00_1053 "D,A,B";
        "fle.d" 0xa200_0053 "d,A,B"; "flt.d" 0xa200_1053 "d,A,B"; "feq.d" 0xa200_2053 "d,A,B"; "fclass.d" 0xe200_1053 "d,A";
        "fcvt.w.d" 0xc200_0053 "d,A,r"; "fcvt.wu.d" 0xc210_0053 "d,A,r"; "fcvt.l.d" 0xc220_0053 "d,A,r";
        "fcvt.lu.d" 0xc230_0053 "d,A,r"; "fcvt.d.w" 0xd200_0053 "D,1,r"; "fcvt.d.wu" 0xd210_0053 "D,1,r";
        "fcvt.d.l" 0xd220_0053 "D,1,r"; "fcvt.d.lu" 0xd230_0053 "D,1,r";
        "fmv.x.d" 0xe200_0053 "d,A"; "fmv.d.x" 0xf200_0053 "D,1";
        "fcvt.s.d" 0x4010_0053 "D,A,r"; "fcvt.d.s" 0x4200_0053 "D,A,r";
    }
    FloatLoad { "flw" 0x2007 "D,i(1)"; "fld" 0x3007 "D,i(1)"; }
    FloatStore { "fsw" 0x2027 "B,s(1)"; "fsd" 0x3027 "B,s(1)"; }
    Branch {
        "beq" 0x63 "1,2,b"; "bne" 0x1063 "1,2,b"; "blt" 0x4063 "1,2,b"; "bge" 0x5063 "1,2,b";
        "bltu" 0x6063 "1,2,b"; "bgeu" 0x7063 "1,2,b";
    }
    Jump { "jal" 0x6f "d,j"; "jalr" 0x67 "d,i(1)"; }
    Csr {
        "csrrw" 0x1073 "d,c,1"; "csrrs" 0x2073 "d,c,1"; "csrrc" 0x3073 "d,c,1";
        "csrrwi" 0x5073 "d,c,z"; "csrrsi" 0x6073 "d,c,z"; "csrrci" 0x7073 "d,c,z";
    }
    System {
        "fence" 0x0f "f"; "fence.i" 0x100f "";
        "ecall" 0x73 ""; "ebreak" 0x0010_0073 ""; "mret" 0x3020_0073 ""; "sret" 0x1020_0073 "";
        "wfi" 0x1050_0073 ""; "sfence.vma" 0x1200_0073 "1,2";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_own_encoding_and_no_two_overlap() {
        for insn in TABLE {
            let fields = Fields { rd: 9, rs1: 10, rs2: 11, rs3: 12, imm: 0x2a, rm: 4, aqrl: 1 };
            let word = insn.encode(&fields);
            assert_eq!(insn.bits & !insn.mask(), 0, "{}: fixed bits in a field", insn.name);
            let found: Vec<_> = TABLE
                .iter()
                .filter(|other| word & other.mask() == other.bits)
                .map(|other| other.name)
                .collect();
            assert_eq!(found, [insn.name], "{word:#x}");
        }
    }

    #[test]
    fn disassembles_each_kind_of_operand() {
        for (word, text) in [
            (0x0027_80a3_u32, "sb x2,1(x15)"),
            (0xfe94_1ee3, "bne x8,x9,.-4"),
            (0xffdf_f0ef, "jal x1,.-4"),
            (0x3002_90f3, "csrrw x1,0x300,x5"),
            (0x0220_f053, "fadd.d f0,f1,f2,dyn"),
            (0xffff_ffff, ".4byte 0xffffffff"),
        ] {
            assert_eq!(disassemble(word), text);
        }
    }
}
