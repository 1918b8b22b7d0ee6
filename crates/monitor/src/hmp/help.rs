//! `help`, and the lists that commands with sub-commands print.

use super::{Entry, HmpError, Human, Run, Screen, commands, is_allowed, shorten, table};

/// The words that stand before the sub-commands of `parent` in what is printed.
fn before(parent: Option<&Human>) -> String {
    parent.map_or_else(String::new, |parent| format!("{} ", parent.full_name()))
}

/// `name [args] -- description`: the form that qmp-shell reads the commands from.
fn describe(screen: &mut Screen<'_>, parent: Option<&Human>, entry: Entry) {
    let Human { params, help, .. } = entry.human;
    screen.print(&format!("{}{} {params} -- {help}", before(parent), entry.human.names()));
}

/// Lists the commands without a parent, or the sub-commands of `parent`, as far as this client may use them.
pub(super) fn list(screen: &mut Screen<'_>, parent: Option<&Human>) {
    for entry in commands(parent) {
        if is_allowed(screen.env, entry) {
            describe(screen, parent, entry);
        }
    }
}

/// Runs `help`.
pub(crate) fn help(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let mut parent = None;
    for word in words {
        match table::find(parent, word) {
            Some(Entry { human, .. }) if matches!(human.run, Run::Table) => parent = Some(human),
            Some(entry) => {
                describe(screen, parent, entry);
                return Ok(());
            }
            None => {
                let typed = shorten(&format!("{}{word}", before(parent)));
                screen.print(&format!("unknown command: '{typed}'"));
                return Ok(());
            }
        }
    }
    list(screen, parent);
    Ok(())
}
