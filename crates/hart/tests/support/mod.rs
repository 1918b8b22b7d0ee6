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

/// Where the handlers of [`supervised`] wait.
pub const MACHINE_HANDLER: u64 = BASE + 0x8000;
/// The same for supervisor mode.
pub const SUPERVISOR_HANDLER: u64 = BASE + 0x9000;
/// A jump to itself.
pub const SPIN: u32 = 0x6f;

pub const MODE_U: u8 = 0;
pub const MODE_S: u8 = 1;
pub const MODE_M: u8 = 3;

/// A machine and its hart in `mode` at the start of RAM, where `code` is. All of memory is open to all modes, and both
/// trap vectors lead to a spin.
pub fn supervised(mode: u8, code: &[u32]) -> (Machine, Hart) {
    let (machine, mut hart) = boot(code);
    machine.code(MACHINE_HANDLER, &[SPIN]);
    machine.code(SUPERVISOR_HANDLER, &[SPIN]);
    for (csr, value) in
        [(0x3b0, u64::MAX), (0x3a0, 0x1f), (0x305, MACHINE_HANDLER), (0x105, SUPERVISOR_HANDLER)]
    {
        assert!(hart.set_csr(csr, value));
    }
    assert!(hart.set_privilege(mode));
    (machine, hart)
}

/// What a trap left: the mode it went to, cause, value and pc.
#[derive(Debug, Eq, PartialEq)]
pub struct Taken {
    pub mode: u8,
    pub cause: u64,
    pub tval: u64,
    pub epc: u64,
}

/// Runs until a handler spins and says what it would find.
pub fn trapped(hart: &mut Hart) -> Taken {
    hart.run(hart.retired() + 1000);
    taken(hart)
}

/// What the handler that the hart is in finds.
pub fn taken(hart: &mut Hart) -> Taken {
    let mode = hart.privilege();
    let pc = hart.pc();
    let base: u16 = if mode == MODE_M { 0x340 } else { 0x140 };
    let handler = if mode == MODE_M { MACHINE_HANDLER } else { SUPERVISOR_HANDLER };
    assert!((handler..handler + 64).contains(&pc), "no handler was entered: pc {pc:#x} in mode {mode}");
    let mut csr = |number| hart.csr(base + number).unwrap();
    Taken { mode, epc: csr(1), cause: csr(2), tval: csr(3) }
}

/// The trap that one instruction takes in `mode`, which has to be taken at once and to machine mode.
pub fn trap_of(mode: u8, instruction: u32, registers: &[(usize, u64)]) -> (u64, u64) {
    let (_machine, mut hart) = supervised(mode, &[instruction]);
    for &(number, value) in registers {
        hart.set_x(number, value);
    }
    let taken = trapped(&mut hart);
    assert_eq!((taken.mode, taken.epc), (MODE_M, BASE));
    (taken.cause, taken.tval)
}
