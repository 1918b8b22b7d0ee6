//! Ports of virtio consoles and the character devices at their other ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use backends::{Backend, CharEvent, Frontend};
use devices::virtio::{Console, ConsoleError, PortBackend, PortConfig, PortLine, PortWatcher};
use monitor::Announcer;

use crate::cli::PortOption;
use crate::consoles::Consoles;

/// Where clients are told of ports, once there are clients.
pub(crate) type Clients = Arc<OnceLock<Announcer>>;

/// The consoles' ports, to be connected with their lines once the machine is there.
#[derive(Default)]
pub(crate) struct Channels {
    clients: Clients,
    lines: Vec<(Arc<dyn Backend>, Arc<PortLine>)>,
}

impl Channels {
    /// A console with these ports.
    pub(crate) fn console(
        &mut self,
        max_ports: u32,
        ports: &[PortOption],
        consoles: Option<&Consoles>,
    ) -> Result<Console, ConsoleError> {
        let mut backends = Vec::new();
        let mut configs = Vec::new();
        for port in ports {
            let line = port.chardev.as_deref().zip(consoles).and_then(|(id, consoles)| consoles.port(id));
            let (backend, open) = line.unzip();
            let host: Arc<dyn PortBackend> = match &backend {
                Some(backend) => Arc::new(HostEnd(Arc::clone(backend))),
                None => Arc::new(Nowhere),
            };
            let watcher = Watcher {
                id: port.id.clone(),
                open: open.unwrap_or_default(),
                clients: Arc::clone(&self.clients),
            };
            configs.push(PortConfig {
                nr: port.nr,
                name: port.name.clone(),
                console: port.console,
                backend: host,
                watcher: Some(Arc::new(watcher)),
            });
            backends.push(backend);
        }
        let (console, lines) = Console::new(max_ports, configs)?;
        self.lines
            .extend(backends.into_iter().zip(lines).filter_map(|(backend, line)| Some((backend?, line))));
        Ok(console)
    }

    /// Connects ports and lines: from here on input flows.
    pub(crate) fn attach(&self) {
        for (backend, line) in &self.lines {
            backend.attach(Arc::new(GuestEnd(Arc::clone(line))));
        }
    }

    /// Who is to be told when the guest opens or closes a port.
    pub(crate) fn tell(&self, clients: Announcer) {
        // Set once: there is one set of monitors.
        let _ = self.clients.set(clients);
    }
}

/// A port that leads nowhere.
struct Nowhere;

impl PortBackend for Nowhere {
    fn try_write(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn resume_input(&self) {}
}

/// The line as the port sees it.
struct HostEnd(Arc<dyn Backend>);

impl PortBackend for HostEnd {
    fn try_write(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes)
    }

    fn resume_input(&self) {
        self.0.poll_input();
    }
}

/// The port as the line sees it.
struct GuestEnd(Arc<PortLine>);

impl Frontend for GuestEnd {
    fn can_receive(&self) -> usize {
        self.0.can_receive()
    }

    fn receive(&self, bytes: &[u8]) {
        self.0.receive(bytes);
    }

    fn event(&self, event: CharEvent) {
        match event {
            CharEvent::Opened => self.0.set_open(true),
            CharEvent::Closed => self.0.set_open(false),
            CharEvent::Break | CharEvent::FocusIn | CharEvent::FocusOut => {}
        }
    }

    fn writable(&self) {
        self.0.writable();
    }
}

/// Tells clients, and `query-chardev`, of the guest's side of a port.
struct Watcher {
    id: Option<String>,
    open: Arc<AtomicBool>,
    clients: Clients,
}

impl PortWatcher for Watcher {
    fn guest_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        if let (Some(id), Some(clients)) = (&self.id, self.clients.get()) {
            clients.port_changed(id, open);
        }
    }
}
