//! Programs built with the distribution's cross compiler, on both sides.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use difftest::{layout, ours, qemu};

const COMPILER: &str = "riscv64-linux-gnu-gcc";
/// Comes with the compiler.
const OBJCOPY: &str = "riscv64-linux-gnu-objcopy";
/// Instructions after which our side gives up.
const LIMIT: u64 = 200_000_000;

/// Prints a line that the test harness does not keep for itself.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
}

/// Reports a test that cannot run, or fails it in CI.
fn skip(what: &str) {
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "difftest: {what} is not installed");
    say(&format!("SKIPPED difftest: {what} is not installed"));
}

/// The suite as a flat image for the start of RAM; `None`: there is no compiler.
fn build(dir: &Path, options: &[&str]) -> Option<Vec<u8>> {
    if Command::new(COMPILER).arg("--version").output().is_err() {
        skip(COMPILER);
        return None;
    }
    let source = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs").join(name);
    let (program, image) = (dir.join("suite"), dir.join("suite.bin"));
    let built = Command::new(COMPILER)
        .args([
            "-march=rv64gc",
            "-mabi=lp64d",
            "-mcmodel=medany",
            "-ffreestanding",
            "-fno-builtin",
            "-nostdlib",
        ])
        .args(["-static", "-no-pie", "-fno-pie", "-fno-stack-protector", "-Wl,--build-id=none"])
        .args(options)
        .arg("-T")
        .arg(source("link.ld"))
        .arg(source("start.S"))
        .arg(source("suite.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let copied = Command::new(OBJCOPY).args(["-O", "binary"]).arg(&program).arg(&image).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    Some(std::fs::read(image).unwrap())
}

fn check(options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = build(dir.path(), options) else { return };
    let (outcome, retired) = ours::run(&image, layout::RAM, 0, LIMIT).unwrap();
    let console = String::from_utf8_lossy(&outcome.console).into_owned();
    assert!(outcome.finished, "{options:?}: not ended after {retired} instructions:\n{console}");
    for line in [
        "crc 00000000cbf43926\n",
        "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n",
        "soft 0000000000000000\n",
        "jump 00000000000017bd\n",
    ] {
        assert!(console.contains(line), "{options:?}: no {line}in\n{console}");
    }
    assert!(!console.contains("bad"), "{options:?}:\n{console}");
    say(&format!("difftest {options:?}: {retired} instructions"));
    if !qemu::is_installed() {
        return skip(qemu::PROGRAM);
    }
    let theirs = qemu::run(&image, layout::RAM, 0, Duration::from_secs(20)).unwrap();
    assert_eq!(console, String::from_utf8_lossy(&theirs.console), "{options:?}");
}

#[test]
fn optimised_programs_agree() {
    check(&["-O2"]);
}

#[test]
fn programs_with_other_options_agree() {
    check(&["-O0"]);
    check(&["-O1"]);
    check(&["-O3", "-march=rv64gc_zba_zbb_zbs"]);
}
