//! The measurements themselves: each starts a machine, and gives named values.

use std::time::{Duration, Instant};

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

fn us(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

/// The value below which the given part of the values lies; sorts them.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
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

fn embedded(bench: &Bench, peer: &Peer, extra: &[&str]) -> Result<Vm> {
    let image = host::embedded_guest();
    let common = ["-m", "128M", "-kernel", image.to_str().context("odd path")?];
    Vm::start(peer, &bench.folder, &[&common, extra].concat())
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

/// From the start of the process to the greeting on its monitor, the machine waiting for `cont`.
pub fn greeting(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let vm = embedded(bench, peer, &["-S"])?;
        vm.connect()?;
        times.push(us(vm.started().elapsed()) / 1000.0);
    }
    Ok(vec![Value::new("start to greeting", quantile(&mut times, 0.5), "ms")])
}

/// Round trips of `query-status`, the guest idle at its prompt.
pub fn query(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let mut vm = embedded(bench, peer, &[])?;
    vm.expect("dormouse> ")?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    for _ in 0..500 {
        qmp.call("query-status")?;
    }
    let mut times = Vec::with_capacity(5000);
    for _ in 0..5000 {
        let start = Instant::now();
        qmp.call("query-status")?;
        times.push(us(start.elapsed()));
    }
    Ok(vec![
        Value::new("query-status p50", quantile(&mut times, 0.5), "us"),
        Value::new("query-status p99", quantile(&mut times, 0.99), "us"),
    ])
}

/// A thousand `query-status` written at once.
pub fn pipeline(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const DEPTH: usize = 1000;
    const ROUNDS: usize = 10;
    let mut vm = embedded(bench, peer, &[])?;
    vm.expect("dormouse> ")?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    let batch = "{\"execute\":\"query-status\"}".repeat(DEPTH);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        qmp.send(&batch)?;
        for _ in 0..DEPTH {
            qmp.reply()?;
        }
    }
    let rate = (DEPTH * ROUNDS) as f64 / start.elapsed().as_secs_f64();
    Ok(vec![Value::new("pipelined by 1000", rate, "/s")])
}

/// `stop` and `cont` to their replies, with a busy hart on every core but one.
pub fn stop(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let harts = bench.cores.saturating_sub(1).max(1);
    stop_and_cont(bench, peer, harts, 300, "", &[])
}

/// The same, with less weight for our hart threads; QEMU has no such option.
pub fn weighted(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    let harts = bench.cores.saturating_sub(1).max(1);
    stop_and_cont(bench, peer, harts, 300, "weighted ", weight(peer))
}

/// The same with twice as many busy harts as cores.
pub fn crowded(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    stop_and_cont(bench, peer, 2 * bench.cores, 200, "crowded ", weight(peer))
}

fn weight(peer: &Peer) -> &'static [&'static str] {
    if peer.name == "dormouse" { &["-x-hart-nice", "10"] } else { &[] }
}

fn stop_and_cont(
    bench: &Bench,
    peer: &Peer,
    harts: usize,
    pairs: usize,
    label: &str,
    options: &[&str],
) -> Result<Vec<Value>> {
    let mut vm = embedded(bench, peer, &[&["-smp", &harts.to_string()], options].concat())?;
    vm.expect("dormouse> ")?;
    vm.type_text(&format!("spin {harts}\n"))?;
    vm.expect(&format!("spinning on {harts} "))?;
    let mut qmp = vm.connect()?;
    qmp.negotiate()?;
    let (mut stops, mut conts) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        for (command, times) in [("stop", &mut stops), ("cont", &mut conts)] {
            let start = Instant::now();
            qmp.call(command)?;
            times.push(us(start.elapsed()));
            // So that the harts are really busy, or really at rest, when the next command comes.
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    let mut values = Vec::new();
    for (command, times) in [("stop", &mut stops), ("cont", &mut conts)] {
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            values.push(Value::new(&format!("{label}{command} {name}"), quantile(times, part), "us"));
        }
    }
    Ok(values)
}

/// What a machine costs whose guest waits at its prompt: anonymous memory, and CPU time in two seconds.
pub fn idle(bench: &Bench, peer: &Peer) -> Result<Vec<Value>> {
    const WINDOW: Duration = Duration::from_secs(2);
    let mut vm = embedded(bench, peer, &[])?;
    vm.expect("dormouse> ")?;
    std::thread::sleep(WINDOW / 4);
    let before = vm.cpu_seconds()?;
    std::thread::sleep(WINDOW);
    let ms = (vm.cpu_seconds()? - before) * 1000.0 / WINDOW.as_secs_f64();
    Ok(vec![
        Value::new("idle anonymous memory", vm.anonymous_mib()?, "MiB"),
        Value::new("idle CPU per second", ms, "ms"),
    ])
}
