//! Decoded code: pages of operations, and the cursor that walks them.
//!
//! A [`Page`] holds what has been decoded of one physical page. A *block* is a header followed by operations; it starts
//! where something jumped to and runs on through conditional branches (when not taken) and jumps inside the page, up
//! to [`LONGEST`] instructions. It always ends in an operation that ends blocks.
//!
//! ```text
//!   ops:  [dummy] [Header][Straddle]  [Header left=3][op][Beq][Jalr]  [Header ...
//!   entries[offset / 2] ──────────────► index of the header, 0: nothing decoded there
//! ```
//!
//! Invariants:
//! * every index in `entries`, and every chain of a jump, is that of a header in `ops`;
//! * from a header the cursor reaches an operation that ends the block before the end of `ops`;
//! * jumps are chained only to blocks of their own page, so clearing a page leaves no chain behind.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ptr::NonNull;

use ram::{Generation, Ram};

use crate::decode::{decode_long, decode_short, is_short};
use crate::extensions::Extensions;
use crate::mem::CodePage;
use crate::op::{Code, Op, SINK};

/// Most instructions in a block.
pub(crate) const LONGEST: u8 = 48;
/// Operations in a page before it is decoded anew: an index has 16 bits, and a block fits behind the limit.
const PAGE_OPS: usize = 65_536 - 2 * (LONGEST as usize + 2);
/// Index of the block for an instruction that leaves the page.
const STRADDLE: u16 = 1;
/// Operations in all pages before all are dropped: 64 MiB.
const CACHE_OPS: usize = 4 << 20;
/// What a page costs beside its operations, in operations.
const PAGE_COST: usize = 512;

/// Operations that a page which is decoded anew keeps room for; part of what it costs.
const KEPT_OPS: usize = 64;

const OFFSETS: usize = ram::PAGE_SIZE as usize / 2;

/// What has been decoded of one physical page. See the module's documentation.
pub(crate) struct Page {
    ops: Vec<Op>,
    entries: Box<[u16; OFFSETS]>,
    generation: Option<Generation>,
}

impl Page {
    /// A page of which nothing is decoded.
    pub(crate) fn new() -> Self {
        let mut page = Self { ops: Vec::new(), entries: Box::new([0; OFFSETS]), generation: None };
        page.clear();
        page
    }

    fn clear(&mut self) {
        // What a page once needed is not kept, for the bound on the cache counts what is in use.
        if self.ops.capacity() > KEPT_OPS {
            self.ops = Vec::new();
        }
        self.ops.clear();
        self.entries.fill(0);
        // A header has the offset of its block: where the pc stands if the block is not entered after all.
        let straddle = Op { off: 0xffe, ..Op::new(Code::Straddle) };
        self.ops.extend([Op::new(Code::Header), Op { code: Code::Header, ..straddle }, straddle]);
    }

    /// The block at byte offset `off`; 0 if there is none.
    #[inline(always)]
    pub(crate) fn entry(&self, off: u64) -> u16 {
        self.entries[off as usize / 2 % OFFSETS]
    }

    /// Decodes the block at byte offset `off` from `code`, which is this page, and returns its index.
    pub(crate) fn decode(&mut self, code: CodePage<'_>, off: u16, ext: &Extensions) -> u16 {
        if self.ops.len() >= PAGE_OPS {
            self.clear();
        }
        if off == 0xffe && !is_short(code.half(off)) {
            self.entries[OFFSETS - 1] = STRADDLE;
            return STRADDLE;
        }
        let index = self.ops.len() as u16;
        let mut builder = Builder::new(&mut self.ops, off, LONGEST, ext);
        builder.run(code);
        self.entries[usize::from(off) / 2 % OFFSETS] = index;
        index
    }

    /// Makes this the page of one block that is never found by address: `most` instructions from `off` on.
    pub(crate) fn decode_once(&mut self, code: CodePage<'_>, off: u16, most: u8, ext: &Extensions) -> u16 {
        self.clear();
        let index = self.ops.len() as u16;
        let mut builder = Builder::new(&mut self.ops, off, most.min(LONGEST), ext);
        builder.run(code);
        index
    }

    /// As [`Page::decode_once`], for the one instruction `bits` of 32 bits.
    pub(crate) fn decode_bits(&mut self, bits: u32, off: u16, ext: &Extensions) -> u16 {
        self.clear();
        let index = self.ops.len() as u16;
        let mut builder = Builder::new(&mut self.ops, off, 1, ext);
        builder.push(decode_long(bits, ext), 4);
        builder.finish();
        index
    }
}

/// Writes one block.
struct Builder<'a> {
    ops: &'a mut Vec<Op>,
    header: usize,
    off: u16,
    count: u8,
    most: u8,
    ended: bool,
    ext: &'a Extensions,
}

impl<'a> Builder<'a> {
    fn new(ops: &'a mut Vec<Op>, off: u16, most: u8, ext: &'a Extensions) -> Self {
        let header = ops.len();
        ops.push(Op { off, ..Op::new(Code::Header) });
        Self { ops, header, off, count: 0, most, ended: false, ext }
    }

    fn run(&mut self, code: CodePage<'_>) {
        while !self.ended && self.count < self.most && self.off < 4096 {
            let half = code.half(self.off);
            if is_short(half) {
                self.push(decode_short(half, self.ext), 2);
            } else if self.off <= 4092 {
                let bits = u32::from(half) | u32::from(code.half(self.off + 2)) << 16;
                self.push(decode_long(bits, self.ext), 4);
            } else {
                break;
            }
        }
        self.finish();
    }

    /// Adds the instruction `op` at the current offset, `len` bytes long.
    fn push(&mut self, mut op: Op, len: u16) {
        // `left` counts down from the end; until `finish` it holds the number of instructions up to and with this.
        self.count += 1;
        op.off = self.off;
        op.left = self.count;
        let next = self.off + len;
        self.off = next;
        match op.code {
            Code::Auipc => op.imm += i64::from(op.off),
            Code::Jal => return self.jump(op, len),
            _ => {}
        }
        self.ended = op.ends_block();
        if self.fused(&mut op) {
            return;
        }
        if op.rd != SINK || !is_pure(op.code) {
            self.ops.push(op);
        }
    }

    /// `jal`: the block goes on at the target if that is in the page.
    fn jump(&mut self, op: Op, len: u16) {
        let target = i64::from(op.off) + op.disp();
        let aligned = self.ext.c || target % 4 == 0;
        if !(0..4096).contains(&target) || !aligned {
            self.ops.push(op);
            self.ended = true;
            return;
        }
        if op.rd != SINK {
            self.ops.push(Op { code: Code::Auipc, imm: i64::from(op.off + len), ..op });
        }
        self.off = target as u16;
    }

    /// Fuses `op` with what came before it, where the pair computes a constant. Returns whether nothing is left to add.
    fn fused(&mut self, op: &mut Op) -> bool {
        let header = self.header;
        let Some(at) = self.ops.len().checked_sub(1).filter(|&at| at > header) else { return false };
        let last = &mut self.ops[at];
        if last.left + 1 != op.left || last.rd != op.rs1 || last.rd == SINK {
            return false;
        }
        let constant = last.code == Code::Li;
        let relative = last.code == Code::Auipc;
        match op.code {
            Code::Addi if (constant || relative) && last.rd == op.rd => {
                last.imm = last.imm.wrapping_add(op.imm);
                last.left = op.left;
                true
            }
            Code::Addiw if constant && last.rd == op.rd => {
                last.imm = i64::from(last.imm.wrapping_add(op.imm) as i32);
                last.left = op.left;
                true
            }
            Code::Jalr if relative => {
                // The target is a constant distance away.
                let target = last.imm.wrapping_add(op.imm) & !1;
                let disp = target - i64::from(op.off);
                let Ok(disp) = i32::try_from(disp) else { return false };
                // If the jump may trap, what came before it has to be seen.
                let overwritten = last.rd == op.rd && (self.ext.c || target % 4 == 0);
                *op = Op { code: Code::Jal, imm: Op::unchained(disp), ..*op };
                if overwritten {
                    self.ops.pop();
                }
                false
            }
            Code::Srli if last.code == Code::Slli && last.rd == op.rd => {
                last.code = Code::ShlShr;
                last.imm |= op.imm << 8;
                last.left = op.left;
                true
            }
            _ => false,
        }
    }

    /// Ends the block and turns the counts around.
    fn finish(&mut self) {
        if !self.ended {
            let disp = i32::from(self.off);
            // A jump from offset 0, so that its displacement is the target's offset.
            self.ops.push(Op { imm: Op::unchained(disp), left: self.count, off: 0, ..Op::new(Code::Goto) });
        }
        let total = self.count;
        let header = self.header;
        for op in &mut self.ops[header + 1..] {
            op.left = total - op.left;
        }
        self.ops[header].left = total;
    }
}

/// Whether all that the operation does is to write its destination.
fn is_pure(code: Code) -> bool {
    (code as u16) < Code::Lb as u16
}

/// A place in a block.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    op: NonNull<Op>,
    page: NonNull<Page>,
}

impl Cursor {
    /// The header of block `index` of `page`.
    ///
    /// # Safety
    /// `page` is alive, and stays so and is not decoded into while the cursor is used; `index` is that of a header in it.
    #[inline(always)]
    pub(crate) unsafe fn new(page: NonNull<Page>, index: u16) -> Self {
        let mut cursor = Self { op: NonNull::dangling(), page };
        cursor.enter(index);
        cursor
    }

    /// Goes to the header of block `index` of the same page.
    #[inline(always)]
    pub(crate) fn enter(&mut self, index: u16) {
        // SAFETY: the page is alive and `index` is one of its headers (invariants of the module).
        unsafe {
            let ops = self.page.as_ref().ops.as_ptr().cast_mut();
            self.op = NonNull::new_unchecked(ops.add(index.into()));
        }
    }

    /// The operation that the cursor is on.
    #[inline(always)]
    pub(crate) fn op(&self) -> &Op {
        // SAFETY: the cursor is on a header or behind one and not beyond the block's end; nothing decodes into the page
        // while cursors to it are in use.
        unsafe { self.op.as_ref() }
    }

    /// Goes to the next operation of the block. Not to be called on one that ends it.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        // SAFETY: a block does not end before an operation that ends it.
        self.op = unsafe { self.op.add(1) };
    }

    /// The block at byte offset `off` of `page`, if it is decoded.
    #[inline(always)]
    pub(crate) fn find(page: NonNull<Page>, off: u64) -> Option<Self> {
        // SAFETY: pages come from fetch slots and cursors, which do not outlive them.
        let index = unsafe { page.as_ref() }.entry(off);
        // SAFETY: the same; what `entry` gives is a header.
        (index != 0).then(|| unsafe { Self::new(page, index) })
    }

    /// Chains the jump that the cursor is on to the block that `at` is at the header of, if it is one that can be
    /// chained, in the same page, and that is where it leads.
    pub(crate) fn chain_to(&mut self, at: Cursor) {
        let chainable = Code::Beq as u16..=Code::Goto as u16;
        if self.page != at.page || !chainable.contains(&(self.op().code as u16)) {
            return;
        }
        // A jump that trapped leads to the handler this time only.
        if i64::from(self.op().off) + self.op().disp() != i64::from(at.op().off) {
            return;
        }
        // SAFETY: both are in the operations of the page, which is alive; no reference to the operation is alive while
        // `self` is borrowed mutably.
        unsafe {
            let ops = self.page.as_ref().ops.as_ptr();
            let index = at.op.as_ptr().offset_from(ops) as u16;
            let op = self.op.as_mut();
            op.imm = op.imm & !0xffff | i64::from(index);
        }
    }
}

/// The decoded pages of one hart, by number of the page in RAM. Bounded: when full, everything is dropped.
pub(crate) struct PageCache {
    pages: HashMap<u32, NonNull<Page>>,
    ops: usize,
    /// Holds one block at a time, made for one execution.
    once: NonNull<Page>,
}

// SAFETY: the pages are owned by the cache alone.
unsafe impl Send for PageCache {}

impl PageCache {
    /// Nothing decoded.
    pub(crate) fn new() -> Self {
        Self { pages: HashMap::new(), ops: 0, once: NonNull::from(Box::leak(Box::new(Page::new()))) }
    }

    /// Whether so much is decoded that the owner should flush the fetch slots and [`clear`](Self::clear).
    pub(crate) fn is_full(&self) -> bool {
        self.ops > CACHE_OPS
    }

    /// Drops all pages. No cursor or fetch slot may lead to any.
    pub(crate) fn clear(&mut self) {
        for (_, page) in self.pages.drain() {
            // SAFETY: made by `Box::leak` in `page`, and dropped only here.
            drop(unsafe { Box::from_raw(page.as_ptr()) });
        }
        self.ops = 0;
    }

    /// The decoded form of page `index` of `ram`, empty if it is not current, and whether the page has become code by
    /// this.
    pub(crate) fn page(&mut self, ram: &Ram, index: u32) -> (NonNull<Page>, bool) {
        let cost = &mut self.ops;
        let pointer = *self.pages.entry(index).or_insert_with(|| {
            let page = Box::new(Page::new());
            *cost += PAGE_COST + page.ops.len();
            NonNull::from(Box::leak(page))
        });
        // SAFETY: the page is alive, and the caller of this `&mut self` method uses no cursor meanwhile.
        let page = unsafe { &mut *pointer.as_ptr() };
        let at = index as usize;
        if page.generation.is_some_and(|generation| ram.code().is_current(at, generation)) {
            return (pointer, false);
        }
        let (generation, new) = ram.code().decoded(at);
        let before = page.ops.len();
        page.clear();
        self.ops = (self.ops + page.ops.len()).saturating_sub(before);
        page.generation = Some(generation);
        (pointer, new)
    }

    /// The block at byte offset `off` of `page`, which `code` is, decoded if need be. Older cursors to the page are no longer
    /// used.
    pub(crate) fn block(
        &mut self,
        at: NonNull<Page>,
        code: CodePage<'_>,
        off: u16,
        ext: &Extensions,
    ) -> Cursor {
        // SAFETY: as in `page`.
        let page = unsafe { &mut *at.as_ptr() };
        let mut index = page.entry(off.into());
        if index == 0 {
            let before = page.ops.len();
            index = page.decode(code, off, ext);
            self.ops = (self.ops + page.ops.len()).saturating_sub(before);
        }
        // SAFETY: the page is in the cache, `index` is that of a header.
        unsafe { Cursor::new(at, index) }
    }

    /// A block of no page, for one execution, whose index `decode` gives. The last one is gone.
    pub(crate) fn once(&mut self, decode: impl FnOnce(&mut Page) -> u16) -> Cursor {
        // SAFETY: alive until the cache is dropped; the caller of this `&mut self` method uses no cursor meanwhile.
        let index = decode(unsafe { self.once.as_mut() });
        // SAFETY: as in `block`.
        unsafe { Cursor::new(self.once, index) }
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: made by `Box::leak` in `new`, and dropped only here.
        drop(unsafe { Box::from_raw(self.once.as_ptr()) });
    }
}

#[cfg(test)]
mod tests;
