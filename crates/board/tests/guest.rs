//! The embedded guest runs on the board: harts, SBI, devices and interrupts together, on standing clocks.

mod common;

use std::sync::Arc;

use board::Board;
use common::{Ground, bytes};
use runstate::{DeviceRequest, GuestRequest, ShutdownCause, Sleep, WakeSource};
use vmcore::park::flag;
use vmcore::{BootEntry, Exit, Machine, StartParams, Vcpu};

const WAKE: DeviceRequest = DeviceRequest::Wake(WakeSource::Rtc(1));
const GUEST: &[u8] = include_bytes!("../../../guest/dormouse-guest.bin");

/// The machine with one hart, driven by hand.
struct Machine1 {
    ground: Ground,
    board: Arc<Board>,
    hart: Box<dyn Vcpu>,
}

impl Machine1 {
    fn boot() -> Self {
        let ground = Ground::new();
        let (board, mut harts) = Board::build(ground.config(Some(bytes("embedded", GUEST)))).unwrap();
        let mut machine = Self { ground, board, hart: harts.remove(0) };
        machine.reset();
        machine
    }

    fn reset(&mut self) {
        self.board.devices().iter().for_each(|device| device.reset());
        self.hart.reset();
        let shared = self.board.harts().get(0).unwrap();
        shared.reset();
        let BootEntry::Supervisor { pc, device_tree } = self.board.place_images().unwrap() else { panic!() };
        shared.force_start(StartParams { pc, opaque: device_tree });
    }

    /// Runs until the hart has nothing to do or asks for something. Bounded, so that a test fails and does not hang.
    fn run(&mut self) -> Option<GuestRequest> {
        let shared = Arc::clone(self.board.harts().get(0).unwrap());
        for _ in 0..1_000 {
            shared.gate().take(flag::CONTROL | flag::IRQ);
            if let Some(params) = shared.take_start() {
                self.hart.start_supervisor(params);
            }
            assert!(shared.gate().enter(flag::PARK));
            let exit = self.hart.run(self.hart.retired() + 100_000);
            shared.gate().leave();
            match exit {
                Exit::Wait if !self.hart.interrupt_pending() => return None,
                Exit::Wait | Exit::Signal => {}
                // A guest that waits by the clock: let time pass.
                Exit::Limit => self.ground.host.advance(1_000_000),
                Exit::Stopped => return None,
                Exit::Debug(hit) => panic!("nobody debugs, and yet {hit:?}"),
                Exit::MemoryLost => panic!("memory is lost that was never absent"),
                Exit::Request { request, .. } => return Some(request),
            }
        }
        panic!("the guest does not come to rest:\n{}", self.ground.console.text());
    }

    /// Types `line` as the back end would: a byte when there is room.
    fn type_line(&mut self, line: &str) -> Option<GuestRequest> {
        for byte in line.bytes().chain([b'\n']) {
            assert_eq!(self.board.uart().can_receive(), 1);
            self.board.uart().receive(&[byte]);
            if let Some(request) = self.run() {
                return Some(request);
            }
        }
        None
    }

    fn text(&self) -> String {
        self.ground.console.text()
    }
}

#[test]
fn it_prompts_and_answers() {
    let mut machine = Machine1::boot();
    assert_eq!(machine.run(), None, "it waits for input without using the host");
    let banner = machine.text();
    assert!(banner.ends_with("> "), "{banner}");
    assert_eq!(machine.type_line("clocks"), None);
    let answer = machine.text()[banner.len()..].to_owned();
    assert!(answer.contains("2026-11-23"), "{answer}");
}

#[test]
fn power_off_and_panic_are_asked_of_the_machine() {
    let shut_down = |cause, exit_code| Some(GuestRequest::ShutDown { cause, exit_code });
    let mut machine = Machine1::boot();
    machine.run();
    assert_eq!(machine.type_line("poweroff"), shut_down(ShutdownCause::GuestShutdown, 0));
    let mut machine = Machine1::boot();
    machine.run();
    assert_eq!(machine.type_line("panic"), Some(GuestRequest::Panic));
    let mut machine = Machine1::boot();
    machine.run();
    assert_eq!(machine.type_line("reset"), Some(GuestRequest::Reset));
    machine.reset();
    assert_eq!(machine.run(), None);
    assert_eq!(machine.text().matches("> ").count(), 2, "it prompts again after the reset");
}

#[test]
fn it_sleeps_until_its_alarm() {
    sleeps_by("sleep 10", WAKE);
}

#[test]
fn it_naps_until_the_alarm_of_the_other_clock() {
    sleeps_by("nap 10", DeviceRequest::Wake(WakeSource::Rtc(0)));
}

/// `line` has it sleep for ten seconds, and `expected` wakes it.
fn sleeps_by(line: &str, expected: DeviceRequest) {
    let mut machine = Machine1::boot();
    machine.run();
    let Some(GuestRequest::Suspend(Sleep { hart: 0, resume_addr, opaque })) = machine.type_line(line) else {
        panic!("{}", machine.text());
    };
    // As the engine has it: the hart is SUSPENDED, then every device is asked whether a wake is due already.
    let shared = Arc::clone(machine.board.harts().get(0).unwrap());
    shared.hsm_suspend();
    machine.ground.timers.set_asleep(true);
    assert!(machine.board.devices().iter().all(|device| device.sleep().is_none()));
    machine.ground.host.advance(9_900_000_000);
    machine.ground.timers.run_due();
    assert_eq!(machine.ground.port.take(), []);
    machine.ground.host.advance(100_000_000);
    machine.ground.timers.run_due();
    // Its line is unmasked; the goldfish RTC judges its alarm by itself besides.
    let wakes = machine.ground.port.take();
    assert!(!wakes.is_empty() && wakes.iter().all(|wake| *wake == expected), "{wakes:?}");
    machine.ground.timers.set_asleep(false);
    machine.board.devices().iter().for_each(|device| device.wake());
    shared.force_start(StartParams { pc: resume_addr, opaque });
    assert_eq!(machine.run(), None);
    let text = machine.text();
    assert!(text.contains("awake after 10.000"), "{text}");
}

#[test]
fn a_machine_in_the_middle_of_things_can_be_saved_and_loaded() {
    let mut from = Machine1::boot();
    from.run();
    from.type_line("clocks");
    let mut to = Machine1::boot();
    let all = |board: &Board| board.devices().iter().map(|device| device.save()).collect::<Vec<_>>();
    let saved = all(&from.board);
    for (device, section) in to.board.devices().iter().zip(&saved) {
        assert_eq!(device.name(), section.name);
        device.load(section).unwrap();
    }
    assert_eq!(all(&to.board), saved);
    let mut names: Vec<_> = saved.iter().map(|section| section.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), saved.len(), "names of devices are unique");
    to.hart.load(&from.hart.save()).unwrap();
}
