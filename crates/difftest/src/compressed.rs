//! The 16-bit instructions of RV64C: encodings with the fields that the generator has to choose with care.
//!
//! Source: The RISC-V Instruction Set Manual, volume I, chapter "C" (RVC instruction set listings).

/// Where an instruction's operands lie, as far as the generator must know. All other free bits are immediates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Destination in bits 7 to 11, not x0; other free bits arbitrary.
    Rd,
    /// Destination in bits 7 to 11, not x0, and the immediate not 0.
    RdNonzero,
    /// Destination in bits 7 to 11 and source in 2 to 6, neither x0.
    RdRs2,
    /// Destination x8 to x15 in bits 7 to 9.
    Short,
    /// Destination x8 to x15 in bits 7 to 9, source x8 to x15 in bits 2 to 4.
    ShortShort,
    /// `c.addi4spn`: destination x8 to x15 in bits 2 to 4, the immediate not 0.
    Addi4spn,
    /// Load to an integer register in bits 2 to 4, base in bits 7 to 9.
    Load,
    /// Load to a floating-point register in bits 2 to 4, base in bits 7 to 9.
    FloatLoad,
    /// Store of any register in bits 2 to 4, base in bits 7 to 9.
    Store,
    /// Load to an integer register in bits 7 to 11, not x0, relative to x2.
    LoadSp,
    /// Load to a floating-point register in bits 7 to 11, relative to x2.
    FloatLoadSp,
    /// Store of any register in bits 2 to 6, relative to x2.
    StoreSp,
}

/// One 16-bit instruction.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    /// Name in the assembler.
    pub name: &'static str,
    /// The fixed bits.
    pub bits: u16,
    /// Which bits are fixed.
    pub mask: u16,
    /// Its operands.
    pub shape: Shape,
}

const fn short(name: &'static str, bits: u16, mask: u16, shape: Shape) -> Short {
    Short { name, bits, mask, shape }
}

/// Everything but jumps, branches and `c.ebreak`.
pub const TABLE: &[Short] = &[
    short("c.addi4spn", 0x0000, 0xe003, Shape::Addi4spn),
    short("c.fld", 0x2000, 0xe003, Shape::FloatLoad),
    short("c.lw", 0x4000, 0xe003, Shape::Load),
    short("c.ld", 0x6000, 0xe003, Shape::Load),
    short("c.fsd", 0xa000, 0xe003, Shape::Store),
    short("c.sw", 0xc000, 0xe003, Shape::Store),
    short("c.sd", 0xe000, 0xe003, Shape::Store),
    short("c.addi", 0x0001, 0xe003, Shape::Rd),
    short("c.addiw", 0x2001, 0xe003, Shape::Rd),
    short("c.li", 0x4001, 0xe003, Shape::Rd),
    short("c.lui", 0x6001, 0xe003, Shape::RdNonzero),
    short("c.srli", 0x8001, 0xec03, Shape::Short),
    short("c.srai", 0x8401, 0xec03, Shape::Short),
    short("c.andi", 0x8801, 0xec03, Shape::Short),
    short("c.sub", 0x8c01, 0xfc63, Shape::ShortShort),
    short("c.xor", 0x8c21, 0xfc63, Shape::ShortShort),
    short("c.or", 0x8c41, 0xfc63, Shape::ShortShort),
    short("c.and", 0x8c61, 0xfc63, Shape::ShortShort),
    short("c.subw", 0x9c01, 0xfc63, Shape::ShortShort),
    short("c.addw", 0x9c21, 0xfc63, Shape::ShortShort),
    short("c.slli", 0x0002, 0xe003, Shape::Rd),
    short("c.fldsp", 0x2002, 0xe003, Shape::FloatLoadSp),
    short("c.lwsp", 0x4002, 0xe003, Shape::LoadSp),
    short("c.ldsp", 0x6002, 0xe003, Shape::LoadSp),
    short("c.mv", 0x8002, 0xf003, Shape::RdRs2),
    short("c.add", 0x9002, 0xf003, Shape::RdRs2),
    short("c.fsdsp", 0xa002, 0xe003, Shape::StoreSp),
    short("c.swsp", 0xc002, 0xe003, Shape::StoreSp),
    short("c.sdsp", 0xe002, 0xe003, Shape::StoreSp),
];

/// `ret`: what the pages that are only jumped to consist of.
pub const RET: u16 = 0x8082;
/// `c.ebreak`.
pub const EBREAK: u16 = 0x9002;

/// `c.j` by `offset` bytes.
pub fn jump(offset: i32) -> u16 {
    let bit = |from: u32, to: u32| (offset as u32 >> from & 1) << to;
    let imm = bit(11, 12)
        | bit(4, 11)
        | bit(9, 10)
        | bit(8, 9)
        | bit(10, 8)
        | bit(6, 7)
        | bit(7, 6)
        | bit(3, 5)
        | bit(2, 4)
        | bit(1, 3)
        | bit(5, 2);
    0xa001 | imm as u16
}

/// `c.beqz` or `c.bnez` of x`8 + short` by `offset` bytes.
pub fn branch(on_zero: bool, short: u16, offset: i32) -> u16 {
    let bit = |from: u32, to: u32| (offset as u32 >> from & 1) << to;
    let imm =
        bit(8, 12) | bit(4, 11) | bit(3, 10) | bit(7, 6) | bit(6, 5) | bit(2, 4) | bit(1, 3) | bit(5, 2);
    (if on_zero { 0xc001 } else { 0xe001 }) | (short & 7) << 7 | imm as u16
}

/// `c.jr` of x`reg`, or `c.jalr`.
pub fn jump_register(reg: u16, link: bool) -> u16 {
    0x8002 | u16::from(link) << 12 | (reg & 31) << 7
}

/// A line of assembler for a 16-bit instruction; immediates are left in the hexadecimal form.
pub fn disassemble(half: u16) -> String {
    let name = match half {
        0 => "c.unimp",
        EBREAK => "c.ebreak",
        _ if half & 0xf07f == 0x8002 => "c.jr",
        _ if half & 0xf07f == 0x9002 => "c.jalr",
        _ if half & 0xe003 == 0xa001 => "c.j",
        _ if half & 0xe003 == 0xc001 => "c.beqz",
        _ if half & 0xe003 == 0xe001 => "c.bnez",
        _ => TABLE.iter().find(|insn| half & insn.mask == insn.bits).map_or(".2byte", |insn| insn.name),
    };
    format!(
        "{name} [rd x{}, short x{} x{}, rs2 x{}]",
        half >> 7 & 31,
        8 + (half >> 7 & 7),
        8 + (half >> 2 & 7),
        half >> 2 & 31
    )
}

/// Whether no 16-bit instruction of RV64GC has this encoding.
pub fn is_illegal(half: u16) -> bool {
    let (rd, imm) = (half >> 7 & 31, half & 0x107c);
    match (half & 3, half >> 13) {
        (0, 0) => half & 0x1fe0 == 0,
        (0, 4) => true,
        (1, 1) => rd == 0,
        (1, 3) => imm == 0,
        (1, 4) => half & 0x1c00 == 0x1c00 && half & 0x40 != 0,
        (2, 2 | 3) => rd == 0,
        (2, 4) => half == 0x8002,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_and_branches_put_their_bits_in_place() {
        // Values from the assembler.
        assert_eq!(jump(4), 0xa011);
        assert_eq!(jump(-2), 0xbffd);
        assert_eq!(branch(true, 0, 8), 0xc401);
        assert_eq!(branch(false, 1, -2), 0xfcfd);
    }

    #[test]
    fn reserved_encodings_are_told_from_used_ones() {
        for half in [0_u16, 0x8000, 0x2001, 0x6081, 0x9c41, 0x4002, 0x8002] {
            assert!(is_illegal(half), "{half:#x}");
        }
        for half in [0x0001_u16, 0x4001, 0x8082, 0x9002, 0x9c01, 0x2002] {
            assert!(!is_illegal(half), "{half:#x}");
        }
    }
}
