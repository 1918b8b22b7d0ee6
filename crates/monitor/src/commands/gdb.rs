//! The gdb stub.

use super::Command;
use crate::hmp::{HmpError, Human, Screen, Words};

/// Where the stub listens when nothing else is said.
const DEFAULT: &str = "tcp::1234";

pub(super) static COMMANDS: &[Command] = &[Command::of_human(
    Human::new(
        &["gdbserver"],
        "start the gdb stub on a device (tcp::1234 by default), or stop it",
        gdbserver,
    )
    .words("[device|none]", Words::Optional(&["none", DEFAULT])),
)];

fn gdbserver(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let device = words.first().copied().unwrap_or(DEFAULT);
    match (screen.env.config().gdbserver)(device) {
        Err(error) => screen.print(&format!("Could not open gdbserver on device '{device}': {error}")),
        Ok(()) if device == "none" => screen.print("Disabled gdbserver"),
        Ok(()) => screen.print(&format!("Waiting for gdb connection on device '{device}'")),
    }
    Ok(())
}
