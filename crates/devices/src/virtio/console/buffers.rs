//! Bytes in and out of the driver's chains of buffers, which are untrusted and read once.

use ram::Memory;
use vm_memory::Bytes;

use crate::virtio::Chain;

/// Descriptors of one chain that are looked at.
const DESCRIPTORS_A_CHAIN: usize = 64;
/// Bytes of one chain that are looked at. Linux makes none longer than 64 KiB.
const BYTES_A_CHAIN: usize = 1 << 20;
/// Bytes that are moved at once.
const CHUNK: usize = 512;

/// The parts of a chain that the driver wrote (`written`) or those that it wants written, as address and length, in all no
/// more than [`BYTES_A_CHAIN`].
fn parts(chain: Chain<'_>, written: bool) -> impl Iterator<Item = (vm_memory::GuestAddress, usize)> {
    let mut left = BYTES_A_CHAIN;
    chain.take(DESCRIPTORS_A_CHAIN).filter(move |part| part.is_write_only() != written).map(move |part| {
        let len = (part.len() as usize).min(left);
        left -= len;
        (part.addr(), len)
    })
}

/// Hands the bytes that the driver wrote, from the one numbered `skip` on, to `take`, which gives how many it took. Gives
/// the number of the first byte that was not taken; `None` when all were, or the rest is not in RAM.
pub(super) fn read(
    memory: &Memory,
    chain: Chain<'_>,
    skip: usize,
    mut take: impl FnMut(&[u8]) -> usize,
) -> Option<usize> {
    let mut at = 0;
    for (addr, len) in parts(chain, true) {
        let end = at + len;
        while at < end {
            let here = end - at;
            if at + here <= skip {
                at = end;
                break;
            }
            let from = at.max(skip);
            let mut bytes = [0; CHUNK];
            let bytes = bytes.get_mut(..(end - from).min(CHUNK))?;
            let addr = addr.0.checked_add((from + len - end) as u64)?;
            memory.read_slice(bytes, vm_memory::GuestAddress(addr)).ok()?;
            let taken = take(bytes).min(bytes.len());
            at = from + taken;
            if taken < bytes.len() {
                return Some(at);
            }
        }
    }
    None
}

/// Fills the buffers that the driver wants written with what `give` puts into the slice that it gets, until it puts less
/// than that; gives how many bytes were written.
pub(super) fn write(memory: &Memory, chain: Chain<'_>, mut give: impl FnMut(&mut [u8]) -> usize) -> usize {
    let mut written = 0;
    for (addr, len) in parts(chain, false) {
        let mut at = 0;
        while at < len {
            let mut bytes = [0; CHUNK];
            let Some(room) = bytes.get_mut(..(len - at).min(CHUNK)) else { return written };
            let Some(addr) = addr.0.checked_add(at as u64) else { return written };
            let wanted = room.len();
            let given = give(room).min(wanted);
            let Some(given_bytes) = room.get(..given) else { return written };
            if memory.write_slice(given_bytes, vm_memory::GuestAddress(addr)).is_err() {
                return written;
            }
            written += given;
            at += given;
            if given < wanted {
                return written;
            }
        }
    }
    written
}
