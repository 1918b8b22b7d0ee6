//! The QAPI types of the protocol itself, by QEMU's names and shapes. Those of a command stand with the command.

use crate::{qapi_enum, qapi_struct};

qapi_enum! {
    /// A capability that a connection may switch on.
    QMPCapability {
        /// Commands out of band, by `exec-oob`.
        Oob = "oob",
    }
}

qapi_struct! {
    /// A version in three parts.
    VersionTriple {
        /// The first.
        major: i64 = "major",
        /// The second.
        minor: i64 = "minor",
        /// The third.
        micro: i64 = "micro",
    }
}

qapi_struct! {
    /// The version of QEMU that we are compatible with, and who we are.
    VersionInfo {
        /// The version of QEMU; managers derive from it what they may use.
        qemu: VersionTriple = "qemu",
        /// Our own name and version.
        package: String = "package",
    }
}

qapi_struct! {
    /// The name of a command.
    CommandInfo {
        /// It.
        name: String = "name",
    }
}
