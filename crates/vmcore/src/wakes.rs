//! What may end a suspend to RAM, as the machine sees it at this moment.

use runstate::WakeSource;

/// One wake source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeState {
    /// Which.
    pub source: WakeSource,
    /// Who has armed it; `None`: nobody, and what happens there wakes nothing.
    ///
    /// It is what would count if the guest slept as things are now. A guest that is about to sleep may mask a source
    /// before it does: Linux masks every line that is not armed for wake.
    pub armed: Option<ArmedBy>,
    /// What it waits for has happened already.
    pub due: bool,
    /// The moment that it waits for, if that is known.
    pub alarm: Option<AlarmTime>,
}

/// Who has armed a wake source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArmedBy {
    /// Nobody need: it always may wake.
    Always,
    /// The guest, by the device and by leaving its line unmasked at the interrupt controller.
    InterruptController,
    /// The guest, by the device alone.
    Device,
}

impl ArmedBy {
    /// The name in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            ArmedBy::Always => "always",
            ArmedBy::InterruptController => "interrupt-controller",
            ArmedBy::Device => "device",
        }
    }
}

/// When an alarm falls due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AlarmTime {
    /// On the clock that the guest set it on, ns since 1970.
    pub rtc_ns: u64,
    /// How far that clock has to go, in ns; 0 when it is there.
    pub left_ns: u64,
}
