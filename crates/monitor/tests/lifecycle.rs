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

/// A client that follows X_LIFECYCLE and folds it by the rules of `docs/lifecycle-query.md`, from nothing but the wire.
struct Folder {
    client: Client,
    /// `x-query-lifecycle` as of the last record.
    life: Value,
    /// The names of the QMP events seen, and of those that records told.
    events: Vec<String>,
    told: Vec<String>,
}

/// The members that a record's `new` says outright.
const SAID: [&str; 12] = [
    "state",
    "power",
    "power-reason",
    "needs-reset",
    "latched-wake",
    "pending-reset",
    "job",
    "epoch",
    "exit-code",
    "exiting",
    "actions",
    "wakeup-suspend-support",
];

impl Folder {
    fn new(mut client: Client) -> Self {
        let reply = ask(&mut client, "x-lifecycle-events", &json!({"enable": true}));
        let mut folder = Self { client, life: Value::Null, events: Vec::new(), told: Vec::new() };
        folder.life = folder.ask("x-query-lifecycle", json!({}));
        assert!(folder.life["sequence"].as_u64() >= reply["next"].as_u64().map(|next| next - 1));
        folder
    }

    /// The reply of a command, events before it folded.
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.client.send(&json!({"execute": command, "arguments": arguments}).to_string());
        loop {
            let mut line: Value = serde_json::from_str(&self.client.raw()).unwrap();
            match line["event"].as_str() {
                Some("X_LIFECYCLE") => self.fold(&line["data"]),
                Some(event) => self.events.push(event.to_owned()),
                None => return line["return"].take(),
            }
        }
    }

    fn fold(&mut self, record: &Value) {
        if let Some(event) = record["event"].as_str() {
            self.told.push(event.to_owned());
        }
        let life = &mut self.life;
        if life.is_null() {
            return;
        }
        assert_eq!(record["sequence"].as_u64(), life["sequence"].as_u64().map(|last| last + 1), "{record}");
        let (new, time) = (&record["new"], &record["time"]);
        for member in ["state", "power"] {
            assert_eq!(record["old"][member], life[member]);
        }
        let elapsed = time["host-ns"].as_u64().unwrap() - life["time"]["host-ns"].as_u64().unwrap();
        for (list, name) in [("state-times", "state"), ("power-times", "power")] {
            let current = life[name].clone();
            let times = life[list].as_array_mut().unwrap();
            let slot = times.iter_mut().find(|slot| slot[name] == current).unwrap();
            slot["host-ns"] = json!(slot["host-ns"].as_u64().unwrap() + elapsed);
            if new[name] != current {
                life[format!("{name}-since")] = time.clone();
            }
        }
        let before = life["holds"].as_array().unwrap().clone();
        let same = |a: &Value, b: &Value| ["owner", "device", "state"].iter().all(|m| a.get(m) == b.get(m));
        let held = |hold: &Value| {
            let known = before.iter().find(|held| same(held, hold));
            known.cloned().unwrap_or_else(|| {
                let mut held = hold.clone();
                held["since"] = time.clone();
                held["cause"] = record["cause"].clone();
                held
            })
        };
        let holds: Vec<Value> = new["holds"].as_array().unwrap().iter().map(held).collect();
        life["live"] = json!(holds.is_empty());
        life["asleep"] = json!(new["power"] == "asleep");
        life["holds"] = json!(holds);
        for member in SAID {
            match new.get(member) {
                Some(value) => life[member] = value.clone(),
                None => drop(life.as_object_mut().unwrap().remove(member)),
            }
        }
        if let Some(source) = record.get("woken-by") {
            life["wakes"] = json!(life["wakes"].as_u64().unwrap() + 1);
            life["last-wake"] = json!({"source": source, "time": time});
        }
        if record["event"] == "RESET" {
            life["last-reset"] = json!({"cause": record["cause"], "time": time});
        }
        life["sequence"] = record["sequence"].clone();
        life["time"] = time.clone();
    }

    /// Asks, and compares with what was folded: all but what is looked at in the moment.
    fn compare(&mut self) {
        let mut asked = self.ask("x-query-lifecycle", json!({}));
        let mut folded = self.life.clone();
        let passed = asked["time"]["host-ns"].as_u64().unwrap() - folded["time"]["host-ns"].as_u64().unwrap();
        for (list, name) in [("state-times", "state"), ("power-times", "power")] {
            let current = folded[name].clone();
            let slots = folded[list].as_array_mut().unwrap();
            let slot = slots.iter_mut().find(|slot| slot[name] == current).unwrap();
            slot["host-ns"] = json!(slot["host-ns"].as_u64().unwrap() + passed);
        }
        for life in [&mut asked, &mut folded] {
            for member in ["time", "guest-clock", "arrival", "wake-sources"] {
                life.as_object_mut().unwrap().remove(member);
            }
        }
        assert_eq!(asked, folded);
    }
}

#[test]
fn folding_equals_asking_on_every_connection_while_all_ask_at_once() {
    let actions =
        runstate::Actions { shutdown: runstate::ShutdownAction::Pause, ..runstate::Actions::default() };
    let world = World::with_actions(1, actions);
    std::thread::scope(|scope| {
        for (name, seed) in [("a", 1_u64), ("b", 2), ("c", 3)] {
            let mut folder = Folder::new(world.client(name));
            let world = &world;
            scope.spawn(move || {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..150 {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    match random >> 60 {
                        0..3 => drop(folder.ask("stop", json!({}))),
                        3..7 => drop(folder.ask("cont", json!({}))),
                        7 => drop(folder.ask("system_reset", json!({}))),
                        8 => drop(folder.ask("system_wakeup", json!({}))),
                        9 => drop(folder.ask("system_powerdown", json!({}))),
                        10 => drop(folder.ask("set-action", json!({"watchdog": "pause"}))),
                        11 => drop(folder.ask("set-action", json!({"watchdog": "none"}))),
                        _ => world.suspend(),
                    }
                    folder.compare();
                }
                // What a record tells and what QMP tells are the same events in the same order.
                assert_eq!(folder.told, folder.events);
            });
        }
    });
}

#[test]
fn a_client_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let world = World::new(1);
    let mut numbers = Vec::new();
    let mut from = 1;
    for round in 0..5 {
        let mut client = world.client(&format!("c{round}"));
        let begins =
            ask(&mut client, "x-lifecycle-events", &json!({"enable": true}))["next"].as_u64().unwrap();
        // What happened while nobody listened, up to where the events begin.
        let missed = ask(&mut client, "x-query-events", &json!({"from": from}));
        let missed = missed["records"].as_array().unwrap().iter().map(|r| r["sequence"].as_u64().unwrap());
        numbers.extend(missed.filter(|number| *number < begins));
        client.send("{\"execute\": \"cont\"}{\"execute\": \"stop\"}{\"execute\": \"x-query-lifecycle\"}");
        let mut replies = 0;
        while replies < 3 {
            let line: Value = serde_json::from_str(&client.raw()).unwrap();
            match line["event"].as_str() {
                Some("X_LIFECYCLE") => numbers.push(line["data"]["sequence"].as_u64().unwrap()),
                Some(_) => {}
                None => replies += 1,
            }
        }
        from = numbers.last().unwrap() + 1;
        drop(client);
        world.ask(Ask::Cont);
        world.ask(Ask::Stop);
    }
    assert!(numbers.iter().copied().eq(1..from), "{numbers:?}");
}

#[test]
fn a_connection_hears_records_only_as_long_as_it_wants_them() {
    let world = World::new(1);
    let (mut curious, mut other) = (world.client("a"), world.client("b"));
    ask(&mut curious, "x-lifecycle-events", &json!({"enable": true}));
    other.run("cont", &["RESUME", common::OK]);
    let names: Vec<String> = (0..2).map(|_| curious.line().split(' ').next().unwrap().to_owned()).collect();
    // The change, then RESUME with its record before it, and what follows in the same lift.
    assert_eq!(names, ["X_LIFECYCLE", "X_LIFECYCLE"]);
    curious.expect(&["RESUME"]);
    ask(&mut curious, "x-lifecycle-events", &json!({"enable": false}));
    other.run("stop", &["STOP", common::OK]);
    curious.expect(&["STOP"]);
}

#[test]
fn a_stop_says_who_gave_it() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", common::OK]);
    client.run("stop", &["STOP", common::OK]);
    let records = ask(&mut client, "x-query-events", &json!({}));
    let stop =
        records["records"].as_array().unwrap().iter().find(|record| record["event"] == "STOP").unwrap();
    let held = &lifecycle(&mut client)["holds"][0];
    assert_eq!(stop["cause"], held["cause"]);
    assert_eq!(stop["cause"]["request"], "stop");
    assert_eq!(stop["cause"]["by"], "a", "the name of its monitor");
}

#[test]
fn the_event_log_has_the_whole_life_as_a_monitor_hears_it() {
    let world = World::new(1);
    let path = world.path("log");
    let log = monitor::EventLog::begin(&world.engine, &path).unwrap();
    let mut client = world.client("a");
    ask(&mut client, "x-lifecycle-events", &json!({"enable": true}));
    client.send("{\"execute\": \"cont\"}{\"execute\": \"stop\"}");
    let mut heard = Vec::new();
    let mut replies = 0;
    while replies < 2 {
        let line = client.raw();
        match serde_json::from_str::<Value>(&line).unwrap()["event"].as_str() {
            Some("X_LIFECYCLE") => heard.push(line),
            Some(_) => {}
            None => replies += 1,
        }
    }
    log.finish(common::PATIENCE);
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // What was there before the client came, then the same lines.
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&first["data"]["sequence"], &first["data"]["cause"]["origin"]), (&json!(1), &json!("start")));
    assert_eq!(lines[1..], heard[..]);
    assert!(monitor::EventLog::begin(&world.engine, &world.path("no/such/folder")).is_err());
}
