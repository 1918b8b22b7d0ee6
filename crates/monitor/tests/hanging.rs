//! A command that hangs with a disk: what is behind it on its connection waits in order, and a `quit` among it does not.

mod common;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use common::{Client, OK, PATIENCE, World, refusal, status};
use vmcore::testing::{FakeStorage, Mishap};

const STOP: &str = "{'execute': 'stop'}";
const QUIT: &str = "{'execute': 'quit', 'id': 'q'}";
const QUERY: &str = "{'execute': 'query-status'}";

/// Waits until the thread is there that reads on behind a command that hangs. One world at a time has one.
fn until_another_thread_reads() {
    let deadline = Instant::now() + PATIENCE;
    let names = || std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let name =
        |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    while !names().any(|task| name(&task).trim_end().ends_with("/in")) {
        assert!(Instant::now() < deadline, "nobody reads on");
        std::thread::yield_now();
    }
}

/// One test at a time, for threads are looked for by name.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn running() -> (World, Arc<FakeStorage>) {
    let storage = Arc::new(FakeStorage::default());
    let world = World::with_storage(1, runstate::Config::default(), Some(Arc::clone(&storage)));
    world.ask(runstate::ManagementRequest::Cont);
    storage.next("flush", Mishap::Hang);
    (world, storage)
}

/// The `stop` and whatever is between are answered before the `quit`, which is answered at last.
fn ends(client: &mut Client, between: &[&str]) {
    client.expect(&["SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}"]);
    client.expect(&[&refusal("the machine has ended")]);
    client.expect(between);
    client.expect(&["{\"return\": {}, \"id\": \"q\"}"]);
}

#[test]
fn a_quit_behind_a_stop_that_hangs_ends_it_however_it_is_sent() {
    let _alone = alone();
    for (sent, oob) in [(0, false), (1, false), (2, false), (2, true)] {
        let (world, storage) = running();
        world.listen("qmp");
        let mut client = world.connect("qmp");
        if oob {
            client.negotiate_oob()
        } else {
            client.negotiate()
        }
        match sent {
            // At once; when the wait is not, or just, found to be long; when it was.
            0 => client.send(&[STOP, QUERY, QUIT].concat()),
            1 => {
                client.send(STOP);
                client.expect(&["STOP"]);
                client.send(&[QUERY, QUIT].concat());
            }
            _ => {
                client.send(STOP);
                client.expect(&["STOP"]);
                client.send(QUERY);
                if !oob {
                    until_another_thread_reads();
                }
                client.send(QUIT);
            }
        }
        if sent == 0 {
            client.expect(&["STOP"]);
        }
        ends(&mut client, &[&status("shutdown")]);
        assert_eq!(world.engine.wait(), 0);
        storage.release();
    }
}

#[test]
fn what_is_behind_a_stop_that_takes_long_is_done_after_it_in_order() {
    let _alone = alone();
    let (world, storage) = running();
    let mut client = world.client("qmp");
    let other = world.client("other");
    client.send(STOP);
    client.expect(&["STOP"]);
    // More than waits at once, in one piece and in several.
    for number in 0..20 {
        client.send(&format!("{{'execute': 'query-uuid', 'id': {number}}}"));
    }
    client.send(&[QUERY, "{'execute': 'cont'}", QUERY].concat());
    until_another_thread_reads();
    storage.release();
    client.expect(&[OK]);
    for number in 0..20 {
        let uuid = "{\"UUID\": \"00000000-0000-0000-0000-000000000000\"}";
        client.expect(&[&format!("{{\"return\": {uuid}, \"id\": {number}}}")]);
    }
    client.expect(&[&status("paused"), "RESUME", OK, &status("running")]);
    // And so it goes on.
    client.run("stop", &["STOP", OK]);
    client.status("paused");
    drop(client);
    drop(other);
    let mut next = world.connect("qmp");
    next.negotiate();
    next.status("paused");
}

#[test]
fn a_client_that_leaves_while_its_command_hangs_leaves_nothing_behind() {
    let _alone = alone();
    let (world, storage) = running();
    let mut client = world.client("qmp");
    client.send(STOP);
    client.expect(&["STOP"]);
    until_another_thread_reads();
    drop(client);
    storage.release();
    let mut next = world.connect("qmp");
    next.negotiate();
    next.status("paused");
}
