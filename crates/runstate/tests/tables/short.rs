//! The short form: the simplest value of each name under the requests that matter most, equal rows together.

use crate::asked::*;
use runstate::*;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The simplest value of each name, guest power and job: what holds the machine has one owner.
pub struct Simplest<'a>(pub Vec<&'a Lifecycle>);

impl<'a> Simplest<'a> {
    /// `values` come in the order in which they were found, the nearest first; the live ones go to the front.
    pub fn of(values: &'a [Lifecycle]) -> Simplest<'a> {
        let simple = |life: &&Lifecycle| life.holds().len() <= 1 && told(life) == "nothing waits";
        let mut seen = BTreeSet::new();
        let first = |life: &&Lifecycle| seen.insert((life.view(), power(life), job(life)));
        let mut simplest: Vec<_> = values.iter().filter(simple).filter(first).collect();
        simplest.sort_by_key(|life| !life.is_live());
        Simplest(simplest)
    }

    /// A table of those values that `rows` wants, under these requests.
    fn table(&self, rows: impl Fn(&Lifecycle) -> bool, columns: &[&str]) -> String {
        let asked: Vec<Asked> = chapters().into_iter().flat_map(|chapter| chapter.asked).collect();
        let request = |column: &str| asked.iter().find(|asked| asked.name == column).expect("is asked");
        let mut groups: Vec<(Vec<String>, Vec<String>)> = vec![];
        for life in self.0.iter().filter(|life| rows(life)) {
            let cells = columns.iter().map(|column| cell(life, &request(column).request)).collect();
            match groups.iter_mut().find(|(_, known)| *known == cells) {
                Some((names, _)) => names.push(label(life)),
                None => groups.push((vec![label(life)], cells)),
            }
        }
        let mut text = format!("| | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
        for (names, cells) in groups {
            writeln!(text, "| {} | {} |", names.join(", "), cells.join(" | ")).unwrap();
        }
        text
    }

    /// What managers and guests do most. Of those that sleep while they are held, the stopped one stands for all.
    pub fn life(&self) -> String {
        let rows = |life: &Lifecycle| {
            let plain = life.job().is_none() || life.holds().has_kind(HoldKind::Job);
            let stands = !life.is_asleep() || life.is_live() || life.holds().has(Owner::Manager);
            plain && stands && life.latched().is_none() && !is_moving(life)
        };
        let columns = [
            "stop",
            "cont",
            "system_wakeup",
            "system_reset",
            "the guest suspends",
            "the guest powers off",
            "a wake",
        ];
        self.table(rows, &columns)
    }

    /// Both ends of a migration.
    pub fn migration(&self) -> String {
        let moves = |life: &Lifecycle| {
            life.job().is_some() && life.power() == Power::Awake && (life.is_live() || is_moving(life))
        };
        let source = [
            "stop",
            "cont",
            "system_reset",
            "switch-over",
            "seal",
            "COMMIT is sent",
            "COMMIT is sent, postcopy",
            "done",
            "failed",
        ];
        let destination = [
            "stop",
            "cont",
            "system_reset",
            "migrate-incoming",
            "a running guest arrives",
            "a stopped guest arrives",
            "the last page arrives",
            "arriving fails",
        ];
        let out = |life: &Lifecycle| moves(life) && matches!(life.job(), Some(Job::Outgoing { .. }));
        let into = |life: &Lifecycle| moves(life) && matches!(life.job(), Some(Job::Incoming { .. }));
        format!("{}\n{}", self.table(out, &source), self.table(into, &destination))
    }
}

fn is_moving(life: &Lifecycle) -> bool {
    [Owner::Moved, Owner::Incoming, Owner::Outgoing].iter().any(|owner| life.holds().has(*owner))
}

fn label(life: &Lifecycle) -> String {
    let mut label = life.view().to_string();
    if life.is_asleep() && !life.is_live() {
        write!(label, " ({})", power(life)).unwrap();
    }
    if life.job().is_some() {
        write!(label, " ({})", job(life)).unwrap();
    }
    label
}

fn cell(life: &Lifecycle, request: &Request) -> String {
    let Some(led) = ask(life, request) else { return String::new() };
    let to = match led.next.view() {
        to if to == life.view() => String::new(),
        to => format!(" → {to}"),
    };
    match led.fate {
        Fate::Refused => "refused".to_owned(),
        Fate::Nothing => "–".to_owned(),
        Fate::Silent => format!("silent{to}"),
        Fate::Told => format!("{}{to}", led.said),
    }
}
