//! Disks and block nodes.

mod human;
mod types;

use std::sync::Arc;

use block::{Disk, Fault, FaultRule, Kind, Node};
use engine::ManageError;
use qmp::schema::{Qapi as _, Type, arg, opt};
use qmp::{Args, QmpError, qapi_enum};

use super::{Command, Env, command, refused};
use crate::hmp::{Human, Words};
use human::{info_block, info_blockstats};
use types::{BlockDeviceInfo, BlockInfo, BlockStats};

qapi_enum! {
    /// Operations that can be made to fail.
    FaultOperation {
        /// Reads.
        Read = "read",
        /// Writes, zeroes included.
        Write = "write",
        /// Flushes.
        Flush = "flush",
        /// Discards.
        Discard = "discard",
    }
}

qapi_enum! {
    /// What happens to them.
    FaultKind {
        /// Nothing any more; what hangs is done.
        None = "none",
        /// They fail with an I/O error.
        Io = "eio",
        /// They fail for want of space.
        NoSpace = "enospc",
        /// They do not end.
        Hang = "hang",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The disks of the machine's devices.
        "query-block" [] -> Vec<BlockInfo> = |env: &Env<'_>, _: &Args| {
            Ok(env.config().disks.iter().map(|disk| BlockInfo::of(disk)).collect::<Vec<_>>())
        }
    }
    .human(
        Human::info(&["block"], "show the disks (-n: the block nodes; -v: with their images)", info_block)
            .words("[-n|-v|device]", Words::Optional(&["-n", "-v"])),
    ),
    command! {
        /// The block nodes that have names, those on top first.
        "query-named-block-nodes" [
            opt("flat", Type::Bool, "Leave out what is behind each; no node here has anything behind it."),
        ] -> Vec<BlockDeviceInfo> = |env: &Env<'_>, _: &Args| {
            Ok(env.config().nodes.iter().rev().map(|node| BlockDeviceInfo::of(node)).collect::<Vec<_>>())
        }
    },
    command! {
        /// What the disks have done so far.
        "query-blockstats" [
            opt("query-nodes", Type::Bool, "Ask the block nodes; what is counted is a disk's, so none has anything to say."),
        ] -> Vec<BlockStats> = query_blockstats
    }
    .human(Human::info(&["blockstats"], "show what the disks have done", info_blockstats)),
    command! {
        /// Takes images of block nodes for this process, or leaves them to others. A machine that starts takes its own,
        /// one that has moved away has left them. Not while it is running.
        "blockdev-set-active" [
            opt("node-name", Type::Str, "The node; all without a name."),
            arg("active", Type::Bool, "Whether this process may use it."),
        ] -> () = set_active
    },
    command! {
        /// Makes operations on the file of a block node fail or hang. For tests.
        "x-blockdev-fault" [
            arg("node-name", Type::Str, "The node."),
            arg("operation", FaultOperation::TYPE, "Which operations."),
            arg("fault", FaultKind::TYPE, "What happens to them."),
            opt("times", Type::U64, "To how many; until it is lifted if not given."),
        ] -> () = set_fault
    },
];

fn set_active(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let config = env.config();
    let nodes = match args.opt_str("node-name") {
        Some(name) => vec![Arc::clone(find(env, name)?)],
        None => config.nodes.clone(),
    };
    let active = args.opt_bool("active") == Some(true);
    let is_below = |node: &Arc<Node>, top: &Arc<Node>| chain(top).any(|below| Arc::ptr_eq(below, node));
    if !active && args.opt_str("node-name").is_some() {
        let mut above = config.nodes.iter().filter(|top| !nodes.iter().any(|node| Arc::ptr_eq(node, top)));
        if above.any(|top| top.is_active() && nodes.iter().any(|node| is_below(node, top))) {
            return Err(QmpError::generic("Node has active parent node"));
        }
    }
    let of_a_disk = |disk: &&Arc<Disk>| nodes.iter().any(|node| is_below(node, disk.node()));
    let disks: Vec<_> = config.disks.iter().filter(of_a_disk).cloned().collect();
    let in_use = !disks.is_empty();
    let change = move || match active {
        true => nodes.iter().try_for_each(|node| node.activate()).map_err(|error| error.to_string()),
        false => {
            // A disk has to come to rest first; what its flush says counts.
            let rest = disks.iter().try_for_each(|disk| disk.inactivate());
            let left = rest.and_then(|()| nodes.iter().try_for_each(|node| node.inactivate()));
            left.map_err(|error| format!("Failed to inactivate node: {}", block::error_text(&error)))
        }
    };
    if !in_use {
        // What no device has is of no interest to the machine.
        return change().map_err(QmpError::generic);
    }
    env.engine().arrange_images(!active, change).map_err(|error| match error {
        ManageError::Live => QmpError::generic("Node is in use by the machine, which is running"),
        error => refused(error),
    })
}

/// A node, and those below it.
fn chain(top: &Arc<Node>) -> impl Iterator<Item = &Arc<Node>> {
    std::iter::successors(Some(top), |node| node.child())
}

fn set_fault(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let node = find(env, args.str("node-name"))?;
    let kind = match args.opt_enum("operation") {
        Some(FaultOperation::Read) | None => Kind::Read,
        Some(FaultOperation::Write) => Kind::Write,
        Some(FaultOperation::Flush) => Kind::Flush,
        Some(FaultOperation::Discard) => Kind::Unmap,
    };
    let fault = match args.opt_enum("fault") {
        Some(FaultKind::None) | None => None,
        Some(FaultKind::Io) => Some(Fault::Io),
        Some(FaultKind::NoSpace) => Some(Fault::NoSpace),
        Some(FaultKind::Hang) => Some(Fault::Hang),
    };
    let times = args.opt_u64("times");
    // A negative number arrives as one beyond what a client can write.
    if times.is_some_and(|times| times == 0 || i64::try_from(times).is_err()) {
        return Err(QmpError::expects("times", "a positive number"));
    }
    node.faults().set(kind, fault.map(|fault| FaultRule { fault, times }));
    Ok(())
}

fn find<'a>(env: &'a Env<'_>, name: &str) -> Result<&'a Arc<Node>, QmpError> {
    let node = env.config().nodes.iter().find(|node| node.name() == name);
    node.ok_or_else(|| QmpError::generic(format!("Failed to find node with node-name='{name}'")))
}

fn query_blockstats(env: &Env<'_>, args: &Args) -> Result<Vec<BlockStats>, QmpError> {
    let all = env.config().disks.iter().map(|disk| BlockStats::of(disk));
    Ok(if args.opt_bool("query-nodes") == Some(true) { Vec::new() } else { all.collect() })
}
