//! Every function, and every error that it may give, as a supervisor sees them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clock::{GuestClock, TestClock, TimerQueue};
use runstate::{GuestRequest, ShutdownCause, Sleep};
use vmcore::park::{fence_kind, flag};
use vmcore::{HartShared, HsmState, StartParams, mip};

use super::*;

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 0x10_0000;

const FAILED: i64 = -1;
const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAM: i64 = -3;
const DENIED: i64 = -4;
const INVALID_ADDRESS: i64 = -5;
const ALREADY_AVAILABLE: i64 = -6;

const ALL: u64 = u64::MAX;

/// Takes as much as it has room for; gives what it was told to.
#[derive(Default)]
struct Line {
    room: AtomicUsize,
    out: Mutex<Vec<u8>>,
    input: Mutex<Vec<u8>>,
}

impl DebugConsole for Line {
    fn write(&self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room.load(Ordering::SeqCst));
        self.out.lock().unwrap().extend_from_slice(&bytes[..taken]);
        taken
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = bytes.len().min(input.len());
        bytes[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        count
    }
}

/// Firmware for four harts, of which hart 0 is started.
struct Set {
    host: TestClock,
    timers: Arc<TimerQueue>,
    harts: Harts,
    ram: Arc<Ram>,
    line: Arc<Line>,
    sbi: Sbi,
}

impl Set {
    fn new() -> Self {
        Self::with_suspend(true)
    }

    fn with_suspend(suspend: bool) -> Self {
        let host = TestClock::new(1, 1);
        let clock = Arc::new(GuestClock::new(Arc::new(host.clone())));
        let timers = TimerQueue::new(Arc::clone(&clock), Arc::new(host.clone()));
        timers.thaw();
        let harts = Harts::new(4, &clock, &timers);
        let ram = Arc::new(Ram::new(BASE, SIZE).unwrap());
        let line = Arc::new(Line { room: AtomicUsize::new(usize::MAX), ..Line::default() });
        let sbi = Sbi::new(harts.clone(), Arc::clone(&ram), Arc::clone(&line) as _, suspend);
        let set = Self { host, timers, harts, ram, line, sbi };
        set.start(0);
        set
    }

    fn hart(&self, id: u32) -> &HartShared {
        self.harts.get(id).unwrap()
    }

    fn start(&self, id: u32) {
        self.hart(id).force_start(StartParams { pc: BASE, opaque: 0 });
        self.hart(id).take_start();
    }

    fn call<const N: usize>(&self, extension: usize, function: usize, given: [u64; N]) -> EcallOutcome {
        let mut args = [0; 6];
        args[..N].copy_from_slice(&given);
        self.sbi.ecall(0, SbiCall { extension: extension as u64, function: function as u64, args })
    }

    fn error<const N: usize>(&self, extension: usize, function: usize, args: [u64; N]) -> i64 {
        match self.call(extension, function, args) {
            EcallOutcome::Return(SbiReturn { error, value: 0 }) if error < 0 => error,
            outcome => panic!("{outcome:?}"),
        }
    }

    fn value<const N: usize>(&self, extension: usize, function: usize, args: [u64; N]) -> u64 {
        match self.call(extension, function, args) {
            EcallOutcome::Return(SbiReturn { error: 0, value }) => value,
            outcome => panic!("{outcome:?}"),
        }
    }

    fn status(&self, id: u64) -> u64 {
        self.value(hsm::EID_HSM, hsm::HART_GET_STATUS, [id])
    }
}

#[test]
fn base_says_what_it_is() {
    let set = Set::new();
    let base = |function| set.value(base::EID_BASE, function, []);
    assert_eq!(base(0), 0x0200_0000, "SBI 2.0");
    assert_eq!([base(1), base(2)], [IMPLEMENTATION_ID, IMPLEMENTATION_VERSION]);
    assert_eq!([base(4), base(5), base(6)], [0; 3]);
    assert_eq!(set.error(base::EID_BASE, 7, []), NOT_SUPPORTED);
}

#[test]
fn probing_tells_the_truth() {
    let set = Set::new();
    let probe = |extension: u64| set.value(base::EID_BASE, base::PROBE_EXTENSION, [extension]);
    for extension in
        [0x10, 0x5449_4d45, 0x0073_5049, 0x5246_4e43, 0x0048_534d, 0x5352_5354, 0x4442_434e, 0x5355_5350]
    {
        assert_eq!(probe(extension), 1, "{extension:#x}");
    }
    // Legacy, PMU, CPPC, NACL, STA, SSE, FWFT, and none at all.
    for extension in [0, 1, 8, 0x50_4d55, 0x4350_5043, 0x4e41_434c, 0x53_5441, 0x53_5345, 0x4657_4654, ALL] {
        assert_eq!(probe(extension), 0, "{extension:#x}");
        assert_eq!(set.error(extension as usize, 0, []), NOT_SUPPORTED, "{extension:#x}");
    }
    let without = Set::with_suspend(false);
    assert_eq!(without.value(base::EID_BASE, base::PROBE_EXTENSION, [susp::EID_SUSP as u64]), 0);
    assert_eq!(without.error(susp::EID_SUSP, 0, [0, BASE, 0]), NOT_SUPPORTED);
}

#[test]
fn set_timer_arms_the_callers_timer() {
    let set = Set::new();
    assert_eq!(set.value(time::EID_TIME, time::SET_TIMER, [10]), 0);
    assert_eq!(set.hart(0).stimecmp(), 10);
    assert_eq!(set.hart(0).pending(), 0);
    set.host.advance(1_000);
    set.timers.run_due();
    assert_eq!(set.hart(0).pending(), mip::STIP);
    set.value(time::EID_TIME, time::SET_TIMER, [ALL]);
    assert_eq!(set.hart(0).pending(), 0, "a later deadline clears the interrupt");
    assert_eq!(set.error(time::EID_TIME, 1, []), NOT_SUPPORTED);
}

#[test]
fn an_ipi_reaches_the_harts_of_the_mask() {
    let set = Set::new();
    (1..4).for_each(|id| set.start(id));
    let pending = || [0, 1, 2, 3].map(|id| set.hart(id).pending() != 0);
    set.value(spi::EID_SPI, spi::SEND_IPI, [0b101, 1]);
    assert_eq!(pending(), [false, true, false, true]);
    assert_eq!(set.hart(1).pending(), mip::SSIP);
    set.value(spi::EID_SPI, spi::SEND_IPI, [0, ALL]);
    assert_eq!(pending(), [true; 4], "base -1 is all, whatever the mask");
    assert_eq!(set.error(spi::EID_SPI, 1, [1, 0]), NOT_SUPPORTED);
}

#[test]
fn a_stopped_hart_gets_no_ipi() {
    let set = Set::new();
    set.value(spi::EID_SPI, spi::SEND_IPI, [0b11, 0]);
    assert_eq!([0, 1].map(|id| set.hart(id).pending()), [mip::SSIP, 0]);
}

#[test]
fn masks_that_name_nobody_are_refused() {
    let set = Set::new();
    for (mask, base) in [(0b1_0000, 0), (1, 4), (0b10, 3), (1, 1 << 32), (1 << 63, ALL - 1), (0, 4), (ALL, 0)]
    {
        for (extension, function) in [
            (spi::EID_SPI, spi::SEND_IPI),
            (rfnc::EID_RFNC, rfnc::REMOTE_FENCE_I),
            (rfnc::EID_RFNC, rfnc::REMOTE_SFENCE_VMA),
        ] {
            assert_eq!(set.error(extension, function, [mask, base]), INVALID_PARAM, "{mask:#x} {base:#x}");
        }
    }
    set.value(spi::EID_SPI, spi::SEND_IPI, [0, 0]);
    assert!(set.harts.iter().all(|hart| hart.pending() == 0), "an empty mask is nobody");
}

#[test]
fn a_remote_fence_waits_at_harts_that_are_outside() {
    let set = Set::new();
    assert!(set.hart(0).gate().enter(0));
    for (function, kind) in [
        (rfnc::REMOTE_FENCE_I, fence_kind::INSTRUCTION),
        (rfnc::REMOTE_SFENCE_VMA, fence_kind::TRANSLATION),
        (rfnc::REMOTE_SFENCE_VMA_ASID, fence_kind::TRANSLATION),
    ] {
        set.value(rfnc::EID_RFNC, function, [0b101, 0, 0, ALL, 7]);
        for (id, expected) in [(0, kind), (1, 0), (2, kind), (3, 0)] {
            let mut dropped = 0;
            let flags = set.hart(id).gate().flags();
            set.hart(id).gate().serve_fences(|kinds| dropped = kinds);
            assert_eq!(dropped, expected, "hart {id}");
            assert_eq!(flags & flag::FENCE != 0, expected != 0, "hart {id}");
        }
    }
}

#[test]
fn a_remote_fence_gives_way_when_the_caller_is_to_park() {
    let set = Set::new();
    set.start(1);
    assert!(set.hart(0).gate().enter(0) && set.hart(1).gate().enter(0));
    set.hart(0).gate().raise(flag::PARK);
    let outcome = set.call(rfnc::EID_RFNC, rfnc::REMOTE_SFENCE_VMA, [0b10, 0, 0, 0]);
    assert_eq!(outcome, EcallOutcome::Again, "hart 1 executes and has not served it");
    assert!(set.hart(0).gate().is_outside());
}

#[test]
fn fences_for_what_there_is_not_are_refused() {
    let set = Set::new();
    for function in [3, 4, 5, 6, 7] {
        assert_eq!(set.error(rfnc::EID_RFNC, function, [1, 0, 0, ALL]), NOT_SUPPORTED);
    }
    let fence = |start, size| set.error(rfnc::EID_RFNC, rfnc::REMOTE_SFENCE_VMA, [1, 0, start, size]);
    assert_eq!(fence(ALL - 10, 12), INVALID_ADDRESS);
}

#[test]
fn a_hart_is_started_once_at_an_address_that_is_there() {
    let set = Set::new();
    let start = |id, pc| set.error(hsm::EID_HSM, hsm::HART_START, [id, pc, 7]);
    assert_eq!(start(4, BASE), INVALID_PARAM);
    assert_eq!(start(1 << 32 | 1, BASE), INVALID_PARAM);
    assert_eq!(start(0, BASE), ALREADY_AVAILABLE);
    for pc in [0, BASE - 2, BASE + SIZE, BASE + 1, ALL, ALL - 1] {
        assert_eq!(start(1, pc), INVALID_ADDRESS, "{pc:#x}");
    }
    assert_eq!(set.status(1), 1, "STOPPED");
    set.value(hsm::EID_HSM, hsm::HART_START, [1, BASE + 0x102, 7]);
    assert_eq!(set.status(1), 0, "STARTED, though it has not run yet");
    assert_eq!(start(1, BASE), ALREADY_AVAILABLE);
    assert_eq!(set.hart(1).take_start(), Some(StartParams { pc: BASE + 0x102, opaque: 7 }));
    assert_ne!(set.hart(1).gate().flags() & flag::CONTROL, 0);
}

#[test]
fn a_hart_that_stops_is_stopped_at_once() {
    let set = Set::new();
    assert_eq!(set.call(hsm::EID_HSM, hsm::HART_STOP, []), EcallOutcome::Stopped);
    assert_eq!(set.status(0), 1);
    let ghost = set.sbi.ecall(9, SbiCall { extension: hsm::EID_HSM as u64, function: 1, args: [0; 6] });
    assert_eq!(ghost, EcallOutcome::Return(SbiReturn::error(FAILED)));
}

#[test]
fn status_is_of_harts_that_exist() {
    let set = Set::new();
    assert_eq!([0, 1, 2, 3].map(|id| set.status(id)), [0, 1, 1, 1]);
    set.hart(2).hsm_suspend();
    assert_eq!(set.status(2), 4);
    assert_eq!(set.error(hsm::EID_HSM, hsm::HART_GET_STATUS, [4]), INVALID_PARAM);
    assert_eq!(set.error(hsm::EID_HSM, 4, []), NOT_SUPPORTED);
}

#[test]
fn only_the_default_retentive_suspend_is_there() {
    let set = Set::new();
    let suspend = |kind: u64| set.error(hsm::EID_HSM, hsm::HART_SUSPEND, [kind, BASE, 0]);
    assert_eq!(suspend(0x8000_0000), NOT_SUPPORTED);
    for reserved in [1, 0x0fff_ffff, 0x1000_0000, 0x7fff_ffff, 0x8000_0001, 0x9000_0000, 0xffff_ffff] {
        assert_eq!(suspend(reserved), INVALID_PARAM, "{reserved:#x}");
    }
    assert_eq!(set.status(0), 0);
    assert_eq!(set.call(hsm::EID_HSM, hsm::HART_SUSPEND, [0, 0, 0]), EcallOutcome::Wait);
    assert_eq!(set.hart(0).hsm_state(), HsmState::Suspended);
}

#[test]
fn resets_are_posted_with_their_reason() {
    let set = Set::new();
    let reset = |kind, reason| set.call(srst::EID_SRST, srst::SYSTEM_RESET, [kind, reason]);
    let shut_down = |cause, exit_code| EcallOutcome::Post(GuestRequest::ShutDown { cause, exit_code });
    assert_eq!(reset(0, 0), shut_down(ShutdownCause::GuestShutdown, 0));
    assert_eq!(reset(0, 1), EcallOutcome::Post(GuestRequest::Panic));
    for kind in [1, 2] {
        for reason in [0, 1] {
            assert_eq!(reset(kind, reason), EcallOutcome::Post(GuestRequest::Reset));
        }
    }
    for (kind, reason) in
        [(3, 0), (0xf000_0000, 0), (0, 2), (0, 0xe000_0000), (0, 0xf000_0000), (0xffff_ffff, 0)]
    {
        let error = set.error(srst::EID_SRST, srst::SYSTEM_RESET, [kind, reason]);
        assert_eq!(error, INVALID_PARAM, "{kind:#x} {reason:#x}");
    }
    assert_eq!(set.error(srst::EID_SRST, 1, [0, 0]), NOT_SUPPORTED);
}

#[test]
fn console_output_goes_out_as_far_as_there_is_room() {
    let set = Set::new();
    set.ram.write(BASE + SIZE - 5, b"hello").unwrap();
    let write = |len| set.value(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE, [len, BASE + SIZE - 5, 0]);
    assert_eq!(write(5), 5);
    set.line.room.store(2, Ordering::SeqCst);
    assert_eq!(write(5), 2);
    assert_eq!(write(0), 0);
    assert_eq!(*set.line.out.lock().unwrap(), b"hellohe");
    set.line.room.store(usize::MAX, Ordering::SeqCst);
    let long = set.value(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE, [SIZE, BASE, 0]);
    assert!((1..=4096).contains(&long), "a call is bounded");
}

#[test]
fn console_input_comes_into_memory() {
    let set = Set::new();
    let read = |len| set.value(dbcn::EID_DBCN, dbcn::CONSOLE_READ, [len, BASE + 8, 0]);
    assert_eq!(read(10), 0, "nothing there: it does not wait");
    set.line.input.lock().unwrap().extend(b"typed");
    assert_eq!([read(3), read(10)], [3, 2]);
    let mut bytes = [0; 4];
    set.ram.read(BASE + 8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"edp\0");
}

#[test]
fn console_memory_must_be_ram() {
    let set = Set::new();
    for function in [dbcn::CONSOLE_WRITE, dbcn::CONSOLE_READ] {
        for (len, low, high) in
            [(1, 0, 0), (2, BASE + SIZE - 1, 0), (1, BASE, 1), (ALL, BASE, 0), (8, ALL - 3, 0)]
        {
            let error = set.error(dbcn::EID_DBCN, function, [len, low, high]);
            assert_eq!(error, INVALID_PARAM, "{len:#x} {low:#x} {high:#x}");
        }
    }
    assert_eq!(set.error(dbcn::EID_DBCN, 3, []), NOT_SUPPORTED);
}

#[test]
fn a_byte_is_written_or_tried_again() {
    let set = Set::new();
    assert_eq!(set.value(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE_BYTE, [0x1_0041]), 0);
    assert_eq!(*set.line.out.lock().unwrap(), b"A");
    set.line.room.store(0, Ordering::SeqCst);
    assert_eq!(set.call(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE_BYTE, [0x42]), EcallOutcome::Again);
}

#[test]
fn suspend_is_posted_when_all_is_right() {
    let set = Set::new();
    let suspend = |kind, pc| set.error(susp::EID_SUSP, susp::SUSPEND, [kind, pc, 77]);
    for kind in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        assert_eq!(suspend(kind, BASE), INVALID_PARAM, "{kind:#x}");
    }
    for pc in [0, BASE - 2, BASE + SIZE, BASE + 1, ALL] {
        assert_eq!(suspend(0, pc), INVALID_ADDRESS, "{pc:#x}");
    }
    set.start(3);
    assert_eq!(suspend(0, BASE), DENIED, "another hart is started");
    set.hart(3).hsm_suspend();
    assert_eq!(suspend(0, BASE), DENIED, "or suspended");
    set.hart(3).hsm_stop();
    let sleep = Sleep { hart: 0, resume_addr: BASE + 4, opaque: 77 };
    assert_eq!(
        set.call(susp::EID_SUSP, susp::SUSPEND, [0, BASE + 4, 77]),
        EcallOutcome::Post(GuestRequest::Suspend(sleep))
    );
    assert_eq!(set.status(0), 0, "the machine suspends the hart, not the call");
    assert_eq!(set.error(susp::EID_SUSP, 1, [0, BASE, 0]), NOT_SUPPORTED);
}

#[test]
fn any_hart_may_suspend_the_machine() {
    let set = Set::new();
    set.start(2);
    set.hart(0).hsm_stop();
    let call = SbiCall { extension: susp::EID_SUSP as u64, function: 0, args: [0, BASE, 5, 0, 0, 0] };
    let sleep = Sleep { hart: 2, resume_addr: BASE, opaque: 5 };
    assert_eq!(set.sbi.ecall(2, call), EcallOutcome::Post(GuestRequest::Suspend(sleep)));
}

proptest::proptest! {
    /// Whatever is asked: an answer, no panic. Errors are those of the specification's table.
    #[test]
    fn every_call_is_answered(
        extension in proptest::sample::select(vec![0x10_u64, 0x5449_4d45, 0x0073_5049, 0x5246_4e43, 0x0048_534d, 0x5352_5354, 0x4442_434e, 0x5355_5350, 2]),
        function in 0..9_u64,
        args in proptest::array::uniform6(proptest::prop_oneof![0..8_u64, BASE..BASE + SIZE, proptest::prelude::any::<u64>()]),
    ) {
        let set = Set::new();
        set.hart(0).gate().enter(0);
        if let EcallOutcome::Return(result) = set.sbi.ecall(0, SbiCall { extension, function, args }) {
            proptest::prop_assert!((-6..=0).contains(&result.error));
        }
    }
}
