//! One request of the driver (virtio specification 1.2, section 5.2.6): read once from its buffers, checked, and from then
//! on independent of what the guest does to them, but for the data itself.

use block::{Operation, SECTOR};
use ram::Memory;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};

use crate::virtio::{Broken, Chain};

/// Buffers of data in one request at most, as the configuration says.
pub(super) const MAX_SEGMENTS: usize = 254;
/// Bytes of one buffer of data at most, as the configuration says.
pub(super) const MAX_SEGMENT: u32 = 64 << 10;
/// Bytes of data in one request at most: what follows from both.
pub(super) const MAX_BYTES: u64 = MAX_SEGMENTS as u64 * MAX_SEGMENT as u64;
/// Sectors that one discard or write of zeroes covers at most, as QEMU's.
pub(super) const MAX_RANGE_SECTORS: u32 = 0x3f_ffff;
/// Type, reserved, sector.
const HEADER: usize = 16;
/// Sector, number of sectors, flags: what a discard and a write of zeroes carry.
const RANGE: usize = 16;
/// The flag of a write of zeroes that lets the device give the space back.
const UNMAP: u32 = 1;
/// Bytes of the device's name.
pub(super) const SERIAL: usize = 20;

/// A buffer of the guest: address and length in bytes.
type Segment = (u64, u32);

/// What is asked. Places are in bytes and lie inside the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) enum Wish {
    Read { offset: u64 },
    Write { offset: u64 },
    Flush,
    Discard { offset: u64, len: u64 },
    WriteZeroes { offset: u64, len: u64, unmap: bool },
}

/// A request that the host is asked for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The chain's first descriptor, by which it is given back.
    pub(super) head: u16,
    pub(super) wish: Wish,
    /// Buffers of data.
    data: Vec<Segment>,
    /// Where the status byte goes.
    status: u64,
}

/// What became of a chain.
pub(super) enum Parsed {
    /// The host is to be asked.
    Ask(Request),
    /// It is answered at once: status, and bytes of data written.
    Answered { head: u16, status: u8, written: u32, at: u64, refused: Option<block::Kind> },
}

/// What a request is checked against.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Size of the disk in bytes.
    pub(super) size: u64,
    pub(super) read_only: bool,
    pub(super) serial: &'a [u8; SERIAL],
}

/// Reads and checks a request. One that has no header or no place for its status breaks the device, as there is nobody
/// to tell.
pub(super) fn parse(chain: Chain<'_>, memory: &Memory, limits: Limits<'_>) -> Result<Parsed, Broken> {
    let head = chain.head_index();
    let (mut readable, mut writable) = buffers(chain)?;
    let header: [u8; HEADER] = take_front(&mut readable, memory)?;
    let status = take_last_byte(&mut writable).ok_or(Broken::InvalidChain)?;
    let (kind, rest) = header.split_at(8);
    let (kind, sector) = (word(kind), double(rest));
    let count = |kind: block::Kind, wish: Result<(Wish, Vec<Segment>), u8>| match wish {
        Ok((wish, data)) => Parsed::Ask(Request { head, wish, data, status }),
        Err(code) => Parsed::Answered { head, status: code, written: 0, at: status, refused: Some(kind) },
    };
    let done = |status_code, written| Parsed::Answered {
        head,
        status: status_code,
        written,
        at: status,
        refused: None,
    };
    Ok(match kind {
        VIRTIO_BLK_T_IN => {
            let place = limits.place(sector, &writable, memory, Permissions::Write);
            count(block::Kind::Read, place.map(|offset| (Wish::Read { offset }, writable)))
        }
        VIRTIO_BLK_T_OUT => {
            let place = limits.place(sector, &readable, memory, Permissions::Read);
            let place = if limits.read_only { Err(IOERR) } else { place };
            count(block::Kind::Write, place.map(|offset| (Wish::Write { offset }, readable)))
        }
        VIRTIO_BLK_T_FLUSH => count(block::Kind::Flush, Ok((Wish::Flush, Vec::new()))),
        VIRTIO_BLK_T_GET_ID => match scatter(&writable, limits.serial, memory) {
            Ok(written) => done(OK, written),
            Err(_) => done(IOERR, 0),
        },
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
            let discard = kind == VIRTIO_BLK_T_DISCARD;
            let counted = if discard { block::Kind::Unmap } else { block::Kind::Write };
            count(counted, limits.range(discard, readable, memory).map(|wish| (wish, Vec::new())))
        }
        _ => done(UNSUPP, 0),
    })
}

pub(super) const OK: u8 = VIRTIO_BLK_S_OK as u8;
pub(super) const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;

impl Limits<'_> {
    /// Where data of these buffers lies on the disk, in bytes, if it does.
    fn place(&self, sector: u64, data: &[Segment], memory: &Memory, access: Permissions) -> Result<u64, u8> {
        let len = total(data);
        let reachable =
            data.iter().all(|(at, len)| memory.check_range(GuestAddress(*at), *len as usize, access));
        if !reachable || len > MAX_BYTES || !len.is_multiple_of(SECTOR) {
            return Err(IOERR);
        }
        self.inside(sector, len / SECTOR)
    }

    fn inside(&self, sector: u64, sectors: u64) -> Result<u64, u8> {
        let end = sector.checked_add(sectors).filter(|end| *end <= self.size / SECTOR);
        end.map(|_| sector * SECTOR).ok_or(IOERR)
    }

    /// The one range of a discard or of a write of zeroes.
    fn range(&self, discard: bool, mut readable: Vec<Segment>, memory: &Memory) -> Result<Wish, u8> {
        let range: [u8; RANGE] = take_front(&mut readable, memory).map_err(|_| IOERR)?;
        let (sector, rest) = range.split_at(8);
        let (count, flags) = rest.split_at(4);
        let (count, flags) = (word(count), word(flags));
        if self.read_only || !readable.is_empty() || count > MAX_RANGE_SECTORS {
            return Err(IOERR);
        }
        let known = if discard { 0 } else { UNMAP };
        if flags & !known != 0 {
            return Err(UNSUPP);
        }
        let (offset, len) = (self.inside(double(sector), count.into())?, u64::from(count) * SECTOR);
        Ok(match discard {
            true => Wish::Discard { offset, len },
            false => Wish::WriteZeroes { offset, len, unmap: flags & UNMAP != 0 },
        })
    }
}

impl Request {
    /// What the host is asked; the data of a write is read from the guest now. `None`: it cannot be read.
    pub(super) fn operation(&self, memory: &Memory, durable: bool) -> Option<Operation> {
        Some(match self.wish {
            Wish::Read { offset } => Operation::Read { offset, len: usize::try_from(self.bytes()).ok()? },
            Wish::Write { offset } => {
                let mut data = vec![0; usize::try_from(self.bytes()).ok()?];
                let mut rest = &mut data[..];
                for (at, len) in &self.data {
                    let (here, behind) = rest.split_at_mut_checked(*len as usize)?;
                    memory.read_slice(here, GuestAddress(*at)).ok()?;
                    rest = behind;
                }
                Operation::Write { offset, data, durable }
            }
            Wish::Flush => Operation::Flush,
            Wish::Discard { offset, len } => Operation::Discard { offset, len },
            Wish::WriteZeroes { offset, len, unmap } => {
                Operation::WriteZeroes { offset, len, unmap, durable }
            }
        })
    }

    /// Bytes of data.
    pub(super) fn bytes(&self) -> u64 {
        total(&self.data)
    }

    /// Where it touches guest memory.
    pub(super) fn places(&self) -> impl Iterator<Item = Segment> + '_ {
        self.data.iter().copied().chain([(self.status, 1)])
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.wish, Wish::Read { .. })
    }

    /// Gives a read's bytes to the guest, and the status; returns how many bytes were written in all.
    pub(super) fn complete(&self, mut status: u8, bytes: &[u8], memory: &Memory) -> Result<u32, Broken> {
        let mut written = 0;
        if self.is_read() && status == OK {
            match scatter(&self.data, bytes, memory) {
                Ok(count) => written = count,
                Err(_) => status = IOERR,
            }
        }
        put_status(self.status, status, memory)?;
        Ok(written + 1)
    }

    /// Whether a saved request can be one of this disk.
    pub(super) fn is_valid(&self, limits: Limits<'_>, queue: u16) -> bool {
        let sectors = |offset: u64, len: u64| {
            let whole = offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR);
            whole && limits.inside(offset / SECTOR, len / SECTOR).is_ok()
        };
        let fits = match self.wish {
            Wish::Read { offset } | Wish::Write { offset } => {
                self.bytes() <= MAX_BYTES && sectors(offset, self.bytes())
            }
            Wish::Flush => self.data.is_empty(),
            Wish::Discard { offset, len } | Wish::WriteZeroes { offset, len, .. } => {
                let most = u64::from(MAX_RANGE_SECTORS) * SECTOR;
                self.data.is_empty() && len <= most && sectors(offset, len)
            }
        };
        let writes = !matches!(self.wish, Wish::Read { .. } | Wish::Flush);
        fits && self.head < queue && self.data.len() <= MAX_SEGMENTS + 1 && !(writes && limits.read_only)
    }
}

/// Writes a status byte.
pub(super) fn put_status(at: u64, status: u8, memory: &Memory) -> Result<(), Broken> {
    memory.write_obj(status, GuestAddress(at)).map_err(Broken::GuestMemory)
}

/// The buffers that the device reads and those that it writes, which come behind. Empty ones are left out.
fn buffers(chain: Chain<'_>) -> Result<(Vec<Segment>, Vec<Segment>), Broken> {
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    for descriptor in chain {
        if readable.len() + writable.len() > MAX_SEGMENTS + 1 {
            return Err(Broken::InvalidChain);
        }
        let segment = (descriptor.addr().0, descriptor.len());
        match (descriptor.is_write_only(), segment.1) {
            (_, 0) => {}
            (true, _) => writable.push(segment),
            (false, _) if writable.is_empty() => readable.push(segment),
            (false, _) => return Err(Broken::InvalidChain),
        }
    }
    Ok((readable, writable))
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|(_, len)| u64::from(*len)).sum()
}

/// Reads and removes the first `N` bytes, which may lie in several buffers.
fn take_front<const N: usize>(segments: &mut Vec<Segment>, memory: &Memory) -> Result<[u8; N], Broken> {
    let mut bytes = [0; N];
    let mut rest = &mut bytes[..];
    let mut used = 0;
    for (at, len) in segments.iter_mut() {
        let count = rest.len().min(*len as usize);
        let (here, behind) = rest.split_at_mut(count);
        memory.read_slice(here, GuestAddress(*at)).map_err(Broken::GuestMemory)?;
        rest = behind;
        // Not beyond the address space: these bytes were just read.
        *at = at.wrapping_add(count as u64);
        *len -= count as u32;
        if *len > 0 {
            break;
        }
        used += 1;
    }
    if !rest.is_empty() {
        return Err(Broken::InvalidChain);
    }
    segments.drain(..used);
    Ok(bytes)
}

/// Removes the last byte and gives its address.
fn take_last_byte(segments: &mut Vec<Segment>) -> Option<u64> {
    let (at, len) = segments.last_mut()?;
    *len -= 1;
    let last = at.checked_add(u64::from(*len))?;
    if *len == 0 {
        segments.pop();
    }
    Some(last)
}

/// Writes `bytes` into the buffers, as far as there is room for them.
fn scatter(segments: &[Segment], mut bytes: &[u8], memory: &Memory) -> Result<u32, Broken> {
    let mut written = 0;
    for (at, len) in segments {
        let (here, rest) = bytes.split_at(bytes.len().min(*len as usize));
        memory.write_slice(here, GuestAddress(*at)).map_err(Broken::GuestMemory)?;
        written += here.len() as u32;
        bytes = rest;
    }
    Ok(written)
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn double(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
