//! The power button: a virtio input device with the power key, in a slot of its own.
//!
//! A press is the key pressed and let go. It is never lost and nothing grows:
//! * while the machine is held it waits, and the guest sees it when the machine is live again;
//! * while no driver is ready (before it is loaded, or while Linux, which resets its virtio devices on the way, is asleep) it
//!   waits for the driver; presses that wait together are one;
//! * a press that comes after the driver has let go of the device and before the guest sleeps is a wake that is due;
//! * a reset of the machine forgets it.
//!
//! Whether a press wakes a sleeping guest is the machine's to judge; the key is for the time after.

use std::sync::{Arc, Mutex};

use ram::Ram;
use runstate::{GuestRequest, WakeSource};
use vmcore::{AccessSize, ArmedBy, Device, IrqLine, LoadError, Section, WakeState};

use crate::lock;
use crate::virtio::{Bell, Input, MmioSlot, Press};

#[cfg(test)]
mod tests;

/// What the guest calls it.
const KEY_NAME: &str = "dormouse power button";

/// The button. See the module's documentation.
pub struct PowerButton {
    slot: MmioSlot,
    press: Arc<Mutex<Press>>,
    bell: Arc<Mutex<Bell>>,
}

impl PowerButton {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = MmioSlot::WINDOW;

    /// A button that has not been pressed, on line `irq`, whose driver's queues are in `ram`.
    pub fn new(name: &str, irq: IrqLine, ram: Arc<Ram>) -> Self {
        let (press, bell) = (Arc::<Mutex<Press>>::default(), Arc::<Mutex<Bell>>::default());
        let device = Input::power_key(KEY_NAME, Arc::clone(&press), Arc::clone(&bell));
        let slot = MmioSlot::new(name, irq, ram, Some(Box::new(device)));
        Self { slot, press, bell }
    }

    /// As a wake source: always armed.
    pub fn wake_state(&self) -> WakeState {
        let due = lock(&self.press).is_due();
        WakeState { source: WakeSource::PowerButton, armed: Some(ArmedBy::Always), due, alarm: None }
    }
}

impl Device for PowerButton {
    fn name(&self) -> &str {
        self.slot.name()
    }

    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        self.slot.read(offset, size)
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        self.slot.write(offset, size, value)
    }

    fn reset(&self) {
        *lock(&self.press) = Press::default();
        self.slot.reset();
    }

    fn stop(&self) {
        self.slot.stop();
    }

    fn start(&self) -> Option<WakeSource> {
        self.slot.start()
    }

    fn sleep(&self) -> Option<WakeSource> {
        self.slot.sleep();
        self.wake_state().due.then_some(WakeSource::PowerButton)
    }

    fn wake(&self) {
        lock(&self.press).woken();
        self.slot.wake();
    }

    fn press_power_button(&self) -> bool {
        lock(&self.press).press();
        let bell = lock(&self.bell).clone();
        bell.ring();
        true
    }

    fn save(&self) -> Section {
        self.slot.save()
    }

    fn kind(&self) -> String {
        self.slot.kind()
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.slot.check(section)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        self.slot.load(section)
    }
}
