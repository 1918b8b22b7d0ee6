//! Which machine this is.

use qmp::{Args, QmpError, qapi_struct};

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

qapi_struct! {
    /// The generation id, by which the guest sees whether it is the only one that has lived its past.
    GuidInfo {
        /// It.
        guid: String = "guid",
    }
}

qapi_struct! {
    /// What tells the machine apart from others that began from the same snapshot.
    XIdentityInfo {
        /// The generation id. A load and a fork of a snapshot each begin another generation.
        generation_id: String = "generation-id",
        /// Whether the guest sees it: `-device vmgenid`.
        visible: bool = "visible",
        /// Eight bytes in hexadecimal digits for the addresses of network cards to be drawn from. No device takes
        /// one from it yet. Another one for each fork.
        mac_seed: String = "mac-seed",
    }
}

/// A UUID, or another number of 16 bytes, as text.
pub fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex = hex(bytes);
    let group = |from: usize, to: usize| &hex[from..to];
    [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn generation_id(env: &Env<'_>) -> Result<String, QmpError> {
    let identity = env.context.engine().identity().filter(|_| env.config().vmgenid);
    let identity = identity.ok_or_else(|| QmpError::generic("VM Generation ID device not found"))?;
    Ok(uuid_text(&identity.generation))
}

fn identity(env: &Env<'_>, _: &Args) -> Result<XIdentityInfo, QmpError> {
    let identity = env.context.engine().identity();
    let identity = identity.ok_or_else(|| QmpError::generic("this machine has no identity"))?;
    Ok(XIdentityInfo {
        generation_id: uuid_text(&identity.generation),
        visible: env.config().vmgenid,
        mac_seed: hex(&identity.mac_seed),
    })
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
    command! {
        /// The generation id that the guest sees.
        "query-vm-generation-id" [] -> GuidInfo = |env: &Env<'_>, _: &Args| Ok(GuidInfo { guid: generation_id(env)? })
    }
    .human(Human::info(&["vm-generation-id"], "show the generation id that the guest sees", |screen, _| {
        let id = generation_id(screen.env)?;
        screen.print(&id);
        Ok(())
    })),
    command! {
        /// What tells the machine apart from others that began from the same snapshot.
        "x-query-identity" [] -> XIdentityInfo = identity
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_in_its_groups() {
        let bytes = std::array::from_fn(|at| at as u8 * 0x11);
        assert_eq!(uuid_text(&bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
