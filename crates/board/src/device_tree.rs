//! The device tree that describes the machine to its guest, generated to match [`map`](crate::map).
//!
//! Bindings: Devicetree Specification 0.4; Linux `Documentation/devicetree/bindings` for the names of the devices.

use devices::Finisher;
use vm_fdt::{Error, FdtWriter};

use crate::map::{self, Place};

/// What the guest is told about this boot.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) bootargs: &'a str,
    /// Guest physical addresses of the first byte and of the first byte behind.
    pub(crate) initrd: Option<(u64, u64)>,
    pub(crate) seed: [u8; SEED],
}

/// Bytes of the seed for the guest's random generator: as many as Linux's takes in at once.
pub(crate) const SEED: usize = 32;

/// What the machine has.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) ram_size: u64,
    pub(crate) harts: u32,
    pub(crate) extensions: hart::Extensions,
    pub(crate) sun_rtc: bool,
    pub(crate) vmgenid: bool,
    /// Firmware of the guest's own runs, which finds its power controls here. The built-in one needs none, and offers the
    /// kernel only one way to each end.
    pub(crate) firmware: bool,
}

/// Frequency of the UART's clock in Hz. Nothing depends on it but the divisors that drivers compute.
const UART_CLOCK_HZ: u32 = 3_686_400;
/// Frequency of the D1's crystal in Hz.
const SUN_CLOCK_HZ: u32 = 24_000_000;

/// Interrupt numbers at a hart: `scause` codes (privileged specification, table 22).
mod cause {
    pub const MACHINE_SOFTWARE: u32 = 3;
    pub const MACHINE_TIMER: u32 = 7;
    pub const SUPERVISOR_EXTERNAL: u32 = 9;
    pub const MACHINE_EXTERNAL: u32 = 11;
}

const PLIC_PHANDLE: u32 = 1;
const SUN_CLOCK_PHANDLE: u32 = 2;
const TEST_PHANDLE: u32 = 3;
/// The interrupt controller of hart 0; the others follow.
const HART_PHANDLE: u32 = 0x10;

/// Generates the device tree blob.
pub(crate) fn generate(machine: &Description, chosen: &Chosen<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_string("compatible", "riscv-virtio")?;
    fdt.property_string("model", "riscv-virtio,dormouse")?;
    let node = fdt.begin_node("chosen")?;
    chosen_properties(&mut fdt, chosen)?;
    fdt.property_string("stdout-path", &path("serial", map::UART))?;
    fdt.end_node(node)?;
    aliases(&mut fdt, machine)?;
    let node = fdt.begin_node(&format!("memory@{:x}", map::RAM_BASE))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[map::RAM_BASE, machine.ram_size])?;
    fdt.end_node(node)?;
    cpus(&mut fdt, machine)?;
    soc(&mut fdt, machine)?;
    if machine.sun_rtc {
        let node = fdt.begin_node("clock-24m")?;
        fdt.property_string("compatible", "fixed-clock")?;
        fdt.property_u32("#clock-cells", 0)?;
        fdt.property_u32("clock-frequency", SUN_CLOCK_HZ)?;
        fdt.property_phandle(SUN_CLOCK_PHANDLE)?;
        fdt.end_node(node)?;
    }
    if machine.firmware {
        power_control(&mut fdt, "poweroff", "syscon-poweroff", Finisher::PASS)?;
        power_control(&mut fdt, "reboot", "syscon-reboot", Finisher::RESET)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

/// The properties of `chosen` that change with the boot.
pub(crate) fn chosen_properties(fdt: &mut FdtWriter, chosen: &Chosen<'_>) -> Result<(), Error> {
    fdt.property_string("bootargs", chosen.bootargs)?;
    if let Some((start, end)) = chosen.initrd {
        fdt.property_u64("linux,initrd-start", start)?;
        fdt.property_u64("linux,initrd-end", end)?;
    }
    fdt.property("rng-seed", &chosen.seed)
}

/// The names that [`chosen_properties`] writes.
pub(crate) const CHOSEN_NAMES: [&str; 4] = ["bootargs", "linux,initrd-start", "linux,initrd-end", "rng-seed"];

fn path(name: &str, place: Place) -> String {
    format!("/soc/{}", unit(name, place))
}

fn unit(name: &str, place: Place) -> String {
    format!("{name}@{:x}", place.base)
}

/// Both RTCs are numbered, or the first driver takes number 0 whatever the alias of the other says.
fn aliases(fdt: &mut FdtWriter, machine: &Description) -> Result<(), Error> {
    let node = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", &path("serial", map::UART))?;
    let rtcs: &[Place] =
        if machine.sun_rtc { &[map::SUN_RTC, map::GOLDFISH_RTC] } else { &[map::GOLDFISH_RTC] };
    for (index, place) in rtcs.iter().enumerate() {
        fdt.property_string(&format!("rtc{index}"), &path("rtc", *place))?;
    }
    fdt.end_node(node)
}

fn cpus(fdt: &mut FdtWriter, machine: &Description) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    // The specification of the property has 32 bits for frequencies below 4 GHz.
    fdt.property_u32("timebase-frequency", clock::TIMEBASE_HZ as u32)?;
    let extensions: Vec<String> = machine.extensions.names().into_iter().map(str::to_owned).collect();
    for id in 0..machine.harts {
        let cpu = fdt.begin_node(&format!("cpu@{id:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_u32("reg", id)?;
        fdt.property_string("status", "okay")?;
        fdt.property_string("compatible", "riscv")?;
        fdt.property_string("riscv,isa-base", "rv64i")?;
        fdt.property_string_list("riscv,isa-extensions", extensions.clone())?;
        fdt.property_string("riscv,isa", &machine.extensions.isa_string())?;
        fdt.property_string("mmu-type", machine.extensions.mmu_type())?;
        let controller = fdt.begin_node("interrupt-controller")?;
        fdt.property_u32("#address-cells", 0)?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_string("compatible", "riscv,cpu-intc")?;
        fdt.property_phandle(HART_PHANDLE + id)?;
        fdt.end_node(controller)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn soc(fdt: &mut FdtWriter, machine: &Description) -> Result<(), Error> {
    let soc = fdt.begin_node("soc")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_string("compatible", "simple-bus")?;
    fdt.property_null("ranges")?;
    interrupt_controllers(fdt, machine.harts)?;
    device(fdt, "test", map::TEST, &["sifive,test1", "sifive,test0", "syscon"], |fdt| {
        fdt.property_phandle(TEST_PHANDLE)
    })?;
    device(fdt, "serial", map::UART, &["ns16550a"], |fdt| {
        fdt.property_u32("clock-frequency", UART_CLOCK_HZ)
    })?;
    device(fdt, "rtc", map::GOLDFISH_RTC, &["google,goldfish-rtc"], |_| Ok(()))?;
    if machine.sun_rtc {
        let compatible = ["allwinner,sun20i-d1-rtc", "allwinner,sun50i-r329-rtc"];
        device(fdt, "rtc", map::SUN_RTC, &compatible, |fdt| {
            fdt.property_u32("#clock-cells", 1)?;
            fdt.property_array_u32("clocks", &[SUN_CLOCK_PHANDLE; 3])?;
            fdt.property_string_list("clock-names", ["bus", "hosc", "ahb"].map(str::to_owned).to_vec())
        })?;
    }
    device(fdt, "pvpanic-mmio", map::PVPANIC, &["qemu,pvpanic-mmio"], |_| Ok(()))?;
    device(fdt, "watchdog", map::WATCHDOG, &["allwinner,sun4i-a10-wdt"], |fdt| {
        // The binding wants it and says 24 MHz; Linux does not look.
        if machine.sun_rtc { fdt.property_u32("clocks", SUN_CLOCK_PHANDLE) } else { Ok(()) }
    })?;
    if machine.vmgenid {
        device(fdt, "rng", map::VMGENID, &["microsoft,vmgenid"], |_| Ok(()))?;
    }
    for index in 0..map::VIRTIO_SLOTS {
        device(fdt, "virtio_mmio", map::virtio(index), &["virtio,mmio"], |_| Ok(()))?;
    }
    device(fdt, "virtio_mmio", map::POWER_BUTTON, &["virtio,mmio"], |_| Ok(()))?;
    fdt.end_node(soc)
}

fn interrupt_controllers(fdt: &mut FdtWriter, harts: u32) -> Result<(), Error> {
    let wires = |causes: [u32; 2]| -> Vec<u32> {
        (0..harts).flat_map(|id| causes.map(|cause| [HART_PHANDLE + id, cause])).flatten().collect()
    };
    device(fdt, "plic", map::PLIC, &["sifive,plic-1.0.0", "riscv,plic0"], |fdt| {
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.property_u32("#address-cells", 0)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("riscv,ndev", devices::Plic::SOURCES)?;
        let wires = wires([cause::MACHINE_EXTERNAL, cause::SUPERVISOR_EXTERNAL]);
        fdt.property_array_u32("interrupts-extended", &wires)?;
        fdt.property_phandle(PLIC_PHANDLE)
    })?;
    device(fdt, "clint", map::CLINT, &["sifive,clint0", "riscv,clint0"], |fdt| {
        let wires = wires([cause::MACHINE_SOFTWARE, cause::MACHINE_TIMER]);
        fdt.property_array_u32("interrupts-extended", &wires)
    })
}

/// A write of `value` to the test finisher ends the machine.
fn power_control(fdt: &mut FdtWriter, name: &str, compatible: &str, value: u32) -> Result<(), Error> {
    let node = fdt.begin_node(name)?;
    fdt.property_string("compatible", compatible)?;
    fdt.property_u32("regmap", TEST_PHANDLE)?;
    fdt.property_u32("offset", 0)?;
    fdt.property_u32("value", value)?;
    fdt.end_node(node)
}

/// A node of `soc`: where it is, what it is, its interrupt, and `more`.
fn device(
    fdt: &mut FdtWriter,
    name: &str,
    place: Place,
    compatible: &[&str],
    more: impl FnOnce(&mut FdtWriter) -> Result<(), Error>,
) -> Result<(), Error> {
    let node = fdt.begin_node(&unit(name, place))?;
    fdt.property_string_list("compatible", compatible.iter().map(|&name| name.to_owned()).collect())?;
    fdt.property_array_u64("reg", &[place.base, place.size])?;
    if place.irq != 0 {
        fdt.property_u32("interrupts", place.irq)?;
        fdt.property_u32("interrupt-parent", PLIC_PHANDLE)?;
    }
    more(fdt)?;
    fdt.end_node(node)
}
