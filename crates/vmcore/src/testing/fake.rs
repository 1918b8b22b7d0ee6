//! A machine without a board: harts that follow a script, devices that write down what they are told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::{GuestClock, TimerQueue};
use ram::{Ram, RamError};
use runstate::{GuestRequest, WakeSource};

use crate::board::BoardInfo;
use crate::debug::{Debug, DebugHit, Point, Register, Space};
use crate::device::{AccessSize, Device};
use crate::firmware::SbiReturn;
use crate::harts::{HartShared, Harts, StartParams};
use crate::identity::{Identity, Renewal};
use crate::machine::{BootEntry, Machine, PlaceError};
use crate::park::flag;
use crate::saved::{LoadError, Section};
use crate::storage::Storage;
use crate::testing::FakeStorage;
use crate::vcpu::{Exit, Vcpu};
use crate::wakes::WakeState;

/// What a scripted hart does next. With an empty script it waits for an interrupt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Asks something of the machine's life by `ecall`.
    Ecall(GuestRequest),
    /// Asks by a store to a device.
    Store(GuestRequest),
    /// Stores to this guest physical address, and asks something in the same block.
    Write(u64, Option<GuestRequest>),
    /// Executes until something is wanted of it.
    Spin,
    /// Stops itself.
    Stop,
    /// Executes for good, whatever is wanted of it, as a bug in the emulator would have it.
    Hang,
    /// Sets the supervisor timer's compare register this many ticks from now.
    Compare(u64),
    /// Meets a breakpoint or a watchpoint.
    Hit(DebugHit),
    /// Panics, as a bug in the emulator would.
    Panic,
    /// Waits, and panics when it is asked whether an interrupt is pending.
    PanicWaiting,
}

/// The script of a hart, from outside.
#[derive(Clone)]
pub struct Script {
    script: Arc<Mutex<VecDeque<Step>>>,
    blocks: Arc<AtomicU64>,
    shared: Arc<HartShared>,
}

impl Script {
    /// Appends a step and has the hart look.
    pub fn then(&self, step: Step) {
        lock(&self.script).push_back(step);
        self.shared.set_pending(crate::mip::SSIP, true);
        self.shared.gate().raise(flag::IRQ);
    }

    /// Whether the hart has taken the last step.
    pub fn is_done(&self) -> bool {
        lock(&self.script).is_empty()
    }

    /// Blocks executed so far.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::SeqCst)
    }
}

/// A hart that follows a script.
pub struct FakeVcpu {
    shared: Arc<HartShared>,
    ram: Option<Arc<Ram>>,
    script: Arc<Mutex<VecDeque<Step>>>,
    blocks: Arc<AtomicU64>,
    spinning: bool,
    panics_waiting: bool,
    pc: u64,
    result: Option<SbiReturn>,
    points: Arc<[Point]>,
}

impl FakeVcpu {
    /// The scripted hart behind `shared`, which stores to `ram`, and its script.
    pub fn new(shared: Arc<HartShared>, ram: Option<Arc<Ram>>) -> (Self, Script) {
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let blocks = Arc::new(AtomicU64::new(0));
        let script_of =
            Script { script: Arc::clone(&script), blocks: Arc::clone(&blocks), shared: Arc::clone(&shared) };
        let hart = Self {
            shared,
            ram,
            script,
            blocks,
            spinning: false,
            panics_waiting: false,
            pc: 0,
            result: None,
            points: Arc::new([]),
        };
        (hart, script_of)
    }
}

impl Vcpu for FakeVcpu {
    fn run(&mut self, limit: u64) -> Exit {
        loop {
            let gate = self.shared.gate();
            gate.serve_fences(|_| {});
            gate.take(flag::IRQ);
            if gate.flags() != 0 {
                return Exit::Signal;
            }
            if self.retired() >= limit {
                return Exit::Limit;
            }
            self.blocks.fetch_add(1, Ordering::SeqCst);
            let next = lock(&self.script).pop_front();
            match next {
                Some(Step::Ecall(request)) => return Exit::Request { request, ecall: true },
                Some(Step::Store(request)) => return Exit::Request { request, ecall: false },
                Some(Step::Write(addr, request)) => {
                    match self.ram.as_ref().map(|ram| ram.write(addr, &[0xff])) {
                        Some(Err(RamError::Delayed { .. })) => {
                            // It stands before its store, and may be parked.
                            lock(&self.script).push_front(Step::Write(addr, request));
                            return Exit::Signal;
                        }
                        Some(other) => other.expect("the script stores to RAM"),
                        None => {}
                    }
                    if let Some(request) = request {
                        return Exit::Request { request, ecall: false };
                    }
                }
                Some(Step::Spin) => self.spinning = true,
                Some(Step::Hit(hit)) => return Exit::Debug(hit),
                Some(Step::Stop) => {
                    self.shared.hsm_stop();
                    return Exit::Stopped;
                }
                Some(Step::Compare(ticks)) => self.shared.set_stimecmp(self.shared.time() + ticks),
                Some(Step::Hang) => loop {
                    std::thread::park();
                },
                Some(Step::Panic) => panic!("the script says so"),
                Some(Step::PanicWaiting) => {
                    self.panics_waiting = true;
                    return Exit::Wait;
                }
                None if self.spinning => std::thread::yield_now(),
                None => {
                    self.shared.set_pending(crate::mip::SSIP, false);
                    return Exit::Wait;
                }
            }
        }
    }

    fn retired(&self) -> u64 {
        self.blocks.load(Ordering::SeqCst)
    }

    fn fence(&mut self, _kinds: u32) {}

    fn interrupt_pending(&self) -> bool {
        assert!(!self.panics_waiting, "the script says so");
        self.shared.pending() != 0
    }

    fn answer(&mut self, result: SbiReturn) {
        self.result = Some(result);
    }

    fn reset(&mut self) {
        self.spinning = false;
        self.panics_waiting = false;
        self.pc = 0;
        self.result = None;
        lock(&self.script).clear();
    }

    fn start_supervisor(&mut self, params: StartParams) {
        self.pc = params.pc;
    }

    fn start_machine(&mut self, pc: u64, _a1: u64, _a2: u64) {
        self.pc = pc;
    }

    fn save(&self) -> Section {
        Section::encode(&format!("hart{}", self.shared.id()), 1, &self.pc)
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode::<u64>(&format!("hart{}", self.shared.id()), 1).map(drop)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.pc = section.decode(&format!("hart{}", self.shared.id()), 1)?;
        Ok(())
    }

    fn describe(&self) -> String {
        let registers = format!("pc {:#x} a0 {:?}", self.pc, self.result);
        match self.points.len() {
            0 => registers,
            points => format!("{registers} points {points}"),
        }
    }
}

/// The pc alone, and no memory. A step is 4 bytes further.
impl Debug for FakeVcpu {
    fn read_register(&mut self, register: Register) -> Option<u64> {
        (register == Register::Pc).then_some(self.pc)
    }

    fn write_register(&mut self, register: Register, value: u64) -> bool {
        let is_pc = register == Register::Pc;
        if is_pc {
            self.pc = value;
        }
        is_pc
    }

    fn read_memory(&self, _space: Space, _addr: u64, _bytes: &mut [u8]) -> usize {
        0
    }

    fn write_memory(&mut self, _space: Space, _addr: u64, _bytes: &[u8]) -> usize {
        0
    }

    fn set_points(&mut self, points: Arc<[Point]>) {
        self.points = points;
    }

    fn pass_breakpoint(&mut self) {}

    fn step(&mut self) -> Exit {
        self.pc += 4;
        Exit::Debug(DebugHit::Step)
    }
}

/// A device that writes down what it is told, and can be given wakes that fall due.
#[derive(Default)]
pub struct FakeDevice {
    log: Mutex<Vec<&'static str>>,
    due_at_start: Mutex<Option<WakeSource>>,
    due_at_sleep: Mutex<Option<WakeSource>>,
    panics_at_stop: AtomicBool,
    storage: Option<Arc<FakeStorage>>,
}

impl FakeDevice {
    /// What it was told since the last call.
    pub fn take_log(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.log))
    }

    /// The next start finds this wake due.
    pub fn due_at_start(&self, source: WakeSource) {
        *lock(&self.due_at_start) = Some(source);
    }

    /// The next sleep finds this wake due.
    pub fn due_at_sleep(&self, source: WakeSource) {
        *lock(&self.due_at_sleep) = Some(source);
    }

    /// The next stop panics, as a bug in a device would.
    pub fn panic_at_stop(&self) {
        self.panics_at_stop.store(true, Ordering::SeqCst);
    }

    fn note(&self, what: &'static str) {
        lock(&self.log).push(what);
    }
}

impl Device for FakeDevice {
    fn name(&self) -> &str {
        "fake"
    }

    fn read(&self, _offset: u64, _size: AccessSize) -> u64 {
        0
    }

    fn write(&self, _offset: u64, _size: AccessSize, _value: u64) -> Option<GuestRequest> {
        None
    }

    fn reset(&self) {
        self.note("reset");
    }

    fn stop(&self) {
        assert!(!self.panics_at_stop.swap(false, Ordering::SeqCst), "the test says so");
        self.note("stop");
    }

    fn start(&self) -> Option<WakeSource> {
        self.note("start");
        lock(&self.due_at_start).take()
    }

    fn sleep(&self) -> Option<WakeSource> {
        self.note("sleep");
        lock(&self.due_at_sleep).take()
    }

    fn wake(&self) {
        self.note("wake");
    }

    fn press_power_button(&self) -> bool {
        self.note("power button");
        true
    }

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        self.storage.clone().map(|storage| storage as Arc<dyn Storage>)
    }

    fn save(&self) -> Section {
        Section::encode("fake", 1, &())
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode("fake", 1)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        self.check(section)?;
        self.note("load");
        Ok(())
    }
}

/// A machine of scripted harts and one note-taking device.
pub struct FakeMachine {
    harts: Harts,
    devices: Vec<Arc<dyn Device>>,
    device: Arc<FakeDevice>,
    ram: Option<Arc<Ram>>,
    placed: AtomicU64,
    misplaces: AtomicBool,
    firmware: AtomicBool,
    wakes: Mutex<Vec<WakeState>>,
    identity: Mutex<Identity>,
}

impl FakeMachine {
    /// First guest physical address of its memory.
    pub const RAM_BASE: u64 = 0x8000_0000;
    /// Where its kernel is placed.
    pub const KERNEL: u64 = 0x8020_0000;
    /// Size of its memory in bytes.
    pub const RAM_SIZE: u64 = 4 << 20;

    /// A machine with `harts` harts on `clock`, its harts for the engine, and their scripts.
    pub fn new(
        harts: u32,
        clock: &Arc<GuestClock>,
        timers: &Arc<TimerQueue>,
    ) -> (Arc<Self>, Vec<Box<dyn Vcpu>>, Vec<Script>) {
        Self::with_storage(harts, clock, timers, None)
    }

    /// The same; its device keeps data if `storage` is given.
    pub fn with_storage(
        harts: u32,
        clock: &Arc<GuestClock>,
        timers: &Arc<TimerQueue>,
        storage: Option<Arc<FakeStorage>>,
    ) -> (Arc<Self>, Vec<Box<dyn Vcpu>>, Vec<Script>) {
        let harts = Harts::new(harts, clock, timers);
        let ram = Ram::new(Self::RAM_BASE, Self::RAM_SIZE).ok().map(Arc::new);
        let (vcpus, script_ofs) = harts
            .iter()
            .map(|shared| FakeVcpu::new(Arc::clone(shared), ram.clone()))
            .map(|(vcpu, script_of)| (Box::new(vcpu) as Box<dyn Vcpu>, script_of))
            .unzip();
        let device = Arc::new(FakeDevice { storage, ..FakeDevice::default() });
        let devices = vec![Arc::clone(&device) as Arc<dyn Device>];
        (
            Arc::new(Self {
                harts,
                devices,
                device,
                ram,
                placed: AtomicU64::new(0),
                misplaces: AtomicBool::new(false),
                identity: Mutex::new(Identity { generation: [1; 16], mac_seed: [2; 8] }),
                firmware: AtomicBool::new(false),
                wakes: Mutex::default(),
            }),
            vcpus,
            script_ofs,
        )
    }

    /// The note-taking device.
    pub fn device(&self) -> &Arc<FakeDevice> {
        &self.device
    }

    /// From the next reset on all harts start in machine mode, as under firmware of the guest's own.
    pub fn boot_firmware(&self) {
        self.firmware.store(true, Ordering::SeqCst);
    }

    /// What it answers about its wake sources from now on.
    pub fn set_wake_sources(&self, sources: &[WakeState]) {
        *lock(&self.wakes) = sources.to_vec();
    }

    /// The next time the boot images are placed, that fails.
    pub fn misplace(&self) {
        self.misplaces.store(true, Ordering::SeqCst);
    }

    /// How often the boot images were placed.
    pub fn placed(&self) -> u64 {
        self.placed.load(Ordering::SeqCst)
    }
}

impl Machine for FakeMachine {
    fn harts(&self) -> &Harts {
        &self.harts
    }

    fn devices(&self) -> &[Arc<dyn Device>] {
        &self.devices
    }

    fn board(&self) -> BoardInfo {
        BoardInfo { suspend: true, ..BoardInfo::new("fake", self.ram.as_deref(), &self.harts, &self.devices) }
    }

    fn ram(&self) -> Option<&Arc<Ram>> {
        self.ram.as_ref()
    }

    fn identity(&self) -> Option<Identity> {
        Some(*lock(&self.identity))
    }

    fn renew(&self, renewal: Renewal) {
        let mut identity = lock(&self.identity);
        *identity = identity.renewed(renewal);
    }

    fn wake_sources(&self) -> Vec<WakeState> {
        lock(&self.wakes).clone()
    }

    fn place_images(&self) -> Result<BootEntry, PlaceError> {
        if self.misplaces.swap(false, Ordering::SeqCst) {
            return Err(PlaceError { what: "kernel", source: "the test says so".into() });
        }
        if let Some(ram) = &self.ram {
            let failed = |error| PlaceError { what: "kernel", source: Box::new(error) };
            ram.write(Self::KERNEL, b"kernel").map_err(failed)?;
        }
        self.placed.fetch_add(1, Ordering::SeqCst);
        if self.firmware.load(Ordering::SeqCst) {
            return Ok(BootEntry::Machine { pc: 0x8000_0000, device_tree: 0x8800_0000, info: 0 });
        }
        Ok(BootEntry::Supervisor { pc: Self::KERNEL, device_tree: 0x8800_0000 })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
