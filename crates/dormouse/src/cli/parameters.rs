//! The parameters of the options that take lists, for `query-command-line-options`.
//!
//! The parsers beside this module take the lists apart; a test holds that they know each parameter that is told here.

use monitor::CommandLineParameterType::{self, Boolean, Number, Size, String as Text};
use monitor::{CommandLineOptionInfo, CommandLineParameterInfo};

type Parameters = &'static [(&'static str, CommandLineParameterType)];

/// Option and parameters. QEMU calls the lists of `-smp`, `-m` and `-boot` by other names than the options.
#[rustfmt::skip]
static LISTS: &[(&str, Parameters)] = &[
    ("machine", &[
        ("type", Text), ("accel", Text), ("dumpdtb", Text), ("memory-backend", Text), ("suspend", Boolean),
        ("aclint", Boolean), ("wakeup-rtc", Boolean), ("usb", Boolean), ("acpi", Text), ("graphics", Boolean),
        ("mem-merge", Boolean), ("dump-guest-core", Boolean), ("aia", Text),
    ]),
    ("accel", &[("accel", Text), ("tb-size", Number)]),
    ("smp-opts", &[
        ("cpus", Number), ("maxcpus", Number), ("sockets", Number), ("cores", Number), ("threads", Number),
    ]),
    ("memory", &[("size", Size)]),
    ("device", &[("driver", Text), ("id", Text), ("drive", Text), ("serial", Text)]),
    ("drive", &[
        ("file", Text), ("format", Text), ("if", Text), ("id", Text), ("media", Text), ("cache", Text), ("aio", Text),
        ("discard", Text), ("werror", Text), ("rerror", Text), ("read-only", Boolean),
    ]),
    ("rtc", &[("base", Text), ("clock", Text), ("driftfix", Text)]),
    ("icount", &[("shift", Text)]),
    ("name", &[("guest", Text), ("process", Text), ("debug-threads", Boolean)]),
    ("action", &[("reboot", Text), ("shutdown", Text), ("panic", Text), ("watchdog", Text)]),
    ("chardev", &[
        ("backend", Text), ("path", Text), ("host", Text), ("port", Text), ("fd", Text), ("server", Boolean),
        ("wait", Boolean), ("nodelay", Boolean), ("mux", Boolean), ("signal", Boolean), ("append", Boolean),
    ]),
    ("mon", &[("chardev", Text), ("mode", Text), ("pretty", Boolean), ("x-allow", Text), ("x-peer-uid", Number)]),
    ("add-fd", &[("fd", Number), ("set", Number), ("opaque", Text)]),
    ("msg", &[("timestamp", Boolean), ("guest-name", Boolean)]),
];

/// What `query-command-line-options` tells: the options with lists.
pub fn command_line_options() -> Vec<CommandLineOptionInfo> {
    let parameter = |&(name, ty): &(&str, CommandLineParameterType)| CommandLineParameterInfo {
        name: name.to_owned(),
        ty,
        help: None,
        default: None,
    };
    let option = |&(option, parameters): &(&str, Parameters)| CommandLineOptionInfo {
        option: option.to_owned(),
        parameters: parameters.iter().map(parameter).collect(),
    };
    LISTS.iter().map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of that option which has all that must be there.
    fn option_and_rest(list: &str) -> (&str, &str) {
        match list {
            "smp-opts" => ("smp", "cpus=1"),
            "memory" => ("m", "size=1G"),
            "accel" => ("accel", "accel=tcg"),
            "device" => ("device", "driver=virtio-blk-device"),
            "drive" => ("drive", "file=/dev/null,format=raw"),
            "icount" => ("icount", "shift=1"),
            "mon" => ("mon", "chardev=none"),
            "add-fd" => ("add-fd", "fd=0,set=1"),
            _ => (list, ""),
        }
    }

    /// What the parser says of `option` with this parameter and a value of its type.
    fn said(list: &str, name: &str, ty: CommandLineParameterType) -> String {
        let (option, rest) = option_and_rest(list);
        let value = match ty {
            Boolean => "on",
            Number => "1",
            Size => "1G",
            Text => "x",
        };
        let rest = match (list, name) {
            ("chardev", "path" | "host" | "port" | "fd" | "server" | "wait" | "nodelay") => {
                "backend=socket,id=a"
            }
            ("chardev", "append") => "backend=file,id=a,path=/x",
            ("chardev", _) => "backend=stdio,id=a",
            _ => rest,
        };
        let text = format!("{rest},{name}={value}");
        match super::super::parse([&format!("-{option}"), text.trim_start_matches(',')]) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn is_unknown(error: &str, name: &str) -> bool {
        [
            format!("Invalid parameter '{name}'"),
            format!(".{name}' not found"),
            format!("Parameter '{name}' is unexpected"),
            format!("does not support the option '{name}'"),
        ]
        .iter()
        .any(|words| error.contains(words))
    }

    #[test]
    fn the_parsers_know_each_parameter_and_no_other() {
        for (list, parameters) in LISTS {
            for (name, ty) in *parameters {
                let error = said(list, name, *ty);
                assert!(!is_unknown(&error, name), "-{list} {name}: {error}");
            }
            let error = said(list, "x-no-such-parameter", Text);
            assert!(is_unknown(&error, "x-no-such-parameter"), "-{list}: {error}");
        }
    }
}
