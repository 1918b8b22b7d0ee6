//! Every pair of requests in both orders, side by side, compared with `pairs.txt`, which people review.
//!
//! Both of a pair were made at the same moment, so that a guest's word may meet the reset that makes it void. To write
//! the file anew: `RUNSTATE_WRITE_PAIRS=1 cargo test -p runstate --test pairs`, then read the difference.

mod common;

use common::*;
use runstate::*;
use std::fmt::Write;

fn requests() -> Vec<(&'static str, Request)> {
    let load = J::LoadDone { saved: saved(&Machine::asleep()) };
    vec![
        ("stop", M::Stop.into()),
        ("cont", M::Cont.into()),
        ("system_wakeup", M::SystemWakeup.into()),
        ("system_reset", M::SystemReset.into()),
        ("system_powerdown", M::SystemPowerdown.into()),
        ("quit", QUIT.into()),
        ("dump", M::DumpStart { detached: true }.into()),
        ("save", M::SaveStart.into()),
        ("load", M::LoadStart { keep_asleep: false }.into()),
        ("background", M::BackgroundStart.into()),
        ("migrate", M::MigrateStart.into()),
        ("migrate_cancel", M::MigrateCancel.into()),
        ("interrupt", M::DebugInterrupt.into()),
        ("continue", M::DebugContinue.into()),
        ("step", M::DebugStep { hart: 0 }.into()),
        ("debugger lost", M::DebugLost.into()),
        ("SUSP", G::Suspend(SLEEP).at(0)),
        ("power off", POWER_OFF.at(0)),
        ("guest reset", G::Reset.at(0)),
        ("panic", G::Panic.at(0)),
        ("breakpoint", G::DebugStop.at(0)),
        ("alarm", D::Wake(ALARM).at(0)),
        ("watchdog", D::Watchdog.at(0)),
        ("I/O error", FAILS.at(0)),
        ("hart failed", BROKEN.at(0)),
        ("job: dump end", J::DumpEnd { ok: true }.into()),
        ("job: save end", J::SaveEnd.into()),
        ("job: load done", load.into()),
        ("job: switch-over", J::SwitchOver.into()),
        ("job: seal", J::Seal.into()),
        ("job: commit", J::Commit { postcopy: false }.into()),
        ("job: failed", J::OutgoingFailed.into()),
    ]
}

/// A name, and how to get a machine there.
type Base = (&'static str, fn() -> Machine);

fn bases() -> Vec<Base> {
    fn running() -> Machine {
        Machine::acting(ActionChange {
            shutdown: Some(ShutdownAction::Pause),
            panic: Some(PanicAction::Pause),
            watchdog: Some(WatchdogAction::Pause),
            ..ActionChange::default()
        })
    }
    vec![
        ("running, everything pauses", running),
        ("asleep", || running().after(G::Suspend(SLEEP))),
        ("stopped", || running().after(M::Stop)),
        ("asleep and stopped", || running().after(G::Suspend(SLEEP)).after(M::Stop)),
        ("in the switch-over", || switched_over(running())),
    ]
}

fn run(base: fn() -> Machine, requests: [&Request; 2]) -> (String, Lifecycle) {
    let mut machine = base();
    let mut told = vec![];
    for request in requests {
        let before = machine.life.clone();
        told.push(match machine.ask(*request) {
            Ok(events) if !events.is_empty() => events,
            Ok(_) if machine.life == before => "–".to_owned(),
            Ok(_) => "+".to_owned(),
            Err(_) => "refused".to_owned(),
        });
    }
    let asleep = if machine.life.is_asleep() { " (asleep)" } else { "" };
    let latched = if machine.life.latched().is_some() { " (wake latched)" } else { "" };
    let reset = if machine.life.pending_reset().is_some() { " (reset pending)" } else { "" };
    (format!("{}; {} -> {}{asleep}{latched}{reset}", told[0], told[1], machine.name()), machine.life)
}

fn table() -> String {
    let mut text = String::from(
        "Every pair of requests made at the same moment, in both orders. After each request the events, or + changed\n\
         without an event, – nothing, refused; then the name. The second line of a pair is the other order; = says that\n\
         both orders lead to the same name and power.\n",
    );
    let requests = requests();
    for (name, base) in bases() {
        writeln!(text, "\n## {name}\n").unwrap();
        let mut left_out = 0;
        for (at, (first, one)) in requests.iter().enumerate() {
            for (second, two) in &requests[at..] {
                let (forth, here) = run(base, [one, two]);
                let (back, there) = run(base, [two, one]);
                if forth.matches("refused").count() > 0 && back.matches("refused").count() > 0 {
                    left_out += 1;
                    continue;
                }
                let same = here.view() == there.view() && here.power() == there.power();
                writeln!(text, "{} {first} · {second}: {forth}", if same { '=' } else { '≠' }).unwrap();
                if first != second {
                    writeln!(text, "  {second} · {first}: {back}").unwrap();
                }
            }
        }
        writeln!(text, "\n{left_out} more pairs in which one is refused in both orders.").unwrap();
    }
    text
}

#[test]
fn both_orders_of_every_pair_are_as_reviewed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pairs.txt");
    let table = table();
    if std::env::var_os("RUNSTATE_WRITE_PAIRS").is_some() {
        std::fs::write(path, &table).expect("the file can be written");
    }
    let reviewed = std::fs::read_to_string(path).expect("tests/pairs.txt is there");
    for (line, (now, then)) in table.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(now, then, "line {} of tests/pairs.txt", line + 1);
    }
    assert_eq!(table.lines().count(), reviewed.lines().count());
}
