//! Commands out of band: what they overtake, and connections that are cut by them.

mod common;

use common::{Client, OK, World, refusal, status};
use serde_json::Value;

fn oob_client(world: &World, name: &str) -> Client {
    world.listen(name);
    let mut client = world.connect(name);
    client.negotiate_oob();
    client
}

fn id(line: &str) -> Value {
    let reply: Value = serde_json::from_str(line).unwrap();
    assert!(reply.get("return").is_some(), "{line}");
    reply["id"].clone()
}

/// Commands with ids from `from` on, none of which is answered while `query-chardev` before them waits.
fn commands(from: usize, to: usize) -> String {
    (from..to).map(|id| format!("{{'execute':'query-uuid','id':{id}}}")).collect()
}

const OOB: &str = "{'exec-oob':'query-yank','id':'oob'}";

#[test]
fn a_command_out_of_band_overtakes_one_that_runs_and_eight_that_wait() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    let held = world.chardevs.lock().unwrap();
    client.send(&format!("{{'execute':'query-chardev','id':0}}{}{OOB}", commands(1, 9)));
    assert_eq!(id(&client.raw()), "oob");
    drop(held);
    for expected in 0..9 {
        assert_eq!(id(&client.raw()), expected);
    }
}

#[test]
fn it_waits_while_more_than_eight_wait() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    let held = world.chardevs.lock().unwrap();
    client.send(&format!("{{'execute':'query-chardev','id':0}}{}", commands(1, 10)));
    client.send(OOB);
    drop(held);
    let ids: Vec<Value> = (0..11).map(|_| id(&client.raw())).collect();
    assert_eq!(ids[0], 0, "the reader goes on only after the first is answered");
    let in_band: Vec<&Value> = ids.iter().filter(|id| *id != "oob").collect();
    assert_eq!(in_band, (0..10).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn without_the_capability_nothing_overtakes() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send(OOB);
    let unexpected = refusal("QMP input member 'exec-oob' is unexpected");
    client.expect(&[&unexpected.replacen('{', "{\"id\": \"oob\", ", 1)]);
    // In band the same commands work.
    client.run("query-yank", &["{\"return\": [{\"type\": \"chardev\", \"id\": \"a\"}]}"]);
}

#[test]
fn commands_in_band_keep_their_order_and_their_events() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    let mut sent = String::new();
    for round in 0..50 {
        for command in ["cont", "query-status", "stop", "query-status", "frob"] {
            sent += &format!("{{\"execute\": \"{command}\", \"id\": {round}}}");
        }
    }
    client.send(&sent);
    for round in 0..50 {
        let id = |reply: &str| format!("{}, \"id\": {round}}}", reply.strip_suffix('}').unwrap());
        let frob = format!(
            "{{\"id\": {round}, \"error\": {{\"class\": \"CommandNotFound\", \
             \"desc\": \"The command frob has not been found\"}}}}"
        );
        client.expect(&["RESUME", &id(OK), &id(&status("running"))]);
        client.expect(&["STOP", &id(OK), &id(&status("paused")), &frob]);
    }
}

#[test]
fn most_commands_cannot_be_run_out_of_band() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    client.send("{'exec-oob':'stop'}{'exec-oob':'frob'}{'exec-oob':'yank','arguments':{}}");
    client.expect(&[
        &refusal("The command stop does not support OOB"),
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command frob has not been found\"}}",
        &refusal("Parameter 'instances' is missing"),
    ]);
}

#[test]
fn yank_cuts_a_connection_while_another_command_hangs() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    let mut other = world.client("b");
    let held = world.chardevs.lock().unwrap();
    client.send("{'execute':'query-chardev'}{'exec-oob':'query-yank'}");
    client.expect(&[
        "{\"return\": [{\"type\": \"chardev\", \"id\": \"a\"}, {\"type\": \"chardev\", \"id\": \"b\"}]}",
    ]);
    let yank = |instances: &str| format!("{{'exec-oob':'yank','arguments':{{'instances':[{instances}]}}}}");
    let unknown = "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Instance not found\"}}";
    client.send(&yank("{'type':'chardev','id':'b'},{'type':'chardev','id':'c'}"));
    client.expect(&[unknown]);
    client.send(&yank("{'type':'migration'}"));
    client.expect(&[unknown]);
    other.nothing();
    client.send(&yank("{'type':'chardev','id':'b'}"));
    client.expect(&[OK]);
    assert_eq!(other.rest(), "");
    drop(held);
    assert!(client.raw().contains("serial0"));
    // The monitor takes its next client.
    let mut next = world.connect("b");
    next.negotiate();
    client.send(&yank(""));
    client.expect(&[OK]);
    next.nothing();
}

#[test]
fn a_client_that_goes_has_its_commands_run() {
    let world = World::new(1);
    let mut client = oob_client(&world, "a");
    client.send("{'execute':'cont'}{'execute':'stop'}{'execute':'cont'}");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect(&["RESUME", OK, "STOP", OK, "RESUME", OK]);
    assert_eq!(client.rest(), "");
}
