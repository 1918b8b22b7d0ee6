//! The input device (virtio specification 1.2, section 5.8) with one key, which is pressed and let go from outside.
//!
//! What the driver is told of a press are four events: key down, end of report, key up, end of report. They wait in
//! [`Press`] until the driver has buffers for them; a press while another one waits is the same press, so that nothing
//! grows and none is lost.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::VIRTIO_ID_INPUT;
use vm_memory::Bytes;
use vmcore::{LoadError, Section};

use super::{Bell, Broken, Transport, VirtioDevice};
use crate::lock;

use spec::*;

#[cfg(test)]
mod tests;

/// Selections of the configuration space and its layout, section 5.8.4; event codes of Linux's evdev interface.
mod spec {
    pub const EVENT_QUEUE: usize = 0;
    /// In descriptors: the driver's events (more would be of no use), and its lights, which there are none of.
    pub const QUEUES: [u16; 2] = [64, 8];

    pub const SELECT: usize = 0;
    pub const SUBSELECT: usize = 1;
    pub const SIZE: usize = 2;
    pub const UNION: usize = 8;
    pub const CONFIG_LEN: usize = UNION + 128;

    pub const CFG_ID_NAME: u8 = 0x01;
    pub const CFG_ID_DEVIDS: u8 = 0x03;
    pub const CFG_EV_BITS: u8 = 0x11;

    pub const EV_SYN: u16 = 0;
    pub const EV_KEY: u16 = 1;
    pub const SYN_REPORT: u16 = 0;

    /// Bytes of `struct virtio_input_event`.
    pub const EVENT_LEN: usize = 8;
    /// Events that tell of one press.
    pub const EVENTS_A_PRESS: u8 = 4;
}

/// The code of the power key (Linux `input-event-codes.h`).
pub const KEY_POWER: u16 = 116;

/// A press on its way to the driver. Shared by the device and whoever presses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Press {
    /// Events of it that the driver has not got: 0 when none waits.
    left: u8,
    /// A driver has been ready since the machine was reset.
    driven: bool,
    /// It came to a guest that has a driver, which was not ready, and the guest has not been woken since.
    fresh: bool,
}

impl Press {
    /// The key is pressed and let go.
    pub fn press(&mut self) {
        if self.left == 0 {
            self.left = EVENTS_A_PRESS;
        }
        self.fresh = self.driven;
    }

    /// Whether a press waits that the guest should be woken for: its driver let go of the device on the way to sleep.
    pub fn is_due(&self) -> bool {
        self.fresh && self.left != 0
    }

    /// The guest has been woken: what waits does not wake it again.
    pub fn woken(&mut self) {
        self.fresh = false;
    }

    fn is_possible(&self) -> bool {
        self.left <= EVENTS_A_PRESS && (self.driven || !self.fresh)
    }

    /// The next event: type, code, value.
    fn event(&self) -> Option<(u16, u16, u32)> {
        match EVENTS_A_PRESS.checked_sub(self.left)? {
            0 => Some((EV_KEY, KEY_POWER, 1)),
            2 => Some((EV_KEY, KEY_POWER, 0)),
            1 | 3 => Some((EV_SYN, SYN_REPORT, 0)),
            _ => None,
        }
    }
}

/// The device.
pub struct Input {
    name: &'static str,
    press: Arc<Mutex<Press>>,
    bell: Arc<Mutex<Bell>>,
    config: [u8; CONFIG_LEN],
}

const SECTION: &str = "virtio-input";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    select: u8,
    subselect: u8,
    press: Press,
}

fn checked(section: &Section) -> Result<Saved, LoadError> {
    let saved: Saved = section.decode(SECTION, VERSION)?;
    if !saved.press.is_possible() {
        return Err(section.bad_value("press"));
    }
    Ok(saved)
}

impl Input {
    /// A device with the power key, which calls itself `name` (64 bytes at most). Whoever changes the press rings the bell,
    /// which is there once the device is in its slot.
    pub fn power_key(name: &'static str, press: Arc<Mutex<Press>>, bell: Arc<Mutex<Bell>>) -> Self {
        Self { name, press, bell, config: [0; CONFIG_LEN] }
    }

    /// What the driver selects is shown.
    fn select(&mut self, select: u8, subselect: u8) {
        let mut bitmap = [0; KEY_POWER as usize / 8 + 1];
        bitmap[KEY_POWER as usize / 8] = 1 << (KEY_POWER % 8);
        // Bus "virtual", no vendor, product and version that somebody might know.
        let ids = [6, 0, 0, 0, 0, 0, 0, 0];
        let shown: &[u8] = match (select, subselect) {
            (CFG_ID_NAME, 0) => self.name.as_bytes(),
            (CFG_ID_DEVIDS, 0) => &ids,
            (CFG_EV_BITS, subselect) if u16::from(subselect) == EV_KEY => &bitmap,
            _ => &[],
        };
        self.config.fill(0);
        self.config[SELECT] = select;
        self.config[SUBSELECT] = subselect;
        self.config[SIZE] = shown.len() as u8;
        self.config[UNION..].iter_mut().zip(shown).for_each(|(to, from)| *to = *from);
    }

    /// Tells the driver as much of the press as it has buffers for.
    fn tell(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let mut press = lock(&self.press);
        press.driven = true;
        // A driver that refills the queue meanwhile notifies again.
        for _ in 0..QUEUES[EVENT_QUEUE] {
            let Some((kind, code, value)) = press.event() else { break };
            let Some(mut chain) = transport.pop(EVENT_QUEUE)? else { break };
            let head = chain.head_index();
            let event = [&kind.to_le_bytes()[..], &code.to_le_bytes(), &value.to_le_bytes()].concat();
            let buffer = chain.find(|buffer| buffer.is_write_only() && buffer.len() as usize >= EVENT_LEN);
            let written =
                buffer.is_some_and(|buffer| transport.memory().write_slice(&event, buffer.addr()).is_ok());
            // A buffer that holds no event is given back empty: the event waits for the next one.
            transport.add_used(EVENT_QUEUE, head, if written { EVENT_LEN as u32 } else { 0 })?;
            if written {
                press.left -= 1;
            }
        }
        press.fresh &= press.left != 0;
        Ok(())
    }
}

impl VirtioDevice for Input {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_INPUT
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUES
    }

    fn plugged(&mut self, bell: Bell) {
        *lock(&self.bell) = bell;
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        let (mut select, mut subselect) = (self.config[SELECT], self.config[SUBSELECT]);
        for (offset, byte) in (offset..).zip(bytes) {
            match offset {
                SELECT => select = *byte,
                SUBSELECT => subselect = *byte,
                _ => {}
            }
        }
        self.select(select, subselect);
    }

    fn notified(&mut self, index: usize, transport: &mut Transport<'_>) -> Result<(), Broken> {
        if index == EVENT_QUEUE {
            return self.tell(transport);
        }
        // There are no lights to switch.
        for _ in 0..QUEUES[index.min(1)] {
            let Some(chain) = transport.pop(index)? else { break };
            transport.add_used(index, chain.head_index(), 0)?;
        }
        Ok(())
    }

    fn rung(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        self.tell(transport)
    }

    /// A driver that got a part of a press takes the key for let go: the next one gets the whole.
    fn reset(&mut self) {
        let mut press = lock(&self.press);
        if press.left != 0 {
            press.left = EVENTS_A_PRESS;
        }
        drop(press);
        self.select(0, 0);
    }

    fn stop(&mut self) {}

    fn start(&mut self) {}

    fn save(&self) -> Section {
        let (select, subselect) = (self.config[SELECT], self.config[SUBSELECT]);
        Section::encode(SECTION, VERSION, &Saved { select, subselect, press: *lock(&self.press) })
    }

    fn kind(&self) -> String {
        "an input device".to_owned()
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        checked(section).map(drop)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let saved = checked(section)?;
        *lock(&self.press) = saved.press;
        self.select(saved.select, saved.subselect);
        Ok(())
    }
}
