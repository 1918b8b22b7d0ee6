//! Replays recorded exchanges with QEMU 10.0 (`tests/data/edge.jsonl`) and compares the answers, order of members apart.
//! Every difference is listed here by name, with its reason; what is not replayed says why in the recording.
//!
//! A line of the recording has a `name`, the `scene` that the machine is in, perhaps what had been sent `before`, `send`,
//! and `recv`, its first answers (`more` counts those that were cut off), or, from the human monitor, `shown`: what is
//! printed after the echo.

mod common;

use common::{Client, OK, World, status};
use qmp::{Limits, Parser};
use runstate::{Actions, Config, GuestRequest, ManagementRequest as Ask, ShutdownCause};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use vmcore::testing::Step;

/// Why we answer otherwise than QEMU.
enum Difference {
    /// B26: one broken value, one error. QEMU's further errors for the same value are not expected.
    OneError,
    /// Another text of the error, or of what is shown.
    Text(&'static str),
    /// An event more.
    Event(&'static str),
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
    ("nesting: id nested 1024 arrays deep inside the object", Difference::OneError),
    ("nesting: id nested 1030 arrays deep inside the object", Difference::OneError),
    // RESUME alone would lead a client that folds events to believe that the guest runs.
    ("S3: cont again", Difference::Event("SUSPEND")),
    // Our own words in the help, and our own name in the version.
    ("HMP: help of one command", Difference::Text("cont|c  -- let the machine go on\r\n(qemu) ")),
    ("HMP: info with no item = help info", Difference::Text("10.0.2 (dormouse 0.1.0)\r\n(qemu) ")),
    // This machine has a name.
    ("HMP: CR ends the line too", Difference::Text("test\r\n(qemu) ")),
];

/// Probes that end within a token, which the sentinel's newline completes.
const OPEN: &[(&str, &str)] = &[("top level null", "QMP input must be a JSON object")];

fn configuration(scene: &str) -> Config {
    let pause = "pause".parse().unwrap();
    let actions = match scene {
        "actions" => Actions { reboot: "shutdown".parse().unwrap(), shutdown: pause, ..Actions::default() },
        "shutdown" => Actions { shutdown: pause, ..Actions::default() },
        _ => Actions::default(),
    };
    Config {
        actions,
        incoming: scene == "incoming",
        wakeup_supported: scene != "no wakeup",
        ..Config::default()
    }
}

/// Brings a new machine into the state that a probe was recorded in.
fn set_scene(world: &World, scene: &str) {
    // The recorded machine had a source of entropy that had been made while it ran.
    let object = migration::Object::Identity("CN=anybody".into());
    world.monitors.migrations().objects().add("r", object).unwrap();
    let mut watcher = world.client("watcher");
    let run = |requests: &[Ask]| requests.iter().for_each(|request| world.ask(*request));
    match scene {
        "greeting" | "fresh" | "prelaunch" | "oob" | "incoming" | "next client" => {}
        "running" | "no wakeup" | "actions" => run(&[Ask::Cont]),
        "paused" | "human" => run(&[Ask::Cont, Ask::Stop]),
        "reset" => run(&[Ask::Cont, Ask::Stop, Ask::SystemReset]),
        "shutdown" => {
            run(&[Ask::Cont]);
            let off = GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 };
            world.scripts[0].then(Step::Ecall(off));
            watcher.expect(&["RESUME", "SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}", "STOP"]);
        }
        "suspended" | "stopped sleeper" => {
            run(&[Ask::Cont]);
            world.suspend();
            watcher.expect(&["RESUME", "SUSPEND"]);
            watcher.status("suspended");
            if scene == "stopped sleeper" {
                run(&[Ask::Stop]);
            }
        }
        other => panic!("no scene {other}"),
    }
}

/// A world, and the connection that a probe is sent over.
struct Player {
    client: Client,
    world: World,
}

impl Player {
    fn new(scene: &str) -> Self {
        let world = World::with_config(1, configuration(scene));
        set_scene(&world, scene);
        if scene == "human" {
            let mut client = world.human("a");
            client.until("(qemu) ");
            return Self { client, world };
        }
        world.listen("a");
        let mut client = world.connect("a");
        match scene {
            "greeting" | "next client" => {}
            "oob" => client.negotiate_oob(),
            "fresh" => assert!(client.raw().starts_with("{\"QMP\": ")),
            _ => client.negotiate(),
        }
        Self { client, world }
    }

    /// Everything that is answered before the answer of a command that is sent behind `bytes`.
    fn answers(&mut self, bytes: &[u8]) -> Vec<String> {
        self.client.stream.write_all(bytes).unwrap();
        // A line of its own: what is broken ends before it, and so does a token that is not complete.
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

    /// What the human monitor prints for these lines, echo and prompts between them left out.
    fn shown(&mut self, lines: &str) -> String {
        self.client.send(lines);
        let lines: Vec<&str> = lines.split_inclusive(['\n', '\r']).map(str::trim).collect();
        let mut shown = String::new();
        for line in lines {
            let text = self.client.until("(qemu) ");
            let text = text.strip_prefix(&format!("{line}\r\n")).expect("the echo of the line");
            shown = shown.strip_suffix("(qemu) ").unwrap_or(&shown).to_owned() + text;
        }
        shown
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
    // Our own parser, as it takes what is nested a thousand deep.
    let mut value =
        Parser::new(Limits::default()).next(&mut line.as_bytes()).expect("a value").expect("JSON");
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("timestamp");
    }
    for package in ["/return/package", "/QMP/version/package"] {
        if let Some(package) = value.pointer_mut(package) {
            *package = Value::Null;
        }
    }
    value
}

fn desc(line: &str) -> Value {
    normal(line).pointer("/error/desc").cloned().unwrap_or_else(|| panic!("not an error: {line}"))
}

fn descs(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| desc(line)).collect()
}

/// The commands that we have.
fn offered() -> BTreeSet<String> {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send("{'execute':'query-commands'}");
    let reply: Value = serde_json::from_str(&client.raw()).unwrap();
    let names = reply["return"].as_array().unwrap().iter();
    names.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn recorded_probes_are_answered_as_qemu_answers_them() {
    let probes: Vec<Value> = include_str!("data/edge.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("the recording is JSON"))
        .collect();
    assert_eq!(probes.len(), 219, "the recording is whole");
    let offered = offered();
    let (mut same, mut different, mut absent) = (0, 0, BTreeSet::new());
    let mut skipped: BTreeMap<&str, u32> = BTreeMap::new();
    for probe in &probes {
        if let Some(reason) = probe["skip"].as_str() {
            *skipped.entry(reason).or_default() += 1;
            continue;
        }
        let text = |key: &str| probe[key].as_str().unwrap_or_default();
        let theirs: Vec<&str> =
            probe["recv"].as_array().into_iter().flatten().map(|line| line.as_str().unwrap()).collect();
        let (name, send) = (text("name"), bytes(text("send")));
        let command = serde_json::from_slice(&send).ok().and_then(|value: Value| {
            Some(value.get("execute").or_else(|| value.get("exec-oob"))?.as_str()?.to_owned())
        });
        let unknown = command.filter(|command| !offered.contains(command));
        let mut player = Player::new(text("scene"));
        let difference = DIFFERENCES.iter().find(|(differs, _)| *differs == name).map(|(_, how)| how);
        if text("scene") == "human" {
            let (ours, theirs) = (player.shown(text("send")), text("shown"));
            match difference {
                Some(Difference::Text(text)) => {
                    assert_ne!(theirs, *text, "{name}: no difference any more");
                    assert_eq!(ours, *text, "{name}");
                    different += 1;
                }
                _ => {
                    assert_eq!(ours, theirs, "{name}");
                    same += 1;
                }
            }
            continue;
        }
        let mut ours = match text("scene") {
            "greeting" => vec![player.client.raw()],
            "next client" => {
                let mut next = player.world.connect("a");
                drop(player.client);
                vec![next.raw()]
            }
            _ => {
                player.client.stream.write_all(&bytes(text("before"))).unwrap();
                player.answers(&send)
            }
        };
        if let Some((_, rest)) = OPEN.iter().find(|(open, _)| *open == name) {
            assert_eq!(desc(&ours.pop().expect("an error")), *rest, "{name}");
        }
        let not_found = |line: &str| line.contains("CommandNotFound") && line.contains("has not been found");
        if let Some(command) = unknown
            && ours.iter().any(|line| not_found(line))
            && !theirs.iter().any(|line| not_found(line))
        {
            absent.insert(command);
            continue;
        }
        match difference {
            None => {
                assert_eq!(probe["more"], Value::Null, "{name}: the recording has been cut short");
                let ours: Vec<Value> = ours.iter().map(|line| normal(line)).collect();
                let theirs: Vec<Value> = theirs.iter().map(|line| normal(line)).collect();
                assert_eq!(ours, theirs, "{name}");
                same += 1;
            }
            Some(Difference::Event(event)) => {
                let mut ours: Vec<Value> = ours.iter().map(|line| normal(line)).collect();
                let at = ours.iter().position(|line| line["event"] == *event).expect("the event");
                ours.remove(at);
                assert_eq!(ours, theirs.iter().map(|line| normal(line)).collect::<Vec<_>>(), "{name}");
                different += 1;
            }
            Some(Difference::OneError) => {
                assert!(theirs.len() > 1, "{name}: no difference any more");
                assert_eq!(descs(&ours), [desc(theirs[0])], "{name}");
                different += 1;
            }
            Some(Difference::Text(text)) => {
                assert_ne!(desc(theirs[0]), *text, "{name}: no difference any more");
                assert_eq!(descs(&ours), [*text], "{name}");
                different += 1;
            }
        }
    }
    println!("{same} probes answered as by QEMU, {different} with a difference that is listed");
    println!("{} commands are not offered: {absent:?}", absent.len());
    skipped.iter().for_each(|(reason, count)| println!("{count} not replayed: {reason}"));
    assert_eq!(different, DIFFERENCES.len(), "every listed difference is in the recording");
    assert!(same > 100, "{same} probes");
}

#[test]
fn what_follows_a_broken_value_is_answered() {
    let world = World::new(1);
    let mut client = world.client("a");
    for broken in ["{'execute': True}", "[1}", "}", "\u{0}", "{'execute':'query-status','id':01}"] {
        client.send(broken);
        assert!(desc(&client.raw()).as_str().unwrap().starts_with("JSON parse error"), "{broken:?}");
        client.send(" {'execute':'query-status'}");
        client.expect(&[&status("prelaunch")]);
    }
    client.stream.write_all(b"{'execute': [[[[\xFF").unwrap();
    assert!(desc(&client.raw()).as_str().unwrap().contains("stray"));
    client.run("stop", &[OK]);
}
