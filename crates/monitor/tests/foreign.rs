//! A foreign client: the types of the `qapi` crates, which are made from QEMU's own schema, take every reply and event.

mod common;

use common::{OK, World};
use qapi_qmp::{Event, QapiCapabilities, QmpCommand};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether everything in `ours` is in what the foreign types made of it: they drop members that QEMU does not have.
fn is_kept(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let kept = |name: &str, value: &Value| match theirs.get(name) {
                Some(kept) => is_kept(value, kept),
                // A member that is there and says nothing (`default` in the schema) is the same as none.
                None => value.is_null(),
            };
            ours.iter().all(|(name, value)| kept(name, value))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_kept(ours, theirs))
        }
        _ => ours == theirs,
    }
}

/// Takes a reply as the foreign client does.
#[track_caller]
fn take<C: QmpCommand>(reply: &Value)
where
    C::Ok: Serialize,
{
    let value = reply.get("return").unwrap_or_else(|| panic!("{}: {reply}", C::NAME)).clone();
    let taken: C::Ok =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{}: {error}: {value}", C::NAME));
    let kept = serde_json::to_value(taken).unwrap();
    assert!(is_kept(&value, &kept), "{}: QEMU has no such members: {value:.4000}", C::NAME);
}

/// How a reply is taken.
type Take = fn(&Value);

/// `name = type(arguments)`.
macro_rules! replies {
    ($($command:ident $arguments:tt;)*) => {
        &[$((<qapi_qmp::$command as Named>::NAME, stringify!($arguments), take::<qapi_qmp::$command> as Take)),*]
    };
}

/// The name of a foreign command.
trait Named {
    const NAME: &'static str;
}

impl<C: QmpCommand> Named for C {
    const NAME: &'static str = C::NAME;
}

/// Every query that we have in common with QEMU, and what else returns something.
const REPLIES: &[(&str, &str, Take)] = replies! {
    query_status {};
    query_version {};
    query_commands {};
    query_qmp_schema {};
    query_command_line_options {};
    query_current_machine {};
    query_target {};
    query_kvm {};
    query_machines {};
    query_cpus_fast {};
    query_cpu_definitions {};
    query_iothreads {};
    query_jobs {};
    query_memory_size_summary {};
    query_memory_devices {};
    query_name {};
    query_uuid {};
    query_vm_generation_id {};
    query_chardev {};
    query_fdsets {};
    query_yank {};
    query_migrate {};
    query_migrate_capabilities {};
    query_migrate_parameters {};
    query_block {};
    query_blockstats {};
    query_named_block_nodes {};
    query_dump {};
    query_dump_guest_memory_capability {};
    query_tpm_models {};
    query_tpm_types {};
    qom_list {"path": "/machine"};
    qom_list_types {};
    human_monitor_command {"command-line": "info status"};
};

/// Queries that refuse here, two because there is no such device; and one whose foreign type demands a member that only
/// another target's schema has (`deprecated-props`, s390x).
const NOT_TAKEN: &[&str] = &["query-balloon", "query-hotpluggable-cpus", "query-cpu-model-expansion"];

#[test]
fn every_reply_of_every_query_is_taken() {
    let world = World::new(2);
    let mut client = world.client("a");
    let mut ask = |name: &str, arguments: &str| -> Value {
        client.send(&format!("{{\"execute\": \"{name}\", \"arguments\": {arguments}}}"));
        serde_json::from_str(&client.raw()).unwrap()
    };
    let commands = ask("query-commands", "{}");
    let names = commands["return"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap());
    let queries: BTreeSet<&str> = names.filter(|name| name.starts_with("query-")).collect();
    let taken: BTreeSet<&str> =
        REPLIES.iter().map(|(name, ..)| *name).chain(NOT_TAKEN.iter().copied()).collect();
    let forgotten: Vec<_> = queries.difference(&taken).collect();
    assert!(forgotten.is_empty(), "not in REPLIES: {forgotten:?}");
    for (name, arguments, take) in REPLIES {
        take(&ask(name, arguments));
    }
    for name in NOT_TAKEN {
        let refusal = ask(name, "{}");
        let refusal: Result<qapi_qmp::QmpMessageAny, _> = serde_json::from_value(refusal);
        assert!(matches!(refusal, Ok(qapi_qmp::QmpMessage::Response(_))), "{name}");
    }
}

#[test]
fn the_greeting_and_every_event_of_a_life_are_taken() {
    let world = World::new(1);
    world.listen("a");
    let mut client = world.connect("a");
    let greeting: QapiCapabilities = serde_json::from_str(&client.raw()).unwrap();
    assert_eq!(greeting.QMP.version.qemu.major, 10);
    client.send("{'execute': 'qmp_capabilities'}");
    client.expect(&[OK]);
    let mut seen = Vec::new();
    let mut take_one = |client: &mut common::Client| {
        let event: Event = serde_json::from_str(&client.raw()).expect("an event of QEMU's");
        let name = format!("{event:?}");
        seen.push(name.split([' ', '{', '(']).next().unwrap().to_owned());
    };
    for (command, events) in
        [("cont", 1), ("stop", 1), ("cont", 1), ("system_reset", 1), ("system_powerdown", 1)]
    {
        client.send(&format!("{{'execute': '{command}'}}"));
        (0..events).for_each(|_| take_one(&mut client));
        client.expect(&[OK]);
    }
    world.suspend();
    take_one(&mut client);
    client.send("{'execute': 'system_wakeup'}");
    take_one(&mut client);
    client.expect(&[OK]);
    client.send("{'execute': 'quit'}");
    take_one(&mut client);
    client.expect(&[OK]);
    assert_eq!(seen, ["RESUME", "STOP", "RESUME", "RESET", "POWERDOWN", "SUSPEND", "WAKEUP", "SHUTDOWN"]);
}
