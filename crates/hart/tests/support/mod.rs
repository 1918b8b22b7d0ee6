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

/// A small repeatable generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// CSRs that random states and programs use.
pub const CSRS: [u16; 41] = [
    0x001, 0x002, 0x003, 0x100, 0x104, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142, 0x143, 0x144, 0x14d, 0x180,
    0x300, 0x301, 0x302, 0x303, 0x304, 0x305, 0x306, 0x30a, 0x320, 0x340, 0x341, 0x342, 0x343, 0x344, 0x3a0,
    0x3a2, 0x3b0, 0x3b1, 0x3bf, 0xb00, 0xb02, 0xb03, 0x323, 0xc01, 0xf14, 0x7c0,
];

/// A number that means something: an address in RAM, a small one, a single bit, or anything.
pub fn interesting(random: &mut Random) -> u64 {
    let value = random.next();
    match random.below(6) {
        0 => BASE + value % (1 << 16),
        1 => BASE + value % SIZE,
        2 => value % 64,
        3 => 1 << (value % 64),
        4 => (value as i16) as u64,
        _ => value,
    }
}

/// An instruction that tends to be valid.
pub fn instruction(random: &mut Random) -> u32 {
    let bits = random.next() as u32;
    const OPCODES: [u32; 18] = [
        0x03, 0x07, 0x0f, 0x13, 0x17, 0x1b, 0x23, 0x27, 0x2f, 0x33, 0x37, 0x3b, 0x43, 0x53, 0x63, 0x67, 0x6f,
        0x73,
    ];
    let opcode = OPCODES[random.below(18) as usize];
    match (opcode, random.below(4)) {
        (_, 0) => bits,
        // Short jumps and branches, to stay near.
        (0x63, _) => asm::branch(bits >> 12 & 7, bits >> 15 & 31, bits >> 20 & 31, (bits as i32 >> 24) & !1),
        (0x6f, _) => asm::jal(bits >> 7 & 31, (bits as i32 >> 22) & !1),
        (0x73, 1 | 2) => u32::from(CSRS[random.below(41) as usize]) << 20 | bits & 0xf_ff80 | 0x73,
        (0x73, _) => [asm::ECALL, asm::EBREAK, asm::SRET, asm::MRET, asm::WFI, asm::FENCE_I, 0x1200_0073]
            [random.below(7) as usize],
        (0x33 | 0x3b, 1 | 2) => bits & 0x01ff_ff80 | opcode,
        (0x2f, 1 | 2) => bits & 0xf8ff_8f80 | 0x2000 | bits & 0x1000 | opcode,
        _ => bits & !0x7f | opcode,
    }
}

/// Puts `hart` and the first 64 KiB of RAM into a random state: code, registers, CSRs, tables, a mode.
pub fn scramble(machine: &Machine, hart: &mut Hart, seed: u64) {
    let mut random = Random(seed);
    let words: Vec<u8> = (0..0x4000).flat_map(|_| instruction(&mut random).to_le_bytes()).collect();
    machine.ram.write(BASE, &words).unwrap();
    for number in 0..32 {
        hart.set_x(number, interesting(&mut random));
        hart.set_f(number, interesting(&mut random));
    }
    hart.set_csr(0x3b0, u64::MAX);
    hart.set_csr(0x3a0, 0x1f);
    for _ in 0..random.below(80) {
        let csr = CSRS[random.below(41) as usize];
        // A protection that denies everything executes nothing; so it is rare.
        if !(0x3a0..0x3c0).contains(&csr) || random.below(8) == 0 {
            hart.set_csr(csr, interesting(&mut random));
        }
    }
    // Identity tables, with one permission or another missing here and there.
    let (root, middle) = (BASE + 0x8000, BASE + 0x9000);
    if random.below(2) == 0 {
        let user = random.below(2) << 4;
        machine.put(root + 16, middle >> 2 | 1);
        for at in 0..8 {
            let flags = if random.below(4) == 0 { random.next() & 0xff } else { 0xcf | user };
            machine.put(middle + 8 * at, (BASE + (at << 21)) >> 2 | flags);
        }
        hart.set_csr(0x180, 8 << 60 | root >> 12);
    }
    for csr in [0x305, 0x105] {
        hart.set_csr(csr, (BASE + random.below(0x8000)) & !3);
    }
    hart.set_privilege([0, 1, 1, 3][random.below(4) as usize]);
    hart.set_pc(BASE + random.below(0x8000));
}
