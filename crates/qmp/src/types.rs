//! The QAPI types that the commands and events use, by QEMU's names and shapes.

use crate::schema::{qapi_enum, qapi_struct};

qapi_enum! {
    /// A capability that a connection may switch on.
    QMPCapability {
        /// Commands out of band, by `exec-oob`.
        Oob = "oob",
    }
}

qapi_enum! {
    /// The sixteen names of the machine's state (`spec/run-state.md` 1.1), in the enumeration's order.
    RunState {
        /// Stopped by a debugger.
        Debug = "debug",
        /// Waits for, or takes in, an incoming migration.
        InMigrate = "inmigrate",
        /// A fault that only a reset mends.
        InternalError = "internal-error",
        /// Stopped by an I/O error.
        IoError = "io-error",
        /// Stopped by a manager.
        Paused = "paused",
        /// Stopped, since its state has gone elsewhere.
        PostMigrate = "postmigrate",
        /// Not started yet, or reset while stopped.
        PreLaunch = "prelaunch",
        /// Stopped for the last part of an outgoing migration.
        FinishMigrate = "finish-migrate",
        /// A snapshot is being restored.
        RestoreVm = "restore-vm",
        /// Runs.
        Running = "running",
        /// A snapshot is being saved.
        SaveVm = "save-vm",
        /// Shut down by the guest, the process still being here.
        Shutdown = "shutdown",
        /// Suspended to RAM by the guest.
        Suspended = "suspended",
        /// Stopped by the watchdog.
        Watchdog = "watchdog",
        /// The guest has panicked.
        GuestPanicked = "guest-panicked",
        /// Held by fault tolerance.
        Colo = "colo",
    }
}

qapi_enum! {
    /// Why the machine is reset or shut down. Those from `GuestShutdown` on come from the guest.
    ShutdownCause {
        /// No cause.
        None = "none",
        /// A fault of the host.
        HostError = "host-error",
        /// The command `quit`.
        HostQmpQuit = "host-qmp-quit",
        /// The command `system_reset`.
        HostQmpSystemReset = "host-qmp-system-reset",
        /// A signal to the process.
        HostSignal = "host-signal",
        /// The user interface.
        HostUi = "host-ui",
        /// The guest has shut down.
        GuestShutdown = "guest-shutdown",
        /// The guest has reset itself.
        GuestReset = "guest-reset",
        /// The guest has panicked.
        GuestPanic = "guest-panic",
        /// A part of the machine is reset.
        SubsystemReset = "subsystem-reset",
        /// A snapshot is loaded.
        SnapshotLoad = "snapshot-load",
    }
}

impl ShutdownCause {
    /// Whether the cause lies in the guest: the `guest` member of SHUTDOWN and RESET.
    pub fn is_guest(self) -> bool {
        self as u8 >= Self::GuestShutdown as u8
    }
}

qapi_enum! {
    /// What a reset of the machine does.
    RebootAction {
        /// It resets.
        Reset = "reset",
        /// It shuts down instead.
        Shutdown = "shutdown",
    }
}

qapi_enum! {
    /// What a shutdown of the machine does.
    ShutdownAction {
        /// The process ends.
        Poweroff = "poweroff",
        /// The machine stays, stopped.
        Pause = "pause",
    }
}

qapi_enum! {
    /// What a panic of the guest does.
    PanicAction {
        /// The machine is stopped.
        Pause = "pause",
        /// It is shut down.
        Shutdown = "shutdown",
        /// It is shut down with exit status 1.
        ExitFailure = "exit-failure",
        /// Nothing.
        None = "none",
    }
}

qapi_enum! {
    /// What an expired watchdog does.
    WatchdogAction {
        /// Reset.
        Reset = "reset",
        /// The power button.
        Shutdown = "shutdown",
        /// The process ends.
        Poweroff = "poweroff",
        /// The machine is stopped.
        Pause = "pause",
        /// A line in the log.
        Debug = "debug",
        /// Nothing.
        None = "none",
        /// A non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

qapi_enum! {
    /// What was done about a panic of the guest.
    GuestPanicAction {
        /// The machine was stopped.
        Pause = "pause",
        /// It is shut down.
        Poweroff = "poweroff",
        /// It runs on.
        Run = "run",
    }
}

qapi_enum! {
    /// The instruction sets that can be emulated.
    SysEmuTarget {
        /// 64-bit RISC-V.
        Riscv64 = "riscv64",
    }
}

qapi_enum! {
    /// The type of a command line parameter.
    CommandLineParameterType {
        /// Any text.
        String = "string",
        /// `on` or `off`.
        Boolean = "boolean",
        /// A number.
        Number = "number",
        /// A size in bytes with an optional suffix.
        Size = "size",
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
    /// The state of the machine.
    StatusInfo {
        /// Whether it runs: true exactly in state running.
        running: bool = "running",
        /// The state.
        status: RunState = "status",
    }
}

qapi_struct! {
    /// What the present machine can do.
    CurrentMachineParams {
        /// Whether the guest can be suspended and woken.
        wakeup_suspend_support: bool = "wakeup-suspend-support",
    }
}

qapi_struct! {
    /// The name of a command.
    CommandInfo {
        /// It.
        name: String = "name",
    }
}

qapi_struct! {
    /// Where a CPU sits in the topology.
    CpuInstanceProperties {
        /// NUMA node.
        node_id: Option<i64> = "node-id",
        /// Socket.
        socket_id: Option<i64> = "socket-id",
        /// Cluster in the socket.
        cluster_id: Option<i64> = "cluster-id",
        /// Core in the cluster.
        core_id: Option<i64> = "core-id",
        /// Thread in the core.
        thread_id: Option<i64> = "thread-id",
    }
}

qapi_struct! {
    /// A virtual CPU, as far as it is known without disturbing it.
    CpuInfoFast {
        /// Its number from 0.
        cpu_index: i64 = "cpu-index",
        /// Its path in the object tree.
        qom_path: String = "qom-path",
        /// The host thread that runs it.
        thread_id: i64 = "thread-id",
        /// Its place in the topology.
        props: Option<CpuInstanceProperties> = "props",
        /// Its instruction set.
        target: SysEmuTarget = "target",
    }
}

qapi_struct! {
    /// The name that the user gave the machine.
    NameInfo {
        /// It, if there is one.
        name: Option<String> = "name",
    }
}

qapi_struct! {
    /// The identity of the machine.
    UuidInfo {
        /// All zeros when none was given.
        uuid: String = "UUID",
    }
}

qapi_struct! {
    /// Hardware acceleration by KVM.
    KvmInfo {
        /// Whether it is used.
        enabled: bool = "enabled",
        /// Whether it could be used.
        present: bool = "present",
    }
}

qapi_struct! {
    /// The instruction set of this program.
    TargetInfo {
        /// It.
        arch: SysEmuTarget = "arch",
    }
}

qapi_struct! {
    /// A character device.
    ChardevInfo {
        /// Its id.
        label: String = "label",
        /// What it is connected with.
        filename: String = "filename",
        /// Whether the guest, or the monitor, has opened its side.
        frontend_open: bool = "frontend-open",
    }
}

qapi_struct! {
    /// A kind of machine.
    MachineInfo {
        /// Its name.
        name: String = "name",
        /// Another name for it.
        alias: Option<String> = "alias",
        /// Whether it is taken when none is named.
        is_default: Option<bool> = "is-default",
        /// The largest number of CPUs.
        cpu_max: i64 = "cpu-max",
        /// Whether CPUs can be added while it runs.
        hotpluggable_cpus: bool = "hotpluggable-cpus",
        /// Whether memory can be divided among nodes by the old option.
        numa_mem_supported: bool = "numa-mem-supported",
        /// Whether it is going away.
        deprecated: bool = "deprecated",
        /// The CPU when none is named.
        default_cpu_type: Option<String> = "default-cpu-type",
        /// The id of its memory; managers send it back on the command line.
        default_ram_id: Option<String> = "default-ram-id",
        /// Whether it has ACPI.
        acpi: bool = "acpi",
    }
}

qapi_struct! {
    /// A parameter of a command line option.
    CommandLineParameterInfo {
        /// Its name.
        name: String = "name",
        /// Its type.
        ty: CommandLineParameterType = "type",
        /// What it is for.
        help: Option<String> = "help",
        /// Its value when it is not given.
        default: Option<String> = "default",
    }
}

qapi_struct! {
    /// A command line option.
    CommandLineOptionInfo {
        /// Its name, without the dash.
        option: String = "option",
        /// Its parameters.
        parameters: Vec<CommandLineParameterInfo> = "parameters",
    }
}

qapi_struct! {
    /// The data of SHUTDOWN and RESET.
    ShutdownInfo {
        /// Whether the guest asked for it.
        guest: bool = "guest",
        /// Why.
        reason: ShutdownCause = "reason",
    }
}

qapi_struct! {
    /// The data of WATCHDOG.
    WatchdogInfo {
        /// What is done.
        action: WatchdogAction = "action",
    }
}

qapi_struct! {
    /// The data of GUEST_PANICKED.
    GuestPanicInfo {
        /// What was done.
        action: GuestPanicAction = "action",
    }
}
