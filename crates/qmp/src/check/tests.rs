//! Texts as recorded from QEMU 10.0, for commands that we do not have (yet) as well.

use super::*;
use crate::schema::{self, AlternateDef, EnumDef, VariantsDef};
use serde_json::json;

const fn arg(name: &'static str, ty: Type) -> ArgDef {
    schema::arg(name, ty, "")
}

const fn opt(name: &'static str, ty: Type) -> ArgDef {
    schema::opt(name, ty, "")
}

static CAPABILITY: EnumDef =
    EnumDef { name: "MigrationCapability", doc: "", values: &["events", "return-path"], value_docs: &[] };
static STATUS: ObjectDef = ObjectDef {
    name: "MigrationCapabilityStatus",
    doc: "",
    members: &[arg("capability", Type::Enum(&CAPABILITY)), arg("state", Type::Bool)],
    variants: None,
};
static SET_CAPABILITIES: &[ArgDef] = &[arg("capabilities", Type::Array(&Type::Object(&STATUS)))];

static FILE: ObjectDef =
    ObjectDef { name: "File", doc: "", members: &[arg("filename", Type::Str)], variants: None };
static DRIVER: EnumDef = EnumDef { name: "Driver", doc: "", values: &["file", "null"], value_docs: &[] };
static BLOCK: ObjectDef = ObjectDef {
    name: "Block",
    doc: "",
    members: &[arg("driver", Type::Enum(&DRIVER)), opt("read-only", Type::Bool)],
    variants: Some(VariantsDef { tag: "driver", cases: &[("file", &FILE)] }),
};
static STR_OR_NULL: AlternateDef = AlternateDef { name: "StrOrNull", choices: &[Type::Str, Type::Null] };

#[track_caller]
fn refuses(defs: &[ArgDef], arguments: Value, desc: &str) {
    let error = check_arguments(defs, arguments.as_object().unwrap()).unwrap_err();
    assert_eq!(error, QmpError::generic(desc));
}

#[track_caller]
fn accepts(defs: &[ArgDef], arguments: Value) {
    assert_eq!(check_arguments(defs, arguments.as_object().unwrap()), Ok(()));
}

#[test]
fn recorded_texts() {
    let migrate = &[opt("uri", Type::Str), opt("resume", Type::Bool)];
    refuses(
        migrate,
        json!({"uri": "exec:true", "resume": 1}),
        "Invalid parameter type for 'resume', expected: boolean",
    );
    let list = |value: Value| json!({"capabilities": value});
    refuses(SET_CAPABILITIES, list(json!({})), "Invalid parameter type for 'capabilities', expected: array");
    refuses(
        SET_CAPABILITIES,
        list(json!([{"capability": "nope", "state": true}])),
        "Parameter 'capability' does not accept value 'nope'",
    );
    refuses(
        SET_CAPABILITIES,
        list(json!([{"capability": "events", "state": true, "q": 1}])),
        "Parameter 'capabilities[0].q' is unexpected",
    );
    refuses(
        SET_CAPABILITIES,
        list(json!([{"capability": "events", "state": true}, {"capability": "events"}])),
        "Parameter 'capabilities[1].state' is missing",
    );
    let channels = &[opt("multifd-channels", Type::U8), opt("max-bandwidth", Type::U64)];
    refuses(channels, json!({"multifd-channels": 256}), "Parameter 'multifd-channels' expects uint8_t");
    refuses(channels, json!({"max-bandwidth": "1G"}), "Parameter 'max-bandwidth' expects uint64");
}

#[test]
fn integers_keep_their_width() {
    let defs = &[opt("i", Type::Int), opt("h", Type::U16), opt("w", Type::U32), opt("n", Type::Number)];
    accepts(defs, json!({"i": i64::MIN, "h": 65535, "w": u32::MAX, "n": 1.5}));
    accepts(defs, json!({"n": 1}));
    for (name, value) in [("i", json!(0.0)), ("i", json!(u64::MAX)), ("i", json!("1")), ("i", json!(null))] {
        refuses(defs, json!({name: value}), "Invalid parameter type for 'i', expected: integer");
    }
    refuses(defs, json!({"h": 65536}), "Parameter 'h' expects uint16_t");
    refuses(defs, json!({"h": -1}), "Parameter 'h' expects uint16_t");
    refuses(defs, json!({"w": 1u64 << 32}), "Parameter 'w' expects uint32_t");
    refuses(defs, json!({"n": true}), "Invalid parameter type for 'n', expected: number");
}

#[test]
fn arguments_are_looked_at_in_the_order_of_the_definition_and_strangers_last() {
    let defs = &[arg("a", Type::Str), arg("b", Type::Bool)];
    refuses(defs, json!({"z": 1, "b": 1}), "Parameter 'a' is missing");
    refuses(defs, json!({"z": 1, "b": 1, "a": ""}), "Invalid parameter type for 'b', expected: boolean");
    refuses(defs, json!({"z": 1, "b": true, "a": ""}), "Parameter 'z' is unexpected");
    accepts(defs, json!({"b": true, "a": ""}));
}

#[test]
fn a_tag_selects_the_members() {
    let defs = &[opt("node", Type::Object(&BLOCK))];
    accepts(defs, json!({"node": {"driver": "file", "filename": "x"}}));
    accepts(defs, json!({"node": {"driver": "null", "read-only": true}}));
    refuses(defs, json!({"node": {"driver": "file"}}), "Parameter 'node.filename' is missing");
    refuses(
        defs,
        json!({"node": {"driver": "null", "filename": "x"}}),
        "Parameter 'node.filename' is unexpected",
    );
    refuses(defs, json!({"node": {"driver": "q"}}), "Parameter 'driver' does not accept value 'q'");
    refuses(defs, json!({"node": []}), "Invalid parameter type for 'node', expected: object");
}

#[test]
fn an_alternate_takes_each_of_its_types() {
    let defs = &[opt("x", Type::Alternate(&STR_OR_NULL)), opt("y", Type::Any), opt("z", Type::Null)];
    accepts(defs, json!({"x": null, "y": [{}], "z": null}));
    accepts(defs, json!({"x": "s"}));
    refuses(defs, json!({"x": 1}), "Invalid parameter type for 'x', expected: StrOrNull");
    refuses(defs, json!({"z": 1}), "Invalid parameter type for 'z', expected: null");
}
