//! What tells machines apart that began from one saved state.

use serde::{Deserialize, Serialize};

/// The identity of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The generation id, in the order of its text. Another one says: what you remember may be another machine's memory too.
    pub generation: [u8; 16],
    /// What the addresses of network cards are drawn from.
    pub mac_seed: [u8; 8],
}

/// What of an identity begins anew when a saved state is taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// The same machine as it once was: another generation of it.
    Generation([u8; 16]),
    /// A machine beside others.
    All(Identity),
}

impl Identity {
    /// The identity that becomes of this one.
    #[must_use]
    pub fn renewed(self, renewal: Renewal) -> Self {
        match renewal {
            Renewal::Generation(generation) => Self { generation, ..self },
            Renewal::All(identity) => identity,
        }
    }
}
