//! Wake sources, the policy about them, and BREAK, as clients see them.

mod common;

use common::{Client, OK, World, refusal};
use serde_json::Value;

const FORBID: &str =
    r#"{"execute": "x-set-wake-policy", "arguments": {"power-button": false, "rtc1": false}}"#;
const ALLOW: &str = r#"{"execute": "x-set-wake-policy", "arguments": {"power-button": true}}"#;

fn query(client: &mut Client) -> Value {
    client.send(r#"{"execute": "x-query-wakes"}"#);
    let reply: Value = serde_json::from_str(&client.raw()).unwrap();
    reply["return"].clone()
}

fn source(wakes: &Value, name: &str) -> Value {
    let sources = wakes["sources"].as_array().expect("a list");
    sources.iter().find(|source| source["source"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn a_forbidden_button_does_not_wake_and_says_so() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    client.send(FORBID);
    client.expect(&[OK]);
    client.run("system_powerdown", &["POWERDOWN", OK]);
    client.status("suspended");
    let wakes = query(&mut client);
    assert_eq!(wakes["last-refused"]["source"], "power-button");
    assert_eq!(wakes["last-refused"]["fate"], "forbidden");
    let button = source(&wakes, "power-button");
    assert_eq!((&button["allowed"], &button["forbidden"]), (&false.into(), &1.into()));
    assert_eq!(source(&wakes, "management")["armed-by"], "always");
    assert!(client.hmp("info wakeup").contains("power-button: not armed, forbidden; 1 forbidden\r\n"));
    client.send(ALLOW);
    client.expect(&[OK]);
    client.run("system_powerdown", &["POWERDOWN", "WAKEUP", OK]);
    let wakes = query(&mut client);
    assert_eq!(wakes["last-wake"]["source"], "power-button");
    assert!(wakes["last-wake"].get("fate").is_none());
    assert_eq!(source(&wakes, "power-button")["last"], wakes["last-wake"]);
}

#[test]
fn people_switch_sources_one_by_one() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    assert_eq!(client.hmp("x_wake_forbid power-button"), "");
    client.run("system_powerdown", &["POWERDOWN", OK]);
    assert_eq!(client.hmp("x_wake_forbid rtc"), "Error: invalid parameter value: rtc\r\n");
    assert_eq!(client.hmp("x_wake_allow power-button"), "");
    client.run("system_powerdown", &["POWERDOWN", "WAKEUP", OK]);
}

#[test]
fn a_latched_wake_is_shown() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    client.run("stop", &["STOP", OK]);
    client.run("system_powerdown", &["POWERDOWN", OK]);
    assert_eq!(query(&mut client)["latched"], "power-button");
    client.run("cont", &["RESUME", "WAKEUP", OK]);
    assert!(query(&mut client).get("latched").is_none());
}

#[test]
fn a_break_goes_to_a_device_that_is_there() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send(r#"{"execute": "chardev-send-break", "arguments": {"id": "serial0"}}"#);
    client.expect(&[OK]);
    client.send(r#"{"execute": "chardev-send-break", "arguments": {"id": "serial1"}}"#);
    client.expect(&[&refusal("Chardev 'serial1' not found")]);
    assert_eq!(client.hmp("chardev-send-break serial0"), "");
    assert_eq!(client.hmp("chardev-send-break serial1"), "Error: Chardev 'serial1' not found\r\n");
}
