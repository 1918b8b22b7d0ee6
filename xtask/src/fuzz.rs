//! `cargo xtask fuzz`: builds the fuzz targets and runs each for a while, from the corpus that is kept.
//!
//! The compiler's own coverage passes are used, which the stable one has; libFuzzer comes with `libfuzzer-sys` and needs a
//! C++ compiler. What is found is written to `target/fuzz/`; new inputs go there too, and into `fuzz/corpus` by hand.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

/// What runs, by name (`fuzz/src/main.rs`).
const TARGETS: [&str; 6] = ["qmp", "cli", "registers", "tree", "kernel", "saved"];
/// How long each runs when nothing else is said, in s.
const SECONDS: u64 = 10;
/// Flags that have the code count where it has been (SanitizerCoverage).
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Builds and runs the targets that are named, or all.
pub fn all(words: &[&str]) -> Result<()> {
    let (mut seconds, mut targets, mut words) = (SECONDS, Vec::new(), words.iter());
    while let Some(&word) = words.next() {
        if word == "--seconds" {
            seconds = words.next().and_then(|text| text.parse().ok()).context("--seconds takes a number")?;
        } else if TARGETS.contains(&word) {
            targets.push(word);
        } else {
            bail!("no such fuzz target: {word}; there are {}", TARGETS.join(" "));
        }
    }
    let program = build()?;
    for target in TARGETS.into_iter().filter(|target| targets.is_empty() || targets.contains(target)) {
        run(&program, target, seconds)?;
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = host::cargo()
        .args(["build", "--release", "--target", &target, "--target-dir"])
        .arg(host::root().join("target/fuzz"))
        .current_dir(host::root().join("fuzz"))
        .env("RUSTFLAGS", FLAGS.join(" "))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(host::root().join("target/fuzz").join(target).join("release/fuzz"))
}

fn run(program: &PathBuf, target: &str, seconds: u64) -> Result<()> {
    let grown = host::root().join("target/fuzz/corpus").join(target);
    std::fs::create_dir_all(&grown).with_context(|| format!("cannot make {}", grown.display()))?;
    let found = host::root().join("target/fuzz").join(format!("{target}-"));
    println!("fuzz {target}: {seconds} s");
    let status = Command::new(program)
        .env("FUZZ_TARGET", target)
        .arg(&grown)
        .arg(host::root().join("fuzz/corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}", found.display()))
        .args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"])
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("{target} has a finding: {}*", found.display());
    }
    Ok(())
}
