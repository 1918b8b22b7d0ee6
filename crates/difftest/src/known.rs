//! What the two sides do differently and may: found by these tests, judged by the specification, and kept out of the
//! comparison at the place that is named.

/// A difference that is no fault of our hart.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name, by which the code that leaves it out refers to it.
    pub name: &'static str,
    /// What QEMU 10.0 does and what ours does.
    pub what: &'static str,
    /// Why ours may.
    pub why: &'static str,
}

const fn known(name: &'static str, what: &'static str, why: &'static str) -> Known {
    Known { name, what, why }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    known(
        "MisalignedAtomicCause",
        "a misaligned AMO traps with cause 4 in QEMU, 6 in ours; the runtime counts both as 4",
        "an AMO reports store/AMO causes (privileged specification, table of exception causes)",
    ),
    known(
        "PrivilegedTval",
        "mret, sret, wfi and sfence.vma where they are illegal leave mtval as the last illegal instruction had it in QEMU; \
         ours holds the instruction. Cases with such instructions do not look at mtval of illegal instructions",
        "mtval is zero or the instruction (3.1.16)",
    ),
    known(
        "OddEpc",
        "QEMU keeps bit 0 of what is written to mepc and sepc; the cases mask it",
        "the low bit is always zero (3.1.14)",
    ),
    known(
        "PmpAddressWidth",
        "QEMU keeps bits 54 to 63 of pmpaddr; the cases write none",
        "they are WARL zero (3.7.1, RV64)",
    ),
    known(
        "LocalInterruptBits",
        "QEMU's mie and mideleg hold bits above 11; medeleg holds 18 and up. The cases mask them",
        "nothing is behind them on either side",
    ),
    known(
        "InterruptPriority",
        "of several interrupts QEMU takes the lowest number first; cases raise only sets in which both orders agree",
        "MEI, MSI, MTI, SEI, SSI, STI by falling priority (3.1.9)",
    ),
    known(
        "CrossingOrder",
        "an access over a page's end whose first page is a hole and whose second does not translate: QEMU reports the second, \
         ours the first. Slots that may be holes get aligned accesses only",
        "the order within a misaligned access is open (unprivileged specification, 2.6)",
    ),
    known(
        "MisalignedProtection",
        "a misaligned access over the end of a protected region: QEMU checks parts of it, ours the whole",
        "an implementation may split a misaligned access, and then each part is checked by itself (3.7.1)",
    ),
    known(
        "DirtyFloats",
        "comparisons and conversions to integers leave FS as it is in QEMU, even where they raise flags; ours makes it dirty. \
         Cases start with FS dirty",
        "FS may be set dirty by any instruction that could change the state (3.1.6.6)",
    ),
    known(
        "FailingStoreConditional",
        "an sc without a reservation to an address that faults returns 1 in QEMU and faults in ours; not generated",
        "whether a failing sc raises address exceptions is open (Zalrsc)",
    ),
    known(
        "PendingWires",
        "MSIP, MTIP and MEIP follow devices that the in-process machine has not; masked where mip is read",
        "not a matter of the hart",
    ),
];
