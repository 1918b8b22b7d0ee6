//! One guest is saved, and a hundred machines begin from it side by side.
//!
//! 1 GiB of memory, of which 512 MiB cannot be compressed. QEMU has nothing like it: each of a hundred machines that it starts
//! from a file reads all of that into memory of its own.

use anyhow::{Context, Result};

use super::figures::{quantile, us};
use super::snapshot::saved;
use super::vm::{Peer, Vm};
use super::{Bench, Value};
use crate::host;

const FORKS: usize = 100;

/// From the start of each process to its guest's first answer, while those before it wait for input; and what each takes of
/// the host's memory when all are there.
pub fn forks(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    if peer.name != "dormouse" {
        return Ok(Vec::new());
    }
    let image = host::embedded_guest();
    let folder = bench.folder.join("forks");
    let folder = saved(folder, |words| {
        let image = image.to_str().context("odd path")?;
        let common = ["-m", "1G", "-device", "vmgenid", "-kernel", image];
        let mut vm = Vm::start(peer, &bench.folder, &[&common, words].concat())?;
        vm.expect("dormouse> ")?;
        vm.type_text("fill 512\n")?;
        vm.expect("filled ")?;
        vm.expect("dormouse> ")?;
        Ok(vm)
    })?;
    let folder = folder.to_str().context("odd path")?;
    let words = ["-m", "1G", "-device", "vmgenid", "-x-snapshots", folder, "-x-snapshot-fork", "base"];
    let (mut forks, mut times) = (Vec::new(), Vec::new());
    for _ in 0..FORKS {
        let mut vm = Vm::start(peer, &bench.folder, &words)?;
        vm.type_text("clocks\n")?;
        times.push(us(vm.next_output()?.saturating_duration_since(vm.started())) / 1000.0);
        vm.expect("dormouse> ")?;
        forks.push(vm);
    }
    let mib =
        |key: &str| -> Result<Vec<f64>> { forks.iter().map(|vm| Ok(vm.memory(key)? / 1024.0)).collect() };
    let (mut own, mut fair) = (mib("Private_Dirty:")?, mib("Pss:")?);
    let all = fair.iter().sum();
    Ok(vec![
        Value::new("fork to first output p50", quantile(&mut times, 0.5), "ms"),
        Value::new("fork to first output p99", quantile(&mut times, 0.99), "ms"),
        Value::new("memory of a fork's own", quantile(&mut own, 0.5), "MiB"),
        Value::new("memory of a fork, its share", quantile(&mut fair, 0.5), "MiB"),
        Value::new("memory of 100 forks", all, "MiB"),
    ])
}
