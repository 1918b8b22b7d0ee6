//! The side that is compared with: QEMU's `virt` machine, whose RAM is a file that the host reads afterwards.
//!
//! RAM as a file spares the guest from printing its results: a record costs nothing, and whole memories can be compared.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::layout;

/// The program's name.
pub const PROGRAM: &str = "qemu-system-riscv64";

/// The extensions of our hart and no others; A and D bits that are clear fault (Svade).
const CPU: &str = "rv64,h=off,sstc=on,svade=on,svadu=off,sv57=off,pmp=on,smepmp=off,debug=off,zicbom=off,zicbop=off,\
                   zicboz=off,zawrs=off,zfa=off,zbc=off,zihintntl=off,zihintpause=off,zihpm=off,svvptc=off";

/// Why QEMU gave no results.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// A file or the process could not be made.
    #[error("cannot run {PROGRAM}")]
    Io(#[from] std::io::Error),
    /// It ended by itself without the guest saying so.
    #[error("{PROGRAM} ended with {status}: {stderr}")]
    Failed {
        /// Exit status.
        status: std::process::ExitStatus,
        /// What it printed.
        stderr: String,
    },
    /// The guest did not end in time.
    #[error("{PROGRAM} was ended after {0:?}")]
    TimedOut(Duration),
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    /// RAM from the requested address on.
    pub memory: Vec<u8>,
    /// What the guest printed on the UART.
    pub console: Vec<u8>,
    /// Whether the guest ended the machine; otherwise it was ended after the time allowed.
    pub finished: bool,
}

/// Whether QEMU is installed.
pub fn is_installed() -> bool {
    let run = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Runs `image` from the start of RAM in machine mode until the guest ends the machine; returns `len` bytes of RAM at
/// guest physical address `from`.
pub fn run(image: &[u8], from: u64, len: usize, allowed: Duration) -> Result<Outcome, QemuError> {
    let dir = tempfile::tempdir()?;
    let (program, ram, console) =
        (dir.path().join("program.bin"), dir.path().join("ram"), dir.path().join("console"));
    File::create(&program)?.write_all(image)?;
    File::create(&ram)?.set_len(layout::RAM_SIZE)?;
    let mut child = Command::new(PROGRAM)
        .args(["-M", "virt,memory-backend=ram", "-cpu", CPU, "-smp", "1", "-m", "128M"])
        .arg("-object")
        .arg(format!("memory-backend-file,id=ram,size=128M,share=on,mem-path={}", ram.display()))
        .arg("-bios")
        .arg(&program)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > allowed {
            child.kill()?;
            child.wait()?;
            break None;
        }
        // Not a wait for something to become true by luck: the child's end is what is polled for.
        std::thread::sleep(Duration::from_millis(5));
    };
    if let Some(status) = status.filter(|status| !status.success()) {
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            pipe.read_to_string(&mut stderr)?;
        }
        return Err(QemuError::Failed { status, stderr });
    }
    let mut memory = vec![0; len];
    let mut file = File::open(&ram)?;
    file.seek(SeekFrom::Start(from - layout::RAM))?;
    file.read_exact(&mut memory)?;
    Ok(Outcome { memory, console: std::fs::read(&console)?, finished: status.is_some() })
}
