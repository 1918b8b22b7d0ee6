//! What the devices' tests share: clocks that stand, a port and a line that write down, and the register fuzzer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use clock::{GuestClock, HostClock, RtcClock, RtcOptions, TestClock, TimerQueue, WallClock};
use proptest::prelude::*;
use runstate::DeviceRequest;
use vmcore::{AccessSize, Device, DevicePort, Harts, IrqLine, IrqSink};

use crate::lock;

pub const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T00:00:00Z in ns since 1970.
pub const TODAY: u64 = 20_780 * 86_400 * SECOND;

/// Standing clocks with a timer queue; the machine is live.
pub struct Bench {
    pub host: TestClock,
    pub guest: Arc<GuestClock>,
    pub timers: Arc<TimerQueue>,
    pub port: Arc<Posted>,
    pub wire: Arc<Wire>,
}

impl Bench {
    pub fn new() -> Self {
        let host = TestClock::new(SECOND, TODAY);
        let shared: Arc<dyn HostClock> = Arc::new(host.clone());
        let guest = Arc::new(GuestClock::new(Arc::clone(&shared)));
        let timers = TimerQueue::new(Arc::clone(&guest), shared);
        timers.thaw();
        Self { host, guest, timers, port: Arc::default(), wire: Arc::default() }
    }

    pub fn wall(&self, clock: RtcClock) -> Arc<WallClock> {
        let options = RtcOptions { clock, ..RtcOptions::default() };
        Arc::new(WallClock::new(options, 0, Arc::new(self.host.clone()), Arc::clone(&self.guest)))
    }

    pub fn line(&self) -> IrqLine {
        IrqLine::new(Arc::clone(&self.wire) as _, 1)
    }

    pub fn harts(&self, count: u32) -> Harts {
        Harts::new(count, &self.guest, &self.timers)
    }

    /// Lets `ns` pass and fires what has fallen due.
    pub fn pass(&self, ns: u64) {
        self.host.advance(ns);
        self.timers.run_due();
    }
}

/// The level of a line.
#[derive(Default)]
pub struct Wire(AtomicBool);

impl Wire {
    pub fn is_high(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl IrqSink for Wire {
    fn set_level(&self, _line: u32, level: bool) {
        self.0.store(level, Ordering::SeqCst);
    }
}

/// What was posted.
#[derive(Default)]
pub struct Posted(Mutex<Vec<DeviceRequest>>);

impl Posted {
    pub fn take(&self) -> Vec<DeviceRequest> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl DevicePort for Posted {
    fn post(&self, request: DeviceRequest) {
        lock(&self.0).push(request);
    }
}

pub fn read(device: &dyn Device, offset: u64) -> u32 {
    device.read(offset, AccessSize::Word) as u32
}

pub fn write(device: &dyn Device, offset: u64, value: u32) {
    assert_eq!(device.write(offset, AccessSize::Word, value.into()), None);
}

/// One thing that may happen to a device.
#[derive(Clone, Debug)]
pub enum Act {
    Read(u64, u64),
    Write(u64, u64, u64),
    Pass(u64),
    StepWall(i64),
    StopStart,
    SleepWake,
    Reset,
    SaveLoad,
}

/// Things that may happen to a device with a window of `window` bytes.
pub fn acts(window: u64) -> impl Strategy<Value = Vec<Act>> {
    let offset = prop_oneof![0..window.min(0x40), 0..window];
    let value = prop_oneof![0..16_u64, any::<u64>()];
    let act = prop_oneof![
        4 => (offset.clone(), 0..4_u64).prop_map(|(offset, size)| Act::Read(offset, 1 << size)),
        8 => (offset, 0..4_u64, value).prop_map(|(offset, size, value)| Act::Write(offset, 1 << size, value)),
        1 => (0..3 * SECOND).prop_map(Act::Pass),
        1 => any::<i64>().prop_map(Act::StepWall),
        1 => Just(Act::StopStart),
        1 => Just(Act::SleepWake),
        1 => Just(Act::Reset),
        1 => Just(Act::SaveLoad),
    ];
    proptest::collection::vec(act, 0..100)
}

/// Has `acts` happen to `device`, with `check` after each.
pub fn act_out(bench: &Bench, device: &dyn Device, window: u64, acts: &[Act], check: impl Fn()) {
    for act in acts {
        match *act {
            Act::Read(offset, size) => {
                let size = AccessSize::from_bytes(size).unwrap();
                let offset = offset & !(size.bytes() - 1);
                if offset + size.bytes() <= window {
                    device.read(offset, size);
                }
            }
            Act::Write(offset, size, value) => {
                let size = AccessSize::from_bytes(size).unwrap();
                let offset = offset & !(size.bytes() - 1);
                if offset + size.bytes() <= window {
                    device.write(offset, size, value & size.mask());
                }
            }
            Act::Pass(ns) => bench.pass(ns),
            Act::StepWall(ns) => bench.host.step_realtime(ns),
            Act::StopStart => {
                bench.timers.freeze();
                device.stop();
                let held = device.save();
                bench.host.advance(SECOND);
                assert_eq!(device.save(), held, "something changed while the machine was held");
                device.start();
                bench.timers.thaw();
            }
            Act::SleepWake => {
                device.sleep();
                bench.pass(SECOND);
                device.wake();
            }
            Act::Reset => device.reset(),
            Act::SaveLoad => {
                let saved = device.save();
                device.load(&saved).unwrap();
                assert_eq!(device.save(), saved);
            }
        }
        check();
    }
}
