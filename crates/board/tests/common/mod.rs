//! A board on standing clocks, for the tests of this crate.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod tree;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use board::{Board, BoardConfig, BoardError, ImageSource, Vcpus};
use clock::{GuestClock, HostClock, RtcOptions, TestClock, TimerQueue};
use devices::SerialPort;
use devices::virtio::{Entropy, EntropySource};
use runstate::DeviceRequest;
use vmcore::DevicePort;

pub const MIB: u64 = 1 << 20;
/// 2026-11-23T00:00:00Z in ns since 1970.
pub const TODAY: u64 = 20_780 * 86_400 * 1_000_000_000;

/// Gives 1, 2, 3, ... so that no two seeds are alike.
#[derive(Default)]
pub struct Counting(AtomicUsize);

impl EntropySource for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::SeqCst) as u8;
        }
    }
}

/// A serial port that keeps what is written.
#[derive(Default)]
pub struct Console(Mutex<Vec<u8>>);

impl Console {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl SerialPort for Console {
    fn try_write(&self, bytes: &[u8]) -> usize {
        self.0.lock().unwrap().extend_from_slice(bytes);
        bytes.len()
    }

    fn resume_input(&self) {}

    fn hold(&self, _held: bool) {}
}

/// What was posted.
#[derive(Default)]
pub struct Posted(Mutex<Vec<DeviceRequest>>);

impl Posted {
    pub fn take(&self) -> Vec<DeviceRequest> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl DevicePort for Posted {
    fn post(&self, request: DeviceRequest) {
        self.0.lock().unwrap().push(request);
    }
}

/// What a board stands on.
pub struct Ground {
    pub host: TestClock,
    pub clock: Arc<GuestClock>,
    pub timers: Arc<TimerQueue>,
    pub console: Arc<Console>,
    pub port: Arc<Posted>,
}

impl Ground {
    pub fn new() -> Self {
        let host = TestClock::new(1, TODAY);
        let shared: Arc<dyn HostClock> = Arc::new(host.clone());
        let clock = Arc::new(GuestClock::new(Arc::clone(&shared)));
        let timers = TimerQueue::new(Arc::clone(&clock), shared);
        timers.thaw();
        Self { host, clock, timers, console: Arc::default(), port: Arc::default() }
    }

    /// One hart and 64 MiB, with this kernel.
    pub fn config(&self, kernel: Option<ImageSource>) -> BoardConfig {
        BoardConfig {
            ram_size: 64 * MIB,
            harts: 1,
            extensions: hart::Extensions::default(),
            count: None,
            firmware: None,
            kernel,
            initrd: None,
            device_tree: None,
            bootargs: "console=ttyS0".to_owned(),
            rtc: RtcOptions::default(),
            local_offset_s: 0,
            sun_rtc: true,
            suspend: true,
            identity: vmcore::Identity { generation: [1; 16], mac_seed: [2; 8] },
            vmgenid: board::GenerationId::Present,
            virtio: vec![Some(Box::new(Entropy::new(Arc::new(Counting::default()))))],
            clock: Arc::clone(&self.clock),
            timers: Arc::clone(&self.timers),
            host: Arc::new(self.host.clone()),
            port: Arc::clone(&self.port) as _,
            serial: vec![Arc::clone(&self.console) as _],
            entropy: Arc::new(Counting::default()),
        }
    }
}

/// Builds a board of `Ground::config` after `change`.
pub fn build(change: impl FnOnce(&mut BoardConfig)) -> Result<(Arc<Board>, Vcpus), BoardError> {
    let mut config = Ground::new().config(Some(bytes("kernel", image(0x1000, 0x2000))));
    change(&mut config);
    Board::build(config)
}

pub fn bytes(name: &str, bytes: impl Into<Arc<[u8]>>) -> ImageSource {
    ImageSource::Bytes(name.to_owned(), bytes.into())
}

/// An `Image` of `len` bytes that takes `size` bytes in memory.
pub fn image(len: usize, size: u64) -> Vec<u8> {
    let mut image: Vec<u8> = (0..len).map(|index| index as u8).collect();
    image[..64].fill(0);
    image[8..16].copy_from_slice(&(2 * MIB).to_le_bytes());
    image[16..24].copy_from_slice(&size.to_le_bytes());
    image[0x30..0x38].copy_from_slice(b"RISCV\0\0\0");
    image[0x38..0x3c].copy_from_slice(b"RSC\x05");
    image
}

/// A segment of an ELF file: address, contents, size in memory.
pub type ElfPart<'a> = (u64, &'a [u8], u64);

/// A 64-bit little-endian RISC-V executable.
pub fn elf(entry: u64, parts: &[ElfPart<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 243] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for double in [entry, 64, 0] {
        file.extend(double.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, parts.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * parts.len() as u64;
    for (addr, contents, size) in parts {
        for word in [1_u32, 7] {
            file.extend(word.to_le_bytes());
        }
        for double in [offset, *addr, *addr, contents.len() as u64, *size, 1] {
            file.extend(double.to_le_bytes());
        }
        offset += contents.len() as u64;
    }
    parts.iter().for_each(|(_, contents, _)| file.extend(*contents));
    file
}
