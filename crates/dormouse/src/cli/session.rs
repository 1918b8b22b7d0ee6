//! Options about the process and its consoles: names, actions, character devices, monitors, logs.

use super::error::ValueError;
use super::options::{Builder, Incoming, InheritedFd, Monitor, MonitorKind};
use backends::keyval::{KeyValError, KeyVals, number};
use backends::{CharKind, CharSpec, SocketAddress, SpecError};
use monitor::AllowList;
use runstate::{ActionChange, WakeSwitch};
use std::str::FromStr;

/// `-name`.
pub(super) fn name(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("guest"))?;
    builder.name = list.take("guest").or(builder.name.take());
    // Our threads always have names.
    list.take_bool("debug-threads")?;
    list.take("process");
    Ok(list.finish()?)
}

/// `-uuid`.
pub(super) fn uuid(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.uuid = Some(parse_uuid(value).ok_or(ValueError::Uuid)?);
    Ok(())
}

/// The bytes of a UUID, in the order of its text.
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<_> = text.split('-').collect();
    if !groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits: Vec<u8> = groups
        .concat()
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    Some(uuid)
}

/// `-action`.
pub(super) fn action(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    let ActionChange { reboot, shutdown, panic, watchdog } = &mut builder.actions;
    *reboot = take_action(&mut list, "reboot")?.or(*reboot);
    *shutdown = take_action(&mut list, "shutdown")?.or(*shutdown);
    *panic = take_action(&mut list, "panic")?.or(*panic);
    *watchdog = take_action(&mut list, "watchdog")?.or(*watchdog);
    Ok(list.finish()?)
}

fn take_action<T: FromStr>(list: &mut KeyVals, key: &str) -> Result<Option<T>, KeyValError> {
    list.take(key).map(|value| parse_action(key, &value)).transpose()
}

fn parse_action<T: FromStr>(key: &str, value: &str) -> Result<T, KeyValError> {
    value.parse().map_err(|_| KeyValError::BadValue { key: key.to_owned(), value: value.to_owned() })
}

/// `-x-wake`: all is on that is not switched off.
pub(super) fn wake(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    for switch in WakeSwitch::ALL {
        if let Some(on) = list.take_bool(switch.as_str())? {
            builder.wake_policy = builder.wake_policy.set(switch, on);
        }
    }
    Ok(list.finish()?)
}

/// `-incoming`. The last one counts.
pub(super) fn incoming(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.incoming = Some(match value {
        "defer" => Incoming::Defer,
        _ => Incoming::From(value.to_owned(), value.parse()?),
    });
    Ok(())
}

/// `-watchdog-action`.
pub(super) fn watchdog_action(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.actions.watchdog = Some(parse_action("watchdog", value)?);
    Ok(())
}

/// `-gdb`. The last one counts.
pub(super) fn gdb(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.gdb = gdb_place(value)?;
    Ok(())
}

/// Where a gdb stub listens; nowhere for `none`. As in QEMU it is a server that waits for nobody if the place is a port, and
/// what was asked for elsewhere.
pub fn gdb_place(value: &str) -> Result<Option<CharSpec>, SpecError> {
    let mut spec = CharSpec::parse_short(value)?;
    match &mut spec.kind {
        CharKind::None => return Ok(None),
        CharKind::Socket(socket) if matches!(socket.address, SocketAddress::Tcp { .. }) => {
            (socket.server, socket.wait) = (true, false);
        }
        _ => {}
    }
    Ok(Some(spec))
}

/// `-serial`.
pub(super) fn serial(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.serials.push(CharSpec::parse_short(value)?);
    Ok(())
}

/// `-monitor`.
pub(super) fn monitor(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    add_monitor(builder, MonitorKind::Readline, value)
}

/// `-qmp`.
pub(super) fn qmp(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    add_monitor(builder, MonitorKind::Control { pretty: false }, value)
}

/// `-qmp-pretty`.
pub(super) fn qmp_pretty(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    add_monitor(builder, MonitorKind::Control { pretty: true }, value)
}

fn add_monitor(builder: &mut Builder, kind: MonitorKind, value: &str) -> Result<(), ValueError> {
    let on = CharSpec::parse_short(value)?;
    builder.monitor_given |= kind == MonitorKind::Readline;
    match on.kind {
        CharKind::None => {}
        // Nobody could ever talk to it.
        CharKind::Null => {}
        CharKind::File { .. } => return Err(ValueError::UnsupportedValue(value.to_owned())),
        _ => builder.monitors.push(Monitor::plain(kind, on)),
    }
    Ok(())
}

/// `-mon`.
pub(super) fn mon(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("chardev"))?;
    let id = list.require("chardev")?;
    let pretty = list.take_bool("pretty")?.unwrap_or(false);
    let kind = match list.take("mode").as_deref() {
        Some("control") => MonitorKind::Control { pretty },
        None | Some("readline") if pretty => return Err(ValueError::PrettyForPeople),
        None | Some("readline") => MonitorKind::Readline,
        Some(other) => {
            return Err(KeyValError::BadValue { key: "mode".into(), value: other.into() }.into());
        }
    };
    list.take("id");
    let allow = list.take("x-allow").map(|text| AllowList::parse(&text)).transpose()?;
    let peer_uid = list.take_number("x-peer-uid")?.map(|uid| u32::try_from(uid).map_err(|_| ValueError::Uid));
    let peer_uid = peer_uid.transpose()?;
    list.finish()?;
    builder.monitor_given |= kind == MonitorKind::Readline;
    let on = CharSpec::plain(CharKind::Ref(id));
    builder.monitors.push(Monitor { allow, peer_uid, ..Monitor::plain(kind, on) });
    Ok(())
}

/// `-chardev`.
pub(super) fn chardev(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let (id, spec) = CharSpec::parse_long(value)?;
    if builder.chardevs.iter().any(|(other, _)| *other == id) {
        return Err(ValueError::DuplicateId { id, kind: "chardev" });
    }
    builder.chardevs.push((id, spec));
    Ok(())
}

/// `-add-fd`.
pub(super) fn add_fd(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    let mut take = |key: &'static str| {
        let text = list.take(key).and_then(|text| text.parse::<i32>().ok());
        text.filter(|&number| number >= 0).ok_or(ValueError::AddFd(key))
    };
    let (fd, set) = (take("fd")?, take("set")?.unsigned_abs());
    let opaque = list.take("opaque");
    list.finish()?;
    builder.inherited.push(InheritedFd { set, fd, opaque });
    Ok(())
}

/// `-display` and what else could ask for a window or a device we do not have: only `none` is there.
pub(super) fn only_none(_: &mut Builder, value: &str) -> Result<(), ValueError> {
    match value {
        "none" => Ok(()),
        other => Err(ValueError::UnsupportedValue(other.to_owned())),
    }
}

/// `-msg`.
pub(super) fn msg(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    builder.logging.timestamps = list.take_bool("timestamp")?.unwrap_or(false);
    list.take_bool("guest-name")?;
    Ok(list.finish()?)
}

/// `-boot`: there is one thing to start from, so the order says nothing.
pub(super) fn boot(_: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("order"))?;
    for key in ["order", "once", "menu", "splash", "splash-time", "reboot-timeout", "strict"] {
        list.take(key);
    }
    Ok(list.finish()?)
}

/// `-overcommit`: memory is not locked, and harts yield the host's CPU when idle.
pub(super) fn overcommit(_: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    for key in ["mem-lock", "cpu-pm"] {
        if list.take_bool(key)?.unwrap_or(false) {
            return Err(ValueError::UnsupportedValue(format!("{key}=on")));
        }
    }
    Ok(list.finish()?)
}

/// `-sandbox`: accepted for managers; the process confines nothing yet.
pub(super) fn sandbox(_: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("enable"))?;
    list.take_bool("enable")?;
    for key in ["obsolete", "elevateprivileges", "spawn", "resourcecontrol"] {
        list.take(key);
    }
    Ok(list.finish()?)
}

/// `-x-hart-nice`.
pub(super) fn hart_nice(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let nice = number(value).and_then(|nice| i32::try_from(nice).ok()).filter(|nice| *nice <= 19);
    builder.hart_nice = Some(nice.ok_or(ValueError::Nice)?);
    Ok(())
}
