//! A device tree of the user's own: checked, and given this boot's `chosen` properties.
//!
//! All of it is copied through but `bootargs`, the initrd's place and the seed, which are the machine's to say.
//! (Devicetree Specification 0.4, chapter 5.)

use vm_fdt::{FdtReserveEntry, FdtWriter, FdtWriterNode};

use crate::device_tree::{CHOSEN_NAMES, Chosen, chosen_properties};

/// What is wrong with a device tree blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// It is no device tree.
    #[error("no device tree")]
    Magic,
    /// It ends before it should.
    #[error("cut short: {expected} bytes are needed, it has {found}")]
    Truncated { expected: u64, found: u64 },
    /// A part of it is not where the header says, or not well-formed.
    #[error("its {0} is not valid")]
    Invalid(&'static str),
}

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
/// The version of the format that is written and read, and with which it is compatible.
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Copies `blob` with `chosen` in place of what it says there.
pub(crate) fn rewrite(blob: &[u8], chosen: &Chosen<'_>) -> Result<Vec<u8>, TreeError> {
    let tree = Tree::new(blob)?;
    let entries: Option<Vec<_>> =
        tree.reservations()?.into_iter().map(|(addr, size)| FdtReserveEntry::new(addr, size).ok()).collect();
    let entries = entries.ok_or(TreeError::Invalid("memory reservation block"))?;
    let writer = FdtWriter::new_with_mem_reserv(&entries)
        .map_err(|_| TreeError::Invalid("memory reservation block"))?;
    Copy { tree, chosen, writer, open: Vec::new(), chosen_seen: false }.run()
}

/// The parts of a blob.
struct Tree<'a> {
    reservations: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Tree<'a> {
    fn new(blob: &'a [u8]) -> Result<Self, TreeError> {
        let field = |index: usize| word(blob, 4 * index);
        if field(0) != Some(MAGIC) {
            return Err(TreeError::Magic);
        }
        let found = blob.len() as u64;
        let expected = u64::from(field(1).unwrap_or(0)).max(HEADER as u64);
        if found < expected {
            return Err(TreeError::Truncated { expected, found });
        }
        let header: Option<[u32; 10]> =
            (0..10).map(field).collect::<Option<Vec<_>>>().and_then(|fields| fields.try_into().ok());
        let [_, _, structure, strings, reservations, version, compatible, _, strings_size, structure_size] =
            header.ok_or(TreeError::Invalid("header"))?;
        if version < VERSION || compatible > VERSION {
            return Err(TreeError::Invalid("version"));
        }
        let block = |offset: u32, size: Option<u32>| {
            let rest = blob.get(offset as usize..)?;
            size.map_or(Some(rest), |size| rest.get(..size as usize))
        };
        Ok(Self {
            reservations: block(reservations, None).ok_or(TreeError::Invalid("memory reservation block"))?,
            structure: block(structure, Some(structure_size)).ok_or(TreeError::Invalid("structure block"))?,
            strings: block(strings, Some(strings_size)).ok_or(TreeError::Invalid("strings block"))?,
        })
    }

    /// Addresses and sizes of the reserved ranges.
    fn reservations(&self) -> Result<Vec<(u64, u64)>, TreeError> {
        let (entries, _) = self.reservations.as_chunks::<16>();
        let mut all = Vec::new();
        for entry in entries {
            let (addr, size) =
                ((u128::from_be_bytes(*entry) >> 64) as u64, u128::from_be_bytes(*entry) as u64);
            if (addr, size) == (0, 0) {
                return Ok(all);
            }
            all.push((addr, size));
        }
        Err(TreeError::Invalid("memory reservation block"))
    }
}

/// The state of copying.
struct Copy<'a> {
    tree: Tree<'a>,
    chosen: &'a Chosen<'a>,
    writer: FdtWriter,
    /// Nodes that are open, and which of them is `/chosen`.
    open: Vec<(FdtWriterNode, bool)>,
    chosen_seen: bool,
}

impl Copy<'_> {
    fn run(mut self) -> Result<Vec<u8>, TreeError> {
        let malformed = || TreeError::Invalid("structure block");
        let mut at = 0;
        let mut done = false;
        while !done {
            let token = word(self.tree.structure, at).ok_or_else(malformed)?;
            at += 4;
            match token {
                BEGIN_NODE => at += self.begin(at)?,
                PROPERTY => at += self.property(at)?,
                END_NODE => done = self.end()?,
                NOP => {}
                _ => return Err(malformed()),
            }
        }
        if word(self.tree.structure, at) != Some(END) {
            return Err(malformed());
        }
        self.writer.finish().map_err(|_| malformed())
    }

    /// Opens a node; gives the bytes that its name takes.
    fn begin(&mut self, at: usize) -> Result<usize, TreeError> {
        let name = string(self.tree.structure, at).ok_or(TreeError::Invalid("structure block"))?;
        let is_chosen = self.open.len() == 1 && name == "chosen";
        let node = self.writer.begin_node(name).map_err(|_| TreeError::Invalid("name of a node"))?;
        self.open.push((node, is_chosen));
        let len = name.len();
        if is_chosen && !self.chosen_seen {
            self.chosen_seen = true;
            chosen_properties(&mut self.writer, self.chosen)
                .map_err(|_| TreeError::Invalid("chosen node"))?;
        }
        Ok((len + 1).next_multiple_of(4))
    }

    /// Copies a property; gives the bytes that it takes.
    fn property(&mut self, at: usize) -> Result<usize, TreeError> {
        let malformed = || TreeError::Invalid("property");
        let Tree { structure, strings, .. } = self.tree;
        let len = word(structure, at).ok_or_else(malformed)? as usize;
        let name = word(structure, at + 4).and_then(|offset| string(strings, offset as usize));
        let name = name.ok_or_else(malformed)?;
        let value = structure.get(at + 8..).and_then(|rest| rest.get(..len)).ok_or_else(malformed)?;
        let ours = self.open.last().is_some_and(|(_, is_chosen)| *is_chosen) && CHOSEN_NAMES.contains(&name);
        if !ours {
            self.writer.property(name, value).map_err(|_| malformed())?;
        }
        Ok(8 + len.next_multiple_of(4))
    }

    /// Closes a node; true if it was the root.
    fn end(&mut self) -> Result<bool, TreeError> {
        let malformed = |_| TreeError::Invalid("structure block");
        if self.open.len() == 1 && !self.chosen_seen {
            let node = self.writer.begin_node("chosen").map_err(malformed)?;
            chosen_properties(&mut self.writer, self.chosen).map_err(malformed)?;
            self.writer.end_node(node).map_err(malformed)?;
        }
        let (node, _) = self.open.pop().ok_or(TreeError::Invalid("structure block"))?;
        self.writer.end_node(node).map_err(malformed)?;
        Ok(self.open.is_empty())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The string that ends with the next NUL.
fn string(bytes: &[u8], at: usize) -> Option<&str> {
    std::ffi::CStr::from_bytes_until_nul(bytes.get(at..)?).ok()?.to_str().ok()
}
