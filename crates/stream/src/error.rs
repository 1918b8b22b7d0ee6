//! One error for each way to be wrong.

use std::io;

use crate::{FORMAT_VERSION, Layout};

/// Why nothing (more) could be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The other end, or the disk, refused.
    #[error("cannot write the machine's state")]
    Io(#[from] io::Error),
    /// More than a reader would take.
    #[error("{what} of {length} bytes is too long to be saved; at most {most} are possible")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length in bytes.
        length: u64,
        /// The most there can be.
        most: u64,
    },
    /// A section without a name.
    #[error("a section needs a name")]
    NoName,
    /// The memory is no whole number of pages, or more than a form can hold.
    #[error("memory of {memory:#x} bytes cannot be saved: it is not a whole number of pages, or too much")]
    BadMemory {
        /// Its size in bytes.
        memory: u64,
    },
    /// A range that is not inside memory, or content that is not whole pages of one chunk.
    #[error("{bytes:#x} bytes from page {page:#x} are not pages of one chunk of memory of {memory:#x} bytes")]
    Range {
        /// First page.
        page: u64,
        /// How many bytes.
        bytes: u64,
        /// The size of memory in bytes.
        memory: u64,
    },
    /// Memory that is said to be as in the parent, of a form that names none.
    #[error("pages cannot be as in the parent: no parent is named")]
    NoParent,
    /// A mapped file is to be finished, and a chunk has never been written.
    #[error("chunk {chunk} has not been written, so the file cannot be finished")]
    Missing {
        /// The first such chunk.
        chunk: u64,
    },
    /// A mapped file cannot hold what was asked for.
    #[error("a mapped file cannot be {0}")]
    NotMapped(&'static str),
    /// A mapped file must be made in an empty one.
    #[error("the file to write to has {length} bytes already")]
    NotEmpty {
        /// Its length.
        length: u64,
    },
}

/// Why a saved form cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read the saved state")]
    Io(#[source] io::Error),
    /// It ends too early: the file was cut, or the link was lost.
    #[error("the saved state ends at byte {offset}, inside {what}: it was cut short, or the link was lost")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// What was being read.
        what: &'static str,
    },
    /// Something else altogether.
    #[error("this is no saved state of dormouse: it begins with {found:02x?} instead of 'DORMOUSE'")]
    NotOurs {
        /// The first bytes.
        found: [u8; 8],
    },
    /// Written by a newer program.
    #[error(
        "the saved state has format version {found}, this program reads up to {FORMAT_VERSION}: use the version of dormouse that saved it, or a newer one"
    )]
    NewerFormat {
        /// The version.
        found: u32,
    },
    /// A version that never was.
    #[error("the saved state has format version 0, which never existed")]
    NoFormat,
    /// The other layout was expected.
    #[error("the saved state has the {found} layout, the {wanted} one is needed here")]
    WrongLayout {
        /// The layout that it has.
        found: Layout,
        /// The one that was asked for.
        wanted: Layout,
    },
    /// Made with something that this program does not know.
    #[error("the saved state needs '{}', which this program does not know: use the version of dormouse that saved it, or a newer one", names.join("', '"))]
    UnknownFeatures {
        /// Names of the features.
        names: Vec<String>,
    },
    /// A mapped file whose writer did not come to the end.
    #[error("the file was never finished: its writer was interrupted, and what it holds cannot be used")]
    NotFinished,
    /// Bytes that no writer wrote.
    #[error("the saved state is damaged at byte {offset}: {damage}")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// More than this reader is willing to take.
    #[error("{what} of {announced} bytes in the saved state is more than the {most} that are taken")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// How much there would be.
        announced: u64,
        /// The most that is taken.
        most: u64,
    },
    /// Bytes follow the end mark.
    #[error("something follows the end of the saved state at byte {offset}")]
    Trailing {
        /// Where it begins.
        offset: u64,
    },
}

/// What is wrong with a part of a saved form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The checksum of a frame.
    #[error("a frame's checksum is {found:#010x}, its content gives {computed:#010x}")]
    Frame {
        /// As written.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// The checksum of memory.
    #[error(
        "the checksum of memory from page {page:#x} is {found:#018x}, its content gives {computed:#018x}"
    )]
    Memory {
        /// First page.
        page: u64,
        /// As written.
        found: u64,
        /// As computed.
        computed: u64,
    },
    /// A frame of no known kind.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// A frame where it cannot be.
    #[error("a frame of kind {0} cannot stand here")]
    Misplaced(u8),
    /// A layout that does not exist.
    #[error("there is no layout {0}")]
    Layout(u8),
    /// A payload that does not decode.
    #[error("{0} does not decode")]
    Encoding(&'static str),
    /// A value that cannot be.
    #[error("{0} is out of range")]
    Value(&'static str),
    /// Memory outside of what the header announces.
    #[error(
        "{pages:#x} pages from page {page:#x} are not inside the memory of {memory:#x} bytes, or no pages of one chunk"
    )]
    Range {
        /// First page.
        page: u64,
        /// How many.
        pages: u64,
        /// The size of memory in bytes.
        memory: u64,
    },
    /// Compressed memory that does not give what it should.
    #[error("compressed memory from page {page:#x} does not unpack to {bytes} bytes")]
    Packed {
        /// First page.
        page: u64,
        /// What there should be.
        bytes: usize,
    },
    /// The first page gives a place or a length that does not fit.
    #[error("the file has {found} bytes where its first page says {told}")]
    Length {
        /// As the file is.
        found: u64,
        /// As it says.
        told: u64,
    },
}
