//! A hart with a little memory, and an assembler of functions that give encodings.
#![allow(dead_code)]

pub mod asm;

use std::sync::Arc;

use clock::{GuestClock, TestClock, TimerQueue};
use hart::{Extensions, Hart, HartConfig};
use ram::Ram;
use vmcore::{Bus, Exit, Firmware, HartShared, Harts, Vcpu};

/// First address of RAM.
pub const BASE: u64 = 0x8000_0000;
/// Size of RAM in bytes.
pub const SIZE: u64 = 16 << 20;

/// Harts, memory and clocks.
pub struct Machine {
    pub ram: Arc<Ram>,
    pub harts: Harts,
    pub bus: Arc<Bus>,
    pub host: TestClock,
    pub timers: Arc<TimerQueue>,
    pub extensions: Extensions,
}

impl Machine {
    pub fn new(harts: u32) -> Self {
        Self::with_bus(harts, Bus::new())
    }

    pub fn with_bus(harts: u32, bus: Bus) -> Self {
        let host = TestClock::new(0, 0);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        clock.thaw();
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
        Self {
            ram: Arc::new(Ram::new(BASE, SIZE).unwrap()),
            harts: Harts::new(harts, &clock, &timers),
            bus: Arc::new(bus),
            host,
            timers,
            extensions: Extensions::ALL,
        }
    }

    pub fn shared(&self, id: u32) -> &Arc<HartShared> {
        self.harts.get(id).unwrap()
    }

    pub fn hart(&self, id: u32) -> Hart {
        self.hart_with(id, None)
    }

    pub fn hart_with(&self, id: u32, firmware: Option<Arc<dyn Firmware>>) -> Hart {
        Hart::new(HartConfig {
            shared: Arc::clone(self.shared(id)),
            harts: self.harts.clone(),
            ram: Arc::clone(&self.ram),
            bus: Arc::clone(&self.bus),
            firmware,
            extensions: self.extensions,
            count: None,
        })
    }

    /// Puts code at `addr`.
    pub fn code(&self, addr: u64, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.ram.write(addr, &bytes).unwrap();
    }

    /// Puts a 64-bit value at `addr`.
    pub fn put(&self, addr: u64, value: u64) {
        self.ram.write(addr, &value.to_le_bytes()).unwrap();
    }

    /// The 64-bit value at `addr`.
    pub fn get(&self, addr: u64) -> u64 {
        let mut bytes = [0; 8];
        self.ram.read(addr, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// Runs exactly `count` more instructions.
pub fn steps(hart: &mut Hart, count: u64) {
    let limit = hart.retired() + count;
    assert_eq!(hart.run(limit), Exit::Limit);
    assert_eq!(hart.retired(), limit);
}

/// A machine and its one hart in machine mode at the start of RAM, where `code` is.
pub fn boot(code: &[u32]) -> (Machine, Hart) {
    let machine = Machine::new(1);
    machine.code(BASE, code);
    let mut hart = machine.hart(0);
    hart.start_machine(BASE, 0, 0);
    (machine, hart)
}

/// Runs `code` in machine mode, each instruction once, from the given registers; gives the hart.
pub fn run(code: &[u32], registers: &[(usize, u64)]) -> Hart {
    let (_, mut hart) = boot(code);
    for &(number, value) in registers {
        hart.set_x(number, value);
    }
    steps(&mut hart, code.len() as u64);
    hart
}
