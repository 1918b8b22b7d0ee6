//! One connection: negotiation, calls, replies as bytes.

use proptest::prelude::*;
use qmp::schema::{CommandDef, EventDef, Qapi, Rate, Type, arg, opt};
use qmp::{CommandSet, Event, Input, Limits, QmpError, Timestamp, qapi_enum};
use serde_json::{Value, json};
use std::sync::Arc;

qapi_enum! {
    /// An action.
    Action {
        /// Reset.
        Reset = "reset",
        /// A non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

const fn command(name: &'static str, args: &'static [qmp::schema::ArgDef], allow_oob: bool) -> CommandDef {
    CommandDef { name, doc: "", args, returns: <()>::TYPE, allow_oob }
}

static COMMANDS: &[CommandDef] = &[
    command("stop", &[], false),
    command("cont", &[], false),
    command("quit", &[], false),
    command("system_wakeup", &[], false),
    command("yank", &[], true),
    command("set-action", SET_ACTION, false),
    command("human-monitor-command", LINE, false),
];
const SET_ACTION: &[qmp::schema::ArgDef] =
    &[opt("reboot", Action::TYPE, ""), opt("panic", Action::TYPE, ""), opt("watchdog", Action::TYPE, "")];
const LINE: &[qmp::schema::ArgDef] = &[arg("command-line", Type::Str, ""), opt("cpu-index", Type::Int, "")];

static STOP: EventDef = EventDef { name: "STOP", doc: "", data: &[], rate: Rate::Free };
static SHUTDOWN: EventDef =
    EventDef { name: "SHUTDOWN", doc: "", data: &[arg("guest", Type::Bool, "")], rate: Rate::Free };

/// What runs a command here: its name.
type Session = qmp::Session<&'static str>;
type Call = qmp::Call<&'static str>;

fn commands() -> CommandSet<&'static str> {
    CommandSet::new(COMMANDS.iter().map(|def| (def, def.name)), [&STOP, &SHUTDOWN])
}

fn fresh() -> Session {
    Session::new(Arc::new(commands()), Limits::default())
}

fn open() -> Session {
    let mut session = fresh();
    assert_eq!(
        session.feed(b"{'execute':'qmp_capabilities'}"),
        [Input::Reply("{\"return\": {}}\r\n".into())]
    );
    session
}

#[track_caller]
fn replies(session: &mut Session, input: &str, lines: &[&str]) {
    let expected: Vec<Input<&str>> = lines.iter().map(|line| Input::Reply(format!("{line}\r\n"))).collect();
    assert_eq!(session.feed(input.as_bytes()), expected);
}

#[track_caller]
fn call(session: &mut Session, input: &str) -> Call {
    match session.feed(input.as_bytes()).as_slice() {
        [Input::Call(call)] => call.clone(),
        other => panic!("{other:?}"),
    }
}

const EXPECTING: &str = r#""error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}"#;

#[test]
fn nothing_runs_before_the_negotiation() {
    let mut session = fresh();
    replies(&mut session, "{'execute':'quit','id':1}", &[&format!(r#"{{"id": 1, {EXPECTING}}}"#)]);
    replies(&mut session, "{'execute':'no-such'}", &[&format!("{{{EXPECTING}}}")]);
    assert!(!session.negotiated());
    replies(
        &mut session,
        "{'execute':'qmp_capabilities','arguments':{'enable':'oob'}}",
        &[
            r#"{"error": {"class": "GenericError", "desc": "Invalid parameter type for 'enable', expected: array"}}"#,
        ],
    );
    assert!(!session.negotiated(), "a refused negotiation is none");
    // A value read together with the negotiation is judged after it.
    let inputs = session.feed(b"{'execute':'qmp_capabilities','id':'n'}{'execute':'quit'}");
    assert_eq!(inputs[0], Input::Reply("{\"return\": {}, \"id\": \"n\"}\r\n".into()));
    assert!(matches!(&inputs[1], Input::Call(call) if call.command == "quit"));
    assert!(session.negotiated() && !session.oob());
}

#[test]
fn out_of_band_only_where_it_is_allowed() {
    let mut session = open();
    replies(
        &mut session,
        "{'exec-oob':'stop'}",
        &[r#"{"error": {"class": "GenericError", "desc": "QMP input member 'exec-oob' is unexpected"}}"#],
    );
    let mut session = fresh();
    session.feed(b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}");
    assert!(session.oob());
    replies(
        &mut session,
        "{'exec-oob':'stop'}{'exec-oob':'stop','execute':'stop'}",
        &[
            r#"{"error": {"class": "GenericError", "desc": "The command stop does not support OOB"}}"#,
            r#"{"error": {"class": "GenericError", "desc": "QMP input member 'execute' clashes with 'exec-oob'"}}"#,
        ],
    );
    assert!(!call(&mut session, "{'execute':'stop'}").oob);
    assert!(call(&mut session, "{'exec-oob':'yank'}").oob);
    assert!(!call(&mut session, "{'execute':'yank'}").oob);
}

#[test]
fn what_is_not_allowed_is_neither_run_nor_listed() {
    let allowed = commands().restricted(|name| name == "stop" || name == "human-monitor-command");
    let names: Vec<&str> = allowed.iter().map(|def| def.name).collect();
    assert_eq!(names, ["qmp_capabilities", "stop", "human-monitor-command"]);
    let schema = allowed.query_qmp_schema().to_value().to_string();
    assert!(schema.contains("\"stop\"") && !schema.contains("\"cont\""));
    let mut session = Session::new(Arc::new(allowed), Limits::default());
    session.feed(b"{'execute':'qmp_capabilities'}");
    assert_eq!(call(&mut session, "{'execute':'stop'}").command, "stop");
    replies(
        &mut session,
        "{'execute':'cont','arguments':{'x':1}}{'execute':'frob'}",
        &[
            r#"{"error": {"class": "CommandNotFound", "desc": "Command cont has been disabled"}}"#,
            r#"{"error": {"class": "CommandNotFound", "desc": "The command frob has not been found"}}"#,
        ],
    );
}

#[test]
fn arguments_arrive_checked() {
    let mut session = open();
    let set =
        call(&mut session, "{'execute':'set-action','arguments':{'reboot':'reset','watchdog':'inject-nmi'}}");
    assert_eq!(set.args.opt_enum("reboot"), Some(Action::Reset));
    assert_eq!(set.args.opt_enum("watchdog"), Some(Action::InjectNmi));
    assert_eq!(set.args.opt_enum::<Action>("panic"), None);
    let line = "{'execute':'human-monitor-command','arguments':{'command-line':'info','cpu-index':0}}";
    let line = call(&mut session, line);
    assert_eq!((line.args.str("command-line"), line.args.opt_i64("cpu-index")), ("info", Some(0)));
    replies(
        &mut session,
        "{'execute':'stop','arguments':{'now':true},'id':[]}{'execute':'stop','arguments':null}",
        &[
            r#"{"id": [], "error": {"class": "GenericError", "desc": "Parameter 'now' is unexpected"}}"#,
            r#"{"error": {"class": "GenericError", "desc": "QMP input member 'arguments' must be an object"}}"#,
        ],
    );
}

#[test]
fn a_caller_may_take_one_request_at_a_time() {
    let mut session = open();
    let mut bytes = &b"{'execute':'stop'}{'execute':'cont'} {'exe"[..];
    assert!(matches!(session.feed_one(&mut bytes), Some(Input::Call(call)) if call.command == "stop"));
    assert_eq!(bytes, b"{'execute':'cont'} {'exe");
    assert!(matches!(session.feed_one(&mut bytes), Some(Input::Call(call)) if call.command == "cont"));
    assert_eq!(session.feed_one(&mut bytes), None);
    assert_eq!(bytes, b"");
    assert_eq!(call(&mut session, "cute':'quit'}").command, "quit");
}

#[test]
fn replies_and_events_are_single_lines_of_ascii() {
    let mut session = open();
    let odd = r#"{"execute":"stop","id":{"é\n\"\\":["😀",1e3,0.5,1e300,-0.0,null,"\u007f\u0000"]}}"#;
    let reply = call(&mut session, odd).reply(&Ok(().to_value()));
    assert_eq!(
        reply,
        concat!(
            r#"{"return": {}, "id": {"\u00E9\n\"\\": ["\uD83D\uDE00", 1000, 0.5, 1e300, -0, null, "\u007F\u0000"]}}"#,
            "\r\n"
        )
    );
    let refused = call(&mut session, "{'execute':'system_wakeup','id':7}");
    let text = "Unable to wake up: guest is not in suspended state";
    assert_eq!(
        refused.reply(&Err(QmpError::generic(text))),
        format!("{{\"id\": 7, \"error\": {{\"class\": \"GenericError\", \"desc\": \"{text}\"}}}}\r\n")
    );
    let when = Timestamp { seconds: 1_795_396_384, microseconds: 81_424 };
    let stamp = r#"{"timestamp": {"seconds": 1795396384, "microseconds": 81424}, "event": "#;
    assert_eq!(Event::plain(&STOP).render(when), format!("{stamp}\"STOP\"}}\r\n"));
    assert_eq!(
        Event::with(&SHUTDOWN, &json!({"guest": true})).render(when),
        format!("{stamp}\"SHUTDOWN\", \"data\": {{\"guest\": true}}}}\r\n")
    );
}

#[test]
fn the_greeting_is_qemus_but_for_order() {
    use qmp::types::{VersionInfo, VersionTriple};
    let version =
        VersionInfo { qemu: VersionTriple { major: 10, minor: 0, micro: 2 }, package: "ours 1".to_owned() };
    assert_eq!(
        qmp::wire::greeting(&version),
        "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0, \"micro\": 2}, \"package\": \"ours 1\"}, \
         \"capabilities\": [\"oob\"]}}\r\n"
    );
}

#[test]
fn what_may_be_nested_may_be_echoed_on_a_small_stack() {
    let echo = || {
        let nested = "[".repeat(1023) + &"]".repeat(1023);
        let input = format!("{{'execute':'stop','id':{nested}}}");
        let mut session = open();
        let call = call(&mut session, &input);
        assert_eq!(call.reply(&Ok(json!({}))), format!("{{\"return\": {{}}, \"id\": {nested}}}\r\n"));
        drop((call.clone(), call));
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(echo);
    thread.expect("a thread").join().expect("no overflow");
}

#[test]
fn a_long_string_is_echoed() {
    let long = "a\\\"é".repeat(1 << 18);
    let reply = call(&mut open(), &format!(r#"{{"execute":"stop","id":"{long}"}}"#)).reply(&Ok(json!({})));
    let value: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(value["id"].as_str().map(str::len), Some(4 << 18));
}

/// Streams with the things that sessions look at.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop::sample::select(vec![
        &b"{\"execute\":\"qmp_capabilities\"}"[..],
        b"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
        b"{\"execute\":\"stop\",\"id\":1e16}",
        b"{\"exec-oob\":\"stop\"}",
        b"{\"execute\":\"set-action\",\"arguments\":{\"panic\":\"\xE2\x82\xAC\"}}",
        b"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":[]}}",
        b"{\"id\":{\"\xF0\x9F\x98\x80\":[{}]}}",
        b"5 ",
        b"]",
        b"\xFF",
        b"{",
        b"\"",
        b"}",
        b"\n",
    ]);
    let byte = any::<u8>().prop_map(|byte| vec![byte]);
    let part = prop_oneof![6 => fragment.prop_map(<[u8]>::to_vec), 1 => byte];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn outputs(session: &mut Session, bytes: &[u8]) -> Vec<String> {
    let line = |input| match input {
        Input::Reply(line) => line,
        Input::Call(call) => call.reply(&Ok(json!(call.command))),
    };
    session.feed(bytes).into_iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_gives_whole_lines_of_bounded_length_however_it_is_cut(input in input(), cut in 1usize..20) {
        let whole = outputs(&mut fresh(), &input);
        let mut session = fresh();
        let cut: Vec<String> = input.chunks(cut).flat_map(|chunk| outputs(&mut session, chunk)).collect();
        prop_assert_eq!(&whole, &cut);
        for line in &whole {
            prop_assert!(line.is_ascii() && line.ends_with("\r\n") && line.matches("\n").count() == 1);
            prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {}", line);
        }
        let written: usize = whole.iter().map(String::len).sum();
        prop_assert!(written <= 100 * input.len(), "{} bytes for {}", written, input.len());
    }
}
