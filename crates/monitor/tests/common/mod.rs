//! An engine on a machine without a board, its monitors on real sockets, and clients.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::IoSlice;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backends::stream::StreamSource;
use backends::{CharKind, CharSpec, FdSets, SocketAddress, SocketSpec};
use clock::{GuestClock, ShiftedClock, TimerQueue};
use engine::{Builder, Engine, EngineConfig, Port};
use migration::jobs::Jobs;
use migration::snapshot::Snapshots;
use monitor::{
    ChardevInfo, Config, CpuModel, MonitorOptions, Monitors, Object, ObjectType, Objects, TestClock,
};
use runstate::{Actions, GuestRequest, Lifecycle, ManagementRequest, Sleep};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vmcore::testing::{FakeMachine, FakeStorage, Script, Step};

/// Long enough for any host: a test that runs into it has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with one device that has an id.
fn objects() -> Objects {
    const fn of(name: &'static str, parent: Option<&'static str>, is_abstract: bool) -> ObjectType {
        ObjectType { name, parent, is_abstract, properties: &[] }
    }
    static TYPES: &[ObjectType] = &[
        of("object", None, true),
        of("container", Some("object"), false),
        of("virt-machine", Some("object"), false),
        of("device", Some("object"), true),
        ObjectType {
            properties: &[("rng", "link<rng-backend>")],
            ..of("virtio-rng-device", Some("device"), false)
        },
    ];
    let object = |(path, type_name): (&str, _)| Object { path: path.to_owned(), type_name };
    let tree = [
        ("/", "container"),
        ("/objects", "container"),
        ("/machine", "virt-machine"),
        ("/machine/peripheral", "container"),
        ("/machine/peripheral/rng0", "virtio-rng-device"),
    ];
    Objects { types: TYPES, tree: tree.map(object).into() }
}

pub struct World {
    pub engine: Engine,
    /// Where devices post.
    pub port: Arc<Port>,
    pub scripts: Vec<Script>,
    pub timers: Arc<TimerQueue>,
    pub monitors: Monitors,
    pub folder: tempfile::TempDir,
    /// What `query-chardev` answers; it waits while a test holds it.
    pub chardevs: Arc<Mutex<Vec<ChardevInfo>>>,
}

impl World {
    pub fn new(harts: u32) -> Self {
        Self::with_actions(harts, Actions::default())
    }

    pub fn with_actions(harts: u32, actions: Actions) -> Self {
        Self::with_config(harts, runstate::Config { actions, ..runstate::Config::default() })
    }

    pub fn with_config(harts: u32, config: runstate::Config) -> Self {
        Self::with_storage(harts, config, None)
    }

    /// Its device keeps data if `storage` is given.
    pub fn with_storage(harts: u32, config: runstate::Config, storage: Option<Arc<FakeStorage>>) -> Self {
        let host = Arc::new(ShiftedClock::system());
        let clock = Arc::new(GuestClock::new(Arc::clone(&host) as _));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::clone(&host) as _);
        let (machine, vcpus, scripts) = FakeMachine::with_storage(harts, &clock, &timers, storage);
        let lifecycle = Lifecycle::new(config);
        let config = EngineConfig {
            machine,
            vcpus,
            timers: Arc::clone(&timers),
            host: Arc::clone(&host) as _,
            lifecycle,
            counted: None,
            hart_nice: None,
        };
        let builder = Builder::new();
        let port = builder.port();
        let engine = builder.start(config).unwrap();
        let chardev = ChardevInfo { label: "serial0".into(), filename: "null".into(), frontend_open: true };
        let chardevs = Arc::new(Mutex::new(vec![chardev]));
        let listed = Arc::clone(&chardevs);
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("snapshots");
        std::fs::create_dir(&kept).unwrap();
        let snapshots =
            Snapshots::new(engine.clone(), Some(&kept), "dormouse 0.1.0", Jobs::default()).unwrap();
        let monitors = Monitors::new(Config {
            engine: engine.clone(),
            program: "dormouse 0.1.0".into(),
            name: Some("test".into()),
            vmgenid: true,
            uuid: None,
            machines: Vec::new(),
            options: Vec::new(),
            cpu_models: vec![CpuModel {
                name: "rv64",
                type_name: "rv64-riscv-cpu",
                properties: vec![("zba", true), ("zbb", true)],
            }],
            objects: objects(),
            memory: 128 << 20,
            chardevs: Box::new(move || listed.lock().unwrap().clone()),
            fdsets: FdSets::default(),
            gdbserver: Box::new(
                |device| if device == "tcp:no" { Err("no such place".into()) } else { Ok(()) },
            ),
            send_break: Box::new(|id| id == "serial0"),
            nodes: Vec::new(),
            disks: Vec::new(),
            snapshots,
            test_clock: Some(TestClock { clock: host, timers: Arc::clone(&timers) }),
            patience: Duration::from_millis(20),
        });
        Self { engine, port, scripts, timers, monitors, folder, chardevs }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn source(&self, name: &str, server: bool) -> StreamSource {
        let address = SocketAddress::Unix(self.path(name));
        let spec = SocketSpec { address, server, wait: false, reconnect: None };
        let sets = FdSets::default();
        StreamSource::open(&CharSpec::plain(CharKind::Socket(spec)), name, &sets, &mut |_| {}).unwrap()
    }

    /// A QMP monitor on a socket of that name.
    pub fn listen(&self, name: &str) {
        self.listen_with(name, MonitorOptions::default());
    }

    /// The same, set up in some way; its label is its name.
    pub fn listen_with(&self, name: &str, options: MonitorOptions) {
        let options = MonitorOptions { label: name.to_owned(), ..options };
        self.monitors.add_qmp(self.source(name, true), options).unwrap();
    }

    pub fn connect(&self, name: &str) -> Client {
        Client::new(UnixStream::connect(self.path(name)).unwrap())
    }

    /// A monitor of its own with a client that has negotiated.
    pub fn client(&self, name: &str) -> Client {
        self.listen(name);
        let mut client = self.connect(name);
        client.negotiate();
        client
    }

    pub fn human(&self, name: &str) -> Client {
        self.monitors.add_human(self.source(name, true), MonitorOptions::default()).unwrap();
        self.connect(name)
    }

    pub fn ask(&self, request: ManagementRequest) {
        self.engine.manage(request).unwrap();
    }

    /// The guest suspends itself to RAM.
    pub fn suspend(&self) {
        let sleep = Sleep { hart: 0, resume_addr: 0x8040_0000, opaque: 42 };
        self.scripts[0].then(Step::Ecall(GuestRequest::Suspend(sleep)));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Already gone in tests of the end.
        let _ = self.engine.manage(ManagementRequest::Quit { cause: runstate::ShutdownCause::HostSignal });
        self.engine.wait();
        self.monitors.shutdown(PATIENCE);
    }
}

pub struct Client {
    pub stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Sends text, and descriptors along with its first byte.
    pub fn send_fds(&mut self, text: &str, fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let bytes = [IoSlice::new(text.as_bytes())];
        let sent = sendmsg(&self.stream, &bytes, &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, text.len());
    }

    /// The next line as it came, without its end.
    pub fn raw(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "the connection has ended");
        line.strip_suffix("\r\n").expect("lines end with CR LF").to_owned()
    }

    /// The next line as it came, without its end; nothing at the end of the connection.
    pub fn raw_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).unwrap() {
            0 => None,
            _ => Some(line.strip_suffix("\r\n").expect("lines end with CR LF").to_owned()),
        }
    }

    /// The next line with its time stamp left out: `EVENT`, `EVENT data` or the reply.
    pub fn line(&mut self) -> String {
        let line = self.raw();
        match line.split_once("}, \"event\": \"") {
            Some((stamp, event)) => {
                assert!(stamp.starts_with("{\"timestamp\": {\"seconds\": "), "{stamp}");
                event
                    .replacen('"', "", 1)
                    .replacen(", \"data\": ", " ", 1)
                    .strip_suffix('}')
                    .unwrap()
                    .to_owned()
            }
            None => line,
        }
    }

    pub fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// Negotiates with commands out of band switched on.
    pub fn negotiate_oob(&mut self) {
        assert!(self.raw().starts_with("{\"QMP\": "));
        self.send("{'execute': 'qmp_capabilities', 'arguments': {'enable': ['oob']}}");
        self.expect(&[OK]);
    }

    pub fn negotiate(&mut self) {
        assert!(self.raw().starts_with("{\"QMP\": "));
        self.send("{\"execute\": \"qmp_capabilities\"}");
        self.expect(&[OK]);
    }

    /// Runs a command without arguments and expects these lines.
    pub fn run(&mut self, command: &str, lines: &[&str]) {
        self.send(&format!("{{\"execute\": \"{command}\"}}"));
        self.expect(lines);
    }

    pub fn status(&mut self, name: &str) {
        self.run("query-status", &[&status(name)]);
    }

    /// What `human-monitor-command` prints.
    pub fn hmp(&mut self, line: &str) -> String {
        let line = serde_json::to_string(line).unwrap();
        self.send(&format!(
            "{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": {line}}}}}"
        ));
        loop {
            let reply: serde_json::Value = serde_json::from_str(&self.raw()).unwrap();
            if reply.get("event").is_none() {
                return reply["return"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
            }
        }
    }

    /// Reads until the text ends with `end`.
    pub fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("{error}: '{end}' never came; seen {:?}", String::from_utf8_lossy(&text))
            });
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        self.reader.read_to_string(&mut text).unwrap();
        text
    }

    /// Asserts that nothing has come, by a command whose reply would be behind it.
    pub fn nothing(&mut self) {
        self.run("query-uuid", &["{\"return\": {\"UUID\": \"00000000-0000-0000-0000-000000000000\"}}"]);
    }
}

pub const OK: &str = "{\"return\": {}}";

pub fn status(name: &str) -> String {
    format!("{{\"return\": {{\"running\": {}, \"status\": \"{name}\"}}}}", name == "running")
}

pub fn refusal(desc: &str) -> String {
    format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{desc}\"}}}}")
}
