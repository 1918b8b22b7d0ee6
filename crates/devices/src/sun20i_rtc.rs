//! The RTC of the Allwinner D1 (`allwinner,sun20i-d1-rtc`; D1 user manual, chapter RTC): days and time of day, and an
//! alarm that Linux may use to end a suspend.
//!
//! * The alarm's line is a level: alarm status and interrupt enable.
//! * An arming fires once: writing 1 to the alarm's enable register arms it, and so does writing the alarm's time while it
//!   is enabled; an alarm that is not after the present fires at once. Clearing the status does not arm it again.
//! * Setting the time is a write of the time of day, which counts for the current day and starts its second anew, then of
//!   the day. What passes between the two writes, midnight included, is not lost.
//! * A reset of the machine clears the alarm and keeps the time and the general-purpose words.
//!
//! It wakes a sleeping guest through the interrupt controller, whose line Linux leaves unmasked, and by nothing else.

use std::sync::{Arc, Mutex, Weak};

use clock::{TimerQueue, TimerTarget, WallClock, WallClockState};
use runstate::{GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, AlarmTime, Device, IrqLine, LoadError, Section};

use crate::alarm::Alarm;
use crate::lock;
use spec::*;

#[cfg(test)]
mod tests;

/// Register offsets and fields, D1 user manual.
mod spec {
    pub const OSCILLATOR: u64 = 0x000;
    pub const CALIBRATION: u64 = 0x00c;
    pub const DAY: u64 = 0x010;
    pub const TIME: u64 = 0x014;
    pub const ALARM_DAY: u64 = 0x020;
    pub const ALARM_TIME: u64 = 0x024;
    pub const ALARM_ENABLE: u64 = 0x028;
    pub const ALARM_IRQ_ENABLE: u64 = 0x02c;
    pub const ALARM_STATUS: u64 = 0x030;
    pub const WEEKLY_ENABLE: u64 = 0x044;
    pub const WEEKLY_IRQ_ENABLE: u64 = 0x048;
    pub const ALARM_WAKE: u64 = 0x050;
    pub const CLOCK_OUTPUT: u64 = 0x060;
    pub const GENERAL: u64 = 0x100;
    pub const GENERAL_END: u64 = GENERAL + 4 * GENERAL_WORDS as u64;
    pub const OSCILLATOR_GATE: u64 = 0x160;

    pub const GENERAL_WORDS: usize = 8;
    /// Bits 9 to 7 say that a write is in progress, which it never is; the upper half takes a key and reads 0.
    pub const OSCILLATOR_MASK: u32 = 0xfc7f;
    pub const DAY_MASK: u32 = 0xffff;
    /// Seconds 5:0, minutes 13:8, hours 20:16.
    pub const TIME_MASK: u32 = 0x001f_3f3f;

    pub const S_PER_DAY: u64 = 86_400;
    pub const NS_PER_S: u64 = 1_000_000_000;
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct State {
    oscillator: u32,
    calibration: u32,
    alarm_day: u32,
    alarm_time: u32,
    enabled: bool,
    irq_enabled: bool,
    status: bool,
    /// Set by arming, taken away by firing.
    armed: bool,
    weekly_enable: u32,
    weekly_irq_enable: u32,
    wake: bool,
    clock_output: u32,
    general: [u32; GENERAL_WORDS],
    oscillator_gate: u32,
    /// The day that was current when the time of day was written, until the day is.
    time_written_on: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    state: State,
    wall: WallClockState,
}

struct Inner {
    state: State,
    held: bool,
}

/// The device. See the module's documentation.
pub struct Sun20iRtc {
    name: String,
    irq: IrqLine,
    alarm: Alarm,
    inner: Mutex<Inner>,
}

impl Sun20iRtc {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 0x400;
    const VERSION: u32 = 1;

    /// An RTC that shows `wall`, on line `irq`.
    pub fn new(name: &str, wall: Arc<WallClock>, timers: &Arc<TimerQueue>, irq: IrqLine) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            name: name.to_owned(),
            irq,
            alarm: Alarm::new(wall, timers, me.clone()),
            inner: Mutex::new(Inner { state: State::default(), held: false }),
        })
    }

    /// Whether the guest has armed the alarm to interrupt it, or it has fired, as far as the device says.
    pub fn is_armed(&self) -> bool {
        let state = &lock(&self.inner).state;
        state.irq_enabled && (state.armed || state.status)
    }

    /// When the alarm interrupts the guest, if it is armed to.
    pub fn alarm_time(&self) -> Option<AlarmTime> {
        let state = lock(&self.inner).state;
        (state.armed && state.irq_enabled).then(|| self.alarm.time(state.alarm_ns()))
    }

    /// Fires the alarm if its moment has come, else watches for it.
    fn judge(&self, inner: &mut Inner) {
        let state = &mut inner.state;
        if !state.armed {
            self.alarm.unwatch();
        } else if !inner.held && self.alarm.reached(state.alarm_ns()) {
            state.armed = false;
            state.status = true;
            self.alarm.unwatch();
        } else {
            self.alarm.watch(state.alarm_ns());
        }
        self.irq.set(state.line());
    }

    fn checked(&self, section: &Section) -> Result<Saved, LoadError> {
        let saved: Saved = section.decode(&self.name, Self::VERSION)?;
        saved.state.check(section)?;
        self.alarm.check(&saved.wall).map_err(|_| section.bad_value("clock source or offset"))?;
        Ok(saved)
    }

    fn now_s(&self) -> u64 {
        self.alarm.now_ns() / NS_PER_S
    }

    /// The time of day was written: it is the current day's, at the start of a second.
    fn set_time_of_day(&self, state: &mut State, value: u32) {
        let day = self.now_s() / S_PER_DAY;
        state.time_written_on = Some(day);
        self.alarm.set_time((day * S_PER_DAY + seconds(value)).saturating_mul(NS_PER_S));
    }

    /// The day was written: it replaces the day that the time of day was written on, so that time that has passed since,
    /// midnight included, counts on.
    fn set_day(&self, state: &mut State, value: u32) {
        let now = self.alarm.now_ns();
        let ns_per_day = S_PER_DAY * NS_PER_S;
        let today = now / ns_per_day;
        // Only the day before can have been the current one a moment ago; an older mark is from a set that was given up.
        let base = state.time_written_on.take().filter(|day| *day <= today && today - day <= 1);
        let passed = now - base.unwrap_or(today) * ns_per_day;
        self.alarm.set_time(u64::from(value & DAY_MASK) * ns_per_day + passed);
    }
}

/// Seconds since midnight of a time-of-day register.
fn seconds(time: u32) -> u64 {
    u64::from(time & 0x3f) + 60 * u64::from(time >> 8 & 0x3f) + 3600 * u64::from(time >> 16 & 0x1f)
}

/// The time-of-day register for a time in seconds.
fn time_of_day(seconds: u64) -> u32 {
    let of_day = (seconds % S_PER_DAY) as u32;
    (of_day % 60) | ((of_day / 60 % 60) << 8) | ((of_day / 3600) << 16)
}

impl State {
    fn line(&self) -> bool {
        self.status && self.irq_enabled
    }

    fn alarm_ns(&self) -> u64 {
        (u64::from(self.alarm_day) * S_PER_DAY + seconds(self.alarm_time)) * NS_PER_S
    }

    fn cleared_alarm(self) -> Self {
        Self {
            oscillator: self.oscillator,
            calibration: self.calibration,
            clock_output: self.clock_output,
            general: self.general,
            oscillator_gate: self.oscillator_gate,
            ..Self::default()
        }
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        let check = |ok: bool, what| if ok { Ok(()) } else { Err(section.bad_value(what)) };
        check(self.oscillator & !OSCILLATOR_MASK == 0, "oscillator control")?;
        check(self.alarm_day & !DAY_MASK == 0, "alarm day")?;
        check(self.alarm_time & !TIME_MASK == 0, "alarm time")?;
        check(self.enabled || !self.armed, "armed alarm that is not enabled")
    }
}

impl TimerTarget for Sun20iRtc {
    fn expired(&self) {
        self.judge(&mut lock(&self.inner));
    }
}

impl Device for Sun20iRtc {
    fn name(&self) -> &str {
        &self.name
    }

    /// Registers take 32-bit accesses; others read 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        if size != AccessSize::Word {
            return 0;
        }
        let state = &lock(&self.inner).state;
        u64::from(match offset {
            OSCILLATOR => state.oscillator,
            CALIBRATION => state.calibration,
            DAY => (self.now_s() / S_PER_DAY) as u32 & DAY_MASK,
            TIME => time_of_day(self.now_s()),
            ALARM_DAY => state.alarm_day,
            ALARM_TIME => state.alarm_time,
            ALARM_ENABLE => state.enabled.into(),
            ALARM_IRQ_ENABLE => state.irq_enabled.into(),
            ALARM_STATUS => state.status.into(),
            WEEKLY_ENABLE => state.weekly_enable,
            WEEKLY_IRQ_ENABLE => state.weekly_irq_enable,
            ALARM_WAKE => state.wake.into(),
            CLOCK_OUTPUT => state.clock_output,
            GENERAL..GENERAL_END => state.general.get((offset - GENERAL) as usize / 4).copied().unwrap_or(0),
            OSCILLATOR_GATE => state.oscillator_gate,
            _ => 0,
        })
    }

    /// Registers take 32-bit accesses; others are ignored.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        if size != AccessSize::Word {
            return None;
        }
        let mut inner = lock(&self.inner);
        let state = &mut inner.state;
        let value = value as u32;
        let bit = value & 1 != 0;
        match offset {
            OSCILLATOR => state.oscillator = value & OSCILLATOR_MASK,
            CALIBRATION => state.calibration = value,
            DAY => self.set_day(state, value),
            TIME => self.set_time_of_day(state, value),
            ALARM_DAY => {
                state.alarm_day = value & DAY_MASK;
                state.armed = state.enabled;
            }
            ALARM_TIME => {
                state.alarm_time = value & TIME_MASK;
                state.armed = state.enabled;
            }
            ALARM_ENABLE => {
                state.enabled = bit;
                state.armed = bit;
            }
            ALARM_IRQ_ENABLE => state.irq_enabled = bit,
            ALARM_STATUS => state.status &= !bit,
            WEEKLY_ENABLE => state.weekly_enable = value,
            WEEKLY_IRQ_ENABLE => state.weekly_irq_enable = value,
            ALARM_WAKE => state.wake = bit,
            CLOCK_OUTPUT => state.clock_output = value,
            GENERAL..GENERAL_END => {
                if let Some(word) = state.general.get_mut((offset - GENERAL) as usize / 4) {
                    *word = value;
                }
            }
            OSCILLATOR_GATE => state.oscillator_gate = value,
            _ => return None,
        }
        self.judge(&mut inner);
        None
    }

    fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.state = inner.state.cleared_alarm();
        self.judge(&mut inner);
    }

    fn stop(&self) {
        lock(&self.inner).held = true;
    }

    /// The wake, if one is due, is reported by the interrupt controller.
    fn start(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        inner.held = false;
        self.judge(&mut inner);
        None
    }

    /// As [`Sun20iRtc::start`].
    fn sleep(&self) -> Option<WakeSource> {
        self.judge(&mut lock(&self.inner));
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        let inner = lock(&self.inner);
        Section::encode(&self.name, Self::VERSION, &Saved { state: inner.state, wall: self.alarm.save() })
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let saved = self.checked(section)?;
        let mut inner = lock(&self.inner);
        self.alarm.load(&saved.wall).map_err(|_| section.bad_value("clock source or offset"))?;
        inner.state = saved.state;
        if inner.state.armed {
            self.alarm.watch(inner.state.alarm_ns());
        } else {
            self.alarm.unwatch();
        }
        self.irq.set(inner.state.line());
        Ok(())
    }
}
