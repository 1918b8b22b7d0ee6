//! The watchdog as Linux's driver and the machine see it.

use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, SECOND, act_out, acts, read, write};

const BITES: [DeviceRequest; 1] = [DeviceRequest::Watchdog];

fn make(bench: &Bench) -> Arc<Watchdog> {
    Watchdog::new("watchdog", &bench.timers, Arc::clone(&bench.port) as _)
}

/// What the driver does to start it.
fn start(watchdog: &Watchdog, interval: u32) {
    write(watchdog, MODE, interval << INTERVAL_SHIFT);
    write(watchdog, CONTROL, 0x14af);
    for bit in [RESET, ENABLE] {
        write(watchdog, MODE, read(watchdog, MODE) | bit);
    }
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| make(&Bench::new()), Watchdog::WINDOW);
}

#[test]
fn bites_once_when_its_interval_is_over() {
    let ms = [500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 14_000, 16_000];
    for (interval, ms) in ms.into_iter().enumerate() {
        let bench = Bench::new();
        let watchdog = make(&bench);
        start(&watchdog, interval as u32);
        bench.pass(ms * 1_000_000 - 1);
        assert_eq!(bench.port.take(), []);
        bench.pass(1);
        assert_eq!(bench.port.take(), BITES, "{ms} ms");
        bench.pass(100 * SECOND);
        assert_eq!(bench.port.take(), []);
        write(&*watchdog, CONTROL, 0x14af);
        bench.pass(ms * 1_000_000);
        assert_eq!(bench.port.take(), BITES, "fed again, it counts again");
    }
}

#[test]
fn is_fed_by_the_key_alone_and_stopped_by_its_mode() {
    let bench = Bench::new();
    let watchdog = make(&bench);
    start(&watchdog, 2);
    for _ in 0..10 {
        bench.pass(2 * SECOND - 1);
        write(&*watchdog, CONTROL, 0x14af);
    }
    assert_eq!(bench.port.take(), []);
    bench.pass(SECOND);
    write(&*watchdog, CONTROL, 1);
    bench.pass(SECOND);
    assert_eq!(bench.port.take(), BITES);
    start(&watchdog, 1);
    write(&*watchdog, MODE, 0);
    bench.pass(100 * SECOND);
    assert_eq!(bench.port.take(), []);
}

#[test]
fn without_its_reset_bit_nothing_happens() {
    let bench = Bench::new();
    let watchdog = make(&bench);
    write(&*watchdog, MODE, ENABLE);
    bench.pass(SECOND);
    assert_eq!(bench.port.take(), []);
}

#[test]
fn stands_while_asleep_and_while_held() {
    let bench = Bench::new();
    let watchdog = make(&bench);
    start(&watchdog, 2);
    bench.pass(SECOND);
    bench.timers.set_asleep(true);
    bench.pass(100 * SECOND);
    bench.timers.set_asleep(false);
    bench.timers.freeze();
    bench.pass(100 * SECOND);
    bench.timers.thaw();
    bench.pass(SECOND - 1);
    assert_eq!(bench.port.take(), []);
    bench.pass(1);
    assert_eq!(bench.port.take(), BITES);
}

#[test]
fn goes_on_elsewhere_with_what_was_left() {
    let bench = Bench::new();
    let watchdog = make(&bench);
    start(&watchdog, 5);
    bench.pass(3 * SECOND);
    let there = Bench::new();
    let other = make(&there);
    other.load(&watchdog.save()).unwrap();
    there.pass(2 * SECOND - 1);
    assert_eq!(there.port.take(), []);
    there.pass(1);
    assert_eq!(there.port.take(), BITES);
}

#[test]
fn a_reset_stops_it() {
    let bench = Bench::new();
    let watchdog = make(&bench);
    start(&watchdog, 0);
    watchdog.reset();
    bench.pass(SECOND);
    assert_eq!((bench.port.take(), read(&*watchdog, MODE)), (vec![], 0));
}

proptest! {
    #[test]
    fn whatever_happens_it_bites_only_when_it_is_on(acts in acts(Watchdog::WINDOW)) {
        let bench = Bench::new();
        let watchdog = make(&bench);
        act_out(&bench, &*watchdog, Watchdog::WINDOW, &acts, || {
            let state = lock(&watchdog.state);
            assert!(state.deadline.is_none() || state.mode & ENABLE != 0);
            assert_eq!(state.mode & !MODE_MASK, 0);
        });
    }
}
