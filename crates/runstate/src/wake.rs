//! Wake sources, the operator's policy about them, and what became of a wake that was not delivered.

use crate::DeviceId;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What woke, or would wake, a sleeping guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WakeSource {
    /// `system_wakeup`, or the loading of a sleeping snapshot into a running machine.
    Management,
    /// The alarm of a real-time clock, by its number (`rtc0`, `rtc1`).
    Rtc(u8),
    /// Input on a serial port, by its number (`serial0`).
    Serial(u8),
    /// The power button (`system_powerdown`).
    PowerButton,
    /// The interrupt controller's output for the sleeping hart, raised by a line that has no name of its own.
    Interrupt {
        /// Number of the line at the interrupt controller.
        line: u32,
    },
    /// Any other device that judges wakes by itself.
    Device(DeviceId),
}

impl fmt::Display for WakeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WakeSource::Management => f.write_str("management"),
            WakeSource::Rtc(number) => write!(f, "rtc{number}"),
            WakeSource::Serial(number) => write!(f, "serial{number}"),
            WakeSource::PowerButton => f.write_str("power-button"),
            WakeSource::Interrupt { line } => write!(f, "interrupt{line}"),
            WakeSource::Device(id) => write!(f, "device{}", id.0),
        }
    }
}

impl WakeSource {
    /// What the operator switches it by; nothing switches management off, as in QEMU (reason "other" is never masked).
    pub const fn switch(self) -> Option<WakeSwitch> {
        match self {
            WakeSource::Management => None,
            WakeSource::Rtc(0) => Some(WakeSwitch::Rtc0),
            WakeSource::Rtc(_) => Some(WakeSwitch::Rtc1),
            WakeSource::Serial(_) => Some(WakeSwitch::Serial0),
            WakeSource::PowerButton => Some(WakeSwitch::PowerButton),
            WakeSource::Interrupt { .. } => Some(WakeSwitch::Interrupt),
            WakeSource::Device(_) => Some(WakeSwitch::Device),
        }
    }
}

/// What the operator can allow and forbid: a source, or all that have no name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WakeSwitch {
    /// The alarm of the first real-time clock.
    Rtc0,
    /// The alarm of the second.
    Rtc1,
    /// Input on the serial port.
    Serial0,
    /// The power button.
    PowerButton,
    /// Any other interrupt that the guest left unmasked.
    Interrupt,
    /// Any other device that judges wakes by itself.
    Device,
}

/// A word that names no [`WakeSwitch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of: rtc0, rtc1, serial0, power-button, interrupt, device")]
pub struct UnknownWakeSwitch;

impl WakeSwitch {
    /// Every switch, in the order in which they are shown.
    pub const ALL: [WakeSwitch; 6] = [
        WakeSwitch::Rtc0,
        WakeSwitch::Rtc1,
        WakeSwitch::Serial0,
        WakeSwitch::PowerButton,
        WakeSwitch::Interrupt,
        WakeSwitch::Device,
    ];

    /// The name on the command line and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            WakeSwitch::Rtc0 => "rtc0",
            WakeSwitch::Rtc1 => "rtc1",
            WakeSwitch::Serial0 => "serial0",
            WakeSwitch::PowerButton => "power-button",
            WakeSwitch::Interrupt => "interrupt",
            WakeSwitch::Device => "device",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl FromStr for WakeSwitch {
    type Err = UnknownWakeSwitch;
    fn from_str(word: &str) -> Result<WakeSwitch, UnknownWakeSwitch> {
        WakeSwitch::ALL.into_iter().find(|switch| switch.as_str() == word).ok_or(UnknownWakeSwitch)
    }
}

/// Which sources may wake the guest. Whether the *guest* armed a source is judged in its device; this is the operator's say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WakePolicy {
    forbidden: u8,
}

impl WakePolicy {
    /// Everything that the guest armed may wake it, and the power button too.
    pub const ALL: WakePolicy = WakePolicy { forbidden: 0 };

    /// Whether `source` may wake. Management always may.
    pub const fn allows(self, source: WakeSource) -> bool {
        match source.switch() {
            None => true,
            Some(switch) => self.is_on(switch),
        }
    }

    /// Whether what `switch` stands for may wake.
    pub const fn is_on(self, switch: WakeSwitch) -> bool {
        self.forbidden & switch.bit() == 0
    }

    /// This policy with `switch` on (it may wake) or off (it may not).
    pub const fn set(self, switch: WakeSwitch, on: bool) -> WakePolicy {
        let others = self.forbidden & !switch.bit();
        WakePolicy { forbidden: if on { others } else { others | switch.bit() } }
    }

    /// This policy with `change` on top.
    pub const fn with(self, change: WakeChange) -> WakePolicy {
        WakePolicy { forbidden: self.forbidden & !change.allow | change.forbid }
    }

    /// Whether this policy allows something that `other` forbids.
    pub(crate) const fn allows_more_than(self, other: WakePolicy) -> bool {
        other.forbidden & !self.forbidden != 0
    }
}

impl Default for WakePolicy {
    fn default() -> WakePolicy {
        WakePolicy::ALL
    }
}

/// A change of a [`WakePolicy`]: any subset of the switches, also none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WakeChange {
    allow: u8,
    forbid: u8,
}

impl WakeChange {
    /// This change, and `switch` on or off besides; of two about the same switch the last one counts.
    #[must_use]
    pub const fn set(self, switch: WakeSwitch, on: bool) -> WakeChange {
        let (allow, forbid) = (self.allow & !switch.bit(), self.forbid & !switch.bit());
        if on {
            WakeChange { allow: allow | switch.bit(), forbid }
        } else {
            WakeChange { allow, forbid: forbid | switch.bit() }
        }
    }
}

/// Why a wake was not delivered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WakeFate {
    /// It waits until nothing holds the machine any more.
    Latched,
    /// The operator's policy forbids the source.
    Forbidden,
    /// The guest has masked the source.
    Masked,
}

impl WakeFate {
    /// The name in logs and queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            WakeFate::Latched => "latched",
            WakeFate::Forbidden => "forbidden",
            WakeFate::Masked => "masked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_stands_for_itself() {
        for switch in WakeSwitch::ALL {
            assert_eq!(switch.as_str().parse(), Ok(switch));
            let without = WakePolicy::ALL.set(switch, false);
            for other in WakeSwitch::ALL {
                assert_eq!(without.is_on(other), other != switch);
            }
            assert_eq!(without.set(switch, true), WakePolicy::ALL);
        }
        assert_eq!("rtc".parse::<WakeSwitch>(), Err(UnknownWakeSwitch));
    }

    #[test]
    fn the_last_word_about_a_switch_counts() {
        let change = WakeChange::default().set(WakeSwitch::Rtc0, false).set(WakeSwitch::Rtc0, true);
        assert_eq!(WakePolicy::ALL.set(WakeSwitch::Rtc0, false).with(change), WakePolicy::ALL);
        let change = WakeChange::default().set(WakeSwitch::Rtc1, false);
        let policy = WakePolicy::ALL.with(change);
        assert!(!policy.allows(WakeSource::Rtc(1)) && policy.allows(WakeSource::Rtc(0)));
        assert!(policy.allows(WakeSource::Management));
        assert_eq!(policy.with(WakeChange::default()), policy);
    }
}
