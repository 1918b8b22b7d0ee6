//! The memory-mapped devices of the machine, found by guest physical address.

use std::sync::Arc;

use runstate::GuestRequest;

use crate::device::{AccessSize, Device};

/// The access met no device, or is not of a shape that devices take: the hart raises an access fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccessFault;

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The window is empty, reaches beyond the address space or overlaps another.
    #[error("window {base:#x}+{size:#x} of '{name}' is empty, too large or overlaps another device")]
    Window {
        /// Name of the device.
        name: String,
        /// First guest physical address.
        base: u64,
        /// Size in bytes.
        size: u64,
    },
}

/// One device's window.
#[derive(Clone)]
pub struct Mapping {
    /// First guest physical address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// The device.
    pub device: Arc<dyn Device>,
}

/// All windows, in ascending order, without overlap. Immutable once the machine is built.
#[derive(Clone, Default)]
pub struct Bus {
    mappings: Vec<Mapping>,
}

impl Bus {
    /// A bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `base` for `size` bytes.
    pub fn map(&mut self, base: u64, size: u64, device: Arc<dyn Device>) -> Result<(), BusError> {
        let at = self.mappings.partition_point(|mapping| mapping.base < base);
        let clear_below =
            at == 0 || self.mappings.get(at - 1).is_none_or(|below| below.base + below.size <= base);
        let end = base.checked_add(size);
        let clear_above = match (end, self.mappings.get(at)) {
            (Some(end), Some(above)) => end <= above.base,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if size == 0 || !clear_below || !clear_above {
            return Err(BusError::Window { name: device.name().to_owned(), base, size });
        }
        self.mappings.insert(at, Mapping { base, size, device });
        Ok(())
    }

    /// The windows, ascending.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Reads `size` bytes at guest physical address `addr`.
    pub fn read(&self, addr: u64, size: AccessSize) -> Result<u64, AccessFault> {
        let (device, offset) = self.find(addr, size).ok_or(AccessFault)?;
        Ok(device.read(offset, size) & size.mask())
    }

    /// Writes the low `size` bytes of `value` at guest physical address `addr`. The request that the write makes of the
    /// machine's life, if any, is the caller's to post.
    pub fn write(
        &self,
        addr: u64,
        size: AccessSize,
        value: u64,
    ) -> Result<Option<GuestRequest>, AccessFault> {
        let (device, offset) = self.find(addr, size).ok_or(AccessFault)?;
        Ok(device.write(offset, size, value & size.mask()))
    }

    fn find(&self, addr: u64, size: AccessSize) -> Option<(&Arc<dyn Device>, u64)> {
        let at = self.mappings.partition_point(|mapping| mapping.base <= addr).checked_sub(1)?;
        let mapping = self.mappings.get(at)?;
        let offset = addr - mapping.base;
        let fits = offset < mapping.size && size.bytes() <= mapping.size - offset;
        (fits && addr.is_multiple_of(size.bytes())).then_some((&mapping.device, offset))
    }
}
