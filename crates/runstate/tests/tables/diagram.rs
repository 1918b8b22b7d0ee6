//! The simplest values as a diagram of states, for Mermaid.

use crate::asked::*;
use crate::short::Simplest;
use runstate::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Who lets a machine go on: nodes of one group have much in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Live,
    /// Liftable, and where a reset leads.
    Boot,
    Liftable,
    Power,
    Job,
    /// Liftable too, but no other migration can begin.
    Moved,
}

impl Group {
    /// Each with its id and its title; those of one node need none.
    const ALL: [(Group, &'static str, &'static str); 6] = [
        (Group::Live, "live", "live"),
        (Group::Boot, "boot", ""),
        (Group::Liftable, "held", "held until cont"),
        (Group::Power, "dead", "until a reset"),
        (Group::Job, "job", "held by a job"),
        (Group::Moved, "moved", ""),
    ];

    fn id(self) -> &'static str {
        Group::ALL.iter().find(|(group, ..)| *group == self).expect("all are there").1
    }
}

/// A name; that of a background snapshot's own hold is another than that of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    group: Group,
    name: RunState,
}

impl Node {
    fn of(life: &Lifecycle) -> Node {
        let group = match life.holds().iter().find(|hold| hold.cause == life.view()).map(|hold| hold.owner) {
            None => Group::Live,
            Some(Owner::Moved) => Group::Moved,
            Some(Owner::Boot) => Group::Boot,
            Some(owner) => match owner.kind() {
                HoldKind::Liftable => Group::Liftable,
                HoldKind::Power => Group::Power,
                HoldKind::Job => Group::Job,
            },
        };
        Node { group, name: life.view() }
    }

    fn id(self) -> String {
        match self {
            Node { group: Group::Job, name: RunState::Paused } => "snapshot".to_owned(),
            Node { name, .. } => name.as_str().replace('-', "_"),
        }
    }
}

/// Whether a client sees this happen, or a job makes it happen. A guest asks only while its harts execute.
fn is_drawn(life: &Lifecycle, request: &Request, led: &Led) -> bool {
    match request {
        Request::Guest(_) => life.executes(),
        Request::Migration(_) => true,
        _ => led.fate == Fate::Told,
    }
}

/// The diagram, and how machines that were just made are called.
pub fn diagram(simplest: &Simplest, starts: &[Lifecycle]) -> String {
    let nodes: BTreeSet<Node> = simplest.0.iter().map(|life| Node::of(life)).collect();
    let mut labels: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for Asked { name, request } in chapters().into_iter().flat_map(|chapter| chapter.asked) {
        let mut edges: BTreeMap<Node, BTreeSet<Node>> = BTreeMap::new();
        for life in &simplest.0 {
            let Some(led) = ask(life, &request) else { continue };
            let (from, to) = (Node::of(life), Node::of(&led.next));
            if from != to && !led.next.is_exiting() && is_drawn(life, &request, &led) {
                edges.entry(to).or_default().insert(from);
            }
        }
        for (to, from) in edges {
            for from in sources(&from, &nodes, to) {
                labels.entry((from, to.id())).or_default().push(name);
            }
        }
    }
    let mut text = String::from("stateDiagram-v2\n    direction LR\n");
    for (group, id, title) in Group::ALL {
        let inside = nodes.iter().filter(|node| node.group == group);
        let indent = if title.is_empty() { "    " } else { "        " };
        let mut inside: String =
            inside.map(|node| format!("{indent}state \"{}\" as {}\n", node.name, node.id())).collect();
        if !title.is_empty() {
            inside = format!("    state \"{title}\" as {id} {{\n{inside}    }}\n");
        }
        text.push_str(&inside);
    }
    for name in starts.iter().map(|life| Node::of(life).id()).collect::<BTreeSet<_>>() {
        writeln!(text, "    [*] --> {name}").unwrap();
    }
    for ((from, to), requests) in labels {
        writeln!(text, "    {from} --> {to}: {}", requests.join(", ")).unwrap();
    }
    text
}

/// `from`, with a group in the place of all its nodes.
fn sources(from: &BTreeSet<Node>, nodes: &BTreeSet<Node>, to: Node) -> BTreeSet<String> {
    let source = |node: &Node| {
        let mut group = nodes.iter().filter(|other| other.group == node.group && **other != to);
        let several = group.clone().count() > 1;
        if several && to.group != node.group && group.all(|other| from.contains(other)) {
            node.group.id().to_owned()
        } else {
            node.id()
        }
    };
    from.iter().map(source).collect()
}
