//! What QEMU cannot say: the whole life in one answer, the records that fold to it, and figures.

mod common;

use common::{Client, World};
use runstate::ManagementRequest as Ask;
use serde_json::{Value, json};

/// The reply of a command; events before it are skipped.
fn ask(client: &mut Client, command: &str, arguments: &Value) -> Value {
    client.send(&json!({"execute": command, "arguments": arguments}).to_string());
    loop {
        let mut reply: Value = serde_json::from_str(&client.raw()).unwrap();
        if reply.get("event").is_none() {
            return reply["return"].take();
        }
    }
}

fn lifecycle(client: &mut Client) -> Value {
    ask(client, "x-query-lifecycle", &json!({}))
}

#[test]
fn a_stopped_sleeper_is_seen_with_who_stopped_it_and_since_when() {
    let world = World::new(1);
    let mut client = world.client("a");
    let begin = lifecycle(&mut client);
    assert_eq!(
        (&begin["state"], &begin["live"], &begin["sequence"]),
        (&json!("prelaunch"), &json!(false), &json!(1))
    );
    assert_eq!(begin["holds"][0]["owner"], "boot");
    assert_eq!(begin["holds"][0]["cause"], json!({"origin": "start", "request": "start"}));
    client.run("cont", &["RESUME", common::OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    let asleep = lifecycle(&mut client);
    assert_eq!(
        (&asleep["state"], &asleep["asleep"], &asleep["live"]),
        (&json!("suspended"), &json!(true), &json!(true))
    );
    assert_eq!(asleep["holds"], json!([]));
    assert_eq!(asleep["guest-clock"]["advances"], true);
    client.run("stop", &["STOP", common::OK]);
    let held = lifecycle(&mut client);
    assert_eq!(
        (&held["state"], &held["power"], &held["asleep"]),
        (&json!("paused"), &json!("asleep"), &json!(true))
    );
    let hold = &held["holds"][0];
    assert_eq!((&hold["owner"], &hold["state"]), (&json!("manager"), &json!("paused")));
    assert_eq!((&hold["cause"]["origin"], &hold["cause"]["request"]), (&json!("management"), &json!("stop")));
    let ns = |value: &Value| value.as_u64().unwrap();
    assert!(ns(&hold["since"]["host-ns"]) > ns(&asleep["power-since"]["host-ns"]));
    assert_eq!(held["guest-clock"]["advances"], false);
    // Looked at once more, later: the host's time goes on, the guest's does not.
    let later = lifecycle(&mut client);
    assert_eq!(later["guest-clock"], held["guest-clock"]);
    assert!(ns(&later["time"]["host-ns"]) > ns(&held["time"]["host-ns"]));
    let paused = |life: &Value| {
        ns(
            &life["state-times"].as_array().unwrap().iter().find(|t| t["state"] == "paused").unwrap()["host-ns"],
        )
    };
    assert_eq!(paused(&later) - paused(&held), ns(&later["time"]["host-ns"]) - ns(&held["time"]["host-ns"]));
}

#[test]
fn a_reset_is_seen_by_its_epoch_and_its_maker() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", common::OK]);
    let before = lifecycle(&mut client);
    assert!(before.get("last-reset").is_none());
    client.run(
        "system_reset",
        &["RESET {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}", common::OK],
    );
    let after = lifecycle(&mut client);
    assert_eq!(after["epoch"].as_u64(), before["epoch"].as_u64().map(|epoch| epoch + 1));
    assert_eq!(after["last-reset"]["cause"]["request"], "system_reset");
}

#[test]
fn records_are_replayed_from_any_number() {
    let world = World::new(1);
    let mut client = world.client("a");
    for _ in 0..10 {
        world.ask(Ask::Cont);
        world.ask(Ask::Stop);
    }
    let all = ask(&mut client, "x-query-events", &json!({}));
    let records = all["records"].as_array().unwrap();
    let numbers: Vec<u64> = records.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
    assert_eq!((&all["dropped"], all["next"].as_u64()), (&json!(0), Some(numbers.len() as u64 + 1)));
    for pair in records.windows(2) {
        for member in ["state", "power", "holds"] {
            assert_eq!(pair[0]["new"][member], pair[1]["old"][member]);
        }
    }
    assert_eq!(lifecycle(&mut client)["sequence"], records.last().unwrap()["sequence"]);
    let some = ask(&mut client, "x-query-events", &json!({"from": 5}));
    assert_eq!(some["records"].as_array().unwrap()[..], records[4..]);
    let none = ask(&mut client, "x-query-events", &json!({"from": all["next"]}));
    assert_eq!(none, json!({"records": [], "dropped": 0, "next": all["next"]}));
}

#[test]
fn a_log_that_has_dropped_says_how_many() {
    let world = World::new(1);
    let mut client = world.client("a");
    // Each pair makes four records.
    for _ in 0..1100 {
        world.ask(Ask::Cont);
        world.ask(Ask::Stop);
    }
    let last = lifecycle(&mut client)["sequence"].as_u64().unwrap();
    let first = ask(&mut client, "x-query-events", &json!({"from": 1}));
    let oldest = first["records"][0]["sequence"].as_u64().unwrap();
    assert_eq!(first["dropped"].as_u64(), Some(oldest - 1));
    assert_eq!(last - oldest + 1, 4096);
    assert_eq!(first["records"].as_array().unwrap().len(), 512);
    assert_eq!(first["next"].as_u64(), Some(oldest + 512));
}

#[test]
fn people_read_the_same_life() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", common::OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    client.run("stop", &["STOP", common::OK]);
    let text = client.hmp("info lifecycle");
    for part in [
        "state: paused, for ",
        "guest: asleep, for ",
        "held by: manager (paused), for ",
        ": stop (management)",
        ", stands",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn figures_are_text_that_a_scraper_reads() {
    let world = World::new(1);
    let mut client = world.client("a");
    for command in ["cont", "stop", "cont"] {
        client.run(command, &[if command == "stop" { "STOP" } else { "RESUME" }, common::OK]);
    }
    let text = ask(&mut client, "x-query-metrics", &json!({}));
    let text = text.as_str().unwrap();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(value("dormouse_state{state=\"running\"}"), 1.0);
    assert_eq!(value("dormouse_state{state=\"paused\"}"), 0.0);
    assert!(value("dormouse_state_seconds_total{state=\"paused\"}") > 0.0);
    assert_eq!(value("dormouse_request_duration_seconds_count{request=\"cont\"}"), 2.0);
    assert_eq!(value("dormouse_request_duration_seconds_bucket{request=\"stop\",le=\"+Inf\"}"), 1.0);
    assert_eq!(value("dormouse_events_total{event=\"RESUME\"}"), 2.0);
    // Every family is announced before its first figure, and every line is a figure or an announcement.
    let mut families = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(family) => families.push(family.split_once(' ').unwrap().0),
            None if line.starts_with("# HELP ") => {}
            None => {
                assert!(families.iter().any(|family| line.starts_with(family)), "{line}");
                line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
            }
        }
    }
    assert_eq!(client.hmp("info metrics").lines().count(), text.lines().count());
}
