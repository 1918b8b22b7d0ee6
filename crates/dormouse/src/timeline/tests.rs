use super::*;
use serde_json::{Value, json};

/// A record as X_LIFECYCLE tells it.
fn record(
    sequence: u64,
    host_ns: u64,
    guest_ns: u64,
    state: &str,
    power: &str,
    event: Option<&str>,
) -> Value {
    let mut record = json!({
        "sequence": sequence,
        "time": {"guest-ns": guest_ns, "host-ns": host_ns, "wall-ns": 0},
        "cause": {"origin": "management", "request": "stop"},
        "old": {},
        "new": {"state": state, "power": power, "holds": []},
    });
    if let Some(event) = event {
        record["event"] = event.into();
    }
    record
}

fn event(data: &Value) -> String {
    json!({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X_LIFECYCLE", "data": data}).to_string()
        + "\n"
}

fn life() -> Vec<Value> {
    vec![
        record(1, 1_000, 0, "prelaunch", "awake", None),
        record(2, 2_000_000_000, 0, "running", "awake", Some("RESUME")),
        record(3, 5_000_000_000, 3_000_000_000, "suspended", "asleep", Some("SUSPEND")),
        record(4, 6_000_000_000, 4_000_000_000, "paused", "asleep", Some("STOP")),
        record(5, 9_000_000_000, 4_000_000_000, "suspended", "asleep", Some("RESUME")),
        record(6, 9_000_100_000, 4_000_100_000, "running", "awake", Some("WAKEUP")),
    ]
}

fn log_of(records: &[Value]) -> String {
    records.iter().map(event).collect()
}

fn read(text: &str) -> Result<Vec<log::Moment>, log::LogError> {
    log::read(text.as_bytes())
}

fn fails(text: &str) -> String {
    read(text).expect_err("should be refused").to_string()
}

#[test]
fn whatever_was_recorded_from_a_monitor_is_a_log() {
    let life = life();
    let expected = read(&log_of(&life)).unwrap();
    assert_eq!(expected.len(), 6);
    let reply = json!({"return": {"records": &life[..4], "dropped": 0, "next": 5}});
    let recorded = format!(
        "{{\"QMP\": {{\"version\": {{}}, \"capabilities\": []}}}}\r\n{{\"return\": {{}}}}\r\n\n{reply}\n{}{}",
        "{\"timestamp\": {}, \"event\": \"STOP\"}\n",
        // What the reply had already, once more, and then the rest.
        log_of(&life[2..]),
    );
    assert_eq!(read(&recorded).unwrap(), expected);
    let bare: String = life.iter().map(|record| format!("{record}\n")).collect();
    assert_eq!(read(&bare).unwrap(), expected);
}

#[test]
fn a_program_that_was_killed_leaves_a_log_all_the_same() {
    let text = log_of(&life());
    assert_eq!(read(&text[..text.len() - 30]).unwrap().len(), 5);
}

#[test]
fn what_is_no_log_is_told_with_its_line() {
    let one = log_of(&life()[..1]);
    let none = "there is no record of a machine's life in it";
    for empty in ["", "\n\n", "{}\n", "{\"return\": {}}\n", "{\"sequence\": 1"] {
        assert!(fails(empty).starts_with(none), "{empty}");
    }
    assert!(fails(&format!("{one}nonsense\n")).starts_with("line 2 is not a JSON object"));
    assert!(fails(&format!("{one}[1]\n")).starts_with("line 2 is not a JSON object"));
    assert!(fails(&format!("{}\n", "[".repeat(100_000))).starts_with("line 1 is not a JSON object"));
    let with = |change: fn(&mut Value)| {
        let mut record = life()[1].clone();
        change(&mut record);
        fails(&format!("{one}{}", event(&record)))
    };
    assert_eq!(with(|r| r["sequence"] = json!(-1)), "line 2: a record without a proper 'sequence'");
    assert_eq!(with(|r| r["time"] = json!([])), "line 2: a record without a proper 'host-ns'");
    assert_eq!(with(|r| r["time"]["guest-ns"] = json!(1.5)), "line 2: a record without a proper 'guest-ns'");
    assert_eq!(with(|r| r["new"]["state"] = json!("dozing")), "line 2: a record without a proper 'state'");
    assert_eq!(with(|r| r["new"]["power"] = json!(7)), "line 2: a record without a proper 'power'");
    assert_eq!(
        with(|r| r["time"]["host-ns"] = json!(999)),
        "line 2: the host's time goes back from record 1 to record 2"
    );
    assert_eq!(with(|r| r["sequence"] = json!(1)), "line 2: another record 1: the log is of two machines");
    assert!(fails("{\"event\": \"X_LIFECYCLE\"}\n").contains("without a proper 'data'"));
    assert!(fails(&" ".repeat((4 << 20) + 2)).starts_with("line 1 is longer than"));
}

#[test]
fn the_picture_shows_states_marks_and_seconds() {
    let svg = picture::draw(&read(&log_of(&life())).unwrap());
    for part in [
        "<title id=\"title\">",
        "<desc id=\"desc\">",
        "prefers-color-scheme:dark",
        ">paused</text>",
        ">suspended</text>",
        ">asleep</text>",
        ">host time, s</text>",
        ">guest time, s</text>",
        "9.00 s of host time, 4.00 s of guest time · 1 stop · 1 sleep · 1 wake",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn hostile_names_stay_text() {
    let mut records = life();
    records[5]["woken-by"] = json!("</text><script>alert(1)</script>\u{1b}&\"");
    records[3]["event"] = json!("<b>".repeat(10_000));
    let svg = picture::draw(&read(&log_of(&records)).unwrap());
    assert!(!svg.contains("<script") && !svg.contains("<b>") && !svg.contains('\u{1b}'));
    assert!(svg.contains("&lt;/text&gt;") && svg.len() < 100_000);
}

#[test]
fn a_log_of_any_length_is_a_picture_of_bounded_size() {
    let state = |at: u64| if at.is_multiple_of(2) { "running" } else { "paused" };
    let event = |at: u64| Some(["STOP", "RESUME", "RESET", "WAKEUP"][at as usize % 4]);
    let records: Vec<Value> =
        (1..60_000).map(|at| record(at, at * 1_000, at * 500, state(at), "awake", event(at))).collect();
    let svg = picture::draw(&read(&log_of(&records)).unwrap());
    assert!(svg.len() < 2 << 20, "{}", svg.len());
    // And the extremes of time.
    for (host, guest) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        let records = [
            record(1, 0, 0, "running", "awake", None),
            record(2, host, guest, "running", "awake", Some("STOP")),
        ];
        let svg = picture::draw(&read(&log_of(&records)).unwrap());
        assert!(svg.contains("</svg>") && !svg.contains("NaN") && !svg.contains("inf"), "{host} {guest}");
    }
    let one = picture::draw(&read(&log_of(&records[..1])).unwrap());
    assert!(one.contains("</svg>") && !one.contains("NaN"));
}

#[test]
fn missing_records_are_told() {
    let mut records = life();
    records.remove(2);
    let svg = picture::draw(&read(&log_of(&records)).unwrap());
    assert!(svg.contains("1 records missing"));
}

#[test]
fn labels_do_not_stand_on_each_other() {
    // Many events close together: those that find a place are apart from one another.
    let records: Vec<Value> = (0..40)
        .map(|at| {
            record(
                at + 1,
                at * 30_000_000,
                at * 1_000,
                "running",
                "awake",
                Some(["STOP", "WAKEUP"][at as usize % 2]),
            )
        })
        .collect();
    let svg = picture::draw(&read(&log_of(&records)).unwrap());
    let mut places: Vec<(String, f64, f64)> = Vec::new();
    for line in svg
        .lines()
        .filter(|line| line.starts_with("<text") && (line.contains(">stop<") || line.contains(">wakeup<")))
    {
        let attribute = |name: &str| {
            line.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        let half = line.split('>').nth(1).unwrap().split('<').next().unwrap().len() as f64 * 6.0 / 2.0;
        let x: f64 = attribute("x").parse().unwrap();
        places.push((attribute("y"), x - half, x + half));
    }
    assert!(places.len() > 10);
    for (index, (row, left, right)) in places.iter().enumerate() {
        for (other, other_left, other_right) in &places[index + 1..] {
            assert!(row != other || right <= other_left || other_right <= left);
        }
    }
}

#[test]
fn arguments() {
    let parse = |text: &str| parse(text.split_whitespace().map(OsString::from));
    assert_eq!(parse("a.log").unwrap(), Task::Draw { log: "a.log".into(), out: None });
    let drawn = Task::Draw { log: "a.log".into(), out: Some("b.svg".into()) };
    assert_eq!(parse("a.log -o b.svg").unwrap(), drawn);
    assert_eq!(parse("-o b.svg a.log").unwrap(), drawn);
    assert_eq!(parse("- -o -").unwrap(), Task::Draw { log: "-".into(), out: None });
    assert_eq!(parse("--help").unwrap(), Task::Help);
    for (wrong, why) in [
        ("", "no log"),
        ("a b", "more than one log"),
        ("a -o", "-o needs a file"),
        ("a -x", "no option '-x'"),
    ] {
        assert!(
            parse(wrong).unwrap_err().to_string().starts_with(&format!("timeline: {why}\nusage: ")),
            "{wrong}"
        );
    }
}
