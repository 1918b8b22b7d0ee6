//! What the tables show: which requests, what became of one, and in which situation a value is.

use crate::common::*;
use runstate::*;

/// A request as the tables call it.
pub struct Asked {
    pub name: &'static str,
    pub request: Request,
}

/// A part of the tables.
pub struct Chapter {
    pub title: &'static str,
    pub asked: Vec<Asked>,
}

fn chapter<const N: usize>(title: &'static str, asked: [(&'static str, Request); N]) -> Chapter {
    Chapter { title, asked: asked.into_iter().map(|(name, request)| Asked { name, request }).collect() }
}

/// Every request that has a row, those that differ in a detail only once.
pub fn chapters() -> Vec<Chapter> {
    let arrives = |machine: &Machine| J::IncomingLoaded { saved: saved(machine), postcopy: false }.into();
    let loads = |machine: &Machine| J::LoadDone { saved: saved(machine) }.into();
    let (running, asleep) = (Machine::running(), Machine::asleep());
    let (stopped, off) = (Machine::running().after(M::Stop), Machine::no_shutdown().after(POWER_OFF));
    vec![
        chapter(
            "What a manager asks",
            [
                ("stop", M::Stop.into()),
                ("cont", M::Cont.into()),
                ("system_wakeup", M::SystemWakeup.into()),
                ("system_reset", M::SystemReset.into()),
                ("system_powerdown", M::SystemPowerdown.into()),
                ("quit", QUIT.into()),
                ("inject-nmi", M::InjectNmi.into()),
            ],
        ),
        chapter(
            "What the guest and its devices do",
            [
                ("the guest suspends", G::Suspend(SLEEP).at(0)),
                ("the guest powers off", POWER_OFF.at(0)),
                ("the guest resets", G::Reset.at(0)),
                ("the guest panics", G::Panic.at(0)),
                ("a wake", D::Wake(ALARM).at(0)),
                ("the watchdog expires", D::Watchdog.at(0)),
                ("an I/O error", FAILS.at(0)),
                ("a hart fails", BROKEN.at(0)),
            ],
        ),
        chapter(
            "What a debugger does",
            [
                ("attach or interrupt", M::DebugInterrupt.into()),
                ("a breakpoint is hit", G::DebugStop.at(0)),
                ("continue or detach", M::DebugContinue.into()),
                ("step", M::DebugStep { hart: 0 }.into()),
                ("the connection is lost", M::DebugLost.into()),
            ],
        ),
        chapter(
            "Dumps and snapshots",
            [
                ("dump-guest-memory", M::DumpStart { detached: true }.into()),
                ("the dump ends", J::DumpEnd { ok: true }.into()),
                ("savevm", M::SaveStart.into()),
                ("the save ends", J::SaveEnd.into()),
                ("loadvm", M::LoadStart { keep_asleep: false }.into()),
                ("a running guest is loaded", loads(&running)),
                ("a sleeping guest is loaded", loads(&asleep)),
                ("a guest that is off is loaded", loads(&off)),
                ("loading fails", J::LoadFailed.into()),
                ("background snapshot", M::BackgroundStart.into()),
                ("the snapshot's place is open", J::BackgroundHold.into()),
                ("the snapshot's devices are captured", J::BackgroundCaptured.into()),
                ("the snapshot is written", J::BackgroundEnd { ok: true }.into()),
                ("the snapshot fails", J::BackgroundEnd { ok: false }.into()),
            ],
        ),
        chapter(
            "Migration: the source",
            [
                ("migrate", M::MigrateStart.into()),
                ("migrate_cancel", M::MigrateCancel.into()),
                ("switch-over", J::SwitchOver.into()),
                ("seal", J::Seal.into()),
                ("COMMIT is sent", J::Commit { postcopy: false }.into()),
                ("COMMIT is sent, postcopy", J::Commit { postcopy: true }.into()),
                ("done", J::OutgoingDone.into()),
                ("failed", J::OutgoingFailed.into()),
                ("the link is lost", J::LinkLost.into()),
            ],
        ),
        chapter(
            "Migration: the destination",
            [
                ("migrate-incoming", M::MigrateIncoming.into()),
                ("a running guest arrives", arrives(&running)),
                ("a sleeping guest arrives", arrives(&asleep)),
                ("a stopped guest arrives", arrives(&stopped)),
                ("a guest that is off arrives", arrives(&off)),
                ("the last page arrives", J::IncomingDone.into()),
                ("arriving fails", J::IncomingFailed { exit: false }.into()),
                ("arriving fails, exit-on-error", J::IncomingFailed { exit: true }.into()),
            ],
        ),
    ]
}

/// What became of a request, as far as a client sees it. The order is that of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    Told,
    Silent,
    Nothing,
    Refused,
}

/// What became of a request, and what is the case then.
pub struct Led {
    pub fate: Fate,
    /// The events, or the text of the refusal.
    pub said: String,
    pub next: Lifecycle,
}

/// Asks with all that the effects yield, everything going well and no wake being due. None where the request cannot be made.
pub fn ask(life: &Lifecycle, request: &Request) -> Option<Led> {
    if matches!(request, Request::Guest(_)) && life.power() != Power::Awake {
        return None;
    }
    let mut request = *request;
    space::stamp(&mut request, life.epoch());
    let (mut next, mut told) = (life.clone(), vec![]);
    loop {
        let outcome = match next.apply(&request) {
            Ok(outcome) => outcome,
            Err(Refusal::UnexpectedStep | Refusal::JobCancelled) => return None,
            Err(refusal) => {
                let said = format!("“{refusal}”");
                return Some(Led { fate: Fate::Refused, said, next: life.clone() });
            }
        };
        told.extend(outcome.effects.events().map(event));
        next = outcome.next;
        request = match outcome.effects.last() {
            Some(Effect::Prepare) => EngineReport::Prepared.into(),
            Some(Effect::StartDevices) => EngineReport::DevicesStarted { due: None }.into(),
            _ => break,
        };
    }
    let fate = match (told.is_empty(), next == *life) {
        (false, _) => Fate::Told,
        (true, false) => Fate::Silent,
        (true, true) => Fate::Nothing,
    };
    let end = if next.is_exiting() { ", the process ends" } else { "" };
    Some(Led { fate, said: told.join(" ") + end, next })
}

fn event(event: Event) -> String {
    match event {
        Event::Migration { status } => format!("MIGRATION({})", status.as_str()),
        event => event.name().to_owned(),
    }
}

/// Guest power, in a word.
pub fn power(life: &Lifecycle) -> &'static str {
    match (life.power(), life.latched()) {
        (Power::Awake, _) => "awake",
        (Power::Asleep(_), None) => "asleep",
        (Power::Asleep(_), Some(_)) => "asleep with a wake latched",
        (Power::Off { .. }, _) => "off",
        (Power::Broken { .. }, _) => "broken",
    }
}

/// The job under way and how far it is, in a word.
pub fn job(life: &Lifecycle) -> &'static str {
    let Some(job) = life.job() else { return "no job" };
    match job {
        Job::Dump { .. } => "a dump",
        Job::Save => "a save",
        Job::Load { .. } => "a load",
        Job::Background { stage, .. } => match stage {
            BackgroundStage::Opening => "a background snapshot begins",
            BackgroundStage::Held => "a background snapshot",
            BackgroundStage::Captured => "a background snapshot, captured",
        },
        Job::Outgoing { stage, .. } => match stage {
            OutgoingStage::Copying => "migration under way",
            OutgoingStage::SwitchedOver => "switched over",
            OutgoingStage::Sealed => "sealed",
            OutgoingStage::Committed { postcopy: false } => "committed",
            OutgoingStage::Committed { postcopy: true } => "committed, pages to send",
        },
        Job::Incoming { stage } => match stage {
            IncomingStage::Waiting => "waiting for a guest",
            IncomingStage::Listening => "listening for a guest",
            IncomingStage::Loading => "loading a guest",
            IncomingStage::Postcopy => "arrived, pages to come",
        },
    }
}

/// What else a job has been told, in a word.
pub fn told(life: &Lifecycle) -> &'static str {
    let cancelling = match life.job() {
        Some(Job::Background { cancelling, .. } | Job::Outgoing { cancelling, .. }) => cancelling,
        _ => false,
    };
    match (life.pending_reset().is_some(), cancelling) {
        (false, false) => "nothing waits",
        (true, false) => "a reset waits",
        (false, true) => "cancelled",
        (true, true) => "cancelled and a reset waits",
    }
}
