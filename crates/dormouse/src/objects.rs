//! What this program has to offer, for those who ask it before they use it: types of objects, processor models, kinds of
//! machine; and the tree of the objects that it has made.

use monitor::{CpuModel, MachineInfo, Object, ObjectType, Objects};

use crate::cli::{self, MachineKind, Options, VirtioKind};

/// The id of the machine's memory unless another is given.
const RAM_ID: &str = "riscv_virt_board.ram";
const CPU_TYPES: [(&str, &str); 2] = [("rv64", "rv64-riscv-cpu"), ("max", "max-riscv-cpu")];

const fn abstract_type(name: &'static str, parent: &'static str) -> ObjectType {
    ObjectType { name, parent: Some(parent), is_abstract: true, properties: &[] }
}

const fn object_type(
    name: &'static str,
    parent: &'static str,
    properties: &'static [(&'static str, &'static str)],
) -> ObjectType {
    ObjectType { name, parent: Some(parent), is_abstract: false, properties }
}

const PORT: &[(&str, &str)] = &[("nr", "uint32"), ("name", "str"), ("chardev", "str")];

/// What `-device virtio-blk-device` takes.
const BLOCK: &[(&str, &str)] = &[
    ("drive", "str"),
    ("serial", "str"),
    ("bootindex", "int32"),
    ("werror", "BlockdevOnError"),
    ("rerror", "BlockdevOnError"),
    ("write-cache", "OnOffAuto"),
];

/// What `-object tls-creds-x509` takes.
const CREDENTIALS: &[(&str, &str)] = &[
    ("endpoint", "QCryptoTLSCredsEndpoint"),
    ("dir", "string"),
    ("verify-peer", "bool"),
    ("sanity-check", "bool"),
];

/// The types; properties are what `-machine`, `-device` and `-object` take.
static TYPES: &[ObjectType] = &[
    ObjectType { name: "object", parent: None, is_abstract: true, properties: &[] },
    object_type("container", "object", &[]),
    abstract_type("accel", "object"),
    object_type("tcg-accel", "accel", &[("tb-size", "int")]),
    abstract_type("machine", "object"),
    object_type("none-machine", "machine", &[]),
    object_type(
        "virt-machine",
        "machine",
        &[
            ("memory-backend", "string"),
            ("dumpdtb", "string"),
            ("suspend", "bool"),
            ("aclint", "bool"),
            ("wakeup-rtc", "bool"),
        ],
    ),
    abstract_type("device", "object"),
    abstract_type("cpu", "device"),
    abstract_type("riscv-cpu", "cpu"),
    object_type("rv64-riscv-cpu", "riscv-cpu", &[]),
    object_type("max-riscv-cpu", "riscv-cpu", &[]),
    object_type("riscv.hart_array", "device", &[]),
    object_type("virtio-mmio", "device", &[]),
    object_type("vmgenid", "device", &[("guid", "str")]),
    abstract_type("virtio-device", "device"),
    object_type("virtio-blk-device", "virtio-device", BLOCK),
    object_type("virtio-rng-device", "virtio-device", &[("rng", "link<rng-backend>")]),
    object_type("virtio-serial-device", "virtio-device", &[("max_ports", "uint32")]),
    abstract_type("virtio-serial-port", "device"),
    object_type("virtserialport", "virtio-serial-port", PORT),
    object_type("virtconsole", "virtio-serial-port", PORT),
    abstract_type("memory-backend", "object"),
    object_type("memory-backend-ram", "memory-backend", &[("size", "int")]),
    abstract_type("rng-backend", "object"),
    object_type("rng-builtin", "rng-backend", &[]),
    object_type("rng-random", "rng-backend", &[("filename", "string")]),
    object_type("secret", "object", &[]),
    abstract_type("tls-creds", "object"),
    object_type("tls-creds-x509", "tls-creds", CREDENTIALS),
    abstract_type("authz", "object"),
    object_type("authz-simple", "authz", &[("identity", "string")]),
    abstract_type("chardev", "object"),
    object_type("chardev-null", "chardev", &[]),
    object_type("chardev-stdio", "chardev", &[]),
    object_type("chardev-file", "chardev", &[]),
    object_type("chardev-pty", "chardev", &[]),
    object_type("chardev-socket", "chardev", &[]),
];

/// What `query-cpu-definitions` lists.
pub(crate) fn cpu_models() -> Vec<CpuModel> {
    let mut extensions = hart::Extensions::ALL.names();
    extensions.sort_unstable();
    let model = |&(name, type_name): &(&'static str, &'static str)| CpuModel {
        name,
        type_name,
        properties: extensions.iter().map(|name| (*name, true)).collect(),
    };
    CPU_TYPES.iter().map(model).collect()
}

/// What `query-machines` lists.
pub(crate) fn machines() -> Vec<MachineInfo> {
    let machine = |name: &str, cpu_max: i64| MachineInfo {
        name: name.to_owned(),
        alias: None,
        is_default: None,
        cpu_max,
        hotpluggable_cpus: false,
        numa_mem_supported: false,
        deprecated: false,
        default_cpu_type: None,
        default_ram_id: None,
        acpi: false,
    };
    let virt = MachineInfo {
        is_default: Some(true),
        default_cpu_type: Some(CPU_TYPES[0].1.to_owned()),
        default_ram_id: Some(RAM_ID.to_owned()),
        ..machine("virt", i64::from(cli::MAX_CPUS))
    };
    vec![virt, machine("none", 1)]
}

/// The types, and the objects that `options` make.
pub(crate) fn objects(options: &Options) -> Objects {
    let machine = match options.machine.kind {
        MachineKind::Virt => "virt-machine",
        MachineKind::None => "none-machine",
    };
    let mut tree = Tree::default();
    for (path, type_name) in [
        ("/", "container"),
        ("/objects", "container"),
        ("/machine", machine),
        ("/machine/peripheral", "container"),
        ("/machine/peripheral-anon", "container"),
        ("/machine/unattached", "container"),
    ] {
        tree.add(path.to_owned(), type_name);
    }
    if options.machine.kind == MachineKind::Virt {
        tree.add("/machine/soc0".to_owned(), "riscv.hart_array");
        for hart in 0..options.smp.cpus {
            tree.add(format!("/machine/soc0/harts[{hart}]"), CPU_TYPES[0].1);
        }
        for device in &options.virtio {
            tree.device(device.id.as_deref(), device.kind.driver());
            if let VirtioKind::Serial { ports, .. } = &device.kind {
                ports.iter().for_each(|port| tree.device(port.id.as_deref(), port.driver()));
            }
        }
    }
    if let Some(device) = &options.vmgenid {
        tree.device(device.id.as_deref(), "vmgenid");
    }
    Objects { types: TYPES, tree: tree.objects }
}

#[derive(Default)]
struct Tree {
    objects: Vec<Object>,
    nameless: usize,
}

impl Tree {
    fn add(&mut self, path: String, type_name: &'static str) {
        self.objects.push(Object { path, type_name });
    }

    /// A device of the user's, with the id that it was given if any.
    fn device(&mut self, id: Option<&str>, type_name: &'static str) {
        match id {
            Some(id) => self.add(format!("/machine/peripheral/{id}"), type_name),
            None => {
                self.add(format!("/machine/peripheral-anon/device[{}]", self.nameless), type_name);
                self.nameless += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived_from(of: &ObjectType, name: &str) -> bool {
        let parent = of.parent.and_then(|parent| TYPES.iter().find(|other| other.name == parent));
        of.name == name || parent.is_some_and(|parent| derived_from(parent, name))
    }

    #[test]
    fn types_have_parents_among_them() {
        for of in TYPES.iter().filter(|of| of.name != "object") {
            assert!(derived_from(of, "object"), "{}", of.name);
        }
        for (_, type_name) in CPU_TYPES {
            assert!(TYPES.iter().any(|of| of.name == type_name));
        }
    }

    /// What is listed is what the command line takes: a value that is wrong is complained of, a name is not.
    #[test]
    fn properties_are_those_that_the_command_line_takes() {
        for of in TYPES.iter().filter(|of| !of.is_abstract) {
            let head = match of.name {
                "virt-machine" => ["-machine".to_owned(), "virt".to_owned()],
                "tcg-accel" => ["-accel".to_owned(), "tcg".to_owned()],
                name if derived_from(of, "memory-backend") => {
                    ["-object".to_owned(), format!("{name},id=x,size=1M")]
                }
                "authz-simple" => ["-object".to_owned(), "authz-simple,id=x,identity=CN=x".to_owned()],
                name if derived_from(of, "rng-backend") || derived_from(of, "tls-creds") => {
                    ["-object".to_owned(), format!("{name},id=x")]
                }
                name if ["virtio-device", "virtio-serial-port", "vmgenid"]
                    .iter()
                    .any(|it| derived_from(of, it)) =>
                {
                    ["-device".to_owned(), name.to_owned()]
                }
                _ => {
                    assert!(of.properties.is_empty(), "{}", of.name);
                    continue;
                }
            };
            let said = |property: &str| {
                let [option, value] = head.clone();
                let outcome = cli::parse([option, format!("{value},{property}=!")]);
                outcome.err().map_or(String::new(), |error| error.to_string())
            };
            let unknown = |text: &str| {
                text.contains("Property '") && text.contains("' not found")
                    || text.contains("Invalid parameter")
            };
            assert!(unknown(&said("nonsense")), "{}: {}", of.name, said("nonsense"));
            for (property, _) in of.properties {
                assert!(!unknown(&said(property)), "{}.{property}: {}", of.name, said(property));
            }
        }
    }
}
