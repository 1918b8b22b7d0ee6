//! Conversions between guest nanoseconds and ticks of the `time` CSR.
//!
//! Nanoseconds are the truth and ticks are derived from them (lifecycle-rules 4.1): guest time is never
//! computed from ticks, so no rounding can accumulate.

const NS_PER_S: u128 = 1_000_000_000;

/// Frequency of the `time` CSR in Hz, as told to the guest in the device tree's `timebase-frequency`.
///
/// 10 MHz is what the `virt` machine has always had. It is baked into a running guest and never changes.
pub const TIMEBASE_HZ: u64 = 10_000_000;

/// The value of the `time` CSR at `ns` nanoseconds of guest time: `floor(ns * TIMEBASE_HZ / 1e9)`.
#[must_use]
pub const fn ticks(ns: u64) -> u64 {
    // Fits: the timebase is below 1 GHz, so the quotient is below `ns`.
    (ns as u128 * TIMEBASE_HZ as u128 / NS_PER_S) as u64
}

/// The smallest guest time in ns at which [`ticks`] is at least `tick`.
///
/// Saturates at `u64::MAX`, which every deadline of this crate takes as *never*; so a compare register of all
/// ones, the guest's way to say "no timer", needs no special case.
#[must_use]
pub const fn ns_of_tick(tick: u64) -> u64 {
    let ns = (tick as u128 * NS_PER_S).div_ceil(TIMEBASE_HZ as u128);
    if ns > u64::MAX as u128 { u64::MAX } else { ns as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_tick_is_a_hundred_nanoseconds() {
        assert_eq!((ticks(0), ticks(99), ticks(100), ticks(1_000_000_000)), (0, 0, 1, TIMEBASE_HZ));
        assert_eq!((ns_of_tick(0), ns_of_tick(1), ns_of_tick(TIMEBASE_HZ)), (0, 100, 1_000_000_000));
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(ticks(u64::MAX), u64::MAX / 100);
        assert_eq!(ns_of_tick(u64::MAX), u64::MAX);
        assert_eq!(ns_of_tick(u64::MAX / 100 + 1), u64::MAX);
        assert_eq!(ns_of_tick(u64::MAX / 100), u64::MAX / 100 * 100);
    }

    proptest! {
        #[test]
        fn ns_of_tick_is_the_first_instant_of_the_tick(tick in 1..=u64::MAX / 100) {
            let ns = ns_of_tick(tick);
            prop_assert_eq!(ticks(ns), tick);
            prop_assert_eq!(ticks(ns - 1), tick - 1);
        }
    }
}
