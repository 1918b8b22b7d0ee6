//! Disks and block nodes.

use std::sync::Arc;

use block::{Disk, Fault, FaultRule, IoStatus, Kind, Node};
use qmp::schema::{Qapi as _, Type, arg, opt};
use qmp::{Args, QmpError, qapi_enum, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words};

qapi_enum! {
    /// What stopped the machine last.
    BlockDeviceIoStatus {
        /// Nothing did.
        Ok = "ok",
        /// A request failed.
        Failed = "failed",
        /// There was no space left.
        NoSpace = "nospace",
    }
}

qapi_enum! {
    /// What is done about writes of zeroes.
    DetectZeroes {
        /// Nothing.
        Off = "off",
    }
}

qapi_struct! {
    /// How far writes go before they are called done.
    CacheInfo {
        /// Writes may stay in the host's cache until a flush.
        writeback: bool = "writeback",
        /// The host's cache is passed by.
        direct: bool = "direct",
        /// Flushes do nothing.
        no_flush: bool = "no-flush",
    }
}

qapi_struct! {
    /// An image.
    ImageInfo {
        /// The file.
        filename: String = "filename",
        /// Its format.
        format: String = "format",
        /// Whether it was not closed in order.
        dirty_flag: Option<bool> = "dirty-flag",
        /// Bytes that it takes on the host.
        actual_size: Option<u64> = "actual-size",
        /// Bytes that a guest sees.
        virtual_size: u64 = "virtual-size",
    }
}

qapi_struct! {
    /// A block node.
    BlockDeviceInfo {
        /// The file at the bottom.
        file: String = "file",
        /// Its name.
        node_name: Option<String> = "node-name",
        /// Whether nothing may be written.
        ro: bool = "ro",
        /// What it is.
        drv: String = "drv",
        /// How many images are behind it.
        backing_file_depth: i64 = "backing_file_depth",
        /// Whether it is in use.
        active: bool = "active",
        /// Whether it is encrypted.
        encrypted: bool = "encrypted",
        /// What is done about writes of zeroes.
        detect_zeroes: DetectZeroes = "detect_zeroes",
        /// Bytes a second that are let through; 0 for all.
        bps: i64 = "bps",
        /// The same, read.
        bps_rd: i64 = "bps_rd",
        /// The same, written.
        bps_wr: i64 = "bps_wr",
        /// Operations a second that are let through; 0 for all.
        iops: i64 = "iops",
        /// The same, reads.
        iops_rd: i64 = "iops_rd",
        /// The same, writes.
        iops_wr: i64 = "iops_wr",
        /// The image.
        image: ImageInfo = "image",
        /// How far writes go.
        cache: CacheInfo = "cache",
        /// From what size on an event is sent; 0 for never.
        write_threshold: i64 = "write_threshold",
    }
}

qapi_struct! {
    /// What a device has of a block node.
    BlockInfo {
        /// The drive's name, empty if it has none.
        device: String = "device",
        /// The device.
        qdev: Option<String> = "qdev",
        /// Not used.
        kind: String = "type",
        /// Whether the medium can be taken out.
        removable: bool = "removable",
        /// Whether the guest keeps it in.
        locked: bool = "locked",
        /// The medium.
        inserted: Option<BlockDeviceInfo> = "inserted",
        /// What stopped the machine last.
        io_status: Option<BlockDeviceIoStatus> = "io-status",
    }
}

qapi_struct! {
    /// What a disk has done so far.
    BlockDeviceStats {
        /// Bytes read.
        rd_bytes: i64 = "rd_bytes",
        /// Bytes written.
        wr_bytes: i64 = "wr_bytes",
        /// Bytes of zones appended.
        zone_append_bytes: i64 = "zone_append_bytes",
        /// Bytes discarded.
        unmap_bytes: i64 = "unmap_bytes",
        /// Reads.
        rd_operations: i64 = "rd_operations",
        /// Writes.
        wr_operations: i64 = "wr_operations",
        /// Zones appended.
        zone_append_operations: i64 = "zone_append_operations",
        /// Flushes.
        flush_operations: i64 = "flush_operations",
        /// Discards.
        unmap_operations: i64 = "unmap_operations",
        /// Time of the reads in ns.
        rd_total_time_ns: i64 = "rd_total_time_ns",
        /// Time of the writes in ns.
        wr_total_time_ns: i64 = "wr_total_time_ns",
        /// Time of the zone appends in ns.
        zone_append_total_time_ns: i64 = "zone_append_total_time_ns",
        /// Time of the flushes in ns.
        flush_total_time_ns: i64 = "flush_total_time_ns",
        /// Time of the discards in ns.
        unmap_total_time_ns: i64 = "unmap_total_time_ns",
        /// First byte behind the last that was written.
        wr_highest_offset: i64 = "wr_highest_offset",
        /// Reads that were merged with others: none.
        rd_merged: i64 = "rd_merged",
        /// Writes that were merged with others: none.
        wr_merged: i64 = "wr_merged",
        /// Zone appends that were merged with others: none.
        zone_append_merged: i64 = "zone_append_merged",
        /// Discards that were merged with others: none.
        unmap_merged: i64 = "unmap_merged",
        /// Reads that the host failed.
        failed_rd_operations: i64 = "failed_rd_operations",
        /// Writes that the host failed.
        failed_wr_operations: i64 = "failed_wr_operations",
        /// Zone appends that the host failed.
        failed_zone_append_operations: i64 = "failed_zone_append_operations",
        /// Flushes that the host failed.
        failed_flush_operations: i64 = "failed_flush_operations",
        /// Discards that the host failed.
        failed_unmap_operations: i64 = "failed_unmap_operations",
        /// Reads that were refused.
        invalid_rd_operations: i64 = "invalid_rd_operations",
        /// Writes that were refused.
        invalid_wr_operations: i64 = "invalid_wr_operations",
        /// Zone appends that were refused.
        invalid_zone_append_operations: i64 = "invalid_zone_append_operations",
        /// Flushes that were refused.
        invalid_flush_operations: i64 = "invalid_flush_operations",
        /// Discards that were refused.
        invalid_unmap_operations: i64 = "invalid_unmap_operations",
        /// Whether refused operations are in the times: they are not.
        account_invalid: bool = "account_invalid",
        /// Whether failed operations are in the times.
        account_failed: bool = "account_failed",
        /// Statistics over intervals: none.
        timed_stats: Vec<String> = "timed_stats",
    }
}

qapi_struct! {
    /// What a disk has done so far, and whose it is.
    BlockStats {
        /// The drive's name, empty if it has none.
        device: Option<String> = "device",
        /// The device.
        qdev: Option<String> = "qdev",
        /// The node on top.
        node_name: Option<String> = "node-name",
        /// The counts.
        stats: BlockDeviceStats = "stats",
    }
}

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
        /// Says whether block nodes are in use. All are, always: no disk of this program is handed over yet.
        "blockdev-set-active" [
            opt("node-name", Type::Str, "The node; all without a name."),
            arg("active", Type::Bool, "Whether it is in use."),
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
    if let Some(name) = args.opt_str("node-name") {
        find(env, name)?;
    }
    match args.opt_bool("active") {
        Some(true) => Ok(()),
        _ => Err(QmpError::generic("block nodes cannot be made inactive by this program yet")),
    }
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

impl BlockInfo {
    fn of(disk: &Disk) -> Self {
        let config = disk.config();
        let mut inserted = BlockDeviceInfo::of(disk.node());
        inserted.cache.writeback = config.writeback;
        Self {
            device: config.name.clone(),
            qdev: Some(config.qdev.clone()),
            kind: "unknown".to_owned(),
            removable: false,
            locked: false,
            inserted: Some(inserted),
            io_status: Some(match disk.io_status() {
                IoStatus::Ok => BlockDeviceIoStatus::Ok,
                IoStatus::Failed => BlockDeviceIoStatus::Failed,
                IoStatus::NoSpace => BlockDeviceIoStatus::NoSpace,
            }),
        }
    }
}

impl BlockDeviceInfo {
    fn of(node: &Node) -> Self {
        let file = node.path().display().to_string();
        let drv = node.driver().name().to_owned();
        Self {
            node_name: Some(node.name().to_owned()),
            ro: node.is_read_only(),
            backing_file_depth: 0,
            active: true,
            encrypted: false,
            detect_zeroes: DetectZeroes::Off,
            bps: 0,
            bps_rd: 0,
            bps_wr: 0,
            iops: 0,
            iops_rd: 0,
            iops_wr: 0,
            image: ImageInfo {
                filename: file.clone(),
                format: drv.clone(),
                dirty_flag: Some(false),
                actual_size: node.allocated().ok(),
                virtual_size: node.size(),
            },
            cache: CacheInfo { writeback: node.cache().writeback, direct: false, no_flush: !node.flushes() },
            write_threshold: 0,
            file,
            drv,
        }
    }
}

impl BlockStats {
    fn of(disk: &Disk) -> Self {
        let (config, all) = (disk.config(), disk.stats().snapshot());
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let [read, write, flush, unmap] = Kind::ALL.map(|kind| all.of(kind));
        let stats = BlockDeviceStats {
            rd_bytes: number(read.bytes),
            wr_bytes: number(write.bytes),
            zone_append_bytes: 0,
            unmap_bytes: number(unmap.bytes),
            rd_operations: number(read.operations),
            wr_operations: number(write.operations),
            zone_append_operations: 0,
            flush_operations: number(flush.operations),
            unmap_operations: number(unmap.operations),
            rd_total_time_ns: number(read.total_ns),
            wr_total_time_ns: number(write.total_ns),
            zone_append_total_time_ns: 0,
            flush_total_time_ns: number(flush.total_ns),
            unmap_total_time_ns: number(unmap.total_ns),
            wr_highest_offset: number(all.highest_written),
            rd_merged: 0,
            wr_merged: 0,
            zone_append_merged: 0,
            unmap_merged: 0,
            failed_rd_operations: number(read.failed),
            failed_wr_operations: number(write.failed),
            failed_zone_append_operations: 0,
            failed_flush_operations: number(flush.failed),
            failed_unmap_operations: number(unmap.failed),
            invalid_rd_operations: number(read.invalid),
            invalid_wr_operations: number(write.invalid),
            invalid_zone_append_operations: 0,
            invalid_flush_operations: number(flush.invalid),
            invalid_unmap_operations: number(unmap.invalid),
            account_invalid: false,
            account_failed: true,
            timed_stats: Vec::new(),
        };
        Self {
            device: Some(config.name.clone()),
            qdev: Some(config.qdev.clone()),
            node_name: Some(disk.node().name().to_owned()),
            stats,
        }
    }
}

// ---- for people ----

fn info_block(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let config = screen.env.config();
    match words.first() {
        Some(&"-n") => {
            for node in config.nodes.iter().rev() {
                print_node(screen, node.name(), node, None);
            }
        }
        word => {
            let verbose = word == Some(&"-v");
            let only = word.filter(|_| !verbose);
            let wanted = |disk: &&Arc<Disk>| only.is_none_or(|name| *name == label(disk));
            for (index, disk) in config.disks.iter().filter(wanted).enumerate() {
                if index > 0 {
                    screen.print("");
                }
                print_disk(screen, disk, verbose);
            }
        }
    }
    Ok(())
}

/// How people know a disk: by its drive's name, else its node's.
fn label(disk: &Disk) -> &str {
    let name = disk.config().name.as_str();
    if name.is_empty() { disk.node().name() } else { name }
}

fn print_disk(screen: &mut Screen<'_>, disk: &Disk, verbose: bool) {
    let (config, node) = (disk.config(), disk.node());
    let title = match config.name.as_str() {
        "" => node.name().to_owned(),
        name => format!("{name} ({})", node.name()),
    };
    print_node(screen, &title, node, Some(disk));
    if verbose {
        let mebibytes = node.size() as f64 / f64::from(1 << 20);
        screen.print("\nImages:");
        screen.print(&format!("image: {}", node.path().display()));
        screen.print(&format!("file format: {}", node.driver().name()));
        screen.print(&format!("virtual size: {mebibytes:.3} MiB ({} bytes)", node.size()));
        screen.print(&format!("disk size: {} bytes", node.allocated().unwrap_or_default()));
    }
}

fn print_node(screen: &mut Screen<'_>, title: &str, node: &Node, disk: Option<&Disk>) {
    let read_only = if node.is_read_only() { ", read-only" } else { "" };
    screen.print(&format!("{title}: {} ({}{read_only})", node.path().display(), node.driver().name()));
    if let Some(disk) = disk {
        screen.print(&format!("    Attached to:      {}", disk.config().qdev));
        match disk.io_status() {
            IoStatus::Ok => {}
            IoStatus::Failed => screen.print("    I/O status:       failed"),
            IoStatus::NoSpace => screen.print("    I/O status:       nospace"),
        }
    }
    let writeback = disk.map_or(node.cache().writeback, |disk| disk.config().writeback);
    let ignored = if node.flushes() { "" } else { ", ignore flushes" };
    let mode = if writeback { "writeback" } else { "writethrough" };
    screen.print(&format!("    Cache mode:       {mode}{ignored}"));
}

fn info_blockstats(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    for disk in &screen.env.config().disks {
        let stats = BlockStats::of(disk).stats;
        screen.print(&format!(
            "{}: rd_bytes={} wr_bytes={} rd_operations={} wr_operations={} flush_operations={} \
             wr_total_time_ns={} rd_total_time_ns={} flush_total_time_ns={} rd_merged=0 wr_merged=0",
            label(disk),
            stats.rd_bytes,
            stats.wr_bytes,
            stats.rd_operations,
            stats.wr_operations,
            stats.flush_operations,
            stats.wr_total_time_ns,
            stats.rd_total_time_ns,
            stats.flush_total_time_ns,
        ));
    }
    Ok(())
}
