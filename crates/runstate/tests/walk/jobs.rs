//! What a job may do to the machine, and what nobody else may do while one is under way (lifecycle rules, section 7).

use crate::common::*;
use runstate::*;

pub fn check_job(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, .. } = outcome;
    check_manager(life, request, next);
    if next.is_exiting() {
        return;
    }
    check_own_hold(life, request, outcome);
    check_beginning_and_end(life, request, outcome);
    check_outgoing(life, request, outcome);
    check_guest(life, request, outcome);
    // What will travel belongs to the guest.
    let stays = |hold: &Hold| {
        matches!(hold.owner, Owner::Moved | Owner::Debugger) || hold.owner.kind() == HoldKind::Job
    };
    assert!(!next.saved().holds().iter().any(stays));
    assert_eq!(next.saved().power(), next.power());
    // A reset waits only where a job delays it, and is not told before.
    if life.pending_reset().is_some() && next.pending_reset().is_some() {
        assert!(
            !effects.contains(&Effect::ResetMachine)
                && life.job().map(|job| job.kind()) == next.job().map(|job| job.kind())
        );
    }
}

/// Only these may take away a manager's hold.
fn check_manager(life: &Lifecycle, request: &Request, next: &Lifecycle) {
    if life.holds().has(Owner::Manager) && !next.holds().has(Owner::Manager) {
        let by_word = matches!(
            request,
            Request::Management(M::Cont | M::DebugContinue | M::DebugStep { .. } | M::DebugDetach)
                | Request::Engine(EngineReport::Prepared)
        );
        assert!(by_word || next.epoch() != life.epoch(), "{request:?} lifted a manager's stop");
    }
}

/// A job's hold goes by the job's own word alone, and so does what it leads to.
fn check_own_hold(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, .. } = outcome;
    let held = |life: &Lifecycle| life.holds().has_kind(HoldKind::Job);
    let by_job = matches!(request, Request::Migration(_) | Request::Engine(_));
    if held(life) && !by_job {
        assert!(held(next) && !next.is_live(), "{request:?} took a job's hold");
        assert!(!effects.awaits_report(), "{request:?} lifts under a job");
    }
    if held(life) && !held(next) {
        let moved = next.holds().has(Owner::Moved);
        assert!(by_job && (moved || next.job() != life.job()), "a job goes on without its hold");
    }
    if let Some(job) = next.job() {
        let keeps = matches!(job, Job::Dump { .. } | Job::Save | Job::Load { .. });
        assert!(!keeps || !next.is_live(), "live under {job:?}");
    }
}

/// A job begins when none is there, by a word of management; it ends by its own, and a migration with one last status.
fn check_beginning_and_end(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, .. } = outcome;
    let began: Vec<JobKind> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::BeginJob(kind) => Some(*kind),
            _ => None,
        })
        .collect();
    let kind = |life: &Lifecycle| life.job().map(|job| job.kind());
    let waited = matches!(life.job(), Some(Job::Incoming { stage: IncomingStage::Waiting }));
    if !began.is_empty() {
        assert!(kind(life).is_none() || waited, "a second job");
        assert_eq!(began, Vec::from_iter(kind(next)));
        assert!(matches!(request, Request::Management(_)));
    } else if kind(life) != kind(next) {
        assert_eq!(kind(next), None, "a job that nobody began");
        assert!(matches!(request, Request::Migration(_) | Request::Engine(_)), "{request:?} ended a job");
    }
    let ends = matches!(request, Request::Migration(_)) && kind(next).is_none();
    let last = effects.events().filter(|event| {
        use MigrationStatus::{Cancelled, Completed, Failed};
        matches!(event, Event::Migration { status: Completed | Failed | Cancelled })
    });
    let told = last.count();
    assert!(told <= 1, "two last words");
    if ends && matches!(kind(life), Some(JobKind::Outgoing)) {
        assert!(told == 1 || next.awaits_report(), "an end without a last word");
    }
}

/// Who may do what between the switch-over and the end.
fn check_outgoing(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, .. } = outcome;
    let stage = |life: &Lifecycle| match life.job() {
        Some(Job::Outgoing { stage, .. }) => Some(stage),
        _ => None,
    };
    let by_job = matches!(request, Request::Migration(_));
    let is_committed = |life: &Lifecycle| matches!(stage(life), Some(OutgoingStage::Committed { .. }));
    if is_committed(life) && by_job {
        assert_eq!(life.is_live(), next.is_live(), "the job lifted after COMMIT");
        assert!(!effects.awaits_report(), "the job lifts after COMMIT");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::UnparkHarts | Effect::WakeHart(_))));
    }
    // COMMIT follows a seal only and lifts nothing by itself. A waiting reset travels, and happens here too: at once, or,
    // where pages still follow, when they are gone.
    if is_committed(next) && !is_committed(life) {
        assert_eq!(stage(life), Some(OutgoingStage::Sealed));
        let postcopy = stage(next) == Some(OutgoingStage::Committed { postcopy: true });
        let resets = life.pending_reset().is_some() && !postcopy;
        assert_eq!(effects.contains(&Effect::ResetMachine), resets);
        assert_eq!(effects.events().count(), usize::from(resets));
        assert_eq!(next.pending_reset(), life.pending_reset().filter(|_| postcopy));
        assert!(!next.is_live());
        assert_eq!(next.holds().has(Owner::Outgoing), postcopy);
        assert_eq!(next.holds().has(Owner::Moved), !postcopy);
    }
    // From the seal on the guest that is being captured is not reset under the job.
    let sealed = [OutgoingStage::Sealed, OutgoingStage::Committed { postcopy: true }];
    if stage(life).is_some_and(|stage| sealed.contains(&stage)) && !by_job {
        assert!(!effects.contains(&Effect::ResetMachine), "{request:?} reset a sealed machine");
    }
    // Copying holds nothing; only the switch-over stops the machine.
    if stage(life) == Some(OutgoingStage::Copying)
        && by_job
        && stage(next) != Some(OutgoingStage::SwitchedOver)
    {
        assert_eq!(life.holds(), next.holds());
    }
}

/// Only a load or an arrival changes the guest, as a whole; one that fails changes nothing, or goes back to power-on.
fn check_guest(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, .. } = outcome;
    let adopts = matches!(request, Request::Migration(J::LoadDone { .. } | J::IncomingLoaded { .. }));
    assert_eq!(effects.contains(&Effect::AdoptGuest), adopts && !outcome.dropped);
    let resets = effects.contains(&Effect::ResetMachine);
    if adopts && !outcome.dropped {
        assert!(next.epoch() > life.epoch());
    } else if matches!(request, Request::Migration(_)) && !resets {
        assert_eq!(
            (life.power(), life.latched(), life.epoch()),
            (next.power(), next.latched(), next.epoch())
        );
    }
    if let Request::Migration(J::IncomingFailed { exit: false }) = request
        && !outcome.dropped
        && life.job() == Some(Job::Incoming { stage: IncomingStage::Postcopy })
    {
        // The guest has arrived and stays.
        assert_eq!((next.job(), next.holds(), resets), (None, life.holds(), false));
    } else if let Request::Migration(J::IncomingFailed { exit: false }) = request
        && !outcome.dropped
    {
        assert!(resets && next.power() == Power::Awake && next.holds().has(Owner::Incoming));
        assert_eq!(next.job(), Some(Job::Incoming { stage: IncomingStage::Waiting }));
    }
}
