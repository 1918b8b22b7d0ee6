//! Which machine this is.

use qmp::{Args, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::Human;

qapi_struct! {
    /// The name that the user gave the machine.
    NameInfo {
        /// It, if there is one.
        name: Option<String> = "name",
    }
}

qapi_struct! {
    /// The identity of the machine.
    UuidInfo {
        /// All zeros when none was given.
        uuid: String = "UUID",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The name of the machine.
        "query-name" [] -> NameInfo = |env: &Env<'_>, _: &Args| Ok(NameInfo { name: env.config().name.clone() })
    }
    .human(Human::info(&["name"], "show the name of the machine", |screen, _| {
        if let Some(name) = screen.env.config().name.clone() {
            screen.print(&name);
        }
        Ok(())
    })),
    command! {
        /// The identity of the machine.
        "query-uuid" [] -> UuidInfo = |env: &Env<'_>, _: &Args| Ok(UuidInfo { uuid: env.context.uuid().to_owned() })
    }
    .human(Human::info(&["uuid"], "show the identity of the machine", |screen, _| {
        screen.print(screen.env.context.uuid());
        Ok(())
    })),
];
