//! Replays recorded scenarios of QEMU 10.0 (`tests/data/scenarios`: commands, replies, events, what the guest did, exit
//! status) on a machine without a board, and compares states, events, texts and exit statuses. Every difference is listed
//! here by name, with its reason.

mod common;

use common::{Client, World};
use runstate::{Actions, DeviceRequest, GuestRequest, ManagementRequest, ShutdownCause};
use serde_json::{Value, json};
use vmcore::DevicePort as _;
use vmcore::testing::Step;

/// Where we do otherwise than QEMU: recording, what it has, what we have, and why.
struct Difference {
    recording: &'static str,
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
    #[allow(dead_code, reason = "it is for the reader")]
    reason: &'static str,
}

const OK: &str = r#"{"return":{}}"#;

const DIFFERENCES: &[Difference] = &[
    Difference {
        recording: "03-suspend-stop-cont-wakeup",
        theirs: &["RESUME", OK],
        ours: &["RESUME", "SUSPEND", OK],
        reason: "RESUME alone leads a client that folds events to believe that the guest runs; it sleeps on",
    },
    Difference {
        recording: "32-panic-actions",
        theirs: &["exit 0"],
        ours: &["exit 1"],
        reason: "B13: the status of a failure sticks to the quit that follows, also when the guest failed by a panic",
    },
    Difference {
        recording: "34-powerdown-in-each-state",
        theirs: &["POWERDOWN", OK],
        ours: &["POWERDOWN", "WAKEUP", OK],
        reason: "B17: the power button wakes a sleeping guest, which otherwise would never hear of it",
    },
    Difference {
        recording: "34-powerdown-in-each-state",
        theirs: &[r#"{"return":{"running":false,"status":"suspended"}}"#],
        ours: &[r#"{"return":{"running":true,"status":"running"}}"#],
        reason: "as above",
    },
    Difference {
        recording: "34-powerdown-in-each-state",
        theirs: &[r#"{"return":"VM status: paused (suspended)\r\n"}"#],
        ours: &[r#"{"return":"VM status: running\r\n"}"#],
        reason: "as above",
    },
    Difference {
        recording: "36-inject-nmi-set-action",
        theirs: &[OK],
        ours: &[r#"{"error":{"class":"GenericError","desc":"machine does not provide NMIs"}}"#],
        reason: "the recording is of a PC, which has NMIs; 37-riscv64 has the text of a machine without",
    },
    Difference {
        recording: "51-watchdog-actions",
        theirs: &[],
        ours: &["SHUTDOWN {\"guest\":true,\"reason\":\"guest-shutdown\"}"],
        reason: "B17: the end by the watchdog's poweroff is told like every other",
    },
];

/// Parts that are not replayed: recording, a word of their command line or a command in them, and why.
const NOT_REPLAYED: &[(&str, &str, &str)] = &[
    ("33-quit-in-each-state", "--preconfig", "there is no machine before the command line is complete"),
    ("33-quit-in-each-state", "migrate", "migration comes with the next milestone"),
    (
        "51-watchdog-actions",
        "system_wakeup",
        "whether a watchdog runs while the guest sleeps is the device's affair",
    ),
];

/// Whole recordings that are not kept here.
const NOT_KEPT: &[(&str, &str)] = &[
    ("10-migrate-running", "migration"),
    ("12-migrate-paused-suspended", "migration"),
    ("13-cont-after-postmigrate", "migration"),
    ("15-inmigrate-stop-cont", "migration"),
    ("16-pre-switchover-cancel-suspended", "migration"),
    ("40-snapshot-of-suspended", "snapshots"),
    ("57-background-snapshot", "snapshots"),
];

/// One run of a machine: its command line, and what was recorded of it up to its exit.
struct Run {
    argv: Vec<String>,
    /// What the guest does by itself when it first runs.
    program: Option<GuestRequest>,
    lines: Vec<Value>,
}

impl Run {
    fn has(&self, word: &str) -> bool {
        self.argv.iter().any(|arg| arg == word) || self.lines.iter().any(|line| line["execute"] == word)
    }

    fn value(&self, option: &str) -> Option<&str> {
        let at = self.argv.iter().position(|arg| arg == option)?;
        self.argv.get(at + 1).map(String::as_str)
    }

    fn config(&self) -> runstate::Config {
        let mut actions = Actions::default();
        if self.has("-no-reboot") {
            actions.reboot = "shutdown".parse().unwrap();
        }
        if self.has("-no-shutdown") {
            actions.shutdown = "pause".parse().unwrap();
        }
        for (key, value) in self
            .value("-action")
            .into_iter()
            .flat_map(|list| list.split(','))
            .filter_map(|pair| pair.split_once('='))
        {
            match key {
                "reboot" => actions.reboot = value.parse().unwrap(),
                "shutdown" => actions.shutdown = value.parse().unwrap(),
                "panic" => actions.panic = value.parse().unwrap(),
                "watchdog" => actions.watchdog = value.parse().unwrap(),
                other => panic!("no action {other}"),
            }
        }
        // QEMU's own riscv64 machine cannot suspend.
        let wakeup_supported = self.value("-machine") != Some("virt");
        runstate::Config {
            actions,
            wakeup_supported,
            incoming: self.has("-incoming"),
            ..runstate::Config::default()
        }
    }
}

fn runs(recording: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut program = None;
    for line in recording.lines() {
        let line: Value = serde_json::from_str(line).expect("the recording is JSON");
        let text = line["text"].as_str().unwrap_or_default();
        if let Some(value) = text.strip_prefix("finisher value ") {
            program = Some(finisher(value.split(',').next().unwrap()));
        } else if line["dir"] == "start" {
            let argv = line["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned());
            runs.push(Run { argv: argv.collect(), program: program.take(), lines: Vec::new() });
        } else if let Some(run) = runs.last_mut() {
            run.lines.push(line);
        }
    }
    runs
}

/// What a value that is written to the test finisher asks for.
fn finisher(value: &str) -> GuestRequest {
    match value {
        "0x5555" => GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 0 },
        "0x7777" => GuestRequest::Reset,
        "0x73333" => GuestRequest::ShutDown { cause: ShutdownCause::GuestPanic, exit_code: 7 },
        other => panic!("no finisher value {other}"),
    }
}

/// What the guest did, by the recording's notes; nothing for those that only tell.
fn guest_action(note: &str) -> Option<Action> {
    let note = note.strip_prefix("vm: ")?;
    Some(match note {
        "guest writes PM1_CNT to enter S3" => Action::Suspend,
        "guest told 'o'" => Action::Ask(finisher("0x5555")),
        "guest resets through port 0xcf9" | "guest reset via 0xcf9" => Action::Ask(GuestRequest::Reset),
        "guest reports crash-loaded" => Action::Ask(GuestRequest::CrashLoaded),
        "guest reports panic" => Action::Ask(GuestRequest::Panic),
        "guest arms the watchdog (2 s)" => Action::Watchdog,
        _ => return None,
    })
}

enum Action {
    Suspend,
    Ask(GuestRequest),
    Watchdog,
}

/// A line in one form, whoever wrote it: `EVENT data`, or the reply.
fn normal(line: &Value) -> Option<String> {
    let event = |name: &str| match line.get("data") {
        Some(data) => format!("{name} {}", sorted(data)),
        None => name.to_owned(),
    };
    if let Some(name) = line["event"].as_str() {
        return Some(event(name));
    }
    if line.get("return").is_some() {
        return Some(sorted(&json!({"return": line["return"]})));
    }
    let error = if line["dir"] == "err" { line } else { line.get("error")? };
    Some(json!({"error": {"class": error["class"], "desc": error["desc"]}}).to_string())
}

/// The same members in one order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("{}:{}", json!(name), sorted(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// The firmware of a PC resets once more after each reset, in its own time; the boards that are replayed here do not.
fn is_firmware(line: &Value) -> bool {
    line["event"] == "RESET" && line["data"]["guest"] == true
}

struct Player<'a> {
    name: &'a str,
    world: World,
    client: Client,
    used: &'a mut Vec<usize>,
}

impl Player<'_> {
    fn next(&mut self) -> Option<String> {
        let line = self.client.raw_or_end()?;
        normal(&serde_json::from_str(&line).expect("each line is JSON"))
    }

    /// Lines up to, and with, the `count`th reply.
    fn replies(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = count;
        while left > 0
            && let Some(line) = self.next()
        {
            left -= usize::from(line.starts_with('{'));
            lines.push(line);
        }
        lines
    }

    #[track_caller]
    fn compare(&mut self, what: &str, theirs: &[String], ours: &[String]) {
        if theirs == ours {
            return;
        }
        let found = DIFFERENCES.iter().position(|difference| {
            difference.recording == self.name && difference.theirs == theirs && difference.ours == ours
        });
        match found {
            Some(at) => self.used.push(at),
            None => panic!("{} at {what}\n  QEMU: {theirs:#?}\n  ours: {ours:#?}", self.name),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Suspend => self.world.suspend(),
            Action::Ask(request) => self.world.scripts[0].then(Step::Ecall(request)),
            Action::Watchdog => self.world.port.post(DeviceRequest::Watchdog),
        }
    }
}

/// Replays a run; gives how many commands and guest's acts were compared.
fn replay(name: &str, run: &Run, used: &mut Vec<usize>) -> usize {
    let world = World::with_config(1, run.config());
    if !run.has("-S") && !run.has("-incoming") {
        world.ask(ManagementRequest::Cont);
    }
    let mut program = run.program;
    let client = world.client("a");
    let mut player = Player { name, world, client, used };
    let lines: Vec<&Value> = run.lines.iter().filter(|line| !is_firmware(line)).collect();
    let mut compared = 0;
    // The first line is the reply of the negotiation.
    let mut at = 1;
    while let Some(line) = lines.get(at) {
        at += 1;
        let mut take_while = |when: &dyn Fn(&Value) -> bool| {
            let taken: Vec<&Value> = lines[at..].iter().copied().take_while(|line| when(line)).collect();
            at += taken.len();
            taken
        };
        match line["dir"].as_str().unwrap() {
            "cmd" => {
                let more = take_while(&|line| line["dir"] == "cmd" && line["pipelined"] == true);
                let count = 1 + more.len();
                let mut text = String::new();
                for command in std::iter::once(*line).chain(more) {
                    let arguments = command.get("arguments").cloned().unwrap_or(json!({}));
                    text += &json!({"execute": command["execute"], "arguments": arguments}).to_string();
                }
                player.client.send(&text);
                let mut left = count;
                let mut theirs = Vec::new();
                while left > 0 {
                    left -= usize::from(["ret", "err"].contains(&lines[at]["dir"].as_str().unwrap()));
                    theirs.extend(normal(lines[at]));
                    at += 1;
                }
                let ours = player.replies(count);
                player.compare(&text, &theirs, &ours);
                compared += count;
                // Only now, so that what the guest does cannot come before the reply.
                if let Some(program) = program.take_if(|_| line["execute"] == "cont") {
                    player.act(Action::Ask(program));
                }
            }
            "note" => {
                let text = line["text"].as_str().unwrap();
                let resets = run.value("-action") == Some("watchdog=reset") || text.contains("0xcf9");
                if text == "SIGTERM sent to the VMM" {
                    player.world.ask(ManagementRequest::Quit { cause: ShutdownCause::HostSignal });
                } else if let Some(action) = guest_action(text) {
                    player.act(action);
                } else {
                    continue;
                }
                let mut theirs: Vec<String> =
                    take_while(&|line| line["dir"] == "event").into_iter().filter_map(normal).collect();
                if resets && !run.has("-no-reboot") {
                    theirs.push("RESET {\"guest\":true,\"reason\":\"guest-reset\"}".to_owned());
                }
                let ours: Vec<String> = (0..theirs.len()).map_while(|_| player.next()).collect();
                player.compare(text, &theirs, &ours);
                compared += 1;
            }
            "event" => {
                let ours: Vec<String> = player.next().into_iter().collect();
                player.compare("an event", &[normal(line).unwrap()], &ours);
            }
            "exit" => {
                let status = player.world.engine.wait();
                player.compare("the exit", &[format!("exit {}", line["code"])], &[format!("exit {status}")]);
                player.world.monitors.shutdown(common::PATIENCE);
                let rest: Vec<String> = std::iter::from_fn(|| player.next()).collect();
                player.compare("the end", &[], &rest);
                compared += 1;
            }
            other => panic!("{name}: a line of kind {other}"),
        }
    }
    compared
}

macro_rules! recordings {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("data/scenarios/", $name, ".jsonl")))),*]
    };
}

const RECORDINGS: &[(&str, &str)] = recordings![
    "01-prelaunch-cont",
    "02-stop-stop-cont-cont",
    "03-suspend-stop-cont-wakeup",
    "04-reset-while-paused-suspended",
    "06-reset-while-paused",
    "30-no-reboot",
    "32-panic-actions",
    "33-quit-in-each-state",
    "34-powerdown-in-each-state",
    "36-inject-nmi-set-action",
    "37-riscv64",
    "38-riscv64-test-finisher",
    "51-watchdog-actions",
    "52-stop-twice-suspended-reset-order",
];

#[test]
fn recorded_scenarios_go_as_they_went_with_qemu() {
    let (mut replayed, mut compared, mut left_out) = (0, 0, Vec::new());
    let mut used = Vec::new();
    for (name, recording) in RECORDINGS {
        for (number, run) in runs(recording).iter().enumerate() {
            match NOT_REPLAYED.iter().find(|(recording, word, _)| recording == name && run.has(word)) {
                Some((_, word, reason)) => left_out.push(format!("{name}, run {number} ({word}): {reason}")),
                None => {
                    compared += replay(name, run, &mut used);
                    replayed += 1;
                }
            }
        }
    }
    for (at, difference) in DIFFERENCES.iter().enumerate() {
        assert!(used.contains(&at), "{}: no difference any more", difference.recording);
    }
    println!(
        "{replayed} runs of {} recordings replayed, {compared} steps compared, {} differences",
        RECORDINGS.len(),
        DIFFERENCES.len()
    );
    left_out.iter().for_each(|left_out| println!("not replayed: {left_out}"));
    NOT_KEPT.iter().for_each(|(name, reason)| println!("not kept: {name}: {reason}"));
    assert!(replayed >= 39 && compared >= 290, "{replayed} runs, {compared} steps");
}
