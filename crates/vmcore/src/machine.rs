//! The machine as the engine drives it.

use std::sync::Arc;

use ram::Ram;

use crate::board::BoardInfo;
use crate::device::Device;
use crate::harts::Harts;
use crate::identity::{Identity, Renewal};
use crate::wakes::WakeState;

/// How the machine comes out of reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootEntry {
    /// Hart 0 starts in supervisor mode under the built-in firmware; the others are STOPPED.
    Supervisor {
        /// First pc, a physical address.
        pc: u64,
        /// Physical address of the device tree, for a1.
        device_tree: u64,
    },
    /// All harts start in machine mode, as firmware of the guest's own expects.
    Machine {
        /// First pc, a physical address.
        pc: u64,
        /// Physical address of the device tree, for a1.
        device_tree: u64,
        /// Physical address of the boot information of `fw_dynamic` firmware, for a2.
        info: u64,
    },
}

/// Why the boot images could not be placed.
#[derive(Debug, thiserror::Error)]
#[error("cannot place the {what} in guest memory")]
pub struct PlaceError {
    /// Which image.
    pub what: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Everything of a machine but its life, its time and its harts' threads, which are the engine's.
pub trait Machine: Send + Sync {
    /// The shared parts of the harts.
    fn harts(&self) -> &Harts;

    /// The devices, in the order in which they start; they stop in the reverse order.
    fn devices(&self) -> &[Arc<dyn Device>];

    /// What may wake the guest from a suspend to RAM, each source once, without management, which always may. Only looks:
    /// the guest notices nothing. A machine that cannot suspend has none.
    fn wake_sources(&self) -> Vec<WakeState> {
        Vec::new()
    }

    /// What is fixed of the machine, as far as its guest can tell.
    fn board(&self) -> BoardInfo;

    /// Guest memory, if the machine has any.
    fn ram(&self) -> Option<&Arc<Ram>>;

    /// What tells the machine apart from others that began from the same saved state. None: nothing does.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// Gives the machine another identity, of which its guest learns when it goes on. Called while the machine is held,
    /// when a saved state has been taken over.
    fn renew(&self, _renewal: Renewal) {}

    /// Copies kernel, initrd and device tree (with a new seed) into memory, as after power-on. Called with all harts
    /// parked. Images were read and checked when the machine was built, so that this does not do I/O.
    fn place_images(&self) -> Result<BootEntry, PlaceError>;
}
