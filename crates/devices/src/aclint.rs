//! Machine-mode timer and software interrupts: the ACLINT specification's MTIMER and MSWI, at the offsets of the SiFive
//! CLINT, where QEMU's `virt` machine has them.
//!
//! The values live in the harts' shared parts; this device is the window to them. `mtime` is guest time, which is never
//! set: writes to it are ignored (the specification lets a platform do so).

use std::sync::Mutex;

use runstate::{GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, Device, HartShared, Harts, LoadError, Section, mip};

use crate::lock;
use spec::*;

#[cfg(test)]
mod tests;

/// Offsets, ACLINT specification chapters 2 and 3.
mod spec {
    /// One word a hart, bit 0.
    pub const MSIP: u64 = 0;
    /// One double word a hart.
    pub const MTIMECMP: u64 = 0x4000;
    pub const MTIME: u64 = 0xbff8;
    pub const END: u64 = 0x1_0000;
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    msip: Vec<bool>,
    mtimecmp: Vec<u64>,
}

/// The device. See the module's documentation.
pub struct Aclint {
    name: String,
    harts: Harts,
    /// Makes the two halves of a 64-bit compare register one to other harts' halves.
    writing: Mutex<()>,
}

impl Aclint {
    /// Size of the register window in bytes.
    pub const WINDOW: u64 = END;
    const VERSION: u32 = 1;

    /// The device for `harts`.
    pub fn new(name: &str, harts: Harts) -> Self {
        Self { name: name.to_owned(), harts, writing: Mutex::new(()) }
    }

    fn hart(&self, index: u64) -> Option<&HartShared> {
        Some(self.harts.get(u32::try_from(index).ok()?)?)
    }

    fn checked(&self, section: &Section) -> Result<State, LoadError> {
        let state: State = section.decode(&self.name, Self::VERSION)?;
        if state.msip.len() != self.harts.len() || state.mtimecmp.len() != self.harts.len() {
            return Err(section.bad_value("number of harts"));
        }
        Ok(state)
    }

    fn time(&self) -> u64 {
        self.harts.get(0).map_or(0, |hart| hart.time())
    }

    /// The double word that holds offset `offset`.
    fn double(&self, offset: u64) -> u64 {
        match offset {
            MTIMECMP..MTIME => self.hart((offset - MTIMECMP) / 8).map_or(0, HartShared::mtimecmp),
            MTIME..END => self.time(),
            _ => 0,
        }
    }
}

impl Device for Aclint {
    fn name(&self) -> &str {
        &self.name
    }

    /// Takes accesses of 32 bits, and of 64 bits to the timer's registers; others read 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        match (offset, size) {
            (MSIP..MTIMECMP, AccessSize::Word) => {
                let hart = self.hart((offset - MSIP) / 4);
                u64::from(hart.is_some_and(|hart| hart.pending() & mip::MSIP != 0))
            }
            (MTIMECMP..END, AccessSize::Double) => self.double(offset),
            (MTIMECMP..END, AccessSize::Word) => self.double(offset) >> (offset % 8 * 8) & 0xffff_ffff,
            _ => 0,
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        let _writing = lock(&self.writing);
        match (offset, size) {
            (MSIP..MTIMECMP, AccessSize::Word) => {
                self.hart((offset - MSIP) / 4)?.set_pending(mip::MSIP, value & 1 != 0);
            }
            (MTIMECMP..MTIME, AccessSize::Double) => {
                self.hart((offset - MTIMECMP) / 8)?.set_mtimecmp(value);
            }
            (MTIMECMP..MTIME, AccessSize::Word) => {
                let hart = self.hart((offset - MTIMECMP) / 8)?;
                let shift = offset % 8 * 8;
                let others = hart.mtimecmp() & !(0xffff_ffff << shift);
                hart.set_mtimecmp(others | value << shift);
            }
            _ => {}
        }
        None
    }

    fn reset(&self) {
        let _writing = lock(&self.writing);
        for hart in self.harts.iter() {
            hart.set_pending(mip::MSIP, false);
            hart.set_mtimecmp(u64::MAX);
        }
    }

    fn stop(&self) {}

    fn start(&self) -> Option<WakeSource> {
        None
    }

    fn sleep(&self) -> Option<WakeSource> {
        None
    }

    fn wake(&self) {}

    fn save(&self) -> Section {
        let state = State {
            msip: self.harts.iter().map(|hart| hart.pending() & mip::MSIP != 0).collect(),
            mtimecmp: self.harts.iter().map(|hart| hart.mtimecmp()).collect(),
        };
        Section::encode(&self.name, Self::VERSION, &state)
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let state = self.checked(section)?;
        let _writing = lock(&self.writing);
        for ((hart, msip), mtimecmp) in self.harts.iter().zip(state.msip).zip(state.mtimecmp) {
            hart.set_pending(mip::MSIP, msip);
            hart.set_mtimecmp(mtimecmp);
        }
        Ok(())
    }
}
