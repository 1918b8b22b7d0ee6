//! The test set stamped on every device.

use std::sync::Arc;

use crate::device::{AccessSize, Device};
use crate::saved::Section;

const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];

/// Holds a device to what [`Device`] promises. `make` gives a fresh one, on clocks that stand still; `window` is the size
/// of its register window in bytes. Panics with a sentence that says what was broken: call it from a test.
///
/// * Every register takes every access width, in any order, without a panic.
/// * Each step is idempotent; `stop` then `start` changes nothing; nothing changes while held.
/// * Save, load, save is byte-equal, into a fresh device too.
/// * A hostile section (renamed, of another version, cut short anywhere, too long, any byte of it damaged) is refused and
///   changes nothing, or it is accepted and then saves to something that loads.
/// * [`Device::check`] says yes exactly where [`Device::load`] does, in whatever state the device is, and changes nothing.
pub fn conformance<D: Device + ?Sized>(make: impl Fn() -> Arc<D>, window: u64) {
    for seed in 0..4 {
        let device = make();
        scribble(&*device, window, seed);
        steps_are_idempotent(&*device);
        saves_and_loads(&*device, &*make());
        refuses_hostile_sections(&*device, seed);
    }
}

/// Writes and reads registers in a repeatable, arbitrary order; the first round touches nothing.
fn scribble<D: Device + ?Sized>(device: &D, window: u64, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..seed * 500 {
        let size = SIZES[(random.next() % 4) as usize];
        // Small offsets are where most registers are; the whole window is tried too.
        let bound = if random.next().is_multiple_of(2) { window.min(64) } else { window };
        let offset = (random.next() % bound) & !(size.bytes() - 1);
        if offset + size.bytes() > window {
            continue;
        }
        if random.next().is_multiple_of(3) {
            assert_eq!(device.read(offset, size) & !size.mask(), 0, "a read is wider than its access");
        } else {
            let value = if random.next().is_multiple_of(2) { random.next() % 16 } else { random.next() };
            let _ = device.write(offset, size, value & size.mask());
        }
    }
}

fn steps_are_idempotent<D: Device + ?Sized>(device: &D) {
    let name = device.name().to_owned();
    let before = device.save();
    assert_eq!(device.save(), before, "{name}: saving changes the state");
    device.stop();
    let held = device.save();
    assert_eq!(held, before, "{name}: stop changes what is saved");
    device.stop();
    assert_eq!(device.save(), held, "{name}: the second stop changes the state");
    let _ = device.start();
    let started = device.save();
    device.stop();
    let _ = device.start();
    assert_eq!(device.save(), started, "{name}: stop and start change the state");
    let _ = device.sleep();
    let _ = device.sleep();
    device.wake();
    device.wake();
    device.reset();
    let reset = device.save();
    device.reset();
    assert_eq!(device.save(), reset, "{name}: the second reset changes the state");
    device.load(&before).unwrap_or_else(|error| panic!("{name}: does not load what it saved: {error}"));
}

fn saves_and_loads<D: Device + ?Sized>(device: &D, fresh: &D) {
    let name = device.name();
    let saved = device.save();
    fresh.load(&saved).unwrap_or_else(|error| panic!("{name}: a fresh one refuses a saved state: {error}"));
    assert_eq!(fresh.save(), saved, "{name}: save, load, save differ");
}

fn refuses_hostile_sections<D: Device + ?Sized>(device: &D, seed: u64) {
    let name = device.name().to_owned();
    let good = device.save();
    let refused = |section: &Section, how: &str| {
        assert!(device.check(section).is_err(), "{name}: check passes a section that {how}");
        assert!(device.load(section).is_err(), "{name}: accepts a section that {how}");
        assert_eq!(device.save(), good, "{name}: a refused section that {how} changed the state");
    };
    refused(&Section { name: "another".to_owned(), ..good.clone() }, "belongs to another");
    refused(&Section { version: good.version + 1, ..good.clone() }, "is of a newer version");
    refused(&Section { data: [&good.data[..], &[0]].concat(), ..good.clone() }, "is too long");
    for len in 0..good.data.len() {
        refused(&Section { data: good.data[..len].to_vec(), ..good.clone() }, "is cut short");
    }
    let mut random = Random(seed ^ 0x5eed);
    let mut loaded = good.clone();
    // Each byte twice; from whatever state the one before has left.
    for round in 0..2 * good.data.len() {
        let mut damaged = good.clone();
        let Some(byte) = damaged.data.get_mut(round % good.data.len()) else { continue };
        *byte ^= if random.next().is_multiple_of(2) { 1 << (random.next() % 8) } else { 0xff };
        let passes = device.check(&damaged).is_ok();
        assert_eq!(device.save(), loaded, "{name}: a check changed the state");
        assert_eq!(device.load(&damaged).is_ok(), passes, "{name}: check and load disagree");
        let taken = device.save();
        if passes {
            device
                .load(&taken)
                .unwrap_or_else(|error| panic!("{name}: does not load what it saved: {error}"));
            assert_eq!(device.save(), taken, "{name}: save, load, save differ after a damaged section");
        } else {
            assert_eq!(taken, loaded, "{name}: a refused damaged section changed the state");
        }
        assert!(device.check(&good).is_ok(), "{name}: check depends on the present state");
        loaded = taken;
    }
    device.load(&good).unwrap_or_else(|error| panic!("{name}: does not load what it saved: {error}"));
    assert_eq!(device.save(), good, "{name}: save, load, save differ");
}

/// A small repeatable generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
