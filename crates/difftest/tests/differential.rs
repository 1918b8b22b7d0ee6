//! Every class of random programs, on both sides. See the crate's documentation.

use std::io::Write;

use difftest::case::{Case, Class};
use difftest::compare::{self, Totals};
use difftest::{generate, qemu};

/// Reports that are printed for one class.
const REPORTS: usize = 2;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Prints a line that the test harness does not keep for itself.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
}

/// Whether QEMU is there. In CI it has to be.
fn have_qemu() -> bool {
    let installed = qemu::is_installed();
    if !installed {
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "difftest: {} is not installed", qemu::PROGRAM);
        say(&format!("SKIPPED difftest: {} is not installed", qemu::PROGRAM));
    }
    installed
}

fn agree(classes: &[Class]) {
    if !have_qemu() {
        return;
    }
    let (first, count) = (number("DIFFTEST_SEED", 1), number("DIFFTEST_CASES", 1000));
    for &class in classes {
        let cases: Vec<Case> =
            (first..first.saturating_add(count)).map(|seed| generate::case(class, seed)).collect();
        let mut totals = Totals::default();
        let differ = compare::differing(&cases, &mut totals).unwrap();
        say(&format!(
            "difftest {class:?}: {} cases, {} instructions, {} traps compared; {} instructions retired with the runtime",
            totals.cases, totals.instructions, totals.traps, totals.retired
        ));
        let reports: Vec<String> = differ
            .iter()
            .take(REPORTS)
            .map(|&at| compare::report(&compare::shrink(&cases[at]).unwrap()).unwrap())
            .collect();
        let seeds: Vec<u64> = differ.iter().map(|&at| cases[at].seed).collect();
        assert!(differ.is_empty(), "{class:?} differs for seeds {seeds:?}\n{}", reports.concat());
    }
}

#[test]
fn integer_programs_agree() {
    agree(&[Class::Integer, Class::Bits, Class::Compressed, Class::Branch]);
}

#[test]
fn memory_programs_agree() {
    agree(&[Class::Memory, Class::Atomic, Class::SelfModifying, Class::Mixed]);
}

#[test]
fn floating_point_programs_agree() {
    agree(&[Class::Single, Class::Double]);
}

#[test]
fn privileged_programs_agree() {
    agree(&[Class::Csr, Class::Trap, Class::Interrupt, Class::Pmp]);
}

#[test]
fn paging_programs_agree() {
    agree(&[Class::Sv39, Class::Sv48]);
}
