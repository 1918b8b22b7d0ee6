/*
 * A guest that hammers every device register: for each window of the memory map, loads and stores of every width, aligned
 * or not, with values from a xorshift generator. A trap skips the instruction that took it. The test finisher is left
 * out, since some of its values rightly end the machine. At the end it prints HAMMERED and waits for ever.
 */
    .option norvc
    .option norelax
    .globl _start
_start:
    j       entry
    nop
    .dword  0x200000
    .dword  0x100000
    .dword  0
    .word   2, 0
    .dword  0
    .ascii  "RISCV\0\0\0RSC\5"
    .word   0

entry:
    lla     t0, skip
    csrw    stvec, t0
    lla     s0, windows
    li      s1, 0x9e3779b97f4a7c15
next_window:
    ld      s2, 0(s0)               /* base */
    ld      s3, 8(s0)               /* size, a power of two; 0 ends the list */
    addi    s0, s0, 16
    beqz    s3, done
    addi    s3, s3, -1
    li      s4, 4000                /* accesses of each width */
again:
    slli    t0, s1, 13
    xor     s1, s1, t0
    srli    t0, s1, 7
    xor     s1, s1, t0
    slli    t0, s1, 17
    xor     s1, s1, t0
    srli    t0, s1, 20
    and     t0, t0, s3
    add     t0, t0, s2
    sb      s1, 0(t0)
    lb      t1, 0(t0)
    sh      s1, 0(t0)
    lh      t1, 0(t0)
    sw      s1, 0(t0)
    lw      t1, 0(t0)
    sd      s1, 0(t0)
    ld      t1, 0(t0)
    amoadd.w t1, s1, (t0)
    lr.d    t1, (t0)
    sc.d    t1, s1, (t0)
    addi    s4, s4, -1
    bnez    s4, again
    j       next_window

done:
    /* Put the UART in order again, as a driver does. */
    li      t0, 0x10000000
    sb      zero, 1(t0)
    li      t1, 0x03
    sb      t1, 3(t0)
    li      t1, 0x07
    sb      t1, 2(t0)
    sb      zero, 4(t0)
    lla     a0, text
1:  lbu     a1, 0(a0)
    beqz    a1, 2f
3:  lbu     t1, 5(t0)
    andi    t1, t1, 0x20
    beqz    t1, 3b
    sb      a1, 0(t0)
    addi    a0, a0, 1
    j       1b
2:  wfi
    j       2b

    .align  2
skip:
    csrr    t2, sepc
    addi    t2, t2, 4
    csrw    sepc, t2
    sret

    .align  3
windows:
    .dword  0x00101000, 0x1000      /* goldfish RTC */
    .dword  0x00102000, 0x1000      /* beside it */
    .dword  0x02000000, 0x10000     /* ACLINT */
    .dword  0x0c000000, 0x4000      /* PLIC: priorities, pending, enables */
    .dword  0x0c200000, 0x4000      /* PLIC: contexts */
    .dword  0x10000000, 0x100       /* UART */
    .dword  0x10001000, 0x8000      /* virtio-mmio slots */
    .dword  0x00000000, 0x100000    /* nothing, or read-only memory */
    .dword  0x40000000, 0x10000000  /* nothing */
    .dword  0, 0
text:
    .asciz  "\r\nHAMMERED\r\n"
