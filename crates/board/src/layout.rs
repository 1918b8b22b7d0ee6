//! Where each image goes in RAM, decided once and checked before the machine runs.
//!
//! ```text
//!   RAM base        +2 MiB                                    min(end of RAM, 3 GiB)
//!   │ firmware │      │ kernel, BSS included │ initrd │    …    │ device tree │ boot info │
//! ```
//!
//! The device tree is as high as addressing allows, rounded down to a huge page if there is room for that. The
//! initrd begins a huge page: Linux keeps all of the one that its image ends in.

use std::sync::Arc;

use ram::PAGE_SIZE;

use crate::image::{Image, ImageError, ImageFault, Role};
use crate::kernel::{Program, Segment};
use crate::map;

/// Bytes of the boot information that `fw_dynamic` firmware gets, behind the device tree.
pub(crate) const BOOT_INFO: u64 = 64;

/// Places, all inside RAM and apart from one another.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) firmware: Option<Program>,
    pub(crate) kernel: Option<Program>,
    pub(crate) initrd: Option<Segment>,
    pub(crate) device_tree: u64,
    pub(crate) boot_info: u64,
}

/// A place taken.
struct Taken {
    role: Role,
    from: u64,
    to: u64,
}

/// RAM with what is taken of it.
pub(crate) struct Planner {
    base: u64,
    end: u64,
    taken: Vec<Taken>,
}

impl Planner {
    pub(crate) fn new(base: u64, size: u64) -> Self {
        Self { base, end: base + size, taken: Vec::new() }
    }

    /// Takes the places that a program names itself.
    pub(crate) fn program(&mut self, role: Role, program: &Program) -> Result<(), ImageError> {
        for Segment { image, addr, size, .. } in &program.segments {
            let (addr, size) = (*addr, *size);
            let to = addr.checked_add(size).filter(|to| addr >= self.base && *to <= self.end);
            let outside = ImageFault::OutsideRam { addr, size, ram_base: self.base, ram_end: self.end };
            let to = to.ok_or_else(|| image.error(outside))?;
            if let Some(other) = self.taken.iter().find(|taken| addr < taken.to && taken.from < to) {
                return Err(image.error(ImageFault::Overlap { addr, size, other: other.role }));
            }
            self.taken.push(Taken { role, from: addr, to });
        }
        Ok(())
    }

    /// First page above everything that is taken.
    fn free_from(&self) -> u64 {
        let top = self.taken.iter().map(|taken| taken.to).max().unwrap_or(self.base);
        top.next_multiple_of(PAGE_SIZE).min(self.end)
    }

    /// Places the initrd on the first page above the programs that is not below `above`.
    pub(crate) fn initrd(&mut self, image: &Arc<Image>, above: u64) -> Result<Segment, ImageError> {
        let (size, from) = (image.len(), self.free_from().max(above));
        if size > self.end.saturating_sub(from) {
            return Err(image.error(ImageFault::NoRoom { size, from, to: self.end }));
        }
        self.taken.push(Taken { role: Role::Initrd, from, to: from + size });
        Ok(Segment { image: Arc::clone(image), offset: 0, len: size, addr: from, size, clear: false })
    }

    /// Finds the place of a device tree of `size` bytes, with the boot information behind it. Gives the free range when
    /// there is none.
    pub(crate) fn device_tree(&self, size: u64) -> Result<u64, ImageFault> {
        let size = size.next_multiple_of(8) + BOOT_INFO;
        let limit = self.end.min(map::DEVICE_TREE_LIMIT.max(self.base));
        // What is taken above the limit does not matter.
        let below = self.taken.iter().filter(|taken| taken.from < limit);
        let from = below.map(|taken| taken.to).max().unwrap_or(self.base).next_multiple_of(PAGE_SIZE);
        let no_room = ImageFault::NoRoom { size, from: from.min(limit), to: limit };
        let highest = limit.checked_sub(size).filter(|addr| *addr >= from).ok_or(no_room)?;
        let huge = highest & !(map::HUGE_PAGE - 1);
        Ok(if huge >= from { huge } else { highest & !(PAGE_SIZE - 1) })
    }
}
