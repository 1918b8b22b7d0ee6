//! `SPECIFICATION.md` names the test that holds each promise, and so do the tables in `docs/`. This test holds the pages
//! to it: a test that is named must exist, and a promise or a row without a test is found.
//!
//! A citation is `` `path::name` `` with the path of a file in the project. For Rust the file must define the test
//! function `name`; for the end-to-end tests in Python `Class::name` says the class as well.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages that cite tests.
const PAGES: [&str; 3] = ["SPECIFICATION.md", FAULTS, MEETINGS];
const FAULTS: &str = "docs/qemu-faults.md";
const MEETINGS: &str = "docs/meetings.md";

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn specification() -> String {
    page("SPECIFICATION.md")
}

/// The rows of a page's tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |"))
}

/// The numbered promises, each with the lines that belong to it.
fn promises(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        if number(line).is_some() {
            found.push(line.to_owned());
        } else if line.starts_with('#') {
            found.push(String::new()); // what follows a heading belongs to no promise
        } else if let Some(last) = found.last_mut().filter(|last| !last.is_empty()) {
            last.push('\n');
            last.push_str(line);
        }
    }
    found.retain(|promise| !promise.is_empty());
    found
}

/// The number of a line such as `**3.2** The guest ...`.
fn number(line: &str) -> Option<&str> {
    let (number, _) = line.strip_prefix("**")?.split_once("**")?;
    number.starts_with(|first: char| first.is_ascii_digit()).then_some(number)
}

/// What stands between backquotes and has the form of a citation.
fn citations(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::")).collect()
}

/// What is wrong with a citation, if anything.
fn fault(path: &str, name: &str) -> Option<String> {
    let Ok(source) = std::fs::read_to_string(root().join(path)) else {
        return Some(format!("{path}: there is no such file"));
    };
    let defined = |keyword: &str, name: &str, ends: &[char]| {
        let start = format!("{keyword} {name}");
        source.lines().any(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix(&start).is_some_and(|rest| rest.starts_with(ends))
        })
    };
    let exists = if path.ends_with(".py") {
        name.split_once("::").is_some_and(|(class, test)| {
            test.starts_with("test_") && defined("class", class, &['(', ':']) && defined("def", test, &['('])
        })
    } else {
        defined("fn", name, &['('])
    };
    (!exists).then(|| format!("{path}: there is no {name}"))
}

#[test]
fn every_test_that_is_named_exists() {
    for path in PAGES {
        let text = page(path);
        let faults: Vec<_> =
            citations(&text).into_iter().filter_map(|(path, name)| fault(path, name)).collect();
        assert!(faults.is_empty(), "{path}: {faults:#?}");
    }
}

#[test]
fn every_row_of_the_tables_names_a_test() {
    for path in [FAULTS, MEETINGS] {
        let text = page(path);
        let rows: Vec<_> = rows(&text).collect();
        assert!(rows.len() > 10, "{path}: the rows were not found");
        let bare: Vec<_> =
            rows.iter().filter(|row| citations(row).is_empty() && !row.contains("the same |")).collect();
        assert!(bare.is_empty(), "{path}: without a test: {bare:#?}");
    }
    let text = page(FAULTS);
    let numbers: Vec<_> = rows(&text).filter_map(|row| row.split(' ').nth(1)).collect();
    let all: Vec<_> = (1..=26).map(|number| format!("B{number}")).collect();
    assert_eq!(numbers, all);
}

#[test]
fn every_promise_names_a_test() {
    let text = specification();
    let promises = promises(&text);
    assert!(promises.len() > 20, "the promises were not found");
    let bare: Vec<_> = promises
        .iter()
        .filter(|promise| citations(promise).is_empty() && !promise.contains("`cargo xtask bench"))
        .collect();
    assert!(bare.is_empty(), "without a test: {bare:#?}");
}

#[test]
fn numbers_are_used_once() {
    let text = specification();
    let numbers: Vec<_> = text.lines().filter_map(number).collect();
    for (at, number) in numbers.iter().enumerate() {
        assert!(!numbers[..at].contains(number), "{number} is there twice");
    }
}

#[test]
fn a_citation_that_is_wrong_is_found() {
    let own = "xtask/tests/specification.rs";
    assert_eq!(fault(own, "a_citation_that_is_wrong_is_found"), None);
    assert!(fault(own, "a_citation").is_some());
    assert!(fault("no/such/file.rs", "main").is_some());
    assert!(fault("tests/e2e/test_boot.py", "test_quit").is_some(), "a class is missing");
    assert_eq!(fault("tests/e2e/test_boot.py", "Management::test_quit"), None);
    assert_eq!(citations("see `a/b.rs::c` and `d` and `e.py::F::g`"), [("a/b.rs", "c"), ("e.py", "F::g")]);
}
