//! Who wrote the form, of what, and what a reader must know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Damage, WriteError};
use crate::{MAX_MEMORY, PAGE_SIZE};

/// The first bytes of every form.
pub(crate) const MAGIC: [u8; 8] = *b"DORMOUSE";

/// Bytes of the preamble.
pub(crate) const PREAMBLE: usize = 16;

/// Most bytes of a name (of a form, a program).
pub(crate) const MAX_NAME: usize = 255;
/// Most bytes of a description.
pub(crate) const MAX_DESCRIPTION: usize = 4096;

/// What a reader must know beyond the format version, by name.
const ZSTD: &str = "zstd";
const TWO_WAY: &str = "two-way";
const INCREMENTAL: &str = "incremental";
const KNOWN: [&str; 3] = [ZSTD, TWO_WAY, INCREMENTAL];

/// How the parts lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Front to back.
    Streamed,
    /// Memory at fixed offsets.
    Mapped,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Streamed => "streamed",
            Layout::Mapped => "mapped",
        })
    }
}

/// The first 16 bytes.
pub(crate) fn preamble(version: u32, layout: Layout) -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12] = match layout {
        Layout::Streamed => 0,
        Layout::Mapped => 1,
    };
    bytes
}

/// The format version of the form that begins with these bytes.
pub(crate) fn version(preamble: &[u8; PREAMBLE]) -> u32 {
    let [.., v0, v1, v2, v3, _, _, _, _] = *preamble;
    u32::from_le_bytes([v0, v1, v2, v3])
}

/// Names one form among all: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(pub [u8; 16]);

impl FileId {
    /// A new one.
    ///
    /// # Errors
    /// The kernel's, when it has no random bytes to give.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

/// The form that an incremental one is the difference from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its id: what counts.
    pub id: FileId,
    /// Its name: where to look for it.
    pub name: String,
}

/// How memory is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Each chunk by itself, zstd level 1, where that makes it shorter.
    Zstd,
}

/// What a form says of itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names this form.
    pub id: FileId,
    /// Size of the machine's memory in bytes, whole pages.
    pub memory: u64,
    /// Whether the reader answers.
    pub two_way: bool,
    /// How memory is packed.
    pub compression: Compression,
    /// Which of the channels of one migration this is; 0 is the main one.
    pub channel: u16,
    /// When it was begun, in ms since 1970 by the host's clock.
    pub created_ms: u64,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// Name of the snapshot, or nothing.
    pub name: String,
    /// What the user said of it.
    pub description: String,
    /// What it is the difference from.
    pub parent: Option<Parent>,
}

/// The rest of format version 1's header, behind the names of its features. Never to be changed.
#[derive(Serialize, Deserialize)]
struct RestV1 {
    id: FileId,
    memory: u64,
    channel: u16,
    created_ms: u64,
    program: String,
    name: String,
    description: String,
    parent: Option<Parent>,
}

impl Header {
    /// A header of a form with this id, of a machine with `memory` bytes; one-way, not compressed, without names.
    pub fn new(id: FileId, memory: u64) -> Self {
        Self {
            id,
            memory,
            two_way: false,
            compression: Compression::None,
            channel: 0,
            created_ms: 0,
            program: String::new(),
            name: String::new(),
            description: String::new(),
            parent: None,
        }
    }

    /// The names of what a reader must know.
    pub fn features(&self) -> Vec<&'static str> {
        let has = [
            (ZSTD, self.compression == Compression::Zstd),
            (TWO_WAY, self.two_way),
            (INCREMENTAL, self.parent.is_some()),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }

    /// Judges what a program put together.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        for (what, length, most) in self.lengths() {
            if length > most {
                return Err(WriteError::TooLong { what, length: length as u64, most: most as u64 });
            }
        }
        if !is_memory(self.memory) {
            return Err(WriteError::BadMemory { memory: self.memory });
        }
        Ok(())
    }

    fn lengths(&self) -> [(&'static str, usize, usize); 4] {
        [
            ("the name", self.name.len(), MAX_NAME),
            ("the description", self.description.len(), MAX_DESCRIPTION),
            ("the program's name", self.program.len(), MAX_NAME),
            ("the parent's name", self.parent.as_ref().map_or(0, |parent| parent.name.len()), MAX_NAME),
        ]
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let rest = RestV1 {
            id: self.id,
            memory: self.memory,
            channel: self.channel,
            created_ms: self.created_ms,
            program: self.program.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            parent: self.parent.clone(),
        };
        // Plain data, for which encoding into memory cannot fail.
        postcard::to_stdvec(&(self.features(), rest)).unwrap_or_default()
    }

    /// Decodes the header of format version 1.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, BadHeader> {
        let undecodable = |_| BadHeader::Damage(Damage::Encoding("the header"));
        let (features, rest): (Vec<String>, _) = postcard::take_from_bytes(payload).map_err(undecodable)?;
        let unknown: Vec<String> =
            features.iter().filter(|name| !KNOWN.contains(&name.as_str())).cloned().collect();
        if !unknown.is_empty() {
            return Err(BadHeader::UnknownFeatures(unknown));
        }
        let (rest, left): (RestV1, _) = postcard::take_from_bytes(rest).map_err(undecodable)?;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let header = Self {
            id: rest.id,
            memory: rest.memory,
            two_way: has(TWO_WAY),
            compression: if has(ZSTD) { Compression::Zstd } else { Compression::None },
            channel: rest.channel,
            created_ms: rest.created_ms,
            program: rest.program,
            name: rest.name,
            description: rest.description,
            parent: rest.parent,
        };
        if !left.is_empty() || header.features() != features {
            return Err(BadHeader::Damage(Damage::Encoding("the header")));
        }
        if let Err(error) = header.check() {
            let what = match error {
                WriteError::TooLong { what, .. } => what,
                _ => "the size of memory",
            };
            return Err(BadHeader::Damage(Damage::Value(what)));
        }
        Ok(header)
    }
}

/// Why a header was refused.
pub(crate) enum BadHeader {
    UnknownFeatures(Vec<String>),
    Damage(Damage),
}

/// Whether a machine can have this much memory.
pub(crate) fn is_memory(memory: u64) -> bool {
    memory.is_multiple_of(PAGE_SIZE) && memory <= MAX_MEMORY
}

/// The machine in a few words, for lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The name that QMP has for its state.
    pub state: String,
    /// The guest's power: `awake`, `asleep`, ...
    pub power: String,
    /// Guest time, in ns.
    pub guest_ns: u64,
}

impl Summary {
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        for (what, text) in [("the state", &self.state), ("the power", &self.power)] {
            if text.len() > MAX_NAME {
                return Err(WriteError::TooLong { what, length: text.len() as u64, most: MAX_NAME as u64 });
            }
        }
        Ok(())
    }
}
