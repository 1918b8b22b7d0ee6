//! Our side: one hart with memory, a UART that collects, and the finisher, run in this process.

use std::sync::{Arc, Mutex, PoisonError};

use clock::{GuestClock, TestClock, TimerQueue};
use hart::{Extensions, Hart, HartConfig};
use ram::Ram;
use runstate::{GuestRequest, ShutdownCause, WakeSource};
use vmcore::{AccessSize, Bus, Device, Exit, Harts, LoadError, Section, Vcpu};

use crate::layout;
use crate::qemu::Outcome;

/// Instructions between two looks at what is going on.
const SLICE: u64 = 10_000_000;

/// Why our side gave no results.
#[derive(Debug, thiserror::Error)]
pub enum OursError {
    /// Memory could not be made or is too small.
    #[error("guest memory")]
    Ram(#[from] ram::RamError),
    /// A device could not be put on the bus.
    #[error("devices")]
    Bus(#[from] vmcore::BusError),
}

/// A device without state that a guest could see: what is written goes to a list.
struct Collector {
    name: &'static str,
    written: Mutex<Vec<u64>>,
    finisher: bool,
}

impl Collector {
    fn new(name: &'static str, finisher: bool) -> Arc<Self> {
        Arc::new(Self { name, written: Mutex::new(Vec::new()), finisher })
    }
}

impl Device for Collector {
    fn name(&self) -> &str {
        self.name
    }

    /// The UART's line status: the transmitter is empty.
    fn read(&self, offset: u64, _size: AccessSize) -> u64 {
        if offset == 5 && !self.finisher { 0x60 } else { 0 }
    }

    fn write(&self, offset: u64, _size: AccessSize, value: u64) -> Option<GuestRequest> {
        if offset == 0 {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(value);
        }
        let finished = self.finisher && offset == 0 && value & 0xffff == u64::from(layout::FINISHER.1);
        finished.then_some(GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 })
    }

    fn reset(&self) {}

    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        Section::encode(self.name, 1, &())
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        section.decode::<()>(self.name, 1)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        section.decode::<()>(self.name, 1)
    }
}

/// Runs `image` from the start of RAM in machine mode until the guest ends the machine or has retired `limit`
/// instructions; returns `len` bytes of RAM at guest physical address `from`, and the instructions retired.
pub fn run(image: &[u8], from: u64, len: usize, limit: u64) -> Result<(Outcome, u64), OursError> {
    let host = TestClock::new(0, 0);
    let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
    clock.thaw();
    let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host));
    let harts = Harts::new(1, &clock, &timers);
    let ram = Arc::new(Ram::new(layout::RAM, layout::RAM_SIZE)?);
    ram.write(layout::RAM, image)?;
    let mut bus = Bus::new();
    let (uart, finisher) = (Collector::new("uart", false), Collector::new("finisher", true));
    bus.map(layout::UART, 0x100, Arc::clone(&uart) as Arc<dyn Device>)?;
    bus.map(layout::FINISHER.0, 0x1000, finisher)?;
    let mut finished = false;
    let mut retired = 0;
    if let Some(shared) = harts.get(0) {
        let mut hart = Hart::new(HartConfig {
            shared: Arc::clone(shared),
            harts: harts.clone(),
            ram: Arc::clone(&ram),
            bus: Arc::new(bus),
            firmware: None,
            extensions: Extensions::ALL,
            count: None,
        });
        hart.start_machine(layout::RAM, 0, 0);
        let gate = shared.gate();
        // A guest that retires nothing comes back all the same; it is given up after as many turns.
        for _ in 0..limit.div_ceil(SLICE) + 1000 {
            gate.enter(0);
            let exit = hart.run((hart.retired() + SLICE).min(limit));
            gate.leave();
            if hart.retired() >= limit || !matches!(exit, Exit::Limit | Exit::Signal) {
                finished = matches!(exit, Exit::Request { request: GuestRequest::ShutDown { .. }, .. });
                break;
            }
        }
        retired = hart.retired();
    }
    let mut memory = vec![0; len];
    ram.read(from, &mut memory)?;
    let written = uart.written.lock().unwrap_or_else(PoisonError::into_inner);
    let console = written.iter().map(|&value| value as u8).collect();
    Ok((Outcome { memory, console, finished }, retired))
}
