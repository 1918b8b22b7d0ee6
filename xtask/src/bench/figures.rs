//! What a guest's work costs, and what the measurements share: each starts a machine, and gives named values.

use std::time::Duration;

use anyhow::{Context, Result};

use super::vm::{Peer, Vm};
use super::{Bench, Value};
use crate::host;

/// Instructions of each program of `guest/tools/bench.c`, in units of 1e9: counted by QEMU (`-icount shift=0`, where one
/// instruction is one nanosecond of guest time), compiler gcc 12.2 of Debian 12.
const GIGA_INSTRUCTIONS: [(&str, f64); 10] = [
    ("alu", 1.5706),
    ("muldiv", 0.2203),
    ("sieve", 0.3904),
    ("fib", 0.2823),
    ("crc", 0.5774),
    ("matfp", 0.3226),
    ("chase4M", 0.1001),
    ("qsort", 0.2430),
    ("indcall", 0.8135),
    ("mix", 0.3700),
];

/// In microseconds.
pub fn us(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

/// The value below which the given part of the values lies; sorts them.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The median and the tail of some times in microseconds.
pub fn p50_and_p99(name: &str, times: &mut [f64]) -> Vec<Value> {
    [("p50", 0.5), ("p99", 0.99)]
        .map(|(part, share)| Value::new(&format!("{name} {part}"), quantile(times, share), "us"))
        .into()
}

fn debian(bench: &Bench, peer: &Peer, memory: &str, append: &str) -> Result<Vm> {
    let guest = host::debian_guest();
    let (image, initrd) = (guest.join("Image"), guest.join("initrd.cpio.gz"));
    let append = format!("console=ttyS0 {append}");
    let extra = [
        "-m",
        memory,
        "-smp",
        "1",
        "-kernel",
        image.to_str().context("odd path")?,
        "-initrd",
        initrd.to_str().context("odd path")?,
        "-append",
        &append,
    ];
    Vm::start(peer, &bench.folder, &extra)
}

/// The embedded guest, with further options.
pub fn embedded(bench: &Bench, peer: &Peer, extra: &[&str]) -> Result<Vm> {
    let image = host::embedded_guest();
    let common = ["-m", "128M", "-kernel", image.to_str().context("odd path")?];
    Vm::start(peer, &bench.folder, &[&common, extra].concat())
}

/// The embedded guest waiting at its prompt, or with so many harts that are all busy.
pub fn prompt(bench: &Bench, peer: &Peer, busy: Option<usize>, extra: &[&str]) -> Result<Vm> {
    let harts = busy.unwrap_or(1).to_string();
    let mut vm = embedded(bench, peer, &[&["-smp", &harts], extra].concat())?;
    vm.expect("dormouse> ")?;
    if let Some(harts) = busy {
        vm.type_text(&format!("spin {harts}\n"))?;
        vm.expect(&format!("spinning on {harts} "))?;
    }
    Ok(vm)
}

/// Debian's kernel until its init says that it is up: CPU time and wall time.
pub fn boot(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let mut vm = debian(bench, peer, "512M", "")?;
    vm.expect("GUEST-READY")?;
    let (cpu, wall) = (vm.cpu_seconds()?, vm.started().elapsed().as_secs_f64());
    Ok(vec![Value::new("boot CPU time", cpu, "s"), Value::new("boot wall time", wall, "s")])
}

/// The guest's CPU benchmark: host CPU time between its lines, as millions of guest instructions a second.
pub fn cpu(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let mut vm = debian(bench, peer, "512M", "quiet cmd=bench")?;
    vm.expect("GUEST-READY")?;
    vm.expect("\n")?;
    let mut values = Vec::new();
    let (mut logs, mut before) = (0.0, vm.cpu_seconds()?);
    for (name, giga) in GIGA_INSTRUCTIONS {
        vm.expect(&format!("BENCH {name} "))?;
        vm.expect("\n")?;
        let after = vm.cpu_seconds()?;
        let mips = giga * 1000.0 / (after - before);
        before = after;
        logs += mips.ln();
        values.push(Value::new(&format!("MIPS {name}"), mips, "M/s"));
    }
    let mean = (logs / GIGA_INSTRUCTIONS.len() as f64).exp();
    values.push(Value::new("MIPS geometric mean", mean, "M/s"));
    Ok(values)
}
