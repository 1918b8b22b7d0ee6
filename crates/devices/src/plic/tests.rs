//! The interrupt controller as a driver, its inputs and the machine see it.

use proptest::prelude::*;
use vmcore::StartParams;

use super::*;
use crate::test_support::{Bench, act_out, acts, read, write};

struct Set {
    bench: Bench,
    harts: Harts,
    plic: Arc<Plic>,
}

const CLAIM_REGISTER: u64 = CONTEXT + CLAIM;

impl Set {
    fn new() -> Self {
        let bench = Bench::new();
        let harts = bench.harts(2);
        let named = |input, source, judged_by_device| WakeInput { input, source, judged_by_device };
        let named = [named(12, WakeSource::Rtc(0), false), named(11, WakeSource::Rtc(1), true)];
        let plic = Arc::new(Plic::new("plic", harts.clone(), Arc::clone(&bench.port) as _, &named));
        Self { bench, harts, plic }
    }

    /// Has context `index` served by `input` at priority `priority`.
    fn enable(&self, index: u64, input: u32, priority: u32) {
        write(&*self.plic, u64::from(input) * 4, priority);
        let word = ENABLE + index * ENABLE_STRIDE + u64::from(input / 32) * 4;
        write(&*self.plic, word, read(&*self.plic, word) | 1 << (input % 32));
    }

    fn claim(&self, index: u64) -> u32 {
        read(&*self.plic, CLAIM_REGISTER + index * CONTEXT_STRIDE)
    }

    fn complete(&self, index: u64, input: u32) {
        write(&*self.plic, CLAIM_REGISTER + index * CONTEXT_STRIDE, input);
    }

    fn pending(&self, hart: u32) -> u64 {
        self.harts.get(hart).unwrap().pending() & (mip::MEIP | mip::SEIP)
    }
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Set::new().plic, Plic::WINDOW);
}

#[test]
fn a_level_is_claimed_served_and_asks_again_while_it_is_high() {
    let set = Set::new();
    let line = set.plic.line(10).unwrap();
    set.enable(1, 10, 1);
    line.set(true);
    assert_eq!(set.pending(0), mip::SEIP);
    assert_eq!(set.claim(1), 10);
    assert_eq!(set.pending(0), 0, "claimed");
    assert_eq!(set.claim(1), 0, "the gateway is shut until completion");
    set.complete(1, 10);
    assert_eq!(set.pending(0), mip::SEIP, "still high");
    assert_eq!(set.claim(1), 10);
    line.set(false);
    set.complete(1, 10);
    assert_eq!(set.pending(0), 0);
    assert_eq!(set.claim(1), 0);
}

#[test]
fn a_forwarded_request_stays_when_the_level_falls() {
    let set = Set::new();
    set.enable(1, 5, 1);
    let line = set.plic.line(5).unwrap();
    line.set(true);
    line.set(false);
    assert_eq!(read(&*set.plic, PENDING), 1 << 5);
    assert_eq!(set.claim(1), 5);
    set.complete(1, 5);
    assert_eq!(set.claim(1), 0);
}

#[test]
fn contexts_are_machine_then_supervisor_of_each_hart() {
    for (context, hart, bit) in [(0, 0, mip::MEIP), (1, 0, mip::SEIP), (2, 1, mip::MEIP), (3, 1, mip::SEIP)] {
        let set = Set::new();
        set.enable(context, 95, 7);
        set.plic.line(95).unwrap().set(true);
        assert_eq!(set.pending(hart), bit);
        assert_eq!(set.pending(1 - hart), 0);
        assert_eq!(set.plic.machine_output(hart), bit == mip::MEIP);
        assert_eq!(set.plic.supervisor_output(hart), bit == mip::SEIP);
    }
}

#[test]
fn priority_then_number_decides_and_the_threshold_masks_the_output_alone() {
    let set = Set::new();
    for (input, priority) in [(3, 2), (7, 5), (40, 5), (2, 0)] {
        set.enable(1, input, priority);
        set.plic.line(input).unwrap().set(true);
    }
    write(&*set.plic, CONTEXT + CONTEXT_STRIDE, 5);
    assert_eq!(set.pending(0), 0, "no priority is above the threshold");
    write(&*set.plic, CONTEXT + CONTEXT_STRIDE, 4);
    assert_eq!(set.pending(0), mip::SEIP);
    assert_eq!([set.claim(1), set.claim(1)], [7, 40]);
    assert_eq!(set.pending(0), 0);
    assert_eq!(set.claim(1), 3, "a claim does not look at the threshold");
    assert_eq!(set.claim(1), 0, "priority 0 is never served");
}

#[test]
fn completion_counts_only_from_a_context_that_enables_the_input() {
    let set = Set::new();
    set.enable(1, 9, 1);
    set.plic.line(9).unwrap().set(true);
    assert_eq!(set.claim(1), 9);
    set.complete(3, 9);
    assert_eq!(set.claim(1), 0);
    set.complete(1, 9);
    assert_eq!(set.claim(1), 9);
}

#[test]
fn registers_hold_what_exists() {
    let set = Set::new();
    write(&*set.plic, 0, 7);
    write(&*set.plic, 96 * 4, 7);
    write(&*set.plic, 4, 0xff);
    assert_eq!([0, 4, 96 * 4].map(|at| read(&*set.plic, at)), [0, 7, 0]);
    for word in 0..4 {
        write(&*set.plic, ENABLE + 4 * word, !0);
    }
    assert_eq!([0, 4, 8, 12].map(|at| read(&*set.plic, ENABLE + at)), [!1, !0, !0, 0]);
    write(&*set.plic, ENABLE + 4 * ENABLE_STRIDE, !0);
    assert_eq!(read(&*set.plic, ENABLE + 4 * ENABLE_STRIDE), 0, "there are four contexts");
    assert_eq!(read(&*set.plic, Plic::WINDOW - 4), 0);
    assert_eq!(set.plic.line(0).unwrap_err(), NoSuchInput(0));
    assert!(set.plic.line(96).is_err());
}

#[test]
fn an_unmasked_line_wakes_a_sleeping_guest_under_its_name() {
    for (input, source) in [(12, WakeSource::Rtc(0)), (10, WakeSource::Interrupt { line: 10 })] {
        let set = Set::new();
        set.harts.get(0).unwrap().force_start(StartParams { pc: 0, opaque: 0 });
        set.enable(1, input, 1);
        assert_eq!(set.plic.sleep(), None);
        set.plic.line(input).unwrap().set(true);
        assert_eq!(set.bench.port.take(), [DeviceRequest::Wake(source)]);
    }
}

#[test]
fn what_cannot_interrupt_the_sleeper_does_not_wake_it() {
    let set = Set::new();
    set.harts.get(0).unwrap().force_start(StartParams { pc: 0, opaque: 0 });
    set.enable(1, 4, 0);
    set.enable(0, 5, 1);
    set.enable(3, 6, 1);
    assert_eq!(set.plic.sleep(), None);
    for input in [4, 5, 6, 7] {
        set.plic.line(input).unwrap().set(true);
    }
    let masked = [4, 5, 6, 7].map(|line| DeviceRequest::MaskedWake(WakeSource::Interrupt { line }));
    assert_eq!(set.bench.port.take(), masked, "masked, another mode's, a stopped hart's, enabled nowhere");
    set.plic.wake();
    set.enable(1, 7, 1);
    assert_eq!(set.bench.port.take(), [], "awake");
}

#[test]
fn a_line_that_is_high_already_is_a_wake_at_sleep_and_at_start() {
    let set = Set::new();
    set.harts.get(0).unwrap().force_start(StartParams { pc: 0, opaque: 0 });
    set.enable(1, 12, 1);
    set.plic.stop();
    set.plic.line(12).unwrap().set(true);
    assert_eq!(set.plic.start(), Some(WakeSource::Rtc(0)));
    assert_eq!(set.plic.sleep(), Some(WakeSource::Rtc(0)));
    set.plic.stop();
    set.plic.line(11).unwrap().set(true);
    assert_eq!(set.bench.port.take(), [], "nothing is posted while held");
}

#[test]
fn a_masked_line_that_rises_in_a_sleep_is_reported_once_the_machine_is_live() {
    let set = Set::new();
    set.harts.get(0).unwrap().force_start(StartParams { pc: 0, opaque: 0 });
    let line = set.plic.line(12).unwrap();
    line.set(true);
    assert_eq!(set.plic.sleep(), None);
    assert_eq!(set.bench.port.take(), [], "it was high before");
    line.set(false);
    set.plic.line(11).unwrap().set(true);
    assert_eq!(set.bench.port.take(), [], "this one's device judges for itself");
    set.plic.stop();
    line.set(true);
    assert_eq!(set.bench.port.take(), [], "nothing is posted while held");
    assert_eq!(set.plic.start(), None);
    assert_eq!(set.bench.port.take(), [DeviceRequest::MaskedWake(WakeSource::Rtc(0))]);
    set.plic.stop();
    assert_eq!(set.plic.start(), None);
    assert_eq!(set.bench.port.take(), [], "reported once");
}

#[test]
fn the_lines_that_may_wake_are_those_that_could_interrupt() {
    let set = Set::new();
    set.harts.get(0).unwrap().force_start(StartParams { pc: 0, opaque: 0 });
    set.enable(1, 12, 1);
    set.enable(1, 7, 2);
    set.enable(1, 8, 0);
    set.enable(3, 9, 1);
    set.plic.line(12).unwrap().set(true);
    let line = |input, source, asserted| WakeLine { input, source, asserted };
    let seven = line(7, WakeSource::Interrupt { line: 7 }, false);
    assert_eq!(set.plic.wake_lines(), [seven, line(12, WakeSource::Rtc(0), true)]);
    set.plic.line(7).unwrap().set(true);
    assert_eq!(set.plic.sleep(), Some(seven.source), "the most urgent");
    assert!(set.plic.wake_lines().iter().all(|line| line.asserted), "and the other is due too");
}

#[test]
fn load_drives_the_outputs() {
    let (from, to) = (Set::new(), Set::new());
    from.enable(1, 12, 3);
    from.plic.line(12).unwrap().set(true);
    to.plic.load(&from.plic.save()).unwrap();
    assert_eq!(to.pending(0), mip::SEIP);
    to.plic.reset();
    assert_eq!(to.pending(0), 0);
}

proptest! {
    /// Whatever a driver and the lines do, each hart's pending bits are its contexts' outputs.
    #[test]
    fn pending_bits_are_the_outputs(acts in acts(Plic::WINDOW), levels in proptest::collection::vec((1..96_u32, any::<bool>()), 100)) {
        let set = Set::new();
        let mut levels = levels.into_iter();
        // Most of the window is empty: aim at the registers.
        let aimed = |offset: u64| match offset % 4 {
            0 => offset % (96 * 4),
            1 => ENABLE + offset % (4 * ENABLE_STRIDE),
            _ => CONTEXT + offset % 4 * CONTEXT_STRIDE + offset / 16 % 2 * 4,
        } & !3;
        for mut act in acts {
            if let crate::test_support::Act::Write(offset, size, _) = &mut act {
                (*offset, *size) = (aimed(*offset), 4);
            }
            let (input, level) = levels.next().unwrap();
            set.plic.line(input).unwrap().set(level);
            act_out(&set.bench, &*set.plic, Plic::WINDOW, &[act], || {
                for hart in 0..2 {
                    let pending = set.pending(hart);
                    assert_eq!(pending & mip::SEIP != 0, set.plic.supervisor_output(hart));
                    assert_eq!(pending & mip::MEIP != 0, set.plic.machine_output(hart));
                }
            });
        }
    }
}
