//! The bytes of RAM as the host has them, for whole chunks: copied word by word with relaxed atomics, because harts and
//! devices may write them meanwhile.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();
/// Bytes that are looked at between two looks at what they came to.
const STRIDE: usize = 512;

/// Where RAM lies in the host's address space. Ranges that are not inside, or not whole words, are refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    at: *mut u8,
    len: usize,
}

// SAFETY: an address; what it leads to is accessed by atomics alone, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes at `at`.
    ///
    /// # Safety
    /// They are an anonymous private mapping that outlives this value and its copies, readable and writable, and everybody
    /// else accesses it atomically or through `vm_memory`, and lives with pages of it being replaced at any time.
    pub(crate) unsafe fn new(at: *mut u8, len: usize) -> Self {
        Self { at, len }
    }

    /// Length in bytes.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Host address of byte `offset`.
    #[inline]
    pub(crate) fn host(self, offset: usize) -> Option<*mut u8> {
        (offset < self.len).then(|| self.at.wrapping_add(offset))
    }

    fn words(&self, offset: usize, len: usize) -> Option<&[AtomicU64]> {
        let inside = offset <= self.len && len <= self.len - offset;
        if !inside || !offset.is_multiple_of(WORD) || !len.is_multiple_of(WORD) {
            return None;
        }
        // SAFETY: inside the mapping and aligned, for a mapping is so to a page and the offset to a word; bytes that others
        // write atomically may be seen as atomics.
        Some(unsafe { std::slice::from_raw_parts(self.at.add(offset).cast(), len / WORD) })
    }

    /// Copies the bytes from `offset` on out; `false`: there are not so many.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> bool {
        let Some(words) = self.words(offset, bytes.len()) else { return false };
        for (to, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        true
    }

    /// Copies `bytes` to `offset`; `false`: there is no room for them.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(words) = self.words(offset, bytes.len()) else { return false };
        for (from, word) in bytes.chunks_exact(WORD).zip(words) {
            let mut value = [0; WORD];
            value.copy_from_slice(from);
            word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
        true
    }

    /// Whether all `len` bytes from `offset` on are zero; looks no further than the first that are not.
    pub(crate) fn is_zero(&self, offset: usize, len: usize) -> bool {
        let Some(words) = self.words(offset, len) else { return false };
        words
            .chunks(STRIDE / WORD)
            .all(|stride| stride.iter().fold(0, |all, word| all | word.load(Ordering::Relaxed)) == 0)
    }

    /// Makes whole host pages, none of which is [of a file](Self::map_file), zero and gives their memory back to the host.
    pub(crate) fn discard(&self, offset: usize, len: usize) {
        let Some(words) = self.words(offset, len) else { return };
        // SAFETY: inside a mapping that is anonymous and private there, so that this does what stores of zero would; no
        // references other than to atomics lead into it.
        let done = unsafe { libc::madvise(words.as_ptr().cast_mut().cast(), len, libc::MADV_DONTNEED) };
        if done != 0 {
            // Locked memory is not given back.
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// The same for pages that may be of a file.
    pub(crate) fn discard_mapped(&self, offset: usize, len: usize) {
        if self.map(offset, len, libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0).is_err()
            && let Some(words) = self.words(offset, len)
        {
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// Has whole host pages hold what `file` has from `at` on, privately: the host reads a page when it is first touched,
    /// shares it with whoever else has it from there, and copies it when it is first written.
    pub(crate) fn map_file(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
        at: u64,
    ) -> io::Result<()> {
        self.map(offset, len, libc::MAP_NORESERVE, file.as_raw_fd(), at)
    }

    fn map(&self, offset: usize, len: usize, flags: i32, file: i32, at: u64) -> io::Result<()> {
        let words = self.words(offset, len).ok_or(io::ErrorKind::InvalidInput)?;
        let at = libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (to, prot) = (words.as_ptr().cast_mut().cast(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: inside the mapping, pages of which may be replaced as `new`'s caller has promised; the new ones are private,
        // readable and writable as well, and stay until the whole is unmapped.
        let mapped =
            unsafe { libc::mmap(to, len, prot, flags | libc::MAP_PRIVATE | libc::MAP_FIXED, file, at) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
