//! The device tree says what the machine is.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use board::{Board, BoardConfig, map};
use common::tree::Tree;
use common::{Ground, build, bytes, image};
use vmcore::Machine;

fn tree(change: impl FnOnce(&mut BoardConfig)) -> Vec<u8> {
    build(change).unwrap().0.device_tree().unwrap()
}

/// `dtc`'s opinion, if there is one on this host.
fn decompile(blob: &[u8]) -> Option<(String, String)> {
    let mut dtc = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    dtc.stdin.take().unwrap().write_all(blob).unwrap();
    let output = dtc.wait_with_output().unwrap();
    assert!(output.status.success());
    Some((String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn every_device_of_the_bus_is_in_it_with_its_window() {
    for sun_rtc in [true, false] {
        let (board, _) = build(|config| config.sun_rtc = sun_rtc).unwrap();
        let blob = board.device_tree().unwrap();
        let tree = Tree::parse(&blob);
        let mut described: Vec<(u64, u64)> = tree
            .children("/soc")
            .map(|node| {
                let [high, low, size_high, size_low] = node.cells("reg")[..] else { panic!() };
                let join = |high, low| u64::from(high) << 32 | u64::from(low);
                let window = (join(high, low), join(size_high, size_low));
                assert!(node.path.ends_with(&format!("@{:x}", window.0)), "{}", node.path);
                window
            })
            .collect();
        described.sort_unstable();
        let mapped: Vec<_> =
            board.bus().mappings().iter().map(|mapping| (mapping.base, mapping.size)).collect();
        assert_eq!(described, mapped);
    }
}

#[test]
fn the_windows_are_those_of_the_virt_machine() {
    let (board, _) = build(|_| {}).unwrap();
    let at = |base| {
        let bus = board.bus().mappings();
        bus.iter().find(|mapping| mapping.base == base).map(|mapping| mapping.device.name().to_owned())
    };
    for (base, name) in [
        (0x10_0000, "test"),
        (0x10_1000, "rtc1"),
        (0x10_2000, "rtc0"),
        (0x200_0000, "clint"),
        (0xc00_0000, "plic"),
        (0x1000_0000, "serial0"),
        (0x1000_1000, "virtio-mmio0"),
        (0x1000_8000, "virtio-mmio7"),
    ] {
        assert_eq!(at(base).as_deref(), Some(name), "{base:#x}");
    }
}

#[test]
fn interrupts_are_wired_as_described() {
    let blob = tree(|config| config.harts = 2);
    let tree = Tree::parse(&blob);
    let plic = tree.node("/soc/plic@c000000");
    let parent = plic.cells("phandle");
    let virtio = (0..8).map(|slot| (format!("/soc/virtio_mmio@{:x}", 0x1000_1000 + slot * 0x1000), 1 + slot));
    let others = [
        ("/soc/serial@10000000", 10),
        ("/soc/rtc@101000", 11),
        ("/soc/rtc@102000", 12),
        ("/soc/virtio_mmio@103000", 13),
    ];
    for (path, irq) in virtio.chain(others.map(|(path, irq)| (path.to_owned(), irq))) {
        let node = tree.node(&path);
        assert_eq!(node.cells("interrupts"), [irq], "{path}");
        assert_eq!(node.cells("interrupt-parent"), parent, "{path}");
    }
    let harts: Vec<u32> = (0..2)
        .map(|id| tree.node(&format!("/cpus/cpu@{id}/interrupt-controller")).cells("phandle")[0])
        .collect();
    assert_eq!(plic.cells("interrupts-extended"), [harts[0], 11, harts[0], 9, harts[1], 11, harts[1], 9]);
    assert_eq!(plic.cells("riscv,ndev"), [95]);
    let clint = tree.node("/soc/clint@2000000");
    assert_eq!(clint.cells("interrupts-extended"), [harts[0], 3, harts[0], 7, harts[1], 3, harts[1], 7]);
}

#[test]
fn harts_and_memory_are_described() {
    let blob = tree(|config| {
        config.harts = 3;
        config.extensions.sv48 = false;
        config.extensions.zba = false;
        config.ram_size = 5 << 30;
    });
    let tree = Tree::parse(&blob);
    assert_eq!(tree.children("/cpus").count(), 3);
    assert_eq!(tree.node("/cpus").cells("timebase-frequency"), [10_000_000]);
    for (id, cpu) in (0..).zip(tree.children("/cpus")) {
        assert_eq!(cpu.cells("reg"), [id]);
        assert_eq!(cpu.texts("riscv,isa"), ["rv64imafdc_zicntr_zicsr_zifencei_zbb_zbs_sstc"]);
        assert_eq!(cpu.texts("riscv,isa-base"), ["rv64i"]);
        assert_eq!(cpu.texts("mmu-type"), ["riscv,sv39"]);
        assert_eq!(cpu.texts("riscv,isa-extensions")[..7], ["i", "m", "a", "f", "d", "c", "zicntr"]);
    }
    assert_eq!(tree.node("/memory@80000000").cells("reg"), [0, map::RAM_BASE as u32, 1, 0x4000_0000]);
}

#[test]
fn the_clocks_are_numbered_so_that_linux_finds_the_one_that_wakes() {
    let blob = tree(|_| {});
    let both = Tree::parse(&blob);
    assert_eq!(both.node("/aliases").texts("rtc0"), ["/soc/rtc@102000"]);
    assert_eq!(both.node("/aliases").texts("rtc1"), ["/soc/rtc@101000"]);
    let sun = both.node("/soc/rtc@102000");
    assert_eq!(sun.texts("compatible"), ["allwinner,sun20i-d1-rtc", "allwinner,sun50i-r329-rtc"]);
    let clock = both.node("/clock-24m");
    assert_eq!(sun.cells("clocks"), clock.cells("phandle").repeat(3));
    assert_eq!(clock.cells("clock-frequency"), [24_000_000]);
    let blob = tree(|config| config.sun_rtc = false);
    let one = Tree::parse(&blob);
    assert_eq!(one.node("/aliases").texts("rtc0"), ["/soc/rtc@101000"]);
    assert!(one.node("/aliases").get("rtc1").is_none());
    assert!(one.find("/soc/rtc@102000").is_none() && one.find("/clock-24m").is_none());
}

#[test]
fn chosen_says_what_this_boot_is() {
    let blob = tree(|config| config.bootargs = "root=/dev/vda ro".to_owned());
    let tree = Tree::parse(&blob);
    assert_eq!(tree.node("/chosen").texts("bootargs"), ["root=/dev/vda ro"]);
    assert_eq!(tree.node("/chosen").texts("stdout-path"), ["/soc/serial@10000000"]);
    assert_eq!(tree.node("/aliases").texts("serial0"), ["/soc/serial@10000000"]);
    let chosen = tree.node("/chosen");
    assert!(chosen.get("linux,initrd-start").is_none());
    assert_eq!(chosen.value("rng-seed").len(), 32);
}

#[test]
fn the_device_tree_compiler_finds_nothing_wrong() {
    for harts in [1, 32] {
        let blob = tree(|config| config.harts = harts);
        let Some((source, complaints)) = decompile(&blob) else {
            eprintln!("skipped: no dtc on this host");
            return;
        };
        assert!(source.contains("sifive,plic-1.0.0"));
        assert_eq!(complaints, "");
    }
}

#[test]
fn a_tree_of_the_users_own_gets_this_boots_chosen() {
    let own = tree(|config| {
        config.bootargs = "of the file".to_owned();
        config.sun_rtc = false;
    });
    let config = |config: &mut BoardConfig| {
        config.device_tree = Some(bytes("own.dtb", own.clone()));
        config.initrd = Some(bytes("i", vec![1; 100]));
        config.harts = 2;
    };
    let blob = tree(config);
    let merged = Tree::parse(&blob);
    assert_eq!(merged.node("/chosen").texts("bootargs"), ["console=ttyS0"], "the machine's");
    assert!(merged.node("/chosen").get("linux,initrd-start").is_some());
    assert_eq!(merged.node("/chosen").texts("stdout-path"), ["/soc/serial@10000000"], "the file's");
    assert_eq!(merged.children("/cpus").count(), 1, "the file's");
    assert!(merged.find("/soc/rtc@102000").is_none(), "the file's");
    assert_eq!(merged.paths(), Tree::parse(&own).paths());
}

#[test]
fn a_tree_without_chosen_gets_one() {
    let mut writer =
        vm_fdt::FdtWriter::new_with_mem_reserv(&[vm_fdt::FdtReserveEntry::new(0x8000_0000, 0x1000).unwrap()])
            .unwrap();
    let root = writer.begin_node("").unwrap();
    writer.property_string("compatible", "own").unwrap();
    writer.end_node(root).unwrap();
    let own = writer.finish().unwrap();
    let blob = tree(|config| config.device_tree = Some(bytes("own.dtb", own)));
    let merged = Tree::parse(&blob);
    assert_eq!(merged.node("/chosen").texts("bootargs"), ["console=ttyS0"]);
    let at = u32::from_be_bytes(*blob[16..].first_chunk().unwrap()) as usize;
    assert_eq!(blob[at..at + 16], (0x8000_0000_u128 << 64 | 0x1000).to_be_bytes());
}

#[test]
fn trees_that_are_none_are_refused() {
    let good = tree(|_| {});
    let refusal = |file: Vec<u8>| {
        let error = build(|config| config.device_tree = Some(bytes("own.dtb", file))).err();
        error.expect("accepted").to_string()
    };
    let with = |at: usize, value: u32| {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&value.to_be_bytes());
        file
    };
    let structure = u32::from_be_bytes(*good[8..].first_chunk().unwrap()) as usize;
    for (file, says) in [
        (image(0x100, 0), "it is something else, not a flattened device tree"),
        (good[..good.len() - 1].to_vec(), "it is cut short"),
        (good[..4].to_vec(), "it is cut short"),
        (with(8, u32::MAX), "its structure block is not valid"),
        (with(12, u32::MAX), "its strings block is not valid"),
        (with(16, u32::MAX), "its memory reservation block is not valid"),
        (with(20, 1), "its version is not valid"),
        (with(structure, 2), "its structure block is not valid"),
        (with(structure + 8, 7), "its structure block is not valid"),
        (with(structure + 12, u32::MAX), "its property is not valid"),
        (with(structure + 16, u32::MAX), "its property is not valid"),
    ] {
        let line = refusal(file);
        assert!(line.starts_with("could not load device tree 'own.dtb': "), "{line}");
        assert!(line.contains(says), "{line}");
    }
}

proptest::proptest! {
    /// A damaged tree is refused, or copied to one that can be placed; it is never more than that.
    #[test]
    fn damaged_trees_do_no_harm(damage in proptest::collection::vec((0..3000_usize, proptest::prelude::any::<u8>()), 1..4)) {
        let mut file = tree(|_| {});
        for (at, value) in damage {
            let len = file.len();
            file[at % len] = value;
        }
        if let Ok((board, _)) = build(|config| config.device_tree = Some(bytes("own.dtb", file))) {
            board.place_images().unwrap();
        }
    }
}

#[test]
fn only_firmware_is_given_power_controls() {
    let blob = tree(|_| {});
    assert!(Tree::parse(&blob).find("/poweroff").is_none());
    let blob = tree(|config| config.firmware = Some(bytes("f", vec![0; 16])));
    let tree = Tree::parse(&blob);
    for (path, value) in [("/poweroff", 0x5555), ("/reboot", 0x7777)] {
        assert_eq!(tree.node(path).cells("value"), [value]);
        assert_eq!(tree.node(path).cells("regmap"), tree.node("/soc/test@100000").cells("phandle"));
    }
}

#[test]
fn each_boot_has_a_seed_of_its_own() {
    let (board, _) = Board::build(Ground::new().config(Some(bytes("k", image(64, 64))))).unwrap();
    assert_ne!(board.device_tree().unwrap(), board.device_tree().unwrap());
    assert_eq!(board.devices().len(), board.bus().mappings().len());
}
