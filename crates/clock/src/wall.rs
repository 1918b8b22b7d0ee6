//! The RTC's policy: what a wall clock inside the guest shows, kept apart from the registers of the device
//! that shows it.
//!
//! Invariants (lifecycle-rules 4.9)
//! * `RTC = max(last value handed out, source + offset)`, so it never goes back, even when the host's clock
//!   is stepped back or a destination's clock is behind its source's; else Linux would not count the time it
//!   slept. Clamping is counted.
//! * The source is the host's wall clock (`clock=host`: it goes on while the machine is held) or guest time
//!   (`clock=vm`: it stands with it, so the sleep that Linux adds afterwards excludes a hold: as declared).
//! * Only the guest (by setting it), a load and an arrival move the offset.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::class::TimerClass;
use crate::guest::GuestClock;
use crate::host::HostClock;
use crate::rtc::{RtcBase, RtcClock, RtcOptions};

const NS_PER_S: i128 = 1_000_000_000;

/// The saved form of a [`WallClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClockState {
    /// What makes it advance.
    pub clock: RtcClock,
    /// RTC less source, ns.
    pub offset_ns: i128,
    /// The last value handed out, ns since 1970: the RTC does not go below it after a load or a move either.
    pub last_ns: u64,
    /// How many reads were answered with the last value because the source was behind it.
    pub clamped: u64,
}

/// Why a saved wall clock was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WallLoadError {
    /// An offset from one source means nothing to another.
    #[error(
        "the saved RTC follows clock={saved:?} but this machine's follows clock={here:?}; start it with the same -rtc clock="
    )]
    OtherClock {
        /// The saved machine's source.
        saved: RtcClock,
        /// This machine's source.
        here: RtcClock,
    },
    /// No offset between two times of 64 bits is as large.
    #[error("saved RTC offset {0} ns is out of range")]
    Offset(i128),
}

struct State {
    offset: i128,
    last: u64,
    clamped: u64,
}

/// The RTC's value. Shared by reference; every call takes a short lock.
pub struct WallClock {
    clock: RtcClock,
    host: Arc<dyn HostClock>,
    guest: Arc<GuestClock>,
    state: Mutex<State>,
}

impl WallClock {
    /// An RTC that starts as `options` say at this moment. `local_offset_s` is the host's local time less UTC
    /// in s; it counts only with [`RtcBase::Localtime`], and is passed in so that nothing here depends on the
    /// environment.
    #[must_use]
    pub fn new(
        options: RtcOptions,
        local_offset_s: i32,
        host: Arc<dyn HostClock>,
        guest: Arc<GuestClock>,
    ) -> Self {
        let wall = i128::from(host.realtime_ns());
        let start = match options.base {
            RtcBase::Utc => wall,
            RtcBase::Localtime => wall + i128::from(local_offset_s) * NS_PER_S,
            RtcBase::Date(ns) => i128::from(ns),
        };
        let source = match options.clock {
            RtcClock::Host => wall,
            RtcClock::Vm => i128::from(guest.now_ns()),
        };
        let state = State { offset: start - source, last: 0, clamped: 0 };
        Self { clock: options.clock, host, guest, state: Mutex::new(state) }
    }

    /// The RTC's time in ns since 1970. Never less than what it answered before, unless the guest set it or a
    /// state was loaded.
    pub fn now_ns(&self) -> u64 {
        let mut state = self.lock();
        let ns = self.unclamped(&state);
        if ns < state.last {
            state.clamped = state.clamped.saturating_add(1);
        }
        state.last = state.last.max(ns);
        state.last
    }

    /// What [`now_ns`](Self::now_ns) would answer, without handing it out: for queries, which must not change
    /// a held machine.
    #[must_use]
    pub fn peek_ns(&self) -> u64 {
        let state = self.lock();
        self.unclamped(&state).max(state.last)
    }

    /// The guest sets the RTC to `ns` since 1970. The one way for it to go back.
    pub fn set(&self, ns: u64) {
        let mut state = self.lock();
        state.offset = i128::from(ns) - self.source_ns();
        state.last = ns;
    }

    /// How many reads were answered with an earlier value because the source was behind it.
    #[must_use]
    pub fn clamped(&self) -> u64 {
        self.lock().clamped
    }

    /// How far the source is behind the last value handed out, in ns; 0 when nothing is clamped at present.
    #[must_use]
    pub fn behind_ns(&self) -> u64 {
        let state = self.lock();
        state.last.saturating_sub(self.unclamped(&state))
    }

    /// What makes it advance.
    #[must_use]
    pub fn rtc_clock(&self) -> RtcClock {
        self.clock
    }

    /// The class that a timer for this RTC's alarm must have: either may wake the guest.
    #[must_use]
    pub fn alarm_timer_class(&self) -> TimerClass {
        match self.clock {
            RtcClock::Host => TimerClass::HostWall,
            RtcClock::Vm => TimerClass::Wake,
        }
    }

    /// The deadline, on the axis of [`alarm_timer_class`](Self::alarm_timer_class), at which the RTC reaches
    /// `rtc_ns`. 0, so due at once, when it has been reached already, also by a clamped value whose source is
    /// behind; saturates to `u64::MAX`, *never*.
    ///
    /// It holds until the offset moves: arm again after [`set`](Self::set) and [`load`](Self::load).
    #[must_use]
    pub fn alarm_deadline_ns(&self, rtc_ns: u64) -> u64 {
        let state = self.lock();
        if rtc_ns <= state.last || rtc_ns <= self.unclamped(&state) {
            return 0;
        }
        saturate(i128::from(rtc_ns) - state.offset)
    }

    /// How far the source has to go until the RTC reaches `rtc_ns`, in ns; 0 when it has been reached.
    #[must_use]
    pub fn until_ns(&self, rtc_ns: u64) -> u64 {
        let state = self.lock();
        if rtc_ns <= state.last { 0 } else { rtc_ns.saturating_sub(self.unclamped(&state)) }
    }

    /// What a load needs to go on from here.
    #[must_use]
    pub fn save(&self) -> WallClockState {
        let state = self.lock();
        WallClockState {
            clock: self.clock,
            offset_ns: state.offset,
            last_ns: state.last,
            clamped: state.clamped,
        }
    }

    /// Whether a saved RTC can be taken over.
    ///
    /// # Errors
    /// [`WallLoadError`] when the state is of another kind of clock or out of range.
    pub fn check(&self, saved: &WallClockState) -> Result<(), WallLoadError> {
        if saved.clock != self.clock {
            return Err(WallLoadError::OtherClock { saved: saved.clock, here: self.clock });
        }
        if saved.offset_ns.unsigned_abs() > u128::from(u64::MAX) + i32::MAX as u128 * NS_PER_S as u128 {
            return Err(WallLoadError::Offset(saved.offset_ns));
        }
        Ok(())
    }

    /// Takes over a saved RTC.
    ///
    /// # Errors
    /// As of [`check`](Self::check); nothing is changed then.
    pub fn load(&self, saved: &WallClockState) -> Result<(), WallLoadError> {
        self.check(saved)?;
        *self.lock() = State { offset: saved.offset_ns, last: saved.last_ns, clamped: saved.clamped };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source_ns(&self) -> i128 {
        i128::from(match self.clock {
            RtcClock::Host => self.host.realtime_ns(),
            RtcClock::Vm => self.guest.now_ns(),
        })
    }

    fn unclamped(&self, state: &State) -> u64 {
        saturate(self.source_ns() + state.offset)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.save()).finish()
    }
}

fn saturate(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}
