//! Why the host keeps the guest from running: an ordered list of holds, keyed by owner.
//!
//! Invariants: no owner twice; order is the order of arrival; the list never grows past [`Holds::CAPACITY`].

use crate::RunState;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Number by which a device is known, given out by the board. Stable across a move to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u32);

/// Who holds the machine. This, not the name, is the key: a manager's `stop` and a background snapshot both
/// show `paused`, and the end of one must not lift the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Not started yet, or reset while held.
    Boot,
    /// A manager's `stop`.
    Manager,
    /// The debugger, by attaching, interrupting, or a breakpoint.
    Debugger,
    /// A device whose error policy is "stop".
    Device(DeviceId),
    /// The watchdog, with action "pause".
    Watchdog,
    /// A guest panic, with action "pause".
    Panic,
    /// The guest lives elsewhere since an outgoing migration committed.
    Moved,
    /// Exactly while the power is `Off`.
    Off,
    /// Exactly while the power is `Broken`.
    Fault,
    /// An incoming migration.
    Incoming,
    /// The switch-over of an outgoing migration.
    Outgoing,
    /// A memory dump.
    Dump,
    /// A snapshot being saved.
    Save,
    /// A snapshot being loaded.
    Load,
    /// A background snapshot capturing device state.
    Background,
}

/// Who may lift a hold (lifecycle rules, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldKind {
    /// `cont` lifts it; a reset replaces it by prelaunch.
    Liftable,
    /// Stands for the power; goes with it.
    Power,
    /// Lifted by the job alone.
    Job,
}

impl Owner {
    /// Who may lift a hold of this owner.
    pub const fn kind(self) -> HoldKind {
        match self {
            Owner::Boot
            | Owner::Manager
            | Owner::Debugger
            | Owner::Device(_)
            | Owner::Watchdog
            | Owner::Panic
            | Owner::Moved => HoldKind::Liftable,
            Owner::Off | Owner::Fault => HoldKind::Power,
            Owner::Incoming
            | Owner::Outgoing
            | Owner::Dump
            | Owner::Save
            | Owner::Load
            | Owner::Background => HoldKind::Job,
        }
    }

    /// Wire name for the extended query, for example `"manager"`. A device's number is not in it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Owner::Boot => "boot",
            Owner::Manager => "manager",
            Owner::Debugger => "debugger",
            Owner::Device(_) => "device",
            Owner::Watchdog => "watchdog",
            Owner::Panic => "panic",
            Owner::Moved => "moved",
            Owner::Off => "off",
            Owner::Fault => "fault",
            Owner::Incoming => "incoming",
            Owner::Outgoing => "outgoing",
            Owner::Dump => "dump",
            Owner::Save => "save",
            Owner::Load => "load",
            Owner::Background => "background",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Device(id) => write!(f, "device({})", id.0),
            owner => f.write_str(owner.as_str()),
        }
    }
}

/// One reason why the guest does not run. Since when it lasts is kept by the engine: this crate knows no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hold {
    /// Who holds: the key.
    pub owner: Owner,
    /// The name under which it shows, one of the non-live run states.
    pub cause: RunState,
}

impl Hold {
    /// The hold of `owner` under its usual name (the debugger's is `paused`).
    pub const fn of(owner: Owner) -> Hold {
        let cause = match owner {
            Owner::Boot => RunState::Prelaunch,
            Owner::Manager | Owner::Debugger | Owner::Background => RunState::Paused,
            Owner::Device(_) => RunState::IoError,
            Owner::Watchdog => RunState::Watchdog,
            Owner::Panic => RunState::GuestPanicked,
            Owner::Moved => RunState::PostMigrate,
            Owner::Off => RunState::Shutdown,
            Owner::Fault => RunState::InternalError,
            Owner::Incoming => RunState::InMigrate,
            Owner::Outgoing => RunState::FinishMigrate,
            Owner::Dump | Owner::Save => RunState::SaveVm,
            Owner::Load => RunState::RestoreVm,
        };
        Hold { owner, cause }
    }

    /// The debugger's hold after a breakpoint, a watchpoint or a step: shown as `debug`.
    pub const fn debug_stop() -> Hold {
        Hold { owner: Owner::Debugger, cause: RunState::Debug }
    }

    /// Whether owner and name belong together. False only for a value that came from outside.
    pub fn is_consistent(self) -> bool {
        self == Hold::of(self.owner) || self == Hold::debug_stop()
    }
}

/// The holds in order of arrival. Empty means *live*.
#[derive(Clone, Copy)]
pub struct Holds {
    slots: [Hold; Holds::CAPACITY],
    len: u8,
}

impl Holds {
    /// The most holds that there can be: six liftable ones, one for the power, one for the job, eight devices.
    pub const CAPACITY: usize = 16;
    /// The most device holds that are told apart. Liftable holds of devices only ever go all together, so
    /// nothing is lost when a ninth failing device adds no hold of its own.
    pub const DEVICES: usize = 8;

    /// No hold.
    pub const fn new() -> Holds {
        Holds { slots: [Hold::of(Owner::Boot); Holds::CAPACITY], len: 0 }
    }

    /// The holds, earliest first.
    pub fn as_slice(&self) -> &[Hold] {
        self.slots.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The holds, earliest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Hold> {
        self.as_slice().iter()
    }

    /// How many holds there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether nothing holds the machine.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `owner` holds the machine.
    pub fn has(&self, owner: Owner) -> bool {
        self.iter().any(|hold| hold.owner == owner)
    }

    /// Whether a hold of this kind is there.
    pub fn has_kind(&self, kind: HoldKind) -> bool {
        self.iter().any(|hold| hold.owner.kind() == kind)
    }

    /// Adds `hold` at the end unless its owner holds already. Says whether it was added.
    pub fn add(&mut self, hold: Hold) -> bool {
        self.insert(self.len(), hold)
    }

    /// Takes away the hold of `owner`. Says whether there was one.
    pub fn remove(&mut self, owner: Owner) -> bool {
        self.retain(|hold| hold.owner != owner)
    }

    /// Keeps only the holds that `keep` wants, in their order. Says whether any went.
    pub fn retain(&mut self, keep: impl Fn(&Hold) -> bool) -> bool {
        let before = *self;
        *self = Holds::new();
        for hold in before.iter().filter(|hold| keep(hold)) {
            self.push(*hold);
        }
        self.len != before.len
    }

    /// Puts `with` where the first hold is that `matches` finds, and takes away every other one that it finds. Says
    /// whether there was any. `with` must not belong to an owner who stays.
    pub(crate) fn replace(&mut self, matches: impl Fn(&Hold) -> bool, with: Hold) -> bool {
        let Some(at) = self.iter().position(&matches) else { return false };
        self.retain(|hold| !matches(hold));
        self.insert(at, with);
        true
    }

    fn insert(&mut self, at: usize, hold: Hold) -> bool {
        if self.has(hold.owner) || !self.has_room(hold.owner) {
            return false;
        }
        let before = *self;
        *self = Holds::new();
        for (place, old) in before.iter().enumerate() {
            if place == at {
                self.push(hold);
            }
            self.push(*old);
        }
        if at >= before.len() {
            self.push(hold);
        }
        true
    }

    fn has_room(&self, owner: Owner) -> bool {
        let devices = || self.iter().filter(|hold| matches!(hold.owner, Owner::Device(_))).count();
        match owner.kind() {
            HoldKind::Liftable => !matches!(owner, Owner::Device(_)) || devices() < Holds::DEVICES,
            kind => !self.has_kind(kind),
        }
    }

    fn push(&mut self, hold: Hold) {
        if let Some(slot) = self.slots.get_mut(usize::from(self.len)) {
            *slot = hold;
            self.len += 1;
        }
    }
}

impl Default for Holds {
    fn default() -> Holds {
        Holds::new()
    }
}

impl PartialEq for Holds {
    fn eq(&self, other: &Holds) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Holds {}

impl std::hash::Hash for Holds {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|hold| format_args!("{}:{}", hold.owner, hold.cause).to_string()))
            .finish()
    }
}

impl<'a> IntoIterator for &'a Holds {
    type Item = &'a Hold;
    type IntoIter = std::slice::Iter<'a, Hold>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Holds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Holds {
    /// Refuses a list that is too long, names an owner twice or gives an owner a name that is not his.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Holds, D::Error> {
        struct List;
        impl<'de> serde::de::Visitor<'de> for List {
            type Value = Holds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {} holds, each owner once", Holds::CAPACITY)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Holds, A::Error> {
                let mut holds = Holds::new();
                while let Some(hold) = seq.next_element::<Hold>()? {
                    if !hold.is_consistent() || !holds.add(hold) {
                        return Err(serde::de::Error::custom(format_args!(
                            "hold of {} is wrong",
                            hold.owner
                        )));
                    }
                }
                Ok(holds)
            }
        }
        deserializer.deserialize_seq(List)
    }
}
