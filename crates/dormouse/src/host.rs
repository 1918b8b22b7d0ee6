//! What the program takes from the host: random bytes, and the signals that end it.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use devices::virtio::EntropySource;
use engine::{By, Engine};
use runstate::{ManagementRequest, ShutdownCause};
use sys::SignalFd;

/// The host's own generator.
pub(crate) struct HostEntropy;

impl EntropySource for HostEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // Fails only before the host itself has been seeded, or for a signal: then ask again.
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(_) => thread::yield_now(),
            }
        }
    }
}

/// Bytes of a file, for `rng-random,filename=`; the host's generator once the file ends.
pub(crate) struct FileEntropy(Mutex<std::fs::File>);

impl FileEntropy {
    /// Opens `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(std::fs::File::open(path)?)))
    }
}

impl EntropySource for FileEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if file.read_exact(bytes).is_err() {
            HostEntropy.fill(bytes);
        }
    }
}

/// The same bytes in every run, for runs that repeat exactly (`-icount`). A splitmix64 generator; not random.
#[derive(Default)]
pub(crate) struct RepeatableEntropy(AtomicU64);

impl EntropySource for RepeatableEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
            let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Ends the machine when a terminating signal arrives, on a thread of its own. Before there is a machine, when the program
/// may be waiting for a client, the process ends.
pub(crate) fn watch_signals(signals: SignalFd, engine: Arc<OnceLock<Engine>>) -> io::Result<()> {
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(info) = signals.read() {
            crate::say(describe(info.signal, info.pid));
            let Some(engine) = engine.get() else {
                backends::clean_up();
                std::process::exit(0);
            };
            let quit = ManagementRequest::Quit { cause: ShutdownCause::HostSignal };
            // The machine may have ended already: then there is nothing to end.
            let _ = engine.manage_by(By::Client("signal".into()), quit);
        }
    })?;
    Ok(())
}

fn describe(signal: i32, pid: u32) -> String {
    if pid == 0 {
        return format!("terminating on signal {signal}");
    }
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = if name.is_empty() { "<unknown process>".into() } else { String::from_utf8_lossy(name) };
    format!("terminating on signal {signal} from pid {pid} ({name})")
}
