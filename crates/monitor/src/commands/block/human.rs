//! Disks and block nodes, for people.

use std::sync::Arc;

use block::{Disk, IoStatus, Node};

use super::types::BlockStats;
use crate::hmp::{HmpError, Screen};

pub(super) fn info_block(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
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
    let inactive = if node.is_active() { "" } else { ", inactive" };
    let (path, driver) = (node.path().display(), node.driver().name());
    screen.print(&format!("{title}: {path} ({driver}{read_only}{inactive})"));
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

pub(super) fn info_blockstats(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
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
