//! What migrations are set to: capabilities and parameters.

use migration::{Capability, Change, Compression, Number, Text};
use qmp::schema::{CommandDef, Qapi as _, QapiEnum, arg};
use qmp::{Args, QmpError, qapi_enum, qapi_struct};
use serde_json::Value;

use super::{refused, text};
use crate::commands::{Command, Env, command};
use crate::events::members;
use crate::hmp::{HmpError, Human, Screen, Words, shorten};

qapi_enum! {
    /// Something that a migration can do.
    MigrationCapability {
        /// A guest that writes faster than is sent is slowed down.
        AutoConverge = "auto-converge",
        /// It tells of its progress by events.
        Events = "events",
        /// The guest may go on over there before all of its memory is.
        PostcopyRam = "postcopy-ram",
        /// It waits for `migrate-continue` once the machine is held.
        PauseBeforeSwitchover = "pause-before-switchover",
        /// Memory goes over several connections.
        Multifd = "multifd",
        /// The other side answers.
        ReturnPath = "return-path",
        /// The machine as it is now goes away, while it goes on.
        BackgroundSnapshot = "background-snapshot",
        /// Each page has its place in the file.
        MappedRam = "mapped-ram",
    }
}

qapi_enum! {
    /// How memory is compressed.
    MultiFDCompression {
        /// Not.
        None = "none",
        /// By zstd.
        Zstd = "zstd",
    }
}

qapi_enum! {
    /// What a migration is for.
    MigMode {
        /// To move the machine.
        Normal = "normal",
    }
}

qapi_struct! {
    /// A capability and whether it is on.
    MigrationCapabilityStatus {
        /// The capability.
        capability: MigrationCapability = "capability",
        /// Whether it is on.
        state: bool = "state",
    }
}

qapi_struct! {
    /// The settings of migrations. Those that are not given stay as they are.
    MigrationParameters {
        /// ms before the network is told that the guest has moved.
        announce_initial: Option<u64> = "announce-initial",
        /// Most ms between two such announcements.
        announce_max: Option<u64> = "announce-max",
        /// How many announcements.
        announce_rounds: Option<u64> = "announce-rounds",
        /// By how many ms the time between them grows.
        announce_step: Option<u64> = "announce-step",
        /// Percent of what was sent that the guest may write anew before it is slowed down (`auto-converge`).
        throttle_trigger_threshold: Option<u8> = "throttle-trigger-threshold",
        /// Percent by which it is slowed down first.
        cpu_throttle_initial: Option<u8> = "cpu-throttle-initial",
        /// Percent by which that grows.
        cpu_throttle_increment: Option<u8> = "cpu-throttle-increment",
        /// Whether the last steps of that are small.
        cpu_throttle_tailslow: Option<bool> = "cpu-throttle-tailslow",
        /// The id of the object with the certificates, for `tcp:`; empty for none.
        tls_creds: Option<String> = "tls-creds",
        /// Whose certificate is expected, if not that of the host.
        tls_hostname: Option<String> = "tls-hostname",
        /// The id of the object that says who may connect.
        tls_authz: Option<String> = "tls-authz",
        /// Most bytes a second; 0 is no limit.
        max_bandwidth: Option<u64> = "max-bandwidth",
        /// Bytes a second that are counted on for the switch-over; 0 is as measured.
        avail_switchover_bandwidth: Option<u64> = "avail-switchover-bandwidth",
        /// ms that the guest may stand at the switch-over.
        downtime_limit: Option<u64> = "downtime-limit",
        /// How many connections (`multifd`).
        multifd_channels: Option<u8> = "multifd-channels",
        /// How hard zstd compresses, from 1 to 20; 0 is its own default. Over one connection too.
        multifd_zstd_level: Option<u8> = "multifd-zstd-level",
        /// Most bytes a second in postcopy; 0 is no limit.
        max_postcopy_bandwidth: Option<u64> = "max-postcopy-bandwidth",
        /// Most percent by which the guest is slowed down.
        max_cpu_throttle: Option<u8> = "max-cpu-throttle",
        /// How memory is compressed; if never said, by zstd over `tcp:` and not elsewhere.
        multifd_compression: Option<MultiFDCompression> = "multifd-compression",
        /// What migrations are for.
        mode: Option<MigMode> = "mode",
    }
}

pub(super) const QUERY_CAPABILITIES: Command = command! {
    /// What migrations can do, and which of it is on.
    "query-migrate-capabilities" [] -> Vec<MigrationCapabilityStatus> = |env: &Env<'_>, _: &Args| {
        let set = env.context.migrations.capabilities();
        let available = Capability::ALL.into_iter().filter(|capability| capability.is_available());
        let status = |capability: Capability| {
            let state = set.has(capability);
            // Both sides list the same names, which the tests hold.
            let capability = MigrationCapability::from_name(capability.name())?;
            Some(MigrationCapabilityStatus { capability, state })
        };
        Ok(available.filter_map(status).collect())
    }
}
.human(Human::info(&["migrate_capabilities"], "show what migrations can do", info_capabilities));

pub(super) const SET_CAPABILITIES: Command = command! {
    /// Switches on or off what migrations can do: all of it or, if one cannot be, none.
    "migrate-set-capabilities" [
        arg("capabilities", <Vec<MigrationCapabilityStatus>>::TYPE, "The capabilities to change."),
    ] -> () = set_capabilities
}
.human(
    Human::new(&["migrate_set_capability"], "switch what migrations can do", set_capability_for_people)
        .words("CAPABILITY on|off", Words::Any(2, 2)),
);

pub(super) const QUERY_PARAMETERS: Command = command! {
    /// The settings of migrations.
    "query-migrate-parameters" [] -> MigrationParameters = |env: &Env<'_>, _: &Args| {
        Ok(MigrationParameters::from(&env.context.migrations.parameters()))
    }
}
.human(Human::info(&["migrate_parameters"], "show the settings of migrations", info_parameters));

/// Its arguments are the members of what the query returns.
pub(super) const SET_PARAMETERS: Command = Command::of_qmp(
    CommandDef {
        name: "migrate-set-parameters",
        doc: "Changes settings of migrations: all that are given or, if one is refused, none.",
        args: members(MigrationParameters::TYPE),
        returns: <()>::TYPE,
        allow_oob: false,
    },
    |env, args| set_parameters(env, args).map(|()| ().to_value()),
)
.human(
    Human::new(&["migrate_set_parameter"], "change a setting of migrations", set_parameter_for_people)
        .words("NAME VALUE", Words::Any(2, 2)),
);

fn capability(name: &str) -> Option<Capability> {
    Capability::ALL.into_iter().find(|capability| capability.name() == name)
}

fn set_capabilities(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let given = args.value("capabilities").and_then(Value::as_array).into_iter().flatten();
    let change = |status: &Value| {
        let on = status.get("state").and_then(Value::as_bool).unwrap_or(false);
        Some((capability(text(status, "capability")?)?, on))
    };
    let changes: Vec<_> = given.filter_map(change).collect();
    env.context.migrations.set_capabilities(&changes).map_err(refused)
}

fn set_capability_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let bad = |word: &str| HmpError::BadValue(shorten(word));
    let [name, state] = words else { return Ok(()) };
    let known = capability(name).ok_or_else(|| bad(name))?;
    let on = match *state {
        "on" => true,
        "off" => false,
        _ => return Err(bad(state)),
    };
    screen.env.context.migrations.set_capabilities(&[(known, on)]).map_err(refused)?;
    Ok(())
}

fn info_capabilities(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    let set = screen.env.context.migrations.capabilities();
    for capability in Capability::ALL.into_iter().filter(|capability| capability.is_available()) {
        let state = if set.has(capability) { "on" } else { "off" };
        screen.print(&format!("{}: {state}", capability.name()));
    }
    Ok(())
}

impl From<&migration::Parameters> for MigrationParameters {
    fn from(from: &migration::Parameters) -> Self {
        let number = |number| Some(from.number(number));
        let small = |number| u8::try_from(from.number(number)).ok();
        let text = |text| Some(from.text(text).to_owned());
        let compression = match from.compression().unwrap_or_default() {
            Compression::None => MultiFDCompression::None,
            Compression::Zstd => MultiFDCompression::Zstd,
        };
        Self {
            announce_initial: number(Number::AnnounceInitial),
            announce_max: number(Number::AnnounceMax),
            announce_rounds: number(Number::AnnounceRounds),
            announce_step: number(Number::AnnounceStep),
            throttle_trigger_threshold: small(Number::ThrottleTriggerThreshold),
            cpu_throttle_initial: small(Number::CpuThrottleInitial),
            cpu_throttle_increment: small(Number::CpuThrottleIncrement),
            cpu_throttle_tailslow: Some(from.tailslow()),
            tls_creds: text(Text::TlsCreds),
            tls_hostname: text(Text::TlsHostname),
            tls_authz: text(Text::TlsAuthz),
            max_bandwidth: number(Number::MaxBandwidth),
            avail_switchover_bandwidth: number(Number::AvailSwitchoverBandwidth),
            downtime_limit: number(Number::DowntimeLimit),
            multifd_channels: small(Number::MultifdChannels),
            multifd_zstd_level: small(Number::MultifdZstdLevel),
            max_postcopy_bandwidth: number(Number::MaxPostcopyBandwidth),
            max_cpu_throttle: small(Number::MaxCpuThrottle),
            multifd_compression: Some(compression),
            mode: Some(MigMode::Normal),
        }
    }
}

fn set_parameters(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let compression =
        |name: &str| Compression::ALL.into_iter().find(|compression| compression.name() == name);
    let change = Change {
        numbers: Number::all().filter_map(|number| Some((number, args.opt_u64(number.name())?))).collect(),
        texts: Text::ALL
            .into_iter()
            .filter_map(|text| Some((text, args.opt_str(text.name())?.to_owned())))
            .collect(),
        tailslow: args.opt_bool("cpu-throttle-tailslow"),
        compression: args.opt_str("multifd-compression").and_then(compression),
    };
    env.context.migrations.set_parameters(&change).map_err(refused)
}

fn set_parameter_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let [name, value] = words else { return Ok(()) };
    let change = Change::parse(name, value).map_err(|error| QmpError::generic(error.to_string()))?;
    screen.env.context.migrations.set_parameters(&change).map_err(refused)?;
    Ok(())
}

fn info_parameters(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    for (name, value) in screen.env.context.migrations.parameters().lines() {
        screen.print(&format!("{name}: {value}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn both_sides_know_the_same_capabilities_and_parameters() {
        let ours: BTreeSet<_> = Capability::ALL.iter().map(|capability| capability.name()).collect();
        let wire: BTreeSet<_> = MigrationCapability::ALL.iter().map(|capability| capability.name()).collect();
        assert_eq!(ours, wire);
        let defaults = migration::Parameters::default();
        let ours: BTreeSet<_> = defaults.lines().into_iter().map(|(name, _)| name).collect();
        let value = MigrationParameters::from(&defaults).to_value();
        let wire: BTreeSet<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(ours, wire);
        for number in Number::all() {
            assert_eq!(value[number.name()].as_u64(), Some(defaults.number(number)));
        }
    }
}
