//! The watchdog of the Allwinner A10 (`allwinner,sun4i-a10-wdt`; A10 user manual, chapter "Watchdog"): two registers, which
//! Linux's `sunxi_wdt` drives.
//!
//! * It counts awake time: it stands while the guest is asleep, since nobody could feed it then, and while the machine is
//!   held. Otherwise a wake-up would be followed by a reset at once.
//! * It begins to count when it is enabled, and anew when it is reloaded or its interval changes.
//! * It bites once: what is done then is the machine's action, and a guest that lives on has to reload it.

use std::sync::{Arc, Mutex, Weak};

use clock::{Timer, TimerClass, TimerQueue, TimerTarget};
use runstate::{DeviceRequest, GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, Device, DevicePort, LoadError, Section};

use crate::lock;
use spec::*;

#[cfg(test)]
mod tests;

/// Register offsets and fields, A10 user manual.
mod spec {
    pub const CONTROL: u64 = 0x0;
    pub const MODE: u64 = 0x4;

    /// Bit 0 with the key 0xa57 in 12:1.
    pub const RELOAD: u32 = 0x0a57 << 1 | 1;
    pub const RELOAD_MASK: u32 = 0x1fff;

    pub const ENABLE: u32 = 1 << 0;
    /// The system is reset when the count is over; without it nothing happens then.
    pub const RESET: u32 = 1 << 1;
    pub const INTERVAL_SHIFT: u32 = 3;
    pub const INTERVAL: u32 = 0xf << INTERVAL_SHIFT;
    pub const MODE_MASK: u32 = ENABLE | RESET | INTERVAL;

    /// Milliseconds by the interval field; values beyond it are reserved and count as the longest.
    pub const INTERVALS_MS: [u64; 12] =
        [500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 14_000, 16_000];
    pub const LONGEST_MS: u64 = 16_000;
    pub const NS_PER_MS: u64 = 1_000_000;
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct State {
    mode: u32,
    /// When it bites, in ns of awake time.
    deadline: Option<u64>,
}

/// What is saved: time as what is left of it, because awake time begins anew elsewhere.
#[derive(Serialize, Deserialize)]
struct Saved {
    mode: u32,
    left_ns: Option<u64>,
}

/// The device. See the module's documentation.
pub struct Watchdog {
    name: String,
    port: Arc<dyn DevicePort>,
    timer: Timer,
    state: Mutex<State>,
}

impl Watchdog {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 0x10;
    const VERSION: u32 = 1;

    /// A watchdog that does not count, and bites by `port`.
    pub fn new(name: &str, timers: &Arc<TimerQueue>, port: Arc<dyn DevicePort>) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            name: name.to_owned(),
            port,
            timer: timers.add_weak(TimerClass::AwakeTime, me.clone()),
            state: Mutex::default(),
        })
    }

    /// Counts from now on.
    fn reload(&self, state: &mut State) {
        state.deadline = (state.mode & ENABLE != 0).then(|| self.timer.now_ns() + state.interval_ns());
        self.watch(state);
    }

    fn watch(&self, state: &State) {
        match state.deadline {
            Some(deadline) => self.timer.arm(deadline),
            None => {
                self.timer.disarm();
            }
        }
    }

    fn checked(&self, section: &Section) -> Result<Saved, LoadError> {
        let saved: Saved = section.decode(&self.name, Self::VERSION)?;
        if saved.mode & !MODE_MASK != 0 {
            return Err(section.bad_value("mode"));
        }
        let state = State { mode: saved.mode, deadline: None };
        if let Some(left) = saved.left_ns
            && (saved.mode & ENABLE == 0 || left > state.interval_ns())
        {
            return Err(section.bad_value("time left"));
        }
        Ok(saved)
    }

    fn left_ns(&self, state: &State) -> Option<u64> {
        state.deadline.map(|deadline| deadline.saturating_sub(self.timer.now_ns()))
    }
}

impl State {
    fn interval_ns(&self) -> u64 {
        let index = (self.mode & INTERVAL) >> INTERVAL_SHIFT;
        INTERVALS_MS.get(index as usize).copied().unwrap_or(LONGEST_MS) * NS_PER_MS
    }
}

impl TimerTarget for Watchdog {
    fn expired(&self) {
        let mut state = lock(&self.state);
        match state.deadline {
            Some(deadline) if self.timer.now_ns() >= deadline => {}
            // Reloaded meanwhile.
            _ => return self.watch(&state),
        }
        state.deadline = None;
        let bites = state.mode & RESET != 0;
        drop(state);
        if bites {
            self.port.post(DeviceRequest::Watchdog);
        }
    }
}

impl Device for Watchdog {
    fn name(&self) -> &str {
        &self.name
    }

    /// Registers take 32-bit accesses; others read 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        if offset == MODE && size == AccessSize::Word { u64::from(lock(&self.state).mode) } else { 0 }
    }

    /// Registers take 32-bit accesses; others are ignored.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        if size != AccessSize::Word {
            return None;
        }
        let value = value as u32;
        let mut state = lock(&self.state);
        match offset {
            CONTROL if value & RELOAD_MASK == RELOAD => self.reload(&mut state),
            MODE => {
                let changed = (state.mode ^ value) & (ENABLE | INTERVAL) != 0;
                state.mode = value & MODE_MASK;
                if changed {
                    self.reload(&mut state);
                }
            }
            _ => {}
        }
        None
    }

    fn reset(&self) {
        let mut state = lock(&self.state);
        *state = State::default();
        self.watch(&state);
    }

    /// Awake time stands while the machine is held.
    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    /// Awake time stands while the guest is asleep.
    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        let state = lock(&self.state);
        let saved = Saved { mode: state.mode, left_ns: self.left_ns(&state) };
        Section::encode(&self.name, Self::VERSION, &saved)
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let Saved { mode, left_ns } = self.checked(section)?;
        let deadline = left_ns.map(|left| self.timer.now_ns().saturating_add(left));
        let state = State { mode, deadline };
        let mut current = lock(&self.state);
        *current = state;
        self.watch(&current);
        Ok(())
    }
}
