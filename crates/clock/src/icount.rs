//! Counted time: what one instruction lasts, and where a hart says how many it has retired (lifecycle-rules
//! 4.11).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// `shift` of `-icount shift=N`: an instruction lasts `2^N` ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcountShift(u8);

/// An `-icount` shift out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("icount shift {0} is out of range, it must be 0 to {max}", max = IcountShift::MAX)]
pub struct IcountShiftError(u64);

impl IcountShift {
    /// The largest shift: an instruction of 1024 ns.
    pub const MAX: u8 = 10;

    /// The shift as a number of bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The fewest instructions that last at least `ns`.
    #[must_use]
    pub fn instructions(self, ns: u64) -> u64 {
        ns.div_ceil(1 << self.0)
    }

    /// How long `instructions` last in ns. Saturates.
    #[must_use]
    pub fn ns(self, instructions: u64) -> u64 {
        instructions.saturating_mul(1 << self.0)
    }
}

impl TryFrom<u64> for IcountShift {
    type Error = IcountShiftError;

    fn try_from(shift: u64) -> Result<Self, IcountShiftError> {
        match u8::try_from(shift) {
            Ok(bits) if bits <= Self::MAX => Ok(Self(bits)),
            _ => Err(IcountShiftError(shift)),
        }
    }
}

/// Where a hart publishes how many instructions it has retired, for an instruction-counted clock. Clones
/// share the count.
#[derive(Clone, Debug, Default)]
pub struct CountedSource(Arc<AtomicU64>);

impl CountedSource {
    /// Publishes the number of instructions retired since the process began. It only grows: a smaller one is
    /// ignored, so a guest that writes its own `minstret`, or a load that replaces it, must not be what is
    /// published here.
    ///
    /// There is one publisher: counted time is for one hart.
    pub fn publish(&self, retired: u64) {
        if retired > self.0.load(Relaxed) {
            self.0.store(retired, Release);
        }
    }

    /// The number published last.
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.0.load(Acquire)
    }
}
