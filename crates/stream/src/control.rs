//! The words of the handshake and of postcopy, on channels whose reader answers.
//!
//! ```text
//!   source                                     destination
//!   Header, Hello{board, features}      ──►    compares
//!                                       ◄──    Header, Accepted{features}   or Refused{text}
//!   Memory ..., Round 1, Memory ...     ──►    takes it
//!   (stands) Memory, Sections, Ready    ──►    checks and stages everything
//!                                       ◄──    Ready                        or Refused{text}
//!   Section "lifecycle", Commit         ──►    runs
//!                                       ◄──    Done
//!   End                                 ──►
//!                                       ◄──    End
//!
//!   postcopy: feature "postcopy"; Absent (which chunks are still to come, all of memory told of) before the source's Ready,
//!   Section "lifecycle", Commit{postcopy} ──►  runs
//!   Memory ... (whole chunks)           ──►
//!                                       ◄──    PageRequest{chunk, count}
//!                                       ◄──    Done: nothing is absent any more
//!   after a lost link, on a new channel with the same id:
//!   Header, Recover                     ──►
//!                                       ◄──    Header, Received (which chunks are there, all of memory told of)
//!                                       ◄──    or Header, Ready: Commit did not arrive, and is said again
//! ```
//!
//! Both directions are streams of their own; the answer's header repeats the id. The order is the users' to hold.

use crate::error::{Damage, WriteError};
use crate::frame::{Kind, MAX_BITS, MAX_BOARD, MAX_TEXT};
use crate::header::FileId;

/// Most bytes of the names of features together.
const MAX_FEATURES: usize = 4096;

/// A word of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The source's machine, for the destination to compare, and the names of what it would like to use.
    Hello {
        /// The board, in its owner's encoding.
        board: Vec<u8>,
        /// Names of features.
        features: Vec<String>,
    },
    /// The destination's machine is the same; these of the features it knows too.
    Accepted {
        /// Names of features.
        features: Vec<String>,
    },
    /// The destination will not have it.
    Refused {
        /// Why, for the source's user.
        text: String,
    },
    /// A pass over memory is over.
    Round {
        /// Which; the first is 1.
        number: u32,
    },
    /// From the source: everything has been sent but the life and the word to run. From the destination, which answers so:
    /// everything has arrived, has been checked and is staged.
    Ready,
    /// The source's machine will not run again: the destination's is the machine now.
    Commit {
        /// Whether memory is still to come.
        postcopy: bool,
    },
    /// The destination's machine has taken over, and has all of its memory.
    Done,
    /// A chunk that the guest waits for.
    PageRequest {
        /// The first chunk.
        chunk: u64,
        /// How many from there.
        count: u32,
    },
    /// Chunks that are still to come: bit `n % 8` of byte `n / 8` is chunk `first + n`.
    Absent {
        /// Number of the first.
        first: u64,
        /// One bit a chunk.
        bits: Vec<u8>,
    },
    /// Chunks that have arrived, likewise.
    Received {
        /// Number of the first.
        first: u64,
        /// One bit a chunk.
        bits: Vec<u8>,
    },
    /// Take up the postcopy with this id again.
    Recover {
        /// The id in the header of the stream that was lost.
        id: FileId,
    },
}

impl Control {
    /// Most bytes of a text.
    pub const MAX_TEXT: usize = MAX_TEXT as usize;
    /// Most bytes of one set of chunks.
    pub const MAX_BITS: usize = MAX_BITS as usize;

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Control::Hello { .. } => Kind::Hello,
            Control::Accepted { .. } => Kind::Accepted,
            Control::Refused { .. } => Kind::Refused,
            Control::Round { .. } => Kind::Round,
            Control::Ready => Kind::Ready,
            Control::Commit { .. } => Kind::Commit,
            Control::Done => Kind::Done,
            Control::PageRequest { .. } => Kind::PageRequest,
            Control::Absent { .. } => Kind::Absent,
            Control::Received { .. } => Kind::Received,
            Control::Recover { .. } => Kind::Recover,
        }
    }

    /// Whether it is no more than a writer would write.
    fn fits(&self) -> bool {
        match self {
            Control::Hello { board, features } => {
                board.len() <= MAX_BOARD as usize && length_of(features) <= MAX_FEATURES
            }
            Control::Accepted { features } => length_of(features) <= MAX_FEATURES,
            _ => true,
        }
    }

    /// The payload. A text that is too long is cut; anything else that is, is an error.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WriteError> {
        let cap = |what, length: usize, most: usize| {
            let too_long = WriteError::TooLong { what, length: length as u64, most: most as u64 };
            if length > most { Err(too_long) } else { Ok(()) }
        };
        let names = |features: &[String]| cap("the list of features", length_of(features), MAX_FEATURES);
        Ok(match self {
            Control::Hello { board, features } => {
                cap("the board's description", board.len(), MAX_BOARD as usize)?;
                names(features)?;
                postcard::to_stdvec(&(board, features)).unwrap_or_default()
            }
            Control::Accepted { features } => {
                names(features)?;
                postcard::to_stdvec(features).unwrap_or_default()
            }
            Control::Refused { text } => cut(text, Self::MAX_TEXT).as_bytes().to_vec(),
            Control::Round { number } => number.to_le_bytes().to_vec(),
            Control::Ready | Control::Done => Vec::new(),
            Control::Commit { postcopy } => vec![u8::from(*postcopy)],
            Control::PageRequest { chunk, count } => {
                [&chunk.to_le_bytes()[..], &count.to_le_bytes()].concat()
            }
            Control::Absent { first, bits } | Control::Received { first, bits } => {
                cap("a set of chunks", bits.len(), Self::MAX_BITS)?;
                [&first.to_le_bytes()[..], bits].concat()
            }
            Control::Recover { id } => id.0.to_vec(),
        })
    }

    /// Decodes the payload of a control frame; none if `kind` is of another sort.
    pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Option<Result<Self, Damage>> {
        let control = match kind {
            Kind::Hello => {
                whole(payload).map(|(board, features)| Control::Hello { board, features }).filter(Self::fits)
            }
            Kind::Accepted => {
                whole(payload).map(|features| Control::Accepted { features }).filter(Self::fits)
            }
            Kind::Refused => {
                std::str::from_utf8(payload).ok().map(|text| Control::Refused { text: text.to_owned() })
            }
            Kind::Round => {
                payload.try_into().ok().map(|bytes| Control::Round { number: u32::from_le_bytes(bytes) })
            }
            Kind::Ready => Some(Control::Ready),
            Kind::Commit => match payload {
                [flag @ (0 | 1)] => Some(Control::Commit { postcopy: *flag == 1 }),
                _ => None,
            },
            Kind::Done => Some(Control::Done),
            Kind::PageRequest => page_request(payload),
            Kind::Absent => set(payload).map(|(first, bits)| Control::Absent { first, bits }),
            Kind::Received => set(payload).map(|(first, bits)| Control::Received { first, bits }),
            Kind::Recover => payload.try_into().ok().map(|id| Control::Recover { id: FileId(id) }),
            Kind::Header | Kind::Section | Kind::Summary | Kind::Memory | Kind::Table | Kind::End => {
                return None;
            }
        };
        Some(control.ok_or(Damage::Encoding(kind.what())))
    }
}

/// Bytes of a list of features, as it is encoded at most.
fn length_of(features: &[String]) -> usize {
    features.iter().map(|name| name.len() + 3).sum()
}

/// Decodes all of `payload`.
fn whole<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

fn page_request(payload: &[u8]) -> Option<Control> {
    let (chunk, count) = payload.split_first_chunk()?;
    let count = u32::from_le_bytes(count.try_into().ok()?);
    Some(Control::PageRequest { chunk: u64::from_le_bytes(*chunk), count })
}

fn set(payload: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (first, bits) = payload.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), bits.to_vec()))
}

/// The beginning of `text`, at most `most` bytes of whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
