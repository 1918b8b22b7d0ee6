//! The space of values: where machines start, all that can be asked of them, and which values nothing tells apart.

use super::*;

/// Everything that can be asked, but for `set-action`, `x-set-wake-policy` and stale requests.
pub fn requests(epoch: Epoch) -> Vec<Request> {
    let managed = [
        M::Stop,
        M::Cont,
        M::SystemWakeup,
        M::SystemReset,
        M::SystemPowerdown,
        QUIT,
        M::InjectNmi,
        M::DumpStart { detached: false },
        M::DumpStart { detached: true },
        M::SaveStart,
        M::LoadStart { keep_asleep: false },
        M::LoadStart { keep_asleep: true },
        M::BackgroundStart,
        M::MigrateStart,
        M::MigrateCancel,
        M::MigrateIncoming,
        M::DebugInterrupt,
        M::DebugContinue,
        M::DebugStep { hart: 0 },
        M::DebugDetach,
        M::DebugLost,
    ];
    let guest = [
        G::Suspend(SLEEP),
        POWER_OFF,
        G::ShutDown { cause: ShutdownCause::GuestPanic, exit_code: 7 },
        G::Reset,
        G::Panic,
        G::CrashLoaded,
        G::PvShutdown,
        G::DebugStop,
    ];
    let device = [
        D::Wake(ALARM),
        D::Wake(WakeSource::Interrupt { line: 9 }),
        D::MaskedWake(ALARM),
        D::Watchdog,
        FAILS,
        D::IoError { device: DISK, action: IoErrorAction::Report },
        BROKEN,
    ];
    let mut jobs = vec![
        J::DumpEnd { ok: true },
        J::SaveEnd,
        J::LoadFailed,
        J::BackgroundHold,
        J::BackgroundCaptured,
        J::BackgroundEnd { ok: true },
        J::BackgroundEnd { ok: false },
        J::Announce(MigrationStatus::Active),
        J::Pass(1),
        J::SwitchOver,
        J::Seal,
        J::Commit { postcopy: false },
        J::Commit { postcopy: true },
        J::OutgoingDone,
        J::OutgoingFailed,
        J::LinkLost,
        J::IncomingDone,
        J::IncomingFailed { exit: false },
        J::IncomingFailed { exit: true },
    ];
    for saved in travellers() {
        jobs.push(J::LoadDone { saved });
        jobs.push(J::IncomingLoaded { saved, postcopy: false });
        jobs.push(J::IncomingLoaded { saved, postcopy: true });
    }
    let reports = [
        EngineReport::Prepared,
        EngineReport::PrepareFailed,
        EngineReport::DevicesStarted { due: None },
        EngineReport::DevicesStarted { due: Some(ALARM) },
        EngineReport::EffectFailed,
    ];
    let mut all: Vec<Request> = managed.into_iter().map(Request::from).collect();
    all.extend(guest.into_iter().map(|request| request.at(epoch)));
    all.extend(device.into_iter().map(|request| request.at(epoch)));
    all.extend(jobs.into_iter().map(Request::from));
    all.extend(reports.into_iter().map(Request::from));
    all
}

/// Saved values of every kind of power, live and held, with a wake and a reset to come.
fn travellers() -> Vec<SavedLifecycle> {
    let stopped_asleep = Machine::asleep().after(M::Stop);
    let pending = switched_over(Machine::running()).after(J::Seal).after(M::SystemReset);
    vec![
        saved(&Machine::running()),
        saved(&Machine::held()),
        saved(&Machine::running().after(M::Stop)),
        saved(&Machine::asleep()),
        saved(&stopped_asleep),
        saved(&stopped_asleep.after(D::Wake(ALARM))),
        saved(&Machine::no_shutdown().after(POWER_OFF)),
        saved(&Machine::running().after(BROKEN)),
        saved(&pending),
    ]
}

/// All of a value but its epoch and what each walk fixes.
pub type Key = (Power, Holds, Option<WakeSource>, Option<ShutdownCause>, Option<Job>, Phase, i32, bool);

/// The same for all values that nothing can tell apart.
pub fn key(life: &Lifecycle) -> Key {
    let goes_alone = |hold: &Hold| hold.owner == Owner::Debugger || hold.owner.kind() == HoldKind::Job;
    let ranked = |hold: &Hold| hold.owner.kind() == HoldKind::Power || hold.owner == Owner::Moved;
    let mut order = *life.holds();
    if order.len() > 1 {
        let mut holds = order.as_slice().to_vec();
        holds.sort_by_key(ranked);
        let shown = holds.iter().filter(|hold| !ranked(hold)).count();
        let fixed = holds[..shown].iter().position(|hold| !goes_alone(hold)).map_or(shown, |at| at + 1);
        holds[fixed..].sort_by_key(|hold| hold.owner);
        order = Holds::new();
        for hold in holds {
            order.add(hold);
        }
    }
    let (power, latched, pending) = (life.power(), life.latched(), life.pending_reset());
    (power, order, latched, pending, life.job(), life.phase(), life.exit_code(), life.is_exiting())
}

/// Gives a guest's or device's request another epoch. Says whether it is one.
pub fn stamp(request: &mut Request, now: Epoch) -> bool {
    match request {
        Request::Guest(Stamped { epoch, .. }) | Request::Device(Stamped { epoch, .. }) => *epoch = now,
        _ => return false,
    }
    true
}

pub fn starts(actions: Actions, wake_policy: WakePolicy, wakeup_supported: bool) -> Vec<Lifecycle> {
    let config = Config { actions, wake_policy, wakeup_supported, ..Config::default() };
    let incoming = Config { incoming: true, ..config };
    [config, incoming, Config { autostart: false, ..incoming }].map(Lifecycle::new).to_vec()
}
