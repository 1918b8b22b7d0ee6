//! Disks; there are none yet.

use qmp::schema::{Type, opt};
use qmp::{Args, qapi_struct};

use super::{Command, Env, command};

qapi_struct! {
    /// A disk.
    BlockInfo {
        /// Its name.
        device: String = "device",
    }
}

qapi_struct! {
    /// A node of the block layer.
    BlockDeviceInfo {
        /// Its name.
        node_name: String = "node-name",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The disks.
        "query-block" [] -> Vec<BlockInfo> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
    command! {
        /// The named nodes of the block layer.
        "query-named-block-nodes" [opt("flat", Type::Bool, "Whether to leave out what is below a node.")]
            -> Vec<BlockDeviceInfo> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
];
