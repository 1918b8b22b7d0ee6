//! The machine's life as programs read it: what `x-query-lifecycle` answers and what X_LIFECYCLE tells.
//!
//! The two fold: what a record's `new` says is what the query says from that record on, and `docs/lifecycle-query.md` has the
//! rules for the rest (since when, how long, because of whom).

mod types;

use engine::{Cause, Held, Last, Record, Situation, Stamp, WakeInfo};
use qmp::schema::QapiEnum;

use crate::commands::{Env, PanicAction, RebootAction, ShutdownAction, WatchdogAction};
use crate::events::ShutdownCause;
pub(crate) use types::*;

/// The protocol's value of that name. Both sides list the same names, which the tests hold; `other` is what a name that only
/// one of them knows would become.
fn named<E: QapiEnum>(name: &str, other: E) -> E {
    E::from_name(name).unwrap_or(other)
}

impl From<Stamp> for XMoment {
    fn from(stamp: Stamp) -> Self {
        Self { guest_ns: stamp.guest_ns, host_ns: stamp.host_ns, wall_ns: stamp.wall_ns }
    }
}

impl From<&Cause> for XCause {
    fn from(cause: &Cause) -> Self {
        let by = cause.by.to_string();
        Self {
            origin: named(cause.origin.as_str(), XOrigin::Engine),
            request: cause.request.to_owned(),
            by: (!by.is_empty()).then_some(by),
        }
    }
}

impl From<&runstate::Hold> for XHold {
    fn from(hold: &runstate::Hold) -> Self {
        let device = match hold.owner {
            runstate::Owner::Device(id) => Some(id.0),
            _ => None,
        };
        let owner = named(hold.owner.as_str(), XHoldOwner::Fault);
        Self { owner, device, state: hold.cause.into() }
    }
}

impl From<&Held> for XHeld {
    fn from(held: &Held) -> Self {
        let XHold { owner, device, state } = XHold::from(&held.hold);
        Self { owner, device, state, since: held.since.into(), cause: XCause::from(&held.cause) }
    }
}

impl From<runstate::Actions> for XActions {
    fn from(actions: runstate::Actions) -> Self {
        Self {
            reboot: named(actions.reboot.as_str(), RebootAction::Reset),
            shutdown: named(actions.shutdown.as_str(), ShutdownAction::Poweroff),
            panic: named(actions.panic.as_str(), PanicAction::Shutdown),
            watchdog: named(actions.watchdog.as_str(), WatchdogAction::Reset),
        }
    }
}

fn power(situation: &Situation) -> XGuestPower {
    named(engine::power_name(&situation.power), XGuestPower::Broken)
}

fn power_reason(situation: &Situation) -> Option<String> {
    match situation.power {
        runstate::Power::Off { cause, .. } => Some(cause.to_string()),
        runstate::Power::Broken { what } => Some(what.to_string()),
        runstate::Power::Awake | runstate::Power::Asleep(_) => None,
    }
}

fn job(job: &runstate::Job) -> XJob {
    use runstate::JobKind as Kind;
    match job.kind() {
        Kind::Dump => XJob::Dump,
        Kind::Save => XJob::Save,
        Kind::Load => XJob::Load,
        Kind::Background => XJob::Background,
        Kind::Outgoing => XJob::Outgoing,
        Kind::Incoming => XJob::Incoming,
    }
}

impl From<&Situation> for XOldSituation {
    fn from(situation: &Situation) -> Self {
        Self {
            state: situation.state.into(),
            power: power(situation),
            holds: situation.holds.iter().map(XHold::from).collect(),
        }
    }
}

impl From<&Situation> for XSituation {
    fn from(situation: &Situation) -> Self {
        let XOldSituation { state, power, holds } = situation.into();
        Self {
            state,
            power,
            power_reason: power_reason(situation),
            holds,
            needs_reset: situation.needs_reset(),
            latched_wake: situation.latched.map(|source| source.to_string()),
            pending_reset: situation.pending_reset.map(|cause| named(cause.as_str(), ShutdownCause::None)),
            job: situation.job.as_ref().map(job),
            epoch: situation.epoch,
            exit_code: situation.exit_code.into(),
            exiting: situation.exiting,
            actions: situation.actions.into(),
            wakeup_suspend_support: situation.wakeup_supported,
        }
    }
}

impl From<&Record> for XLifecycleRecord {
    fn from(record: &Record) -> Self {
        let notes = &record.notes;
        let flush = |result: &Result<(), _>| XFlush {
            ok: result.is_ok(),
            error: result.as_ref().err().map(ToString::to_string),
        };
        Self {
            sequence: record.sequence,
            time: record.at.into(),
            cause: XCause::from(&record.cause),
            event: record.event.map(|event| event.name().to_owned()),
            old: XOldSituation::from(&*record.from),
            new: XSituation::from(&*record.to),
            woken_by: notes.woken.map(|source| source.to_string()),
            refused_wake: notes.refused.map(|(source, fate)| XRefusedWake {
                source: source.to_string(),
                fate: fate.as_str().to_owned(),
            }),
            flush: notes.flushed.as_ref().map(flush),
        }
    }
}

impl From<&WakeInfo> for XWakeSource {
    fn from(info: &WakeInfo) -> Self {
        Self {
            source: info.state.source.to_string(),
            armed: info.state.armed.is_some(),
            armed_by: info.state.armed.map(|by| by.as_str().to_owned()),
            allowed: info.allowed,
            due: info.state.due,
            delivered: info.counts.delivered,
            latched: info.counts.latched,
            forbidden: info.counts.forbidden,
            masked: info.counts.masked,
        }
    }
}

impl From<engine::Arrival> for XArrival {
    fn from(arrival: engine::Arrival) -> Self {
        Self {
            guest_ns: arrival.guest_ns,
            left_wall_ns: arrival.left_wall_ns,
            resumed: arrival.resumed.map(XMoment::from),
            downtime_ns: arrival.downtime_ns(),
            applied_ns: arrival.applied_ns(),
        }
    }
}

impl XLifecycle {
    /// What `status` says at this moment, with what can only be looked at.
    pub(crate) fn new(env: &Env<'_>) -> Self {
        let (engine, status) = (env.engine(), env.status);
        let now = engine.now_after(status.sequence);
        let (clock, times) = (engine.guest_clock(), engine.guest_clock().save());
        let status = &status.until(now);
        let XSituation {
            state,
            power,
            power_reason,
            holds: _,
            needs_reset,
            latched_wake,
            pending_reset,
            job,
            epoch,
            exit_code,
            exiting,
            actions,
            wakeup_suspend_support,
        } = XSituation::from(&*status.situation);
        let last_wake = |last: &Last<runstate::WakeSource>| XLastWake {
            source: last.what.to_string(),
            time: last.at.into(),
        };
        let last_refused = |last: &Last<(runstate::WakeSource, runstate::WakeFate)>| XLastRefusedWake {
            source: last.what.0.to_string(),
            fate: last.what.1.as_str().to_owned(),
            time: last.at.into(),
        };
        let last_reset =
            |last: &Last<Cause>| XLastReset { cause: XCause::from(&last.what), time: last.at.into() };
        Self {
            sequence: status.sequence,
            time: now.into(),
            state,
            state_since: status.state_since.into(),
            power,
            power_since: status.power_since.into(),
            power_reason,
            holds: status.held.iter().map(XHeld::from).collect(),
            live: status.holds.is_empty(),
            asleep: status.is_asleep(),
            needs_reset,
            latched_wake,
            pending_reset,
            job,
            epoch,
            exit_code,
            exiting,
            actions,
            wakeup_suspend_support,
            wakes: status.wakes,
            last_wake: status.last_wake.as_ref().map(last_wake),
            last_refused_wake: status.last_refused_wake.as_ref().map(last_refused),
            last_reset: status.last_reset.as_ref().map(last_reset),
            flush_error: status
                .flush_error
                .as_ref()
                .map(|last| XFlushError { error: last.what.to_string(), time: last.at.into() }),
            state_times: status
                .spent
                .states()
                .map(|(state, host_ns)| XStateTime { state: state.into(), host_ns })
                .collect(),
            power_times: status
                .spent
                .powers()
                .map(|(power, host_ns)| XPowerTime { power: named(power, XGuestPower::Broken), host_ns })
                .collect(),
            guest_clock: XGuestClock {
                advances: !clock.is_frozen(),
                guest_ns: times.guest_ns,
                awake_ns: times.awake_ns,
            },
            arrival: engine.arrival().map(XArrival::from),
            wake_sources: env.wakes().sources.iter().map(XWakeSource::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{Origin, Spent};
    use runstate::{DeviceId, Owner};

    #[test]
    fn both_sides_list_the_same_names() {
        let owners = [
            Owner::Boot,
            Owner::Manager,
            Owner::Debugger,
            Owner::Device(DeviceId(1)),
            Owner::Watchdog,
            Owner::Panic,
            Owner::Moved,
            Owner::Off,
            Owner::Fault,
            Owner::Incoming,
            Owner::Outgoing,
            Owner::Dump,
            Owner::Save,
            Owner::Load,
            Owner::Background,
        ];
        assert!(owners.iter().map(|owner| owner.as_str()).eq(XHoldOwner::DEF.values.iter().copied()));
        assert!(Origin::ALL.iter().map(|origin| origin.as_str()).eq(XOrigin::DEF.values.iter().copied()));
        assert_eq!(Spent::POWERS, XGuestPower::DEF.values);
    }

    #[test]
    fn every_action_keeps_its_name() {
        for reboot in runstate::RebootAction::ALL {
            for shutdown in runstate::ShutdownAction::ALL {
                for panic in runstate::PanicAction::ALL {
                    for watchdog in runstate::WatchdogAction::ALL {
                        let (reboot, shutdown, panic, watchdog) = (*reboot, *shutdown, *panic, *watchdog);
                        let wire = XActions::from(runstate::Actions { reboot, shutdown, panic, watchdog });
                        assert_eq!(wire.reboot.name(), reboot.as_str());
                        assert_eq!(wire.shutdown.name(), shutdown.as_str());
                        assert_eq!(wire.panic.name(), panic.as_str());
                        assert_eq!(wire.watchdog.name(), watchdog.as_str());
                    }
                }
            }
        }
    }
}
