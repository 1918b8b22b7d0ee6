//! The machine's whole life: what QEMU's queries and events cannot say.

use qmp::Args;
use qmp::schema::{Qapi, arg, opt};

use super::{Command, Env, always, command};
use crate::hmp::{HmpError, Human, Screen};
use crate::lifecycle::{XCause, XLifecycle, XLifecycleEvents, XLifecycleRecord, XLifecycleRecords, XMoment};

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The whole life of the machine: what the guest did to itself, why the host holds it, since when and because of whom,
        /// and what there is to come. The answer agrees with the events that this connection has been sent: it is what
        /// folding the records of X_LIFECYCLE gives, guest clock and wake sources aside.
        "x-query-lifecycle" [] -> XLifecycle = |env: &Env<'_>, _: &Args| {
            Ok(XLifecycle::new(env))
        }
    }
    .lifecycle_query(always)
    .human(Human::info(&["lifecycle"], "show the whole life of the machine", info_lifecycle)),
    command! {
        /// The records of the machine's life from a number on, as far as they are still kept, at most 512 at once. The answer
        /// ends where this connection's events stand: who asks on from `next`, and takes the events from there, misses
        /// nothing and hears nothing twice.
        "x-query-events" [opt("from", u64::TYPE, "The number of the first record; 1 if it is not given.")]
            -> XLifecycleRecords = query_events
    }
    .lifecycle_query(always),
    command! {
        /// Switches X_LIFECYCLE on or off for this connection, from this reply on: the records from number `next` on are sent
        /// as events.
        "x-lifecycle-events" [arg("enable", bool::TYPE, "Whether to send them.")] -> XLifecycleEvents
            = |env: &Env<'_>, args: &Args| {
                env.client.set_lifecycle(args.opt_bool("enable").unwrap_or(false));
                Ok(XLifecycleEvents { next: env.status.sequence.saturating_add(1) })
            }
    }
    .lifecycle_query(always),
];

fn query_events(env: &Env<'_>, args: &Args) -> Result<XLifecycleRecords, qmp::QmpError> {
    let replay = env.engine().replay(args.opt_u64("from").unwrap_or(1), env.status.sequence);
    Ok(XLifecycleRecords {
        records: replay.records.iter().map(|record| XLifecycleRecord::from(&**record)).collect(),
        dropped: replay.dropped,
        next: replay.next,
    })
}

fn info_lifecycle(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    let life = XLifecycle::new(screen.env);
    for line in describe(&life) {
        screen.print(&line);
    }
    Ok(())
}

/// The query's answer in words.
fn describe(life: &XLifecycle) -> Vec<String> {
    use qmp::schema::QapiEnum as _;
    let for_long = |since: &XMoment| seconds(life.time.host_ns.saturating_sub(since.host_ns));
    let mut lines = vec![
        format!("state: {}, for {}", life.state.name(), for_long(&life.state_since)),
        format!(
            "guest: {}{}, for {}",
            life.power.name(),
            life.power_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
            for_long(&life.power_since)
        ),
    ];
    if life.holds.is_empty() {
        lines.push("held by: nobody".to_owned());
    }
    for held in &life.holds {
        let device = held.device.map(|id| format!(" {id}")).unwrap_or_default();
        lines.push(format!(
            "held by: {}{device} ({}), for {}: {}",
            held.owner.name(),
            held.state.name(),
            for_long(&held.since),
            because(&held.cause)
        ));
    }
    if life.needs_reset {
        lines.push("needs a reset: cont is refused until then".to_owned());
    }
    if let Some(source) = &life.latched_wake {
        lines.push(format!("waits: a wake by {source}, for the last hold to go"));
    }
    if let Some(cause) = life.pending_reset {
        lines.push(format!("waits: a reset ({}), for the job to end", cause.name()));
    }
    if let Some(job) = life.job {
        lines.push(format!("job: {}", job.name()));
    }
    let clock = &life.guest_clock;
    lines.push(format!(
        "guest time: {} ({} of it awake), {}",
        seconds(clock.guest_ns),
        seconds(clock.awake_ns),
        if clock.advances { "advances" } else { "stands" }
    ));
    if let Some(arrival) = &life.arrival {
        let stood = match arrival.downtime_ns {
            Some(ns) => format!("after {} without running", seconds(ns.max(0).cast_unsigned())),
            None if arrival.resumed.is_some() => "and has run since".to_owned(),
            None => "and has not run here yet".to_owned(),
        };
        lines.push(format!("arrived: with guest time {}, {stood}", seconds(arrival.guest_ns)));
    }
    if let Some(last) = &life.last_wake {
        lines.push(format!(
            "last wake: {}, {} ago; {} in all",
            last.source,
            for_long(&last.time),
            life.wakes
        ));
    }
    if let Some(last) = &life.last_refused_wake {
        lines.push(format!(
            "last wake refused: {} ({}), {} ago",
            last.source,
            last.fate,
            for_long(&last.time)
        ));
    }
    if let Some(last) = &life.last_reset {
        lines.push(format!("last reset: {} ago, {}", for_long(&last.time), because(&last.cause)));
    }
    if let Some(last) = &life.flush_error {
        lines.push(format!("last flush failed: {}, {} ago", last.error, for_long(&last.time)));
    }
    for source in &life.wake_sources {
        let marks = [
            (source.armed, "armed"),
            (!source.armed, "not armed"),
            (!source.allowed, "forbidden"),
            (source.due, "due"),
        ];
        let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        lines.push(format!("wake source {}: {}", source.source, marks.join(", ")));
    }
    let spent: Vec<String> = life
        .state_times
        .iter()
        .filter(|time| time.host_ns > 0)
        .map(|time| format!("{} {}", time.state.name(), seconds(time.host_ns)))
        .collect();
    lines.push(format!("host time: {}", spent.join(", ")));
    let actions = &life.actions;
    lines.push(format!(
        "actions: reboot={}, shutdown={}, panic={}, watchdog={}",
        actions.reboot.name(),
        actions.shutdown.name(),
        actions.panic.name(),
        actions.watchdog.name()
    ));
    lines.push(format!("epoch {}, record {}", life.epoch, life.sequence));
    lines
}

fn because(cause: &XCause) -> String {
    use qmp::schema::QapiEnum as _;
    let by = cause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{} ({}){by}", cause.request, cause.origin.name())
}

/// `12.345 s`.
fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}
