//! QMP clients over sockets: events, replies, their order, and clients that misbehave.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clock::{TimerClass, TimerTarget};
use common::{Client, OK, PATIENCE, World, refusal, status};
use monitor::MonitorOptions;
use runstate::{Actions, ManagementRequest as Ask, ShutdownAction};
use vmcore::testing::Step;

const NOT_SUSPENDED: &str = "Unable to wake up: guest is not in suspended state";

#[test]
fn greeting_and_cont_of_a_new_machine() {
    let world = World::new(1);
    world.listen("a");
    let mut client = world.connect("a");
    assert_eq!(
        client.raw(),
        "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0, \"micro\": 2}, \
         \"package\": \"dormouse 0.1.0\"}, \"capabilities\": [\"oob\"]}}"
    );
    client.send("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
    client.expect(&[OK]);
    client.status("prelaunch");
    client.run("cont", &["RESUME", OK]);
    client.status("running");
}

#[test]
fn stop_stop_cont_cont() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    client.run("stop", &["STOP", OK]);
    client.run("stop", &[OK]);
    client.status("paused");
    client.run("cont", &["RESUME", OK]);
    client.run("cont", &[OK]);
    client.status("running");
}

#[test]
fn a_stopped_sleeper_refuses_a_wakeup_sleeps_on_and_wakes() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    client.run("system_wakeup", &[&refusal(NOT_SUSPENDED)]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    client.status("suspended");
    client.run("stop", &["STOP", OK]);
    client.status("paused");
    client.run("system_wakeup", &[&refusal(NOT_SUSPENDED)]);
    client.run("cont", &["RESUME", "SUSPEND", OK]);
    client.status("suspended");
    client.run("cont", &[OK]);
    client.run("system_wakeup", &["WAKEUP", OK]);
    client.status("running");
}

#[test]
fn a_reset_of_a_stopped_sleeper_waits_and_of_a_live_one_runs_on() {
    const RESET: &str = "RESET {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}";
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    world.suspend();
    client.expect(&["SUSPEND"]);
    client.run("stop", &["STOP", OK]);
    client.run("system_reset", &[RESET, OK]);
    client.status("prelaunch");
    client.run("cont", &["RESUME", OK]);
    client.status("running");

    world.suspend();
    client.expect(&["SUSPEND"]);
    client.run("system_reset", &[RESET, OK]);
    client.status("running");
    client.run("cont", &[OK]);
    client.nothing();
}

#[test]
fn power_button_actions_and_power_off() {
    let world = World::with_actions(1, Actions { shutdown: ShutdownAction::Pause, ..Actions::default() });
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    client.run("system_powerdown", &["POWERDOWN", OK]);
    client.run("inject-nmi", &[&refusal("machine does not provide NMIs")]);
    let off =
        runstate::GuestRequest::ShutDown { cause: runstate::ShutdownCause::GuestShutdown, exit_code: 0 };
    world.scripts[0].then(Step::Ecall(off));
    client.expect(&["SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}", "STOP"]);
    client.status("shutdown");
    client.run("cont", &[&refusal("Resetting the Virtual Machine is required")]);
    client.send("{\"execute\": \"set-action\", \"arguments\": {\"reboot\": \"shutdown\"}}");
    client.expect(&[OK]);
    client.run("system_reset", &["SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}", OK]);
    client.send("{\"execute\": \"set-action\", \"arguments\": {\"reboot\": \"reset\"}}");
    client.expect(&[OK]);
    client.run("system_reset", &["RESET {\"guest\": false, \"reason\": \"host-qmp-system-reset\"}", OK]);
    client.status("prelaunch");
}

#[test]
fn queries_answer_what_is_there() {
    let world = World::new(2);
    let mut client = world.client("a");
    client.run("query-current-machine", &["{\"return\": {\"wakeup-suspend-support\": true}}"]);
    client.run("query-name", &["{\"return\": {\"name\": \"test\"}}"]);
    client.run("query-kvm", &["{\"return\": {\"enabled\": false, \"present\": false}}"]);
    client.run("query-target", &["{\"return\": {\"arch\": \"riscv64\"}}"]);
    client.send("{\"execute\": \"query-command-line-options\", \"arguments\": {\"option\": \"frob\"}}");
    client.expect(&[&refusal("invalid option name: frob")]);
    for (command, member) in [("query-commands", "name"), ("query-qmp-schema", "meta-type")] {
        client.send(&format!("{{\"execute\": \"{command}\"}}"));
        let reply: serde_json::Value = serde_json::from_str(&client.raw()).unwrap();
        assert!(reply["return"].as_array().unwrap().iter().all(|entry| entry[member].is_string()), "{reply}");
    }
    client.send("{\"execute\": \"query-cpus-fast\"}");
    let reply: serde_json::Value = serde_json::from_str(&client.raw()).unwrap();
    let cpus = reply["return"].as_array().unwrap();
    assert_eq!(cpus.len(), 2);
    assert_eq!(cpus[1]["cpu-index"], 1);
    assert_eq!(cpus[1]["qom-path"], "/machine/soc0/harts[1]");
    assert_eq!(cpus[1]["props"]["core-id"], 1);
}

#[test]
fn every_command_that_is_listed_can_be_run() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send("{\"execute\": \"query-commands\"}");
    let reply: serde_json::Value = serde_json::from_str(&client.raw()).unwrap();
    for entry in reply["return"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if matches!(name, "quit" | "qmp_capabilities") {
            continue;
        }
        client.send(&format!("{{\"execute\": \"{name}\", \"id\": \"{name}\"}}"));
        let reply = loop {
            let reply: serde_json::Value = serde_json::from_str(&client.raw()).unwrap();
            if reply.get("event").is_none() {
                break reply;
            }
        };
        assert_eq!(reply["id"], name);
        assert_ne!(reply["error"]["class"], "CommandNotFound", "{name}");
    }
}

#[test]
fn pipelined_commands_are_answered_in_order_each_behind_its_events() {
    let world = World::new(1);
    let mut client = world.client("a");
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
fn two_monitors_see_the_same_events_with_the_same_stamps() {
    let world = World::new(1);
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    for _ in 0..20 {
        for command in ["cont", "stop", "system_reset"] {
            a.send(&format!("{{\"execute\": \"{command}\"}}"));
            let event = a.raw();
            assert_eq!(a.raw(), OK);
            // The reply is there, so the other monitor's event is.
            assert_eq!(b.raw(), event);
            let known = if command == "cont" { "running" } else { "paused" };
            b.status(if command == "system_reset" { "prelaunch" } else { known });
        }
    }
}

#[test]
fn events_begin_with_negotiation() {
    let world = World::new(1);
    let mut active = world.client("a");
    world.listen("b");
    let mut silent = world.connect("b");
    assert!(silent.raw().starts_with("{\"QMP\""));
    active.run("cont", &["RESUME", OK]);
    active.run("stop", &["STOP", OK]);
    silent.run(
        "stop",
        &["{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \
           \"Expecting capabilities negotiation with 'qmp_capabilities'\"}}"],
    );
    silent.run("qmp_capabilities", &[OK]);
    silent.status("paused");
    active.run("cont", &["RESUME", OK]);
    silent.expect(&["RESUME"]);
}

#[test]
fn a_status_is_never_older_than_the_events_before_it() {
    let world = World::new(1);
    let mut watcher = world.client("a");
    world.ask(Ask::Cont);
    watcher.expect(&["RESUME"]);
    let engine = world.engine.clone();
    let actor = std::thread::spawn(move || {
        for _ in 0..500 {
            for request in [Ask::Stop, Ask::SystemReset, Ask::Cont] {
                engine.manage(request).unwrap();
            }
        }
    });
    // What the events so far come to, and what the next event may already have made of it.
    let (mut known, mut queries) = ("running", 0);
    watcher.send("{\"execute\": \"query-status\"}");
    loop {
        let line = watcher.line();
        let next = |state| match state {
            "running" => "paused",
            "paused" => "prelaunch",
            _ => "running",
        };
        match line.split(' ').next().unwrap() {
            "STOP" | "RESET" | "RESUME" => known = next(known),
            _ => {
                assert!(
                    line == status(known) || line == status(next(known)),
                    "{line} after events to {known}"
                );
                queries += 1;
                if actor.is_finished() && line == status("running") && queries > 100 {
                    break;
                }
                watcher.send("{\"execute\": \"query-status\"}");
            }
        }
    }
    actor.join().unwrap();
}

#[test]
fn after_a_reply_folded_events_and_the_query_agree() {
    let world = World::new(1);
    let mut client = world.client("a");
    let mut known = "prelaunch".to_owned();
    let commands = ["cont", "stop", "system_reset", "cont", "system_reset", "stop", "cont"];
    for at in 0..300 {
        let command = commands[at * 5 % commands.len()];
        client.send(&format!("{{\"execute\": \"{command}\"}}{{\"execute\": \"query-status\"}}"));
        let mut replies = 0;
        while replies < 2 {
            let line = client.line();
            match line.split(' ').next().unwrap() {
                "STOP" => known = "paused".into(),
                "RESUME" => known = "running".into(),
                "RESET" if known != "running" => known = "prelaunch".into(),
                "RESET" => {}
                _ if line == OK => replies += 1,
                _ => {
                    assert_eq!(line, status(&known), "after {command}");
                    replies += 1;
                }
            }
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_not_served_further_and_holds_nobody_up() {
    let world = World::new(1);
    let mut deaf = world.client("a");
    let mut other = world.client("b");
    let command = "{\"execute\": \"query-commands\", \"id\": 12345678}".repeat(64);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0_usize;
    let blocked = loop {
        match deaf.stream.write(&command.as_bytes()[written % command.len()..]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
        assert!(written < 16 << 20, "commands are read although nobody reads the replies");
    };
    assert!(matches!(blocked.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked}");
    for _ in 0..100 {
        other.run("cont", &["RESUME", OK]);
        other.run("stop", &["STOP", OK]);
    }
    // It was not forgotten: once it reads, everything comes.
    let whole = written / (command.len() / 64);
    let mut replies = 0;
    while replies < whole {
        let line = deaf.raw();
        replies += usize::from(line.starts_with("{\"return\": [") && line.ends_with("\"id\": 12345678}"));
    }
}

#[test]
fn a_client_with_too_many_unread_events_is_cut_off() {
    let world = World::new(1);
    let mut deaf = world.client("a");
    let mut other = world.client("b");
    // Each is answered before the next: the machine is never held up.
    let resets = "{\"execute\": \"system_reset\"}".repeat(1000);
    for _ in 0..monitor::CLOSE_BOUND / 100_000 {
        other.send(&resets);
        for _ in 0..1000 {
            other.raw();
            assert_eq!(other.raw(), OK);
        }
    }
    let text = deaf.rest();
    assert!(
        text.len() < monitor::CLOSE_BOUND,
        "{} bytes came from a connection that was cut off",
        text.len()
    );
    assert!(text.starts_with("{\"timestamp\""));
    other.status("prelaunch");
}

#[test]
fn clients_of_one_socket_are_served_one_after_the_other() {
    let world = World::new(1);
    let mut first = world.client("a");
    let mut second = world.connect("a");
    second.send("{\"execute\": \"qmp_capabilities\"}{\"execute\": \"query-status\"}");
    for _ in 0..100 {
        first.status("prelaunch");
    }
    second.stream.set_nonblocking(true).unwrap();
    let heard = (&second.stream).read(&mut [0]).expect_err("heard something while another was served");
    assert_eq!(heard.kind(), ErrorKind::WouldBlock);
    second.stream.set_nonblocking(false).unwrap();
    drop(first);
    assert!(second.raw().starts_with("{\"QMP\""));
    second.expect(&[OK, &status("prelaunch")]);
}

#[test]
fn a_client_that_has_said_everything_still_hears_everything() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send("{\"execute\": \"cont\"}{\"execute\": \"query-status\"}");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect(&["RESUME", OK, &status("running")]);
    assert_eq!(client.rest(), "");
}

#[test]
fn a_monitor_that_connects_to_its_client() {
    let world = World::new(1);
    let listener = UnixListener::bind(world.path("out")).unwrap();
    world.monitors.add_qmp(world.source("out", false), MonitorOptions::default()).unwrap();
    let mut client = Client::new(listener.accept().unwrap().0);
    client.negotiate();
    client.run("cont", &["RESUME", OK]);
}

#[test]
fn the_reply_of_quit_comes_before_the_end() {
    let world = World::new(1);
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    let mut waiting = world.human("c");
    waiting.until("(qemu) ");
    client.send("{\"execute\": \"quit\", \"id\": 7}");
    assert_eq!(world.engine.wait(), 0);
    world.monitors.shutdown(PATIENCE);
    client.expect(&[
        "SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}",
        "{\"return\": {}, \"id\": 7}",
    ]);
    other.expect(&["SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}"]);
    assert_eq!((client.rest(), other.rest(), waiting.rest()), (String::new(), String::new(), String::new()));
}

#[test]
fn shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let world = World::new(1);
    let mut deaf = world.client("a");
    deaf.send(&"{\"execute\": \"query-qmp-schema\"}".repeat(100));
    world.ask(Ask::Quit { cause: runstate::ShutdownCause::HostSignal });
    world.engine.wait();
    world.monitors.shutdown(Duration::from_millis(50));
    assert!(!deaf.rest().contains("{\"error\""));
}

struct Fired(AtomicUsize);

impl TimerTarget for Fired {
    fn expired(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_moved_clock_has_fired_what_is_due_when_the_reply_comes() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
    let fired = Arc::new(Fired(AtomicUsize::new(0)));
    let timer = world.timers.add(TimerClass::GuestTime, Arc::clone(&fired) as _);
    for round in 1..=10 {
        timer.arm(timer.now_ns() + 3_600_000_000_000);
        client.send(
            "{\"execute\": \"x-test-clock-advance\", \
             \"arguments\": {\"monotonic-ns\": 3600000000000, \"realtime-ns\": 3600000000000}}",
        );
        client.expect(&[OK]);
        assert_eq!(fired.0.load(Ordering::SeqCst), round);
    }
    client.send("{\"execute\": \"x-test-clock-advance\", \"arguments\": {\"monotonic-ns\": -1}}");
    client.expect(&[&refusal("Parameter 'monotonic-ns' expects a time that does not go back")]);
}

#[test]
fn broken_input_costs_an_error_and_the_next_command_works() {
    let world = World::new(1);
    let mut client = world.client("a");
    client.send("{\"execute\": }\n");
    client.expect(&[&refusal("JSON parse error, expecting value")]);
    client.send("[1, 2]");
    client.expect(&[&refusal("QMP input must be a JSON object")]);
    client.send("{'execute': 'query-status', 'id': 'x'}");
    client.expect(&["{\"return\": {\"running\": false, \"status\": \"prelaunch\"}, \"id\": \"x\"}"]);
    client.send("{\"exec-oob\": \"stop\"}");
    client.expect(&[&refusal("QMP input member 'exec-oob' is unexpected")]);
    client.nothing();
}
