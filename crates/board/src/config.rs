//! What a board is built from, and why it could not be.

use std::sync::Arc;

use clock::{CountedSource, GuestClock, HostClock, RtcOptions, TimerQueue};
use devices::SerialPort;
use devices::virtio::{EntropySource, VirtioDevice};
use ram::RamError;
use vmcore::{BusError, DevicePort, Identity};

use crate::image::{ImageError, ImageSource};
use crate::map;

/// The most harts that a machine may have, as in QEMU's `virt`.
pub const MAX_HARTS: u32 = 512;

/// Everything that a board is built from.
pub struct BoardConfig {
    /// Size of RAM in bytes, a multiple of the page size.
    pub ram_size: u64,
    /// Number of harts, 1 to [`MAX_HARTS`].
    pub harts: u32,
    /// The harts' extensions.
    pub extensions: hart::Extensions,
    /// Where hart 0 counts its instructions, when guest time is counted in them.
    pub count: Option<CountedSource>,
    /// `-bios`: firmware that runs in machine mode in place of the built-in SBI.
    pub firmware: Option<ImageSource>,
    /// `-kernel`: an Image or an ELF executable.
    pub kernel: Option<ImageSource>,
    /// `-initrd`.
    pub initrd: Option<ImageSource>,
    /// `-dtb`: in place of the generated device tree, all but `chosen`.
    pub device_tree: Option<ImageSource>,
    /// `-append`: the kernel's command line.
    pub bootargs: String,
    /// `-rtc`.
    pub rtc: RtcOptions,
    /// The host's local time less UTC in s, for `-rtc base=localtime`.
    pub local_offset_s: i32,
    /// Whether the D1's RTC is there, as rtc0. Kernels without its driver then find no rtc0.
    pub sun_rtc: bool,
    /// Whether the built-in SBI offers suspend to RAM.
    pub suspend: bool,
    /// What tells the machine apart from others that begin from the same saved state.
    pub identity: Identity,
    /// Whether the guest can look it up.
    pub vmgenid: GenerationId,
    /// What is plugged into each virtio slot, from slot 0 on, [`map::VIRTIO_SLOTS`](crate::map::VIRTIO_SLOTS) at most.
    pub virtio: Vec<Option<Box<dyn VirtioDevice>>>,
    /// The guest clock.
    pub clock: Arc<GuestClock>,
    /// The machine's timers, on that clock.
    pub timers: Arc<TimerQueue>,
    /// The host's clocks, for the RTCs.
    pub host: Arc<dyn HostClock>,
    /// Where devices post wakes.
    pub port: Arc<dyn DevicePort>,
    /// Back ends of the serial ports. There is one port; without a back end it leads nowhere.
    pub serial: Vec<Arc<dyn SerialPort>>,
    /// For the seed in the device tree.
    pub entropy: Arc<dyn EntropySource>,
}

/// The device of the generation id.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GenerationId {
    /// There is none.
    #[default]
    Absent,
    /// It shows the machine's.
    Present,
    /// It shows the machine's, which the user has given, and a guest that comes from elsewhere takes it on.
    Given,
}

/// Why a board could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The number of harts is out of range.
    #[error("invalid number of CPUs {0}: this machine has 1 to {MAX_HARTS}")]
    Harts(u32),
    /// There is no such memory.
    #[error("invalid RAM size: {0}")]
    Ram(#[from] RamError),
    /// More serial back ends than ports.
    #[error("{0} serial ports were asked for, this machine has 1")]
    Serial(usize),
    /// More virtio devices than slots.
    #[error("{0} virtio devices were asked for, this machine has slots for {slots}", slots = map::VIRTIO_SLOTS)]
    Virtio(usize),
    /// There is nothing to start.
    #[error("there is neither a kernel nor firmware to start")]
    NothingToStart,
    /// The command line cannot be put into a device tree.
    #[error("the kernel command line contains a NUL character")]
    Bootargs,
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No room for the generated device tree.
    #[error("memory is too small: {needed} bytes for the device tree do not fit above the kernel and initrd")]
    NoRoomForDeviceTree {
        /// Size of the device tree in bytes.
        needed: u64,
    },
    /// The device tree could not be generated.
    #[error("the device tree cannot be generated: {0}")]
    DeviceTree(vm_fdt::Error),
    /// Two devices want one address: a mistake in the memory map.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A device has no such interrupt: a mistake in the memory map.
    #[error(transparent)]
    Input(#[from] devices::NoSuchInput),
}
