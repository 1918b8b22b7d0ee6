//! The memory map and the interrupt numbers: QEMU's `virt` machine, and devices that it does not have.

use devices::{
    Aclint, Finisher, GoldfishRtc, Plic, PowerButton, Pvpanic, Sun20iRtc, Uart, Vmgenid, Watchdog,
    virtio::MmioSlot,
};

/// A device's window, and its input at the interrupt controller if it has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// First guest physical address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// Input of the interrupt controller; 0 for none.
    pub irq: u32,
}

/// The test finisher.
pub const TEST: Place = Place { base: 0x10_0000, size: Finisher::WINDOW, irq: 0 };
/// The goldfish RTC.
pub const GOLDFISH_RTC: Place = Place { base: 0x10_1000, size: GoldfishRtc::WINDOW, irq: 11 };
/// The D1's RTC, at an address and on an input that QEMU's `virt` machine leaves free.
pub const SUN_RTC: Place = Place { base: 0x10_2000, size: Sun20iRtc::WINDOW, irq: 12 };
/// The power button: a virtio slot of its own, beside those that `-device` fills.
pub const POWER_BUTTON: Place = Place { base: 0x10_3000, size: PowerButton::WINDOW, irq: 13 };
/// The panic device.
pub const PVPANIC: Place = Place { base: 0x10_4000, size: Pvpanic::WINDOW, irq: 0 };
/// The watchdog.
pub const WATCHDOG: Place = Place { base: 0x10_5000, size: Watchdog::WINDOW, irq: 0 };
/// The generation id.
pub const VMGENID: Place = Place { base: 0x10_6000, size: Vmgenid::WINDOW, irq: 14 };
/// Machine-mode timer and software interrupts.
pub const CLINT: Place = Place { base: 0x200_0000, size: Aclint::WINDOW, irq: 0 };
/// The interrupt controller.
pub const PLIC: Place = Place { base: 0xc00_0000, size: Plic::WINDOW, irq: 0 };
/// The serial port.
pub const UART: Place = Place { base: 0x1000_0000, size: Uart::WINDOW, irq: 10 };
/// Number of virtio slots.
pub const VIRTIO_SLOTS: u32 = 8;
/// First guest physical address of RAM.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Size in bytes of the pages by which Linux maps its own image.
pub const HUGE_PAGE: u64 = 2 << 20;
/// Where a kernel goes that is started by firmware, from the base of RAM: a huge page above the firmware.
pub const KERNEL_OFFSET: u64 = 0x20_0000;
/// How far from the kernel an initrd is at most that firmware must not meet.
pub const FAR_FROM_FIRMWARE: u64 = 512 << 20;
/// The device tree ends below this, so that 32-bit addressing and early page tables reach it (as in QEMU).
pub const DEVICE_TREE_LIMIT: u64 = 0xc000_0000;

/// Virtio slot `index`.
pub const fn virtio(index: u32) -> Place {
    Place { base: 0x1000_1000 + index as u64 * MmioSlot::WINDOW, size: MmioSlot::WINDOW, irq: 1 + index }
}
