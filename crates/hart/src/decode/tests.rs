use proptest::prelude::*;

use super::*;

#[test]
fn every_short_instruction_decodes_to_something() {
    for half in 0..=u16::MAX {
        if is_short(half) {
            let op = decode_short(half, &Extensions::ALL);
            assert!(op.code != Code::Illegal || op.imm == i64::from(half));
            let without = decode_short(half, &Extensions { c: false, ..Extensions::ALL });
            assert_eq!(without, Op::illegal(half.into()));
        }
    }
}

#[test]
fn short_instructions_mean_what_their_long_forms_do() {
    // Pairs as the GNU assembler gives them.
    let pairs: [(u16, u32); 24] = [
        (0x0808, 0x0101_0513), // addi a0, sp, 16
        (0x6508, 0x0085_3503), // ld a0, 8(a0)
        (0x4548, 0x00c5_2503), // lw a0, 12(a0)
        (0x2108, 0x0005_3507), // fld fa0, 0(a0)
        (0xe508, 0x00a5_3423), // sd a0, 8(a0)
        (0xc548, 0x00a5_2623), // sw a0, 12(a0)
        (0x1541, 0xff05_0513), // addi a0, a0, -16
        (0x357d, 0xfff5_051b), // addiw a0, a0, -1
        (0x5575, 0xffd0_0513), // li a0, -3
        (0x7179, 0xfd01_0113), // addi sp, sp, -48
        (0x757d, 0xffff_f537), // lui a0, 0xfffff
        (0x9111, 0x0245_5513), // srli a0, a0, 36
        (0x9511, 0x4245_5513), // srai a0, a0, 36
        (0x9975, 0xffd5_7513), // andi a0, a0, -3
        (0x8d0d, 0x40b5_0533), // sub a0, a0, a1
        (0x9d2d, 0x00b5_053b), // addw a0, a0, a1
        (0x1502, 0x0205_1513), // slli a0, a0, 32
        (0x7502, 0x0201_3503), // ld a0, 32(sp)
        (0x4542, 0x0101_2503), // lw a0, 16(sp)
        (0x852e, 0x00b0_0533), // mv a0, a1
        (0x952e, 0x00b5_0533), // add a0, a0, a1
        (0xf02a, 0x02a1_3023), // sd a0, 32(sp)
        (0xc82a, 0x00a1_2823), // sw a0, 16(sp)
        (0x9002, 0x0010_0073), // ebreak
    ];
    for (short, long) in pairs {
        let (mut a, mut b) = (decode_short(short, &Extensions::ALL), decode_long(long, &Extensions::ALL));
        // Lengths and the bits for traps differ.
        let stores = [Code::Sd, Code::Sw, Code::Fsd];
        if stores.contains(&a.code) {
            (a.rd, b.rd) = (0, 0);
        }
        if matches!(a.code, Code::Fld | Code::Ebreak) {
            (a.imm, b.imm) = (a.fp_imm() & 0xfff, b.fp_imm() & 0xfff);
            if a.code == Code::Ebreak {
                (a.imm, b.imm) = (0, 0);
            }
        }
        a.rs2 = if matches!(a.code, Code::Jal | Code::Jalr) { b.rs2 } else { a.rs2 };
        (a.rs2, b.rs2) = if uses_rs2(b.code) { (a.rs2, b.rs2) } else { (0, 0) };
        assert_eq!(a, b, "{short:#06x} {long:#010x}");
    }
}

fn uses_rs2(code: Code) -> bool {
    matches!(code, Code::Sub | Code::Add | Code::Addw | Code::Sd | Code::Sw)
}

#[test]
fn displacements_reach_both_ways() {
    let branch = |bits| decode_short(bits, &Extensions::ALL).disp();
    assert_eq!(branch(0xc105), 32, "beqz a0, +32");
    assert_eq!(branch(0xf17d), -26, "bnez a0, -26");
    assert_eq!(branch(0xb7fd), -18, "j -18");
    assert_eq!(branch(0xa83d), 62, "j +62");
    let long = |bits| decode_long(bits, &Extensions::ALL).disp();
    assert_eq!(long(0x8005_0063), -4096, "beqz a0, -4096");
    assert_eq!(long(0x7e05_0fe3), 4094, "beqz a0, +4094");
    assert_eq!(long(0x8000_006f), -(1 << 20), "j -1 MiB");
    assert_eq!(long(0x7fff_f06f), (1 << 20) - 2, "j +1 MiB - 2");
}

#[test]
fn extensions_that_are_off_decode_to_nothing() {
    let cases = [
        (0x20b5_2533, "zba"), // sh1add
        (0x08b5_053b, "zba"), // add.uw
        (0x6005_1513, "zbb"), // clz
        (0x40b5_7533, "zbb"), // andn
        (0x48b5_1533, "zbs"), // bclr
        (0x2855_1513, "zbs"), // bseti
    ];
    for (bits, name) in cases {
        let mut ext = Extensions::ALL;
        assert_ne!(decode_long(bits, &ext).code, Code::Illegal, "{bits:#x}");
        ext.set(name, false).unwrap();
        assert_eq!(decode_long(bits, &ext), Op::illegal(bits), "{bits:#x}");
    }
}

proptest! {
    #[test]
    fn any_bits_decode(bits: u32) {
        let op = decode_long(bits, &Extensions::ALL);
        prop_assert!(op.code != Code::Illegal || op.imm == i64::from(bits));
        prop_assert!(op.rd != 0 || matches!(op.code, Code::Goto | Code::Header));
    }
}

#[test]
fn millions_of_words_decode() {
    let mut word = 1_u64;
    for _ in 0..4_000_000 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (word >> 32) as u32 | 3;
        let op = decode_long(bits, &Extensions::ALL);
        assert!(op.rd != 0 && (op.code != Code::Illegal || op.imm == i64::from(bits)), "{bits:#x}");
    }
}
