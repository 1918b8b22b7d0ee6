//! What of a machine goes into the saved form, and under which names: the guest part as the engine takes it, and its life.

use engine::{GuestState, StateError, power_name};
use runstate::{HoldKind, Power, RunState, SavedLifecycle};
use stream::{Limits, Section, Summary};
use vmcore::LoadError;

/// Name of the section with the life: the last one of a stream.
pub(crate) const LIFE: &str = "lifecycle";
const LIFE_VERSION: u32 = 1;

/// What a machine with `memory` bytes takes at most.
pub(crate) fn limits(memory: u64) -> Limits {
    Limits { memory, ..Limits::default() }
}

/// A section as it is written.
pub(crate) fn to_form(section: vmcore::Section) -> Section {
    let vmcore::Section { name, version, data } = section;
    Section { name, version, data }
}

/// A section as its owner takes it.
pub(crate) fn from_form(section: Section) -> vmcore::Section {
    let Section { name, version, data } = section;
    vmcore::Section { name, version, data }
}

/// A machine that is held, in a few words: as it would be called without the job that holds it.
pub(crate) fn summary(state: &GuestState, saved: &SavedLifecycle) -> Summary {
    let power = saved.holds().iter().find(|hold| hold.owner.kind() == HoldKind::Power);
    let name = match (power.or_else(|| saved.holds().iter().next()), saved.power()) {
        (Some(hold), _) => hold.cause,
        (None, Power::Asleep(_)) => RunState::Suspended,
        (None, _) => RunState::Running,
    };
    Summary {
        state: name.as_str().to_owned(),
        power: power_name(&saved.power()).to_owned(),
        guest_ns: state.clock().map_or(0, |clock| clock.guest_ns),
    }
}

/// The life as a section.
pub(crate) fn save_life(saved: &SavedLifecycle) -> Section {
    to_form(vmcore::Section::encode(LIFE, LIFE_VERSION, saved))
}

/// The board in HELLO: the version of its section, and its data.
pub(crate) fn encode_board(board: &vmcore::Section) -> Vec<u8> {
    [&board.version.to_le_bytes()[..], &board.data].concat()
}

/// The same, read.
pub(crate) fn decode_board(bytes: &[u8]) -> Option<vmcore::Section> {
    let (version, data) = bytes.split_first_chunk()?;
    let name = vmcore::BoardInfo::SECTION.to_owned();
    Some(vmcore::Section { name, version: u32::from_le_bytes(*version), data: data.to_vec() })
}

/// Sections as they arrive, in any order.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    sections: Vec<vmcore::Section>,
    life: Option<vmcore::Section>,
}

impl Arrived {
    /// One more. The caps of the reader bound them all.
    pub(crate) fn add(&mut self, section: Section) -> Result<(), StateError> {
        let section = from_form(section);
        if section.name != LIFE {
            self.sections.push(section);
        } else if self.life.replace(section).is_some() {
            return Err(StateError::Twice(LIFE.to_owned()));
        }
        Ok(())
    }

    /// The guest part.
    pub(crate) fn take_state(&mut self) -> GuestState {
        GuestState { sections: std::mem::take(&mut self.sections) }
    }

    /// The life.
    pub(crate) fn life(&self) -> Result<SavedLifecycle, StateError> {
        let section = self.life.as_ref().ok_or_else(|| StateError::Missing(LIFE.to_owned()))?;
        section.decode(LIFE, LIFE_VERSION).map_err(|error: LoadError| error.into())
    }
}
