//! What an image can do.

use std::io;

/// Bytes of a sector, in which sizes and places are given to guests.
pub const SECTOR: u64 = 512;

/// An image. Every call may block and comes from several threads at once. Ranges lie inside of [`BlockBackend::size`].
pub trait BlockBackend: Send + Sync {
    /// Size in bytes, a multiple of [`SECTOR`].
    fn size(&self) -> u64;

    /// Bytes that the image takes on the host.
    fn allocated(&self) -> io::Result<u64>;

    /// Fills all of `bytes` from `offset` on.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was written before.
    fn flush(&self) -> io::Result<()>;

    /// What these bytes hold matters no more; gives their space back if that can be done.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// These bytes are zero from now on; `unmap` gives their space back if that can be done.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;
}
