//! The scenario table (run-state.md 4.5) with our declared differences (lifecycle rules, section 6), the faults of section 8
//! that a pure value can show, and what arrives from outside.

mod common;

use common::*;
use runstate::*;

const RESET: &str = "RESET{false,host-qmp-system-reset}";

#[test]
fn started_held_then_cont() {
    let mut machine = Machine::held();
    assert_eq!(machine.name(), RunState::Prelaunch);
    assert_eq!(machine.then(M::Cont), "RESUME -> running");
}

#[test]
fn stop_stop_cont_cont() {
    let mut machine = Machine::running();
    let told = [M::Stop, M::Stop, M::Cont, M::Cont].map(|request| machine.then(request));
    assert_eq!(told, ["STOP -> paused", "-> paused", "RESUME -> running", "-> running"]);
}

#[test]
fn sleep_stop_wakeup_cont_wakeup() {
    let mut machine = Machine::running();
    assert_eq!(machine.then(G::Suspend(SLEEP)), "SUSPEND -> suspended");
    assert_eq!(machine.then(M::Stop), "STOP -> paused");
    machine.refuses(M::SystemWakeup, NOT_SUSPENDED);
    assert_eq!(machine.then(M::Cont), "RESUME SUSPEND -> suspended");
    assert_eq!(machine.then(M::SystemWakeup), "WAKEUP -> running");
}

#[test]
fn sleep_stop_reset_cont() {
    let mut machine = Machine::asleep().after(M::Stop);
    assert_eq!(machine.then(M::SystemReset), format!("{RESET} -> prelaunch"));
    assert_eq!(machine.then(M::Cont), "RESUME -> running");
}

/// Difference: the machine was live, so it runs on; B3.
#[test]
fn b3_reset_of_a_live_sleeper_runs_on() {
    let mut machine = Machine::asleep();
    assert_eq!(machine.then(M::SystemReset), format!("{RESET} -> running"));
    assert_eq!(machine.effects.last(), Some(&Effect::UnparkHarts));
    assert_eq!(machine.then(M::Cont), "-> running");
    assert_eq!(machine.then(M::Stop), "STOP -> paused");
}

#[test]
fn sleep_then_a_key() {
    assert_eq!(Machine::asleep().then(D::Wake(WakeSource::Interrupt { line: 10 })), "WAKEUP -> running");
}

#[test]
fn soft_off_with_no_shutdown() {
    let mut machine = Machine::no_shutdown();
    assert_eq!(machine.then(POWER_OFF), "SHUTDOWN{true,guest-shutdown} STOP -> shutdown");
    machine.refuses(M::Cont, RESET_NEEDED);
    assert_eq!(machine.then(M::SystemReset), format!("{RESET} -> prelaunch"));
    assert_eq!(machine.then(M::Cont), "RESUME -> running");
}

#[test]
fn precopy_of_a_sleeper() {
    let mut source = Machine::asleep().after(M::MigrateStart);
    assert_eq!(source.then(J::SwitchOver), "STOP -> finish-migrate");
    let saved = saved(&source.after(J::Seal));
    let arrives = J::IncomingLoaded { saved, postcopy: false };
    let mut there = Machine::incoming(true);
    assert_eq!(there.then(arrives), "RESUME SUSPEND MIGRATION{completed} -> suspended");
    assert_eq!(there.then(M::SystemWakeup), "WAKEUP -> running");
}

#[test]
fn b1_cont_at_the_source_of_a_sleeper() {
    let mut machine = moved(Machine::asleep());
    assert_eq!(machine.then(M::Cont), "RESUME SUSPEND -> suspended");
    assert_eq!(machine.then(M::SystemWakeup), "WAKEUP -> running");
}

#[test]
fn b2_sleep_that_meets_a_stop() {
    let mut machine = Machine::running().after(M::Stop);
    assert_eq!(machine.then(G::Suspend(SLEEP)), "SUSPEND -> paused");
    machine.refuses(M::SystemWakeup, NOT_SUSPENDED);
    assert_eq!(machine.then(M::Cont), "RESUME SUSPEND -> suspended");
    assert_eq!(machine.then(M::SystemWakeup), "WAKEUP -> running");
}

#[test]
fn b5_stop_in_the_switch_over_is_kept() {
    let mut failed = switched_over(Machine::running());
    assert_eq!(failed.then(M::Stop), "-> finish-migrate");
    assert_eq!(failed.then(J::OutgoingFailed), "MIGRATION{failed} -> paused");
    let mut cancelled = switched_over(Machine::running()).after(M::Stop).after(M::MigrateCancel);
    assert_eq!(cancelled.then(J::OutgoingFailed), "MIGRATION{cancelled} -> paused");
}

#[test]
fn b7_postcopy_of_a_paused_machine_stays_paused() {
    let saved = saved(&switched_over(Machine::running().after(M::Stop)));
    let mut there = Machine::incoming(true);
    assert_eq!(
        there.then(J::IncomingLoaded { saved, postcopy: true }),
        "MIGRATION{postcopy-active} -> paused"
    );
    assert_eq!(there.then(J::IncomingDone), "MIGRATION{completed} -> paused");
}

#[test]
fn b8_debug_travels_as_paused() {
    let saved = saved(&switched_over(Machine::running().after(G::DebugStop)));
    let mut there = Machine::incoming(true);
    assert_eq!(there.then(J::IncomingLoaded { saved, postcopy: false }), "MIGRATION{completed} -> paused");
}

#[test]
fn b9_off_stays_off_after_it_has_moved() {
    let machine = moved(Machine::no_shutdown().after(POWER_OFF));
    assert_eq!(machine.name(), RunState::PostMigrate);
    machine.refuses(M::Cont, RESET_NEEDED);
    moved(Machine::running().after(BROKEN)).refuses(M::DebugContinue, RESET_NEEDED);
}

#[test]
fn b10_a_snapshot_loaded_when_off_can_be_used() {
    let load = M::LoadStart { keep_asleep: false };
    let mut machine = Machine::no_shutdown().after(POWER_OFF).after(load);
    assert_eq!(machine.then(J::LoadDone { saved: saved(&Machine::running()) }), "-> paused");
    assert_eq!(machine.then(M::Cont), "RESUME -> running");
}

#[test]
fn b11_the_debugger_leaves_a_sleeper_asleep() {
    for request in [M::DebugContinue, M::DebugStep { hart: 1 }, M::DebugDetach] {
        let mut machine = Machine::asleep().after(M::DebugInterrupt);
        assert_eq!(machine.then(request), "RESUME SUSPEND -> suspended");
        assert_eq!(machine.then(D::Wake(ALARM)), "WAKEUP -> running");
    }
}

#[test]
fn b13_a_failure_code_sticks() {
    let failed = G::ShutDown { cause: ShutdownCause::GuestPanic, exit_code: 7 };
    let mut machine = Machine::no_shutdown().after(failed).after(QUIT);
    assert_eq!(machine.exit(), Some(7));
    assert_eq!(machine.ask(QUIT).unwrap(), "");
}

/// Whatever stops the machine in the moment in which the guest falls asleep, in either order.
#[test]
fn b18_sleep_together_with_another_stop() {
    let change = ActionChange {
        shutdown: Some(ShutdownAction::Pause),
        watchdog: Some(WatchdogAction::Pause),
        ..ActionChange::default()
    };
    let stops = [
        (FAILS.at(0), RunState::IoError),
        (D::Watchdog.at(0), RunState::Watchdog),
        (G::Panic.at(0), RunState::GuestPanicked),
        (G::DebugStop.at(0), RunState::Debug),
    ];
    for (stop, name) in stops {
        for asleep_first in [true, false] {
            let machine = Machine::acting(change);
            let mut machine = if asleep_first {
                machine.after(G::Suspend(SLEEP)).after(stop)
            } else {
                machine.after(stop).after(G::Suspend(SLEEP))
            };
            assert_eq!(machine.name(), name);
            assert_eq!(machine.then(M::Cont), "RESUME SUSPEND -> suspended");
        }
    }
}

#[test]
fn b21_a_dump_stops_a_sleeper_and_a_reset_waits() {
    let mut machine = Machine::asleep();
    assert_eq!(machine.then(M::DumpStart { detached: true }), "STOP -> save-vm");
    assert_eq!(machine.then(M::SystemReset), "-> save-vm");
    assert_eq!(machine.then(J::DumpEnd { ok: true }), format!("DUMP_COMPLETED {RESET} RESUME -> running"));
    let mut machine = Machine::asleep().after(M::DumpStart { detached: true });
    assert_eq!(machine.then(J::DumpEnd { ok: false }), "DUMP_COMPLETED RESUME SUSPEND -> suspended");
}

#[test]
fn b24_a_wake_due_while_stopped_is_delivered_once() {
    let mut posted = Machine::asleep().after(M::Stop).after(D::Wake(ALARM));
    posted.due = Some(ALARM);
    assert_eq!(posted.then(M::Cont), "RESUME WAKEUP -> running");
    assert_eq!(posted.then(M::Stop), "STOP -> paused");
    assert_eq!(posted.then(M::Cont), "RESUME -> running");
    let mut forgotten = Machine::asleep().after(M::Stop).after(D::Wake(ALARM)).after(M::SystemReset);
    assert_eq!(forgotten.then(M::Cont), "RESUME -> running");
}

#[test]
fn b25_an_incoming_migration_that_failed_may_be_tried_again() {
    let mut machine =
        Machine::incoming(true).after(J::IncomingFailed { exit: false }).after(M::MigrateIncoming);
    let arrives = J::IncomingLoaded { saved: saved(&Machine::running()), postcopy: false };
    assert_eq!(machine.then(arrives), "RESUME MIGRATION{completed} -> running");
}

#[test]
fn a_paused_machine_reset_in_the_switch_over_is_in_prelaunch_when_cancelled() {
    let mut machine =
        switched_over(Machine::running().after(M::Stop)).after(M::SystemReset).after(M::MigrateCancel);
    assert_eq!(machine.then(J::OutgoingFailed), "MIGRATION{cancelled} -> prelaunch");
}

/// The view of two holds, in both orders of arrival (lifecycle rules, section 1, and run-state.md 6.2, 6.6).
#[test]
fn two_holds_show_one_name() {
    use RunState::*;
    let first_comes = [M::Stop.into(), FAILS.at(0), G::DebugStop.at(0)];
    let names = [Paused, IoError, Debug];
    for (first, name) in first_comes.iter().zip(names) {
        for second in &first_comes {
            assert_eq!(Machine::running().after(*first).after(*second).name(), name);
        }
        assert_eq!(Machine::running().after(*first).after(M::SaveStart).name(), name);
        assert_eq!(Machine::running().after(M::SaveStart).after(*first).name(), SaveVm);
        assert_eq!(
            Machine::running().after(M::LoadStart { keep_asleep: false }).after(*first).name(),
            RestoreVm
        );
        assert_eq!(Machine::running().after(*first).after(BROKEN).name(), InternalError);
        assert_eq!(Machine::running().after(BROKEN).after(FAILS).name(), InternalError);
        assert_eq!(switched_over(Machine::running().after(*first)).name(), FinishMigrate);
        assert_eq!(switched_over(Machine::running()).after(*first).name(), FinishMigrate);
        assert_eq!(moved(Machine::running().after(*first)).name(), PostMigrate);
        assert_eq!(moved(Machine::running()).after(*first).name(), PostMigrate);
        assert_eq!(Machine::incoming(true).after(*first).name(), InMigrate);
    }
}

#[test]
fn wire_names() {
    let names: Vec<_> = RunState::ALL.iter().map(|state| state.to_string()).collect();
    assert_eq!(
        names.join(" "),
        "debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate restore-vm running \
         save-vm shutdown suspended watchdog guest-panicked colo"
    );
    for state in RunState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        assert_eq!(state.is_running(), state.as_str() == "running");
    }
    assert_eq!("exit-failure".parse(), Ok(PanicAction::ExitFailure));
    assert_eq!("poweroff".parse::<RebootAction>().unwrap_err().to_string(), "not one of: reset, shutdown");
    for action in WatchdogAction::ALL {
        assert_eq!(action.as_str().parse(), Ok(*action));
    }
    let defaults = Actions::default();
    let words = [defaults.reboot.as_str(), defaults.shutdown.as_str(), defaults.panic.as_str()];
    assert_eq!((words, defaults.watchdog.as_str()), (["reset", "poweroff", "shutdown"], "reset"));
}

#[test]
fn a_value_survives_being_written_and_read() {
    for machine in [
        Machine::held(),
        Machine::asleep().after(M::Stop).after(D::Wake(ALARM)),
        switched_over(Machine::running().after(FAILS)),
        Machine::incoming(false),
        Machine::running().after(BROKEN),
    ] {
        let text = serde_json::to_string(&machine.life).unwrap();
        assert_eq!(serde_json::from_str::<Lifecycle>(&text).unwrap(), machine.life);
    }
}

#[test]
fn what_cannot_be_is_refused_when_read() {
    let good = serde_json::to_value(saved(&Machine::asleep().after(M::Stop))).unwrap();
    let hold = |owner: &str, cause: &str| serde_json::json!({"owner": owner, "cause": cause});
    let manager = || hold("manager", "paused");
    let wrong = [
        ("power", serde_json::json!({"broken": {"what": "effect"}})),
        ("holds", serde_json::json!([hold("off", "shutdown")])),
        ("holds", serde_json::json!([hold("manager", "io-error")])),
        ("holds", serde_json::json!([hold("boot", "debug")])),
        ("holds", serde_json::json!([manager(), manager()])),
        ("holds", serde_json::json!([hold("moved", "postmigrate")])),
        ("holds", serde_json::json!([hold("dump", "save-vm")])),
        (
            "holds",
            serde_json::json!(
                (0..40)
                    .map(|id| { serde_json::json!({"owner": {"device": id}, "cause": "io-error"}) })
                    .collect::<Vec<_>>()
            ),
        ),
    ];
    assert!(serde_json::from_value::<SavedLifecycle>(good.clone()).is_ok());
    for (member, value) in wrong {
        let mut bad = good.clone();
        bad[member] = value;
        assert!(serde_json::from_value::<SavedLifecycle>(bad.clone()).is_err(), "{bad}");
    }
    let mut awake = serde_json::to_value(saved(&Machine::running())).unwrap();
    awake["latched"] = serde_json::json!({"rtc": 0});
    assert!(serde_json::from_value::<SavedLifecycle>(awake).is_err());
}
