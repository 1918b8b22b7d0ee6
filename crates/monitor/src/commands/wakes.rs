//! What may wake the guest, what did, and what the operator allows.

use std::fmt::Write as _;

use engine::{WakeInfo, WakeRecord};
use qmp::schema::{Type, opt};
use qmp::{Args, QmpError, qapi_struct};
use runstate::{ManagementRequest, WakeChange, WakeSwitch};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words, shorten};

qapi_struct! {
    /// One wake of the guest, or one that was not delivered.
    XWakeRecord {
        /// Its source.
        source: String = "source",
        /// Why it was not delivered: latched, forbidden or masked. Absent when it woke the guest.
        fate: Option<String> = "fate",
        /// Host time in nanoseconds since 1970.
        wall_ns: i64 = "wall-ns",
        /// Guest time in nanoseconds.
        guest_ns: i64 = "guest-ns",
    }
}

qapi_struct! {
    /// A wake source.
    XWakeSource {
        /// Its name: management, rtc0, rtc1, serial0, power-button, or that of an interrupt.
        source: String = "source",
        /// Whether the operator's policy allows it.
        allowed: bool = "allowed",
        /// Who has armed it: always, device or interrupt-controller. Absent when nobody has. Counts for a guest that sleeps;
        /// one that is awake may mask the source before it does.
        armed_by: Option<String> = "armed-by",
        /// Whether what it waits for has happened.
        due: bool = "due",
        /// When its alarm is due, on the guest's clock that it is set on, in nanoseconds since 1970.
        alarm_ns: Option<i64> = "alarm-ns",
        /// How long that clock has to go until then, in nanoseconds.
        left_ns: Option<i64> = "left-ns",
        /// How often it has woken the guest.
        delivered: i64 = "delivered",
        /// How many of its wakes had to wait because the machine was stopped.
        latched: i64 = "latched",
        /// How many the policy forbade.
        forbidden: i64 = "forbidden",
        /// How many the guest had masked.
        masked: i64 = "masked",
        /// The last of them all.
        last: Option<XWakeRecord> = "last",
    }
}

qapi_struct! {
    /// All about wakes.
    XWakes {
        /// The sources.
        sources: Vec<XWakeSource> = "sources",
        /// The source whose wake waits until the machine goes on.
        latched: Option<String> = "latched",
        /// What woke the guest last.
        last_wake: Option<XWakeRecord> = "last-wake",
        /// The last wake that was forbidden or masked.
        last_refused: Option<XWakeRecord> = "last-refused",
    }
}

/// The names of the switches, for people.
const SWITCHES: &[&str] = &["rtc0", "rtc1", "serial0", "power-button", "interrupt", "device"];

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// What may wake the guest from a suspend to RAM, what woke it, and what did not and why.
        "x-query-wakes" [] -> XWakes = |env: &Env<'_>, _: &Args| Ok(wakes(env))
    }
    .human(Human::info(&["wakeup"], "show what may wake the guest, and what did", info_wakeup)),
    command! {
        /// Allows and forbids wake sources. What is not given stays as it is. A source that becomes allowed when it is due
        /// wakes the guest at once. Management always may.
        "x-set-wake-policy" [
            opt("rtc0", Type::Bool, "Whether the alarm of the first real-time clock may wake the guest."),
            opt("rtc1", Type::Bool, "Whether the alarm of the second may."),
            opt("serial0", Type::Bool, "Whether input on the serial line may."),
            opt("power-button", Type::Bool, "Whether the power button may."),
            opt("interrupt", Type::Bool, "Whether any other interrupt may that the guest left unmasked."),
            opt("device", Type::Bool, "Whether any other device may."),
        ] -> () = set_wake_policy
    },
    Command::of_human(
        Human::new(&["x_wake_allow"], "let a source wake the guest", |screen, words| {
            switch(screen, words, true)
        })
        .words("rtc0|rtc1|serial0|power-button|interrupt|device", Words::One(SWITCHES)),
    ),
    Command::of_human(
        Human::new(&["x_wake_forbid"], "do not let a source wake the guest", |screen, words| {
            switch(screen, words, false)
        })
        .words("rtc0|rtc1|serial0|power-button|interrupt|device", Words::One(SWITCHES)),
    ),
];

fn set_wake_policy(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let given =
        WakeSwitch::ALL.into_iter().filter_map(|switch| Some((switch, args.opt_bool(switch.as_str())?)));
    let change = given.fold(WakeChange::default(), |change, (switch, on)| change.set(switch, on));
    env.manage(ManagementRequest::SetWakePolicy(change))
}

fn switch(screen: &mut Screen<'_>, words: &[&str], on: bool) -> Result<(), HmpError> {
    let word = words.first().copied().unwrap_or_default();
    let switch: WakeSwitch = word.parse().map_err(|_| HmpError::BadValue(shorten(word)))?;
    screen.manage(ManagementRequest::SetWakePolicy(WakeChange::default().set(switch, on)))
}

fn int(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn record(record: WakeRecord) -> XWakeRecord {
    XWakeRecord {
        source: record.source.to_string(),
        fate: record.fate.map(|fate| fate.as_str().to_owned()),
        wall_ns: int(record.at.as_nanos()),
        guest_ns: int(record.guest_ns),
    }
}

fn source(info: &WakeInfo) -> XWakeSource {
    XWakeSource {
        source: info.state.source.to_string(),
        allowed: info.allowed,
        armed_by: info.state.armed.map(|armed| armed.as_str().to_owned()),
        due: info.state.due,
        alarm_ns: info.state.alarm.map(|alarm| int(alarm.rtc_ns)),
        left_ns: info.state.alarm.map(|alarm| int(alarm.left_ns)),
        delivered: int(info.counts.delivered),
        latched: int(info.counts.latched),
        forbidden: int(info.counts.forbidden),
        masked: int(info.counts.masked),
        last: info.last.map(record),
    }
}

fn wakes(env: &Env<'_>) -> XWakes {
    let report = env.engine().wakes();
    XWakes {
        sources: report.sources.iter().map(source).collect(),
        latched: report.latched.map(|source| source.to_string()),
        last_wake: report.last_wake.map(record),
        last_refused: report.last_refused.map(record),
    }
}

/// One line a source: `rtc0: armed by interrupt-controller, due in 3.2 s; delivered 1`.
fn info_wakeup(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    let report = wakes(screen.env);
    if report.sources.is_empty() {
        screen.print("the machine cannot suspend");
    }
    for source in &report.sources {
        let mut line = match &source.armed_by {
            Some(by) if by == "always" => format!("{}: always armed", source.source),
            Some(by) => format!("{}: armed by {by}", source.source),
            None => format!("{}: not armed", source.source),
        };
        let parts = [
            (!source.allowed, ", forbidden".to_owned()),
            (source.due, ", due".to_owned()),
            (source.left_ns.is_some(), format!(", alarm in {}", seconds(source.left_ns.unwrap_or(0)))),
        ];
        parts.iter().filter(|(shown, _)| *shown).for_each(|(_, part)| line.push_str(part));
        let counts = [
            ("delivered", source.delivered),
            ("latched", source.latched),
            ("forbidden", source.forbidden),
            ("masked", source.masked),
        ];
        for (index, (what, count)) in counts.iter().filter(|(_, count)| *count != 0).enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(line, "{} {count} {what}", if index == 0 { ";" } else { "," });
        }
        screen.print(&line);
    }
    if let Some(latched) = &report.latched {
        screen.print(&format!("latched: {latched}"));
    }
    for (what, record) in [("last wake", &report.last_wake), ("last refused", &report.last_refused)] {
        let Some(XWakeRecord { source, fate, guest_ns, .. }) = record else { continue };
        let fate = fate.as_ref().map(|fate| format!(" ({fate})")).unwrap_or_default();
        screen.print(&format!("{what}: {source}{fate} at guest time {}", seconds(*guest_ns)));
    }
    Ok(())
}

fn seconds(ns: i64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_can_be_set_by_its_name() {
        assert_eq!(SWITCHES, WakeSwitch::ALL.map(WakeSwitch::as_str));
    }
}
