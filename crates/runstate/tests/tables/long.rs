//! The long form: for each request what comes of it, and from where. Derived from every reachable value.

use crate::asked::*;
use crate::common::*;
use runstate::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

/// Guest power, the job, and what the job has been told: together with the name they tell values apart.
type Aspect = [&'static str; 3];
type Aspects = BTreeSet<Aspect>;
/// What a client sees of an outcome: how it went, what was said, and the new name unless it is the old one.
type Seen = (Fate, String, Option<RunState>);

/// Every value that can be reached and in which nothing is under way.
pub fn reachable(starts: Vec<Lifecycle>) -> Vec<Lifecycle> {
    let mut asked = space::requests(0);
    let mut known: HashSet<_> = starts.iter().map(space::key).collect();
    let mut values = starts;
    let mut at = 0;
    while let Some(life) = values.get(at).cloned() {
        at += 1;
        for request in &mut asked {
            space::stamp(request, life.epoch());
            if let Ok(outcome) = life.apply(request)
                && outcome.next != life
                && known.insert(space::key(&outcome.next))
            {
                values.push(outcome.next);
            }
        }
    }
    values.retain(|life| !life.awaits_report() && !life.is_exiting());
    values
}

#[derive(Default)]
struct Rows {
    /// In which aspects each name can be asked at all.
    asked: BTreeMap<RunState, Aspects>,
    seen: BTreeMap<Seen, BTreeMap<RunState, Aspects>>,
}

impl Rows {
    fn of(request: &Request, values: &[Lifecycle]) -> Rows {
        let mut rows = Rows::default();
        for life in values {
            let Some(led) = ask(life, request) else { continue };
            let (name, aspect) = (life.view(), [power(life), job(life), told(life)]);
            let to = Some(led.next.view()).filter(|to| *to != name && !led.next.is_exiting());
            rows.asked.entry(name).or_default().insert(aspect);
            let from = rows.seen.entry((led.fate, led.said, to)).or_default();
            from.entry(name).or_default().insert(aspect);
        }
        rows
    }

    /// Names by what else must be the case.
    fn from(&self, from: &BTreeMap<RunState, Aspects>) -> String {
        let mut by_mark: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, aspects) in from {
            by_mark.entry(mark(aspects, &self.asked[name])).or_default().push(name.as_str());
        }
        // All but the reserved `colo`.
        let all = RunState::ALL.len() - 1;
        let groups = by_mark.iter().map(|(mark, names)| {
            let names = if names.len() == all { "every name".to_owned() } else { names.join(", ") };
            if mark.is_empty() { names } else { format!("{names} *({mark})*") }
        });
        groups.collect::<Vec<_>>().join("; ")
    }

    fn write(&self, text: &mut String) {
        // Outcomes that differ in the new name alone, and not in where they come from, share a row, and so does what
        // only changes the value's inside with what does not even do that.
        type Row<'a> = (Fate, &'a str, String);
        let mut shared: BTreeMap<Row, BTreeSet<&str>> = BTreeMap::new();
        for ((fate, said, to), from) in &self.seen {
            let to = to.map_or("the same name", RunState::as_str);
            shared.entry((*fate, said, self.from(from))).or_default().insert(to);
        }
        for ((fate, said, from), to) in &shared {
            let to = to.iter().copied().collect::<Vec<_>>().join(", ");
            let twin = |fate| {
                shared.get(&(fate, *said, from.clone())).is_some_and(|to| to.contains("the same name"))
            };
            let cell = match fate {
                Fate::Told if said.ends_with("ends") => (*said).to_owned(),
                Fate::Told => format!("{said} → {to}"),
                Fate::Silent if to == "the same name" && twin(Fate::Nothing) => "silent, or –".to_owned(),
                Fate::Silent if to == "the same name" => "silent".to_owned(),
                Fate::Silent => format!("silent → {to}"),
                Fate::Nothing if twin(Fate::Silent) => continue,
                Fate::Nothing => "–".to_owned(),
                Fate::Refused => format!("refused: {said}"),
            };
            writeln!(text, "| {cell} | {from} |").unwrap();
        }
    }
}

/// What sets `some` apart from `all`: one part after the other, each among those that the parts before it leave.
fn mark(some: &Aspects, all: &Aspects) -> String {
    let mut left = all.clone();
    let mut parts = vec![];
    for which in 0..3 {
        let words = |aspects: &Aspects| aspects.iter().map(|aspect| aspect[which]).collect::<BTreeSet<_>>();
        let (ours, others) = (words(some), &words(&left) - &words(some));
        left.retain(|aspect| ours.contains(aspect[which]));
        let list = |words: BTreeSet<&str>| words.into_iter().collect::<Vec<_>>().join(" or ");
        match others.len() {
            0 => {}
            few if few < ours.len() => parts.push(format!("unless {}", list(others))),
            _ => parts.push(list(ours)),
        }
    }
    parts.join("; ")
}

pub fn page(values: &[Lifecycle]) -> String {
    let mut text = String::from(HEAD);
    for Chapter { title, asked } in chapters() {
        write!(text, "\n## {title}\n").unwrap();
        for Asked { name, request } in asked {
            write!(text, "\n### {name}\n\n| what clients see | from |\n|---|---|\n").unwrap();
            Rows::of(&request, values).write(&mut text);
        }
    }
    text.push_str(ACTIONS);
    text.push_str(&actions());
    text
}

const HEAD: &str = "\
# Every request from every state

This page is derived from the rules (`crates/runstate`), from every value that can be reached, by
`UPDATE_DOCS=1 cargo test -p runstate --test tables`; the plain test fails when it is out of date. The page
[ARCHITECTURE.md](../ARCHITECTURE.md) has the short form and a diagram.

A row says what clients see: the events in their order, `→` and the name that `query-status` gives then. *silent*: something
changes (it is in `x-query-lifecycle`), no event tells it. *–*: nothing changes. *refused*: an error with this text, and
nothing changes. On the right are the names from which it happens; behind them, where the name alone does not decide it:
guest power, the job under way, and whether a reset waits for that job or the job was cancelled. Where two rows have the same
names, what decides is a hold behind the one that gives the name.

Everything goes well here (the other ways: `cont` that cannot be prepared is an error and changes nothing, at the end of a job it
leaves the machine `paused`; an effect that has no way back and fails leads to `internal-error`), no wake falls due in
the same moment (then WAKEUP and `running` follow), and every action is one that keeps the process: the last section has the others.
A guest asks nothing while it is not awake.
";

const ACTIONS: &str = "
## What the actions change

All from `running`.

| actions | request | what clients see |
|---|---|---|
";

/// What comes of a running guest's end by the actions in force.
fn actions() -> String {
    let none = ActionChange::default();
    let mut rows = vec![];
    for shutdown in ShutdownAction::ALL {
        let with = |change: ActionChange, word: String| {
            (ActionChange { shutdown: Some(*shutdown), ..change }, format!("shutdown={shutdown}{word}"))
        };
        rows.push((with(none, String::new()), "the guest powers off", POWER_OFF.at(0)));
        for reboot in RebootAction::ALL {
            let change = ActionChange { reboot: Some(*reboot), ..none };
            rows.push((with(change, format!(", reboot={reboot}")), "the guest resets", G::Reset.at(0)));
        }
        for panic in PanicAction::ALL {
            let change = ActionChange { panic: Some(*panic), ..none };
            rows.push((with(change, format!(", panic={panic}")), "the guest panics", G::Panic.at(0)));
        }
    }
    for watchdog in WatchdogAction::ALL {
        let change = ActionChange { watchdog: Some(*watchdog), ..none };
        rows.push(((change, format!("watchdog={watchdog}")), "the watchdog expires", D::Watchdog.at(0)));
    }
    let mut text = String::new();
    for ((change, word), what, request) in rows {
        let led = ask(&Machine::acting(change).life, &request).expect("a running guest can ask");
        let to = if led.next.is_exiting() { String::new() } else { format!(" → {}", led.next.view()) };
        writeln!(text, "| {word} | {what} | {}{to} |", led.said).unwrap();
    }
    text
}
