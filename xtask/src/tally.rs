//! Counting test results, and reading them out of what test programs print.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::host;

/// How many tests passed, failed, and were skipped; the latter two by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    /// Counts a step that is one test in itself.
    pub fn step(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("FAILED {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Counts what this host cannot do.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(format!("{name}: {reason}"));
    }

    /// Runs a program that prints test results, shows what it prints, and counts. A program that fails without naming
    /// a failed test (it did not build, it crashed) is a failure itself.
    pub fn run(&mut self, name: &str, command: &mut Command) {
        println!("\n== {name}: {}", host::shown(command));
        let (start, failed) = (Instant::now(), self.failed.len());
        let outcome = self.follow(command);
        println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
        match outcome {
            Ok(true) => {}
            Ok(false) if self.failed.len() > failed => {}
            Ok(false) => self.failed.push(format!("{name} (the run itself)")),
            Err(error) => self.failed.push(format!("{name}: {error:#}")),
        }
    }

    fn follow(&mut self, command: &mut Command) -> Result<bool> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start")?;
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).split(b'\n') {
                let line = String::from_utf8_lossy(&line.context("cannot read its output")?).into_owned();
                println!("{line}");
                self.read_line(&line);
            }
        }
        Ok(child.wait().context("cannot wait for it")?.success())
    }

    /// Takes one line in the form of Rust's test programs, which the end-to-end tests print as well:
    /// `test NAME ... ok|FAILED|skipped, REASON`.
    fn read_line(&mut self, line: &str) {
        let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim_end_matches(" - should panic");
        if result.starts_with("ok") {
            self.passed += 1;
        } else if result.starts_with("FAILED") {
            self.failed.push(name.to_owned());
        } else if let Some(reason) = result.strip_prefix("skipped, ") {
            self.skip(name, reason);
        }
    }

    /// Prints the summary and says whether all is well. With `strict` a skip is a failure.
    pub fn report(&self, strict: bool) -> bool {
        println!();
        for name in &self.failed {
            println!("FAILED  {name}");
        }
        for name in &self.skipped {
            println!("SKIPPED {name}");
        }
        if strict && !self.skipped.is_empty() {
            println!("CI is set: what was skipped counts as failed");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len());
        self.failed.is_empty() && (self.skipped.is_empty() || !strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_lines() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test tests::a ... ok",
            "test tests::b - should panic ... ok",
            "test tests::c ... FAILED",
            "test tests::d ... ignored",
            "test sleep ... skipped, no guest",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            tally.read_line(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 2,
                failed: vec!["tests::c".to_owned()],
                skipped: vec!["sleep: no guest".to_owned()],
            }
        );
    }

    #[test]
    fn a_skip_fails_only_where_it_is_forbidden() {
        let mut tally = Tally::default();
        tally.skip("x", "y");
        assert!(tally.report(false));
        assert!(!tally.report(true));
    }

    #[test]
    fn a_run_that_fails_without_a_failed_test_is_a_failure() {
        let mut tally = Tally::default();
        tally.run("false", &mut Command::new("false"));
        assert_eq!(tally.failed.len(), 1);
    }
}
