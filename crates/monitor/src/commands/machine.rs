//! What this program emulates.

use qmp::{Args, qapi_enum, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::Human;

qapi_enum! {
    /// The instruction sets that can be emulated.
    SysEmuTarget {
        /// 64-bit RISC-V.
        Riscv64 = "riscv64",
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
    /// Hardware acceleration by KVM.
    KvmInfo {
        /// Whether it is used.
        enabled: bool = "enabled",
        /// Whether it could be used.
        present: bool = "present",
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
    /// A thread that devices do their work on.
    IoThreadInfo {
        /// Its name.
        id: String = "id",
        /// The host's number of it.
        thread_id: i64 = "thread-id",
    }
}

qapi_enum! {
    /// A model of TPM device.
    TpmModel {}
}

qapi_enum! {
    /// A back end of TPM devices.
    TpmType {}
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The instruction set that is emulated.
        "query-target" [] -> TargetInfo = |_: &Env<'_>, _: &Args| Ok(TargetInfo { arch: SysEmuTarget::Riscv64 })
    },
    command! {
        /// Whether KVM is there and used.
        "query-kvm" [] -> KvmInfo = |_: &Env<'_>, _: &Args| Ok(KvmInfo { enabled: false, present: false })
    }
    .human(Human::info(&["kvm"], "show whether KVM is used", |screen, _| {
        screen.print("kvm support: not compiled");
        Ok(())
    })),
    command! {
        /// The kinds of machine that there are.
        "query-machines" [] -> Vec<MachineInfo> = |env: &Env<'_>, _: &Args| Ok(env.config().machines.clone())
    },
    command! {
        /// The threads that devices do their work on and that can be named; there are none.
        "query-iothreads" [] -> Vec<IoThreadInfo> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
    command! {
        /// The models of TPM devices; there are none.
        "query-tpm-models" [] -> Vec<TpmModel> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
    command! {
        /// The back ends of TPM devices; there are none.
        "query-tpm-types" [] -> Vec<TpmType> = |_: &Env<'_>, _: &Args| Ok(Vec::new())
    },
];
