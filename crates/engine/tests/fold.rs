//! What is folded from records equals what queries answer, for everyone, at every moment.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use clock::HostClock as _;
use engine::{By, Engine, Origin, Record, Situation, Stamp, Status, Subscriber};
use proptest::prelude::*;
use runstate::{
    ActionChange, DeviceId, DeviceRequest, Event, Fault, GuestRequest, IoErrorAction,
    ManagementRequest as Ask, Owner, RunState, ShutdownAction, ShutdownCause, WakeSource, WatchdogAction,
};
use support::World;
use vmcore::DevicePort;
use vmcore::testing::Step;

const RESUME_ADDR: u64 = 0x8040_0000;

/// Folds what it hears and compares it with what it was handed, at every record.
#[derive(Default)]
struct Folder {
    folded: Mutex<Option<Status>>,
    records: Mutex<Vec<Arc<Record>>>,
}

impl Folder {
    fn follow(engine: &Engine) -> Arc<Self> {
        let folder = Arc::new(Self::default());
        engine.subscribe(Arc::clone(&folder) as Arc<dyn Subscriber>);
        folder
    }

    fn folded(&self) -> Status {
        self.folded.lock().unwrap().clone().unwrap()
    }
}

impl Subscriber for Folder {
    fn publish(&self, status: &Arc<Status>, record: Option<&Arc<Record>>) {
        let mut folded = self.folded.lock().unwrap();
        let next = match (&*folded, record) {
            (Some(before), Some(record)) => {
                assert_eq!(before.situation, record.from, "records form a chain");
                self.records.lock().unwrap().push(Arc::clone(record));
                before.fold(record).unwrap()
            }
            _ => Status::clone(status),
        };
        assert_eq!(next, **status);
        *folded = Some(next);
    }
}

/// What the records themselves say, told a second time and in another way: by looking at the whole list.
struct Account {
    states: HashMap<RunState, u64>,
    since: HashMap<Owner, Stamp>,
    wakeups: u64,
}

impl Account {
    fn of(first: Stamp, initial: &Situation, records: &[Arc<Record>], now: Stamp) -> Self {
        let mut moments = vec![(first, initial)];
        moments.extend(records.iter().map(|record| (record.at, &*record.to)));
        let ends = moments.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let mut states = HashMap::new();
        for ((at, situation), end) in moments.iter().zip(ends) {
            *states.entry(situation.state).or_default() += end.host_ns - at.host_ns;
        }
        let mut since = HashMap::new();
        for hold in moments.last().unwrap().1.holds.iter() {
            let unbroken =
                moments.iter().rev().take_while(|(_, situation)| situation.holds.iter().any(|h| h == hold));
            since.insert(hold.owner, unbroken.last().unwrap().0);
        }
        let woken = |record: &&Arc<Record>| record.event == Some(Event::Wakeup);
        Self { states, since, wakeups: records.iter().filter(woken).count().try_into().unwrap() }
    }
}

/// One thing that happens to the machine.
#[derive(Clone, Copy, Debug)]
enum Act {
    Ask(Ask),
    Device(DeviceRequest),
    Guest(GuestRequest),
    Pass(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let actions = |shutdown, watchdog| {
        Ask::SetActions(ActionChange {
            shutdown: Some(shutdown),
            watchdog: Some(watchdog),
            ..ActionChange::default()
        })
    };
    let asked = prop_oneof![
        3 => Just(Ask::Stop),
        4 => Just(Ask::Cont),
        1 => Just(Ask::SystemWakeup),
        1 => Just(Ask::SystemReset),
        1 => Just(Ask::SystemPowerdown),
        1 => Just(Ask::DebugInterrupt),
        1 => Just(Ask::DebugLost),
        1 => Just(Ask::InjectNmi),
        1 => Just(actions(ShutdownAction::Pause, WatchdogAction::Pause)),
        1 => Just(actions(ShutdownAction::Pause, WatchdogAction::Reset)),
    ];
    let device = prop_oneof![
        3 => Just(DeviceRequest::Wake(WakeSource::Rtc(0))),
        1 => Just(DeviceRequest::Watchdog),
        1 => Just(DeviceRequest::IoError { device: DeviceId(4), action: IoErrorAction::Stop }),
        1 => Just(DeviceRequest::HartFailed { what: Fault::Effect }),
    ];
    let sleep = runstate::Sleep { hart: 0, resume_addr: RESUME_ADDR, opaque: 0 };
    let guest = prop_oneof![
        5 => Just(GuestRequest::Suspend(sleep)),
        1 => Just(GuestRequest::Reset),
        1 => Just(GuestRequest::Panic),
        1 => Just(GuestRequest::ShutDown { cause: ShutdownCause::GuestShutdown, exit_code: 3 }),
    ];
    prop_oneof![
        5 => asked.prop_map(Act::Ask),
        3 => device.prop_map(Act::Device),
        3 => guest.prop_map(Act::Guest),
        2 => any::<u32>().prop_map(Act::Pass),
    ]
}

/// A running machine that stays when its guest is off or panics.
fn world() -> World {
    let world = World::running(1);
    let change = ActionChange { shutdown: Some(ShutdownAction::Pause), ..ActionChange::default() };
    world.ask(Ask::SetActions(change));
    world
}

fn carry_out(world: &World, act: Act) {
    match act {
        // A refusal changes nothing, which the comparison shows.
        Act::Ask(ask) => drop(world.engine.manage_by(By::Client("walker".into()), ask)),
        Act::Device(request) => world.port.post(request),
        Act::Guest(request) => world.scripts[0].then(Step::Ecall(request)),
        Act::Pass(ns) => world.host.advance(ns.into()),
    }
    // Takes its turn behind what was posted.
    world.describe(0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn folding_equals_asking_over_any_walk(walk in prop::collection::vec(act(), 1..60)) {
        let world = world();
        let folder = Folder::follow(&world.engine);
        let first = folder.folded();
        for act in walk {
            carry_out(&world, act);
        }
        // The guest's last word may still be on its way: `Folder` has compared every step of it.
        let last = folder.folded();
        let records = folder.records.lock().unwrap().clone();
        let records: Vec<_> = records.into_iter().filter(|r| r.sequence <= last.sequence).collect();
        let now = Stamp { host_ns: last.at.host_ns + 17, ..last.at };
        let account = Account::of(first.at, &first.situation, &records, now);
        let told = last.until(now);
        for (state, ns) in told.spent.states() {
            let before = first.spent.states().find(|(other, _)| *other == state).unwrap().1;
            prop_assert_eq!(ns - before, account.states.get(&state).copied().unwrap_or(0), "{}", state);
        }
        for held in last.held.iter() {
            prop_assert_eq!(held.since, account.since[&held.hold.owner]);
        }
        prop_assert_eq!(last.held.iter().map(|held| held.hold).collect::<Vec<_>>(), last.holds.as_slice());
        prop_assert_eq!(last.wakes - first.wakes, account.wakeups);
        // The replay tells the same once more.
        let replay = world.engine.replay(first.sequence + 1, last.sequence);
        prop_assert_eq!(replay.dropped, 0);
        prop_assert_eq!(replay.records, records.into_iter().take(512).collect::<Vec<_>>());
        world.ask(Ask::Quit { cause: ShutdownCause::HostQmpQuit });
        world.engine.wait();
    }
}

#[test]
fn everyone_who_joins_folds_to_the_same_while_several_ask_at_once() {
    let world = world();
    let folders: Vec<_> = std::thread::scope(|scope| {
        for seed in 0..3_u32 {
            let engine = world.engine.clone();
            scope.spawn(move || {
                for round in 0..300 {
                    let ask = match (round + seed) % 4 {
                        0 => Ask::Stop,
                        1 => Ask::SystemReset,
                        2 => Ask::DebugInterrupt,
                        _ => Ask::Cont,
                    };
                    let _ = engine.manage(ask);
                }
            });
        }
        (0..50).map(|_| Folder::follow(&world.engine)).collect()
    });
    let status = world.engine.status();
    for folder in folders {
        assert_eq!(folder.folded(), *status);
    }
}

#[test]
fn a_hold_says_since_when_and_because_of_whom() {
    let world = world();
    world.host.advance(1_000);
    world.engine.manage_by(By::Client("monitor 7".into()), Ask::Stop).unwrap();
    let stopped_at = world.host.monotonic_ns();
    world.host.advance(5_000);
    world.port.post(DeviceRequest::IoError { device: DeviceId(4), action: IoErrorAction::Stop });
    world.describe(0);
    let status = world.engine.status();
    let [manager, disk] = &*status.held else { panic!("{:?}", status.held) };
    assert_eq!((manager.hold.owner, manager.since.host_ns), (Owner::Manager, stopped_at));
    assert_eq!((manager.cause.origin, manager.cause.request), (Origin::Management, "stop"));
    assert_eq!(manager.cause.by.to_string(), "monitor 7");
    assert_eq!((disk.hold.owner, disk.since.host_ns), (Owner::Device(DeviceId(4)), stopped_at + 5_000));
    assert_eq!((disk.cause.origin, disk.cause.by.to_string().as_str()), (Origin::Device, "device4"));
    // Guest time stood meanwhile.
    assert_eq!(disk.since.guest_ns, manager.since.guest_ns);
    assert_eq!(world.engine.now_after(status.sequence).guest_ns, manager.since.guest_ns);
}

#[test]
fn a_stop_and_what_explains_it_follow_each_other() {
    let world = world();
    let folder = Folder::follow(&world.engine);
    for _ in 0..20 {
        world.port.post(DeviceRequest::IoError { device: DeviceId(4), action: IoErrorAction::Stop });
        world.describe(0);
        world.ask(Ask::Cont);
    }
    let records = folder.records.lock().unwrap();
    let stops: Vec<_> =
        records.iter().enumerate().filter(|(_, record)| record.event == Some(Event::Stop)).collect();
    assert_eq!(stops.len(), 20);
    for (at, stop) in stops {
        assert_eq!(
            records[at - 1].event,
            Some(Event::BlockIoError { device: DeviceId(4), action: IoErrorAction::Stop })
        );
        assert_eq!((stop.cause.request, stop.cause.by.to_string()), ("io-error", "device4".to_owned()));
    }
}

#[test]
fn a_wake_is_told_with_its_source_and_a_reset_with_its_epoch() {
    let world = world();
    world.fall_asleep();
    world.device_wakes();
    let status = world.engine.status();
    assert_eq!(status.last_wake.as_ref().unwrap().what, WakeSource::Rtc(0));
    assert_eq!(status.wakes, 1);
    assert!(status.last_reset.is_none());
    let epoch = status.epoch;
    world.engine.manage_by(By::Client("mon".into()), Ask::SystemReset).unwrap();
    let status = world.engine.status();
    assert_eq!(status.epoch, epoch + 1);
    assert_eq!(status.last_reset.as_ref().unwrap().what.by.to_string(), "mon");
}
