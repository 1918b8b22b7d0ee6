//! Cutting connections that hang, ahead of whatever waits.

use qmp::schema::{ObjectDef, Qapi, Type, VariantsDef, arg};
use qmp::{Args, ErrorClass, QmpError, qapi_enum};
use serde_json::{Value, json};

use super::{Command, Env, command};

qapi_enum! {
    /// What can be yanked.
    YankInstanceType {
        /// The connection of a network block device.
        BlockNode = "block-node",
        /// The connection of a character device.
        Chardev = "chardev",
        /// The connection of a migration.
        Migration = "migration",
    }
}

/// A connection that can be cut; ours are all those of character devices.
#[derive(Debug, Clone)]
struct YankInstance {
    id: String,
}

static BLOCK_NODE: ObjectDef = ObjectDef {
    name: "YankInstanceBlockNode",
    doc: "A network block device.",
    members: &[arg("node-name", Type::Str, "The node.")],
    variants: None,
};
static CHARDEV: ObjectDef = ObjectDef {
    name: "YankInstanceChardev",
    doc: "A character device on a socket.",
    members: &[arg("id", Type::Str, "The character device.")],
    variants: None,
};
static INSTANCE: ObjectDef = ObjectDef {
    name: "YankInstance",
    doc: "A connection that can be cut.",
    members: &[arg("type", YankInstanceType::TYPE, "What it belongs to.")],
    variants: Some(VariantsDef { tag: "type", cases: &[("block-node", &BLOCK_NODE), ("chardev", &CHARDEV)] }),
};

impl Qapi for YankInstance {
    const TYPE: Type = Type::Object(&INSTANCE);

    fn to_value(&self) -> Value {
        json!({"type": "chardev", "id": self.id})
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Cuts connections, so that what waits for their other side goes on. Either all are known and cut, or none is.
        oob "yank" [arg("instances", <Vec<YankInstance>>::TYPE, "What to cut.")] -> () = yank
    },
    command! {
        /// The connections that `yank` can cut: those of monitors on sockets.
        oob "query-yank" [] -> Vec<YankInstance> = |env: &Env<'_>, _: &Args| {
            Ok(env.context.lines.labels().into_iter().map(|id| YankInstance { id }).collect())
        }
    },
];

fn yank(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let unknown = || QmpError::new(ErrorClass::DeviceNotFound, "Instance not found");
    let known = env.context.lines.labels();
    let mut labels = Vec::new();
    for instance in args.value("instances").and_then(Value::as_array).into_iter().flatten() {
        let id = instance.get("id").and_then(Value::as_str).filter(|_| instance["type"] == "chardev");
        labels.push(id.filter(|id| known.iter().any(|label| label == id)).ok_or_else(unknown)?);
    }
    labels.into_iter().for_each(|label| env.context.lines.cut(label));
    Ok(())
}
