//! Where everything lies in guest memory, and the shapes of what the host and the runtime exchange there.

/// Start of RAM, and of the image.
pub const RAM: u64 = 0x8000_0000;
/// Size of RAM in bytes.
pub const RAM_SIZE: u64 = 128 << 20;
/// A page that the runtime writes to: the registers of whom it interrupts, and its variables.
pub const CONTEXT: u64 = RAM + 0x5000;
/// From the machine handler's context to the supervisor handler's.
pub const SUPERVISOR_CONTEXT: u64 = 0x200;
/// From the machine handler's context to the variables that both share.
pub const SHARED: u64 = 0x400;
/// A page of constants that cases load their operands from.
pub const CONSTANTS: u64 = RAM + 0x7000;
/// Case descriptors, and the blobs that they refer to, up to [`IMAGE_END`].
pub const CASES: u64 = RAM + 0x1_0000;
/// The image must end below.
pub const IMAGE_END: u64 = RAM + (60 << 20);
/// Where the code of the running case lies.
pub const CODE: u64 = RAM + (64 << 20);
/// Bytes of code that a case may have.
pub const CODE_SIZE: u64 = 0x1_0000;
/// Pages full of `ret`.
pub const RETURNS: u64 = CODE + 0x2_0000;
/// How many.
pub const RETURN_PAGES: u64 = 4;
/// What cases load from and store to.
pub const SCRATCH: u64 = RAM + (66 << 20);
/// Its size in bytes.
pub const SCRATCH_SIZE: u64 = 0x8000;
/// The page tables of the running case.
pub const TABLES: u64 = RAM + (68 << 20);
/// One record for each case.
pub const RESULTS: u64 = RAM + (80 << 20);

/// Test finisher, and what ends the machine when written there.
pub const FINISHER: (u64, u32) = (0x10_0000, 0x5555);
/// The UART's transmit register.
pub const UART: u64 = 0x1000_0000;

/// a7 of an `ecall` that asks the machine handler to go on in mode a6.
pub const SWITCH_MODE: u64 = 0x5357_4d4f_4445_3a29;
/// Traps after which a case is ended, whatever it does.
pub const TRAP_LIMIT: u64 = 400;

/// A case's descriptor. Byte offsets.
pub mod desc {
    /// First pc.
    pub const ENTRY: i64 = 0;
    /// Where the `ecall` that ends the case lies, from the start of its code.
    pub const EXIT: i64 = 8;
    /// `mstatus` before the `mret` into the case.
    pub const MSTATUS: i64 = 16;
    /// `satp`.
    pub const SATP: i64 = 24;
    /// `medeleg`.
    pub const MEDELEG: i64 = 32;
    /// `mideleg`.
    pub const MIDELEG: i64 = 40;
    /// `mie`.
    pub const MIE: i64 = 48;
    /// `fcsr`.
    pub const FCSR: i64 = 56;
    /// What the scratch memory is filled from.
    pub const SEED: i64 = 64;
    /// Bytes of scratch memory that are filled and hashed.
    pub const SCRATCH_LEN: i64 = 72;
    /// Address of the case's code in U, S, (none) and M mode.
    pub const BASES: i64 = 80;
    /// Number of copies to make.
    pub const COPIES: i64 = 112;
    /// Address of the copies: destination, source, length in bytes (a multiple of 8).
    pub const COPY_LIST: i64 = 120;
    /// `mcounteren` and `scounteren`.
    pub const COUNTEREN: i64 = 128;
    /// Not zero: `mtval` and `stval` of illegal instructions are not looked at.
    pub const DROP_TVAL: i64 = 136;
    /// x0 to x31.
    pub const X: i64 = 256;
    /// f0 to f31.
    pub const F: i64 = 512;
    /// Size of a descriptor.
    pub const SIZE: i64 = 768;
}

/// A case's record. Indices of 64-bit words.
pub mod record {
    /// [`DONE_MARK`] when the record is complete.
    pub const DONE: usize = 0;
    /// Traps taken.
    pub const TRAPS: usize = 1;
    /// Hash over what each trap reported.
    pub const TRAP_HASH: usize = 2;
    /// Hash of the scratch memory.
    pub const SCRATCH_HASH: usize = 3;
    /// `fcsr`.
    pub const FCSR: usize = 4;
    /// x0 to x31.
    pub const X: usize = 8;
    /// f0 to f31.
    pub const F: usize = 40;
    /// The CSRs of [`CSRS`](super::CSRS).
    pub const CSR: usize = 72;
    /// The first traps: cause, epc, tval, status, mode of the handler.
    pub const LOG: usize = 96;
    /// Words of an entry of the log.
    pub const LOG_ENTRY: usize = 5;
    /// Entries of the log.
    pub const LOG_LEN: usize = 30;
    /// Words of a record.
    pub const WORDS: usize = 256;
    /// Says that a record is complete.
    pub const DONE_MARK: u64 = 0x444f_4e45;
}

/// The CSRs that a record holds beside `mstatus`, which is the first.
pub const CSRS: &[(&str, u32)] = &[
    ("satp", 0x180),
    ("stvec", 0x105),
    ("sepc", 0x141),
    ("scause", 0x142),
    ("stval", 0x143),
    ("mie", 0x304),
    ("mip", 0x344),
    ("medeleg", 0x302),
    ("mideleg", 0x303),
    ("mcounteren", 0x306),
    ("scounteren", 0x106),
    ("pmpcfg0", 0x3a0),
    ("pmpaddr0", 0x3b0),
    ("pmpaddr1", 0x3b1),
    ("pmpaddr2", 0x3b2),
    ("pmpaddr3", 0x3b3),
];
