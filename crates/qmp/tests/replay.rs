//! Replays recorded exchanges with QEMU 10.0 (`tests/data/edge.jsonl`: name, what had been sent before, send, recv) and
//! compares the answers, order of members apart. Every difference is listed here by name, with its reason.

use qmp::schema::Qapi as _;
use qmp::types::{KvmInfo, RunState, ShutdownCause, StatusInfo, UuidInfo, VersionInfo, VersionTriple};
use qmp::{Command, CommandSet, Event, Input, Limits, QmpError, Session, Timestamp};
use serde_json::Value;
use std::sync::Arc;

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

/// Plays the machine: enough of it for the recorded commands.
fn execute(call: &qmp::Call) -> (Vec<Event>, Result<Value, QmpError>) {
    let version =
        VersionInfo { qemu: VersionTriple { major: 10, minor: 0, micro: 2 }, package: String::new() };
    match call.command {
        Command::QueryStatus => {
            (vec![], Ok(StatusInfo { running: false, status: RunState::PreLaunch }.to_value()))
        }
        Command::QueryVersion => (vec![], Ok(version.to_value())),
        Command::QueryKvm => (vec![], Ok(KvmInfo { enabled: false, present: false }.to_value())),
        Command::QueryUuid => {
            (vec![], Ok(UuidInfo { uuid: "00000000-0000-0000-0000-000000000000".to_owned() }.to_value()))
        }
        Command::Cont => (vec![Event::resume()], Ok(().to_value())),
        Command::Stop => (vec![Event::stop()], Ok(().to_value())),
        Command::SystemReset => (vec![Event::reset(ShutdownCause::HostQmpSystemReset)], Ok(().to_value())),
        Command::SystemPowerdown => (vec![Event::powerdown()], Ok(().to_value())),
        Command::Quit => (vec![Event::shutdown(ShutdownCause::HostQmpQuit)], Ok(().to_value())),
        Command::SetAction => (vec![], Ok(().to_value())),
        Command::HumanMonitorCommand => {
            assert_eq!(call.args.str("command-line"), "info status");
            (vec![], Ok(Value::from("VM status: running\r\n")))
        }
        other => panic!("no recorded probe runs {other:?}"),
    }
}

fn answers(session: &mut Session, bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for input in session.feed(bytes) {
        match input {
            Input::Reply(line) => lines.push(line),
            Input::Call(call) => {
                let (events, result) = execute(&call);
                let when = Timestamp { seconds: 1, microseconds: 2 };
                lines.extend(events.iter().map(|event| event.render(when)));
                lines.push(call.reply(&result));
            }
        }
    }
    lines
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
        let mut session = Session::new(Arc::new(CommandSet::standard(false)), Limits::default());
        let early = name.starts_with("negotiation: ") && name != "negotiation: repeated after success";
        if name.starts_with("oob: exec-oob") {
            let enable = br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#;
            assert_eq!(answers(&mut session, enable), ["{\"return\": {}}\r\n"]);
        } else if !(early || name == "oob: enabling it" || name.starts_with("reconnect")) {
            assert_eq!(answers(&mut session, b"{'execute':'qmp_capabilities'}"), ["{\"return\": {}}\r\n"]);
        }
        assert!(
            answers(&mut session, &bytes(text("before"))).is_empty(),
            "{name}: the half before is silent"
        );
        let ours = answers(&mut session, &bytes(text("send")));
        let theirs: Vec<&str> = probe["recv"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| line.as_str().expect("a line"))
            .collect();
        match DIFFERENCES.iter().find(|(differs, _)| *differs == name) {
            None => {
                let ours: Vec<Value> = ours.iter().map(|line| normal(line)).collect();
                let theirs: Vec<Value> = theirs.iter().map(|line| normal(line)).collect();
                assert_eq!(ours, theirs, "{name}");
            }
            Some((_, Difference::OneError)) => {
                seen += 1;
                assert!(theirs.len() > 1, "{name}: no difference any more");
                assert_eq!(
                    ours.iter().map(|line| desc(line)).collect::<Vec<_>>(),
                    [desc(theirs[0])],
                    "{name}"
                );
            }
            Some((_, Difference::Text(text))) => {
                seen += 1;
                assert_eq!(ours.iter().map(|line| desc(line)).collect::<Vec<_>>(), [*text], "{name}");
                assert_ne!(desc(theirs[0]), *text, "{name}: no difference any more");
            }
        }
        // Whatever went before, the connection is usable.
        let probe: &[u8] =
            if session.negotiated() { b" {'execute':'query-kvm'}" } else { b" {'execute':'quit'}" };
        let last = answers(&mut session, probe).pop().unwrap_or_default();
        let good = if session.negotiated() { "\"enabled\": false" } else { "Expecting capabilities" };
        assert!(last.contains(good), "{name}: {last}");
    }
    assert_eq!(seen, DIFFERENCES.len(), "every listed difference is in the recording");
}

#[test]
fn the_greeting_is_qemus_but_for_order() {
    let version =
        VersionInfo { qemu: VersionTriple { major: 10, minor: 0, micro: 2 }, package: "ours 1".to_owned() };
    assert_eq!(
        Session::greeting(&version),
        "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0, \"micro\": 2}, \"package\": \"ours 1\"}, \
         \"capabilities\": [\"oob\"]}}\r\n"
    );
}
