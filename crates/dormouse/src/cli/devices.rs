//! `-device` and `-object`, as `key=value` lists or as JSON.

use super::disks;
use super::error::ValueError;
use super::finish::VIRTIO_SLOTS;
use super::options::{
    Builder, Object, RngSource, VirtioBuilder, VirtioKind, VirtioKindBuilder, VmgenidOption,
};
use super::{ports, session};
use backends::keyval::{Form, KeyValError, KeyVals};
use serde_json::{Map, Value};

/// Devices of QEMU's `virt` machine that we do not have yet.
const LATER: [&str; 8] = [
    "virtio-net-device",
    "virtio-scsi-device",
    "virtio-balloon-device",
    "virtio-keyboard-device",
    "virtio-gpu-device",
    "vhost-vsock-device",
    "scsi-hd",
    "loader",
];

/// The answer of `-device help`.
const HELP: &str = "\
name \"virtio-blk-device\", bus virtio-bus
name \"virtio-rng-device\", bus virtio-bus
name \"virtio-serial-device\", bus virtio-bus
name \"virtconsole\", bus virtio-serial-bus
name \"virtserialport\", bus virtio-serial-bus
name \"vmgenid\"
";

/// The list of either spelling.
pub(super) fn list(value: &str, implied: &str) -> Result<KeyVals, ValueError> {
    if !value.starts_with('{') {
        return Ok(KeyVals::parse(value, Some(implied))?);
    }
    let Value::Object(members) = serde_json::from_str(value)? else {
        return Err(ValueError::JsonShape);
    };
    let mut list = KeyVals::default();
    flatten("", members, &mut list)?;
    Ok(list)
}

/// The members as the items of a list: those of an object inside have its name and a dot in front, as QEMU writes them.
fn flatten(prefix: &str, members: Map<String, Value>, list: &mut KeyVals) -> Result<(), ValueError> {
    for (key, member) in members {
        let key = format!("{prefix}{key}");
        match member {
            Value::String(string) => list.put_as(key, string, Form::String),
            Value::Bool(on) => list.put_as(key, if on { "on" } else { "off" }.to_owned(), Form::Boolean),
            Value::Number(number) => list.put_as(key, number.to_string(), Form::Number),
            Value::Object(members) => flatten(&format!("{key}."), members, list)?,
            Value::Null | Value::Array(_) => return Err(ValueError::JsonShape),
        }
    }
    Ok(())
}

/// `-object`.
pub(super) fn object(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = list(value, "qom-type")?;
    let kind = list.require("qom-type")?;
    let id = list.require("id")?;
    if let Some(options) = monitor::object_options(&kind, &mut list) {
        let options = options?;
        list.finish()?;
        return insert(builder, id, Object::Made(options));
    }
    let object = match kind.as_str() {
        "memory-backend-ram" => {
            let size = list.take_size("size", 1)?.ok_or(KeyValError::Missing("size"))?;
            // How the host keeps the memory is ours to choose.
            for hint in ["share", "prealloc", "dump", "merge", "reserve"] {
                list.take_bool(hint)?;
            }
            list.finish()?;
            Object::Memory(size)
        }
        "rng-random" => {
            let file = list.take_string("filename")?.unwrap_or_else(|| "/dev/urandom".to_owned());
            list.finish()?;
            Object::Rng(RngSource::File(file.into()))
        }
        "rng-builtin" => {
            list.finish()?;
            Object::Rng(RngSource::Builtin)
        }
        "secret" => Object::Ignored,
        "memory-backend-file"
        | "memory-backend-memfd"
        | "iothread"
        | "throttle-group"
        | "rng-egd"
        | "filter-dump" => return Err(ValueError::UnsupportedValue(kind)),
        _ => return Err(KeyValError::BadValue { key: "qom-type".into(), value: kind }.into()),
    };
    insert(builder, id, object)
}

fn insert(builder: &mut Builder, id: String, object: Object) -> Result<(), ValueError> {
    match builder.objects.insert(id.clone(), object) {
        Some(_) => Err(ValueError::DuplicateId { id, kind: "object" }),
        None => Ok(()),
    }
}

/// `-device`.
pub(super) fn device(builder: &mut Builder, value: &str) -> Result<(), ValueError> {
    let mut list = list(value, "driver")?;
    let driver = list.require("driver")?;
    match driver.as_str() {
        "help" | "?" => {
            builder.print = Some(HELP.to_owned());
            Ok(())
        }
        "virtio-rng-device" => {
            let kind = VirtioKindBuilder::Rng(list.take_string("rng")?);
            virtio(builder, list, kind)
        }
        "virtio-serial-device" => {
            let kind = VirtioKindBuilder::Serial(ports::max_ports(&mut list)?);
            virtio(builder, list, kind)
        }
        "virtserialport" => ports::port(builder, list, false),
        "virtconsole" => ports::port(builder, list, true),
        "virtio-blk-device" => {
            let kind = VirtioKindBuilder::Block(disks::device(&mut list)?);
            virtio(builder, list, kind)
        }
        "vmgenid" => vmgenid(builder, list),
        later if LATER.contains(&later) || later.ends_with("-pci") => {
            Err(ValueError::UnsupportedValue(driver))
        }
        _ => Err(ValueError::DeviceModel(driver)),
    }
}

/// The generation id. Without a value for it one is drawn, as with `auto`.
fn vmgenid(builder: &mut Builder, mut list: KeyVals) -> Result<(), ValueError> {
    let parse = |guid: String| session::parse_uuid(&guid).ok_or(ValueError::Guid(guid));
    let guid = list.take_string("guid")?.filter(|guid| guid != "auto").map(parse).transpose()?;
    let id = list.take_string("id")?;
    if let Some((name, _)) = list.rest().next() {
        return Err(ValueError::NoSuchProperty { class: "vmgenid", name: name.to_owned() });
    }
    builder.claim_device_id(id.as_deref())?;
    match builder.vmgenid.replace(VmgenidOption { id, guid }) {
        Some(_) => Err(ValueError::TwoVmgenids),
        None => Ok(()),
    }
}

/// A device of the virtio bus, whose own properties have been taken out of `list`.
fn virtio(builder: &mut Builder, mut list: KeyVals, kind: VirtioKindBuilder) -> Result<(), ValueError> {
    let slot =
        list.take_string("bus")?.map(|bus| virtio_slot(&bus).ok_or(ValueError::Bus(bus))).transpose()?;
    let id = list.take_string("id")?;
    if let Some((name, _)) = list.rest().next() {
        return Err(ValueError::NoSuchProperty { class: kind.driver(), name: name.to_owned() });
    }
    add_virtio(builder, id, slot, kind)
}

/// Adds a device of the virtio bus.
pub(super) fn add_virtio(
    builder: &mut Builder,
    id: Option<String>,
    slot: Option<usize>,
    kind: VirtioKindBuilder,
) -> Result<(), ValueError> {
    builder.claim_device_id(id.as_deref())?;
    builder.virtio.push(VirtioBuilder { id, slot, kind });
    Ok(())
}

/// The slot that `bus` names: `virtio-mmio-bus.N`.
fn virtio_slot(bus: &str) -> Option<usize> {
    let number = bus.strip_prefix("virtio-mmio-bus.")?;
    (0..VIRTIO_SLOTS).find(|slot| slot.to_string() == number)
}

impl VirtioKindBuilder {
    /// The name of the device's model.
    pub(super) fn driver(&self) -> &'static str {
        match self {
            Self::Rng(_) => "virtio-rng-device",
            Self::Serial(_) => "virtio-serial-device",
            Self::Block(_) => "virtio-blk-device",
        }
    }
}

impl VirtioKind {
    /// The name of the device's model.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Rng(_) => "virtio-rng-device",
            Self::Serial { .. } => "virtio-serial-device",
            Self::Block(_) => "virtio-blk-device",
        }
    }
}
