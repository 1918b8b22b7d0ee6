//! What is said of disks and block nodes.

use block::{Disk, IoStatus, Kind, Node};
use qmp::{qapi_enum, qapi_struct};

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
        /// Whether this process may use the image.
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

impl BlockInfo {
    pub(super) fn of(disk: &Disk) -> Self {
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
    pub(super) fn of(node: &Node) -> Self {
        let file = node.path().display().to_string();
        let drv = node.driver().name().to_owned();
        Self {
            node_name: Some(node.name().to_owned()),
            ro: node.is_read_only(),
            backing_file_depth: 0,
            active: node.is_active(),
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
    pub(super) fn of(disk: &Disk) -> Self {
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
