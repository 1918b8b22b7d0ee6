//! The goldfish RTC: a clock in ns since 1970 with one alarm (registers as Linux's `rtc-goldfish` and QEMU's `virt` use
//! them).
//!
//! * Reading TIME_LOW latches TIME_HIGH. Writing TIME_HIGH, then TIME_LOW, sets the time; ALARM_HIGH, then ALARM_LOW, arms.
//! * An alarm that is not after the present fires at once; each arming fires once.
//! * The line is high while an alarm is pending and interrupts are enabled.
//!
//! Linux masks this device's line at the interrupt controller when it suspends, so its alarm is judged here, at the
//! device: one that is pending and enabled is a wake.

use std::sync::{Arc, Mutex, Weak};

use clock::{TimerQueue, TimerTarget, WallClock, WallClockState};
use runstate::{DeviceRequest, GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, ArmedBy, Device, DevicePort, IrqLine, LoadError, Section, WakeState};

use crate::alarm::Alarm;
use crate::lock;
use spec::*;

#[cfg(test)]
mod tests;

/// Register offsets.
mod spec {
    pub const TIME_LOW: u64 = 0x00;
    pub const TIME_HIGH: u64 = 0x04;
    pub const ALARM_LOW: u64 = 0x08;
    pub const ALARM_HIGH: u64 = 0x0c;
    pub const IRQ_ENABLED: u64 = 0x10;
    pub const CLEAR_ALARM: u64 = 0x14;
    pub const ALARM_STATUS: u64 = 0x18;
    pub const CLEAR_INTERRUPT: u64 = 0x1c;
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct State {
    /// What TIME_HIGH reads: latched by the last read of TIME_LOW.
    latched_high: u32,
    /// Written to TIME_HIGH, for the next write of TIME_LOW.
    written_high: Option<u32>,
    /// ns since 1970.
    alarm: u64,
    armed: bool,
    enabled: bool,
    pending: bool,
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
pub struct GoldfishRtc {
    name: String,
    irq: IrqLine,
    alarm: Alarm,
    port: Arc<dyn DevicePort>,
    source: WakeSource,
    inner: Mutex<Inner>,
}

impl GoldfishRtc {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 0x1000;
    const VERSION: u32 = 1;

    /// The RTC numbered `number` in wake reports, showing `wall`, on line `irq`. Its alarms are posted to `port`.
    pub fn new(
        name: &str,
        number: u8,
        wall: Arc<WallClock>,
        timers: &Arc<TimerQueue>,
        irq: IrqLine,
        port: Arc<dyn DevicePort>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            name: name.to_owned(),
            irq,
            alarm: Alarm::new(wall, timers, me.clone()),
            port,
            source: WakeSource::Rtc(number),
            inner: Mutex::new(Inner { state: State::default(), held: false }),
        })
    }

    /// Its alarm as a wake source.
    pub fn wake_state(&self) -> WakeState {
        let state = lock(&self.inner).state;
        WakeState {
            source: self.source,
            armed: (state.enabled && (state.armed || state.pending)).then_some(ArmedBy::Device),
            due: self.due_wake(&state).is_some(),
            alarm: (state.enabled && state.armed).then(|| self.alarm.time(state.alarm)),
        }
    }

    fn checked(&self, section: &Section) -> Result<Saved, LoadError> {
        let saved: Saved = section.decode(&self.name, Self::VERSION)?;
        self.alarm.check(&saved.wall).map_err(|_| section.bad_value("clock source or offset"))?;
        Ok(saved)
    }

    fn drive(&self, state: &State) {
        self.irq.set(state.pending && state.enabled);
    }

    /// Fires the alarm if its moment has come, else watches for it.
    fn judge(&self, inner: &mut Inner) {
        let state = &mut inner.state;
        if !state.armed {
            self.alarm.unwatch();
        } else if !inner.held && self.alarm.reached(state.alarm) {
            state.armed = false;
            state.pending = true;
            self.alarm.unwatch();
        } else {
            self.alarm.watch(state.alarm);
        }
        self.drive(state);
    }

    fn due_wake(&self, state: &State) -> Option<WakeSource> {
        (state.pending && state.enabled).then_some(self.source)
    }
}

impl TimerTarget for GoldfishRtc {
    fn expired(&self) {
        let mut inner = lock(&self.inner);
        let was_pending = inner.state.pending;
        self.judge(&mut inner);
        if !was_pending && let Some(source) = self.due_wake(&inner.state) {
            self.port.post(DeviceRequest::Wake(source));
        }
    }
}

impl Device for GoldfishRtc {
    fn name(&self) -> &str {
        &self.name
    }

    /// Registers take 32-bit accesses; others read 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        if size != AccessSize::Word {
            return 0;
        }
        let state = &mut lock(&self.inner).state;
        match offset {
            TIME_LOW => {
                let now = self.alarm.now_ns();
                state.latched_high = (now >> 32) as u32;
                now & 0xffff_ffff
            }
            TIME_HIGH => u64::from(state.latched_high),
            ALARM_LOW => state.alarm & 0xffff_ffff,
            ALARM_HIGH => state.alarm >> 32,
            IRQ_ENABLED => u64::from(state.enabled),
            ALARM_STATUS => u64::from(state.armed),
            _ => 0,
        }
    }

    /// Registers take 32-bit accesses; others are ignored.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        if size != AccessSize::Word {
            return None;
        }
        let mut inner = lock(&self.inner);
        let state = &mut inner.state;
        let low_half = value & 0xffff_ffff;
        match offset {
            TIME_HIGH => state.written_high = Some(value as u32),
            TIME_LOW => {
                let high = state.written_high.take().map_or_else(|| self.alarm.now_ns() >> 32, u64::from);
                self.alarm.set_time(high << 32 | low_half);
            }
            ALARM_HIGH => state.alarm = value << 32 | state.alarm & 0xffff_ffff,
            ALARM_LOW => {
                state.alarm = state.alarm >> 32 << 32 | low_half;
                state.armed = true;
            }
            IRQ_ENABLED => state.enabled = value & 1 != 0,
            CLEAR_ALARM => state.armed = false,
            CLEAR_INTERRUPT => state.pending = false,
            _ => return None,
        }
        self.judge(&mut inner);
        None
    }

    /// The time stays.
    fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.state = State::default();
        self.judge(&mut inner);
    }

    fn stop(&self) {
        lock(&self.inner).held = true;
    }

    fn start(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        inner.held = false;
        self.judge(&mut inner);
        self.due_wake(&inner.state)
    }

    fn sleep(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        self.judge(&mut inner);
        self.due_wake(&inner.state)
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
            self.alarm.watch(inner.state.alarm);
        } else {
            self.alarm.unwatch();
        }
        self.drive(&inner.state);
        Ok(())
    }
}
