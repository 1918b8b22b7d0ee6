//! A busy guest is saved while it runs, and restored into a process of its own.
//!
//! 1 GiB of memory, of which 512 MiB cannot be compressed and 64 MiB is rewritten at 100 MiB a second. dormouse writes and
//! restores a snapshot of its own; QEMU a background snapshot that is migrated to a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::us;
use super::qmp::{Qmp, is_event};
use super::vm::{PATIENCE, Peer, Vm};
use super::{Bench, Value};
use crate::host;

const CAPABILITIES: &str = "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":\
    [{\"capability\":\"background-snapshot\",\"state\":true},{\"capability\":\"events\",\"state\":true}]}}";
const PARAMETERS: &str = "{\"execute\":\"migrate-set-parameters\",\"arguments\":\
    {\"max-bandwidth\":9223372036853727232}}";

/// How long the machine stands for a save, how long the save takes; from the start of a process to the first sign of life of
/// the restored guest, and until it has read all that it had written.
pub fn save_and_restore(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let folder = bench.folder.join("snapshots");
    fresh(&folder)?;
    let how = How::of(peer, folder);
    let image = host::embedded_guest();
    let common = ["-m", "1G", "-kernel", image.to_str().context("odd path")?];
    let words = how.words_to_save();
    let words: Vec<&str> = common.iter().copied().chain(words.iter().map(String::as_str)).collect();
    let mut vm = Vm::start(peer, &bench.folder, &words)?;
    vm.expect("dormouse> ")?;
    vm.type_text("fill 512\n")?;
    vm.expect("filled ")?;
    vm.type_text("churn 64 100 200\n")?;
    vm.expect("churning until a key is pressed")?;
    std::thread::sleep(Duration::from_millis(200));
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    let (stood, total) = how.save(&mut qmp)?;
    drop((qmp, vm));

    let words = how.words_to_restore();
    let words: Vec<&str> = common.iter().copied().chain(words.iter().map(String::as_str)).collect();
    let mut vm = Vm::start(peer, &bench.folder, &words)?;
    let first = vm.next_output()?.saturating_duration_since(vm.started());
    vm.type_text("\ncheck\n")?;
    vm.expect(" 0 wrong, clocks went back 0 times")?;
    vm.expect(" pages, 0 wrong")?;
    let touched = vm.started().elapsed();
    let ms = |duration| us(duration) / 1000.0;
    Ok(vec![
        Value::new("stopped for a snapshot", ms(stood), "ms"),
        Value::new("snapshot on the disk", ms(total), "ms"),
        Value::new("restore to first output", ms(first), "ms"),
        Value::new("restore to all touched", ms(touched), "ms"),
    ])
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Gives `folder`, made anew, with a snapshot `base` of the machine that `start` makes with these further options.
pub fn saved(folder: PathBuf, start: impl FnOnce(&[&str]) -> Result<Vm>) -> Result<PathBuf> {
    fresh(&folder)?;
    let how = How::Snapshot { folder: folder.clone() };
    let words = how.words_to_save();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let vm = start(&words)?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    how.save(&mut qmp)?;
    Ok(folder)
}

/// What a program calls it.
enum How {
    Snapshot { folder: PathBuf },
    Background { file: PathBuf },
}

impl How {
    fn of(peer: &Peer, folder: PathBuf) -> How {
        if peer.name == "dormouse" {
            How::Snapshot { folder }
        } else {
            How::Background { file: folder.join("state") }
        }
    }

    fn words_to_save(&self) -> Vec<String> {
        match self {
            How::Snapshot { folder } => vec!["-x-snapshots".to_owned(), folder.display().to_string()],
            How::Background { .. } => Vec::new(),
        }
    }

    fn words_to_restore(&self) -> Vec<String> {
        match self {
            How::Snapshot { .. } => {
                [self.words_to_save(), vec!["-loadvm".to_owned(), "base".to_owned()]].concat()
            }
            How::Background { file } => vec!["-incoming".to_owned(), format!("file:{}", file.display())],
        }
    }

    /// How long the machine stood, and how long it took until the file was complete.
    fn save(&self, qmp: &mut Qmp) -> Result<(Duration, Duration)> {
        let (command, event, end) = match self {
            How::Snapshot { .. } => {
                let command =
                    "{\"execute\":\"x-snapshot-save\",\"arguments\":{\"job-id\":\"j\",\"name\":\"base\"}}";
                (command.to_owned(), "JOB_STATUS_CHANGE", "concluded")
            }
            How::Background { file } => {
                for command in [CAPABILITIES, PARAMETERS] {
                    qmp.send(command)?;
                    qmp.reply()?;
                }
                let uri = format!("file:{}", file.display());
                let command = format!("{{\"execute\":\"migrate\",\"arguments\":{{\"uri\":\"{uri}\"}}}}");
                (command, "MIGRATION", "completed")
            }
        };
        let start = Instant::now();
        qmp.send(&command)?;
        let (mut stopped, mut stood) = (None, None);
        loop {
            let line = qmp.line()?;
            if is_event(&line, "STOP") {
                stopped = Some(Instant::now());
            } else if is_event(&line, "RESUME") {
                stood = stopped.map(|stopped| stopped.elapsed());
            } else if is_event(&line, event) && is_event(&line, end) {
                return Ok((stood.context("the machine was not stopped")?, start.elapsed()));
            } else if is_event(&line, "failed") || is_event(&line, "aborting") {
                bail!("the save failed");
            }
            if start.elapsed() > PATIENCE {
                bail!("the save does not end");
            }
        }
    }
}
