//! Character devices.

use qmp::{Args, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::Human;

qapi_struct! {
    /// A character device.
    ChardevInfo {
        /// Its id.
        label: String = "label",
        /// What it is connected with.
        filename: String = "filename",
        /// Whether the guest, or the monitor, has opened its side.
        frontend_open: bool = "frontend-open",
    }
}

pub(super) static COMMANDS: &[Command] = &[command! {
    /// The character devices.
    "query-chardev" [] -> Vec<ChardevInfo> = |env: &Env<'_>, _: &Args| Ok((env.config().chardevs)())
}
.human(Human::info(&["chardev"], "show the character devices", |screen, _| {
    for device in (screen.env.config().chardevs)() {
        screen.print(&format!("{}: filename={}", device.label, device.filename));
    }
    Ok(())
}))];
