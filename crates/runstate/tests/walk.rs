//! The exhaustive walk: every reachable value under every request, with every answer an engine could give.
//!
//! The space is made finite by leaving the epoch out and by sorting holds whose order nothing can ever tell: behind the
//! earliest hold that never goes by itself, only the set matters. Actions are fixed for each walk; several are made.
//!
//! A small picture of the engine (clock, harts, devices) is derived from each value, and the effects are carried out on
//! the picture of the old value: it must become the picture of the new one.

mod common;
#[path = "walk/jobs.rs"]
mod jobs;
#[path = "walk/map.rs"]
mod map;

use common::space::*;
use common::*;
use jobs::check_job;
use map::{Map, Pairs, Step};
use runstate::*;
use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};

/// What the engine's side looks like while the value is `life`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Picture {
    /// RESUME was told last, not STOP.
    resumed: bool,
    clock: bool,
    devices: bool,
    harts: bool,
}

impl Picture {
    fn of(life: &Lifecycle) -> Picture {
        let settled = life.phase() == Phase::Settled;
        let live = life.is_live();
        Picture { resumed: live, clock: live && settled, devices: live, harts: life.executes() }
    }

    /// Carries out the effects, asserting what must never happen on the way.
    fn carry_out(mut self, effects: &[Effect]) -> Picture {
        let mut flushed_or_told = false;
        for effect in effects {
            match effect {
                Effect::FreezeClock => self.clock = false,
                Effect::ThawClock => {
                    assert!(!self.clock, "thawed twice");
                    assert!(self.devices, "thawed before the devices started");
                    self.clock = true;
                }
                Effect::ParkHarts => self.harts = false,
                Effect::SleepHart(_) => self.harts = false,
                Effect::UnparkHarts | Effect::UnparkOne { .. } => {
                    assert!(self.clock && self.devices, "harts go before clock or devices");
                    self.harts = true;
                }
                Effect::StopDevices => {
                    assert!(self.devices, "stopped twice");
                    assert!(!self.clock && !self.harts, "devices stop before clock and harts");
                    self.devices = false;
                }
                Effect::StartDevices => {
                    assert!(!self.devices, "started twice");
                    self.devices = true;
                }
                Effect::Emit(Event::Stop) => {
                    assert!(self.resumed, "STOP after STOP");
                    assert!(!self.clock && !self.harts && !self.devices, "STOP before the machine stands");
                    self.resumed = false;
                }
                Effect::Emit(Event::Resume) => {
                    assert!(!self.resumed, "RESUME after RESUME");
                    assert!(!self.clock && !self.harts && !self.devices, "RESUME after something moved");
                    self.resumed = true;
                }
                Effect::AdoptGuest => {
                    assert!(!self.clock && !self.harts && !self.devices, "swapped while something moves")
                }
                // What goes out begins while the machine goes on.
                Effect::BeginJob(kind) if !matches!(kind, JobKind::Outgoing | JobKind::Background) => {
                    assert!(!self.clock && !self.harts && !self.devices, "a job begins while something moves")
                }
                Effect::ResetMachine => assert!(!self.harts, "reset under running harts"),
                Effect::Prepare => assert!(!flushed_or_told || !self.resumed),
                Effect::Exit { .. } => {
                    assert!(!self.clock && !self.harts && !self.devices, "exit while moving")
                }
                _ => {}
            }
            flushed_or_told |= matches!(effect, Effect::Emit(_));
        }
        self
    }
}

fn is_exit(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Exit { .. }))
}

fn check_value(life: &Lifecycle) {
    life.check().expect("consistent");
    assert_eq!(life.is_live(), life.holds().is_empty());
    if !life.is_exiting() {
        assert_eq!(life.view().is_live(), life.is_live());
    }
    assert_eq!(life.needs_reset(), life.holds().has(Owner::Off) || life.holds().has(Owner::Fault));
    assert!(life.latched().is_none() || life.is_asleep());
    assert!(life.holds().iter().filter(|hold| hold.owner.kind() == HoldKind::Job).count() <= 1);
    // Nothing ever sleeps live on a wake that waits.
    assert!(life.latched().is_none() || !life.is_live() || life.phase() != Phase::Settled);
}

fn check_step(life: &Lifecycle, request: &Request, outcome: &Outcome) {
    let Outcome { next, effects, dropped } = outcome;
    check_value(next);
    if *dropped {
        assert!(effects.is_empty() && next == life);
    }
    // Reports are asked for last, and exactly while the value waits for one.
    for (at, effect) in effects.iter().enumerate() {
        assert!(!effect.awaits_report() || at + 1 == effects.len());
    }
    if next.phase() != life.phase() {
        assert_eq!(effects.awaits_report(), next.awaits_report());
    }
    // The engine's side follows.
    let picture = Picture::of(life).carry_out(effects);
    if is_exit(effects) {
        assert!(next.is_exiting() && picture.resumed == life.is_live(), "no STOP at exit");
    } else {
        assert_eq!(picture, Picture::of(next));
    }
    // What queries show never changes in silence, and is there before the event that tells of it.
    let shown = |life: &Lifecycle| {
        let value = (life.view(), life.power(), *life.holds(), life.latched(), life.actions());
        (value, life.epoch(), life.pending_reset(), life.job(), life.exit_code(), life.is_exiting())
    };
    let published = effects.iter().position(|effect| *effect == Effect::PublishState);
    if shown(life) != shown(next) {
        assert!(published.is_some(), "changed in silence: {request:?} on {life:?} gave {outcome:?}");
    }
    for (at, effect) in effects.iter().enumerate() {
        if let Effect::Emit(Event::Stop | Event::Resume | Event::Wakeup | Event::Reset { .. }) = effect {
            assert!(published.is_some_and(|published| published < at), "told before it was published");
        }
    }
    // A wake is delivered exactly when it is told, and only by a live machine.
    let woken = effects.iter().filter(|effect| matches!(effect, Effect::WakeHart(_))).count();
    assert_eq!(woken, effects.events().filter(|event| *event == Event::Wakeup).count());
    assert!(woken == 0 || (woken == 1 && life.is_live() && life.is_asleep() && next.power() == Power::Awake));
    // A latched wake goes by being delivered, by a reset, a load, a power-off or a breakdown; never otherwise.
    if life.latched().is_some() && next.latched().is_none() {
        let replaced = effects.contains(&Effect::AdoptGuest) || next.epoch() != life.epoch();
        assert!(woken == 1 || replaced || next.needs_reset(), "a wake was lost");
    }
    check_reset(life, next, effects);
    check_report(life, request, next);
    check_job(life, request, outcome);
}

fn check_reset(life: &Lifecycle, next: &Lifecycle, effects: &Effects) {
    if effects.events().any(|event| matches!(event, Event::Reset { .. })) {
        assert_eq!(next.power(), Power::Awake);
        assert!(next.epoch() > life.epoch() && next.latched().is_none());
        let waits = next.holds().has(Owner::Incoming);
        // The reset that waited for a COMMIT happens behind the guest that has gone.
        let moves = life.holds().has(Owner::Outgoing) && next.holds().has(Owner::Moved);
        let stays = if moves { Owner::Moved } else { Owner::Boot };
        let left = |hold: &Hold| hold.owner == stays || hold.owner.kind() == HoldKind::Job || waits;
        assert!(next.holds().iter().all(left), "a reset left {:?}", next.holds());
    }
}

/// A lift that cannot be prepared leaves the holds as they were, a manager's in the place of a job's that is over; an effect
/// that fails breaks the machine.
fn check_report(life: &Lifecycle, request: &Request, next: &Lifecycle) {
    match request {
        Request::Engine(EngineReport::PrepareFailed)
            if life.holds().has_kind(HoldKind::Job) && !next.holds().has_kind(HoldKind::Job) =>
        {
            assert_eq!(next.holds().as_slice(), [Hold::of(Owner::Manager)]);
        }
        Request::Engine(EngineReport::PrepareFailed) => assert_eq!(next.holds(), life.holds()),
        Request::Engine(EngineReport::EffectFailed) => assert!(next.needs_reset() && !next.awaits_report()),
        _ => {}
    }
}

struct Count {
    values: usize,
    requests: usize,
    refusals: usize,
}

fn walk(starts: Vec<Lifecycle>) -> (Count, Map) {
    let mut numbers: HashMap<Key, u32> = HashMap::new();
    let mut queue = VecDeque::new();
    for life in starts {
        let next = numbers.len() as u32;
        if let Entry::Vacant(entry) = numbers.entry(key(&life)) {
            entry.insert(next);
            queue.push_back(life);
        }
    }
    let mut asked = requests(0);
    let mut map = Map::new(asked.clone());
    let mut count = Count { values: 0, requests: 0, refusals: 0 };
    while let Some(life) = queue.pop_front() {
        check_value(&life);
        let number = count.values as u32;
        count.values += 1;
        map.waits.push(life.awaits_report());
        for request in &mut asked {
            count.requests += 1;
            stamp(request, life.epoch());
            match life.apply(request) {
                Ok(outcome) => {
                    check_step(&life, request, &outcome);
                    let stale = if outcome.next.epoch() == life.epoch() { 0 } else { Step::STALE };
                    let to = if outcome.next == life {
                        number
                    } else {
                        let fresh = numbers.len() as u32;
                        *numbers.entry(key(&outcome.next)).or_insert_with(|| {
                            queue.push_back(outcome.next);
                            fresh
                        })
                    };
                    map.steps.push(Step(to | stale));
                }
                Err(refusal) => {
                    map.steps.push(if refusal == Refusal::AwaitingReport {
                        Step::WAITS
                    } else {
                        Step::REFUSED
                    });
                    count.refusals += 1;
                }
            }
            if stamp(request, life.epoch() + 1) {
                count.requests += 1;
                let outcome = life.apply(request).expect("what is stale is dropped, not refused");
                assert!(outcome.dropped && outcome.effects.is_empty() && outcome.next == life);
            }
        }
        check_actions(&life);
        check_reset_reachable(&life);
    }
    (count, map)
}

/// `set-action` changes the actions and nothing else, at any time.
fn check_actions(life: &Lifecycle) {
    let change = ActionChange { watchdog: Some(WatchdogAction::Debug), ..ActionChange::default() };
    if life.awaits_report() {
        assert_eq!(life.apply(&M::SetActions(change).into()), Err(Refusal::AwaitingReport));
        assert_eq!(life.apply(&M::SetWakePolicy(WakeChange::default()).into()), Err(Refusal::AwaitingReport));
    }
    if life.is_exiting() || life.awaits_report() {
        return;
    }
    let outcome = life.apply(&M::SetActions(change).into()).expect("never refused");
    let back = ActionChange { watchdog: Some(life.actions().watchdog), ..ActionChange::default() };
    assert_eq!(outcome.next.apply(&M::SetActions(back).into()).expect("never refused").next, *life);
}

/// A reset is never refused, and unless a job delays it or it means shutdown it happens.
fn check_reset_reachable(life: &Lifecycle) {
    if life.is_exiting() || life.awaits_report() {
        return;
    }
    let outcome = life.apply(&M::SystemReset.into()).expect("a reset is never refused");
    let happened = outcome.effects.events().any(|event| matches!(event, Event::Reset { .. }));
    let shut_down = life.actions().reboot == RebootAction::Shutdown;
    assert!(happened || shut_down || outcome.next.pending_reset().is_some());
}

fn walk_and_tell(what: &str, starts: Vec<Lifecycle>) {
    let (Count { values, requests, refusals }, map) = walk(starts);
    println!("{what}: {values} values, {requests} requests, {refusals} of them refused");
    assert!(values > 1000, "the walk did not get far");
    let Pairs { pairs, interleavings, alike, in_a_lift } = map.check_pairs();
    println!(
        "{what}: {pairs} pairs of requests, {interleavings} interleavings, {alike} pairs alike in both orders; in \
         {in_a_lift} of the interleavings the second comes in the middle of a lift"
    );
    assert!(in_a_lift > 0);
}

#[test]
fn default_actions() {
    walk_and_tell("default actions", starts(Actions::default(), WakePolicy::ALL, true));
}

#[test]
fn everything_pauses() {
    let actions = Actions {
        reboot: RebootAction::Reset,
        shutdown: ShutdownAction::Pause,
        panic: PanicAction::Pause,
        watchdog: WatchdogAction::Pause,
    };
    walk_and_tell("everything pauses", starts(actions, WakePolicy::ALL, true));
}

#[test]
fn reset_means_off() {
    let actions = Actions {
        reboot: RebootAction::Shutdown,
        shutdown: ShutdownAction::Pause,
        panic: PanicAction::ExitFailure,
        watchdog: WatchdogAction::Shutdown,
    };
    walk_and_tell("reset means off", starts(actions, WakePolicy::ALL, true));
}

#[test]
fn wakes_forbidden_or_no_suspend() {
    let none = WakeSwitch::ALL.into_iter().fold(WakePolicy::ALL, |policy, switch| policy.set(switch, false));
    let actions =
        Actions { panic: PanicAction::None, watchdog: WatchdogAction::Poweroff, ..Actions::default() };
    walk_and_tell("wakes forbidden", starts(actions, none, true));
    walk_and_tell("no suspend", starts(actions, WakePolicy::ALL, false));
}
