//! Frames: kind, length, checksum, payload.

use std::io::{self, BufReader, Read};

use crate::error::{Damage, ReadError};
use crate::header::{PREAMBLE, version};

/// Bytes in front of the payload.
pub(crate) const HEAD: usize = 12;

macro_rules! kinds {
    ($($name:ident = $number:literal, $most:expr, $what:literal;)*) => {
        /// What a frame holds. Numbers are never used again for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($name = $number),* }

        impl Kind {
            fn of(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Most bytes of the payload.
            pub(crate) fn most(self) -> u64 {
                match self { $(Self::$name => $most),* }
            }

            /// For messages.
            pub(crate) fn what(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }
        }
    };
}

/// Most bytes of a text for the other side's user.
pub(crate) const MAX_TEXT: u64 = 4096;
/// Most bytes of the description of a board.
pub(crate) const MAX_BOARD: u64 = 1 << 20;
/// Most chunks of one Table frame.
pub(crate) const TABLE_CHUNKS: usize = 4096;
/// Most bytes of one set of chunks.
pub(crate) const MAX_BITS: u64 = 64 << 10;
/// Most bytes of a section; a reader may take less.
pub(crate) const MAX_SECTION: u64 = 64 << 20;

kinds! {
    Header = 1, 16 << 10, "the header";
    Section = 2, MAX_SECTION + 512, "a section";
    Summary = 3, 1 << 10, "the summary";
    Memory = 4, 32, "memory";
    Table = 5, 8 + 9 * TABLE_CHUNKS as u64, "the table of chunks";
    End = 6, 0, "the end mark";
    Hello = 16, MAX_BOARD + (8 << 10), "the greeting";
    Accepted = 17, 8 << 10, "the acceptance";
    Refused = 18, MAX_TEXT, "the refusal";
    Round = 19, 4, "the end of a round";
    Ready = 20, 0, "the word that all is staged";
    Commit = 21, 1, "the word to run";
    Done = 22, 0, "the word that it runs";
    PageRequest = 23, 12, "a request for pages";
    Absent = 24, MAX_BITS + 8, "the set of absent chunks";
    Received = 25, MAX_BITS + 8, "the set of received chunks";
    Recover = 26, 16, "the word to take up again";
}

/// The checksum of a frame that follows one whose checksum is `before`.
fn checksum(before: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(&[kind]);
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Makes frames, each with the checksum that continues the one before.
pub(crate) struct Chain(u32);

impl Chain {
    /// Begins behind `preamble`.
    pub(crate) fn new(preamble: &[u8]) -> Self {
        Self(crc32fast::hash(preamble))
    }

    /// The head of the next frame.
    pub(crate) fn head(&mut self, kind: Kind, payload: &[u8]) -> [u8; HEAD] {
        let kind = kind as u8;
        self.0 = checksum(self.0, kind, payload);
        let mut head = [0; HEAD];
        head[0] = kind;
        head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[8..].copy_from_slice(&self.0.to_le_bytes());
        head
    }
}

/// Reads frames and checks them. Knows where it is.
pub(crate) struct Frames<R> {
    input: BufReader<R>,
    chain: Chain,
    offset: u64,
    /// The form's format version.
    pub(crate) format: u32,
    /// The payload of the frame that was read last.
    pub(crate) payload: Vec<u8>,
    /// Where that frame began.
    pub(crate) begin: u64,
}

impl<R: Read> Frames<R> {
    /// Reads on from `offset`; `preamble` begins the chain.
    pub(crate) fn new(input: BufReader<R>, preamble: &[u8; PREAMBLE], offset: u64) -> Self {
        let (chain, format) = (Chain::new(preamble), version(preamble));
        Self { input, chain, offset, format, payload: Vec::new(), begin: offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// An error about the frame that was read last.
    pub(crate) fn damaged(&self, damage: Damage) -> ReadError {
        ReadError::Damaged { offset: self.begin, damage }
    }

    /// Fills `into` with what follows.
    pub(crate) fn content(&mut self, into: &mut [u8], what: &'static str) -> Result<(), ReadError> {
        fill(&mut self.input, into, &mut self.offset, what)
    }

    /// Reads the next frame; its payload is in `payload`. A section's may have at most `section` bytes.
    pub(crate) fn next(&mut self, section: u64) -> Result<Kind, ReadError> {
        self.begin = self.offset;
        let mut head = [0; HEAD];
        self.content(&mut head, "what comes before the end mark")?;
        let [number, zeros @ .., l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let kind = Kind::of(number).ok_or_else(|| self.damaged(Damage::Kind(number)))?;
        if zeros != [0; 3] {
            return Err(self.damaged(Damage::Value("a frame's head")));
        }
        let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let most = if kind == Kind::Section { kind.most().min(section) } else { kind.most() };
        if length > most {
            return Err(ReadError::TooLarge { what: kind.what(), announced: length, most });
        }
        self.payload.clear();
        // Grows with what arrives.
        let got =
            (&mut self.input).take(length).read_to_end(&mut self.payload).map_err(ReadError::Io)? as u64;
        self.offset += got;
        if got < length {
            return Err(ReadError::Truncated { offset: self.offset, what: kind.what() });
        }
        let found = u32::from_le_bytes([c0, c1, c2, c3]);
        let computed = checksum(self.chain.0, number, &self.payload);
        if found != computed {
            return Err(self.damaged(Damage::Frame { found, computed }));
        }
        self.chain.0 = computed;
        Ok(kind)
    }

    /// Whether the source has ended.
    pub(crate) fn at_end(&mut self) -> Result<bool, ReadError> {
        loop {
            match self.input.read(&mut [0]) {
                Ok(got) => return Ok(got == 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }
}

/// As `read_exact`, with the place of a short end.
pub(crate) fn fill(
    input: &mut impl Read,
    into: &mut [u8],
    offset: &mut u64,
    what: &'static str,
) -> Result<(), ReadError> {
    let mut filled = 0;
    while filled < into.len() {
        match input.read(&mut into[filled..]) {
            Ok(0) => return Err(ReadError::Truncated { offset: *offset, what }),
            Ok(got) => {
                filled += got;
                *offset += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(())
}
