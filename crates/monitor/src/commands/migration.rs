//! What managers ask about migration before they start anything. There is no migration yet: the one capability is the one
//! that they cannot do without.

use std::sync::atomic::Ordering;

use qmp::schema::{Qapi, QapiEnum, arg};
use qmp::{Args, QmpError, qapi_enum, qapi_struct};
use serde_json::Value;

use super::{Command, Env, command};

qapi_enum! {
    /// Something that a migration can do.
    MigrationCapability {
        /// It tells of its progress by events.
        Events = "events",
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
    /// The state of a migration; nothing when there was none.
    MigrationInfo {}
}

qapi_struct! {
    /// The settings of migrations.
    MigrationParameters {}
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The state of the last migration.
        "query-migrate" [] -> MigrationInfo = |_: &Env<'_>, _: &Args| Ok(MigrationInfo {})
    },
    command! {
        /// What migrations can do, and which of it is on.
        "query-migrate-capabilities" [] -> Vec<MigrationCapabilityStatus> = |env: &Env<'_>, _: &Args| {
            let state = env.context.migration_events.load(Ordering::SeqCst);
            Ok(vec![MigrationCapabilityStatus { capability: MigrationCapability::Events, state }])
        }
    },
    command! {
        /// Switches on or off what migrations can do.
        "migrate-set-capabilities" [
            arg("capabilities", <Vec<MigrationCapabilityStatus>>::TYPE, "The capabilities to change."),
        ] -> () = migrate_set_capabilities
    },
    command! {
        /// The settings of migrations.
        "query-migrate-parameters" [] -> MigrationParameters = |_: &Env<'_>, _: &Args| Ok(MigrationParameters {})
    },
];

fn migrate_set_capabilities(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    for status in args.value("capabilities").and_then(Value::as_array).into_iter().flatten() {
        let name = status.get("capability").and_then(Value::as_str).unwrap_or_default();
        let on = status.get("state").and_then(Value::as_bool).unwrap_or(false);
        if MigrationCapability::from_name(name) == Some(MigrationCapability::Events) {
            env.context.migration_events.store(on, Ordering::SeqCst);
        }
    }
    Ok(())
}
