//! The console device with ports (virtio specification 1.2, section 5.3): byte streams between host and guest, by number
//! and name. A guest agent is at the other end of one, a terminal (`hvc0`) at another.
//!
//! ```text
//!   back end's thread ── PortLine: received, opened, writable ──► Bell ──► rung ─┐
//!   guest ── notified ───────────────────────────────────────────────────────────┴─► Port: input, output
//!                                                                                 └► control: what is to be said
//! ```
//! Port N has queues of its own; behind those of port 0 come the two control queues, by which the device tells what ports
//! there are and either side tells whether it has a port open.
//!
//! Invariants:
//! * input waits on the host's side, bounded, until the guest has the port open and has put buffers into its queue;
//! * output that the back end does not take stays in the guest's queue, until [`PortLine::writable`];
//! * what is to be said to the guest is kept as what differs from what it was told, so it is bounded whatever the guest asks;
//! * a call costs a bounded amount of work, whatever chains the driver made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use vmcore::{LoadError, Section};

use super::{Bell, Broken, Transport, VirtioDevice};
use control::{Message, event};
use port::Port;

mod buffers;
mod control;
mod port;
#[cfg(test)]
mod tests;

pub use port::{PortBackend, PortConfig, PortLine, PortWatcher};

/// Queue size in descriptors.
const QUEUE: u16 = 128;
/// `VIRTIO_CONSOLE_F_MULTIPORT`.
const MULTIPORT: u64 = 1 << 1;
/// Index of the control queue towards the driver, and of the one from it.
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;

/// Name and version of the saved state.
const SECTION: &str = "virtio-serial";
const VERSION: u32 = 1;

/// Ports that do not go together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConsoleError {
    /// Two ports of one number.
    #[error("a port already exists at id {0}")]
    Taken(u32),
    /// A number beyond what the device was made for.
    #[error("port number {nr} is out of range: there are at most {max} ports")]
    OutOfRange {
        /// The port's number.
        nr: u32,
        /// How many ports there may be.
        max: u32,
    },
}

/// What is saved of a port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Saved {
    nr: u32,
    state: port::State,
}

/// The console device. See the module's documentation.
pub struct Console {
    config: [u8; 8],
    queues: Vec<u16>,
    ports: Vec<Port>,
}

impl Console {
    /// The most ports that a device may have.
    pub const MAX_PORTS: u32 = 31;

    /// A device with `ports`, numbered below `max`, and the lines for their back ends in the same order.
    pub fn new(max: u32, ports: Vec<PortConfig>) -> Result<(Self, Vec<Arc<PortLine>>), ConsoleError> {
        let max = max.clamp(1, Self::MAX_PORTS);
        let mut numbers: Vec<u32> = ports.iter().map(|port| port.nr).collect();
        numbers.sort_unstable();
        if let Some(&nr) = numbers.iter().find(|nr| **nr >= max) {
            return Err(ConsoleError::OutOfRange { nr, max });
        }
        if let Some(pair) = numbers.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(ConsoleError::Taken(pair.first().copied().unwrap_or_default()));
        }
        // Columns and rows, which we do not offer; then the number of ports.
        let mut config = [0; 8];
        if let Some(field) = config.last_chunk_mut() {
            *field = max.to_le_bytes();
        }
        let queues = vec![QUEUE; 2 * (max as usize + 1)];
        let ports: Vec<_> = ports.into_iter().map(Port::new).collect();
        let lines = ports.iter().map(Port::line).collect();
        Ok((Self { config, queues, ports }, lines))
    }

    fn control(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        for _ in 0..QUEUE {
            let Some(chain) = transport.pop(CONTROL_OUT)? else { break };
            let head = chain.head_index();
            if let Some(message) = Message::read(transport.memory(), chain) {
                self.handle(message);
            }
            transport.add_used(CONTROL_OUT, head, 0)?;
        }
        Ok(())
    }

    fn checked(&self, section: &Section) -> Result<Vec<Saved>, LoadError> {
        let saved: Vec<Saved> = section.decode(SECTION, VERSION)?;
        if !saved.iter().map(|saved| saved.nr).eq(self.ports.iter().map(|port| port.nr)) {
            return Err(section.bad_value("ports"));
        }
        Ok(saved)
    }

    fn handle(&mut self, message: Message) {
        let Message { port, event, value } = message;
        if event == event::DEVICE_READY {
            // A driver that could not come up says 0: nothing is to be said to it.
            self.ports.iter_mut().for_each(|port| port.announce(value == 1));
            return;
        }
        let Some(port) = self.ports.iter_mut().find(|other| other.nr == port) else { return };
        match event {
            event::PORT_READY => port.driver_ready(value == 1),
            event::PORT_OPEN => port.guest_open(value == 1),
            _ => {}
        }
    }

    /// Moves whatever can be moved. Without the ports feature there is port 0 alone, always open.
    fn pump(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        let multiport = transport.features() & MULTIPORT != 0;
        if multiport {
            for port in &mut self.ports {
                port.speak(transport, CONTROL_IN)?;
            }
        }
        for port in self.ports.iter_mut().filter(|port| multiport || port.nr == 0) {
            port.input(transport, !multiport)?;
            port.output(transport)?;
        }
        Ok(())
    }
}

impl VirtioDevice for Console {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        MULTIPORT
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queues
    }

    fn plugged(&mut self, bell: Bell) {
        self.ports.iter().for_each(|port| port.connect(bell.clone()));
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) {}

    fn notified(&mut self, index: usize, transport: &mut Transport<'_>) -> Result<(), Broken> {
        if index == CONTROL_OUT {
            self.control(transport)?;
        }
        self.pump(transport)
    }

    fn rung(&mut self, transport: &mut Transport<'_>) -> Result<(), Broken> {
        self.pump(transport)
    }

    fn reset(&mut self) {
        self.ports.iter_mut().for_each(Port::reset);
    }

    /// Input waits in the back ends' lines: while held no queue is touched.
    fn stop(&mut self) {}

    fn start(&mut self) {}

    fn save(&self) -> Section {
        let ports: Vec<Saved> =
            self.ports.iter().map(|port| Saved { nr: port.nr, state: port.state() }).collect();
        Section::encode(SECTION, VERSION, &ports)
    }

    fn kind(&self) -> String {
        let max = self.queues.len() / 2 - 1;
        let ports: Vec<String> = self.ports.iter().map(Port::describe).collect();
        format!("a console of at most {max} ports: {}", ports.join(", "))
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let saved = self.checked(section)?;
        for (port, saved) in self.ports.iter_mut().zip(saved) {
            port.load(saved.state);
        }
        Ok(())
    }
}
