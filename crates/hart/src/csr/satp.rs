//! `satp`: mode, address space and root table (privileged specification, 10.1.11).

const MODE_SHIFT: u32 = 60;
const PPN: u64 = (1 << 44) - 1;

/// Levels of the page tables; 0: addresses are not translated.
pub(crate) fn levels(satp: u64) -> u32 {
    match satp >> MODE_SHIFT {
        8 => 3,
        9 => 4,
        _ => 0,
    }
}

/// Guest physical address of the root table.
pub(crate) fn table(satp: u64) -> u64 {
    (satp & PPN) << 12
}

/// Whether the mode of `satp` is implemented. A write with any other has no effect.
pub(crate) fn is_valid(satp: u64, sv48: bool) -> bool {
    matches!(satp >> MODE_SHIFT, 0 | 8) || satp >> MODE_SHIFT == 9 && sv48
}
