use super::*;
use engine::{By, Cause, Notes, Origin, Record, Situation, Stamp};
use runstate::{Config, Lifecycle, RunState};
use std::io::Read as _;
use std::os::unix::net::UnixStream;

fn pair() -> (Arc<Outbox>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let outbox = Outbox::new(Connection::from_socket(ours.into()));
    outbox.start_writer("test").unwrap();
    (outbox, theirs)
}

fn status(state: RunState) -> Arc<Status> {
    let situation = Arc::new(Situation { state, ..Situation::from(&Lifecycle::new(Config::default())) });
    Arc::new(Status::first(&Record {
        sequence: 1,
        at: Stamp::default(),
        cause: Cause { origin: Origin::Start, request: "start", by: By::Unnamed },
        event: None,
        from: Arc::clone(&situation),
        to: situation,
        notes: Notes::default(),
    }))
}

const WHEN: Timestamp = Timestamp { seconds: 1, microseconds: 2 };

fn stop() -> Option<(Event, Timestamp)> {
    Some((Event::plain(&crate::events::STOP), WHEN))
}

fn stop_line() -> String {
    Event::plain(&crate::events::STOP).render(WHEN)
}

fn read_all(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn bytes_leave_in_the_order_in_which_they_came_whoever_writes_them() {
    let (outbox, theirs) = pair();
    let reader = thread::spawn(move || read_all(theirs));
    let mut expected = String::new();
    // Long lines overrun the kernel's buffer, so that both ways of writing take turns.
    for at in 0..400 {
        let line = format!("{at}:{}\n", "x".repeat(at * 37 % 9000));
        outbox.send(&line);
        expected += &line;
    }
    outbox.drain();
    outbox.close();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_reply_for_an_old_status_is_not_taken() {
    let (outbox, theirs) = pair();
    outbox.publish(&status(RunState::Running), None, None);
    outbox.reply("negotiated\n", true);
    let (seen, version) = outbox.status();
    assert_eq!(seen.unwrap().state, RunState::Running);
    outbox.publish(&status(RunState::Paused), None, stop());
    assert!(!outbox.reply_at(version, "running\n", false));
    let (seen, version) = outbox.status();
    assert_eq!(seen.unwrap().state, RunState::Paused);
    assert!(outbox.reply_at(version, "paused\n", false));
    outbox.end();
    outbox.close();
    assert_eq!(read_all(theirs), format!("negotiated\n{}paused\n", stop_line()));
}

#[test]
fn events_never_wait_for_a_client_and_it_is_cut_off_at_the_bound() {
    let (outbox, theirs) = pair();
    outbox.reply("", true);
    let mut published = 0;
    while !outbox.lock().closed {
        outbox.publish(&status(RunState::Running), None, stop());
        published += stop_line().len();
        assert!(published < CLOSE_BOUND + (4 << 20), "never cut off");
    }
    assert!(published > CLOSE_BOUND);
    assert!(!outbox.begin() && !outbox.wait_for_room());
    assert!(read_all(theirs).len() < CLOSE_BOUND);
}

#[test]
fn a_large_reply_is_not_held_against_its_client() {
    let (outbox, theirs) = pair();
    let reply = "r".repeat(CLOSE_BOUND + 1);
    outbox.reply(&reply, true);
    outbox.publish(&status(RunState::Running), None, stop());
    assert!(outbox.is_behind());
    let reader = thread::spawn(move || read_all(theirs));
    assert!(outbox.wait_for_room());
    outbox.drain();
    assert!(!outbox.is_behind());
    outbox.close();
    assert!(reader.join().unwrap() == reply + &stop_line());
}

#[test]
fn output_to_a_client_that_has_gone_is_dropped() {
    let (outbox, theirs) = pair();
    drop(theirs);
    outbox.send("one");
    outbox.send("two");
    outbox.drain();
    assert!(outbox.begin(), "what it has sent is still to be run");
    assert_eq!(outbox.lock().waiting(), 0);
}

#[test]
fn the_end_waits_for_the_command_under_way_and_its_reply() {
    let (outbox, theirs) = pair();
    assert!(outbox.begin());
    let worker = Arc::clone(&outbox);
    let command = thread::spawn(move || {
        worker.reply("done\n", false);
        worker.end();
    });
    outbox.finish(Instant::now() + Duration::from_secs(60));
    command.join().unwrap();
    assert_eq!(read_all(theirs), "done\n");
    assert!(!outbox.begin());
}

#[test]
fn events_that_come_too_often_wait_and_keep_their_time_stamps() {
    use std::io::{BufRead as _, BufReader};
    let (outbox, theirs) = pair();
    outbox.reply("", true);
    let watchdog = |action: &str, microseconds| {
        let event = Event::with(&crate::events::WATCHDOG, &serde_json::json!({"action": action}));
        (event, Timestamp { seconds: 1, microseconds })
    };
    for (action, at) in [("none", 1), ("debug", 2), ("none", 3)] {
        outbox.publish(&status(RunState::Running), None, Some(watchdog(action, at)));
    }
    let mut lines = BufReader::new(theirs).lines().map(|line| line.unwrap() + "\n");
    let line = |action, at| watchdog(action, at).0.render(watchdog(action, at).1).replace("\r\n", "\n");
    let begin = Instant::now();
    assert_eq!(lines.next().unwrap(), line("none", 1));
    assert_eq!(lines.next().unwrap(), line("none", 3), "the newest, when the second is over");
    assert!(begin.elapsed() > Duration::from_millis(900));
    let (pause, when) = watchdog("pause", 4);
    outbox.publish(&status(RunState::Running), None, Some((pause.explaining(), when)));
    outbox.publish(&status(RunState::Paused), None, stop());
    assert_eq!(lines.next().unwrap(), line("pause", 4), "a STOP has its reason in front of it");
    assert_eq!(lines.next().unwrap(), stop_line().replace("\r\n", "\n"));
}
