//! The reference of the protocol, made from the definitions: `docs/qmp-reference.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use qmp::QMP_CAPABILITIES;
use qmp::schema::{ArgDef, CommandDef, EventDef, ObjectDef, Rate, Type};

use crate::commands::{Command, SUBJECTS};
use crate::events;
use crate::hmp::{self, Human, Run};

/// The page, in Markdown. Every command, event and type is on it, with what its definition says.
#[must_use]
pub fn reference() -> String {
    let mut page = Page::default();
    page.line("# Reference of QMP and the human monitor\n");
    page.line(
        "Made from the definitions; `UPDATE_DOCS=1 cargo test -p monitor --test reference` writes it anew.\n",
    );
    page.line("## Commands\n");
    page.line("### Negotiation\n");
    page.command(&QMP_CAPABILITIES, None);
    for (title, commands) in SUBJECTS {
        let mut of_qmp =
            commands.iter().filter_map(|command| Some((command, command.qmp.as_ref()?))).peekable();
        if of_qmp.peek().is_none() {
            continue;
        }
        page.line(&format!("### {title}\n"));
        for (command, qmp) in of_qmp {
            page.command(&qmp.def, Some(command));
        }
    }
    page.line("## Events\n");
    for def in events::ALL {
        page.event(def);
    }
    page.types();
    page.line("## The human monitor\n");
    page.line("| command | purpose | as QMP |\n|---|---|---|");
    for entry in hmp::commands(None) {
        page.human(entry.human, entry.command);
        if matches!(entry.human.run, Run::Table) {
            hmp::commands(Some(entry.human)).for_each(|sub| page.human(sub.human, sub.command));
        }
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// Types that have been named: how each is described.
    types: BTreeMap<&'static str, Named>,
}

#[derive(Clone, Copy)]
enum Named {
    Object(&'static ObjectDef),
    Enum(&'static qmp::schema::EnumDef),
    Alternate(&'static qmp::schema::AlternateDef),
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn command(&mut self, def: &'static CommandDef, command: Option<&Command>) {
        self.line(&format!("#### `{}`\n\n{}\n", def.name, def.doc));
        self.members(def.args);
        let mut facts = Vec::new();
        if !is_empty(def.returns) {
            facts.push(format!("Returns {}.", self.ty(def.returns)));
        }
        if def.allow_oob {
            facts.push("May be run out of band.".to_owned());
        }
        if let Some(human) = command.and_then(|command| command.human.as_ref()) {
            facts.push(format!("For people: `{}`.", human.full_name()));
        }
        if !facts.is_empty() {
            self.line(&format!("{}\n", facts.join(" ")));
        }
    }

    fn event(&mut self, def: &'static EventDef) {
        self.line(&format!("#### `{}`\n\n{}\n", def.name, def.doc));
        self.members(def.data);
        match def.rate {
            Rate::Free => {}
            Rate::OneASecond => {
                self.line("At most one a second is sent, the newest, unless it explains another event.\n");
            }
            Rate::OneASecondEach(member) => {
                self.line(&format!("At most one a second is sent for each `{member}`, the newest.\n"));
            }
        }
    }

    fn members(&mut self, members: &'static [ArgDef]) {
        for member in members {
            let ty = self.ty(member.ty);
            let optional = if member.optional { ", optional" } else { "" };
            let doc = if member.doc.is_empty() { String::new() } else { format!(": {}", member.doc) };
            self.line(&format!("* `{}` ({ty}{optional}){doc}", member.name));
        }
        if !members.is_empty() {
            self.line("");
        }
    }

    /// How a type is named, with a link when it is described below.
    fn ty(&mut self, ty: Type) -> String {
        let (name, named) = match ty {
            Type::Str => return "string".to_owned(),
            Type::Int => return "integer".to_owned(),
            Type::U8 => return "integer of 8 bits".to_owned(),
            Type::U16 => return "integer of 16 bits".to_owned(),
            Type::U32 => return "integer of 32 bits".to_owned(),
            Type::U64 => return "integer of 64 bits".to_owned(),
            Type::Number => return "number".to_owned(),
            Type::Bool => return "boolean".to_owned(),
            Type::Null => return "null".to_owned(),
            Type::Any => return "any value".to_owned(),
            Type::Array(element) => return format!("list of {}", self.ty(*element)),
            Type::Enum(def) => (def.name, Named::Enum(def)),
            Type::Object(def) => (def.name, Named::Object(def)),
            Type::Alternate(def) => (def.name, Named::Alternate(def)),
        };
        self.types.entry(name).or_insert(named);
        format!("[{name}](#{})", name.to_lowercase())
    }

    /// Describes every type that has been named, and those that these name.
    fn types(&mut self) {
        self.line("## Types\n");
        let mut described: BTreeMap<&'static str, String> = BTreeMap::new();
        while let Some((&name, &named)) = self.types.iter().find(|(name, _)| !described.contains_key(*name)) {
            let before = std::mem::take(&mut self.text);
            self.describe(name, named);
            described.insert(name, std::mem::replace(&mut self.text, before));
        }
        described.values().for_each(|text| self.text.push_str(text));
    }

    fn describe(&mut self, name: &str, named: Named) {
        self.line(&format!("#### {name}\n"));
        match named {
            Named::Object(def) => {
                self.line(&format!("{}\n", def.doc));
                self.members(def.members);
                let Some(variants) = &def.variants else { return };
                for &(case, variant) in variants.cases {
                    self.line(&format!("With `{}` `{case}` also:\n", variants.tag));
                    self.members(variant.members);
                }
            }
            Named::Enum(def) => {
                self.line(&format!("{}\n", def.doc));
                for (at, value) in def.values.iter().enumerate() {
                    let doc = def.value_docs.get(at).map_or_else(String::new, |doc| format!(": {doc}"));
                    self.line(&format!("* `{value}`{doc}"));
                }
                self.line("");
            }
            Named::Alternate(def) => {
                let choices: Vec<String> = def.choices.iter().map(|&choice| self.ty(choice)).collect();
                self.line(&format!("One of: {}.\n", choices.join(", ")));
            }
        }
    }

    fn human(&mut self, human: &Human, command: &Command) {
        let mut names = human.names.join("`, `");
        if let Some(parent) = human.parent {
            names = format!("{parent} {names}");
        }
        let params = human.params.replace('|', "\\|");
        let params = if params.is_empty() { String::new() } else { format!(" {params}") };
        let twin = command.qmp.as_ref().map_or(String::new(), |qmp| format!("`{}`", qmp.def.name));
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "| `{names}`{params} | {} | {twin} |", human.help);
    }
}

/// Whether a command returns nothing but that it is done.
fn is_empty(ty: Type) -> bool {
    matches!(ty, Type::Object(def) if def.members.is_empty() && def.variants.is_none())
}
