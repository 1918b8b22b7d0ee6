//! Wake sources and the operator's policy about them.

use crate::DeviceId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What woke, or would wake, a sleeping guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WakeSource {
    /// `system_wakeup`, or the loading of a sleeping snapshot into a running machine.
    Management,
    /// The alarm of a real-time clock, by its number (`rtc0`, `rtc1`).
    Rtc(u8),
    /// The interrupt controller's output for the sleeping hart, raised by this line.
    Interrupt {
        /// Number of the line at the interrupt controller.
        line: u32,
    },
    /// The power button (`system_powerdown`).
    PowerButton,
    /// Any other device that judges wakes by itself.
    Device(DeviceId),
}

impl fmt::Display for WakeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WakeSource::Management => f.write_str("management"),
            WakeSource::Rtc(number) => write!(f, "rtc{number}"),
            WakeSource::Interrupt { line } => write!(f, "interrupt {line}"),
            WakeSource::PowerButton => f.write_str("power-button"),
            WakeSource::Device(id) => write!(f, "device {}", id.0),
        }
    }
}

/// Which sources may wake the guest. Whether the *guest* armed a source is judged in its device; this is the operator's say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WakePolicy {
    /// Alarms of real-time clocks.
    pub rtc: bool,
    /// Interrupts that the guest left unmasked.
    pub interrupt: bool,
    /// The power button.
    pub power_button: bool,
    /// Other devices.
    pub device: bool,
}

impl WakePolicy {
    /// Everything that the guest armed may wake it, and the power button too.
    pub const ALL: WakePolicy = WakePolicy { rtc: true, interrupt: true, power_button: true, device: true };

    /// Whether `source` may wake. Management always may, as in QEMU (reason "other" is never masked).
    pub const fn allows(self, source: WakeSource) -> bool {
        match source {
            WakeSource::Management => true,
            WakeSource::Rtc(_) => self.rtc,
            WakeSource::Interrupt { .. } => self.interrupt,
            WakeSource::PowerButton => self.power_button,
            WakeSource::Device(_) => self.device,
        }
    }
}

impl Default for WakePolicy {
    fn default() -> WakePolicy {
        WakePolicy::ALL
    }
}
