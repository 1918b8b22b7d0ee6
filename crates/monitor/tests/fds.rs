//! Descriptors that come over a unix socket.

mod common;

use common::{Client, OK, World, refusal};
use serde_json::Value;
use std::io::{PipeReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

const NONE: &str = "No file descriptor supplied via SCM_RIGHTS";

fn pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, writer.into())
}

/// Sends the writing end of a pipe with this text, and keeps the other: it ends when the program closes what it was sent.
fn send(client: &mut Client, text: &str) -> PipeReader {
    let (reader, writer) = pipe();
    client.send_fds(text, &[writer.as_fd()]);
    reader
}

#[track_caller]
fn assert_closed(mut reader: PipeReader) {
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

fn command(name: &str, arguments: &str) -> String {
    format!("{{'execute':'{name}','arguments':{arguments}}}")
}

fn sets(client: &mut Client) -> Value {
    client.send("{'execute':'query-fdsets'}");
    serde_json::from_str::<Value>(&client.raw()).unwrap()["return"].clone()
}

#[test]
fn a_descriptor_on_a_lone_space_waits_for_its_command() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send(&command("getfd", "{'fdname':'x'}"));
    client.expect(&[&refusal(NONE)]);
    let reader = send(&mut client, " ");
    client.nothing();
    client.send(&command("getfd", "{'fdname':'x'}"));
    client.expect(&[OK]);
    client.send(&(command("closefd", "{'fdname':'x'}") + &command("closefd", "{'fdname':'x'}")));
    client.expect(&[OK, &refusal("File descriptor named 'x' not found")]);
    assert_closed(reader);
}

#[test]
fn descriptors_are_taken_in_the_order_in_which_they_came() {
    let world = World::new(1);
    let mut client = world.client("a");
    let first = send(&mut client, " ");
    let (second, third) = (pipe(), pipe());
    // With the bytes of the command itself, as some managers send them.
    client.send_fds(&command("getfd", "{'fdname':'first'}"), &[second.1.as_fd(), third.1.as_fd()]);
    drop((second.1, third.1));
    client.send(&(command("getfd", "{'fdname':'second'}") + &command("closefd", "{'fdname':'first'}")));
    client.expect(&[OK, OK, OK]);
    assert_closed(first);
    client.send(&command("closefd", "{'fdname':'second'}"));
    client.expect(&[OK]);
    assert_closed(second.0);
    client.send(&command("getfd", "{'fdname':'1st'}"));
    client.expect(&[&refusal("Parameter 'fdname' expects a name not starting with a digit")]);
    assert_closed(third.0);
}

#[test]
fn what_is_left_is_closed_with_the_connection() {
    let world = World::new(1);
    let mut client = world.client("a");
    let named = send(&mut client, " ");
    client.send(&command("getfd", "{'fdname':'x'}"));
    client.expect(&[OK]);
    let waiting = send(&mut client, " ");
    client.nothing();
    drop(client);
    assert_closed(named);
    assert_closed(waiting);
    let mut next = world.connect("a");
    next.negotiate();
    next.send(&command("closefd", "{'fdname':'x'}"));
    next.expect(&[&refusal("File descriptor named 'x' not found")]);
}

#[test]
fn more_than_may_wait_are_closed() {
    let world = World::new(1);
    let mut client = world.client("a");
    let readers: Vec<_> = (0..40).map(|_| send(&mut client, " ")).collect();
    client.nothing();
    for (at, reader) in readers.into_iter().enumerate().take(24) {
        assert_eq!({ &reader }.read(&mut [0]).unwrap(), 0, "descriptor {at}");
    }
    client.send(&command("getfd", "{'fdname':'x'}").repeat(17));
    let replies: Vec<String> = (0..17).map(|_| client.line()).collect();
    assert_eq!(replies.iter().filter(|reply| *reply == OK).count(), 16);
    assert_eq!(replies[16], refusal(NONE));
}

#[test]
fn sets_are_filled_shown_and_emptied() {
    let world = World::new(1);
    let mut client = world.client("a");
    assert_eq!(sets(&mut client), serde_json::json!([]));
    client.send(&command("add-fd", "{'fdset-id':3}"));
    client.expect(&[&refusal(NONE)]);
    let one = send(&mut client, " ");
    let other = send(&mut client, " ");
    let third = send(&mut client, " ");
    let fourth = send(&mut client, " ");
    client.send(&command("add-fd", "{'fdset-id':3,'opaque':'log'}"));
    let added: Value = serde_json::from_str(&client.raw()).unwrap();
    assert_eq!(added["return"]["fdset-id"], 3);
    client.send(&command("add-fd", "{}"));
    let free: Value = serde_json::from_str(&client.raw()).unwrap();
    assert_eq!(free["return"]["fdset-id"], 0, "the first free set");
    let fd = |added: &Value| added["return"]["fd"].as_i64().unwrap();
    assert_eq!(
        sets(&mut client),
        serde_json::json!([
            {"fdset-id": 0, "fds": [{"fd": fd(&free)}]},
            {"fdset-id": 3, "fds": [{"fd": fd(&added), "opaque": "log"}]},
        ])
    );
    client.send(&command("add-fd", "{'fdset-id':-1}"));
    client.expect(&[&refusal("Parameter 'fdset-id' expects a non-negative value")]);
    assert_closed(third);
    client.send(&command("add-fd", "{'fdset-id':4294967296}"));
    client.expect(&[&refusal("Parameter 'fdset-id' expects a value of at most 4294967295")]);
    assert_closed(fourth);
    // Sets are the program's, not the connection's.
    drop(client);
    let mut next = world.connect("a");
    next.negotiate();
    next.send(&command("remove-fd", "{'fdset-id':3,'fd':9999}"));
    next.expect(&[&refusal("File descriptor named 'fdset-id:3, fd:9999' not found")]);
    next.send(&command("remove-fd", "{'fdset-id':7}"));
    next.expect(&[&refusal("File descriptor named 'fdset-id:7' not found")]);
    next.send(&command("remove-fd", &format!("{{'fdset-id':3,'fd':{}}}", fd(&added))));
    next.send(&command("remove-fd", "{'fdset-id':0}"));
    next.expect(&[OK, OK]);
    assert_closed(one);
    assert_closed(other);
    assert_eq!(sets(&mut next), serde_json::json!([]));
}
