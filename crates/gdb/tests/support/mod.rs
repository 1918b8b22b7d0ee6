//! Real harts under a real engine on standing clocks, and a client that speaks in packets.
#![allow(dead_code, reason = "each test program uses a part")]

#[path = "../../../hart/tests/support/asm.rs"]
pub mod asm;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backends::stream::Connection;
use clock::{GuestClock, TestClock, TimerQueue};
use engine::{Builder, Engine, EngineConfig, Record, Status, Subscriber};
use hart::{Extensions, Hart, HartConfig};
use ram::Ram;
use runstate::{Config, GuestRequest, Lifecycle, ManagementRequest, ShutdownCause, Sleep};
use vmcore::{
    BoardInfo, BootEntry, Bus, Device, EcallOutcome, Firmware, Harts, Machine, PlaceError, SbiCall,
    StartParams, Vcpu,
};

/// First address of RAM, and of the program.
pub const BASE: u64 = 0x8000_0000;
/// Long enough for any host: a test that runs into it has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Suspends at `a7` = 0 (resumes at `a0`), powers off at 1; `a7` = 2 starts hart 1 at `a0`.
struct Calls(Harts);

impl Firmware for Calls {
    fn ecall(&self, hart: u32, call: SbiCall) -> EcallOutcome {
        let [resume_addr, opaque, ..] = call.args;
        match call.extension {
            0 => EcallOutcome::Post(GuestRequest::Suspend(Sleep { hart, resume_addr, opaque })),
            1 => EcallOutcome::Post(GuestRequest::ShutDown {
                cause: ShutdownCause::GuestShutdown,
                exit_code: 0,
            }),
            _ => {
                let other = self.0.get(1).unwrap();
                let _ = other.hsm_start(StartParams { pc: resume_addr, opaque });
                EcallOutcome::Return(vmcore::SbiReturn::ok(0))
            }
        }
    }
}

/// Harts, memory, and a program that every reset copies anew.
struct Bare {
    harts: Harts,
    ram: Arc<Ram>,
    program: Vec<u8>,
}

impl Machine for Bare {
    fn harts(&self) -> &Harts {
        &self.harts
    }

    fn devices(&self) -> &[Arc<dyn Device>] {
        &[]
    }

    fn board(&self) -> BoardInfo {
        BoardInfo::new("bare", Some(&self.ram), &self.harts, &[])
    }

    fn ram(&self) -> Option<&Arc<Ram>> {
        Some(&self.ram)
    }

    fn place_images(&self) -> Result<BootEntry, PlaceError> {
        self.ram.write(BASE, &self.program).unwrap();
        Ok(BootEntry::Supervisor { pc: BASE, device_tree: 0 })
    }
}

/// Writes down every event with the state that came with it.
#[derive(Default)]
pub struct Events {
    seen: Mutex<Vec<String>>,
    news: Condvar,
}

impl Subscriber for Events {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let Some(event) = record.and_then(|record| record.event) else { return };
        self.seen.lock().unwrap().push(format!("{} {}", event.name(), status.state.as_str()));
        self.news.notify_all();
    }
}

impl Events {
    /// What came since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub fn wait_for(&self, line: &str) {
        let seen = self.seen.lock().unwrap();
        let missing = |seen: &mut Vec<String>| !seen.iter().any(|other| other == line);
        let (seen, timeout) = self.news.wait_timeout_while(seen, PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "{line} never came; seen {seen:?}");
    }
}

/// A machine that runs, and its events.
pub struct Rig {
    pub engine: Engine,
    pub events: Arc<Events>,
    pub ram: Arc<Ram>,
}

impl Rig {
    /// A held machine of two harts, hart 0 about to execute `program`.
    pub fn held(program: &[u32]) -> Self {
        let host = TestClock::new(1, 0);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
        let harts = Harts::new(2, &clock, &timers);
        let ram = Arc::new(Ram::new(BASE, 16 << 20).unwrap());
        let bus = Arc::new(Bus::new());
        let firmware: Arc<dyn Firmware> = Arc::new(Calls(harts.clone()));
        let hart = |shared: &Arc<vmcore::HartShared>| {
            Box::new(Hart::new(HartConfig {
                shared: Arc::clone(shared),
                harts: harts.clone(),
                ram: Arc::clone(&ram),
                bus: Arc::clone(&bus),
                firmware: Some(Arc::clone(&firmware)),
                extensions: Extensions::ALL,
                count: None,
            })) as Box<dyn Vcpu>
        };
        let vcpus = harts.iter().map(hart).collect();
        let program = program.iter().flat_map(|word| word.to_le_bytes()).collect();
        let machine = Arc::new(Bare { harts, ram: Arc::clone(&ram), program });
        let config = EngineConfig {
            machine,
            vcpus,
            timers,
            host: Arc::new(host),
            lifecycle: Lifecycle::new(Config::default()),
            counted: None,
            hart_nice: None,
        };
        let engine = Builder::new().start(config).unwrap();
        let events = Arc::new(Events::default());
        engine.subscribe(Arc::clone(&events) as Arc<dyn Subscriber>);
        Self { engine, events, ram }
    }

    /// The same, running.
    pub fn running(program: &[u32]) -> Self {
        let rig = Self::held(program);
        rig.ask(ManagementRequest::Cont);
        rig.events.take();
        rig
    }

    pub fn ask(&self, request: ManagementRequest) {
        self.engine.manage(request).unwrap_or_else(|error| panic!("{request:?} was refused: {error}"));
    }

    pub fn state(&self) -> &'static str {
        self.engine.status().state.as_str()
    }

    /// A client that has connected, without a word yet.
    pub fn connect(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let engine = self.engine.clone();
        let connection = Connection::from_socket(theirs.into());
        let monitor: gdb::MonitorLine = Arc::new(|line| format!("you said {line}\n"));
        let server = thread::spawn(move || drop(gdb::serve(&engine, &connection, &monitor)));
        Client { stream: ours, server: Some(server) }
    }

    /// The same, after gdb's own first words.
    pub fn attach(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.ask("QStartNoAckMode"), "OK");
        client
    }

    pub fn word(&self, addr: u64) -> u64 {
        let mut bytes = [0; 8];
        self.ram.read(addr, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// Ends the machine, so that its harts do not run beside the tests that follow.
impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.engine.manage(ManagementRequest::Quit { cause: ShutdownCause::HostSignal });
        self.engine.wait();
    }
}

/// The other end of the stub.
pub struct Client {
    pub stream: UnixStream,
    server: Option<JoinHandle<()>>,
}

pub fn framed(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("${body}#{sum:02x}").into_bytes()
}

impl Client {
    pub fn send(&mut self, body: &str) {
        self.stream.write_all(&framed(body)).unwrap();
    }

    pub fn interrupt(&mut self) {
        self.stream.write_all(&[3]).unwrap();
    }

    pub fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// The next packet, whatever was acknowledged before it.
    pub fn reply(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut body = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                b'}' => body.push(self.byte() ^ 0x20),
                byte => body.push(byte),
            }
        }
        // The checksum.
        self.byte();
        self.byte();
        String::from_utf8(body).unwrap()
    }

    pub fn ask(&mut self, body: &str) -> String {
        self.send(body);
        self.reply()
    }

    pub fn ok(&mut self, body: &str) {
        assert_eq!(self.ask(body), "OK", "{body}");
    }

    /// A register by gdb's number.
    pub fn register(&mut self, number: u64) -> u64 {
        let text = self.ask(&format!("p{number:x}"));
        let byte = |at: usize| u64::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len() / 2).map(|at| byte(2 * at) << (8 * at)).sum()
    }

    pub fn pc(&mut self) -> u64 {
        self.register(32)
    }

    /// Ends the connection, and waits until the machine has been told.
    pub fn hang_up(mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.gone();
    }

    /// Waits until the stub has done with this client.
    pub fn gone(&mut self) {
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}
