//! The tables of states and the diagram in the documents are what the rules give: derived from every reachable value,
//! written by `UPDATE_DOCS=1 cargo test -p runstate --test tables`, and otherwise compared.

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod diagram;
mod long;
mod short;

use common::space;
use runstate::*;
use short::Simplest;
use std::path::Path;

/// Nothing ends the process, so that every state is reached.
const PAUSING: Actions = Actions {
    reboot: RebootAction::Reset,
    shutdown: ShutdownAction::Pause,
    panic: PanicAction::Pause,
    watchdog: WatchdogAction::Pause,
};

#[test]
fn the_documents_show_what_the_rules_do() {
    let starts = space::starts(PAUSING, WakePolicy::ALL, true);
    let values = long::reachable(starts.clone());
    let simplest = Simplest::of(&values);
    let drawn = format!("```mermaid\n{}```\n", diagram::diagram(&simplest, &starts));
    let tables = format!("{}\n{}\n{drawn}", simplest.life(), simplest.migration());
    holds("docs/states.md", |_| long::page(&values));
    holds("ARCHITECTURE.md", |page| between(page, &tables));
}

/// `page` with `text` between its two marks.
fn between(page: &str, text: &str) -> String {
    let (begin, end) =
        ("<!-- states: written by `cargo test -p runstate --test tables` -->\n", "<!-- states end -->\n");
    let (before, rest) = page.split_once(begin).expect("the mark of the beginning");
    let (_, after) = rest.split_once(end).expect("the mark of the end");
    format!("{before}{begin}\n{text}\n{end}{after}")
}

/// Compares a document with what it must be, or writes it.
fn holds(document: &str, wanted: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let wanted = wanted(&committed);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("documents can be written");
        return;
    }
    let differs = committed.lines().zip(wanted.lines()).find(|(committed, wanted)| committed != wanted);
    assert!(
        committed == wanted,
        "{document} is out of date: run `UPDATE_DOCS=1 cargo test -p runstate --test tables`; first difference: \
         {differs:?}"
    );
}
