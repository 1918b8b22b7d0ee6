//! One connection: negotiation, calls, replies as bytes.

use proptest::prelude::*;
use qmp::schema::Qapi as _;
use qmp::types::{PanicAction, RebootAction, ShutdownCause, WatchdogAction};
use qmp::{Command, CommandSet, Event, Input, Limits, QmpError, Session, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

fn fresh() -> Session {
    Session::new(Arc::new(CommandSet::standard(false)), Limits::default())
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
    let expected: Vec<Input> = lines.iter().map(|line| Input::Reply(format!("{line}\r\n"))).collect();
    assert_eq!(session.feed(input.as_bytes()), expected);
}

#[track_caller]
fn call(session: &mut Session, input: &str) -> qmp::Call {
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
    assert!(matches!(&inputs[1], Input::Call(call) if call.command == Command::Quit));
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
}

#[test]
fn arguments_arrive_checked() {
    let mut session = open();
    let set = call(
        &mut session,
        "{'execute':'set-action','arguments':{'reboot':'shutdown','watchdog':'inject-nmi'}}",
    );
    assert_eq!(set.args.opt_enum("reboot"), Some(RebootAction::Shutdown));
    assert_eq!(set.args.opt_enum("watchdog"), Some(WatchdogAction::InjectNmi));
    assert_eq!(set.args.opt_enum::<PanicAction>("panic"), None);
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
    assert!(matches!(session.feed_one(&mut bytes), Some(Input::Call(call)) if call.command == Command::Stop));
    assert_eq!(bytes, b"{'execute':'cont'} {'exe");
    assert!(matches!(session.feed_one(&mut bytes), Some(Input::Call(call)) if call.command == Command::Cont));
    assert_eq!(session.feed_one(&mut bytes), None);
    assert_eq!(bytes, b"");
    assert_eq!(call(&mut session, "cute':'quit'}").command, Command::Quit);
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
    assert_eq!(Event::stop().render(when), format!("{stamp}\"STOP\"}}\r\n"));
    assert_eq!(
        Event::shutdown(ShutdownCause::GuestPanic).render(when),
        format!("{stamp}\"SHUTDOWN\", \"data\": {{\"guest\": true, \"reason\": \"guest-panic\"}}}}\r\n")
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
        Input::Call(call) => call.reply(&Ok(json!(call.command.def().name))),
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
