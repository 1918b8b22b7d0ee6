//! Fuzz targets, one binary: `FUZZ_TARGET` names the one that runs. `cargo xtask fuzz` builds and runs them.
//!
//! Each target feeds bytes to code that reads what strangers send, and holds it to what it promises beyond not failing:
//! chunks do not matter, what is accepted once is accepted again, nothing changes while the machine is held.
#![no_main]

mod boards;
mod commands;
/// The program's own sources: it is no library.
#[path = "../../crates/dormouse/src"]
#[allow(dead_code, unused_imports, reason = "the program uses the rest")]
mod program {
    pub mod cli;
}
mod protocol;
mod saved;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// The targets: name and body.
const TARGETS: [(&str, fn(&[u8])); 6] = [
    ("qmp", protocol::qmp),
    ("cli", commands::command_line),
    ("registers", boards::registers),
    ("tree", boards::tree),
    ("kernel", boards::kernel),
    ("saved", saved::saved),
];

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(name, _)| *name == wanted);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {:?}", TARGETS.map(|(name, _)| name))).1
    })
}

fuzz_target!(|bytes: &[u8]| target()(bytes));
