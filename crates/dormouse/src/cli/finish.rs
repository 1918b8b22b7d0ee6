//! What several options say together: defaults, and references from one to another.

use super::error::SetupError;
use super::machine::choose_accel;
use super::options::{
    BootFiles, Builder, Load, MachineKind, MachineOptions, Object, Options, RngSource, Smp, VirtioBuilder,
    VirtioKind, VirtioKindBuilder, VirtioOption, Warning,
};
use super::ports;
use backends::{CharKind, CharSpec, SocketAddress};
use clock::{RtcBase, RtcClock};
use runstate::Actions;
use std::collections::BTreeSet;

/// How many harts the `virt` machine can have: as many as the memory map of its interrupt controllers was made for and
/// tests have seen, fewer than QEMU's 512.
pub const MAX_CPUS: u32 = 64;
/// How many virtio slots the machine has.
pub(super) const VIRTIO_SLOTS: usize = board::map::VIRTIO_SLOTS as usize;
/// QEMU's default for this machine.
const DEFAULT_MEMORY: u64 = 128 << 20;

/// Applies defaults and resolves references.
pub(super) fn finish(mut builder: Builder) -> Result<Options, SetupError> {
    check_boot(&builder.boot)?;
    let smp = builder.smp.unwrap_or(Smp { cpus: 1, maxcpus: 1, sockets: 1, cores: 1, threads: 1 });
    if builder.icount.is_some() && smp.cpus > 1 {
        return Err(SetupError::IcountSmp(smp.cpus));
    }
    let memory = memory(&builder)?;
    let virtio = virtio(&builder)?;
    let serials = serials(&mut builder)?;
    check_consoles(&builder, &serials)?;
    check_monitors(&builder)?;
    choose_accel(&builder.accels, &mut builder.warnings)?;
    warn_of_what_does_not_repeat(&mut builder, &serials);
    let load = load(builder.load.take(), builder.fork.take())?;
    let machine = MachineOptions {
        kind: builder.machine.kind,
        dumpdtb: builder.machine.dumpdtb,
        suspend: builder.machine.suspend.unwrap_or(true),
        aclint: builder.machine.aclint.unwrap_or(true),
        wakeup_rtc: builder.machine.wakeup_rtc.unwrap_or(true),
    };
    Ok(Options {
        name: builder.name,
        uuid: builder.uuid,
        machine,
        cpu: builder.cpu,
        cpu_properties: builder.cpu_properties,
        smp,
        memory,
        boot: builder.boot,
        start_stopped: builder.start_stopped,
        incoming: builder.incoming,
        actions: Actions::default().with(builder.actions),
        wake_policy: builder.wake_policy,
        pidfile: builder.pidfile,
        daemonize: builder.daemonize,
        nographic: builder.nographic,
        nodefaults: builder.nodefaults,
        serials,
        monitors: builder.monitors,
        gdb: builder.gdb,
        chardevs: builder.chardevs,
        inherited: builder.inherited,
        objects: builder.objects.into_iter().map(|(id, object)| (id, object.options())).collect(),
        rtc: builder.rtc,
        icount: builder.icount,
        nodes: builder.disks.into_nodes(),
        virtio,
        vmgenid: builder.vmgenid,
        event_log: builder.event_log,
        snapshots: builder.snapshots,
        load,
        test_clock: builder.test_clock,
        hart_nice: builder.hart_nice,
        logging: builder.logging,
        warnings: builder.warnings,
    })
}

/// Counted time is for runs that repeat: says what keeps this one from it.
fn warn_of_what_does_not_repeat(builder: &mut Builder, serials: &[CharSpec]) {
    if builder.icount.is_none() {
        return;
    }
    if builder.rtc.clock != RtcClock::Vm || !matches!(builder.rtc.base, RtcBase::Date(_)) {
        builder.warnings.push(Warning::CountedRtc);
    }
    let silent =
        |spec: &CharSpec| matches!(spec.kind, CharKind::Null | CharKind::None | CharKind::File { .. });
    if !serials.iter().all(silent) {
        builder.warnings.push(Warning::CountedInput);
    }
}

fn check_boot(boot: &BootFiles) -> Result<(), SetupError> {
    match boot {
        BootFiles { kernel: Some(_), .. } => Ok(()),
        BootFiles { append: Some(_), .. } => Err(SetupError::NeedsKernel("-append")),
        BootFiles { initrd: Some(_), .. } => Err(SetupError::NeedsKernel("-initrd")),
        _ => Ok(()),
    }
}

/// The size of guest memory, from `-m` or from the backend that the machine names.
fn memory(builder: &Builder) -> Result<u64, SetupError> {
    let Some(id) = &builder.machine.memory_backend else {
        return Ok(builder.memory.unwrap_or(DEFAULT_MEMORY));
    };
    match builder.objects.get(id) {
        Some(Object::Memory(size)) if builder.memory.is_none_or(|memory| memory == *size) => Ok(*size),
        Some(Object::Memory(_)) => Err(SetupError::MemoryBackendSize),
        _ => Err(SetupError::NoSuchMemoryBackend(id.clone())),
    }
}

/// The virtio devices: those that ask for a slot get it, the others the free ones in order.
fn virtio(builder: &Builder) -> Result<Vec<VirtioOption>, SetupError> {
    let no_bus = |device: &VirtioBuilder| SetupError::NoFreeSlot(device.kind.driver());
    let mut taken = BTreeSet::new();
    for device in &builder.virtio {
        if device.slot.is_some_and(|slot| !taken.insert(slot)) {
            return Err(no_bus(device));
        }
    }
    let mut options = Vec::new();
    let mut used_nodes = Vec::new();
    for (device, ports) in builder.virtio.iter().zip(ports::assign(builder)?) {
        let mut free = (0..VIRTIO_SLOTS).filter(|slot| !taken.contains(slot));
        let slot = device.slot.or_else(|| free.next()).ok_or_else(|| no_bus(device))?;
        taken.insert(slot);
        let kind = match &device.kind {
            VirtioKindBuilder::Rng(object) => VirtioKind::Rng(rng(builder, object.as_deref())?),
            VirtioKindBuilder::Serial(max_ports) => VirtioKind::Serial { max_ports: *max_ports, ports },
            VirtioKindBuilder::Block(device) => {
                VirtioKind::Block(builder.disks.disk(device, &mut used_nodes)?)
            }
        };
        options.push(VirtioOption { id: device.id.clone(), slot, kind });
    }
    Ok(options)
}

/// A machine starts from one snapshot, and is one of many that do or not.
fn load(load: Option<String>, fork: Option<String>) -> Result<Option<Load>, SetupError> {
    match (load, fork) {
        (Some(_), Some(_)) => Err(SetupError::LoadAndFork),
        (load, None) => Ok(load.map(|name| Load { name, fork: false })),
        (None, fork) => Ok(fork.map(|name| Load { name, fork: true })),
    }
}

fn rng(builder: &Builder, id: Option<&str>) -> Result<RngSource, SetupError> {
    let Some(id) = id else {
        return Ok(RngSource::Builtin);
    };
    match builder.objects.get(id) {
        Some(Object::Rng(source)) => Ok(source.clone()),
        _ => Err(SetupError::NoSuchRng(id.to_owned())),
    }
}

/// The serial lines. Without any, the terminal: together with the monitor, unless one of its own was given.
fn serials(builder: &mut Builder) -> Result<Vec<CharSpec>, SetupError> {
    let given = std::mem::take(&mut builder.serials);
    if !given.is_empty() || builder.nodefaults || builder.machine.kind == MachineKind::None {
        let lines: Vec<_> = given.into_iter().filter(|spec| spec.kind != CharKind::None).collect();
        return if lines.len() > 1 { Err(SetupError::TooManySerials(lines.len())) } else { Ok(lines) };
    }
    if builder.daemonize {
        return if builder.nographic { Err(SetupError::NographicDaemonized) } else { Ok(vec![]) };
    }
    let used = |spec: &CharSpec| matches!(spec.kind, CharKind::Stdio { .. });
    let taken = builder.monitors.iter().map(|monitor| &monitor.on).chain(&builder.gdb).any(used)
        || builder.chardevs.iter().any(|(_, spec)| used(spec));
    Ok(match (taken, builder.monitor_given) {
        (true, _) => vec![CharSpec::plain(CharKind::Null)],
        (false, true) => vec![CharSpec::plain(CharKind::Stdio { signal: true })],
        (false, false) => vec![CharSpec::mon_stdio()],
    })
}

/// Monitors are bounded, and one that wants to know its clients' user must be able to.
fn check_monitors(builder: &Builder) -> Result<(), SetupError> {
    // The serial line's multiplexer may carry one more.
    if builder.monitors.len() >= monitor::MOST_MONITORS {
        return Err(SetupError::TooManyMonitors(builder.monitors.len()));
    }
    let knows_users = |spec: &CharSpec| match &spec.kind {
        CharKind::Socket(socket) => !spec.mux && !matches!(socket.address, SocketAddress::Tcp { .. }),
        _ => false,
    };
    for monitor in builder.monitors.iter().filter(|monitor| monitor.peer_uid.is_some()) {
        if let CharKind::Ref(id) = &monitor.on.kind
            && !builder.chardevs.iter().any(|(other, spec)| other == id && knows_users(spec))
        {
            return Err(SetupError::PeerUid(id.clone()));
        }
    }
    Ok(())
}

/// References must lead somewhere, and what is not multiplexed has one user.
fn check_consoles(builder: &Builder, serials: &[CharSpec]) -> Result<(), SetupError> {
    let mut used = BTreeSet::new();
    let mut stdio = 0;
    let monitors = builder.monitors.iter().map(|monitor| &monitor.on);
    for spec in serials.iter().chain(monitors).chain(&builder.gdb) {
        match &spec.kind {
            CharKind::Stdio { .. } => stdio += 1,
            CharKind::Ref(id) => {
                let target = builder.chardevs.iter().find(|(other, _)| other == id);
                let (_, target) = target.ok_or_else(|| SetupError::NoSuchChardev(id.clone()))?;
                if !used.insert(id) && !target.mux {
                    return Err(SetupError::ChardevInUse(id.clone()));
                }
            }
            _ => {}
        }
    }
    for port in &builder.ports {
        let Some(id) = &port.chardev else { continue };
        let class = ports::driver(port.console);
        let Some((_, target)) = builder.chardevs.iter().find(|(other, _)| other == id) else {
            return Err(SetupError::PortChardev { class, id: id.clone() });
        };
        if !used.insert(id) && !target.mux {
            return Err(SetupError::PortChardevInUse { class, id: id.clone() });
        }
    }
    stdio += builder.chardevs.iter().filter(|(_, spec)| matches!(spec.kind, CharKind::Stdio { .. })).count();
    match stdio {
        0 => Ok(()),
        _ if builder.daemonize => Err(SetupError::StdioDaemonized),
        1 => Ok(()),
        _ => Err(SetupError::StdioTwice),
    }
}
