//! The C extension (unprivileged specification, chapter 26): 16-bit instructions to their 32-bit equivalents.

/// Takes `len` bits at `at` out of `half` and puts them at `to`.
const fn bits(half: u32, at: u32, len: u32, to: u32) -> u32 {
    (half >> at & ((1 << len) - 1)) << to
}

/// `x8` to `x15`, from a three-bit field.
const fn popular(half: u32, at: u32) -> u32 {
    8 + bits(half, at, 3, 0)
}

const fn i_type(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: u32) -> u32 {
    imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

const fn s_type(opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: u32) -> u32 {
    bits(imm, 5, 7, 25) | rs2 << 20 | rs1 << 15 | funct3 << 12 | bits(imm, 0, 5, 7) | opcode
}

const fn r_type(opcode: u32, funct3: u32, funct7: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

const LOAD: u32 = 0x03;
const LOAD_FP: u32 = 0x07;
const OP_IMM: u32 = 0x13;
const OP_IMM_32: u32 = 0x1b;
const STORE: u32 = 0x23;
const STORE_FP: u32 = 0x27;
const OP: u32 = 0x33;
const LUI: u32 = 0x37;
const OP_32: u32 = 0x3b;
const BRANCH: u32 = 0x63;
const JALR: u32 = 0x67;
const JAL: u32 = 0x6f;
const EBREAK: u32 = 0x0010_0073;

/// The equivalent of `half`; `None` if it is reserved. Hints expand to what does nothing.
pub(super) fn expand(half: u16) -> Option<u32> {
    let h = u32::from(half);
    match h & 3 {
        0 => quadrant0(h),
        1 => quadrant1(h),
        2 => quadrant2(h),
        _ => None,
    }
}

/// Offset of `c.lw` and `c.sw`.
const fn word_offset(h: u32) -> u32 {
    bits(h, 10, 3, 3) | bits(h, 6, 1, 2) | bits(h, 5, 1, 6)
}

/// Offset of `c.ld`, `c.sd`, `c.fld` and `c.fsd`.
const fn double_offset(h: u32) -> u32 {
    bits(h, 10, 3, 3) | bits(h, 5, 2, 6)
}

fn quadrant0(h: u32) -> Option<u32> {
    let (low, rs1) = (popular(h, 2), popular(h, 7));
    Some(match h >> 13 {
        0 => {
            let imm = bits(h, 11, 2, 4) | bits(h, 7, 4, 6) | bits(h, 6, 1, 2) | bits(h, 5, 1, 3);
            if imm == 0 {
                return None;
            }
            i_type(OP_IMM, 0, low, 2, imm)
        }
        1 => i_type(LOAD_FP, 3, low, rs1, double_offset(h)),
        2 => i_type(LOAD, 2, low, rs1, word_offset(h)),
        3 => i_type(LOAD, 3, low, rs1, double_offset(h)),
        5 => s_type(STORE_FP, 3, rs1, low, double_offset(h)),
        6 => s_type(STORE, 2, rs1, low, word_offset(h)),
        7 => s_type(STORE, 3, rs1, low, double_offset(h)),
        _ => return None,
    })
}

/// The six-bit signed immediate of quadrant 1, as the 12 bits of an I-type immediate.
const fn imm6(h: u32) -> u32 {
    let value = bits(h, 2, 5, 0) | bits(h, 12, 1, 5);
    if value & 32 != 0 { value | 0xfc0 } else { value }
}

fn quadrant1(h: u32) -> Option<u32> {
    let rd = bits(h, 7, 5, 0);
    Some(match h >> 13 {
        0 => i_type(OP_IMM, 0, rd, rd, imm6(h)),
        1 if rd != 0 => i_type(OP_IMM_32, 0, rd, rd, imm6(h)),
        2 => i_type(OP_IMM, 0, rd, 0, imm6(h)),
        3 => return upper(h, rd),
        4 => return arithmetic(h),
        5 => jump(h),
        6 => compare(h, 0),
        7 => compare(h, 1),
        _ => return None,
    })
}

/// `c.addi16sp` and `c.lui`.
fn upper(h: u32, rd: u32) -> Option<u32> {
    if rd == 2 {
        let imm =
            bits(h, 12, 1, 9) | bits(h, 6, 1, 4) | bits(h, 5, 1, 6) | bits(h, 3, 2, 7) | bits(h, 2, 1, 5);
        let extended = if imm & 0x200 != 0 { imm | 0xc00 } else { imm };
        return (imm != 0).then(|| i_type(OP_IMM, 0, 2, 2, extended));
    }
    let imm = imm6(h);
    let extended = if imm & 0x800 != 0 { imm | 0xf_f000 } else { imm };
    (imm != 0).then_some(extended << 12 | rd << 7 | LUI)
}

fn arithmetic(h: u32) -> Option<u32> {
    let (rd, rs2) = (popular(h, 7), popular(h, 2));
    let shamt = imm6(h) & 63;
    Some(match (bits(h, 10, 2, 0), bits(h, 12, 1, 0), bits(h, 5, 2, 0)) {
        (0, _, _) => i_type(OP_IMM, 5, rd, rd, shamt),
        (1, _, _) => i_type(OP_IMM, 5, rd, rd, 0x400 | shamt),
        (2, _, _) => i_type(OP_IMM, 7, rd, rd, imm6(h)),
        (3, 0, 0) => r_type(OP, 0, 0x20, rd, rd, rs2),
        (3, 0, 1) => r_type(OP, 4, 0, rd, rd, rs2),
        (3, 0, 2) => r_type(OP, 6, 0, rd, rd, rs2),
        (3, 0, _) => r_type(OP, 7, 0, rd, rd, rs2),
        (3, _, 0) => r_type(OP_32, 0, 0x20, rd, rd, rs2),
        (3, _, 1) => r_type(OP_32, 0, 0, rd, rd, rs2),
        _ => return None,
    })
}

/// `c.j`.
fn jump(h: u32) -> u32 {
    let offset = bits(h, 12, 1, 11)
        | bits(h, 11, 1, 4)
        | bits(h, 9, 2, 8)
        | bits(h, 8, 1, 10)
        | bits(h, 7, 1, 6)
        | bits(h, 6, 1, 7)
        | bits(h, 3, 3, 1)
        | bits(h, 2, 1, 5);
    let sign = bits(h, 12, 1, 0);
    // Of jal's immediate: bits 20 and 19..12 are the sign.
    sign << 31 | bits(offset, 1, 10, 21) | bits(offset, 11, 1, 20) | (sign * 0xff) << 12 | JAL
}

/// `c.beqz` and `c.bnez`.
fn compare(h: u32, funct3: u32) -> u32 {
    let offset =
        bits(h, 12, 1, 8) | bits(h, 10, 2, 3) | bits(h, 5, 2, 6) | bits(h, 3, 2, 1) | bits(h, 2, 1, 5);
    let sign = bits(h, 12, 1, 0);
    // Of the branch's immediate: bits 12..9 are the sign.
    let wide = offset | (sign * 0x1e00);
    bits(wide, 12, 1, 31)
        | bits(wide, 5, 6, 25)
        | popular(h, 7) << 15
        | funct3 << 12
        | bits(wide, 1, 4, 8)
        | bits(wide, 11, 1, 7)
        | BRANCH
}

fn quadrant2(h: u32) -> Option<u32> {
    let (rd, rs2) = (bits(h, 7, 5, 0), bits(h, 2, 5, 0));
    let load_double = bits(h, 12, 1, 5) | bits(h, 5, 2, 3) | bits(h, 2, 3, 6);
    let store_double = bits(h, 10, 3, 3) | bits(h, 7, 3, 6);
    Some(match h >> 13 {
        0 => i_type(OP_IMM, 1, rd, rd, imm6(h) & 63),
        1 => i_type(LOAD_FP, 3, rd, 2, load_double),
        2 if rd != 0 => i_type(LOAD, 2, rd, 2, bits(h, 12, 1, 5) | bits(h, 4, 3, 2) | bits(h, 2, 2, 6)),
        3 if rd != 0 => i_type(LOAD, 3, rd, 2, load_double),
        4 => match (bits(h, 12, 1, 0), rd, rs2) {
            (0, 0, 0) => return None,
            (0, _, 0) => i_type(JALR, 0, 0, rd, 0),
            (0, _, _) => r_type(OP, 0, 0, rd, 0, rs2),
            (_, 0, 0) => EBREAK,
            (_, _, 0) => i_type(JALR, 0, 1, rd, 0),
            (_, _, _) => r_type(OP, 0, 0, rd, rd, rs2),
        },
        5 => s_type(STORE_FP, 3, 2, rs2, store_double),
        6 => s_type(STORE, 2, 2, rs2, bits(h, 9, 4, 2) | bits(h, 7, 2, 6)),
        7 => s_type(STORE, 3, 2, rs2, store_double),
        _ => return None,
    })
}
