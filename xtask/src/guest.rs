//! Guests: Debian's, fetched; our own, rebuilt and compared.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

/// What `scripts/fetch-debian-guest` exits with when this machine cannot fetch.
const UNAVAILABLE: i32 = 69;

/// The compiler that builds the embedded guest and the programs in the Debian guest.
pub const RISCV_GCC: &str = "riscv64-linux-gnu-gcc";

/// The version of it that the committed image was built with (Debian 12's). Another one gives other bytes.
const BUILT_WITH: &str = "12.2.0";

/// Why the embedded guest cannot be rebuilt here byte for byte, if so.
pub fn cannot_rebuild() -> Option<String> {
    match host::output(Command::new(RISCV_GCC).arg("-dumpfullversion")) {
        None => Some(format!("{RISCV_GCC} is not installed")),
        Some(version) if version.trim() != BUILT_WITH => {
            Some(format!("the image is from {RISCV_GCC} {BUILT_WITH}, here is {}", version.trim()))
        }
        Some(_) => None,
    }
}

/// How the Debian guest came out.
pub enum Fetched {
    /// It is there.
    Ready,
    /// This machine cannot fetch it (no apt, no mirror, no network).
    Unavailable,
}

/// Fetches the Debian guest; quick when it is there already.
pub fn fetch_debian() -> Result<Fetched> {
    let mut command = Command::new(host::root().join("scripts/fetch-debian-guest"));
    command.arg(host::debian_guest());
    let status = command.status().with_context(|| format!("cannot run {}", host::shown(&command)))?;
    match status.code() {
        Some(0) => Ok(Fetched::Ready),
        Some(UNAVAILABLE) => Ok(Fetched::Unavailable),
        _ => bail!("{}: {status}", host::shown(&command)),
    }
}

/// `cargo xtask guest debian`.
pub fn debian() -> Result<()> {
    match fetch_debian()? {
        Fetched::Ready => {
            println!("{}", host::debian_guest().display());
            Ok(())
        }
        Fetched::Unavailable => bail!("this machine cannot fetch the Debian guest"),
    }
}

/// `cargo xtask guest embedded`: the committed image must be what the committed source gives.
pub fn embedded() -> Result<()> {
    let folder = host::target().join("guests/embedded");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let built = folder.join("dormouse-guest.bin");
    host::run(Command::new(host::root().join("guest/build.sh")).arg(&built))?;
    let committed = host::embedded_guest();
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (new, old) = (read(&built)?, read(&committed)?);
    if new != old {
        bail!(
            "{} ({} bytes) is not what its source gives ({} bytes): run guest/build.sh and commit the image",
            committed.display(),
            old.len(),
            new.len()
        );
    }
    println!("the embedded guest rebuilds byte for byte ({} bytes)", new.len());
    Ok(())
}
