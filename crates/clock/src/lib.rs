//! Guest time rises when, and only when, the machine is live.
#![forbid(unsafe_code)]

mod civil;
mod guest;
mod host;
mod rtc;
mod tick;
mod timer;
pub mod wall;

pub use guest::{
    AdvanceError, CountedSource, GuestClock, GuestClockState, IcountShift, IcountShiftError, SetError,
};
pub use host::{Hook, HostClock, ShiftedClock, SystemClock, TestClock};
pub use rtc::{RtcBase, RtcClock, RtcOptionError, RtcOptions};
pub use tick::{TIMEBASE_HZ, ns_of_tick, ticks};
pub use timer::{Next, Timer, TimerClass, TimerId, TimerQueue, TimerTarget};
pub use wall::{WallClock, WallClockState, WallLoadError};
