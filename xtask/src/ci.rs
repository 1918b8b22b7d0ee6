//! `cargo xtask ci-setup`: installs by package name what `.ci/run` needs and this Debian machine lacks.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

/// A program that must be there, and the packages that bring it.
const NEEDED: [(&str, &[&str]); 8] = [
    ("riscv64-linux-gnu-gcc", &["gcc-riscv64-linux-gnu"]),
    ("dtc", &["device-tree-compiler"]),
    ("cpio", &["cpio"]),
    ("python3", &["python3", "python3-venv"]),
    // The fuzzer's runtime is built from C++.
    ("g++", &["g++"]),
    ("gdb-multiarch", &["gdb-multiarch"]),
    ("mke2fs", &["e2fsprogs"]),
    // Certificates of the tests of TLS.
    ("openssl", &["openssl"]),
];

/// The static C library that programs for the Debian guest are linked with, and its package.
const CROSS_LIBC: (&str, &str) = ("/usr/riscv64-linux-gnu/lib/libc.a", "libc6-dev-riscv64-cross");

/// What bookworm's own versions are too old for, and its backports have: the peer that the hart is compared with, and the
/// manager that drives the program.
const NEWER: [(&str, &[&str]); 3] = [
    ("qemu-system-riscv64", &["qemu-system-riscv", "opensbi"]),
    (
        "libvirtd",
        &[
            "libvirt-daemon",
            "libvirt-daemon-driver-qemu",
            "libvirt-daemon-driver-storage",
            "libvirt-daemon-log",
        ],
    ),
    ("virsh", &["libvirt-clients"]),
];

/// Installs what is missing; does nothing, and needs no rights, when nothing is.
pub fn setup() -> Result<()> {
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| host::find(program).is_none())
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if !packages.contains(&"python3-venv") && !python_makes_environments() {
        packages.push("python3-venv");
    }
    if !Path::new(CROSS_LIBC.0).exists() {
        packages.push(CROSS_LIBC.1);
    }
    let mut newer: Vec<&str> = NEWER
        .iter()
        .filter(|(program, _)| host::find(program).is_none())
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if !newer.contains(&"opensbi") && !Path::new(crate::test::FIRMWARE.0).exists() {
        newer.push("opensbi");
    }
    if packages.is_empty() && newer.is_empty() {
        println!("ci-setup: nothing is missing");
        return Ok(());
    }
    if host::find("apt-get").is_none() {
        bail!("missing, and no apt-get to install them: {packages:?} {newer:?}");
    }
    let backports = !newer.is_empty() && codename().as_deref() == Some("bookworm");
    if backports && !has_suite("bookworm-backports") {
        add_backports()?;
    }
    apt(&["update"])?;
    if !packages.is_empty() {
        apt(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    if !newer.is_empty() {
        let from: &[&str] = if backports { &["--target-release", "bookworm-backports"] } else { &[] };
        apt(&[&["install", "--yes", "--no-install-recommends"], from, newer.as_slice()].concat())?;
    }
    Ok(())
}

fn python_makes_environments() -> bool {
    host::output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_some()
}

fn apt(words: &[&str]) -> Result<()> {
    host::run(Command::new("apt-get").arg("--quiet=2").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
        .context("is this run as root?")
}

/// The release's name in `/etc/os-release`.
fn codename() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(str::to_owned)
}

/// What apt is configured with, one `SITE CODENAME` a line.
fn apt_suites() -> String {
    let format = ["indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"];
    host::output(Command::new("apt-get").args(format)).unwrap_or_default()
}

fn has_suite(suite: &str) -> bool {
    apt_suites().lines().any(|line| line.split_whitespace().nth(1) == Some(suite))
}

/// Adds the backports suite of the mirror that apt has for bookworm itself.
fn add_backports() -> Result<()> {
    let suites = apt_suites();
    let site = suites
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(site, suite)| (suite.trim() == "bookworm").then_some(site))
        .context("apt names no mirror of bookworm")?;
    let file = Path::new("/etc/apt/sources.list.d/bookworm-backports.list");
    std::fs::write(file, format!("deb {site} bookworm-backports main\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}
