//! How fast the interpreter is, in millions of guest instructions a second, on a few tight loops.
//!
//! `cargo run --release -p hart --example mips`

use std::sync::Arc;
use std::time::Instant;

use clock::{GuestClock, SystemClock, TimerQueue};
use hart::{Extensions, Hart, HartConfig};
use ram::Ram;
use vmcore::{Bus, Harts, Vcpu};

const BASE: u64 = 0x8000_0000;
const INSTRUCTIONS: u64 = 400_000_000;

/// Shift, xor, add, branch.
const ALU: [u32; 8] = [
    0x00d5_1593, // slli a1, a0, 13
    0x00b5_4533, // xor a0, a0, a1
    0x0075_5593, // srli a1, a0, 7
    0x00b5_4533, // xor a0, a0, a1
    0x0115_1593, // slli a1, a0, 17
    0x00b5_4533, // xor a0, a0, a1
    0xfff6_0613, // addi a2, a2, -1
    0xfe06_12e3, // bnez a2, -28
];

/// Load, add, store, step through 4 KiB, branch.
const MEMORY: [u32; 9] = [
    0x0000_3797, // auipc a5, 3
    0x0007_b503, // ld a0, 0(a5)
    0x0015_0513, // addi a0, a0, 1
    0x00a7_b023, // sd a0, 0(a5)
    0x0087_b583, // ld a1, 8(a5)
    0x00b5_0533, // add a0, a0, a1
    0x00a7_b823, // sd a0, 16(a5)
    0x0107_b583, // ld a1, 16(a5)
    0xfe00_02e3, // beq zero, zero, -28
];

/// Call and return.
const CALL: [u32; 6] = [
    0x0100_00ef, // jal ra, 16
    0x0015_8593, // addi a1, a1, 1
    0xff9f_f06f, // j -8
    0x0000_0013, // nop
    0x0015_0513, // addi a0, a0, 1
    0x0000_8067, // ret
];

fn main() -> Result<(), ram::RamError> {
    for (name, code) in [("alu", &ALU[..]), ("memory", &MEMORY[..]), ("call", &CALL[..])] {
        let mut hart = hart_with(code)?;
        let start = Instant::now();
        hart.run(INSTRUCTIONS);
        let seconds = start.elapsed().as_secs_f64();
        println!("{name:8} {:7.1} MIPS", INSTRUCTIONS as f64 / seconds / 1e6);
    }
    Ok(())
}

fn hart_with(code: &[u32]) -> Result<Hart, ram::RamError> {
    let host = Arc::new(SystemClock);
    let clock = Arc::new(GuestClock::new(host.clone()));
    let timers = TimerQueue::new(Arc::clone(&clock), host);
    let harts = Harts::new(1, &clock, &timers);
    let shared = harts.iter().next().map(Arc::clone);
    let ram = Arc::new(Ram::new(BASE, 1 << 20)?);
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    ram.write(BASE, &bytes)?;
    let Some(shared) = shared else { unreachable!("there is one hart") };
    let mut hart = Hart::new(HartConfig {
        shared,
        harts,
        ram,
        bus: Arc::new(Bus::new()),
        firmware: None,
        extensions: Extensions::ALL,
        count: None,
    });
    hart.start_machine(BASE, 0, 0);
    Ok(hart)
}
