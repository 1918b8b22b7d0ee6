//! Ports of virtio consoles: `virtserialport` and `virtconsole`, and which console each belongs to.

use super::error::{SetupError, ValueError};
use super::options::{Builder, PortBuilder, PortOption, VirtioKindBuilder};
use backends::keyval::KeyVals;
use devices::virtio::Console;
use std::collections::BTreeSet;

/// What the console with this id calls its bus.
fn bus_of(id: &str) -> String {
    format!("{id}.0")
}

/// `-device virtserialport` and `-device virtconsole`.
pub(super) fn port(builder: &mut Builder, mut list: KeyVals, console: bool) -> Result<(), ValueError> {
    let mut port = PortBuilder { console, ..PortBuilder::default() };
    port.id = list.take_string("id")?;
    port.bus = list.take_string("bus")?;
    port.name = list.take_string("name")?;
    port.chardev = list.take_string("chardev")?;
    let nr = list.take_number("nr")?;
    if let Some((name, _)) = list.rest().next() {
        return Err(ValueError::NoSuchProperty { class: driver(console), name: name.to_owned() });
    }
    // One that is too large is refused with the console that it is for.
    port.nr = nr.map(|nr| u32::try_from(nr).unwrap_or(u32::MAX));
    builder.claim_device_id(port.id.as_deref())?;
    builder.ports.push(port);
    Ok(())
}

/// `max_ports` of `-device virtio-serial-device`.
pub(super) fn max_ports(list: &mut KeyVals) -> Result<u32, ValueError> {
    let most = u64::from(Console::MAX_PORTS);
    match list.take_number("max_ports")? {
        None => Ok(Console::MAX_PORTS),
        Some(max) if (1..=most).contains(&max) => Ok(max as u32),
        Some(max) => Err(ValueError::MaxPorts { max, most }),
    }
}

/// The name of a port's model.
pub(super) fn driver(console: bool) -> &'static str {
    if console { "virtconsole" } else { "virtserialport" }
}

impl PortOption {
    /// The name of the port's model.
    pub fn driver(&self) -> &'static str {
        driver(self.console)
    }
}

/// For each virtio device its ports, numbered. Without `bus=` a port goes to the first console.
pub(super) fn assign(builder: &Builder) -> Result<Vec<Vec<PortOption>>, SetupError> {
    let mut assigned: Vec<Vec<PortOption>> = builder.virtio.iter().map(|_| Vec::new()).collect();
    for port in &builder.ports {
        let ours = |id: &Option<String>| match (&port.bus, id) {
            (None, _) => true,
            (Some(bus), Some(id)) => *bus == bus_of(id),
            (Some(bus), None) => bus == "virtio-serial-bus.0",
        };
        let found = builder.virtio.iter().zip(&mut assigned).find_map(|(device, ports)| match device.kind {
            VirtioKindBuilder::Serial(max) if ours(&device.id) => Some((max, ports)),
            _ => None,
        });
        let (max, ports) = found.ok_or_else(|| match &port.bus {
            Some(bus) => SetupError::NoSuchBus(bus.clone()),
            None => SetupError::NoSerialBus(driver(port.console)),
        })?;
        let nr = number(port, ports, max)?;
        let PortBuilder { id, name, console, chardev, .. } = port.clone();
        ports.push(PortOption { id, nr, name, console, chardev });
    }
    Ok(assigned)
}

/// The number that a port has or gets. Number 0 is for a console: a driver without ports finds it there.
fn number(port: &PortBuilder, others: &[PortOption], max: u32) -> Result<u32, SetupError> {
    let taken: BTreeSet<u32> = others.iter().map(|other| other.nr).collect();
    let nr = match port.nr {
        Some(nr) => nr,
        None if port.console && !taken.contains(&0) => 0,
        None => (1..max).find(|nr| !taken.contains(nr)).ok_or(SetupError::PortsFull(max))?,
    };
    if nr == 0 && !port.console {
        return Err(SetupError::PortZero);
    }
    if nr >= max {
        return Err(SetupError::PortRange(max.saturating_sub(1)));
    }
    if taken.contains(&nr) { Err(SetupError::PortTaken(nr)) } else { Ok(nr) }
}
