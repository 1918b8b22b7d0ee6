//! The machine-mode timer and software interrupts as harts see them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::test_support::{Bench, act_out, acts, read, write};

fn make(bench: &Bench) -> (Harts, Aclint) {
    let harts = bench.harts(2);
    (harts.clone(), Aclint::new("clint", harts))
}

#[test]
fn keeps_the_promises_of_a_device() {
    vmcore::testing::conformance(|| Arc::new(make(&Bench::new()).1), Aclint::WINDOW);
}

#[test]
fn msip_is_the_software_interrupt_of_its_hart() {
    let (harts, aclint) = make(&Bench::new());
    write(&aclint, 4, 0xffff_ffff);
    assert_eq!([0, 1].map(|id| harts.get(id).unwrap().pending()), [0, mip::MSIP]);
    assert_eq!([0, 4, 8].map(|at| read(&aclint, at)), [0, 1, 0]);
    write(&aclint, 4, 2);
    assert_eq!(harts.get(1).unwrap().pending(), 0);
}

#[test]
fn the_timer_interrupt_is_pending_from_its_tick_on() {
    let bench = Bench::new();
    let (harts, aclint) = make(&bench);
    bench.pass(1_000_000);
    assert_eq!(aclint.read(0xbff8, AccessSize::Double), 10_000, "10 MHz");
    aclint.write(0x4008, AccessSize::Double, 10_005);
    assert_eq!(harts.get(1).unwrap().pending(), 0);
    bench.pass(499);
    assert_eq!(harts.get(1).unwrap().pending(), 0);
    bench.pass(1);
    assert_eq!(harts.get(1).unwrap().pending(), mip::MTIP);
    aclint.write(0x4008, AccessSize::Double, u64::MAX);
    assert_eq!(harts.get(1).unwrap().pending(), 0);
    aclint.write(0x4000, AccessSize::Double, 0);
    assert_eq!(harts.get(0).unwrap().pending(), mip::MTIP, "a tick that is past is due at once");
}

#[test]
fn halves_of_the_compare_register_are_apart() {
    let (harts, aclint) = make(&Bench::new());
    write(&aclint, 0x4000, 0x1111_2222);
    write(&aclint, 0x4004, 0x3333_4444);
    assert_eq!(harts.get(0).unwrap().mtimecmp(), 0x3333_4444_1111_2222);
    assert_eq!([0x4000, 0x4004].map(|at| read(&aclint, at)), [0x1111_2222, 0x3333_4444]);
}

#[test]
fn mtime_is_not_set() {
    let bench = Bench::new();
    let (_, aclint) = make(&bench);
    aclint.write(0xbff8, AccessSize::Double, 77);
    write(&aclint, 0xbffc, 77);
    assert_eq!(aclint.read(0xbff8, AccessSize::Double), 0);
}

#[test]
fn state_travels_and_reset_clears_it() {
    let (_, from) = make(&Bench::new());
    let (harts, to) = make(&Bench::new());
    write(&from, 0, 1);
    from.write(0x4008, AccessSize::Double, 123_456);
    to.load(&from.save()).unwrap();
    assert_eq!(harts.get(0).unwrap().pending(), mip::MSIP);
    assert_eq!(harts.get(1).unwrap().mtimecmp(), 123_456);
    to.reset();
    assert_eq!(harts.get(0).unwrap().pending(), 0);
    assert_eq!(harts.get(1).unwrap().mtimecmp(), u64::MAX);
    let three = Aclint::new("clint", Bench::new().harts(3));
    assert!(three.load(&from.save()).is_err(), "another number of harts");
}

proptest! {
    #[test]
    fn no_access_panics(acts in acts(Aclint::WINDOW)) {
        let bench = Bench::new();
        let (_, aclint) = make(&bench);
        act_out(&bench, &aclint, Aclint::WINDOW, &acts, || {});
    }
}
