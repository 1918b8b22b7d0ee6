//! The machine's memory.

use qmp::schema::{Type, arg};
use qmp::{Args, ErrorClass, QmpError, qapi_struct};

use super::{Command, Env, command};

qapi_struct! {
    /// How much memory the machine has, in bytes.
    MemoryInfo {
        /// What it has from its start.
        base_memory: u64 = "base-memory",
    }
}

qapi_struct! {
    /// Memory that was added; there is none.
    MemoryDeviceInfo {}
}

qapi_struct! {
    /// What a memory balloon has left to the guest.
    BalloonInfo {
        /// Bytes.
        actual: i64 = "actual",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The size of the machine's memory.
        "query-memory-size-summary" [] -> MemoryInfo =
            |env: &Env<'_>, _: &Args| Ok(MemoryInfo { base_memory: env.config().memory })
    },
    command! {
        /// The memory devices.
        "query-memory-devices" [] -> Vec<MemoryDeviceInfo> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
    command! {
        /// What the memory balloon has left to the guest.
        "query-balloon" [] -> BalloonInfo = |_: &Env<'_>, _: &Args| Err(no_balloon())
    },
    command! {
        /// Asks the guest to give memory back by its balloon.
        "balloon" [arg("value", Type::Int, "Bytes to leave to the guest.")] -> () =
            |_: &Env<'_>, _: &Args| Err(no_balloon())
    },
];

/// There is no such device.
fn no_balloon() -> QmpError {
    QmpError::new(ErrorClass::DeviceNotActive, "No balloon device has been activated")
}
