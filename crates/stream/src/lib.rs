//! The saved form of a machine: one format for snapshots in files and for streams between processes.
//!
//! The crate knows no device, no engine and no RAM: it moves named sections, memory, and the words of the handshake, and
//! says exactly what is wrong with bytes that are not what a writer wrote. Integers are little endian. Memory is counted in
//! pages of 4 KiB, and goes in chunks of 64 KiB.
//!
//! ```text
//! streamed (pipes, sockets; files that are compressed): written once, from front to back
//!
//!   preamble 16   "DORMOUSE" | format version u32 | layout u8 = 0 | 0 0 0
//!   frame ...     Header, then Section, Summary, Memory and (on two-way channels) control frames in any order
//!   frame         End
//!
//! frame        kind u8 | 0 0 0 | length u32 | crc u32 | payload [length] | content (Memory frames alone)
//!
//!   crc          CRC-32 of kind, length and payload, begun with the crc of the frame before (the first: with that of the
//!                preamble). So a frame that is missing, doubled or out of place is found like one that is damaged.
//!
//! Header       features [names] | id, memory, channel, created, program, name, description, parent      (postcard)
//! Section      version u32 | length of the name u16 | name | bytes
//! Summary      state, power, guest time                                                                 (postcard)
//! Memory       first page u64 | pages u64 | hash u64 | stored u32 | form u8 | 0 0 0     then `stored` bytes of content
//!
//!   form         0 zero, 1 raw, 2 zstd, 3 as in the parent. Zero and parent stand for any run of pages and store nothing;
//!                raw and zstd hold pages of one chunk. hash: 64-bit XXH3 of the bytes as stored, 0 with none.
//!
//! mapped (regular files): memory at fixed offsets, written in any order, read a chunk at a time
//!
//!   0            preamble, layout u8 = 1 | index offset u64 | file length u64 | crc u32 of all before | 0 ... to 4096
//!   4096         memory: page n at 4096 * (1 + n); a zero page, or one that is as in the parent, is a hole
//!   4096+memory  the index: frames as above, with Table frames in place of Memory
//!
//! Table        first chunk u64 | for each chunk: hash u64, form u8 (never zstd)
//! ```
//!
//! # Versions
//! The format version counts changes of what is drawn above, and each section has a version of its own, which its owner
//! counts. A program reads every format version up to its own for good (`tests/golden` keeps a file of each) and refuses a
//! newer one by name. Within a version, what a reader must know beyond the drawing is a *feature* with a name: one that
//! it does not know is refused by that name. The preamble's first 12 bytes never change.
//!
//! # Complete or not
//! A streamed form is complete when its End has been read. A mapped one is complete when its first page says where the
//! index is: that page is written last, after everything else is on the disk, so that a crash leaves a file that says
//! of itself that it was not finished.
//!
//! # Trust
//! Nothing read is believed: lengths are held against caps before a byte of theirs is read, buffers grow by what has
//! arrived, never by what was announced, and every bit is under a checksum. The checksums find damage, not malice: who
//! can write the file can write a good checksum, so values are still judged by those who take them.
#![forbid(unsafe_code)]

mod control;
mod error;
mod frame;
mod header;
mod mapped;
mod memory;
mod reader;
mod survey;
mod writer;

pub use control::Control;
pub use error::{Damage, ReadError, WriteError};
pub use header::{Compression, FileId, Header, Layout, Parent, Summary};
pub use mapped::{ChunkError, MappedFile, MappedWriter, ParentError};
pub use memory::{Content, Form, Piece, Totals, is_zero};
pub use reader::{Item, Limits, Reader};
pub use survey::{Survey, SurveyError};
pub use writer::Writer;

/// The format version that this program writes; it reads all up to it.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes in a chunk of memory, the unit of checksums and of lazy reads.
pub const CHUNK_SIZE: usize = 64 << 10;

/// Pages in a chunk.
pub const CHUNK_PAGES: u64 = CHUNK_SIZE as u64 / PAGE_SIZE;

/// Most memory that a form can hold: 8 TiB, as much as a machine can have.
pub const MAX_MEMORY: u64 = 8 << 40;

/// The state of one component: a device, a hart, the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name of the component; at least one byte, at most [`Section::MAX_NAME`].
    pub name: String,
    /// Version of the component's own layout.
    pub version: u32,
    /// The state in that layout.
    pub data: Vec<u8>,
}

impl Section {
    /// Most bytes of a name.
    pub const MAX_NAME: usize = 255;
}
