//! Migrations as managers meet them before a byte flows: settings, refusals in their order, and what fails at once.

mod common;

use common::{OK, World};
use serde_json::{Value, json};

fn refusal(text: &str) -> String {
    json!({"error": {"class": "GenericError", "desc": text}}).to_string()
}

#[track_caller]
fn asks(client: &mut common::Client, name: &str, arguments: &Value, reply: &str) {
    client.send(&command(name, &arguments.to_string()));
    let answer: Value = serde_json::from_str(&client.raw()).unwrap();
    let reply: Value = serde_json::from_str(reply).unwrap();
    assert_eq!(answer, reply, "{name} {arguments}");
}

fn capability(name: &str, state: bool) -> Value {
    json!({"capabilities": [{"capability": name, "state": state}]})
}

fn incoming() -> World {
    World::with_config(1, runstate::Config { incoming: true, ..runstate::Config::default() })
}

/// The replies and events until one contains `last`.
fn until(client: &mut common::Client, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = client.raw();
        let over = line.contains(last);
        lines.push(line);
        if over {
            return lines;
        }
    }
}

#[test]
fn capabilities_are_kept_and_what_is_not_to_be_had_is_refused_whole() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    asks(&mut client, "migrate-set-capabilities", &capability("return-path", true), OK);
    client.send("{'execute': 'query-migrate-capabilities'}");
    let reply: Value = serde_json::from_str(&client.raw()).unwrap();
    let list = reply["return"].as_array().unwrap();
    let state =
        |name: &str| list.iter().find(|entry| entry["capability"] == name).map(|entry| &entry["state"]);
    assert_eq!((state("return-path"), state("events")), (Some(&json!(true)), Some(&json!(false))), "{reply}");
    let nope = refusal("Parameter 'capability' does not accept value 'nope'");
    asks(&mut client, "migrate-set-capabilities", &capability("nope", true), &nope);
    assert!(human(&mut client, "info migrate_capabilities").contains("events: off\r\n"));
    assert_eq!(human(&mut client, "migrate_set_capability events on"), "");
    assert!(human(&mut client, "info migrate_capabilities").contains("events: on\r\n"));
}

fn human(client: &mut common::Client, line: &str) -> String {
    client.send(&command("human-monitor-command", &json!({"command-line": line}).to_string()));
    // Events may come first.
    let lines = until(client, "\"return\"");
    let reply: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    reply["return"].as_str().unwrap().to_owned()
}

#[test]
fn parameters_are_kept_and_refused_in_qemus_words() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let range =
        refusal("Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms");
    asks(&mut client, "migrate-set-parameters", &json!({"max-bandwidth": 7, "downtime-limit": -1}), &range);
    let wide = refusal("Parameter 'multifd-channels' expects uint8_t");
    asks(&mut client, "migrate-set-parameters", &json!({"multifd-channels": 256}), &wide);
    // As libvirt does before it saves.
    asks(&mut client, "migrate-set-parameters", &json!({"max-bandwidth": 9223372036853727232_u64}), OK);
    client.send("{'execute': 'query-migrate-parameters'}");
    let reply: Value = serde_json::from_str(&client.raw()).unwrap();
    assert_eq!(
        reply["return"]["max-bandwidth"],
        json!(9223372036853727232_u64),
        "the refused change changed nothing"
    );
    assert_eq!(reply["return"]["downtime-limit"], json!(300));
    assert_eq!(human(&mut client, "migrate_set_parameter downtime-limit 77"), "");
    assert!(human(&mut client, "info migrate_parameters").contains("downtime-limit: 77 ms\r\n"));
    let nope = "Error: invalid parameter 'nope'\r\n";
    assert_eq!(human(&mut client, "migrate_set_parameter nope 1"), nope);
}

#[test]
fn migrate_is_refused_in_qemus_order() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let either = refusal("need either 'uri' or 'channels' argument");
    asks(&mut client, "migrate", &json!({}), &either);
    let channels = json!([{"channel-type": "main", "addr": {"transport": "exec", "args": ["true"]}}]);
    asks(&mut client, "migrate", &json!({"uri": "foo:bar", "channels": channels}), &either);
    let unknown = refusal("unknown migration protocol: foo:bar");
    asks(&mut client, "migrate", &json!({"uri": "foo:bar", "resume": true}), &unknown);
    let resume = refusal("Cannot resume if there is no paused migration");
    asks(&mut client, "migrate", &json!({"uri": "fd:none", "resume": true}), &resume);
    let fd = refusal("File descriptor named 'none' has not been found");
    asks(&mut client, "migrate", &json!({"uri": "fd:none"}), &fd);
    asks(&mut client, "migrate-set-parameters", &json!({"tls-creds": "tls0"}), OK);
    let nobody = refusal("No TLS credentials with id 'tls0'");
    asks(&mut client, "migrate", &json!({"uri": "tcp:localhost:1"}), &nobody);
    asks(&mut client, "migrate_cancel", &json!({}), OK);
    let state = json!({"state": "pre-switchover"});
    asks(&mut client, "migrate-continue", &state, &refusal("Migration not in expected state: none"));
    asks(
        &mut client,
        "migrate-incoming",
        &json!({"uri": "unix:/x"}),
        &refusal("'-incoming' was not specified on the command line"),
    );
    let pause = "migrate-pause is currently only supported during postcopy-active or postcopy-recover state";
    asks(&mut client, "migrate-pause", &json!({}), &refusal(pause));
    asks(
        &mut client,
        "migrate-recover",
        &json!({"uri": "unix:/x"}),
        &refusal("Migrate recover can only be run when postcopy is paused."),
    );
    let postcopy = "Enable postcopy with migrate_set_capability before the start of migration";
    asks(&mut client, "migrate-start-postcopy", &json!({}), &refusal(postcopy));
    asks(&mut client, "query-migrate", &json!({}), r#"{"return": {}}"#);

    let waiting = incoming();
    let mut client = waiting.client("qmp");
    // Before anything is opened: the descriptor is not looked for.
    asks(
        &mut client,
        "migrate",
        &json!({"uri": "fd:none"}),
        &refusal("Guest is waiting for an incoming migration"),
    );
}

#[test]
fn a_connection_that_fails_is_told_by_the_status_and_nothing_else_changes() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    asks(&mut client, "migrate-set-capabilities", &capability("events", true), OK);
    let missing = world.path("missing").display().to_string();
    client.send(&command("migrate", &json!({"uri": format!("unix:{missing}")}).to_string()));
    assert!(client.raw().contains("setup"), "before the reply");
    // The reply may come after the end.
    let other = client.raw();
    let last = if other.contains("failed") { OK } else { "failed" };
    assert!(other.contains("failed") || other.contains(OK), "{other}");
    let _ = until(&mut client, last);
    let failed = json!({"return": {
        "status": "failed",
        "error-desc": format!("Failed to connect to '{missing}': No such file or directory"),
    }});
    asks(&mut client, "query-migrate", &json!({}), &failed.to_string());
    asks(&mut client, "query-status", &json!({}), r#"{"return": {"status": "prelaunch", "running": false}}"#);
    let info = human(&mut client, "info migrate");
    assert!(info.starts_with("Migration status: failed (Failed to connect to "), "{info}");
    let text = human(&mut client, &format!("migrate unix:{missing}"));
    assert!(text.starts_with("Error: Failed to connect to "), "waits for the end: {text}");
}

#[test]
fn without_the_capability_no_event_of_a_migration_is_sent() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    asks(&mut client, "migrate", &json!({"uri": format!("unix:{}", world.path("missing").display())}), OK);
    while world.engine.status().migration != Some(runstate::MigrationStatus::Failed) {
        std::thread::yield_now();
    }
    asks(&mut client, "query-name", &json!({}), r#"{"return": {"name": "test"}}"#);
}

/// B25: the attempt fails alone.
#[test]
fn a_bad_address_costs_one_attempt_to_take_in_a_machine() {
    let world = incoming();
    let mut client = world.client("qmp");
    let bad = refusal("Failed to bind socket to /nonexistent/x: No such file or directory");
    for _ in 0..2 {
        asks(
            &mut client,
            "migrate-incoming",
            &json!({"uri": "unix:/nonexistent/x", "exit-on-error": false}),
            &bad,
        );
        asks(&mut client, "query-migrate", &json!({}), r#"{"return": {}}"#);
    }
    let path = world.path("in").display().to_string();
    asks(&mut client, "migrate-incoming", &json!({"uri": format!("unix:{path}")}), OK);
    let waiting = json!({"return": {"status": "setup", "socket-address": [{"type": "unix", "path": path}]}});
    asks(&mut client, "query-migrate", &json!({}), &waiting.to_string());
    let again = refusal("The incoming migration has already been started");
    asks(&mut client, "migrate-incoming", &json!({"uri": "unix:/nonexistent/x"}), &again);
    let at = human(&mut client, "info migrate");
    assert_eq!(at, format!("Migration status: setup\r\nsocket address: unix:{path}\r\n"));
}

fn command(name: &str, arguments: &str) -> String {
    format!("{{\"execute\": \"{name}\", \"arguments\": {arguments}}}")
}
