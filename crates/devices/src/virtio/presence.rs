//! Memory that is still on its way from another host. A device is called with locks held and cannot be taken back to where
//! it was, so it is given a chain only when everything is here that it touches for it: the rings, the descriptors, the
//! buffers. What is not is sent for, and the device is called again when it has come.
//!
//! A driver that changes a chain after it was made available may still have the device come upon memory that is not here;
//! the access fails then, as one outside of RAM does.

use std::sync::atomic::Ordering;

use ram::Memory;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// Descriptors of one chain that are looked at; no device looks at more.
const MOST_DESCRIPTORS: usize = 512;

/// Whether the rings of `queue` are here.
pub(super) fn rings_are_here(queue: &Queue, memory: &Memory) -> bool {
    let size = usize::from(queue.size());
    let rings = [
        (queue.desc_table(), DESCRIPTOR * size),
        (queue.avail_ring(), 6 + 2 * size),
        (queue.used_ring(), 6 + 8 * size),
    ];
    // All of them are sent for at once.
    rings.into_iter().fold(true, |all, (at, len)| memory.is_here(at, len) && all)
}

/// Whether the next chain of `queue` is here, if there is one. Whatever is wrong with it the device finds out.
pub(super) fn next_is_here(queue: &Queue, memory: &Memory) -> bool {
    if !rings_are_here(queue, memory) {
        return false;
    }
    let Ok(available) = queue.avail_idx(memory, Ordering::Acquire) else { return true };
    let next = queue.next_avail();
    if available.0 == next || queue.size() == 0 {
        return true;
    }
    let slot = queue.avail_ring().saturating_add(4 + 2 * u64::from(next % queue.size()));
    let Ok(head) = memory.read_obj::<u16>(GuestAddress(slot)) else { return true };
    let mut left = MOST_DESCRIPTORS;
    chain_is_here(memory, queue.desc_table(), queue.size(), head, &mut left, true)
}

/// Whether the chain is here that begins with descriptor `next` of the `count` that are at `table`, which is.
fn chain_is_here(
    memory: &Memory,
    table: u64,
    count: u16,
    mut next: u16,
    left: &mut usize,
    may_refer: bool,
) -> bool {
    let mut here = true;
    while next < count && *left > 0 {
        *left -= 1;
        let at = table.saturating_add(u64::from(next) * DESCRIPTOR as u64);
        let Ok(bytes) = memory.read_obj::<[u8; DESCRIPTOR]>(GuestAddress(at)) else { return here };
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        let addr = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let flags = u32::from(u16::from_le_bytes([f0, f1]));
        here &= memory.is_here(addr, len as usize);
        if flags & VRING_DESC_F_INDIRECT != 0 {
            // It ends the chain (section 2.7.5.3.1).
            let count = u16::try_from(len as usize / DESCRIPTOR).unwrap_or(u16::MAX);
            return here && (!may_refer || chain_is_here(memory, addr, count, 0, left, false));
        }
        if flags & VRING_DESC_F_NEXT == 0 {
            break;
        }
        next = u16::from_le_bytes([n0, n1]);
    }
    here
}
