//! The timer classes, and what the keeper of time is told about them.

/// On which axis a timer's deadline lies, and when it is looked at (lifecycle-rules 4.6). Declared once by
/// each device.
///
/// | class | deadline in ns of | live, Awake | live, Asleep | held | for |
/// |---|---|---|---|---|---|
/// | `AwakeTime` | [`GuestClock::awake_ns`](crate::GuestClock::awake_ns) | fires | not looked at, and its axis stands | not looked at, axis stands | watchdog countdown: else a wake-up would be followed at once by a watchdog reset |
/// | `GuestTime` | [`GuestClock::now_ns`](crate::GuestClock::now_ns) | fires | not looked at; axis advances, so due on wake | not looked at, axis stands | hart compare values, `mtimecmp`, SBI TIME |
/// | `Wake` | [`GuestClock::now_ns`](crate::GuestClock::now_ns) | fires | fires: it wakes the guest | not looked at, axis stands | RTC alarm with clock=vm |
/// | `HostWall` | [`HostClock::realtime_ns`](crate::HostClock::realtime_ns) | fires | fires: it wakes the guest | not looked at; axis advances, so due when lifted | RTC alarm with clock=host |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerClass {
    /// Awake time: stands while the guest is asleep or held.
    AwakeTime,
    /// Guest time, looked at only while the guest is awake.
    GuestTime,
    /// Guest time, looked at while the guest is asleep too.
    Wake,
    /// The host's wall clock (ns since 1970), looked at while the guest is asleep too.
    HostWall,
}

impl TimerClass {
    /// Every class, in declaration order.
    pub const ALL: [Self; 4] = [Self::AwakeTime, Self::GuestTime, Self::Wake, Self::HostWall];

    /// Whether a timer of this class may end a sleep.
    #[must_use]
    pub fn wakes(self) -> bool {
        matches!(self, Self::Wake | Self::HostWall)
    }
}

/// When the keeper of time must look at the queue again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// Host monotonic time in ns ([`HostClock::monotonic_ns`](crate::HostClock::monotonic_ns)). `None`: no
    /// need; always so under counted time.
    pub monotonic_deadline_ns: Option<u64>,
    /// Host wall time in ns ([`HostClock::realtime_ns`](crate::HostClock::realtime_ns)): wait with an
    /// absolute timer of `CLOCK_REALTIME` that is cancelled when the clock is set (lifecycle-rules 4.7).
    /// `None`: no need.
    pub realtime_deadline_ns: Option<u64>,
}
