//! Physical memory protection: 16 entries, granularity 4 bytes (privileged specification, 3.7).

use serde::{Deserialize, Serialize};

use crate::trap::Mode;

/// Entries.
pub(crate) const ENTRIES: usize = 16;

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;
const MODE_SHIFT: u32 = 3;
const LOCKED: u8 = 0x80;
/// The bits of a configuration that exist.
const CONFIG: u8 = LOCKED | 3 << MODE_SHIFT | READ | WRITE | EXECUTE;
const ADDRESS: u64 = (1 << 54) - 1;

/// What an access wants to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

impl Access {
    fn bit(self) -> u8 {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
            Self::Execute => EXECUTE,
        }
    }
}

/// The registers, and the address ranges that they mean.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pmp {
    config: [u8; ENTRIES],
    address: [u64; ENTRIES],
    /// First and last byte that each entry matches.
    #[serde(skip)]
    ranges: [Option<(u64, u64)>; ENTRIES],
}

impl Default for Pmp {
    fn default() -> Self {
        Self { config: [0; ENTRIES], address: [0; ENTRIES], ranges: [None; ENTRIES] }
    }
}

impl Pmp {
    /// As firmware leaves it: all of memory open to all modes.
    pub(crate) fn open() -> Self {
        let mut pmp = Self::default();
        pmp.address[0] = ADDRESS;
        pmp.config[0] = 3 << MODE_SHIFT | READ | WRITE | EXECUTE;
        pmp.update();
        pmp
    }

    /// Register `pmpaddr`.
    pub(crate) fn address(&self, entry: usize) -> u64 {
        self.address.get(entry).copied().unwrap_or(0)
    }

    /// Register `pmpcfg` number `register` (even): eight entries' configurations.
    pub(crate) fn config(&self, register: usize) -> u64 {
        (0..8).fold(0, |value, at| {
            let entry = self.config.get(register * 4 + at).copied().unwrap_or(0);
            value | u64::from(entry) << (8 * at)
        })
    }

    /// Writes register `pmpaddr`. A locked entry, and the base of a locked TOR entry, ignore it.
    pub(crate) fn set_address(&mut self, entry: usize, value: u64) {
        let locked = |at: usize| self.config.get(at).is_some_and(|config| config & LOCKED != 0);
        let base_of_locked = locked(entry + 1) && self.config[entry + 1] >> MODE_SHIFT & 3 == 1;
        if locked(entry) || base_of_locked {
            return;
        }
        if let Some(slot) = self.address.get_mut(entry) {
            *slot = value & ADDRESS;
            self.update();
        }
    }

    /// Writes register `pmpcfg` number `register` (even). Locked entries keep theirs, and so do entries that would get
    /// the reserved combination of write without read.
    pub(crate) fn set_config(&mut self, register: usize, value: u64) {
        for at in 0..8 {
            let Some(slot) = self.config.get_mut(register * 4 + at) else { continue };
            let new = (value >> (8 * at)) as u8 & CONFIG;
            if *slot & LOCKED == 0 && new & (READ | WRITE) != WRITE {
                *slot = new;
            }
        }
        self.update();
    }

    /// Computes the ranges anew: after a load, or a write.
    pub(crate) fn update(&mut self) {
        for entry in 0..ENTRIES {
            let top = self.address[entry];
            self.ranges[entry] = match self.config[entry] >> MODE_SHIFT & 3 {
                1 => {
                    let base = if entry == 0 { 0 } else { self.address[entry - 1] << 2 };
                    (top << 2).checked_sub(1).filter(|&last| last >= base).map(|last| (base, last))
                }
                2 => Some((top << 2, top << 2 | 3)),
                3 => {
                    // The trailing ones give the size: none are 8 bytes.
                    let ones = top.trailing_ones().min(54);
                    let mask = (1_u64 << (ones + 3)) - 1;
                    let base = (top << 2) & !mask;
                    Some((base, base | mask))
                }
                _ => None,
            };
        }
    }

    /// Whether the saved registers could have been written.
    pub(crate) fn is_valid(&self) -> bool {
        self.address.iter().all(|address| address & !ADDRESS == 0)
            && self.config.iter().all(|config| config & !CONFIG == 0 && config & (READ | WRITE) != WRITE)
    }

    /// Whether `mode` may make an access to all of `len` bytes at `addr`.
    pub(crate) fn allows(&self, addr: u64, len: u64, access: Access, mode: Mode) -> bool {
        let last = addr.saturating_add(len - 1);
        for (range, config) in self.ranges.iter().zip(&self.config) {
            let Some((low, high)) = *range else { continue };
            if last < low || addr > high {
                continue;
            }
            // The lowest entry that matches any byte decides, and has to match all.
            if addr < low || last > high {
                return false;
            }
            return mode == Mode::Machine && config & LOCKED == 0 || config & access.bit() != 0;
        }
        mode == Mode::Machine
    }

    /// Whether every byte of the page at `addr` is judged alike, so that one answer holds for all of it.
    pub(crate) fn is_uniform(&self, addr: u64) -> bool {
        let (first, last) = (addr & !0xfff, addr | 0xfff);
        for range in &self.ranges {
            let Some((low, high)) = *range else { continue };
            if last < low || first > high {
                continue;
            }
            return first >= low && last <= high;
        }
        true
    }
}

#[cfg(test)]
mod tests;
