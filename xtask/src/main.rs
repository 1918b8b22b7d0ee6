//! Chores of the project, run as `cargo xtask CHORE`.
//!
//! A chore says what it does, does it with the tools that are there, and names what it could not do. Nothing here is
//! part of the program; everything here may use the network, through apt and pip only.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod fuzz;
mod guest;
mod host;
mod tally;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
usage: cargo xtask CHORE

  guest debian              fetch Debian's kernel and make an initramfs: target/guests/debian/
  guest embedded            rebuild the embedded guest and compare it with the committed image
  test                      everything the tests need, then every test
  bench [--runs N] [NAME..] the figures, beside QEMU's when it is installed; names: boot cpu greeting connect
                            query pipeline unknown schema stop resting weighted crowded events busy-events reset quit idle
  fuzz [--seconds N] [NAME..]
                            run the fuzz targets, 10 s each when not said otherwise; names: qmp cli registers tree kernel saved
  ci-setup                  install by package name what the tests need (Debian, as root)";

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["guest", "debian"] => guest::debian()?,
        ["guest", "embedded"] => guest::embedded()?,
        ["test"] if !test::all()? => return Ok(ExitCode::FAILURE),
        ["test"] => {}
        ["bench", rest @ ..] => bench::all(rest)?,
        ["fuzz", rest @ ..] => fuzz::all(rest)?,
        ["ci-setup"] => ci::setup()?,
        ["help" | "-h" | "--help"] => println!("{HELP}"),
        _ => bail!("no such chore\n{HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}
