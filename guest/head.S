/*
 * Entry of the embedded guest.
 *
 * The first 64 bytes are the header of a RISC-V Linux image (kernel documentation, "Boot image header in RISC-V
 * Linux"), so that the loader which places a kernel places this program too: flat, at RAM base + text_offset,
 * entered in S-mode with a0 = hart, a1 = device tree, satp = 0 and interrupts off.
 */
    .section .head, "ax"
    .globl  _start
_start:
    .option push
    .option norvc
    j       entry                   /* code0 */
    nop                             /* code1 */
    .option pop
    .dword  0x200000                /* text_offset: 2 MiB above the base of RAM */
    .dword  _image_size             /* with the memory that is zeroed below */
    .dword  0                       /* flags: little endian */
    .word   2                       /* header version 0.2 */
    .word   0
    .dword  0
    .ascii  "RISCV\0\0\0"           /* 0x30 */
    .ascii  "RSC\5"                 /* 0x38 */
    .word   0

    .text
entry:
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      sp, _stack_top
    la      t0, trap_entry
    csrw    stvec, t0
    csrw    sie, zero
    la      t0, _bss_start
    la      t1, _bss_end
1:  bgeu    t0, t1, 2f
    sd      zero, 0(t0)
    addi    t0, t0, 8
    j       1b
2:  tail    guest_main

/* A trap is a fault of this program: it polls, and takes no interrupts. */
    .align  2
trap_entry:
    csrr    a0, scause
    csrr    a1, sepc
    csrr    a2, stval
    la      sp, _stack_top
    tail    guest_trap

/*
 * long suspend_to_ram(unsigned long context[14])
 *
 * SBI SUSP, function 0, type 0. Gives 0 after a wake-up, else the SBI error. The VMM (or firmware) keeps nothing but
 * RAM across the sleep, so what a C caller may expect to find again is stored in the context first. The resume
 * address is entered with a0 = hart and a1 = the opaque value, which is the context.
 */
    .globl  suspend_to_ram
suspend_to_ram:
    sd      ra, 0(a0)
    sd      sp, 8(a0)
    sd      s0, 16(a0)
    sd      s1, 24(a0)
    sd      s2, 32(a0)
    sd      s3, 40(a0)
    sd      s4, 48(a0)
    sd      s5, 56(a0)
    sd      s6, 64(a0)
    sd      s7, 72(a0)
    sd      s8, 80(a0)
    sd      s9, 88(a0)
    sd      s10, 96(a0)
    sd      s11, 104(a0)
    mv      a2, a0                  /* opaque */
    li      a0, 0                   /* sleep type: suspend to RAM */
    la      a1, resume
    li      a6, 0
    li      a7, 0x53555350
    ecall
    ret

    .align  2
resume:
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      t0, trap_entry
    csrw    stvec, t0
    ld      ra, 0(a1)
    ld      sp, 8(a1)
    ld      s0, 16(a1)
    ld      s1, 24(a1)
    ld      s2, 32(a1)
    ld      s3, 40(a1)
    ld      s4, 48(a1)
    ld      s5, 56(a1)
    ld      s6, 64(a1)
    ld      s7, 72(a1)
    ld      s8, 80(a1)
    ld      s9, 88(a1)
    ld      s10, 96(a1)
    ld      s11, 104(a1)
    li      a0, 0
    ret

/* A further hart that `spin` has started: busy, with no stack, until the flag at a1 is cleared; then it stops. */
    .globl  spin_entry
    .align  2
spin_entry:
    addi    t1, t1, 1
    lw      t0, 0(a1)
    bnez    t0, spin_entry
    li      a6, 1                   /* HSM hart_stop */
    li      a7, 0x48534d
    ecall
3:  wfi
    j       3b
