//! The human monitor, over a socket, over `human-monitor-command`, and on a multiplexer's port.

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use backends::{Backend, CharEvent, Frontend};
use common::{OK, PATIENCE, World, refusal};
use monitor::MonitorOptions;
use runstate::ManagementRequest as Ask;

const PROMPT: &str = "(qemu) ";
const GREETING: &str = "dormouse 0.1.0 monitor - type 'help' for more information\r\n(qemu) ";

/// What a session shows for some keys, up to the next prompt.
fn session(keys: &[(&str, &str)]) {
    let world = World::new(1);
    let mut client = world.human("h");
    assert_eq!(client.until(PROMPT), GREETING);
    for (keys, shown) in keys {
        client.send(keys);
        assert_eq!(client.until(shown.get(shown.len() - PROMPT.len()..).unwrap()), *shown, "for {keys:?}");
    }
}

#[test]
fn a_transcript() {
    session(&[
        ("info status\n", "info status\r\nVM status: paused (prelaunch)\r\n(qemu) "),
        ("c\r", "c\r\n(qemu) "),
        ("info status\r\n", "info status\r\nVM status: running\r\n(qemu) "),
        ("s\n", "s\r\n(qemu) "),
        ("info status\n", "info status\r\nVM status: paused\r\n(qemu) "),
        ("\n", "\r\n(qemu) "),
        (
            "system_wakeup\n",
            "system_wakeup\r\nError: Unable to wake up: guest is not in suspended state\r\n(qemu) ",
        ),
        ("nmi\n", "nmi\r\nError: machine does not provide NMIs\r\n(qemu) "),
        ("frob x\n", "frob x\r\nunknown command: 'frob'\r\n(qemu) "),
        ("info frob\n", "info frob\r\nunknown command: 'info frob'\r\n(qemu) "),
        (
            "stop now\n",
            "stop now\r\nstop|s: extraneous characters at the end of line\r\n\
             Try \"help stop\" for more information\r\n(qemu) ",
        ),
        (
            "watchdog_action\n",
            "watchdog_action\r\nwatchdog_action: string expected\r\n\
             Try \"help watchdog_action\" for more information\r\n(qemu) ",
        ),
        ("watchdog_action frob\n", "watchdog_action frob\r\nError: invalid parameter value: frob\r\n(qemu) "),
        ("watchdog_action pause\n", "watchdog_action pause\r\n(qemu) "),
        ("help cont\n", "help cont\r\ncont|c  -- let the machine go on\r\n(qemu) "),
        ("info version\n", "info version\r\n10.0.2 (dormouse 0.1.0)\r\n(qemu) "),
        ("info name\n", "info name\r\ntest\r\n(qemu) "),
        ("info chardev\n", "info chardev\r\nserial0: filename=null\r\n(qemu) "),
    ]);
}

#[test]
fn the_gdb_stub_is_started_and_stopped() {
    session(&[
        ("gdbserver\n", "gdbserver\r\nWaiting for gdb connection on device 'tcp::1234'\r\n(qemu) "),
        ("gdbserver none\n", "gdbserver none\r\nDisabled gdbserver\r\n(qemu) "),
        (
            "gdbserver tcp:no\n",
            "gdbserver tcp:no\r\nCould not open gdbserver on device 'tcp:no': no such place\r\n(qemu) ",
        ),
    ]);
}

#[test]
fn editing_and_history() {
    session(&[
        // C-a, typing in front, C-e, C-w.
        (
            "status x\x01info \x05\x17\n",
            "status x\x1b[8Dis\
         tatus x\x1b[K\x1b[8Dnstatus x\x1b[K\x1b[8Dfstatus x\x1b[K\x1b[8Dostatus x\x1b[K\x1b[8D status x\x1b[K\x1b[8D\
         status x\x1b[1D\x1b[K\r\nVM status: paused (prelaunch)\r\n(qemu) ",
        ),
        ("frob\x15stop\n", "frob\x1b[4D\x1b[Kstop\r\n(qemu) "),
        // Up twice, down once.
        ("\x1b[A\x1b[A\x1b[B\n", "stop\x1b[K\x1b[4Dinfo status \x1b[K\x1b[12Dstop\x1b[K\r\n(qemu) "),
        ("info history\n", "info history\r\n0: 'info status '\r\n1: 'stop'\r\n2: 'info history'\r\n(qemu) "),
    ]);
}

#[test]
fn completion() {
    session(&[
        ("info sta\t\n", "info status \r\nVM status: paused (prelaunch)\r\n(qemu) "),
        ("sys\t", "system_\r\nsystem_powerdown  system_reset      system_wakeup     \r\n(qemu) "),
        ("w\t\n", "system_wakeup \r\nError: Unable to wake up: guest is not in suspended state\r\n(qemu) "),
        ("zzz\t\n", "zzz\r\nunknown command: 'zzz'\r\n(qemu) "),
    ]);
}

/// The names in a listing, with what stands before them taken off.
fn names(listing: &str, before: &str) -> BTreeSet<String> {
    let name = |line: &str| line.strip_prefix(before).unwrap().split(' ').next().unwrap().to_owned();
    listing
        .split_terminator("\r\n")
        .map(name)
        .flat_map(|n| n.split('|').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn help_lists_exactly_what_exists() {
    let world = World::new(1);
    let mut client = world.client("a");
    let mut human = world.human("h");
    human.until(PROMPT);
    for (listing, prefix) in [("help", ""), ("info", "info ")] {
        let text = client.hmp(listing);
        for line in text.split_terminator("\r\n") {
            let (usage, description) = line.split_once(" -- ").expect("name [args] -- description");
            assert!(usage.starts_with(prefix) && !description.is_empty(), "{line}");
        }
        let listed = names(&text, prefix);
        human.send(&format!("{prefix}\t"));
        let shown = human.until(&format!("\r\n{PROMPT}{prefix}"));
        let columns = shown.strip_prefix(&format!("{prefix}\r\n")).unwrap_or(&shown);
        let columns = columns.strip_suffix(&format!("{PROMPT}{prefix}")).unwrap();
        if !prefix.is_empty() {
            human.send("\x15");
            human.until("\x1b[K");
        }
        let completed: BTreeSet<String> = columns.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed, completed);
        for name in &listed {
            let line = client.hmp(&format!("help {prefix}{name}"));
            assert!(text.contains(&line) || name == "info", "help {prefix}{name}: {line:?}");
            if !matches!(name.as_str(), "quit" | "q") {
                let ran = client.hmp(&format!("{prefix}{name}"));
                assert!(!ran.contains("unknown command"), "{prefix}{name}: {ran}");
            }
        }
    }
    assert_eq!(client.hmp("help info"), client.hmp("info"));
    assert_eq!(client.hmp("?"), client.hmp("help"));
    assert_eq!(client.hmp("help frob"), "unknown command: 'frob'\r\n");
    assert_eq!(client.hmp("help info frob"), "unknown command: 'info frob'\r\n");
}

#[test]
fn lines_through_qmp() {
    let world = World::new(2);
    let mut client = world.client("a");
    assert_eq!(client.hmp(""), "");
    assert_eq!(client.hmp("  info   status "), "VM status: paused (prelaunch)\r\n");
    assert_eq!(client.hmp("cont"), "");
    assert_eq!(client.hmp("info status"), "VM status: running\r\n");
    world.suspend();
    client.expect(&["SUSPEND"]);
    assert_eq!(client.hmp("info status"), "VM status: paused (suspended)\r\n");
    assert_eq!(client.hmp("system_wakeup"), "");
    assert_eq!(client.hmp("nonsense \u{7}"), "unknown command: 'nonsense'\r\n");
    let registers = client.hmp("info registers -a");
    assert!(
        registers.starts_with("\r\nCPU#0\r\npc ") && registers.contains("\r\nCPU#1\r\npc "),
        "{registers}"
    );
    assert_eq!(client.hmp("info registers 2"), "Error: there is no CPU '2'\r\n");
    let cpus = client.hmp("info cpus");
    assert!(cpus.starts_with("* CPU #0: thread_id=") && cpus.contains("\r\n  CPU #1: thread_id="), "{cpus}");
    for (index, works) in [(1, true), (2, false), (-1, false)] {
        client.send(&format!(
            "{{\"execute\": \"human-monitor-command\", \
             \"arguments\": {{\"command-line\": \"stop\", \"cpu-index\": {index}}}}}"
        ));
        if works {
            client.expect(&["STOP", "{\"return\": \"\"}"]);
        } else {
            client.expect(&[&refusal("Parameter 'cpu-index' expects a CPU number")]);
        }
    }
}

#[test]
fn quit_of_a_human_is_told_to_managers() {
    let world = World::new(1);
    let mut client = world.client("a");
    let mut human = world.human("h");
    human.until(PROMPT);
    human.send("q\n");
    assert_eq!(world.engine.wait(), 0);
    world.monitors.shutdown(PATIENCE);
    client.expect(&["SHUTDOWN {\"guest\": false, \"reason\": \"host-qmp-quit\"}"]);
    assert_eq!(human.rest(), "q\r\n(qemu) ");
}

/// A multiplexer's port: output is kept, input comes from the test.
#[derive(Default)]
struct Port {
    shown: Mutex<String>,
    news: Condvar,
    frontend: Mutex<Option<Arc<dyn Frontend>>>,
}

impl Backend for Port {
    fn attach(&self, frontend: Arc<dyn Frontend>) {
        *self.frontend.lock().unwrap() = Some(frontend);
    }
    fn try_write(&self, bytes: &[u8]) -> usize {
        self.shown.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        self.news.notify_all();
        bytes.len()
    }
    fn poll_input(&self) {}
    fn pause(&self, _paused: bool) {}
    fn flush(&self, _timeout: Duration) -> bool {
        true
    }
}

impl Port {
    fn frontend(&self) -> Arc<dyn Frontend> {
        Arc::clone(self.frontend.lock().unwrap().as_ref().unwrap())
    }

    /// Waits for a text, and forgets what was shown.
    fn shows(&self, text: &str) {
        let shown = self.shown.lock().unwrap();
        let (mut shown, late) =
            self.news.wait_timeout_while(shown, PATIENCE, |shown| shown.len() < text.len()).unwrap();
        assert!(!late.timed_out() && *shown == text, "{shown:?} instead of {text:?}");
        shown.clear();
    }
}

#[test]
fn on_a_multiplexer_it_speaks_when_it_has_the_focus() {
    let world = World::new(1);
    let port = Arc::new(Port::default());
    world.monitors.add_human_port(Arc::clone(&port) as Arc<dyn Backend>, MonitorOptions::default()).unwrap();
    port.frontend().event(CharEvent::Opened);
    assert_eq!(*port.shown.lock().unwrap(), "");
    port.frontend().event(CharEvent::FocusIn);
    port.shows(GREETING);
    port.frontend().receive(b"info sta");
    port.shows("info sta");
    port.frontend().event(CharEvent::FocusOut);
    port.frontend().event(CharEvent::FocusIn);
    port.shows("\r\n(qemu) info sta");
    port.frontend().receive(b"tus\r");
    port.shows("tus\r\nVM status: paused (prelaunch)\r\n(qemu) ");
}

#[test]
fn a_human_hears_no_events_and_a_manager_hears_of_what_it_does() {
    let world = World::new(1);
    let mut client = world.client("a");
    let mut human = world.human("h");
    human.until(PROMPT);
    human.send("cont\n");
    assert_eq!(human.until(PROMPT), "cont\r\n(qemu) ");
    client.expect(&["RESUME"]);
    client.run("stop", &["STOP", OK]);
    world.ask(Ask::Cont);
    human.send("info status\n");
    assert_eq!(human.until(PROMPT), "info status\r\nVM status: running\r\n(qemu) ");
}

#[test]
fn a_human_that_does_not_read_is_not_read_from() {
    let world = World::new(1);
    let human = world.human("h");
    human.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Each key costs a screenful of candidates.
    let tabs = [b'\t'; 4096];
    let mut written = 0_usize;
    while let Ok(count) = (&human.stream).write(&tabs) {
        written += count;
        assert!(written < 8 << 20, "keys are read although nobody reads what they show");
    }
    let mut client = world.client("a");
    client.run("cont", &["RESUME", OK]);
}
