//! `cargo xtask test`: brings in what the tests need, then runs every test there is.
//!
//! What this host cannot provide is named as skipped. With `CI=true` in the environment a skip is a failure, so that a
//! test cannot go missing unseen.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::guest::{self, Fetched, RISCV_GCC};
use crate::host;
use crate::tally::Tally;

/// The QMP client that nobody here wrote, as `pip` names it.
const QEMU_QMP: (&str, &str) = ("qemu.qmp", "0.0.6");

/// Programs that some tests need, and what is not tested without them.
const TOOLS: [(&str, &str); 4] = [
    (RISCV_GCC, "programs compiled for the hart"),
    ("qemu-system-riscv64", "the comparison of the hart with QEMU"),
    ("dtc", "the device tree as its compiler sees it"),
    ("gdb-multiarch", "the gdb stub with gdb's own client"),
];

/// Firmware that some tests run, and what is not tested without it.
pub const FIRMWARE: (&str, &str) =
    ("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin", "firmware in machine mode");

/// Runs all and says whether all passed; the summary is the last line of the output.
pub fn all() -> Result<bool> {
    let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
    let mut tally = Tally::default();

    for (tool, without) in TOOLS {
        if host::find(tool).is_none() {
            tally.skip(without, &format!("{tool} is not installed"));
        }
    }
    if !Path::new(FIRMWARE.0).exists() {
        tally.skip(FIRMWARE.1, "package opensbi is not installed");
    }
    let debian = match guest::fetch_debian() {
        Ok(Fetched::Ready) => true,
        Ok(Fetched::Unavailable) => {
            tally.skip("tests with the Debian guest", "it cannot be fetched here");
            false
        }
        Err(error) => {
            tally.step("fetch the Debian guest", Err(error));
            false
        }
    };
    let rebuild = "the embedded guest rebuilds byte for byte";
    match guest::cannot_rebuild() {
        None => tally.step(rebuild, guest::embedded()),
        Some(reason) => tally.skip(rebuild, &reason),
    }

    let mut unit = host::cargo();
    unit.args(["test", "--workspace", "--no-fail-fast"]);
    if debian {
        unit.env("DORMOUSE_DEBIAN_GUEST", host::debian_guest());
    }
    tally.run("crates", &mut unit);
    loom(&mut tally);
    end_to_end(&mut tally, debian);
    libvirt(&mut tally, debian);

    Ok(tally.report(strict))
}

/// The models of parking and kicking, of wakes and publication, and of memory that is filled, saved and logged, under loom's
/// scheduler, in a target folder of their own because the flag rebuilds everything.
fn loom(tally: &mut Tally) {
    for package in ["vmcore", "runstate", "ram"] {
        tally.run(
            &format!("loom: {package}"),
            host::cargo()
                .args(["test", "--package", package, "--test", "loom", "--release"])
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", host::target().join("loom")),
        );
    }
}

/// The whole program, driven over QMP by a client from outside.
fn end_to_end(tally: &mut Tally, debian: bool) {
    let name = "end to end";
    let python = match python() {
        Ok(Some(python)) => python,
        Ok(None) => {
            tally.skip(name, "no Python with a virtual environment and qemu.qmp can be had");
            return;
        }
        Err(error) => {
            tally.step("virtual environment", Err(error));
            return;
        }
    };
    let dormouse = match host::build_dormouse() {
        Ok(program) => program,
        Err(error) => {
            tally.step("build dormouse", Err(error));
            return;
        }
    };
    let mut command = Command::new(python);
    command.arg(host::root().join("tests/e2e")).env("DORMOUSE", dormouse).env("PYTHONUNBUFFERED", "1");
    if debian {
        command.env("DORMOUSE_DEBIAN_GUEST", host::debian_guest());
    } else {
        command.env_remove("DORMOUSE_DEBIAN_GUEST");
    }
    tally.run(name, &mut command);
}

/// The whole program, driven by an unmodified libvirt with folders and processes of its own.
fn libvirt(tally: &mut Tally, debian: bool) {
    let name = "libvirt";
    for program in ["libvirtd", "virtlogd", "virsh", "unshare", "python3"] {
        if host::find(program).is_none() {
            tally.skip(name, &format!("{program} is not installed"));
            return;
        }
    }
    let dormouse = match host::build_dormouse() {
        Ok(program) => program,
        Err(error) => {
            tally.step("build dormouse", Err(error));
            return;
        }
    };
    let mut command = Command::new("python3");
    command.arg(host::root().join("tests/libvirt")).env("DORMOUSE", dormouse).env("PYTHONUNBUFFERED", "1");
    if debian {
        command.env("DORMOUSE_DEBIAN_GUEST", host::debian_guest());
    } else {
        command.env_remove("DORMOUSE_DEBIAN_GUEST");
    }
    tally.run(name, &mut command);
}

/// A Python in whose environment the client is; made when it is not there yet. `None` when it cannot be had here.
fn python() -> Result<Option<PathBuf>> {
    let venv = host::target().join("venv");
    let python = venv.join("bin/python");
    if has_client(&python) {
        return Ok(Some(python));
    }
    if host::find("python3").is_none() {
        return Ok(None);
    }
    std::fs::create_dir_all(host::target())?;
    if host::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).is_err() {
        return Ok(None);
    }
    let (package, version) = QEMU_QMP;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if host::run(Command::new(&python).args(pip).arg(format!("{package}=={version}"))).is_err() {
        return Ok(None);
    }
    if !has_client(&python) {
        bail!("{package} {version} was installed, but cannot be imported");
    }
    Ok(Some(python))
}

fn has_client(python: &Path) -> bool {
    let (package, version) = QEMU_QMP;
    let program = format!("import {package}, importlib.metadata as m; print(m.version('{package}'))");
    host::output(Command::new(python).args(["-c", &program])).is_some_and(|out| out.trim() == version)
}
