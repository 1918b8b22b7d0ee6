//! The generation id (`microsoft,vmgenid`; Linux `Documentation/devicetree/bindings/rng/microsoft,vmgenid.yaml`, Microsoft's
//! "Virtual Machine Generation ID"): 16 bytes that change when the guest may no longer take itself for the only one that has
//! lived its past. Linux seeds its random generator anew then.
//!
//! ```text
//!   +0   the id, as a GUID lies in memory: its first three numbers little endian. Read only
//! ```
//!
//! The line is high from a renewal until the guest has read the end of the id. A driver for an edge and one for a level are
//! served alike, and a guest that was not there yet when the id changed has its interrupt later.
//!
//! A machine without the device has an identity all the same, which management may ask for. Then nothing is connected.

use std::sync::Mutex;

use runstate::{GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, Device, Identity, IrqLine, LoadError, Renewal, Section};

use crate::lock;

/// Bytes of the id.
const ID: u64 = 16;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct State {
    identity: Identity,
    /// The guest has not read the id since it changed.
    is_news: bool,
}

/// The device.
pub struct Vmgenid {
    name: String,
    line: IrqLine,
    /// The generation that whoever comes into this machine takes on.
    given: Option<[u8; 16]>,
    state: Mutex<State>,
}

impl Vmgenid {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = 0x1000;
    const VERSION: u32 = 1;

    /// The device of a machine with this identity, of which nobody need be told.
    pub fn new(name: &str, line: IrqLine, identity: Identity) -> Self {
        let state = Mutex::new(State { identity, is_news: false });
        Self { name: name.to_owned(), line, given: None, state }
    }

    /// The same, of a machine whose user has given it its generation: a guest that is loaded into it takes it on.
    #[must_use]
    pub fn given(self) -> Self {
        Self { given: Some(self.identity().generation), ..self }
    }

    /// The machine's identity.
    pub fn identity(&self) -> Identity {
        lock(&self.state).identity
    }

    /// Gives the machine another identity, and has the guest told if its generation is another one.
    pub fn renew(&self, renewal: Renewal) {
        let mut state = lock(&self.state);
        let before = state.identity.generation;
        state.identity = state.identity.renewed(renewal);
        state.is_news |= state.identity.generation != before;
        self.line.set(state.is_news);
    }

    fn decode(&self, section: &Section) -> Result<State, LoadError> {
        section.decode(&self.name, Self::VERSION)
    }
}

/// The id as the guest finds it in memory.
fn in_memory(generation: [u8; 16]) -> [u8; 16] {
    let mut bytes = generation;
    for number in [0..4, 4..6, 6..8] {
        bytes[number].reverse();
    }
    bytes
}

impl Device for Vmgenid {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        let mut state = lock(&self.state);
        let bytes = in_memory(state.identity.generation);
        let end = offset.saturating_add(size.bytes());
        if state.is_news && offset < ID && end >= ID {
            state.is_news = false;
            self.line.set(false);
        }
        let byte = |at: u64| usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
        (offset..end).rev().fold(0, |value, at| value << 8 | u64::from(byte(at)))
    }

    fn write(&self, _offset: u64, _size: AccessSize, _value: u64) -> Option<GuestRequest> {
        None
    }

    /// The id stays. A guest that starts anew reads it without being told.
    fn reset(&self) {
        lock(&self.state).is_news = false;
        self.line.set(false);
    }

    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        Section::encode(&self.name, Self::VERSION, &*lock(&self.state))
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.decode(section).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let mut loaded = self.decode(section)?;
        if let Some(given) = self.given {
            loaded.is_news |= loaded.identity.generation != given;
            loaded.identity.generation = given;
        }
        *lock(&self.state) = loaded;
        self.line.set(loaded.is_news);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::test_support::Bench;

    const FIRST: Identity = Identity { generation: *b"0123456789abcdef", mac_seed: [1; 8] };
    const SECOND: [u8; 16] = [7; 16];

    fn made() -> (Bench, Vmgenid) {
        let bench = Bench::new();
        let device = Vmgenid::new("vmgenid", bench.line(), FIRST);
        (bench, device)
    }

    fn read_all(device: &Vmgenid) -> [u8; 16] {
        let words = [0, 8].map(|at| device.read(at, AccessSize::Double).to_le_bytes());
        std::array::from_fn(|at| words[at / 8][at % 8])
    }

    #[test]
    fn keeps_the_promises_of_a_device() {
        vmcore::testing::conformance(|| Arc::new(made().1), Vmgenid::WINDOW);
        vmcore::testing::conformance(
            || {
                let (_, device) = made();
                device.renew(Renewal::Generation(SECOND));
                Arc::new(device)
            },
            Vmgenid::WINDOW,
        );
    }

    #[test]
    fn the_id_is_read_at_any_width_as_a_guid_lies_in_memory_and_nothing_else_is_there() {
        let (_, device) = made();
        let bytes: Vec<u8> = (0..16).map(|at| device.read(at, AccessSize::Byte) as u8).collect();
        assert_eq!(bytes, b"3210547689abcdef");
        assert_eq!(read_all(&device).as_slice(), bytes);
        assert_eq!(device.read(2, AccessSize::Half), u64::from(u16::from_le_bytes(*b"10")));
        assert_eq!(device.read(12, AccessSize::Word), u64::from(u32::from_le_bytes(*b"cdef")));
        assert_eq!((device.read(16, AccessSize::Double), device.read(0xff8, AccessSize::Double)), (0, 0));
        assert!(device.write(0, AccessSize::Double, 5).is_none());
        assert_eq!(read_all(&device).as_slice(), bytes);
    }

    #[test]
    fn the_guest_is_told_until_it_has_read_the_id_to_its_end() {
        let (bench, device) = made();
        assert!(!bench.wire.is_high());
        device.renew(Renewal::Generation(SECOND));
        assert!(bench.wire.is_high());
        let (saved, other) = (device.save(), made());
        other.1.load(&saved).unwrap();
        assert!(other.0.wire.is_high(), "who is loaded before it was told is told there");
        device.read(0, AccessSize::Double);
        assert!(bench.wire.is_high());
        assert_eq!(read_all(&device), SECOND);
        assert!(!bench.wire.is_high());
        device.renew(Renewal::Generation(SECOND));
        assert!(!bench.wire.is_high(), "no news");
        device.renew(Renewal::All(FIRST));
        device.reset();
        assert_eq!((bench.wire.is_high(), device.identity()), (false, FIRST));
    }

    #[test]
    fn who_is_loaded_takes_on_the_generation_that_was_given_here() {
        let saved = made().1.save();
        let bench = Bench::new();
        let here = Identity { generation: SECOND, mac_seed: [9; 8] };
        let device = Vmgenid::new("vmgenid", bench.line(), here).given();
        device.load(&saved).unwrap();
        assert_eq!(device.identity(), Identity { generation: SECOND, ..FIRST });
        assert!(bench.wire.is_high());
        read_all(&device);
        device.load(&device.save()).unwrap();
        assert!(!bench.wire.is_high(), "the same one is no news");
    }

    #[test]
    fn a_renewed_generation_keeps_the_seed_and_a_new_machine_does_not() {
        let (_, device) = made();
        device.renew(Renewal::Generation(SECOND));
        assert_eq!(device.identity(), Identity { generation: SECOND, ..FIRST });
        let other = Identity { generation: [3; 16], mac_seed: [4; 8] };
        device.renew(Renewal::All(other));
        assert_eq!(device.identity(), other);
    }
}
