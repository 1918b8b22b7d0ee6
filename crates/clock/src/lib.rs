//! Guest time rises when, and only when, the machine is live.
//!
//! This crate keeps apart the quantities that are all called "the time", and says of each who may move it. It
//! starts no thread, never sleeps and reads no clock of its own: the host's clocks are passed in as
//! [`HostClock`], so every rule below is tested without waiting.
//!
//! # The quantities
//!
//! A machine is started at host 100 s, falls asleep, is stopped while it sleeps, continued, and wakes (all
//! values in s; the host's wall clock is counted from noon, and somebody sets it 60 s forward during the
//! stop):
//!
//! | moment | host monotonic | host wall | guest monotonic `g` | awake | RTC, clock=host | RTC, clock=vm |
//! |---|---|---|---|---|---|---|
//! | start (thaw) | 100 | 0 | 0 | 0 | 0 | 0 |
//! | falls asleep | 110 | 10 | 10 | 10 | 10 | 10 |
//! | `stop` (freeze) | 115 | 15 | 15 | 10 | 15 | 15 |
//! | wall clock set | 120 | 80 | 15 | 10 | 80 | 15 |
//! | `cont` (thaw) | 135 | 95 | 15 | 10 | 95 | 15 |
//! | wakes | 136 | 96 | 16 | 10 | 96 | 16 |
//! | a second later | 137 | 97 | 17 | 11 | 97 | 17 |
//!
//! * **Host time** ([`HostClock`]): monotonic for intervals, wall for the calendar. [`ShiftedClock`] lets a
//!   test outside the process move both.
//! * **Guest monotonic time** ([`GuestClock::now_ns`]): the `time` CSR, in ns. Stands while held, runs while
//!   live, asleep or not. With `-icount` it follows retired instructions in place of the host.
//! * **Awake time** ([`GuestClock::awake_ns`]): guest time less sleep; for what only an awake guest can
//!   serve, such as a watchdog.
//! * **RTC time** ([`WallClock`]): a declared policy over the host's wall clock or guest time.
//!
//! [`TimerQueue`] holds deadlines on these axes; its [`TimerClass`] says which are looked at when.
//!
//! # Invariants
//!
//! 1. The advance of `g` over any walk is exactly the host monotonic time spent live: nothing is rounded, and
//!    ticks are derived from ns, never the other way round.
//! 2. Within one timeline no thread ever sees `g` go back. A load or an arrival begins a new timeline.
//! 3. The freeze is the moment of the stop: no timer fires after it, and when [`TimerQueue::freeze`] returns
//!    no callback runs.
//! 4. `freeze`, `thaw` and `set_asleep` are idempotent and say whether they changed something.
//! 5. The RTC never goes back unless the guest sets it or another state is loaded.
//! 6. Under counted time the same instructions and the same calls give the same times and the same callbacks
//!    in the same order.
//! 7. No deadline, offset or saved value overflows or panics: sums saturate, and `u64::MAX` ns as a deadline
//!    means *never*.
//!
//! # Why so
//!
//! The clock is frozen *before* the harts are parked, so that neither the slowest hart nor a long device
//! access adds guest time and no timer can fall due in a half-parked machine. It is read without a lock
//! because every hart reads it all the time. Awake time is an axis of its own because "asleep" and "held" are
//! different things: a sleeping machine's RTC must go on, or it never wakes, and its watchdog must not, or
//! the wake-up is followed at once by a reset.
//!
//! Guest time follows `CLOCK_MONOTONIC`, which stands while the host itself is suspended: a sleeping host is
//! a pause that nobody ordered. The RTC with clock=host shows it afterwards.
#![forbid(unsafe_code)]

mod civil;
mod class;
mod guest;
mod host;
mod icount;
mod rtc;
mod tick;
mod timer;
pub mod wall;

pub use civil::utc;
pub use class::{Next, TimerClass};
pub use guest::{AdvanceError, GuestClock, GuestClockState, SetError};
pub use host::{Hook, HostClock, ShiftedClock, SystemClock, TestClock};
pub use icount::{CountedSource, IcountShift, IcountShiftError};
pub use rtc::{RtcBase, RtcClock, RtcOptionError, RtcOptions};
pub use tick::{TIMEBASE_HZ, ns_of_tick, ticks};
pub use timer::{Timer, TimerId, TimerQueue, TimerTarget};
pub use wall::{WallClock, WallClockState, WallLoadError};
