//! Integer instructions, control flow and the bound on instructions.

mod support;

use support::asm::*;
use support::{BASE, boot, run, steps};
use vmcore::{Exit, Vcpu};

#[test]
fn constants_are_built_as_the_pieces_say() {
    let hart = run(&[lui(A0, 0x80000), addi(A0, A0, -1), auipc(A1, 1), addi(A1, A1, 4)], &[]);
    assert_eq!(hart.x(10), 0xffff_ffff_7fff_ffff);
    assert_eq!(hart.x(11), BASE + 8 + 0x1000 + 4);
}

#[test]
fn loops_and_calls_go_where_they_should() {
    // a0 = 5 + 4 + ... + 1, by a subroutine that adds.
    let code = [
        addi(A1, ZERO, 5),
        jal(RA, 16),
        addi(A1, A1, -1),
        bne(A1, ZERO, -8),
        jal(ZERO, 12),
        add(A0, A0, A1),
        jalr(ZERO, RA, 0),
        addi(A2, ZERO, 7),
    ];
    let (_, mut hart) = boot(&code);
    steps(&mut hart, 1 + 5 * 5 + 1 + 1);
    assert_eq!((hart.x(10), hart.x(11), hart.x(12)), (15, 0, 7));
    assert_eq!(hart.pc(), BASE + 4 * 8);
}

#[test]
fn the_bound_is_exact_at_every_instruction() {
    let code = [lui(A0, 1), addi(A0, A0, 1), addi(A1, A1, 1), jal(ZERO, 4), beq(ZERO, ZERO, -16)];
    let (_, mut whole) = boot(&code);
    let (_, mut single) = boot(&code);
    for count in 0..40_u64 {
        assert_eq!(whole.run(count), Exit::Limit);
        assert_eq!(single.retired(), count);
        assert_eq!(whole.pc(), single.pc(), "after {count}");
        assert_eq!(whole.x(10), single.x(10), "after {count}");
        assert_eq!(whole.x(11), single.x(11), "after {count}");
        steps(&mut single, 1);
    }
    let (_, mut block) = boot(&code);
    steps(&mut block, 40);
    assert_eq!((block.pc(), block.x(11)), (single.pc(), single.x(11)));
}
