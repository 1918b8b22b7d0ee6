//! Who may use a monitor, and for what.

mod common;

use common::{OK, World, refusal, status};
use monitor::{AddError, AllowList, MOST_MONITORS, MonitorOptions};
use serde_json::Value;
use std::io::Read as _;
use std::os::unix::net::UnixStream;

fn allowing(names: &str) -> MonitorOptions {
    MonitorOptions { allow: Some(AllowList::parse(names).unwrap()), ..MonitorOptions::default() }
}

fn disabled(name: &str) -> String {
    format!(
        "{{\"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"Command {name} has been disabled\"}}}}"
    )
}

#[test]
fn a_monitor_offers_only_what_it_allows() {
    let world = World::new(1);
    world.listen_with("a", allowing("query-*:stop:cont"));
    let mut client = world.connect("a");
    client.negotiate();
    client.run("cont", &["RESUME", OK]);
    client.run("query-status", &[&status("running")]);
    for name in ["quit", "system_reset", "human-monitor-command", "getfd"] {
        client.run(name, &[&disabled(name)]);
    }
    client.run(
        "frob",
        &["{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command frob has not been found\"}}"],
    );
    client.send("{'execute':'query-commands'}");
    let listed: Value = serde_json::from_str(&client.raw()).unwrap();
    let allowed =
        |name: &str| name.starts_with("query-") || ["stop", "cont", "qmp_capabilities"].contains(&name);
    let names = listed["return"].as_array().unwrap();
    assert!(names.len() > 10 && names.iter().all(|entry| allowed(entry["name"].as_str().unwrap())));
    client.send("{'execute':'query-qmp-schema'}");
    let schema: Value = serde_json::from_str(&client.raw()).unwrap();
    let mut commands =
        schema["return"].as_array().unwrap().iter().filter(|entry| entry["meta-type"] == "command");
    assert!(commands.all(|entry| allowed(entry["name"].as_str().unwrap())));
    // Another monitor of the same machine is not restricted.
    world
        .client("b")
        .run("system_reset", &["RESET {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}", OK]);
}

#[test]
fn the_human_monitor_is_no_way_around() {
    let world = World::new(1);
    world.listen_with("a", allowing("human-monitor-command:query-status:stop"));
    let mut client = world.connect("a");
    client.negotiate();
    assert_eq!(client.hmp("info status"), "VM status: paused (prelaunch)\r\n");
    assert_eq!(client.hmp("cont"), "Error: Command cont has been disabled\r\n");
    assert_eq!(client.hmp("c"), "Error: Command cont has been disabled\r\n");
    assert_eq!(client.hmp("q"), "Error: Command quit has been disabled\r\n");
    assert_eq!(client.hmp("watchdog_action none"), "Error: Command watchdog_action has been disabled\r\n");
    assert_eq!(
        client.hmp("info name"),
        "Error: Command info name has been disabled\r\n",
        "query-name is not allowed"
    );
    assert_eq!(client.hmp("stop"), "");
    assert!(client.hmp("help stop").starts_with("stop|s"));
    let help = client.hmp("help");
    assert!(help.contains("\nstop|s ") && !help.contains("cont|c "), "{help}");
    let info = client.hmp("info");
    assert!(info.contains("info status ") && !info.contains("info name "), "{info}");
    assert!(client.hmp("info registers").contains("CPU#0"));
    client.run("query-status", &[&status("prelaunch")]);
}

#[test]
fn a_restricted_human_monitor_runs_only_what_is_allowed() {
    let world = World::new(1);
    world.monitors.add_human(world.source("h", true), allowing("stop:query-status")).unwrap();
    let mut client = world.connect("h");
    client.until("(qemu) ");
    for (line, shown) in [
        ("cont", "Error: Command cont has been disabled\r\n"),
        ("stop", ""),
        ("info status", "VM status: paused (prelaunch)\r\n"),
    ] {
        client.send(&format!("{line}\n"));
        assert_eq!(client.until("(qemu) "), format!("{line}\r\n{shown}(qemu) "));
    }
}

#[test]
fn clients_of_another_user_are_turned_away() {
    let world = World::new(1);
    let me = rustix::process::getuid().as_raw();
    world.listen_with("mine", MonitorOptions { peer_uid: Some(me), ..MonitorOptions::default() });
    world.connect("mine").negotiate();
    world.listen_with("other", MonitorOptions { peer_uid: Some(me + 1), ..MonitorOptions::default() });
    for _ in 0..3 {
        let mut stranger = UnixStream::connect(world.path("other")).unwrap();
        stranger.set_read_timeout(Some(common::PATIENCE)).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "not even a greeting");
    }
    // It tells nothing of the events either, and the machine is as it was.
    world.client("b").run("stop", &[OK]);
}

#[test]
fn monitors_are_bounded() {
    let world = World::new(1);
    for at in 0..MOST_MONITORS {
        world.listen(&format!("m{at}"));
    }
    let source = world.source("more", true);
    let refused = world.monitors.add_qmp(source, MonitorOptions::default());
    assert!(matches!(refused, Err(AddError::TooMany)));
    let mut client = world.connect("m63");
    client.negotiate();
    client.run("system_wakeup", &[&refusal("Unable to wake up: guest is not in suspended state")]);
}
