//! One test for each row of the rule tables (lifecycle rules 2.1 to 2.4) that states effects or events.

mod common;

use common::*;
use runstate::*;

fn acts(panic: PanicAction, shutdown: ShutdownAction) -> Machine {
    Machine::acting(ActionChange { panic: Some(panic), shutdown: Some(shutdown), ..ActionChange::default() })
}

fn watched(action: WatchdogAction) -> Machine {
    Machine::acting(ActionChange { watchdog: Some(action), ..ActionChange::default() })
}

mod stop {
    use super::*;

    #[test]
    fn refused_during_a_dump() {
        Machine::running().after(M::DumpStart { detached: true }).refuses(M::Stop, DUMPING);
    }

    #[test]
    fn incoming_only_remembers_it() {
        let mut machine = Machine::incoming(true);
        assert_eq!(machine.then(M::Stop), "-> inmigrate");
        assert!(machine.life.holds().has(Owner::Manager));
    }

    #[test]
    fn live_halts_in_order() {
        use Effect::*;
        let outcome = Machine::running().life.apply(&M::Stop.into()).unwrap();
        let halt =
            [PublishState, FreezeClock, ParkHarts, QuiesceTimers, StopDevices, Emit(Event::Stop), Flush];
        assert_eq!(outcome.effects[..], halt);
        assert_eq!(Machine::asleep().then(M::Stop), "STOP -> paused");
    }

    #[test]
    fn held_keeps_its_name_and_flushes() {
        let machine = Machine::held();
        let outcome = machine.life.apply(&M::Stop.into()).unwrap();
        assert_eq!(outcome.effects[..], [Effect::PublishState, Effect::Flush]);
        assert_eq!(outcome.next.view(), RunState::Prelaunch);
        assert!(outcome.next.holds().has(Owner::Manager));
    }
}

mod cont {
    use super::*;

    #[test]
    fn refused_during_a_dump() {
        Machine::held().after(M::DumpStart { detached: true }).refuses(M::Cont, DUMPING);
    }

    #[test]
    fn refused_when_off_or_broken_also_when_moved() {
        Machine::no_shutdown().after(POWER_OFF).refuses(M::Cont, RESET_NEEDED);
        Machine::running().after(BROKEN).refuses(M::Cont, RESET_NEEDED);
        let machine = moved(Machine::no_shutdown().after(POWER_OFF));
        assert_eq!(machine.name(), RunState::PostMigrate);
        machine.refuses(M::Cont, RESET_NEEDED);
    }

    #[test]
    fn live_is_silent() {
        assert_eq!(Machine::running().then(M::Cont), "-> running");
        assert_eq!(Machine::asleep().then(M::Cont), "-> suspended");
    }

    #[test]
    fn refused_in_the_switch_over() {
        switched_over(Machine::running()).refuses(M::Cont, "Migration is not finalized yet");
    }

    #[test]
    fn incoming_turns_autostart_on() {
        let mut machine = Machine::incoming(false);
        assert_eq!(machine.then(M::Cont), "-> inmigrate");
        assert!(!machine.life.holds().has(Owner::Manager));
    }

    #[test]
    fn during_a_save_the_job_lifts_later() {
        let mut machine = Machine::held().after(M::SaveStart);
        assert_eq!(machine.then(M::Cont), "-> save-vm");
        assert_eq!(machine.then(J::SaveEnd), "RESUME -> running");
    }

    #[test]
    fn else_lifts_in_order() {
        use Effect::*;
        let mut machine = Machine::held();
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
        let lift = [Prepare, PublishState, Emit(Event::Resume), StartDevices, ThawClock, UnparkHarts];
        assert_eq!(machine.effects, lift);
    }

    #[test]
    fn asleep_again_is_told() {
        let mut machine = Machine::asleep().after(M::Stop);
        assert_eq!(machine.then(M::Cont), "RESUME SUSPEND -> suspended");
    }

    #[test]
    fn a_due_wake_is_delivered() {
        let mut machine = Machine::asleep().after(M::Stop);
        machine.due = Some(ALARM);
        assert_eq!(machine.then(M::Cont), "RESUME WAKEUP -> running");
    }

    #[test]
    fn a_failed_preparation_puts_everything_back() {
        let mut machine = Machine::running().after(M::Stop);
        let before = machine.life.clone();
        machine.prepare = false;
        assert_eq!(machine.then(M::Cont), "-> paused");
        assert_eq!(machine.life, before);
    }
}

mod management {
    use super::*;

    #[test]
    fn wakeup_without_suspend_is_refused_in_every_state() {
        let text = "wake-up from suspend is not supported by this guest";
        let mut machine = Machine::with(Config { wakeup_supported: false, ..Config::default() });
        machine.refuses(M::SystemWakeup, text);
        machine.ask(M::Cont).unwrap();
        machine.refuses(M::SystemWakeup, text);
        machine.ask(M::Stop).unwrap();
        machine.refuses(M::SystemWakeup, text);
    }

    #[test]
    fn wakeup_is_refused_unless_live_and_asleep_and_not_latched() {
        for machine in
            [Machine::held(), Machine::running(), Machine::incoming(true), Machine::asleep().after(M::Stop)]
        {
            machine.refuses(M::SystemWakeup, NOT_SUSPENDED);
        }
    }

    #[test]
    fn wakeup_wakes_in_order() {
        use Effect::*;
        let outcome = Machine::asleep().life.apply(&M::SystemWakeup.into()).unwrap();
        let source = WakeSource::Management;
        let wake = [PublishState, WakeHart(SLEEP), WakeDevices(source), UnparkHarts, Emit(Event::Wakeup)];
        assert_eq!(outcome.effects[..], wake);
        assert_eq!(outcome.next.view(), RunState::Running);
    }

    #[test]
    fn reset_that_means_shutdown() {
        let change = ActionChange { reboot: Some(RebootAction::Shutdown), ..ActionChange::default() };
        let mut machine = Machine::acting(change);
        assert_eq!(machine.ask(M::SystemReset).unwrap(), "SHUTDOWN{false,host-qmp-system-reset}");
        assert_eq!(machine.exit(), Some(0));
        let mut machine = Machine::no_shutdown().after(M::SetActions(change));
        assert_eq!(machine.then(M::SystemReset), "SHUTDOWN{false,host-qmp-system-reset} STOP -> shutdown");
        assert_eq!(machine.then(M::SystemReset), "SHUTDOWN{false,host-qmp-system-reset} -> shutdown");
    }

    #[test]
    fn reset_of_an_empty_incoming_machine_keeps_its_holds() {
        let mut machine = Machine::with(Config { incoming: true, autostart: false, ..Config::default() });
        let holds = *machine.life.holds();
        assert_eq!(machine.then(M::SystemReset), "RESET{false,host-qmp-system-reset} -> inmigrate");
        assert_eq!(*machine.life.holds(), holds);
    }

    #[test]
    fn reset_during_a_job_waits_for_its_end() {
        let reset = "RESET{false,host-qmp-system-reset}";
        let dump = Machine::running().after(M::DumpStart { detached: false });
        let save = Machine::running().after(M::SaveStart);
        let load = Machine::running().after(M::LoadStart { keep_asleep: false });
        let background = Machine::running().after(M::BackgroundStart).after(J::BackgroundHold);
        let ends = [J::DumpEnd { ok: true }, J::SaveEnd, J::LoadFailed, J::BackgroundCaptured];
        for (mut machine, end) in [dump, save, load, background].into_iter().zip(ends) {
            let name = machine.name();
            assert_eq!(machine.then(M::SystemReset), format!("-> {name}"));
            assert_eq!(machine.then(end), format!("{reset} RESUME -> running"));
        }
        let mut sealed = switched_over(Machine::running()).after(J::Seal);
        assert_eq!(sealed.then(M::SystemReset), "-> finish-migrate");
        assert_eq!(sealed.then(J::OutgoingFailed), format!("MIGRATION{{failed}} {reset} RESUME -> running"));
        // Nothing has come yet: there is nothing that it could be about but this machine.
        let mut listening = Machine::incoming(true);
        assert_eq!(listening.then(M::SystemReset), format!("{reset} -> inmigrate"));
        let mut loading = listening.after(J::Announce(MigrationStatus::Active));
        assert_eq!(loading.then(M::SystemReset), "-> inmigrate");
        let arrives = J::IncomingLoaded { saved: saved(&Machine::asleep()), postcopy: false };
        assert_eq!(loading.then(arrives), format!("{reset} RESUME MIGRATION{{completed}} -> running"));
    }

    #[test]
    fn reset_of_a_live_machine_runs_on() {
        use Effect::*;
        let machine = Machine::running();
        let outcome = machine.life.apply(&M::SystemReset.into()).unwrap();
        let told = Emit(Event::reset(ShutdownCause::HostQmpSystemReset));
        assert_eq!(outcome.effects[..], [ParkHarts, ResetMachine, PublishState, told, UnparkHarts]);
        assert_eq!(outcome.next.epoch(), machine.life.epoch() + 1);
    }

    #[test]
    fn reset_of_a_held_machine_leads_to_prelaunch() {
        let panicked = acts(PanicAction::Pause, ShutdownAction::Pause).after(G::Panic).after(M::Stop);
        let held = [panicked, Machine::running().after(BROKEN), Machine::no_shutdown().after(POWER_OFF)];
        for mut machine in
            held.into_iter().chain([Machine::asleep().after(M::Stop), moved(Machine::running())])
        {
            assert_eq!(machine.then(M::SystemReset), "RESET{false,host-qmp-system-reset} -> prelaunch");
            assert_eq!(machine.life.holds().as_slice(), [Hold::of(Owner::Boot)]);
            assert_eq!(machine.then(M::Cont), "RESUME -> running");
        }
    }

    #[test]
    fn a_migration_that_is_being_cancelled_becomes_nothing_else() {
        let cancelling = Machine::running().after(M::MigrateStart).after(M::MigrateCancel);
        cancelling.refuses(J::Announce(MigrationStatus::Active), "the job was cancelled");
    }

    #[test]
    fn powerdown_is_refused_where_the_press_would_be_lost_on_the_way() {
        let mut machine = switched_over(Machine::running());
        assert_eq!(machine.then(M::SystemPowerdown), "POWERDOWN -> finish-migrate");
        let sealed = machine.after(J::Seal);
        sealed.refuses(M::SystemPowerdown, "Migration is not finalized yet");
        let mut left = sealed.after(J::Commit { postcopy: false });
        assert_eq!(left.then(M::SystemPowerdown), "POWERDOWN -> postmigrate");
    }

    #[test]
    fn powerdown_presses_and_wakes_by_policy() {
        assert_eq!(Machine::held().then(M::SystemPowerdown), "POWERDOWN -> prelaunch");
        assert_eq!(Machine::asleep().then(M::SystemPowerdown), "POWERDOWN WAKEUP -> running");
        let mut held = Machine::asleep().after(M::Stop);
        assert_eq!(held.then(M::SystemPowerdown), "POWERDOWN -> paused");
        assert_eq!(held.life.latched(), Some(WakeSource::PowerButton));
        let wake_policy = WakePolicy::ALL.set(WakeSwitch::PowerButton, false);
        let config = Config { wake_policy, ..Config::default() };
        let mut deaf = Machine::with(config).after(M::Cont).after(G::Suspend(SLEEP));
        assert_eq!(deaf.then(M::SystemPowerdown), "POWERDOWN -> suspended");
        let noted = Effect::NoteWake { source: WakeSource::PowerButton, fate: WakeFate::Forbidden };
        assert!(deaf.effects.contains(&noted));
    }

    #[test]
    fn quit_tells_shutdown_and_no_stop() {
        use Effect::*;
        let outcome = Machine::no_shutdown().life.apply(&QUIT.into()).unwrap();
        let told = Emit(Event::shutdown(ShutdownCause::HostQmpQuit));
        let halt = [FreezeClock, ParkHarts, QuiesceTimers, StopDevices, Flush, Exit { code: 0 }];
        assert_eq!(outcome.effects[..2], [PublishState, told]);
        assert_eq!(outcome.effects[2..], halt);
        let mut migrating = switched_over(Machine::running());
        let signal = M::Quit { cause: ShutdownCause::HostSignal };
        assert_eq!(migrating.ask(signal).unwrap(), "SHUTDOWN{false,host-signal}");
        assert!(migrating.effects.contains(&CancelJob(JobKind::Outgoing)));
    }

    #[test]
    fn quit_never_waits_for_a_report() {
        let held = Machine::held();
        let preparing = held.life.apply(&M::Cont.into()).unwrap().next;
        assert_eq!(preparing.apply(&M::Stop.into()), Err(Refusal::AwaitingReport));
        let ending = preparing.apply(&QUIT.into()).unwrap();
        assert!(ending.next.is_exiting());
        assert!(ending.next.apply(&EngineReport::Prepared.into()).unwrap().dropped);
    }

    #[test]
    fn inject_nmi_is_refused() {
        Machine::running().refuses(M::InjectNmi, "machine does not provide NMIs");
    }

    #[test]
    fn dump_of_a_live_machine_stops_it() {
        let detached = M::DumpStart { detached: true };
        let mut machine = Machine::running();
        assert_eq!(machine.then(detached), "STOP -> save-vm");
        machine.refuses(detached, DUMPING);
        machine.refuses(M::MigrateStart, "Live migration disabled: dump-guest-memory in progress");
        assert_eq!(machine.then(J::DumpEnd { ok: true }), "DUMP_COMPLETED RESUME -> running");
    }

    #[test]
    fn dump_of_a_held_machine_keeps_its_name() {
        let mut machine = Machine::held();
        assert_eq!(machine.then(M::DumpStart { detached: true }), "-> prelaunch");
        assert_eq!(machine.then(J::DumpEnd { ok: true }), "DUMP_COMPLETED -> prelaunch");
    }

    #[test]
    fn set_action_is_taken_in_every_state() {
        for change in all_actions() {
            let machine = Machine::asleep().after(M::SaveStart).after(M::SetActions(change));
            assert_eq!(machine.life.actions(), Actions::default().with(change));
        }
    }
}

mod guest {
    use super::*;

    #[test]
    fn suspend_of_a_live_machine() {
        use Effect::*;
        let outcome = Machine::running().life.apply(&G::Suspend(SLEEP).at(0)).unwrap();
        assert_eq!(outcome.effects[..], [PublishState, SleepHart(SLEEP), Emit(Event::Suspend), SleepDevices]);
        assert_eq!(outcome.next.view(), RunState::Suspended);
    }

    #[test]
    fn a_wake_already_due_at_suspend_is_not_lost() {
        let mut machine = Machine::running();
        machine.due_on_sleep = Some(ALARM);
        assert_eq!(machine.then(G::Suspend(SLEEP)), "SUSPEND WAKEUP -> running");
    }

    #[test]
    fn suspend_where_it_cannot_be_meant_is_dropped() {
        let deaf = Machine::with(Config { wakeup_supported: false, ..Config::default() }).after(M::Cont);
        for machine in [Machine::asleep(), deaf, Machine::running().after(BROKEN)] {
            assert!(machine.life.apply(&G::Suspend(SLEEP).at(0)).unwrap().dropped);
        }
    }

    #[test]
    fn wake_of_a_sleeper() {
        assert_eq!(Machine::asleep().then(D::Wake(ALARM)), "WAKEUP -> running");
    }

    #[test]
    fn wake_of_a_held_sleeper_is_latched_first_one_wins() {
        let mut machine = Machine::asleep().after(M::Stop);
        assert_eq!(machine.then(D::Wake(ALARM)), "-> paused");
        assert_eq!(machine.then(D::Wake(WakeSource::Interrupt { line: 4 })), "-> paused");
        assert_eq!(machine.life.latched(), Some(ALARM));
        assert_eq!(machine.then(M::Cont), "RESUME WAKEUP -> running");
        assert!(machine.effects.contains(&Effect::WakeDevices(ALARM)));
    }

    #[test]
    fn a_forbidden_wake_is_counted() {
        let wake_policy = WakePolicy::ALL.set(WakeSwitch::Rtc0, false);
        let config = Config { wake_policy, ..Config::default() };
        let machine = Machine::with(config).after(M::Cont).after(G::Suspend(SLEEP));
        let outcome = machine.life.apply(&D::Wake(ALARM).at(0)).unwrap();
        assert_eq!(outcome.effects[..], [Effect::NoteWake { source: ALARM, fate: WakeFate::Forbidden }]);
        assert_eq!(outcome.next, machine.life);
    }

    #[test]
    fn a_masked_wake_is_counted_and_changes_nothing() {
        for machine in [Machine::asleep(), Machine::asleep().after(M::Stop)] {
            let outcome = machine.life.apply(&D::MaskedWake(ALARM).at(0)).unwrap();
            assert_eq!(outcome.effects[..], [Effect::NoteWake { source: ALARM, fate: WakeFate::Masked }]);
            assert_eq!(outcome.next, machine.life);
        }
        assert!(Machine::running().life.apply(&D::MaskedWake(ALARM).at(0)).unwrap().dropped);
    }

    #[test]
    fn what_becomes_allowed_is_asked_again() {
        use Effect::*;
        let change = |on| M::SetWakePolicy(WakeChange::default().set(WakeSwitch::Rtc0, on)).into();
        let asleep = Machine::asleep().life;
        let forbidden = asleep.apply(&change(false)).unwrap();
        assert_eq!(forbidden.effects[..], [PublishState]);
        assert!(!forbidden.next.wake_policy().allows(ALARM));
        assert!(forbidden.next.apply(&change(false)).unwrap().effects.is_empty());
        let allowed = forbidden.next.apply(&change(true)).unwrap();
        assert_eq!(allowed.effects[..], [PublishState, AskWakeSources]);
        assert_eq!(allowed.next, asleep);
        let held = forbidden.next.apply(&M::Stop.into()).unwrap().next;
        assert_eq!(held.apply(&change(true)).unwrap().effects[..], [PublishState]);
    }

    #[test]
    fn a_latched_wake_outlives_a_change_of_policy() {
        let mut machine = Machine::asleep().after(M::Stop).after(D::Wake(ALARM));
        let change = WakeChange::default().set(WakeSwitch::Rtc0, false);
        assert_eq!(machine.then(M::SetWakePolicy(change)), "-> paused");
        assert_eq!(machine.then(M::Cont), "RESUME WAKEUP -> running");
    }

    #[test]
    fn wake_of_one_who_does_not_sleep_is_dropped() {
        assert!(Machine::running().life.apply(&D::Wake(ALARM).at(0)).unwrap().dropped);
    }

    #[test]
    fn shut_down_ends_the_process() {
        let mut machine = Machine::running();
        assert_eq!(machine.ask(POWER_OFF).unwrap(), "SHUTDOWN{true,guest-shutdown}");
        assert_eq!(machine.exit(), Some(0));
    }

    #[test]
    fn shut_down_with_pause_stays() {
        assert_eq!(Machine::no_shutdown().then(POWER_OFF), "SHUTDOWN{true,guest-shutdown} STOP -> shutdown");
        let mut met_a_stop = Machine::no_shutdown().after(M::Stop);
        assert_eq!(met_a_stop.then(POWER_OFF), "SHUTDOWN{true,guest-shutdown} -> shutdown");
        met_a_stop.refuses(M::Cont, RESET_NEEDED);
    }

    #[test]
    fn reset_by_the_guest() {
        assert_eq!(Machine::running().then(G::Reset), "RESET{true,guest-reset} -> running");
        let late = Machine::running().life.apply(&G::Reset.at(0)).unwrap().next;
        assert!(late.apply(&G::Reset.at(0)).unwrap().dropped, "the guest of before the reset is gone");
    }

    #[test]
    fn panic_action_none() {
        let mut machine = acts(PanicAction::None, ShutdownAction::Poweroff);
        assert_eq!(machine.then(G::Panic), "GUEST_PANICKED{run} -> running");
        assert_eq!(machine.then(G::CrashLoaded), "GUEST_CRASHLOADED{run} -> running");
    }

    #[test]
    fn panic_that_pauses() {
        let pause = "GUEST_PANICKED{pause} STOP -> guest-panicked";
        assert_eq!(acts(PanicAction::Pause, ShutdownAction::Poweroff).then(G::Panic), pause);
        let mut machine = acts(PanicAction::Shutdown, ShutdownAction::Pause);
        assert_eq!(machine.then(G::Panic), pause);
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn panic_that_ends_the_process() {
        for (action, code) in [(PanicAction::Shutdown, 0), (PanicAction::ExitFailure, 1)] {
            let mut machine = acts(action, ShutdownAction::Poweroff);
            assert_eq!(machine.ask(G::Panic).unwrap(), "GUEST_PANICKED{poweroff} SHUTDOWN{true,guest-panic}");
            assert_eq!(machine.exit(), Some(code));
        }
    }

    #[test]
    fn panic_exit_failure_with_pause_is_off() {
        let mut machine = acts(PanicAction::ExitFailure, ShutdownAction::Pause);
        let told = "GUEST_PANICKED{poweroff} SHUTDOWN{true,guest-panic} STOP -> shutdown";
        assert_eq!(machine.then(G::Panic), told);
        machine.refuses(M::Cont, RESET_NEEDED);
    }

    #[test]
    fn watchdog_that_does_not_hold() {
        for (action, then) in [
            (WatchdogAction::Reset, "WATCHDOG{reset} RESET{true,guest-reset} -> running"),
            (WatchdogAction::Shutdown, "WATCHDOG{shutdown} POWERDOWN -> running"),
            (WatchdogAction::None, "WATCHDOG{none} -> running"),
            (WatchdogAction::Debug, "WATCHDOG{debug} -> running"),
            (WatchdogAction::InjectNmi, "WATCHDOG{inject-nmi} -> running"),
        ] {
            assert_eq!(watched(action).then(D::Watchdog), then);
        }
    }

    #[test]
    fn watchdog_poweroff_tells_shutdown() {
        let mut machine = watched(WatchdogAction::Poweroff);
        assert_eq!(machine.ask(D::Watchdog).unwrap(), "WATCHDOG{poweroff} SHUTDOWN{true,guest-shutdown}");
        assert_eq!(machine.exit(), Some(0));
    }

    #[test]
    fn watchdog_pause() {
        let mut machine = watched(WatchdogAction::Pause);
        assert_eq!(machine.then(D::Watchdog), "WATCHDOG{pause} STOP -> watchdog");
        assert_eq!(machine.then(M::Stop), "-> watchdog");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
        let mut held = watched(WatchdogAction::Pause).after(M::Stop);
        assert_eq!(held.then(D::Watchdog), "WATCHDOG{pause} -> paused");
    }

    #[test]
    fn io_error_stops_and_cont_retries() {
        let mut machine = Machine::running();
        assert_eq!(machine.then(FAILS), "BLOCK_IO_ERROR{3,stop} STOP -> io-error");
        assert_eq!(machine.then(M::Stop), "-> io-error");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
        assert_eq!(machine.then(FAILS), "BLOCK_IO_ERROR{3,stop} STOP -> io-error");
    }

    #[test]
    fn io_errors_that_the_policy_reports_or_ignores_are_told_and_change_nothing() {
        for action in [IoErrorAction::Report, IoErrorAction::Ignore] {
            let mut machine = Machine::running();
            let told = format!("BLOCK_IO_ERROR{{3,{}}} -> running", action.as_str());
            assert_eq!(machine.then(D::IoError { device: DISK, action }), told);
        }
    }

    #[test]
    fn devices_beyond_the_list_are_folded() {
        let mut machine = Machine::running();
        for device in 0..100 {
            let fails = D::IoError { device: DeviceId(device), action: IoErrorAction::Stop };
            assert!(machine.ask(fails).unwrap().starts_with("BLOCK_IO_ERROR"));
        }
        assert_eq!(machine.life.holds().len(), Holds::DEVICES);
        assert_eq!(machine.then(M::Stop), "-> io-error");
        assert!(machine.life.holds().has(Owner::Manager), "there is always room for the others");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn a_hart_that_cannot_go_on() {
        assert_eq!(Machine::running().then(BROKEN), "STOP -> internal-error");
        assert_eq!(Machine::running().after(M::Stop).then(BROKEN), "-> internal-error");
    }
}

mod debugger {
    use super::*;

    #[test]
    fn interrupt_breakpoint_and_continue() {
        let mut machine = Machine::running();
        assert_eq!(machine.then(M::DebugInterrupt), "STOP -> paused");
        assert_eq!(machine.then(M::DebugContinue), "RESUME -> running");
        assert_eq!(machine.then(G::DebugStop), "STOP -> debug");
        assert_eq!(machine.then(M::DebugContinue), "RESUME -> running");
    }

    #[test]
    fn continue_is_refused_like_cont_and_starts_nothing_incoming() {
        Machine::running().after(BROKEN).refuses(M::DebugContinue, RESET_NEEDED);
        let mut machine = Machine::incoming(false).after(M::DebugInterrupt);
        assert_eq!(machine.then(M::DebugContinue), "-> inmigrate");
        assert!(machine.life.holds().has(Owner::Manager) && !machine.life.holds().has(Owner::Debugger));
    }

    #[test]
    fn step_unparks_one_hart_and_stops_once() {
        let mut machine = Machine::running().after(M::DebugInterrupt);
        assert_eq!(machine.then(M::DebugStep { hart: 2 }), "RESUME -> running");
        assert_eq!(machine.effects.last(), Some(&Effect::UnparkOne { hart: 2 }));
        assert_eq!(machine.then(G::DebugStop), "STOP -> debug");
        Machine::held()
            .after(M::SaveStart)
            .refuses(M::DebugStep { hart: 0 }, "The machine is held by a job, cannot step");
    }

    #[test]
    fn detach_starts_and_a_lost_connection_lifts_its_own() {
        assert_eq!(Machine::held().after(M::DebugInterrupt).then(M::DebugDetach), "RESUME -> running");
        let mut stopped = Machine::running().after(M::DebugInterrupt).after(M::Stop);
        assert_eq!(stopped.then(M::DebugLost), "-> paused");
        assert_eq!(Machine::running().after(M::DebugInterrupt).then(M::DebugLost), "RESUME -> running");
    }
}

mod jobs {
    use super::*;

    #[test]
    fn save_of_a_sleeper() {
        let mut machine = Machine::asleep();
        assert_eq!(machine.then(M::SaveStart), "STOP -> save-vm");
        assert_eq!(machine.then(J::SaveEnd), "RESUME SUSPEND -> suspended");
    }

    fn loaded(machine: Machine, from: &Machine, keep_asleep: bool) -> (Machine, String) {
        let mut machine = machine.after(M::LoadStart { keep_asleep });
        let then = machine.then(J::LoadDone { saved: saved(from) });
        (machine, then)
    }

    #[test]
    fn load_follows_the_machine_and_power_follows_the_file() {
        let (running, asleep) = (Machine::running(), Machine::asleep());
        let rows = [
            (Machine::running(), &running, false, "RESUME -> running"),
            (Machine::running(), &asleep, false, "RESUME WAKEUP -> running"),
            (Machine::running(), &asleep, true, "RESUME SUSPEND -> suspended"),
            (Machine::asleep(), &asleep, false, "RESUME SUSPEND -> suspended"),
            (Machine::asleep(), &running, false, "RESUME -> running"),
            (Machine::held(), &asleep, false, "-> prelaunch"),
            (Machine::running().after(M::Stop), &running, false, "-> paused"),
        ];
        for (machine, from, keep_asleep, then) in rows {
            assert_eq!(loaded(machine, from, keep_asleep).1, then);
        }
    }

    #[test]
    fn load_of_a_powered_off_snapshot_is_off() {
        let off = Machine::no_shutdown().after(POWER_OFF);
        let (machine, then) = loaded(Machine::running(), &off, false);
        assert_eq!(then, "-> shutdown");
        machine.refuses(M::Cont, RESET_NEEDED);
    }

    #[test]
    fn load_makes_late_requests_void() {
        let (machine, _) = loaded(Machine::running(), &Machine::running(), false);
        assert!(machine.life.apply(&POWER_OFF.at(0)).unwrap().dropped);
    }

    #[test]
    fn load_that_fails_goes_back() {
        let mut machine = Machine::asleep().after(M::LoadStart { keep_asleep: false });
        assert_eq!(machine.name(), RunState::RestoreVm);
        assert_eq!(machine.then(J::LoadFailed), "RESUME SUSPEND -> suspended");
    }

    #[test]
    fn background_snapshot() {
        let mut machine = Machine::running();
        assert_eq!(machine.then(M::BackgroundStart), "MIGRATION{setup} -> running");
        assert_eq!(machine.then(J::Announce(MigrationStatus::Active)), "MIGRATION{active} -> running");
        assert_eq!(machine.then(J::BackgroundHold), "STOP -> paused");
        assert_eq!(machine.then(J::BackgroundCaptured), "RESUME -> running");
        assert_eq!(machine.then(M::SystemReset), "RESET{false,host-qmp-system-reset} -> running");
        assert_eq!(machine.then(J::BackgroundEnd { ok: true }), "MIGRATION{completed} -> running");
    }

    #[test]
    fn background_snapshot_does_not_lift_a_stop_of_the_same_name() {
        let mut machine =
            Machine::running().after(M::BackgroundStart).after(J::BackgroundHold).after(M::Stop);
        assert_eq!(machine.then(J::BackgroundCaptured), "-> paused");
    }

    #[test]
    fn background_snapshot_of_a_sleeper_leaves_it_asleep() {
        let mut machine = Machine::asleep().after(M::BackgroundStart);
        assert_eq!(machine.then(J::BackgroundHold), "STOP -> paused");
        assert_eq!(machine.then(J::BackgroundCaptured), "RESUME SUSPEND -> suspended");
        assert_eq!(machine.then(J::BackgroundEnd { ok: true }), "MIGRATION{completed} -> suspended");
    }

    #[test]
    fn background_snapshot_that_is_cancelled_before_it_holds_never_does() {
        let mut machine = Machine::running().after(M::BackgroundStart);
        assert_eq!(machine.then(M::Stop), "STOP -> paused");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
        assert_eq!(machine.then(M::SystemReset), "RESET{false,host-qmp-system-reset} -> running");
        assert_eq!(machine.then(M::MigrateCancel), "MIGRATION{cancelling} -> running");
        machine.refuses(J::BackgroundHold, "the job was cancelled");
        assert_eq!(machine.then(J::BackgroundEnd { ok: false }), "MIGRATION{cancelled} -> running");
    }

    #[test]
    fn migrate_is_refused() {
        Machine::incoming(true).refuses(M::MigrateStart, "Guest is waiting for an incoming migration");
        let text = "Can't migrate the vm that was paused due to previous migration";
        moved(Machine::running()).refuses(M::MigrateStart, text);
        let busy = "There's a migration process in progress";
        Machine::running().after(M::MigrateStart).refuses(M::MigrateStart, busy);
        Machine::running().after(M::SaveStart).refuses(M::MigrateStart, busy);
    }

    #[test]
    fn migrate_out() {
        let mut machine = Machine::running();
        assert_eq!(machine.then(M::MigrateStart), "MIGRATION{setup} -> running");
        assert_eq!(machine.then(J::SwitchOver), "STOP -> finish-migrate");
        assert_eq!(machine.then(J::Seal), "-> finish-migrate");
        assert_eq!(machine.then(J::Commit { postcopy: false }), "-> postmigrate");
        assert_eq!(machine.then(J::OutgoingDone), "MIGRATION{completed} -> postmigrate");
        assert_eq!(machine.then(M::Stop), "-> postmigrate");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
        assert_eq!(machine.then(M::MigrateStart), "MIGRATION{setup} -> running");
    }

    #[test]
    fn postcopy_out_holds_until_the_last_page() {
        let mut machine = switched_over(Machine::running()).after(J::Seal);
        assert_eq!(machine.then(J::Commit { postcopy: true }), "-> finish-migrate");
        machine.refuses(M::MigrateCancel, "Postcopy migration in progress, cannot cancel.");
        assert_eq!(machine.then(J::LinkLost), "MIGRATION{postcopy-paused} -> finish-migrate");
        assert_eq!(machine.then(J::OutgoingDone), "MIGRATION{completed} -> postmigrate");
    }

    #[test]
    fn postcopy_in_may_lose_its_link_and_keeps_the_guest_when_it_fails() {
        let saved = saved(&switched_over(Machine::running()));
        let mut machine = Machine::incoming(true).after(J::IncomingLoaded { saved, postcopy: true });
        assert_eq!(machine.then(J::LinkLost), "MIGRATION{postcopy-paused} -> running");
        machine.refuses(M::MigrateStart, "There's a migration process in progress");
        assert_eq!(machine.then(M::Stop), "STOP -> paused");
        assert_eq!(machine.then(J::IncomingFailed { exit: true }), "MIGRATION{failed} -> paused");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn what_travels() {
        let value = saved(&switched_over(Machine::asleep().after(G::DebugStop)).after(D::Wake(ALARM)));
        assert_eq!(value.power(), Power::Asleep(SLEEP));
        assert_eq!(value.holds().as_slice(), [Hold::of(Owner::Manager)], "debug as paused, no job");
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<SavedLifecycle>(&text).unwrap(), value);
        assert!(text.contains(r#""latched":{"rtc":0}"#), "{text}");
    }

    #[test]
    fn cancelled_and_failed_before_commit() {
        let mut machine = switched_over(Machine::running());
        assert_eq!(machine.then(M::MigrateCancel), "MIGRATION{cancelling} -> finish-migrate");
        assert_eq!(machine.then(M::MigrateCancel), "-> finish-migrate");
        machine.refuses(J::Seal, "the job was cancelled");
        assert_eq!(machine.then(J::OutgoingFailed), "RESUME MIGRATION{cancelled} -> running");
        assert_eq!(
            switched_over(Machine::running()).then(J::OutgoingFailed),
            "MIGRATION{failed} RESUME -> running"
        );
    }

    #[test]
    fn a_link_lost_after_commit_lifts_nothing() {
        let mut machine =
            switched_over(Machine::running()).after(J::Seal).after(J::Commit { postcopy: false });
        assert_eq!(machine.then(J::LinkLost), "MIGRATION{failed} -> postmigrate");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn a_reset_that_waits_at_commit_happens_on_both_sides() {
        let mut machine = switched_over(Machine::running()).after(J::Seal);
        let epoch = machine.life.epoch();
        assert_eq!(machine.then(G::Reset), "-> finish-migrate");
        assert_eq!(machine.then(J::Commit { postcopy: false }), "RESET{true,guest-reset} -> postmigrate");
        assert_eq!(machine.life.epoch(), epoch + 1, "what the old guest had asked is void");
        assert_eq!(machine.then(J::OutgoingDone), "MIGRATION{completed} -> postmigrate");
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn incoming_start_and_second_start() {
        let machine = Machine::incoming(false);
        assert_eq!(machine.name(), RunState::InMigrate);
        machine.refuses(M::MigrateIncoming, "The incoming migration has already been started");
        Machine::held().refuses(M::MigrateIncoming, "'-incoming' was not specified on the command line");
    }

    #[test]
    fn arrivals() {
        let completed = "MIGRATION{completed}";
        let paused = Machine::running().after(M::Stop);
        let off = Machine::no_shutdown().after(POWER_OFF);
        let failed = Machine::running().after(FAILS);
        for (from, auto, held) in [
            (Machine::running(), format!("RESUME {completed} -> running"), format!("{completed} -> paused")),
            (
                Machine::asleep(),
                format!("RESUME SUSPEND {completed} -> suspended"),
                format!("{completed} -> paused"),
            ),
            (Machine::held(), format!("{completed} -> prelaunch"), format!("{completed} -> prelaunch")),
            (paused, format!("{completed} -> paused"), format!("{completed} -> paused")),
            (off, format!("{completed} -> shutdown"), format!("{completed} -> shutdown")),
            (failed, format!("{completed} -> io-error"), format!("{completed} -> io-error")),
        ] {
            let arrives = J::IncomingLoaded { saved: saved(&switched_over(from)), postcopy: false };
            assert_eq!(Machine::incoming(true).then(arrives), auto);
            assert_eq!(Machine::incoming(false).then(arrives), held);
        }
    }

    #[test]
    fn an_arrival_whose_lift_cannot_be_prepared_waits_for_cont() {
        let mut machine = Machine::incoming(true);
        machine.prepare = false;
        let arrives = J::IncomingLoaded { saved: saved(&Machine::running()), postcopy: false };
        assert_eq!(machine.then(arrives), "MIGRATION{completed} -> paused");
        machine.prepare = true;
        assert_eq!(machine.then(M::Cont), "RESUME -> running");
    }

    #[test]
    fn a_sleeper_does_not_arrive_where_nothing_could_wake_it() {
        let mut config = Config { incoming: true, ..Config::default() };
        config.wakeup_supported = false;
        let machine = Machine::with(config).after(M::MigrateIncoming);
        let arrives = J::IncomingLoaded { saved: saved(&Machine::asleep()), postcopy: false };
        assert_eq!(machine.life.apply(&arrives.into()), Err(Refusal::SavedAsleep));
    }

    #[test]
    fn incoming_that_fails() {
        let mut machine = Machine::incoming(true);
        assert_eq!(machine.ask(J::IncomingFailed { exit: true }).unwrap(), "MIGRATION{failed}");
        assert_eq!(machine.exit(), Some(1));
        let mut machine = Machine::incoming(true);
        assert_eq!(machine.then(J::IncomingFailed { exit: false }), "MIGRATION{failed} -> inmigrate");
        assert!(machine.effects.contains(&Effect::ResetMachine));
        assert_eq!(machine.then(M::MigrateIncoming), "MIGRATION{setup} -> inmigrate");
    }
}
