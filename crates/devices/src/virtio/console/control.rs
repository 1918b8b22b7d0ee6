//! Messages of the control queues (section 5.3.6.2).

use ram::Memory;

use super::buffers;
use crate::virtio::Chain;

/// Kinds of message (section 5.3.6.2).
pub(super) mod event {
    /// From the driver: it has come up (1) or not (0).
    pub const DEVICE_READY: u16 = 0;
    /// To the driver: there is this port.
    pub const PORT_ADD: u16 = 1;
    /// From the driver: it can use the port (1) or not (0).
    pub const PORT_READY: u16 = 3;
    /// To the driver: the port is a console.
    pub const CONSOLE_PORT: u16 = 4;
    /// Both ways: the other side has the port open (1) or not (0).
    pub const PORT_OPEN: u16 = 6;
    /// To the driver: the port's name, which follows.
    pub const PORT_NAME: u16 = 7;
}

/// One message, without the name that may follow it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) port: u32,
    pub(super) event: u16,
    pub(super) value: u16,
}

impl Message {
    /// Size in bytes.
    const SIZE: usize = 8;

    /// The message in a chain that the driver wrote; none in one that is too short.
    pub(super) fn read(memory: &Memory, chain: Chain<'_>) -> Option<Self> {
        let mut bytes = [0; Self::SIZE];
        let mut count = 0;
        buffers::read(memory, chain, 0, |part| {
            let room = bytes.get_mut(count..).unwrap_or_default();
            let taken = part.len().min(room.len());
            for (to, from) in room.iter_mut().zip(part) {
                *to = *from;
            }
            count += taken;
            taken
        });
        let [p0, p1, p2, p3, e0, e1, v0, v1] = bytes;
        (count == Self::SIZE).then_some(Self {
            port: u32::from_le_bytes([p0, p1, p2, p3]),
            event: u16::from_le_bytes([e0, e1]),
            value: u16::from_le_bytes([v0, v1]),
        })
    }

    /// Writes the message, `name` behind it, into a chain; gives how many bytes that took.
    pub(super) fn write(self, memory: &Memory, chain: Chain<'_>, name: &str) -> usize {
        let head =
            [&self.port.to_le_bytes()[..], &self.event.to_le_bytes(), &self.value.to_le_bytes()].concat();
        let mut bytes = head.into_iter().chain(name.bytes());
        buffers::write(memory, chain, |room| {
            let mut count = 0;
            for (to, from) in room.iter_mut().zip(&mut bytes) {
                *to = from;
                count += 1;
            }
            count
        })
    }
}
