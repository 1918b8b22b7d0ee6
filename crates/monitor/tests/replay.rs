//! Replays recorded exchanges with QEMU 10.0 (`tests/data/edge.jsonl`: name, what had been sent before, send, recv) and
//! compares the answers, order of members apart. Every difference is listed here by name, with its reason.

mod common;

use common::{Client, OK, World};
use runstate::ManagementRequest;
use serde_json::Value;
use std::io::Write as _;

/// Why we answer otherwise than QEMU.
enum Difference {
    /// B26: one broken value, one error. QEMU's further errors for the same value are not expected.
    OneError,
    /// Another text.
    Text(&'static str),
}

const DIFFERENCES: &[(&str, Difference)] = &[
    // An element of a list has no name in QEMU, which prints a null pointer's stand-in; we name it.
    (
        "negotiation: enable unknown capability",
        Difference::Text("Parameter 'enable[0]' does not accept value 'foo'"),
    ),
    ("reject: True (python)", Difference::OneError),
    ("reject: leading zero", Difference::OneError),
    ("reject: bare dot fraction", Difference::OneError),
    ("string: control character raw (\\x01)", Difference::OneError),
    ("string: raw newline inside string", Difference::OneError),
    ("string: raw tab inside string", Difference::OneError),
];

/// A connection for one probe, negotiated or not.
struct Player {
    client: Client,
    _world: World,
}

/// Probes that were recorded of a machine that runs; the others of one that has not been started.
const RUNNING: &[&str] = &["lifecycle: stop: STOP precedes the reply", "HMP via QMP: info status"];

/// Probes that end within a token, which the sentinel's newline completes.
const OPEN: &[(&str, &str)] = &[("top level null", "QMP input must be a JSON object")];

impl Player {
    /// The world that the probe was recorded in.
    fn new(name: &str) -> Self {
        let world = World::new(1);
        if RUNNING.contains(&name) {
            world.ask(ManagementRequest::Cont);
        }
        world.listen("a");
        let mut client = world.connect("a");
        assert!(client.raw().starts_with("{\"QMP\": "));
        Self { client, _world: world }
    }

    fn negotiate(&mut self, command: &str) {
        self.client.send(command);
        assert_eq!(self.client.raw(), OK);
    }

    /// Everything that is answered before the answer of a command that is sent behind `bytes`.
    fn answers(&mut self, bytes: &[u8]) -> Vec<String> {
        self.client.stream.write_all(bytes).unwrap();
        // Behind a lone digit only a delimiter makes a token; and a broken string ends with a line.
        self.client.send("\n{\"execute\": \"query-kvm\", \"id\": \"sentinel\"}");
        let mut lines = Vec::new();
        while let Some(line) = self.client.raw_or_end() {
            if line.contains("\"id\": \"sentinel\"") {
                break;
            }
            lines.push(line);
        }
        lines
    }
}

/// A recorded text into bytes: `\xHH` stands for a byte that is not text.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

/// Drops what differs from run to run.
fn normal(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).expect("each answer is JSON");
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("timestamp");
    }
    if let Some(package) = value.pointer_mut("/return/package") {
        *package = Value::Null;
    }
    value
}

fn desc(line: &str) -> Value {
    normal(line).pointer("/error/desc").cloned().expect("an error")
}

#[test]
fn recorded_probes_are_answered_as_qemu_answers_them() {
    let probes: Vec<Value> = include_str!("data/edge.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("the recording is JSON"))
        .collect();
    assert!(probes.len() > 60, "the recording is there");
    let mut seen = 0;
    for probe in &probes {
        let text = |key: &str| probe[key].as_str().unwrap_or_default();
        let name = text("name");
        let mut player = Player::new(name);
        let early = name.starts_with("negotiation: ") && name != "negotiation: repeated after success";
        if name.starts_with("oob: exec-oob") {
            player.negotiate("{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}");
        } else if !(early || name == "oob: enabling it" || name.starts_with("reconnect")) {
            player.negotiate("{'execute':'qmp_capabilities'}");
        }
        player.client.stream.write_all(&bytes(text("before"))).unwrap();
        let mut ours = player.answers(&bytes(text("send")));
        if let Some((_, desc_of_rest)) = OPEN.iter().find(|(open, _)| *open == name) {
            assert_eq!(desc(&ours.pop().expect("an error")), *desc_of_rest, "{name}");
        }
        let theirs = probe["recv"].as_array().into_iter().flatten();
        let theirs: Vec<&str> = theirs.map(|line| line.as_str().expect("a line")).collect();
        match DIFFERENCES.iter().find(|(differs, _)| *differs == name) {
            None => {
                let ours: Vec<Value> = ours.iter().map(|line| normal(line)).collect();
                let theirs: Vec<Value> = theirs.iter().map(|line| normal(line)).collect();
                assert_eq!(ours, theirs, "{name}");
            }
            Some((_, Difference::OneError)) => {
                seen += 1;
                assert!(theirs.len() > 1, "{name}: no difference any more");
                let ours: Vec<Value> = ours.iter().map(|line| desc(line)).collect();
                assert_eq!(ours, [desc(theirs[0])], "{name}");
            }
            Some((_, Difference::Text(text))) => {
                seen += 1;
                let ours: Vec<Value> = ours.iter().map(|line| desc(line)).collect();
                assert_eq!(ours, [*text], "{name}");
                assert_ne!(desc(theirs[0]), *text, "{name}: no difference any more");
            }
        }
    }
    assert_eq!(seen, DIFFERENCES.len(), "every listed difference is in the recording");
}
