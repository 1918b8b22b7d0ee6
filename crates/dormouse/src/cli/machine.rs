//! Options about the machine: `-machine`, `-accel`, `-cpu`, `-smp`, `-m`, boot files, clocks.

use super::error::{SetupError, ValueError};
use super::finish::MAX_CPUS;
use super::help;
use super::options::{Bios, Builder, CpuModel, MachineKind, Smp, Warning};
use backends::keyval::{KeyValError, KeyVals, boolean, number};
use clock::IcountShift;

/// Processor properties that can be set by name: extensions of RV64GC and of the processor, and address translation.
pub(super) const CPU_PROPERTIES: [&str; 23] = [
    "i", "m", "a", "f", "d", "c", "g", "s", "u", "zicsr", "zifencei", "zicntr", "zihpm", "zba", "zbb", "zbc",
    "zbs", "sstc", "sv39", "sv48", "mmu", "pmp", "svadu",
];

/// `-machine`.
pub(super) fn machine(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    if value == "help" || value == "?" {
        builder.print = Some(help::machines());
        return Ok(());
    }
    let mut list = KeyVals::parse(value, Some("type"))?;
    if let Some(kind) = list.take("type") {
        builder.machine.kind = match kind.as_str() {
            "virt" => MachineKind::Virt,
            "none" => MachineKind::None,
            _ => return Err(ValueError::MachineType(kind)),
        };
    }
    if let Some(accels) = list.take("accel") {
        builder.accels = accels.split(':').map(str::to_owned).collect();
    }
    let machine = &mut builder.machine;
    machine.dumpdtb = list.take("dumpdtb").map(Into::into).or(machine.dumpdtb.take());
    machine.memory_backend = list.take("memory-backend").or(machine.memory_backend.take());
    machine.suspend = list.take_bool("suspend")?.or(machine.suspend);
    machine.aclint = list.take_bool("aclint")?.or(machine.aclint);
    machine.wakeup_rtc = list.take_bool("wakeup-rtc")?.or(machine.wakeup_rtc);
    // What managers always say, and what is so anyway.
    for off in ["usb", "acpi", "graphics", "mem-merge", "dump-guest-core"] {
        list.take_bool(off)?;
    }
    if let Some(aia) = list.take("aia").filter(|aia| aia != "none") {
        return Err(ValueError::UnsupportedValue(format!("aia={aia}")));
    }
    let unknown = list.rest().next().map(|(name, _)| name.to_owned());
    unknown.map_or(Ok(()), |name| Err(ValueError::NoSuchProperty { class: "virt-machine", name }))
}

/// `-accel`, which may be repeated: the first that exists is taken.
pub(super) fn accel(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("accel"))?;
    let name = list.require("accel")?;
    if name == "help" || name == "?" {
        builder.print = Some("Accelerators supported in this program:\ntcg\n".to_owned());
        return Ok(());
    }
    // Our harts always have a thread each, and translation buffers of our own choice.
    for (key, accepted) in [("thread", "multi"), ("thread", "single"), ("one-insn-per-tb", "off")] {
        if list.rest().any(|(k, v)| k == key && v == accepted) {
            list.take(key);
        }
    }
    list.take_number("tb-size")?;
    if let Some((name, _)) = list.rest().next() {
        return Err(ValueError::NoSuchProperty { class: "tcg-accel", name: name.to_owned() });
    }
    builder.accels.push(name);
    Ok(())
}

/// Takes the first accelerator of the list that exists, and says so when it is not the first of all.
pub(super) fn choose_accel(accels: &[String], warnings: &mut Vec<Warning>) -> Result<(), SetupError> {
    let skipped: Vec<_> = accels.iter().take_while(|name| *name != "tcg").cloned().collect();
    match skipped.first() {
        Some(first) if skipped.len() == accels.len() => return Err(SetupError::Accelerator(first.clone())),
        Some(_) => {}
        None => return Ok(()),
    }
    warnings.extend(skipped.into_iter().map(Warning::InvalidAccelerator));
    warnings.push(Warning::FallingBack("tcg"));
    Ok(())
}

/// `-cpu`.
pub(super) fn cpu(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("model"))?;
    let model = list.require("model")?;
    builder.cpu = match model.as_str() {
        "rv64" => CpuModel::Rv64,
        "max" => CpuModel::Max,
        "help" | "?" => {
            builder.print = Some(help::cpus());
            return Ok(());
        }
        _ => return Err(ValueError::CpuModel(model)),
    };
    builder.cpu_properties.clear();
    for (name, value) in list.rest() {
        if !CPU_PROPERTIES.contains(&name) {
            return Err(ValueError::NoSuchProperty { class: "rv64-riscv-cpu", name: name.to_owned() });
        }
        builder.cpu_properties.push((name.to_owned(), boolean(name, value)?));
    }
    Ok(())
}

/// `-smp`: what is left out follows from the rest; sockets come before cores, and cores before threads.
pub(super) fn smp(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("cpus"))?;
    let mut take = |key| match list.take_number(key)? {
        Some(0) => Err(ValueError::ZeroTopology),
        other => Ok(other),
    };
    let (cpus, maxcpus) = (take("cpus")?, take("maxcpus")?);
    let (sockets, cores, threads) = (take("sockets")?, take("cores")?, take("threads")?);
    for level in ["drawers", "books", "dies", "clusters", "modules"] {
        if take(level)?.is_some_and(|count| count != 1) {
            return Err(ValueError::UnsupportedValue(level.to_owned()));
        }
    }
    list.finish()?;
    let threads = threads.unwrap_or(1);
    let known = sockets.unwrap_or(1).saturating_mul(cores.unwrap_or(1)).saturating_mul(threads);
    let maxcpus = maxcpus.or(cpus).unwrap_or(known);
    let missing = maxcpus / known.max(1);
    let (sockets, cores) = match (sockets, cores) {
        (Some(sockets), Some(cores)) => (sockets, cores),
        (Some(sockets), None) => (sockets, missing),
        (None, cores) => (missing, cores.unwrap_or(1)),
    };
    let cpus = cpus.unwrap_or(maxcpus);
    if cpus.max(maxcpus) > u64::from(MAX_CPUS) {
        return Err(ValueError::TooManyCpus { cpus: cpus.max(maxcpus), max: u64::from(MAX_CPUS) });
    }
    if maxcpus < cpus {
        return Err(ValueError::TooFewMaxCpus { maxcpus, cpus });
    }
    if sockets.saturating_mul(cores).saturating_mul(threads) != maxcpus {
        return Err(ValueError::Topology { sockets, cores, threads, maxcpus });
    }
    // All are factors of maxcpus, so all fit.
    let narrow = |count: u64| u32::try_from(count).unwrap_or(MAX_CPUS);
    builder.smp = Some(Smp {
        cpus: narrow(cpus),
        maxcpus: narrow(maxcpus),
        sockets: narrow(sockets),
        cores: narrow(cores),
        threads: narrow(threads),
    });
    Ok(())
}

/// `-m`: MiB unless a unit is given; rounded up to whole pages.
pub(super) fn memory(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("size"))?;
    let size = list.take_size("size", 1 << 20)?.ok_or(KeyValError::Missing("size"))?;
    for later in ["slots", "maxmem"] {
        if list.take(later).is_some() {
            return Err(ValueError::UnsupportedValue(later.to_owned()));
        }
    }
    list.finish()?;
    builder.memory =
        Some(size.checked_next_multiple_of(4096).filter(|&n| n > 0).ok_or(ValueError::MemorySize(size))?);
    Ok(())
}

/// `-bios`.
pub(super) fn bios(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    builder.boot.bios = match value {
        "default" => Bios::Default,
        "none" => Bios::None,
        file => Bios::File(file.into()),
    };
    Ok(())
}

/// `-rtc`.
pub(super) fn rtc(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    if let Some(base) = list.take("base") {
        builder.rtc.base = base.parse()?;
    }
    if let Some(clock) = list.take("clock") {
        builder.rtc.clock = clock.parse()?;
    }
    match list.take("driftfix").as_deref() {
        None | Some("none") => {}
        Some("slew") => builder.warnings.push(Warning::Driftfix),
        Some(other) => {
            return Err(KeyValError::BadValue { key: "driftfix".into(), value: other.into() }.into());
        }
    }
    Ok(list.finish()?)
}

/// `-icount`.
pub(super) fn icount(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, Some("shift"))?;
    let shift = list.require("shift")?;
    if shift == "auto" {
        return Err(ValueError::UnsupportedValue("shift=auto".to_owned()));
    }
    let shift = number(&shift).ok_or(ValueError::IcountShift)?;
    for (key, only) in [("align", false), ("sleep", true)] {
        if list.take_bool(key)?.is_some_and(|given| given != only) {
            return Err(ValueError::UnsupportedValue(format!("{key}={}", if only { "off" } else { "on" })));
        }
    }
    if list.take("rr").is_some() {
        return Err(ValueError::UnsupportedValue("rr".to_owned()));
    }
    list.finish()?;
    builder.icount = Some(IcountShift::try_from(shift)?);
    Ok(())
}
