//! What managers find out before they start a machine, and while they get hold of one that runs.

mod common;

use common::World;
use monitor::Announcer;

const NOT_FOUND: &str = "DeviceNotFound";

fn refusal(class: &str, desc: &str) -> String {
    format!("{{\"error\": {{\"class\": \"{class}\", \"desc\": \"{desc}\"}}}}")
}

fn command(name: &str, arguments: &str) -> String {
    format!("{{\"execute\": \"{name}\", \"arguments\": {arguments}}}")
}

#[test]
fn types_and_their_properties() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let mut asks = |name: &str, arguments: &str, reply: &str| {
        client.send(&command(name, arguments));
        client.expect(&[reply]);
    };
    asks(
        "qom-list-types",
        r#"{"implements": "device", "abstract": true}"#,
        r#"{"return": [{"name": "device", "abstract": true, "parent": "object"}, {"name": "virtio-rng-device", "parent": "device"}]}"#,
    );
    asks(
        "qom-list-types",
        r#"{"implements": "device"}"#,
        r#"{"return": [{"name": "virtio-rng-device", "parent": "device"}]}"#,
    );
    let rng = r#"{"name": "rng", "type": "link<rng-backend>"}"#;
    let name = r#"{"typename": "virtio-rng-device"}"#;
    asks("device-list-properties", name, &format!("{{\"return\": [{rng}]}}"));
    let ty = r#"{"name": "type", "type": "string"}"#;
    asks("qom-list-properties", name, &format!("{{\"return\": [{ty}, {rng}]}}"));
    asks("device-list-properties", r#"{"typename": "nope"}"#, &refusal(NOT_FOUND, "Device 'nope' not found"));
    asks("qom-list-properties", r#"{"typename": "nope"}"#, &refusal(NOT_FOUND, "Class 'nope' not found"));
    let no_device = refusal("GenericError", "Parameter 'typename' expects a device type");
    asks("device-list-properties", r#"{"typename": "virt-machine"}"#, &no_device);
    asks("qom-list-properties", r#"{"typename": "memory-backend-file"}"#, r#"{"return": []}"#);
}

#[test]
fn the_tree_of_objects() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let mut asks = |name: &str, arguments: &str, reply: &str| {
        client.send(&command(name, arguments));
        client.expect(&[reply]);
    };
    let list =
        |members: &str| format!("{{\"return\": [{{\"name\": \"type\", \"type\": \"string\"}}{members}]}}");
    asks(
        "qom-list",
        r#"{"path": "/"}"#,
        &list(
            r#", {"name": "objects", "type": "child<container>"}, {"name": "machine", "type": "child<virt-machine>"}"#,
        ),
    );
    let rng = list(r#", {"name": "rng0", "type": "child<virtio-rng-device>"}"#);
    asks("qom-list", r#"{"path": "/machine/peripheral"}"#, &rng);
    asks("qom-list", r#"{"path": "/machine/peripheral/"}"#, &rng);
    asks("qom-list", r#"{"path": "/machine/peripheral/rng0"}"#, &list(""));
    asks("qom-list", r#"{"path": "/nope"}"#, &refusal(NOT_FOUND, "Device '/nope' not found"));
    let get = |property: &str| format!("{{\"path\": \"/machine\", \"property\": \"{property}\"}}");
    asks("qom-get", &get("type"), r#"{"return": "virt-machine"}"#);
    asks("qom-get", &get("peripheral"), r#"{"return": "/machine/peripheral"}"#);
    asks("qom-get", &get("nope"), &refusal("GenericError", "Property 'virt-machine.nope' not found"));
}

#[test]
fn processor_models_and_memory() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    client.run(
        "query-cpu-definitions",
        &[r#"{"return": [{"name": "rv64", "typename": "rv64-riscv-cpu", "static": false, "deprecated": false}]}"#],
    );
    let mut expands = |arguments: &str, reply: &str| {
        client.send(&command("query-cpu-model-expansion", arguments));
        client.expect(&[reply]);
    };
    let full = |model: &str| format!("{{\"type\": \"full\", \"model\": {model}}}");
    expands(
        &full(r#"{"name": "rv64", "props": {"zbb": false}}"#),
        r#"{"return": {"model": {"name": "rv64", "props": {"zba": true, "zbb": false}}}}"#,
    );
    let error = |text: &str| refusal("GenericError", text);
    expands(
        r#"{"type": "static", "model": {"name": "rv64"}}"#,
        &error("The requested expansion type is not supported"),
    );
    expands(&full(r#"{"name": "host"}"#), &error("The CPU type 'host' is not a known RISC-V CPU type"));
    let unknown = full(r#"{"name": "rv64", "props": {"v": true}}"#);
    expands(&unknown, &error("Property 'rv64-riscv-cpu.v' not found"));
    let wrong = full(r#"{"name": "rv64", "props": {"zba": 1}}"#);
    expands(&wrong, &error("Invalid parameter type for 'zba', expected: boolean"));
    client.run(
        "query-hotpluggable-cpus",
        &[&refusal("GenericError", "machine does not support hot-plugging CPUs")],
    );
    client.run("query-memory-size-summary", &[r#"{"return": {"base-memory": 134217728}}"#]);
    client.run("query-balloon", &[&refusal("DeviceNotActive", "No balloon device has been activated")]);
    for none in
        ["query-memory-devices", "query-iothreads", "query-jobs", "query-tpm-models", "query-tpm-types"]
    {
        client.run(none, &[r#"{"return": []}"#]);
    }
}

#[test]
fn every_client_is_told_of_a_port_once_it_is_ready() {
    let world = World::new(1);
    let announcer: Announcer = world.monitors.announcer();
    announcer.port_changed("channel0", true);
    let (mut first, mut second) = (world.client("one"), world.client("two"));
    announcer.port_changed("channel0", false);
    for client in [&mut first, &mut second] {
        client.expect(&[r#"VSERPORT_CHANGE {"id": "channel0", "open": false}"#]);
    }
}
