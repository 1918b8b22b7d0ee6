//! What a client can find out about this program before it uses it.

use qmp::schema::{Type, opt};
use qmp::types::{CommandInfo, VersionInfo};
use qmp::{Args, QmpError, Schema, qapi_enum, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::Human;

qapi_enum! {
    /// The type of a command line parameter.
    CommandLineParameterType {
        /// Any text.
        String = "string",
        /// `on` or `off`.
        Boolean = "boolean",
        /// A number.
        Number = "number",
        /// A size in bytes with an optional suffix.
        Size = "size",
    }
}

qapi_struct! {
    /// A parameter of a command line option.
    CommandLineParameterInfo {
        /// Its name.
        name: String = "name",
        /// Its type.
        ty: CommandLineParameterType = "type",
        /// What it is for.
        help: Option<String> = "help",
        /// Its value when it is not given.
        default: Option<String> = "default",
    }
}

qapi_struct! {
    /// A command line option.
    CommandLineOptionInfo {
        /// Its name, without the dash.
        option: String = "option",
        /// Its parameters.
        parameters: Vec<CommandLineParameterInfo> = "parameters",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The version of QEMU that is spoken, and the name of this program.
        "query-version" [] -> VersionInfo = |env: &Env<'_>, _: &Args| Ok(env.context.version.clone())
    }
    .human(Human::info(
        &["version"],
        "show the version of QEMU that is spoken, and the program's",
        |screen, _| {
            let context = screen.env.context;
            screen.print(&format!("{} ({})", context.qemu_version(), context.config.program));
            Ok(())
        },
    )),
    command! {
        /// The commands that this connection may use.
        "query-commands" [] -> Vec<CommandInfo> = |env: &Env<'_>, _: &Args| Ok(env.client.commands.query_commands())
    },
    command! {
        /// Commands, events and types, for programs to read.
        "query-qmp-schema" [] -> Schema = |env: &Env<'_>, _: &Args| Ok(env.client.commands.query_qmp_schema().clone())
    },
    command! {
        /// The options of the command line, all or one.
        "query-command-line-options" [opt("option", Type::Str, "The option, without its dash.")]
            -> Vec<CommandLineOptionInfo> = query_command_line_options
    },
];

fn query_command_line_options(env: &Env<'_>, args: &Args) -> Result<Vec<CommandLineOptionInfo>, QmpError> {
    let all = &env.config().options;
    let Some(name) = args.opt_str("option") else { return Ok(all.clone()) };
    match all.iter().find(|option| option.option == name) {
        Some(option) => Ok(vec![option.clone()]),
        None => {
            let name: String = name.chars().take(80).collect();
            Err(QmpError::generic(format!("invalid option name: {name}")))
        }
    }
}
