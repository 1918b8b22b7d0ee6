//! The human monitor: from QMP, and about itself.

use qmp::schema::{Type, arg, opt};
use qmp::{Args, QmpError};

use super::{Command, Env, command};
use crate::hmp::{self, HmpError, Human, Screen, Words};

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Runs a line of the human monitor and returns what it prints. A line that is wrong is no error of this command:
        /// the text says so.
        "human-monitor-command" [
            arg("command-line", Type::Str, "The line."),
            opt("cpu-index", Type::Int, "The CPU that commands about a CPU mean when they are not told; 0 if absent."),
        ] -> String = human_monitor_command
    }
    .lifecycle_query(|args| hmp::is_lifecycle_query(args.str("command-line"))),
    Command::of_human(
        Human::new(&["help", "?"], "list the commands, or say what one does", hmp::help)
            .words("[cmd]", Words::Commands),
    ),
    Command::of_human(Human::table(&["info"], "show something about the machine", "[subcommand]")),
    Command::of_human(Human::info(&["history"], "show the lines typed before", info_history)),
];

fn human_monitor_command(env: &Env<'_>, args: &Args) -> Result<String, QmpError> {
    let index = args.opt_i64("cpu-index").unwrap_or(0);
    let harts = env.engine().harts();
    let hart = u32::try_from(index).ok().filter(|index| harts.iter().any(|hart| hart.id == *index));
    let Some(hart) = hart else { return Err(QmpError::expects("cpu-index", "a CPU number")) };
    Ok(hmp::run_line(env, hart, &[], args.str("command-line")))
}

fn info_history(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    for (at, line) in screen.history.iter().enumerate() {
        screen.print(&format!("{at}: '{line}'"));
    }
    Ok(())
}
