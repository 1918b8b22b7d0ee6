//! The answers of `-help`, `-version`, `-machine help` and `-cpu help`.

use super::machine::CPU_PROPERTIES;
use super::table::{Argument, OPTIONS, OptionDef};
use std::fmt::Write as _;

/// Where the descriptions begin.
const COLUMN: usize = 26;

/// The line of `-version`. Its beginning is what managers look for: the version of QEMU whose spelling and protocol this is.
pub(super) fn version() -> String {
    format!("QEMU emulator version 10.0.2 (dormouse {})\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `-help`: the whole table.
pub(super) fn options() -> String {
    let mut text = version();
    text.push_str(
        "usage: dormouse [options]\n\
         \x20      dormouse migrate|snapshot|inspect|timeline ... (each has a --help)\n\n\
         Runs a 64-bit RISC-V machine. Without -kernel it runs a small guest of its own.\n\
         Values are mostly lists of key=value, with commas inside a value doubled.\n\n",
    );
    let (here, later): (Vec<_>, Vec<_>) = OPTIONS.iter().partition(|option| !option.later);
    here.iter().for_each(|option| describe(&mut text, option));
    text.push_str("\nKnown, but not supported yet:\n");
    later.iter().for_each(|option| describe(&mut text, option));
    text.push_str(
        "\nOn the terminal: C-a c goes between console and monitor, C-a x ends the machine, C-a h shows more.\n",
    );
    text
}

fn describe(text: &mut String, option: &OptionDef) {
    let mut head = format!("-{}", option.name);
    for alias in option.aliases {
        let _ = write!(head, ", -{alias}");
    }
    match option.argument {
        Argument::None => {}
        Argument::Required(what) => {
            let _ = write!(head, " {what}");
        }
        Argument::OnOff => head.push_str(" [on|off]"),
    }
    if head.len() >= COLUMN {
        let _ = writeln!(text, "{head}\n{:COLUMN$}{}", "", option.help);
    } else {
        let _ = writeln!(text, "{head:COLUMN$}{}", option.help);
    }
}

/// The answer of `-machine help`.
pub(super) fn machines() -> String {
    "Supported machines are:\n\
     none                 empty machine\n\
     virt                 RISC-V VirtIO board (default)\n\
     Properties of virt: accel=tcg, suspend=on|off, aclint=on|off, wakeup-rtc=on|off, dumpdtb=FILE, memory-backend=ID\n"
        .to_owned()
}

/// The answer of `-cpu help`.
pub(super) fn cpus() -> String {
    format!(
        "Available CPUs:\n  max\n  rv64 (default)\n\nProperties, each =on or =off:\n  {}\n",
        CPU_PROPERTIES.join(" ")
    )
}
