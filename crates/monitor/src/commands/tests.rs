//! What must hold for every definition.

use super::*;
use crate::hmp::{self, Run, Words};
use qmp::schema::{ArgDef, Type};
use std::collections::HashSet;

#[test]
fn definitions_in_qmp_are_well_formed() {
    let mut names = HashSet::new();
    for def in all().filter_map(|command| command.qmp.as_ref()).map(|qmp| &qmp.def) {
        assert!(names.insert(def.name), "{} is defined twice", def.name);
        assert!(def.doc.ends_with('.'), "{} says what it does", def.name);
        assert!(
            matches!(def.returns, Type::Object(_) | Type::Array(_) | Type::Str | Type::Any),
            "{} returns what can grow",
            def.name
        );
        members(def.name, def.args);
    }
    for def in events::ALL {
        assert!(names.insert(def.name), "{} is defined twice", def.name);
        assert!(def.name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        assert!(def.doc.ends_with('.'), "{} says when it is sent", def.name);
        members(def.name, def.data);
    }
}

fn members(of: &str, members: &[ArgDef]) {
    let names: HashSet<&str> = members.iter().map(|member| member.name).collect();
    assert_eq!(names.len(), members.len(), "{of} has a member twice");
    assert!(members.iter().all(|member| member.doc.ends_with('.')), "{of} says what its members are");
}

#[test]
fn human_forms_are_well_formed() {
    let mut names = HashSet::new();
    for human in all().filter_map(|command| command.human.as_ref()) {
        assert!(!human.names.is_empty() && !human.help.is_empty(), "{} says what it does", human.full_name());
        for name in human.names {
            assert!(names.insert((human.parent, *name)), "{name} is defined twice");
        }
        if let Some(parent) = human.parent {
            let parent = hmp::commands(None).find(|entry| entry.human.is(parent));
            assert!(
                parent.is_some_and(|entry| matches!(entry.human.run, Run::Table)),
                "{}",
                human.full_name()
            );
        }
        let has_words = !matches!(human.words, Words::None) || matches!(human.run, Run::Table);
        assert_eq!(has_words, !human.params.is_empty(), "{} shows its words", human.full_name());
    }
}

#[test]
fn some_commands_depend_on_the_configuration() {
    let exists: Vec<&str> = all()
        .filter_map(|command| command.qmp.as_ref())
        .filter(|qmp| qmp.def.name.starts_with("x-test"))
        .map(|qmp| qmp.def.name)
        .collect();
    assert_eq!(exists, ["x-test-clock-advance", "x-test-hart-panic", "x-test-host-memory-error"]);
}
