//! Fields of `mstatus`, and what may be written to them (privileged specification, 3.1.6).

/// Supervisor interrupts enabled.
pub(crate) const SIE: u64 = 1 << 1;
/// Machine interrupts enabled.
pub(crate) const MIE: u64 = 1 << 3;
/// SIE before the trap.
pub(crate) const SPIE: u64 = 1 << 5;
/// MIE before the trap.
pub(crate) const MPIE: u64 = 1 << 7;
/// Mode before a trap to supervisor mode.
pub(crate) const SPP: u64 = 1 << 8;
/// Mode before a trap to machine mode.
pub(crate) const MPP: u64 = 3 << MPP_SHIFT;
/// Where MPP is.
pub(crate) const MPP_SHIFT: u32 = 11;
/// State of the floating-point registers: 0 off, 3 dirty.
pub(crate) const FS: u64 = 3 << 13;
/// Data accesses are made in mode MPP.
pub(crate) const MPRV: u64 = 1 << 17;
/// Supervisor may access user pages.
pub(crate) const SUM: u64 = 1 << 18;
/// Executable pages are readable.
pub(crate) const MXR: u64 = 1 << 19;
/// Trap virtual memory management.
pub(crate) const TVM: u64 = 1 << 20;
/// Trap `wfi`.
pub(crate) const TW: u64 = 1 << 21;
/// Trap `sret`.
pub(crate) const TSR: u64 = 1 << 22;
/// Widths of U and S mode: 64 bits, fixed.
const UXL_SXL: u64 = 2 << 32 | 2 << 34;
/// Some state is dirty: follows FS.
const SD: u64 = 1 << 63;

const WRITABLE: u64 = SIE | MIE | SPIE | MPIE | SPP | MPP | FS | MPRV | SUM | MXR | TVM | TW | TSR;
/// What `sstatus` shows of `mstatus`, beside UXL and SD.
const SUPERVISOR: u64 = SIE | SPIE | SPP | FS | SUM | MXR;
const UXL: u64 = 3 << 32;

/// `mstatus` after power-on, without the derived bits.
pub(crate) const RESET: u64 = 0;

/// What a read of `mstatus` gives.
pub(crate) fn read(status: u64) -> u64 {
    let sd = if status & FS == FS { SD } else { 0 };
    status & WRITABLE | UXL_SXL | sd
}

/// What a read of `sstatus` gives.
pub(crate) fn read_supervisor(status: u64) -> u64 {
    read(status) & (SUPERVISOR | UXL | SD)
}

/// `mstatus` after a write of `value`. The reserved mode in MPP keeps the old one.
pub(crate) fn write(old: u64, value: u64) -> u64 {
    let mut new = value & WRITABLE;
    if new >> MPP_SHIFT & 3 == 2 {
        new = new & !MPP | old & MPP;
    }
    new
}

/// `mstatus` after a write of `value` to `sstatus`.
pub(crate) fn write_supervisor(old: u64, value: u64) -> u64 {
    old & !SUPERVISOR | value & SUPERVISOR
}

/// Whether `status` is one that [`write()`] gives.
pub(crate) fn is_valid(status: u64) -> bool {
    status & !WRITABLE == 0 && status >> MPP_SHIFT & 3 != 2
}
