//! The `virt` machine: memory map, device tree, wiring, and the loading of kernels.
//!
//! ```text
//!   BoardConfig ──► Board::build ──► Ram, Harts, devices on a Bus, Plic ──► harts
//!                        │
//!                        └── images read, recognised, placed on paper (Layout)
//!   reset ──► Machine::place_images ──► copies them into RAM, device tree with a new seed
//! ```
//!
//! Invariants:
//! * whatever can be wrong with an image is found when the board is built: [`Machine::place_images`] repeats what was
//!   checked and does no I/O;
//! * every image lies in RAM and none overlaps another;
//! * the device tree describes exactly what is on the bus ([`map`]).

#![forbid(unsafe_code)]

mod config;
mod device_tree;
mod image;
mod kernel;
mod layout;
pub mod map;
mod user_tree;
mod wakes;
mod wiring;

use std::sync::Arc;

use clock::WallClock;
use devices::virtio::EntropySource;
use devices::{Plic, Uart, Vmgenid};
use hart::{Hart, HartConfig};
use ram::Ram;
use sbi::Sbi;
use vmcore::{
    BoardInfo, BootEntry, Bus, Device, Firmware, Harts, Identity, Machine, PlaceError, Renewal, Vcpu,
    WakeState,
};

use device_tree::{Chosen, Description, SEED};
use image::{CopyError, Image, ImageError, ImageFault};
use kernel::Segment;
use layout::{BOOT_INFO, Layout, Planner};
use wakes::Wakers;
use wiring::{UartConsole, Wiring};

pub use config::{BoardConfig, BoardError, GenerationId, MAX_HARTS};
pub use image::{ImageError as LoadImageError, ImageFault as LoadImageFault, ImageSource, Role};

/// The harts, in the order of their ids.
pub type Vcpus = Vec<Box<dyn Vcpu>>;

/// The machine. See the crate's documentation.
pub struct Board {
    ram: Arc<Ram>,
    harts: Harts,
    bus: Arc<Bus>,
    devices: Vec<Arc<dyn Device>>,
    uart: Arc<Uart>,
    plic: Arc<Plic>,
    /// rtc0, rtc1.
    wall_clocks: Vec<Arc<WallClock>>,
    vmgenid: Arc<Vmgenid>,
    description: Description,
    bootargs: String,
    user_tree: Option<Vec<u8>>,
    layout: Layout,
    entropy: Arc<dyn EntropySource>,
    suspend: bool,
    wakers: Wakers,
}

impl Board {
    /// Builds the machine and its harts. Nothing executes yet, and guest memory is empty until
    /// [`Machine::place_images`].
    pub fn build(mut config: BoardConfig) -> Result<(Arc<Self>, Vcpus), BoardError> {
        check(&config)?;
        let ram = Arc::new(Ram::new(map::RAM_BASE, config.ram_size)?);
        let description = Description {
            ram_size: config.ram_size,
            harts: config.harts,
            extensions: config.extensions,
            sun_rtc: config.sun_rtc,
            vmgenid: config.vmgenid != GenerationId::Absent,
            firmware: config.firmware.is_some(),
        };
        let user_tree = read_user_tree(&config)?;
        let layout = plan(&config, &description, user_tree.as_deref())?;
        let harts = Harts::new(config.harts, &config.clock, &config.timers);
        let virtio = std::mem::take(&mut config.virtio);
        let wiring = Wiring::new(&config, virtio, &ram, &harts)?;

        let suspend = config.suspend && config.firmware.is_none();
        let console = Arc::new(UartConsole(Arc::clone(&wiring.uart)));
        let firmware = config.firmware.is_none().then(|| {
            Arc::new(Sbi::new(harts.clone(), Arc::clone(&ram), console, suspend)) as Arc<dyn Firmware>
        });
        let Wiring { bus, devices, uart, plic, wall_clocks, vmgenid, wakers } = wiring;
        let bus = Arc::new(bus);
        let vcpus = harts
            .iter()
            .map(|shared| {
                let hart = Hart::new(HartConfig {
                    shared: Arc::clone(shared),
                    harts: harts.clone(),
                    ram: Arc::clone(&ram),
                    bus: Arc::clone(&bus),
                    firmware: firmware.clone(),
                    extensions: config.extensions,
                    // With counted time there is one hart.
                    count: config.count.clone(),
                });
                Box::new(hart) as Box<dyn Vcpu>
            })
            .collect();
        let (bootargs, entropy) = (config.bootargs, config.entropy);
        let board = Self {
            ram,
            harts,
            bus,
            devices,
            uart,
            plic,
            wall_clocks,
            vmgenid,
            description,
            bootargs,
            user_tree,
            layout,
            entropy,
            suspend,
            wakers,
        };
        Ok((Arc::new(board), vcpus))
    }

    /// Guest memory.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// The devices by address.
    pub fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// The serial port, for its back end's input.
    pub fn uart(&self) -> &Arc<Uart> {
        &self.uart
    }

    /// The interrupt controller.
    pub fn plic(&self) -> &Arc<Plic> {
        &self.plic
    }

    /// The clocks that the RTCs show: rtc0, then rtc1 if there are two.
    pub fn wall_clocks(&self) -> &[Arc<WallClock>] {
        &self.wall_clocks
    }

    /// Whether the guest can suspend to RAM.
    pub fn suspend_supported(&self) -> bool {
        self.suspend
    }

    /// The device tree as the guest would find it after a reset now, with a seed of its own: for `-dumpdtb`.
    pub fn device_tree(&self) -> Result<Vec<u8>, BoardError> {
        let chosen = chosen(&self.bootargs, self.layout.initrd.as_ref(), Some(&*self.entropy));
        make_tree(&self.description, self.user_tree.as_deref(), &chosen)
    }
}

fn check(config: &BoardConfig) -> Result<(), BoardError> {
    if config.harts == 0 || config.harts > MAX_HARTS {
        return Err(BoardError::Harts(config.harts));
    }
    if config.serial.len() > 1 {
        return Err(BoardError::Serial(config.serial.len()));
    }
    if config.virtio.len() > map::VIRTIO_SLOTS as usize {
        return Err(BoardError::Virtio(config.virtio.len()));
    }
    if config.kernel.is_none() && config.firmware.is_none() {
        return Err(BoardError::NothingToStart);
    }
    if config.bootargs.contains('\0') {
        return Err(BoardError::Bootargs);
    }
    Ok(())
}

// ---- images ----

fn read_user_tree(config: &BoardConfig) -> Result<Option<Vec<u8>>, BoardError> {
    let Some(source) = &config.device_tree else { return Ok(None) };
    let image = Image::read(Role::DeviceTree, source, config.ram_size)?;
    let blob = image.bytes(0, usize::try_from(image.len()).unwrap_or(usize::MAX))?;
    let chosen = chosen(&config.bootargs, None, None);
    if let Err(error) = user_tree::rewrite(&blob, &chosen) {
        let wanted = "a flattened device tree";
        return Err(BoardError::Image(image.error(match error {
            user_tree::TreeError::Magic => ImageFault::Foreign { found: "something else", wanted },
            user_tree::TreeError::Truncated { expected, found } => ImageFault::Truncated { expected, found },
            user_tree::TreeError::Invalid(what) => ImageFault::Invalid { what },
        })));
    }
    Ok(Some(blob))
}

fn chosen<'a>(
    bootargs: &'a str,
    initrd: Option<&Segment>,
    entropy: Option<&dyn EntropySource>,
) -> Chosen<'a> {
    let mut seed = [0; SEED];
    if let Some(entropy) = entropy {
        entropy.fill(&mut seed);
    }
    Chosen { bootargs, initrd: initrd.map(|segment| (segment.addr, segment.addr + segment.size)), seed }
}

fn make_tree(
    description: &Description,
    user_tree: Option<&[u8]>,
    chosen: &Chosen<'_>,
) -> Result<Vec<u8>, BoardError> {
    match user_tree.map(|blob| user_tree::rewrite(blob, chosen)) {
        // It was rewritten once already, with values of the same size.
        Some(Ok(tree)) => Ok(tree),
        Some(Err(_)) | None => device_tree::generate(description, chosen).map_err(BoardError::DeviceTree),
    }
}

/// Reads the images and finds a place for each.
fn plan(
    config: &BoardConfig,
    description: &Description,
    user_tree: Option<&[u8]>,
) -> Result<Layout, BoardError> {
    let read = |role, source: &Option<ImageSource>| -> Result<Option<Arc<Image>>, ImageError> {
        source.as_ref().map(|source| Image::read(role, source, config.ram_size)).transpose()
    };
    let base = map::RAM_BASE;
    let mut planner = Planner::new(base, config.ram_size);
    let firmware =
        read(Role::Firmware, &config.firmware)?.map(|image| kernel::firmware(&image, base)).transpose()?;
    if let Some(program) = &firmware {
        planner.program(Role::Firmware, program)?;
    }
    let forced = firmware.as_ref().map(|_| base + map::KERNEL_OFFSET);
    let kernel =
        read(Role::Kernel, &config.kernel)?.map(|image| kernel::kernel(&image, base, forced)).transpose()?;
    if let Some(program) = &kernel {
        planner.program(Role::Kernel, program)?;
    }
    let above = kernel.as_ref().map_or(base + map::KERNEL_OFFSET, |program| program.end());
    let initrd = read(Role::Initrd, &config.initrd)?
        // Linux keeps the whole last huge page of its image for itself.
        .map(|image| {
            let above = above.next_multiple_of(map::HUGE_PAGE);
            // Firmware may move the device tree behind the kernel (OpenSBI's fw_jump does, to 32 MiB from it), and cannot
            // know of the initrd: far away it is safe. QEMU chooses the same place.
            let far = base + map::KERNEL_OFFSET + (config.ram_size / 2).min(map::FAR_FROM_FIRMWARE);
            let from = if firmware.is_some() { above.max(far) } else { above };
            planner.initrd(&image, from).or_else(|_no_room| planner.initrd(&image, above))
        })
        .transpose()?;
    let tree = make_tree(description, user_tree, &chosen(&config.bootargs, initrd.as_ref(), None))?;
    let needed = tree.len() as u64;
    let device_tree =
        planner.device_tree(needed).map_err(|_no_room| BoardError::NoRoomForDeviceTree { needed })?;
    let boot_info = device_tree + needed.next_multiple_of(8);
    Ok(Layout { firmware, kernel, initrd, device_tree, boot_info })
}

/// What `fw_dynamic` firmware is told: OpenSBI, `include/sbi/fw_dynamic.h`, version 2.
fn boot_info(next: u64) -> [u8; BOOT_INFO as usize] {
    const MAGIC: u64 = 0x4942_534f;
    const VERSION: u64 = 2;
    const SUPERVISOR: u64 = 1;
    const NO_OPTIONS: u64 = 0;
    const BOOT_HART: u64 = 0;
    let mut info = [0; BOOT_INFO as usize];
    for (field, value) in
        info.chunks_exact_mut(8).zip([MAGIC, VERSION, next, SUPERVISOR, NO_OPTIONS, BOOT_HART])
    {
        field.copy_from_slice(&value.to_le_bytes());
    }
    info
}

impl Machine for Board {
    fn harts(&self) -> &Harts {
        &self.harts
    }

    fn devices(&self) -> &[Arc<dyn Device>] {
        &self.devices
    }

    fn board(&self) -> BoardInfo {
        let extensions = self.description.extensions;
        let mmu = ["sv39", "sv48"].into_iter().take(if extensions.sv48 { 2 } else { 1 });
        BoardInfo {
            isa: extensions.names().into_iter().chain(mmu).map(str::to_owned).collect(),
            built_in_sbi: !self.description.firmware,
            suspend: self.suspend,
            ..BoardInfo::new("virt", Some(&self.ram), &self.harts, &self.devices)
        }
    }

    fn ram(&self) -> Option<&Arc<Ram>> {
        Some(&self.ram)
    }

    fn wake_sources(&self) -> Vec<WakeState> {
        if self.suspend { self.wakers.states() } else { Vec::new() }
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.vmgenid.identity())
    }

    fn renew(&self, renewal: Renewal) {
        self.vmgenid.renew(renewal);
    }

    fn place_images(&self) -> Result<BootEntry, PlaceError> {
        let failed = |what, source: Box<dyn std::error::Error + Send + Sync>| PlaceError { what, source };
        let Layout { firmware, kernel, initrd, device_tree, boot_info: info } = &self.layout;
        let programs = firmware.iter().chain(kernel).flat_map(|program| &program.segments);
        for segment in programs.chain(initrd) {
            self.place(segment).map_err(|error| failed(segment.image.role.as_str(), Box::new(error)))?;
        }
        let tree = self.device_tree().map_err(|error| failed("device tree", Box::new(error)))?;
        self.ram.write(*device_tree, &tree).map_err(|error| failed("device tree", Box::new(error)))?;
        let device_tree = *device_tree;
        match (firmware, kernel) {
            (Some(firmware), kernel) => {
                let next = kernel.as_ref().map_or(0, |kernel| kernel.entry);
                let written = self.ram.write(*info, &boot_info(next));
                written.map_err(|error| failed("boot information", Box::new(error)))?;
                Ok(BootEntry::Machine { pc: firmware.entry, device_tree, info: *info })
            }
            (None, Some(kernel)) => Ok(BootEntry::Supervisor { pc: kernel.entry, device_tree }),
            (None, None) => Err(failed("kernel", Box::new(BoardError::NothingToStart))),
        }
    }
}

impl Board {
    fn place(&self, segment: &Segment) -> Result<(), CopyError> {
        segment.image.place(&self.ram, segment.offset, segment.len, segment.addr)?;
        if segment.clear {
            image::clear(&self.ram, segment.addr + segment.len, segment.size - segment.len)?;
        }
        Ok(())
    }
}
