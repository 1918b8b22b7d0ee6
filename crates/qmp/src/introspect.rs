//! The answer of `query-qmp-schema`, made from the definitions.
//!
//! The form is QEMU's SchemaInfo. As in QEMU the names of types other than the built-in ones are numbers, so
//! that nobody comes to rely on them; an array is its element's name in brackets. Every type is listed once,
//! whichever way it is reached.

use crate::schema::{ArgDef, CommandDef, EnumDef, EventDef, ObjectDef, Qapi, Type, VariantsDef, arg, opt};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The schema of these commands and events.
pub(crate) fn schema(commands: &[&CommandDef], events: &[&EventDef]) -> Schema {
    let mut builder = Builder::default();
    for def in commands {
        let (arg_type, ret_type) = (builder.members(def.args), builder.name(def.returns));
        let mut entry =
            json!({"name": def.name, "ret-type": ret_type, "meta-type": "command", "arg-type": arg_type});
        if def.allow_oob
            && let Some(entry) = entry.as_object_mut()
        {
            entry.insert("allow-oob".to_owned(), true.into());
        }
        builder.tops.push(entry);
    }
    for def in events {
        let arg_type = builder.members(def.data);
        builder.tops.push(json!({"name": def.name, "meta-type": "event", "arg-type": arg_type}));
    }
    builder.tops.append(&mut builder.types);
    Schema(Value::Array(builder.tops))
}

/// Names the types as they are met and keeps their entries.
#[derive(Default)]
struct Builder {
    tops: Vec<Value>,
    types: Vec<Value>,
    names: HashSet<String>,
    /// The definitions met so far, a type's number being its place. A definition is known by its contents, as
    /// a constant may have several addresses.
    known: Vec<String>,
}

impl Builder {
    /// The name of a type; enters it, and those it needs, when it is new.
    fn name(&mut self, ty: Type) -> String {
        match ty {
            Type::Str => self.builtin("str", "string"),
            Type::Int | Type::U8 | Type::U16 | Type::U32 | Type::U64 => self.builtin("int", "int"),
            Type::Number => self.builtin("number", "number"),
            Type::Bool => self.builtin("bool", "boolean"),
            Type::Null => self.builtin("null", "null"),
            Type::Any => self.builtin("any", "value"),
            Type::Enum(def) => self.enumeration(def),
            Type::Array(element) => self.array(*element),
            Type::Object(def) => self.object(def.members, def.variants.as_ref()),
            Type::Alternate(def) => {
                let choices: Vec<Value> =
                    def.choices.iter().map(|&ty| json!({"type": self.name(ty)})).collect();
                self.numbered(json!({"members": choices, "meta-type": "alternate"}))
            }
        }
    }

    fn builtin(&mut self, name: &str, json_type: &str) -> String {
        if self.names.insert(name.to_owned()) {
            self.types.push(json!({"name": name, "json-type": json_type, "meta-type": "builtin"}));
        }
        name.to_owned()
    }

    fn array(&mut self, element: Type) -> String {
        let element = self.name(element);
        let name = format!("[{element}]");
        if self.names.insert(name.clone()) {
            self.types.push(json!({"name": name, "element-type": element, "meta-type": "array"}));
        }
        name
    }

    fn enumeration(&mut self, def: &EnumDef) -> String {
        let members: Vec<Value> = def.values.iter().map(|value| json!({"name": value})).collect();
        self.numbered(json!({"members": members, "meta-type": "enum", "values": def.values}))
    }

    /// The type of a command's arguments or an event's data.
    fn members(&mut self, members: &[ArgDef]) -> String {
        self.object(members, None)
    }

    fn object(&mut self, members: &[ArgDef], variants: Option<&VariantsDef>) -> String {
        let members: Vec<Value> = members.iter().map(|def| self.member(def)).collect();
        let mut entry = json!({"members": members, "meta-type": "object"});
        if let (Some(variants), Some(entry)) = (variants, entry.as_object_mut()) {
            let cases: Vec<Value> = variants.cases.iter().map(|&(case, def)| self.case(case, def)).collect();
            entry.insert("tag".to_owned(), variants.tag.into());
            entry.insert("variants".to_owned(), cases.into());
        }
        self.numbered(entry)
    }

    fn member(&mut self, def: &ArgDef) -> Value {
        let mut member = Map::new();
        member.insert("name".to_owned(), def.name.into());
        member.insert("type".to_owned(), self.name(def.ty).into());
        if def.optional {
            // "May be absent", without a word on what is then meant.
            member.insert("default".to_owned(), Value::Null);
        }
        Value::Object(member)
    }

    fn case(&mut self, case: &str, def: &'static ObjectDef) -> Value {
        json!({"case": case, "type": self.name(Type::Object(def))})
    }

    /// Gives an entry a number for a name, the same for the same contents.
    fn numbered(&mut self, mut entry: Value) -> String {
        let contents = entry.to_string();
        if let Some(number) = self.known.iter().position(|known| *known == contents) {
            return number.to_string();
        }
        let name = self.known.len().to_string();
        self.known.push(contents);
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("name".to_owned(), name.clone().into());
        }
        self.types.push(entry);
        name
    }
}

/// The answer of `query-qmp-schema`.
#[derive(Debug, Clone)]
pub struct Schema(Value);

impl Qapi for Schema {
    const TYPE: Type = Type::Array(&SCHEMA_INFO);

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

const STR: Type = Type::Str;
static STRS: Type = Type::Array(&STR);

/// A mandatory member of the entries, whose names say what they are.
const fn has(name: &'static str, ty: Type) -> ArgDef {
    arg(name, ty, "")
}

/// An optional one.
const fn may(name: &'static str, ty: Type) -> ArgDef {
    opt(name, ty, "")
}

static SCHEMA_INFO: Type = Type::Object(&ObjectDef {
    name: "SchemaInfo",
    doc: "An entry of the schema; types have numbers for names.",
    members: &[has("name", STR), has("meta-type", Type::Enum(&META_TYPE)), may("features", STRS)],
    variants: Some(VariantsDef {
        tag: "meta-type",
        cases: &[
            ("builtin", &BUILTIN),
            ("enum", &ENUM),
            ("array", &ARRAY),
            ("object", &OBJECT),
            ("alternate", &ALTERNATE),
            ("command", &COMMAND),
            ("event", &EVENT),
        ],
    }),
});

static META_TYPE: EnumDef = EnumDef {
    name: "SchemaMetaType",
    doc: "What an entry of the schema defines.",
    values: &["builtin", "enum", "array", "object", "alternate", "command", "event"],
    value_docs: &[],
};
static JSON_TYPE: EnumDef = EnumDef {
    name: "JSONType",
    doc: "The form of a built-in type in JSON.",
    values: &["string", "number", "int", "boolean", "null", "object", "array", "value"],
    value_docs: &[],
};

/// An object type without variants.
const fn plain(name: &'static str, doc: &'static str, members: &'static [ArgDef]) -> ObjectDef {
    ObjectDef { name, doc, members, variants: None }
}

static BUILTIN: ObjectDef =
    plain("SchemaInfoBuiltin", "A built-in type.", &[has("json-type", Type::Enum(&JSON_TYPE))]);
static ENUM_MEMBER: ObjectDef =
    plain("SchemaInfoEnumMember", "A value of an enumeration.", &[has("name", STR), may("features", STRS)]);
static ENUM: ObjectDef = plain(
    "SchemaInfoEnum",
    "An enumeration.",
    &[has("members", Type::Array(&Type::Object(&ENUM_MEMBER))), has("values", STRS)],
);
static ARRAY: ObjectDef = plain("SchemaInfoArray", "An array type.", &[has("element-type", STR)]);
static MEMBER: ObjectDef = plain(
    "SchemaInfoObjectMember",
    "A member of an object; one with a default may be absent.",
    &[has("name", STR), has("type", STR), may("default", Type::Any), may("features", STRS)],
);
static CASE: ObjectDef = plain(
    "SchemaInfoObjectVariant",
    "What a value of the tag adds to an object.",
    &[has("case", STR), has("type", STR)],
);
static OBJECT: ObjectDef = plain(
    "SchemaInfoObject",
    "An object type.",
    &[
        has("members", Type::Array(&Type::Object(&MEMBER))),
        may("tag", STR),
        may("variants", Type::Array(&Type::Object(&CASE))),
    ],
);
static CHOICE: ObjectDef =
    plain("SchemaInfoAlternateMember", "One of the types of an alternate.", &[has("type", STR)]);
static ALTERNATE: ObjectDef = plain(
    "SchemaInfoAlternate",
    "A type given as one of several.",
    &[has("members", Type::Array(&Type::Object(&CHOICE)))],
);
static COMMAND: ObjectDef = plain(
    "SchemaInfoCommand",
    "A command.",
    &[has("arg-type", STR), has("ret-type", STR), may("allow-oob", Type::Bool)],
);
static EVENT: ObjectDef = plain("SchemaInfoEvent", "An event.", &[has("arg-type", STR)]);
