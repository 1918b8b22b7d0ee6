//! The devices of the machine: made, connected to the interrupt controller and put on the bus.

use std::sync::Arc;

use clock::WallClock;
use devices::virtio::{MmioSlot, VirtioDevice};
use devices::{
    Aclint, Finisher, GoldfishRtc, Plic, PowerButton, Pvpanic, SerialPort, Sun20iRtc, Uart, Vmgenid,
    WakeInput, Watchdog,
};
use ram::Ram;
use runstate::WakeSource;
use sbi::DebugConsole;
use vmcore::{Bus, Device, Harts, IrqLine};

use crate::config::{BoardConfig, BoardError, GenerationId};
use crate::map::{self, Place};
use crate::wakes::Wakers;

/// What input on the serial port is called as a wake.
const SERIAL: WakeSource = WakeSource::Serial(0);

/// The devices, connected.
pub(crate) struct Wiring {
    pub(crate) bus: Bus,
    pub(crate) devices: Vec<Arc<dyn Device>>,
    pub(crate) uart: Arc<Uart>,
    pub(crate) plic: Arc<Plic>,
    pub(crate) wall_clocks: Vec<Arc<WallClock>>,
    pub(crate) vmgenid: Arc<Vmgenid>,
    pub(crate) wakers: Wakers,
}

impl Wiring {
    pub(crate) fn new(
        config: &BoardConfig,
        virtio: Vec<Option<Box<dyn VirtioDevice>>>,
        ram: &Arc<Ram>,
        harts: &Harts,
    ) -> Result<Self, BoardError> {
        // rtc0 is what Linux takes its time from and wakes by; the D1's if there is one.
        let goldfish_number = u8::from(config.sun_rtc);
        let named =
            |place: Place, source, judged_by_device| WakeInput { input: place.irq, source, judged_by_device };
        let named = [
            named(map::SUN_RTC, WakeSource::Rtc(0), false),
            named(map::GOLDFISH_RTC, WakeSource::Rtc(goldfish_number), true),
            named(map::UART, SERIAL, false),
            named(map::POWER_BUTTON, WakeSource::PowerButton, true),
        ];
        let named = if config.sun_rtc { &named[..] } else { &named[1..] };
        let plic = Arc::new(Plic::new("plic", harts.clone(), Arc::clone(&config.port), named));
        let line = |place: Place| plic.line(place.irq);
        let wall = || {
            let (host, guest) = (Arc::clone(&config.host), Arc::clone(&config.clock));
            Arc::new(WallClock::new(config.rtc, config.local_offset_s, host, guest))
        };
        let serial = config.serial.first().map_or_else(|| Arc::new(Nowhere) as _, Arc::clone);
        let uart = Uart::new("serial0", line(map::UART)?, serial);
        let uart = Arc::new(uart.reporting(SERIAL, Arc::clone(&config.port)));

        let mut bus = Bus::new();
        let mut devices: Vec<Arc<dyn Device>> = Vec::new();
        let mut wall_clocks = Vec::new();
        let mut sun_rtc = None;
        let mut add = |place: Place, device: Arc<dyn Device>| {
            devices.push(Arc::clone(&device));
            bus.map(place.base, place.size, device)
        };
        add(map::TEST, Arc::new(Finisher::new("test")))?;
        if config.sun_rtc {
            let clock = wall();
            wall_clocks.push(Arc::clone(&clock));
            let rtc = Sun20iRtc::new("rtc0", clock, &config.timers, line(map::SUN_RTC)?);
            sun_rtc = Some(Arc::clone(&rtc));
            add(map::SUN_RTC, rtc)?;
        }
        let clock = wall();
        wall_clocks.push(Arc::clone(&clock));
        let (name, irq) = (format!("rtc{goldfish_number}"), line(map::GOLDFISH_RTC)?);
        let port = Arc::clone(&config.port);
        let goldfish = GoldfishRtc::new(&name, goldfish_number, clock, &config.timers, irq, port);
        add(map::GOLDFISH_RTC, Arc::clone(&goldfish) as _)?;
        add(map::UART, Arc::clone(&uart) as _)?;
        let plugged = virtio.into_iter().chain(std::iter::repeat_with(|| None));
        for (index, device) in (0..map::VIRTIO_SLOTS).zip(plugged) {
            let place = map::virtio(index);
            let name = format!("virtio-mmio{index}");
            add(place, Arc::new(MmioSlot::new(&name, line(place)?, Arc::clone(ram), device)))?;
        }
        let irq = line(map::POWER_BUTTON)?;
        let button = Arc::new(PowerButton::new("power-button", irq, Arc::clone(ram)));
        add(map::POWER_BUTTON, Arc::clone(&button) as _)?;
        add(map::PVPANIC, Arc::new(Pvpanic::new("pvpanic")))?;
        add(map::WATCHDOG, Watchdog::new("watchdog", &config.timers, Arc::clone(&config.port)))?;
        let generation = |irq| Vmgenid::new("vmgenid", irq, config.identity);
        let vmgenid = Arc::new(match config.vmgenid {
            GenerationId::Absent => generation(IrqLine::unconnected()),
            GenerationId::Present => generation(line(map::VMGENID)?),
            GenerationId::Given => generation(line(map::VMGENID)?).given(),
        });
        if config.vmgenid != GenerationId::Absent {
            add(map::VMGENID, Arc::clone(&vmgenid) as _)?;
        }
        add(map::CLINT, Arc::new(Aclint::new("clint", harts.clone())))?;
        // Behind every device with a line: when the machine starts it judges what they have raised, and when the machine
        // is reset it forgets what they had raised before.
        add(map::PLIC, Arc::clone(&plic) as _)?;
        let wakers = Wakers { plic: Arc::clone(&plic), sun_rtc, goldfish, uart: Arc::clone(&uart), button };
        Ok(Self { bus, devices, uart, plic, wall_clocks, vmgenid, wakers })
    }
}

/// The serial port's back end when there is none.
struct Nowhere;

impl SerialPort for Nowhere {
    fn try_write(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn resume_input(&self) {}

    fn hold(&self, _held: bool) {}
}

/// DBCN goes to the serial port.
pub(crate) struct UartConsole(pub(crate) Arc<Uart>);

impl DebugConsole for UartConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        self.0.console_write(bytes)
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        self.0.console_read(bytes)
    }
}
