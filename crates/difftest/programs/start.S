# Enters C in machine mode with the floating-point unit on; a trap ends the machine with a word about it.
    .section .text.start
    .globl _start
_start:
    la sp, __end
    li t0, 0x100000
    add sp, sp, t0
    li t0, 0x2000
    csrs mstatus, t0
    la t0, trap
    csrw mtvec, t0
    la t0, __bss
    la t1, __end
1:  bgeu t0, t1, 2f
    sd zero, 0(t0)
    addi t0, t0, 8
    j 1b
2:  call main
finish:
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
3:  j 3b

    .balign 4
trap:
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    call trapped
    j finish

# save(context), restore(context, value): what the callee saves, its stack and its return address.
    .globl save
save:
    sd ra, 0(a0)
    sd sp, 8(a0)
    sd s0, 16(a0)
    sd s1, 24(a0)
    sd s2, 32(a0)
    sd s3, 40(a0)
    fsd fs0, 48(a0)
    fsd fs1, 56(a0)
    li a0, 0
    ret
    .globl restore
restore:
    ld ra, 0(a0)
    ld sp, 8(a0)
    ld s0, 16(a0)
    ld s1, 24(a0)
    ld s2, 32(a0)
    ld s3, 40(a0)
    fld fs0, 48(a0)
    fld fs1, 56(a0)
    mv a0, a1
    ret
