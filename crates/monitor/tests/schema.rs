//! What the definitions say about themselves.

mod common;

use common::World;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

fn ask(world: &World, name: &str, command: &str) -> Vec<Value> {
    let mut client = world.client(name);
    client.send(&format!("{{'execute':'{command}'}}"));
    let reply: Value = serde_json::from_str(&client.raw()).expect("JSON");
    reply["return"].as_array().expect("an array").clone()
}

fn schema() -> Vec<Value> {
    ask(&World::new(1), "a", "query-qmp-schema")
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_else(|| panic!("{entry} has no text {key}"))
}

fn find<'a>(schema: &'a [Value], name: &str) -> &'a Value {
    schema.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Follows `path` from a command through its arguments or return: member names, and `[]` for an element.
fn resolve<'a>(schema: &'a [Value], start: &str, path: &[&str]) -> &'a Value {
    let mut entry = find(schema, start);
    for step in path {
        let name = match *step {
            "arg-type" | "ret-type" => text(entry, step),
            "[]" => text(entry, "element-type"),
            member => {
                let members = entry["members"].as_array().expect("an object type");
                let found = members.iter().find(|candidate| candidate["name"] == member);
                text(found.unwrap_or_else(|| panic!("no member {member} in {entry}")), "type")
            }
        };
        entry = find(schema, name);
    }
    entry
}

#[test]
fn every_type_that_is_named_is_there_once_and_used() {
    let schema = schema();
    let by_name: HashMap<&str, &Value> = schema.iter().map(|entry| (text(entry, "name"), entry)).collect();
    assert_eq!(by_name.len(), schema.len(), "names are unique");
    let mut used = HashSet::new();
    for entry in &schema {
        let mut refer = |name: &str| {
            let target =
                by_name.get(name).unwrap_or_else(|| panic!("{entry} names {name}, which is not there"));
            assert!(!["command", "event"].contains(&text(target, "meta-type")));
            used.insert(name.to_owned());
        };
        match text(entry, "meta-type") {
            "command" => {
                refer(text(entry, "arg-type"));
                refer(text(entry, "ret-type"));
                assert_eq!(by_name[text(entry, "arg-type")]["meta-type"], "object");
            }
            "event" => refer(text(entry, "arg-type")),
            "array" => {
                refer(text(entry, "element-type"));
                assert_eq!(text(entry, "name"), format!("[{}]", text(entry, "element-type")));
            }
            "object" => {
                for member in entry["members"].as_array().expect("members") {
                    refer(text(member, "type"));
                    assert!(member.get("default").is_none_or(Value::is_null));
                }
                for case in entry["variants"].as_array().into_iter().flatten() {
                    refer(text(case, "type"));
                }
            }
            "alternate" => {
                entry["members"].as_array().expect("members").iter().for_each(|m| refer(text(m, "type")))
            }
            "enum" => {
                let members: Vec<&str> =
                    entry["members"].as_array().expect("members").iter().map(|m| text(m, "name")).collect();
                assert_eq!(entry["values"], Value::from(members));
            }
            "builtin" => assert!(entry["json-type"].is_string()),
            other => panic!("no meta-type {other}"),
        }
    }
    for entry in &schema {
        let name = text(entry, "name");
        let top = ["command", "event"].contains(&text(entry, "meta-type"));
        assert!(top || used.contains(name), "{name} is used by nothing");
    }
}

#[test]
fn the_schema_answers_what_managers_look_for() {
    let schema = schema();
    let values = |entry: &Value| entry["values"].as_array().expect("an enum").len();
    assert_eq!(values(resolve(&schema, "query-status", &["ret-type", "status"])), 16);
    assert_eq!(values(resolve(&schema, "SHUTDOWN", &["arg-type", "reason"])), 11);
    assert_eq!(resolve(&schema, "set-action", &["arg-type", "panic"])["values"][2], "exit-failure");
    assert_eq!(
        resolve(&schema, "query-cpus-fast", &["ret-type", "[]", "props", "core-id"])["json-type"],
        "int"
    );
    assert_eq!(resolve(&schema, "query-qmp-schema", &["ret-type", "[]"])["tag"], "meta-type");
    assert_eq!(resolve(&schema, "stop", &["ret-type"]), resolve(&schema, "STOP", &["arg-type"]));
    let optional = resolve(&schema, "human-monitor-command", &["arg-type"]);
    assert!(optional["members"][0].get("default").is_none());
    assert_eq!(optional["members"][1].get("default"), Some(&Value::Null));
}

#[test]
fn what_is_listed_is_described() {
    let world = World::new(1);
    let listed = ask(&world, "a", "query-commands");
    let listed: HashSet<&str> = listed.iter().map(|info| text(info, "name")).collect();
    let schema = ask(&world, "b", "query-qmp-schema");
    let commands = schema.iter().filter(|entry| entry["meta-type"] == "command");
    let described: HashSet<&str> = commands.map(|entry| text(entry, "name")).collect();
    assert_eq!(described, listed);
    assert!(listed.contains("x-test-clock-advance"), "this world has a test clock");
}
