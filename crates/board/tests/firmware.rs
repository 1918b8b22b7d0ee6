//! Firmware that others wrote runs in machine mode on two harts, and starts a kernel that has it as its SBI.

mod common;

use std::path::Path;

use board::{Board, ImageSource};
use common::{Ground, bytes};
use runstate::GuestRequest;
use vmcore::park::flag;
use vmcore::{BootEntry, Exit, Machine};

const GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");
/// Where Debian's package `opensbi` puts it.
const OPENSBI: &str = "/usr/lib/riscv64-linux-gnu/opensbi/generic";

/// Runs `firmware` with the embedded guest as its kernel on two harts, types `typed` once the console shows `until`, and
/// gives what the console showed in the end and what was asked of the machine.
fn run(firmware: &str, until: &str, typed: &str) -> (String, Option<GuestRequest>) {
    let ground = Ground::new();
    let mut config = ground.config(Some(bytes("embedded", GUEST)));
    config.firmware = Some(ImageSource::File(Path::new(OPENSBI).join(firmware)));
    config.harts = 2;
    let (board, mut harts) = Board::build(config).unwrap();
    let BootEntry::Machine { pc, device_tree, info } = board.place_images().unwrap() else { panic!() };
    for (hart, shared) in harts.iter_mut().zip(board.harts().iter()) {
        hart.start_machine(pc, device_tree, info);
        shared.hsm_resume();
    }
    let mut input = typed.bytes();
    let mut waits = [false; 2];
    for _ in 0..20_000 {
        for (index, hart) in harts.iter_mut().enumerate() {
            let shared = board.harts().get(index as u32).unwrap();
            shared.gate().take(flag::CONTROL | flag::IRQ);
            if waits[index] && !hart.interrupt_pending() {
                continue;
            }
            assert!(shared.gate().enter(0));
            let exit = hart.run(hart.retired() + 20_000);
            shared.gate().leave();
            waits[index] = exit == Exit::Wait;
            if let Exit::Request { request, .. } = exit {
                return (ground.console.text(), Some(request));
            }
        }
        ground.host.advance(100_000);
        ground.timers.run_due();
        if ground.console.text().contains(until)
            && board.uart().can_receive() > 0
            && let Some(byte) = input.next()
        {
            board.uart().receive(&[byte]);
        }
    }
    (ground.console.text(), None)
}

#[test]
fn opensbi_starts_the_kernel_and_powers_off() {
    if !Path::new(OPENSBI).exists() {
        eprintln!("skipped: package opensbi is not installed");
        return;
    }
    for firmware in ["fw_dynamic.bin", "fw_jump.bin"] {
        let (text, request) = run(firmware, "dormouse> ", "\npoweroff\n");
        assert!(text.contains("OpenSBI v"), "{text}");
        assert!(matches!(request, Some(GuestRequest::ShutDown { exit_code: 0, .. })), "{request:?}\n{text}");
    }
}
