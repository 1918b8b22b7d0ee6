//! The options about disks, and QEMU's words for what is wrong with them.

use super::*;
use crate::cli::options::{Options, VirtioKind};
use crate::cli::{Command, parse};

fn run(line: &str) -> Options {
    match parse(line.split_whitespace()) {
        Ok(Command::Run(options)) => *options,
        Ok(Command::Print(text)) => panic!("{line}: {text}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

/// What is wrong, without the option in front.
fn error(line: &str) -> String {
    let text = parse(line.split_whitespace()).map(|_| ()).expect_err(line).to_string();
    text.strip_prefix(&format!("{line}: ")).unwrap_or(&text).to_owned()
}

fn disks(options: &Options) -> Vec<&DiskOption> {
    let mut disks = Vec::new();
    for device in &options.virtio {
        if let VirtioKind::Block(disk) = &device.kind {
            disks.push(disk);
        }
    }
    disks
}

fn file(node: &NodeOption) -> &FileOptions {
    match &node.kind {
        NodeKind::File { file, .. } => file,
        NodeKind::Raw { .. } => panic!("no file: {node:?}"),
    }
}

#[test]
fn a_drive_is_two_nodes_and_a_device() {
    let options = run("-drive file=a.img,format=raw,readonly=on,discard=unmap,werror=stop,rerror=ignore");
    let [below, node] = &options.nodes[..] else { panic!("{:?}", options.nodes) };
    assert_eq!((file(below).path.to_str(), file(below).read_only), (Some("a.img"), true));
    assert_eq!(node.kind, NodeKind::Raw { child: below.options.name.clone() });
    assert!(node.options.discard && node.options.read_only && below.options.discard);
    let [disk] = disks(&options)[..] else { panic!("one disk") };
    assert_eq!((disk.drive.as_str(), &disk.node), ("virtio0", &node.options.name));
    assert_eq!(disk.policy, Policy { write: OnError::Stop, read: OnError::Ignore });
}

#[test]
fn a_drive_finds_its_device_and_the_device_has_the_last_word() {
    let options =
        run("-device virtio-blk-device,drive=d,id=disk0,serial=abc,bootindex=1,werror=report,rerror=auto \
         -drive file=a,format=raw,if=none,id=d,node-name=n,werror=stop,rerror=stop,cache=writethrough");
    let [disk] = disks(&options)[..] else { panic!("one disk") };
    assert_eq!((disk.drive.as_str(), disk.node.as_str(), disk.serial.as_str()), ("d", "n", "abc"));
    assert_eq!(disk.policy, Policy { write: OnError::Report, read: OnError::Stop });
    assert!(!options.nodes[1].options.cache.writeback);
    assert!(matches!(options.nodes[0].kind, NodeKind::File { probed: false, .. }));
    let options = run("-drive file=a -drive file=b,if=none,cache=unsafe,locking=off");
    assert!(matches!(options.nodes[0].kind, NodeKind::File { probed: true, .. }));
    assert!(options.nodes[3].options.cache.no_flush && file(&options.nodes[2]).unlocked);
    assert_eq!(options.virtio.len(), 1);
}

#[test]
fn nodes_in_both_spellings_as_libvirt_gives_them() {
    let json = r#"-blockdev {"driver":"file","filename":"/d,1.img","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap","cache":{"direct":false,"no-flush":true}}
        -blockdev {"node-name":"libvirt-1-format","read-only":false,"driver":"raw","file":"libvirt-1-storage"}
        -device {"driver":"virtio-blk-device","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1}"#;
    let plain = "-blockdev driver=file,filename=/d,,1.img,node-name=libvirt-1-storage,auto-read-only=on,discard=unmap,cache.direct=off,cache.no-flush=on
        -blockdev node-name=libvirt-1-format,read-only=off,driver=raw,file=libvirt-1-storage
        -device virtio-blk-device,drive=libvirt-1-format,id=virtio-disk0,bootindex=1";
    let options = run(json);
    assert_eq!(options, run(plain));
    let below = file(&options.nodes[0]);
    assert_eq!((below.path.to_str(), below.auto_read_only), (Some("/d,1.img"), true));
    assert!(options.nodes[0].options.cache.no_flush);
    assert_eq!(options.nodes[0].options.active, None);
    let left = run("-blockdev driver=file,filename=f,node-name=f,active=off");
    assert_eq!(left.nodes[0].options.active, Some(false));
    let [disk] = disks(&options)[..] else { panic!("one disk") };
    assert_eq!((disk.drive.as_str(), disk.node.as_str()), ("", "libvirt-1-format"));
    assert_eq!(disk.policy, Policy::default());
    for inside in [
        r#"-blockdev {"driver":"raw","node-name":"a","file":{"driver":"file","filename":"f"}}"#,
        "-blockdev driver=raw,node-name=a,file.driver=file,file.filename=f",
    ] {
        let nodes = run(inside).nodes;
        assert_eq!(nodes[1].kind, NodeKind::Raw { child: nodes[0].options.name.clone() });
    }
}

#[test]
fn what_is_wrong_is_said_as_qemu_does() {
    for (line, text) in [
        ("-drive file=a.img,foo=1,if=none", "Block format 'raw' does not support the option 'foo'"),
        ("-drive file=a.img,format=foo,if=none", "Unknown driver 'foo'"),
        ("-drive file=a.img,if=foo", "unsupported bus type 'foo'"),
        ("-drive file=a.img,format=raw,if=ide", "machine type does not support if=ide"),
        ("-drive file=a.img,cache=foo,if=none,format=raw", "invalid cache option"),
        ("-drive file=a.img,werror=foo,if=none,format=raw", "'foo' invalid write error action"),
        ("-drive file=a.img,rerror=enospc,if=none,format=raw", "'enospc' invalid read error action"),
        ("-drive file=a.img,discard=foo,if=none,format=raw", "Invalid discard option"),
        ("-drive format=raw,if=virtio", "A block device must be specified for \"file\""),
        ("-drive file=a,format=raw,readonly=maybe", "Parameter 'read-only' expects 'on' or 'off'"),
        ("-blockdev driver=foo,node-name=a", "Parameter 'driver' does not accept value 'foo'"),
        ("-blockdev driver=file,node-name=a", "Parameter 'filename' is missing"),
        ("-blockdev driver=file,filename=a", "'node-name' must be specified for the root node"),
        ("-blockdev driver=file,filename=a,node-name=a,foo=1", "Parameter 'foo' is unexpected"),
        ("-blockdev driver=raw,node-name=a", "Parameter 'file' is missing"),
        ("-blockdev driver=raw,node-name=a,file=zz", "Cannot find device='zz' nor node-name='zz'"),
        ("-blockdev driver=file,filename=a,node-name=1a", "Invalid node-name: '1a'"),
        ("-blockdev node-name=a", "Parameter 'driver' is missing"),
        ("-device virtio-blk-device", "drive property not set"),
        ("-device virtio-blk-device,drive=x", "Property 'virtio-blk-device.drive' can't find value 'x'"),
        ("-device virtio-blk-device,drive=x,foo=1", "Property 'virtio-blk-device.foo' not found"),
        ("-device virtio-blk-device,drive=x,werror=foo", "Parameter 'werror' does not accept value 'foo'"),
    ] {
        assert_eq!(error(line), text, "{line}");
    }
    let two = "-drive file=a,format=raw,if=none,id=a";
    assert!(error(&format!("{two} {two}")).ends_with("Duplicate ID 'a' for drive"));
    let device = "-device virtio-blk-device,drive=a";
    assert_eq!(error(&format!("{two} {device} {device}")), "Drive 'a' is already in use by another device");
    let node = "-blockdev driver=file,filename=a,node-name=a";
    assert!(error(&format!("{node} {node}")).ends_with("Duplicate nodes with node-name='a'"));
    assert!(error("-drive file=a,format=raw,id=1a").contains("Parameter 'id' expects an identifier"));
}

/// As QEMU 10.0 says it.
#[test]
fn values_of_json_have_the_types_that_they_should_have() {
    let below =
        |member: &str| format!(r#"-blockdev {{"driver":"file","node-name":"f","filename":"/d",{member}}}"#);
    let blk = |member: &str| format!(r#"-device {{"driver":"virtio-blk-device","drive":"f",{member}}}"#);
    let wrong =
        |key: &str, expected: &str| format!("Invalid parameter type for '{key}', expected: {expected}");
    let above = |file: &str| format!(r#"-blockdev {{"driver":"raw","node-name":"n","file":{file}}}"#);
    for (line, text) in [
        (below(r#""read-only":"on""#), wrong("read-only", "boolean")),
        (below(r#""auto-read-only":1"#), wrong("auto-read-only", "boolean")),
        (below(r#""cache":{"direct":"off"}"#), wrong("cache.direct", "boolean")),
        (below(r#""cache":{"no-flush":0}"#), wrong("cache.no-flush", "boolean")),
        (below(r#""discard":true"#), wrong("discard", "string")),
        (below(r#""locking":true"#), wrong("locking", "string")),
        (r#"-blockdev {"driver":"file","node-name":1,"filename":"x"}"#.into(), wrong("node-name", "string")),
        (r#"-blockdev {"driver":3}"#.into(), wrong("driver", "string")),
        (above("3"), wrong("file", "BlockdevRef")),
        (above(r#"{"driver":"file","filename":3}"#), wrong("file.filename", "string")),
        (above(r#"{"driver":"file","filename":"x","read-only":1}"#), wrong("file.read-only", "boolean")),
        (blk(r#""bootindex":"1""#), wrong("bootindex", "integer")),
        (blk(r#""write-cache":true"#), wrong("write-cache", "string")),
        (blk(r#""serial":3"#), wrong("serial", "string")),
        (blk(r#""werror":1"#), wrong("werror", "string")),
        (blk(r#""share-rw":"on""#), wrong("share-rw", "boolean")),
        (blk(r#""num-queues":"1""#), "Parameter 'num-queues' expects uint64".into()),
        (blk(r#""num-queues":true"#), "Parameter 'num-queues' expects uint64".into()),
        (r#"-device {"driver":"virtio-blk-device","drive":3}"#.into(), wrong("drive", "string")),
        (r#"-device {"driver":"virtio-rng-device","rng":1}"#.into(), wrong("rng", "string")),
        (
            r#"-device {"driver":"virtio-serial-device","max_ports":"2"}"#.into(),
            "Parameter 'max_ports' expects uint64".into(),
        ),
    ] {
        assert_eq!(error(&line), text, "{line}");
    }
    let all = r#"-blockdev {"driver":"file","node-name":"f","filename":"a,b=c","read-only":true,"cache":{"direct":false}}
        -device {"driver":"virtio-blk-device","drive":"f","bootindex":1,"num-queues":1,"write-cache":"on","share-rw":false}"#;
    let options = run(all);
    assert_eq!(file(&options.nodes[0]).path.to_str(), Some("a,b=c"));
}

#[test]
fn what_is_not_there_is_named() {
    for (line, what) in [
        ("-drive file=a,format=qcow2", "format=qcow2"),
        ("-drive file=a,format=raw,snapshot=on", "snapshot=on"),
        ("-drive file=a,format=raw,cache=none", "cache=none"),
        ("-drive file=a,format=raw,aio=native", "aio=native"),
        ("-drive file=a,format=raw,media=cdrom", "media=cdrom"),
        ("-drive file=a,format=raw,index=1", "index"),
        ("-blockdev driver=qcow2,node-name=a,file=b", "qcow2"),
        ("-blockdev driver=file,filename=a,node-name=a,cache.direct=on", "cache.direct=on"),
        ("-device virtio-blk-device,drive=a,logical_block_size=4096", "logical_block_size=4096"),
        ("-device virtio-blk-device,drive=a,iothread=i", "iothread"),
    ] {
        assert_eq!(error(line), format!("'{what}' is not supported by this program yet"), "{line}");
    }
}
