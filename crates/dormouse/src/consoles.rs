//! The program's character devices: the serial line, the multiplexer that it shares with the human monitor, and the
//! monitors of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use backends::stream::StreamSource;
use backends::{
    Backend, CharDev, CharEvent, CharKind, CharSpec, FdSetError, FdSets, Frontend, Mux, Notice, OpenError,
};
use devices::{SerialPort, Uart};
use engine::{By, Engine};
use monitor::{AddError, ChardevInfo, MonitorOptions, Monitors};
use runstate::{ManagementRequest, ShutdownCause};

use crate::PROGRAM;
use crate::cli::{MonitorKind, Options, VirtioKind};

/// What cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// A character device.
    #[error("-{option}: {source}")]
    Open {
        /// The option that asked for it.
        option: &'static str,
        /// Why not.
        source: OpenError,
    },
    /// An inherited descriptor.
    #[error("-add-fd: {0}")]
    Inherited(#[from] sys::fd::AdoptError),
    /// A descriptor set.
    #[error("-add-fd: {0}")]
    Set(#[from] FdSetError),
    /// There is no further monitor.
    #[error(transparent)]
    Monitor(#[from] AddError),
}

/// A character device that is open, and the multiplexer on it if it has one.
struct Line {
    device: Arc<CharDev>,
    mux: Option<Mux>,
    /// Whether the guest, or the monitor, has its side open.
    frontend_open: Arc<AtomicBool>,
}

impl Line {
    /// The back end for one more user.
    fn backend(&self) -> Arc<dyn Backend> {
        match &self.mux {
            Some(mux) => mux.port(),
            None => Arc::clone(&self.device) as Arc<dyn Backend>,
        }
    }
}

/// A monitor that waits for its engine.
struct Client {
    on: Stream,
    options: MonitorOptions,
}

/// What a monitor's clients speak, and where they come from.
enum Stream {
    Qmp(StreamSource),
    Human(StreamSource),
    HumanPort(Arc<dyn Backend>),
}

/// All character devices of the program.
pub(crate) struct Consoles {
    lines: BTreeMap<String, Line>,
    serial: Option<Arc<dyn Backend>>,
    clients: Vec<Client>,
    fdsets: FdSets,
    /// For C-a x, which is typed before or after the engine is there.
    engine: Arc<OnceLock<Engine>>,
}

impl Consoles {
    /// Opens everything that `options` name. Servers that wait for their client do so here.
    /// `engine` is for keys that end the machine, once there is one.
    pub(crate) fn open(options: &Options, engine: Arc<OnceLock<Engine>>) -> Result<Self, ConsoleError> {
        let fdsets = FdSets::default();
        for inherited in &options.inherited {
            let fd = sys::fd::adopt_fd(inherited.fd)?;
            fdsets.add(Some(inherited.set), fd, inherited.opaque.clone())?;
        }
        let mut consoles = Self {
            lines: BTreeMap::new(),
            serial: None,
            clients: Vec::new(),
            fdsets: fdsets.clone(),
            engine,
        };
        // Monitors first: a manager that waits for us to connect, or to listen, waits for nothing else.
        consoles.open_monitors(options, &fdsets)?;
        consoles.open_serial(options, &fdsets)?;
        consoles.open_ports(options, &fdsets)?;
        Ok(consoles)
    }

    fn open_monitors(&mut self, options: &Options, fdsets: &FdSets) -> Result<(), ConsoleError> {
        for (index, monitor) in options.monitors.iter().enumerate() {
            let option = match (&monitor.on.kind, monitor.kind) {
                (CharKind::Ref(_), _) => "chardev",
                (_, MonitorKind::Control { .. }) => "qmp",
                (_, MonitorKind::Readline) => "monitor",
            };
            let open = |spec: &CharSpec, label: &str| {
                StreamSource::open(spec, label, fdsets, &mut notify)
                    .map_err(|source| ConsoleError::Open { option, source })
            };
            let (label, spec) = match &monitor.on.kind {
                CharKind::Null | CharKind::None => continue,
                CharKind::Ref(id) => match options.chardevs.iter().find(|(other, _)| other == id) {
                    Some((id, spec)) => (id.clone(), spec),
                    None => continue,
                },
                _ => (format!("compat_monitor{index}"), &monitor.on),
            };
            let on = match monitor.kind {
                MonitorKind::Readline if spec.mux => match self.line(&label, spec, fdsets, option)? {
                    Some(line) => Stream::HumanPort(line.backend()),
                    None => continue,
                },
                MonitorKind::Readline => Stream::Human(open(spec, &label)?),
                MonitorKind::Control { .. } => Stream::Qmp(open(spec, &label)?),
            };
            let pretty = monitor.kind == MonitorKind::Control { pretty: true };
            let (allow, peer_uid) = (monitor.allow.clone(), monitor.peer_uid);
            self.clients.push(Client { on, options: MonitorOptions { label, pretty, allow, peer_uid } });
        }
        Ok(())
    }

    fn open_serial(&mut self, options: &Options, fdsets: &FdSets) -> Result<(), ConsoleError> {
        let Some(spec) = options.serials.first() else { return Ok(()) };
        let (label, spec) = match &spec.kind {
            CharKind::Ref(id) => match options.chardevs.iter().find(|(other, _)| other == id) {
                Some((id, spec)) => (id.clone(), spec),
                None => return Ok(()),
            },
            _ => ("serial0".to_owned(), spec),
        };
        let shared = label == "serial0" && spec.mux;
        let Some(line) = self.line(&label, spec, fdsets, "serial")? else { return Ok(()) };
        let serial = line.backend();
        // The terminal is the console's first; C-a c goes to the monitor.
        let human = shared.then(|| line.backend());
        self.serial = Some(serial);
        let client = |port| Client { on: Stream::HumanPort(port), options: MonitorOptions::default() };
        self.clients.extend(human.map(client));
        Ok(())
    }

    /// The lines of virtio consoles' ports.
    fn open_ports(&mut self, options: &Options, fdsets: &FdSets) -> Result<(), ConsoleError> {
        let ports = options.virtio.iter().flat_map(|device| match &device.kind {
            VirtioKind::Serial { ports, .. } => ports.as_slice(),
            _ => &[],
        });
        for id in ports.filter_map(|port| port.chardev.as_ref()) {
            let Some((id, spec)) = options.chardevs.iter().find(|(other, _)| other == id) else { continue };
            self.line(id, spec, fdsets, "chardev")?;
        }
        Ok(())
    }

    /// The host's end of a port on character device `id`, and where the port says whether the guest has it open.
    pub(crate) fn port(&self, id: &str) -> Option<(Arc<dyn Backend>, Arc<AtomicBool>)> {
        let line = self.lines.get(id)?;
        line.frontend_open.store(false, Ordering::SeqCst);
        Some((line.backend(), Arc::clone(&line.frontend_open)))
    }

    /// The line `label`, opened if it is not yet; nothing for `none`.
    fn line(
        &mut self,
        label: &str,
        spec: &CharSpec,
        fdsets: &FdSets,
        option: &'static str,
    ) -> Result<Option<&Line>, ConsoleError> {
        if !self.lines.contains_key(label) {
            let opened = backends::open(spec, label, fdsets, &mut notify)
                .map_err(|source| ConsoleError::Open { option, source })?;
            let Some(device) = opened else { return Ok(None) };
            let mux = spec.mux.then(|| Mux::new(Arc::clone(&device), self.quit_key()));
            self.lines.insert(
                label.to_owned(),
                Line { device, mux, frontend_open: Arc::new(AtomicBool::new(true)) },
            );
        }
        Ok(self.lines.get(label))
    }

    /// What C-a x does. It must not block, so it asks on a thread of its own.
    fn quit_key(&self) -> Box<dyn Fn() + Send + Sync> {
        let engine = Arc::clone(&self.engine);
        Box::new(move || {
            let Some(engine) = engine.get().cloned() else { return };
            crate::say_raw(&format!("\r\n{PROGRAM}: Terminated\r"));
            thread::spawn(move || {
                let quit = ManagementRequest::Quit { cause: ShutdownCause::HostQmpQuit };
                engine.manage_by(By::Client("terminal".into()), quit)
            });
        })
    }

    /// The host's end of the board's serial line.
    pub(crate) fn serial_port(&self) -> Option<Arc<dyn SerialPort>> {
        let backend = Arc::clone(self.serial.as_ref()?);
        Some(Arc::new(HostEnd(backend)))
    }

    /// Connects the board's UART with its line: from here on input flows.
    pub(crate) fn attach_serial(&self, uart: &Arc<Uart>) {
        if let Some(backend) = &self.serial {
            backend.attach(Arc::new(GuestEnd(Arc::clone(uart))));
        }
    }

    /// Starts the monitors.
    pub(crate) fn serve(&mut self, monitors: &Monitors) -> Result<(), ConsoleError> {
        for Client { on, options } in self.clients.drain(..) {
            match on {
                Stream::Qmp(source) => monitors.add_qmp(source, options),
                Stream::Human(source) => monitors.add_human(source, options),
                Stream::HumanPort(port) => monitors.add_human_port(port, options),
            }?;
        }
        Ok(())
    }

    /// The descriptor sets.
    pub(crate) fn fdsets(&self) -> FdSets {
        self.fdsets.clone()
    }

    /// What `query-chardev` lists.
    pub(crate) fn chardevs(&self) -> impl Fn() -> Vec<ChardevInfo> + Send + Sync + use<> {
        let line = |line: &Line| (Arc::clone(&line.device), Arc::clone(&line.frontend_open));
        let devices: Vec<_> = self.lines.values().map(line).collect();
        let streams: Vec<_> = self
            .clients
            .iter()
            .filter_map(|client| match &client.on {
                Stream::Qmp(source) | Stream::Human(source) => {
                    Some((client.options.label.clone(), source.name().to_owned()))
                }
                Stream::HumanPort(_) => None,
            })
            .collect();
        move || {
            let info = |label: &str, filename: String, frontend_open| ChardevInfo {
                label: label.to_owned(),
                filename,
                frontend_open,
            };
            let devices = devices
                .iter()
                .map(|(device, open)| info(device.label(), device.filename(), open.load(Ordering::SeqCst)));
            devices.chain(streams.iter().map(|(label, name)| info(label, name.clone(), true))).collect()
        }
    }

    /// What `chardev-send-break` does: puts a BREAK on the line of that name. Devices that a monitor has for itself take
    /// one too, and nobody is there to hear it.
    pub(crate) fn send_break(&self) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let lines: BTreeMap<_, _> =
            self.lines.iter().map(|(label, line)| (label.clone(), Arc::clone(&line.device))).collect();
        let known = self.chardevs();
        move |label| match lines.get(label) {
            Some(device) => {
                device.send_break();
                true
            }
            None => known().iter().any(|device| device.label == label),
        }
    }

    /// Waits, a bounded time, until what the guest has written is with the host.
    pub(crate) fn flush(&self, timeout: Duration) {
        if let Some(serial) = &self.serial {
            serial.flush(timeout);
        }
    }
}

fn notify(notice: &Notice) {
    crate::say(notice);
}

/// The line as the UART sees it.
struct HostEnd(Arc<dyn Backend>);

impl SerialPort for HostEnd {
    fn try_write(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes)
    }

    fn resume_input(&self) {
        self.0.poll_input();
    }

    fn hold(&self, held: bool) {
        self.0.pause(held);
    }
}

/// The UART as the line sees it.
struct GuestEnd(Arc<Uart>);

impl Frontend for GuestEnd {
    fn can_receive(&self) -> usize {
        self.0.can_receive()
    }

    fn receive(&self, bytes: &[u8]) {
        self.0.receive(bytes);
    }

    fn event(&self, event: CharEvent) {
        if event == CharEvent::Break {
            self.0.receive_break();
        }
    }

    fn writable(&self) {
        self.0.writable();
    }
}
