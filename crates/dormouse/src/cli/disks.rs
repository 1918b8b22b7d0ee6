//! `-drive`, `-blockdev` and `-device virtio-blk-device`: what each says by itself, and how they find each other.
//!
//! ```text
//!   -blockdev driver=file ◄── -blockdev driver=raw ◄──┐
//!                                                     ├── -device virtio-blk-device,drive=…
//!   -drive (a file node, a raw node, a drive) ◄───────┘   -drive if=virtio makes one by itself
//! ```

use std::path::PathBuf;

use backends::keyval::{Form, KeyValError, KeyVals, boolean, number};
use block::{Cache, FileOptions, NodeOptions, OnError, Policy};

use super::devices::{add_virtio, list};
use super::error::ValueError;
use super::options::{Builder, DiskOption, NodeKind, NodeOption, VirtioKindBuilder};

/// What is wrong with an option about disks, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// `format=`.
    #[error("Unknown driver '{0}'")]
    Format(String),
    /// `if=`, no such.
    #[error("unsupported bus type '{0}'")]
    BusType(String),
    /// `if=`, not in this machine.
    #[error("machine type does not support if={0}")]
    MachineBus(String),
    /// `cache=`.
    #[error("invalid cache option")]
    Cache,
    /// `discard=`.
    #[error("Invalid discard option")]
    Discard,
    /// `werror=`.
    #[error("'{0}' invalid write error action")]
    WriteError(String),
    /// `rerror=`.
    #[error("'{0}' invalid read error action")]
    ReadError(String),
    /// A drive without a file.
    #[error("A block device must be specified for \"file\"")]
    NoFile,
    /// An option of `-drive` that is not there.
    #[error("Block format 'raw' does not support the option '{0}'")]
    DriveOption(String),
    /// An option of `-blockdev` that is not there.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// A node without a name.
    #[error("'node-name' must be specified for the root node")]
    NoNodeName,
    /// Not a name.
    #[error("Invalid node-name: '{0}'")]
    NodeName(String),
    /// Not an id.
    #[error("Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting with a letter")]
    Id,
    /// A name used twice.
    #[error("Duplicate nodes with node-name='{0}'")]
    DuplicateNode(String),
    /// A reference to a node.
    #[error("Cannot find device='{0}' nor node-name='{0}'")]
    NoSuchNode(String),
    /// A device without a drive.
    #[error("drive property not set")]
    NoDrive,
    /// A reference to a drive or node.
    #[error("Property 'virtio-blk-device.drive' can't find value '{0}'")]
    NoSuchDrive(String),
    /// A drive or node with two devices.
    #[error("Drive '{0}' is already in use by another device")]
    InUse(String),
}

/// `-drive`, as far as other options refer to it.
#[derive(Debug)]
pub(super) struct DriveBuilder {
    pub(super) id: String,
    /// Its node on top.
    node: String,
    policy: Policy,
}

/// `-device virtio-blk-device`, as far as read.
#[derive(Debug)]
pub(super) struct BlkBuilder {
    drive: Option<String>,
    serial: String,
    write: Option<OnError>,
    read: Option<OnError>,
    writeback: Option<bool>,
}

/// Nodes and drives by name.
#[derive(Debug, Default)]
pub(super) struct DiskBuilder {
    nodes: Vec<NodeOption>,
    drives: Vec<DriveBuilder>,
    /// Nodes that were given no name, so far.
    unnamed: usize,
}

impl DiskBuilder {
    /// A name for a node that was given none; no operator can give one like it.
    fn next_name(&mut self) -> String {
        self.unnamed += 1;
        format!("#block{:03}", self.unnamed)
    }

    fn add(&mut self, node: NodeOption) -> Result<(), DiskError> {
        if self.has(&node.options.name) {
            return Err(DiskError::DuplicateNode(node.options.name));
        }
        self.nodes.push(node);
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.options.name == name)
    }

    /// The nodes, those below before those above.
    pub(super) fn into_nodes(self) -> Vec<NodeOption> {
        self.nodes
    }

    /// What a device has of its drive. `used` are the nodes that other devices have.
    pub(super) fn disk(&self, device: &BlkBuilder, used: &mut Vec<String>) -> Result<DiskOption, DiskError> {
        let BlkBuilder { drive, serial, write, read, writeback } = device;
        let name = drive.as_ref().ok_or(DiskError::NoDrive)?;
        let drive = self.drives.iter().find(|drive| drive.id == *name);
        let node = match drive {
            Some(drive) => &drive.node,
            None if self.has(name) => name,
            None => return Err(DiskError::NoSuchDrive(name.clone())),
        };
        if used.contains(node) {
            return Err(DiskError::InUse(name.clone()));
        }
        used.push(node.clone());
        let default = drive.map_or_else(Policy::default, |drive| drive.policy);
        Ok(DiskOption {
            drive: drive.map_or_else(String::new, |drive| drive.id.clone()),
            node: node.clone(),
            policy: Policy { write: write.unwrap_or(default.write), read: read.unwrap_or(default.read) },
            serial: serial.clone(),
            writeback: *writeback,
        })
    }
}

// ---- -blockdev ----

/// `-blockdev`.
pub(super) fn blockdev(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let list = list(value, "driver")?;
    node(&mut builder.disks, list, true).map(|_| ())
}

/// A node and, where it is written inside of it, the one below. Gives its name.
fn node(disks: &mut DiskBuilder, mut list: KeyVals, root: bool) -> Result<String, ValueError> {
    let driver = list.require("driver")?;
    let name = match list.take_string("node-name")? {
        Some(name) if is_identifier(&name) => name,
        Some(name) => return Err(DiskError::NodeName(name).into()),
        None if root => String::new(),
        None => disks.next_name(),
    };
    let read_only = list.take_bool("read-only")?;
    let auto_read_only = list.take_bool("auto-read-only")?.unwrap_or(false);
    let options = NodeOptions {
        name: name.clone(),
        active: list.take_bool("active")?,
        read_only: read_only.unwrap_or(false),
        discard: discard(&mut list)?,
        cache: cache_members(&mut list)?,
    };
    zeroes_are_not_looked_for(&mut list)?;
    let kind = match driver.as_str() {
        "file" => {
            let path = list.require("filename")?;
            let file = file(&mut list, path, options.read_only, auto_read_only)?;
            NodeKind::File { file, probed: false }
        }
        "raw" => NodeKind::Raw { child: child(disks, &mut list)? },
        "qcow2" | "qcow" | "qed" | "vmdk" | "vdi" | "vpc" | "vhdx" | "luks" | "host_device" | "nbd"
        | "null-co" | "null-aio" | "blkdebug" | "copy-on-read" | "throttle" | "host_cdrom" | "iscsi"
        | "ssh" | "http" | "https" | "rbd" | "quorum" | "vvfat" => {
            return Err(ValueError::UnsupportedValue(driver));
        }
        _ => return Err(KeyValError::BadValue { key: "driver".into(), value: driver }.into()),
    };
    if let Some((key, _)) = list.rest().next() {
        return Err(DiskError::Unexpected(key.to_owned()).into());
    }
    if name.is_empty() {
        return Err(DiskError::NoNodeName.into());
    }
    disks.add(NodeOption { options, kind })?;
    Ok(name)
}

/// The node below: a reference, or a description inside of this one.
fn child(disks: &mut DiskBuilder, list: &mut KeyVals) -> Result<String, ValueError> {
    let inside = list.take_under("file");
    match list.take_as("file", Form::String, "BlockdevRef")? {
        Some(name) if disks.has(&name) => Ok(name),
        Some(name) => Err(DiskError::NoSuchNode(name).into()),
        None if inside.rest().next().is_some() => node(disks, inside, false),
        None => Err(KeyValError::Missing("file").into()),
    }
}

/// What is said of a file beside its name.
fn file(
    list: &mut KeyVals,
    path: String,
    read_only: bool,
    auto_read_only: bool,
) -> Result<FileOptions, ValueError> {
    match list.take_string("aio")?.as_deref() {
        None | Some("threads") => {}
        Some(other) => return Err(ValueError::UnsupportedValue(format!("aio={other}"))),
    }
    let unlocked = match list.take_string("locking")? {
        None => false,
        Some(auto) if auto == "auto" => false,
        Some(value) => !boolean("locking", &value)?,
    };
    Ok(FileOptions { path: PathBuf::from(path), read_only, auto_read_only, unlocked })
}

fn discard(list: &mut KeyVals) -> Result<bool, ValueError> {
    match list.take_string("discard")?.as_deref() {
        None | Some("ignore" | "off") => Ok(false),
        Some("unmap" | "on") => Ok(true),
        Some(_) => Err(DiskError::Discard.into()),
    }
}

/// `cache.direct` and `cache.no-flush`.
fn cache_members(list: &mut KeyVals) -> Result<Cache, ValueError> {
    if list.take_bool("cache.direct")?.unwrap_or(false) {
        return Err(ValueError::UnsupportedValue("cache.direct=on".to_owned()));
    }
    let no_flush = list.take_bool("cache.no-flush")?.unwrap_or(false);
    Ok(Cache { no_flush, ..Cache::default() })
}

fn zeroes_are_not_looked_for(list: &mut KeyVals) -> Result<(), ValueError> {
    match list.take_string("detect-zeroes")?.as_deref() {
        None | Some("off") => Ok(()),
        Some(other) => Err(ValueError::UnsupportedValue(format!("detect-zeroes={other}"))),
    }
}

/// Letters, digits, `-`, `.`, `_`, a letter first.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        && name.len() < 32
}

// ---- -drive ----

/// `-drive`: a node for the file, one for its format, a name for both, and with `if=virtio` (the default) a device.
pub(super) fn drive(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = KeyVals::parse(value, None)?;
    let bus = bus(&mut list)?;
    let probed = format(&mut list)?;
    let path = list.take("file").or_else(|| list.take("file.filename")).ok_or(DiskError::NoFile)?;
    list.take("file.driver").map_or(Ok(()), |driver| match driver.as_str() {
        "file" => Ok(()),
        _ => Err(ValueError::UnsupportedValue(format!("file.driver={driver}"))),
    })?;
    if let Some(locking) = list.take("file.locking") {
        list.put("locking", &locking);
    }
    let read_only = list.take("readonly").or_else(|| list.take("read-only"));
    let read_only = read_only.map(|value| boolean("read-only", &value)).transpose()?.unwrap_or(false);
    // As with QEMU, a drive that was not asked to be read-only is never so by itself.
    let auto_read_only = list.take_bool("auto-read-only")?.unwrap_or(false);
    let cache = cache(&mut list)?;
    let discard = discard(&mut list)?;
    zeroes_are_not_looked_for(&mut list)?;
    let policy = Policy {
        write: on_error(&mut list, "werror")?.unwrap_or(Policy::default().write),
        read: on_error(&mut list, "rerror")?.unwrap_or(Policy::default().read),
    };
    let below = file(&mut list, path, read_only, auto_read_only)?;
    let name = list.take("node-name");
    let id = list.take("id");
    nothing_else(&mut list)?;
    let disks = &mut builder.disks;
    let name = match name {
        Some(name) if is_identifier(&name) => name,
        Some(name) => return Err(DiskError::NodeName(name).into()),
        None => disks.next_name(),
    };
    let id = match id {
        Some(id) if is_identifier(&id) => id,
        Some(_) => return Err(DiskError::Id.into()),
        None => unused_id(disks, bus),
    };
    if disks.drives.iter().any(|drive| drive.id == id) {
        return Err(ValueError::DuplicateId { id, kind: "drive" });
    }
    let options = |name: &str| NodeOptions { name: name.to_owned(), active: None, read_only, discard, cache };
    let below_name = disks.next_name();
    disks.add(NodeOption { options: options(&below_name), kind: NodeKind::File { file: below, probed } })?;
    disks.add(NodeOption { options: options(&name), kind: NodeKind::Raw { child: below_name } })?;
    disks.drives.push(DriveBuilder { id: id.clone(), node: name, policy });
    if bus == Bus::Virtio {
        let device =
            BlkBuilder { drive: Some(id), serial: String::new(), write: None, read: None, writeback: None };
        add_virtio(builder, None, None, VirtioKindBuilder::Block(device))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Bus {
    Virtio,
    None,
}

fn bus(list: &mut KeyVals) -> Result<Bus, DiskError> {
    match list.take("if") {
        None => Ok(Bus::Virtio),
        Some(bus) => match bus.as_str() {
            "virtio" => Ok(Bus::Virtio),
            "none" => Ok(Bus::None),
            "ide" | "scsi" | "floppy" | "pflash" | "mtd" | "sd" | "xen" => Err(DiskError::MachineBus(bus)),
            _ => Err(DiskError::BusType(bus)),
        },
    }
}

/// Gives whether the format was left open.
fn format(list: &mut KeyVals) -> Result<bool, ValueError> {
    match list.take("format").or_else(|| list.take("driver")) {
        None => Ok(true),
        Some(format) => match format.as_str() {
            "raw" => Ok(false),
            "qcow2" | "qcow" | "qed" | "vmdk" | "vdi" | "vpc" | "vhdx" | "luks" => {
                Err(ValueError::UnsupportedValue(format!("format={format}")))
            }
            _ => Err(DiskError::Format(format).into()),
        },
    }
}

/// `cache=`, and the members that it stands for, which count more.
fn cache(list: &mut KeyVals) -> Result<Cache, ValueError> {
    let mode = list.take("cache");
    let mut cache = match mode.as_deref() {
        None | Some("writeback") => Cache::default(),
        Some("unsafe") => Cache { no_flush: true, ..Cache::default() },
        Some("writethrough") => Cache { writeback: false, ..Cache::default() },
        Some(direct @ ("none" | "directsync" | "off")) => {
            return Err(ValueError::UnsupportedValue(format!("cache={direct}")));
        }
        Some(_) => return Err(DiskError::Cache.into()),
    };
    cache.no_flush |= cache_members(list)?.no_flush;
    cache.writeback = list.take_bool("cache.writeback")?.unwrap_or(cache.writeback);
    Ok(cache)
}

fn on_error(list: &mut KeyVals, key: &str) -> Result<Option<OnError>, DiskError> {
    let Some(value) = list.take(key) else { return Ok(None) };
    match (value.parse(), key) {
        (Ok(OnError::Enospc), "rerror") | (Err(()), "rerror") => Err(DiskError::ReadError(value)),
        (Err(()), _) => Err(DiskError::WriteError(value)),
        (Ok(policy), _) => Ok(Some(policy)),
    }
}

/// What is left may say only what is so anyway.
fn nothing_else(list: &mut KeyVals) -> Result<(), ValueError> {
    for key in ["snapshot", "copy-on-read"] {
        if list.take_bool(key)?.unwrap_or(false) {
            return Err(ValueError::UnsupportedValue(format!("{key}=on")));
        }
    }
    match list.take("media").as_deref() {
        None | Some("disk") => {}
        Some(other) => return Err(ValueError::UnsupportedValue(format!("media={other}"))),
    }
    let rest = list.rest().next().map(|(key, _)| key.to_owned());
    match rest {
        None => Ok(()),
        Some(key) if matches!(key.as_str(), "index" | "bus" | "unit") || key.contains("throttling") => {
            Err(ValueError::UnsupportedValue(key))
        }
        Some(key) => Err(DiskError::DriveOption(key).into()),
    }
}

/// `virtio0`, `none1`: as QEMU names drives.
fn unused_id(disks: &DiskBuilder, bus: Bus) -> String {
    let prefix = match bus {
        Bus::Virtio => "virtio",
        Bus::None => "none",
    };
    let named = |id: &str| disks.drives.iter().any(|drive| drive.id == id);
    let mut ids = (0..).map(|number: u32| format!("{prefix}{number}"));
    ids.find(|id| !named(id)).unwrap_or_default()
}

// ---- -device virtio-blk-device ----

/// The properties of the device, taken out of its list.
pub(super) fn device(list: &mut KeyVals) -> Result<BlkBuilder, ValueError> {
    let policy = |list: &mut KeyVals, key: &str| match list.take_string(key)? {
        None => Ok(None),
        Some(auto) if auto == "auto" => Ok(None),
        Some(value) => match value.parse() {
            Ok(policy) => Ok(Some(policy)),
            Err(()) => Err(KeyValError::BadValue { key: key.to_owned(), value }),
        },
    };
    let device = BlkBuilder {
        drive: list.take_string("drive")?,
        serial: list.take_string("serial")?.unwrap_or_default(),
        write: policy(list, "werror")?,
        read: policy(list, "rerror")?,
        writeback: match list.take_string("write-cache")? {
            None => None,
            Some(auto) if auto == "auto" => None,
            Some(value) => Some(boolean("write-cache", &value)?),
        },
    };
    // There is one thing to boot from, and it is no disk.
    let bootindex = list.take_as("bootindex", Form::Number, "integer")?;
    if bootindex.is_some_and(|index| number(&index).is_none() && index.parse::<i32>().is_err()) {
        return Err(KeyValError::NotNumber { key: "bootindex".to_owned() }.into());
    }
    for (key, only) in
        [("logical_block_size", 512), ("physical_block_size", 512), ("num-queues", 1), ("queue-size", 256)]
    {
        if let Some(number) = list.take_number(key)?.filter(|number| *number != only) {
            return Err(ValueError::UnsupportedValue(format!("{key}={number}")));
        }
    }
    if list.take_bool("share-rw")?.unwrap_or(false) {
        return Err(ValueError::UnsupportedValue("share-rw=on".to_owned()));
    }
    if list.take_string("iothread")?.is_some() {
        return Err(ValueError::UnsupportedValue("iothread".to_owned()));
    }
    Ok(device)
}

#[cfg(test)]
mod tests;
