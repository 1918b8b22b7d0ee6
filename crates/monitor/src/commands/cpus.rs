//! The harts.

use qmp::{Args, QmpError, qapi_struct};

use super::machine::SysEmuTarget;
use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words, shorten};

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

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// The virtual CPUs, without disturbing them.
        "query-cpus-fast" [] -> Vec<CpuInfoFast> = query_cpus_fast
    }
    .human(Human::info(&["cpus"], "show the CPUs and their threads", info_cpus)),
    Command::of_human(
        Human::info(&["registers"], "show the registers of a CPU (-a: of all)", info_registers)
            .words("[-a|vcpu]", Words::Optional(&["-a"])),
    ),
];

fn query_cpus_fast(env: &Env<'_>, _: &Args) -> Result<Vec<CpuInfoFast>, QmpError> {
    let cpu = |hart: engine::HartInfo| {
        let index = i64::from(hart.id);
        CpuInfoFast {
            cpu_index: index,
            qom_path: format!("/machine/soc0/harts[{index}]"),
            thread_id: hart.thread_id.into(),
            props: Some(CpuInstanceProperties {
                node_id: None,
                socket_id: None,
                cluster_id: None,
                core_id: Some(index),
                thread_id: None,
            }),
            target: SysEmuTarget::Riscv64,
        }
    };
    Ok(env.engine().harts().into_iter().map(cpu).collect())
}

fn info_cpus(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    for hart in screen.env.engine().harts() {
        let mark = if hart.id == screen.cpu { '*' } else { ' ' };
        screen.print(&format!("{mark} CPU #{}: thread_id={}", hart.id, hart.thread_id));
    }
    Ok(())
}

fn info_registers(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let engine = screen.env.engine();
    let wanted: Vec<u32> = match words.first() {
        None => vec![screen.cpu],
        Some(&"-a") => engine.harts().iter().map(|hart| hart.id).collect(),
        Some(word) => vec![word.parse().map_err(|_| HmpError::NoCpu(shorten(word)))?],
    };
    for id in wanted {
        let text = engine.describe_hart(id).ok_or_else(|| HmpError::NoCpu(id.to_string()))?;
        screen.print(&format!("\nCPU#{id}\n{}", text.trim_end()));
    }
    Ok(())
}
