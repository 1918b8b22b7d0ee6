//! The QMP lexer and parser, and the checks of requests.

use std::sync::{Arc, OnceLock};

use qmp::schema::{ArgDef, CommandDef, Qapi as _, Type, arg, opt};
use qmp::types::QMPCapability;
use qmp::{CommandSet, Input, Limits, Session};

const fn command(name: &'static str, args: &'static [ArgDef], allow_oob: bool) -> CommandDef {
    CommandDef { name, doc: "", args, returns: <()>::TYPE, allow_oob }
}

static COMMANDS: [CommandDef; 4] = [
    command("stop", &[], false),
    command("yank", &[], true),
    command(
        "set",
        &[opt("one", QMPCapability::TYPE, ""), opt("several", <Vec<QMPCapability>>::TYPE, "")],
        false,
    ),
    command("line", &[arg("command-line", Type::Str, ""), opt("cpu-index", Type::Int, "")], false),
];

fn session(limits: Limits) -> Session<&'static str> {
    static SET: OnceLock<Arc<CommandSet<&'static str>>> = OnceLock::new();
    let set = SET.get_or_init(|| Arc::new(CommandSet::new(COMMANDS.iter().map(|def| (def, def.name)), [])));
    Session::new(Arc::clone(set), limits)
}

/// Bytes give the same replies and calls in one piece and byte by byte, and every reply is a line of JSON.
pub fn qmp(bytes: &[u8]) {
    // The first byte says whether the bounds are narrow enough to be met here.
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let narrow = Limits { size: 64, tokens: 16, depth: 4 };
    let limits = if kind % 2 == 1 { narrow } else { Limits::default() };
    let (mut whole, mut pieces) = (session(limits), session(limits));
    if kind % 4 < 2 {
        let open = b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}";
        whole.feed(open);
        pieces.feed(open);
    }
    let inputs = whole.feed(bytes);
    let again: Vec<_> = bytes.chunks(1).flat_map(|byte| pieces.feed(byte)).collect();
    assert_eq!(inputs, again, "pieces matter");
    for input in inputs {
        let line = match input {
            Input::Reply(line) => line,
            Input::Call(call) => call.reply(&Ok(call.id.clone().unwrap_or_default())),
        };
        let end = line.strip_suffix("\r\n").expect("a reply is a line");
        assert!(!end.contains(['\r', '\n']), "a reply is one line");
        serde_json::from_str::<serde_json::Value>(end).expect("a reply is JSON");
    }
}
