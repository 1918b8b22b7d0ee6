//! Snapshots and their jobs as a program sees them: events and replies in order, every answer as QEMU's types have it.

mod common;

use common::{Client, World};
use qapi_qmp::Event;
use serde_json::{Value, json};

/// Sends a command and takes what comes up to its reply: the words of the events, and the reply.
fn ask(client: &mut Client, name: &str, arguments: Value) -> (Vec<String>, Value) {
    client.send(&json!({ "execute": name, "arguments": arguments }).to_string());
    let mut words = Vec::new();
    loop {
        let line: Value = serde_json::from_str(&client.raw()).unwrap();
        if line.get("event").is_none() {
            return (words, line);
        }
        words.push(word(&line));
    }
}

/// An event, which QEMU's types take: its name, or the status of the job.
fn word(line: &Value) -> String {
    let _: Event = serde_json::from_value(line.clone()).expect("an event of QEMU's");
    let status = line["data"]["status"].as_str();
    status.or(line["event"].as_str()).unwrap().to_owned()
}

/// Takes events until a job has concluded.
fn conclude(client: &mut Client, mut words: Vec<String>) -> Vec<String> {
    while words.last().is_none_or(|word| word != "concluded") {
        words.push(word(&serde_json::from_str(&client.raw()).unwrap()));
    }
    words
}

/// Runs a job to its dismissal; gives the words of its events, and its error.
fn job(client: &mut Client, name: &str, snapshot: &str) -> (Vec<String>, Option<String>) {
    let (words, reply) = ask(client, name, json!({ "job-id": "j", "name": snapshot }));
    assert_eq!(reply, json!({ "return": {} }));
    let mut words = conclude(client, words);
    let (_, jobs) = ask(client, "query-jobs", json!({}));
    let _: Vec<qapi_qmp::JobInfo> = serde_json::from_value(jobs["return"].clone()).unwrap();
    let error = jobs["return"][0]["error"].as_str().map(str::to_owned);
    let (dismissed, reply) = ask(client, "job-dismiss", json!({ "id": "j" }));
    assert_eq!(reply, json!({ "return": {} }));
    words.extend(dismissed);
    (words, error)
}

const DONE: [&str; 4] = ["waiting", "pending", "concluded", "null"];
const FAILED: [&str; 5] = ["created", "running", "aborting", "concluded", "null"];

#[test]
fn a_snapshot_is_saved_listed_loaded_and_deleted_by_jobs() {
    let world = World::new(2);
    let mut client = world.client("a");
    let (events, _) = ask(&mut client, "cont", json!({}));
    assert_eq!(events, ["RESUME"]);
    let held = [&["created", "running", "STOP", "RESUME"], &DONE[..]].concat();
    assert_eq!(job(&mut client, "x-snapshot-save", "one"), (held.iter().map(|&w| w.into()).collect(), None));
    let (_, list) = ask(&mut client, "x-snapshot-list", json!({}));
    assert_eq!((&list["return"][0]["name"], &list["return"][0]["state"]), (&json!("one"), &json!("running")));
    let (words, error) = job(&mut client, "x-snapshot-save", "one");
    let exists = "Snapshot 'one' already exists in one or more devices";
    assert_eq!((words, error.as_deref()), (FAILED.map(String::from).to_vec(), Some(exists)));
    assert_eq!(job(&mut client, "x-snapshot-load", "one"), (held.iter().map(|&w| w.into()).collect(), None));
    let quiet = [&["created", "running"], &DONE[..]].concat();
    assert_eq!(
        job(&mut client, "x-snapshot-delete", "one"),
        (quiet.iter().map(|&w| w.into()).collect(), None)
    );
    for command in ["x-snapshot-load", "x-snapshot-delete"] {
        let (words, error) = job(&mut client, command, "one");
        let none = "Snapshot 'one' does not exist in one or more devices";
        assert_eq!((words, error.as_deref()), (FAILED.map(String::from).to_vec(), Some(none)));
    }
}

#[test]
fn the_reply_to_a_save_comes_when_the_machine_goes_on() {
    let world = World::new(1);
    let mut client = world.client("a");
    ask(&mut client, "cont", json!({}));
    let (words, _) = ask(&mut client, "x-snapshot-save", json!({ "job-id": "j", "name": "one" }));
    assert_eq!(words[..4], ["created", "running", "STOP", "RESUME"]);
    conclude(&mut client, words);
    // A job that is not there, and one that cannot be cancelled any more.
    let (_, refusal) = ask(&mut client, "job-cancel", json!({ "id": "k" }));
    assert_eq!(refusal["error"], json!({ "class": "DeviceNotActive", "desc": "Job not found" }));
    let (_, refusal) = ask(&mut client, "job-cancel", json!({ "id": "j" }));
    let text = "Job 'j' in state 'concluded' cannot accept command verb 'cancel'";
    assert_eq!(refusal["error"]["desc"], json!(text));
}

#[test]
fn a_load_begins_a_generation_and_a_fork_a_machine() {
    let world = World::new(1);
    let mut client = world.client("a");
    let identity = |client: &mut Client| {
        let (_, reply) = ask(client, "x-query-identity", json!({}));
        let (_, guid) = ask(client, "query-vm-generation-id", json!({}));
        let text = |name: &str| reply["return"][name].as_str().unwrap().to_owned();
        assert_eq!(
            (&reply["return"]["visible"], &guid["return"]["guid"]),
            (&json!(true), &reply["return"]["generation-id"])
        );
        (text("generation-id"), text("mac-seed"))
    };
    let first = identity(&mut client);
    assert_eq!(first, ("01010101-0101-0101-0101-010101010101".to_owned(), "0202020202020202".to_owned()));
    job(&mut client, "x-snapshot-save", "one");
    assert_eq!(identity(&mut client), first, "a save changes nobody");
    assert_eq!(job(&mut client, "x-snapshot-load", "one").1, None);
    let loaded = identity(&mut client);
    assert_eq!((loaded.0 == first.0, &loaded.1), (false, &first.1));
    let mut seen = vec![first, loaded];
    for _ in 0..3 {
        assert_eq!(job(&mut client, "x-snapshot-fork", "one").1, None);
        let fork = identity(&mut client);
        assert!(seen.iter().skip(1).all(|(id, seed)| *id != fork.0 && *seed != fork.1), "{fork:?}");
        seen.push(fork);
    }
    let last = seen.last().unwrap();
    assert!(job(&mut client, "x-snapshot-fork", "two").1.is_some());
    assert_eq!(identity(&mut client), *last, "a fork that failed changes nobody");
}
