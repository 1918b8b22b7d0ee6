//! What may wake the guest, put together from the devices and the interrupt controller.

use std::sync::Arc;

use devices::{GoldfishRtc, Plic, PowerButton, Sun20iRtc, Uart, WakeLine};
use runstate::WakeSource;
use vmcore::{ArmedBy, WakeState};

/// The devices that have a say in it.
pub(crate) struct Wakers {
    pub(crate) plic: Arc<Plic>,
    pub(crate) sun_rtc: Option<Arc<Sun20iRtc>>,
    pub(crate) goldfish: Arc<GoldfishRtc>,
    pub(crate) uart: Arc<Uart>,
    pub(crate) button: Arc<PowerButton>,
}

impl Wakers {
    /// Each source, the ones with a name first. Of lines without a name only those that the guest left unmasked.
    pub(crate) fn states(&self) -> Vec<WakeState> {
        let lines = self.plic.wake_lines();
        let line = |source| lines.iter().find(|line| line.source == source);
        let by_line = |source, armed: bool, alarm| WakeState {
            source,
            armed: line(source).filter(|_| armed).map(|_| ArmedBy::InterruptController),
            due: line(source).is_some_and(|line| line.asserted),
            alarm,
        };
        let mut states = Vec::new();
        if let Some(rtc) = &self.sun_rtc {
            states.push(by_line(WakeSource::Rtc(0), rtc.is_armed(), rtc.alarm_time()));
        }
        let mut goldfish = self.goldfish.wake_state();
        goldfish.due |= line(goldfish.source).is_some_and(|line| line.asserted);
        states.push(goldfish);
        states.push(by_line(WakeSource::Serial(0), self.uart.input_interrupts(), None));
        let mut button = self.button.wake_state();
        button.due |= line(button.source).is_some_and(|line| line.asserted);
        states.push(button);
        let nameless = lines.iter().filter(|line| matches!(line.source, WakeSource::Interrupt { .. }));
        states.extend(nameless.map(|WakeLine { source, asserted, .. }| WakeState {
            source: *source,
            armed: Some(ArmedBy::InterruptController),
            due: *asserted,
            alarm: None,
        }));
        for state in &mut states {
            // A device of a held machine looks at its alarm only when the machine goes on: it is due then.
            state.due |= state.armed.is_some() && state.alarm.is_some_and(|alarm| alarm.left_ns == 0);
        }
        states
    }
}
