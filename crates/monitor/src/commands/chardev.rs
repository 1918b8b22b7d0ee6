//! Character devices.

use qmp::schema::{Type, arg};
use qmp::{Args, QmpError, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Words, shorten};

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

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The character devices.
        "query-chardev" [] -> Vec<ChardevInfo> = |env: &Env<'_>, _: &Args| Ok((env.config().chardevs)())
    }
    .human(Human::info(&["chardev"], "show the character devices", |screen, _| {
        for device in (screen.env.config().chardevs)() {
            screen.print(&format!("{}: filename={}", device.label, device.filename));
        }
        Ok(())
    })),
    command! {
        /// Puts a BREAK condition on the line of a character device, as a key on its terminal would. The guest sees it on its
        /// serial port, when the machine is live.
        "chardev-send-break" [arg("id", Type::Str, "The device.")] -> () =
            |env: &Env<'_>, args: &Args| send_break(env, args.str("id"))
    }
    .human(
        Human::new(&["chardev-send-break"], "send a BREAK on a character device", |screen, words| {
            Ok::<(), HmpError>(send_break(screen.env, words.first().copied().unwrap_or_default())?)
        })
        .words("id", Words::One(&[])),
    ),
];

fn send_break(env: &Env<'_>, id: &str) -> Result<(), QmpError> {
    if (env.config().send_break)(id) {
        return Ok(());
    }
    Err(QmpError::generic(format!("Chardev '{}' not found", shorten(id))))
}
