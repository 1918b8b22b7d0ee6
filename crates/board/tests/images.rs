//! Kernels, firmware, initrds and device trees, good and bad.

mod common;

use std::sync::Arc;

use board::{Board, BoardConfig, ImageSource, map};
use common::tree::Tree;
use common::{Ground, MIB, build, bytes, elf, image};
use vmcore::{BootEntry, Machine};

const BASE: u64 = map::RAM_BASE;

/// The one line that a refused configuration gives.
fn refusal(change: impl FnOnce(&mut BoardConfig)) -> String {
    let error = build(change).err().expect("accepted");
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

fn kernel(kernel: Vec<u8>) -> impl FnOnce(&mut BoardConfig) {
    move |config| config.kernel = Some(bytes("k", kernel))
}

fn memory(board: &Board, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    board.ram().read(addr, &mut bytes).unwrap();
    bytes
}

fn place(board: &Board) -> (u64, u64) {
    match board.place_images().unwrap() {
        BootEntry::Supervisor { pc, device_tree } => (pc, device_tree),
        entry => panic!("{entry:?}"),
    }
}

#[test]
fn an_image_goes_to_its_offset_with_the_initrd_above_its_last_large_page() {
    let (board, _) = build(|config| {
        config.kernel = Some(bytes("k", image(0x1000, 0x1_2345)));
        config.initrd = Some(bytes("i", *b"initial ramdisk"));
    })
    .unwrap();
    let (pc, device_tree) = place(&board);
    assert_eq!(pc, BASE + 2 * MIB);
    assert_eq!(memory(&board, pc, 0x1000), image(0x1000, 0x1_2345));
    let initrd = pc + 2 * MIB;
    assert_eq!(memory(&board, initrd, 15), b"initial ramdisk");
    assert_eq!(memory(&board, device_tree, 4), [0xd0, 0x0d, 0xfe, 0xed]);
    assert!(device_tree > initrd && device_tree < BASE + 64 * MIB);
    let tree = memory(&board, device_tree, 0x4000);
    let tree = Tree::parse(&tree);
    assert_eq!(tree.node("/chosen").double("linux,initrd-start"), initrd);
    assert_eq!(tree.node("/chosen").double("linux,initrd-end"), initrd + 15);
}

/// OpenSBI's `fw_jump` moves the device tree to 32 MiB behind the kernel's place, whatever is there.
#[test]
fn an_initrd_keeps_away_from_firmware_where_there_is_room() {
    let initrd_at = |size: u64| {
        let (board, _) = build(|config| {
            config.firmware = Some(bytes("f", vec![0x13; 0x800]));
            config.kernel = Some(bytes("k", image(0x1000, 0x1_2345)));
            config.initrd = Some(bytes("i", vec![7; size as usize]));
        })
        .unwrap();
        let BootEntry::Machine { device_tree, .. } = board.place_images().unwrap() else { panic!() };
        let tree = memory(&board, device_tree, 0x4000);
        Tree::parse(&tree).node("/chosen").double("linux,initrd-start")
    };
    // 64 MiB of RAM: half of it from the kernel, or, if it does not fit there, right behind the kernel.
    assert_eq!(initrd_at(MIB), BASE + 2 * MIB + 32 * MIB);
    assert_eq!(initrd_at(40 * MIB), BASE + 4 * MIB);
}

#[test]
fn images_are_placed_anew_with_another_seed() {
    let (board, _) = build(|config| config.initrd = Some(bytes("i", vec![7; 5000]))).unwrap();
    let (pc, device_tree) = place(&board);
    let initrd = pc + 2 * MIB;
    let before = (memory(&board, pc, 0x1000), memory(&board, device_tree, 0x2000));
    for image in [pc, initrd] {
        board.ram().write(image, &[0xff; 0x4000]).unwrap();
    }
    board.ram().write(device_tree, &[0xff; 0x2000]).unwrap();
    assert_eq!(place(&board), (pc, device_tree));
    assert_eq!(memory(&board, pc, 0x1000), before.0);
    assert_eq!(memory(&board, initrd, 5000), vec![7; 5000]);
    let seed = |tree: &[u8]| Tree::parse(tree).node("/chosen").value("rng-seed").to_vec();
    let (first, second) = (seed(&before.1), seed(&memory(&board, device_tree, 0x2000)));
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second);
}

#[test]
fn a_file_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Image");
    std::fs::write(&path, image(0x1000, 0x2000)).unwrap();
    let (board, _) = build(|config| config.kernel = Some(ImageSource::File(path.clone()))).unwrap();
    std::fs::write(&path, b"gone").unwrap();
    let (pc, _) = place(&board);
    assert_eq!(memory(&board, pc, 0x1000), image(0x1000, 0x2000));
}

#[test]
fn an_elf_goes_where_it_says_and_its_bss_is_cleared() {
    let file = elf(BASE + 0x1004, &[(BASE + 0x1000, b"text....", 8), (BASE + 0x8000, b"data", 0x20)]);
    let (board, _) = build(kernel(file)).unwrap();
    board.ram().write(BASE + 0x8000, &[0xff; 0x40]).unwrap();
    assert_eq!(place(&board).0, BASE + 0x1004);
    assert_eq!(memory(&board, BASE + 0x1000, 8), b"text....");
    assert_eq!(memory(&board, BASE + 0x8000, 0x22), [&b"data"[..], &[0; 0x1c], &[0xff; 2]].concat());
}

#[test]
fn firmware_starts_in_machine_mode_with_its_boot_information() {
    let ground = Ground::new();
    let mut config = ground.config(Some(bytes("k", image(0x1000, 0x2000))));
    config.firmware = Some(bytes("f", vec![0x13; 0x800]));
    let (board, _) = Board::build(config).unwrap();
    let BootEntry::Machine { pc, device_tree, info } = board.place_images().unwrap() else { panic!() };
    assert_eq!(pc, BASE);
    assert_eq!(memory(&board, BASE, 0x800), vec![0x13; 0x800]);
    let info = memory(&board, info, 48);
    let (words, _) = info.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    assert_eq!(words, [0x4942_534f, 2, BASE + 2 * MIB, 1, 0, 0]);
    assert_eq!(memory(&board, BASE + 2 * MIB, 0x1000), image(0x1000, 0x2000));
    assert_eq!(memory(&board, device_tree, 4), [0xd0, 0x0d, 0xfe, 0xed]);
    assert!(!board.suspend_supported(), "the firmware of the guest's own has none");
}

#[test]
fn kernels_of_every_wrong_kind_are_named() {
    let mut x86 = elf(BASE, &[(BASE, b"code", 4)]);
    x86[18] = 62;
    let mut narrow = elf(BASE, &[(BASE, b"code", 4)]);
    narrow[4] = 1;
    let mut big = elf(BASE, &[(BASE, b"code", 4)]);
    big[5] = 2;
    let mut shared = elf(BASE, &[(BASE, b"code", 4)]);
    shared[16] = 3;
    let mut bzimage = vec![0; 0x300];
    bzimage[..2].copy_from_slice(b"MZ");
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    let mut arm64 = vec![0; 0x300];
    arm64[0x38..0x3c].copy_from_slice(b"ARMd");
    let mut big_endian = image(0x1000, 0x1000);
    big_endian[24] = 1;
    for (file, says) in [
        (x86, "it is an x86-64 ELF file"),
        (narrow, "it is a 32-bit ELF file"),
        (big, "it is a big-endian ELF file"),
        (shared, "it is a position-independent ELF file"),
        (bzimage, "it is an x86 kernel"),
        (arm64, "it is an arm64 kernel"),
        (big_endian, "it is a big-endian kernel"),
        ([&[0x1f, 0x8b, 8][..], &[0; 100]].concat(), "it is compressed with gzip"),
        (vec![b'x'; 100], "it is of an unknown format"),
    ] {
        let line = refusal(kernel(file));
        assert!(line.starts_with("could not load kernel 'k': "), "{line}");
        assert!(line.contains(says), "{line}");
        assert!(line.contains(", not "), "{line}");
    }
}

#[test]
fn kernels_that_end_too_early_are_cut_short() {
    let whole = elf(BASE, &[(BASE, &[1; 100], 100)]);
    let mut lost_table = elf(BASE, &[(BASE, b"code", 4)]);
    lost_table[32..40].copy_from_slice(&1_000_000_u64.to_le_bytes());
    let mut pe = image(0x200, 0x1000);
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x40;
    pe[0x40..0x58].fill(0);
    pe[0x40..0x44].copy_from_slice(b"PE\0\0");
    pe[0x46] = 1;
    pe[0x58 + 16..][..4].copy_from_slice(&0x1000_u32.to_le_bytes());
    pe[0x58 + 20..][..4].copy_from_slice(&0x100_u32.to_le_bytes());
    for file in
        [whole[..30].to_vec(), whole[..100].to_vec(), whole[..200].to_vec(), lost_table, pe, vec![0; 10]]
    {
        let line = refusal(kernel(file));
        assert!(line.starts_with("could not load kernel 'k': it is cut short: "), "{line}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let too_large = refusal(kernel(image(0x1000, 64 * MIB)));
    assert_eq!(
        too_large,
        "could not load kernel 'k': 0x4000000 bytes at 0x80200000 are outside RAM (0x80000000 to 0x84000000)"
    );
    assert!(refusal(kernel(image(0x1000, u64::MAX))).contains("outside RAM"));
    assert!(refusal(kernel(elf(0x1000, &[(0x1000, b"code", 4)]))).contains("outside RAM"));
    assert!(
        refusal(kernel(elf(BASE, &[(BASE, b"code", 4), (u64::MAX - 1, b"", 4)]))).contains("outside RAM")
    );
    let mut offset = image(0x1000, 0x1000);
    offset[8..16].fill(0xff);
    assert!(refusal(kernel(offset)).contains("text offset"));
    let twice = elf(BASE, &[(BASE, b"code", 0x100), (BASE + 0xff, b"data", 4)]);
    assert!(refusal(kernel(twice)).contains("overlap the kernel"));
    let line = refusal(|config| {
        config.initrd = Some(bytes("i", vec![0; 63 * MIB as usize]));
    });
    assert_eq!(
        line,
        "could not load initrd 'i': its 66060288 bytes do not fit into RAM (0x80400000 to 0x84000000 is free)"
    );
    let line = refusal(|config| {
        config.firmware = Some(bytes("f", vec![0; 3 * MIB as usize]));
    });
    assert!(
        line.starts_with("could not load kernel 'kernel': ") && line.contains("overlap the firmware"),
        "{line}"
    );
    let line = refusal(|config| config.kernel = Some(bytes("k", image(65 * MIB as usize, 0))));
    assert_eq!(line, "could not load kernel 'k': it has more than the 67108864 bytes of RAM");
}

#[test]
fn elf_headers_that_lie_are_refused() {
    let good = elf(BASE, &[(BASE, b"code", 4)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    for (file, says) in [
        (with(24, &0x9000_0000_u64.to_le_bytes()), "its ELF entry point is not valid"),
        (with(54, &[1]), "its ELF program header table is not valid"),
        (with(56, &[0]), "its ELF program header table is not valid"),
        (with(64 + 40, &[1]), "its ELF segment size is not valid"),
        (with(64, &[2]), "its ELF entry point is not valid"),
    ] {
        let line = refusal(kernel(file));
        assert!(line.contains(says), "{line}");
    }
}

#[test]
fn a_full_memory_has_no_room_for_the_device_tree() {
    let line = refusal(|config| config.kernel = Some(bytes("k", image(0x1000, 62 * MIB - 0x100))));
    assert!(line.starts_with("memory is too small: "), "{line}");
    let line = refusal(|config| config.ram_size = MIB);
    assert!(line.contains("outside RAM"), "{line}");
    for size in [0, 4095] {
        assert!(refusal(|config| config.ram_size = size).starts_with("invalid RAM size: "));
    }
}

#[test]
fn a_small_memory_is_enough_for_a_small_kernel() {
    let file = elf(BASE, &[(BASE, b"code", 4)]);
    let (board, _) = build(|config| {
        config.kernel = Some(bytes("k", file));
        config.ram_size = 64 << 10;
    })
    .unwrap();
    let (_, device_tree) = place(&board);
    assert!(device_tree > BASE && device_tree < BASE + 0x1_0000);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let missing = folder.path().join("missing");
    for (path, says) in
        [(missing.as_path(), "No such file"), (folder.path(), "directory"), (&empty, "it is empty")]
    {
        let source = || Some(ImageSource::File(path.to_owned()));
        for (role, line) in [
            ("kernel", refusal(|config| config.kernel = source())),
            ("initrd", refusal(|config| config.initrd = source())),
            ("firmware", refusal(|config| config.firmware = source())),
            ("device tree", refusal(|config| config.device_tree = source())),
        ] {
            assert!(line.starts_with(&format!("could not load {role} '{}': ", path.display())), "{line}");
            assert!(line.contains(says), "{line}");
        }
    }
    let endless = refusal(|config| config.initrd = Some(ImageSource::File("/dev/zero".into())));
    assert!(endless.contains("it has more than the 67108864 bytes of RAM"), "{endless}");
}

#[test]
fn firmware_that_is_foreign_is_refused() {
    let mut x86 = elf(BASE, &[(BASE, b"code", 4)]);
    x86[18] = 62;
    assert!(refusal(|config| config.firmware = Some(bytes("f", x86))).contains("x86-64 ELF"));
    let packed = [&[0x1f, 0x8b, 8][..], &[0; 100]].concat();
    assert!(refusal(|config| config.firmware = Some(bytes("f", packed))).contains("gzip"));
}

#[test]
fn a_board_has_limits() {
    assert!(refusal(|config| config.harts = 0).starts_with("invalid number of CPUs 0"));
    assert!(refusal(|config| config.harts = 513).starts_with("invalid number of CPUs 513"));
    assert!(refusal(|config| config.kernel = None).contains("neither a kernel nor firmware"));
    assert!(refusal(|config| config.bootargs = "a\0b".to_owned()).contains("NUL"));
    let two: Vec<Arc<dyn devices::SerialPort>> =
        vec![Arc::new(common::Console::default()), Arc::new(common::Console::default())];
    assert!(refusal(|config| config.serial = two).starts_with("2 serial ports"));
}

proptest::proptest! {
    /// No file, however damaged, does more than be refused.
    #[test]
    fn damaged_kernels_are_refused_or_placed_inside_ram(at in 0..200_usize, value: u8, which in 0..2, len in 0..300_usize) {
        let mut file = if which == 0 {
            image(300, 300)
        } else {
            elf(BASE, &[(BASE, &[1; 100], 100), (BASE + 0x1000, b"x", 5)])
        };
        if let Some(byte) = file.get_mut(at) {
            *byte = value;
        }
        file.truncate(len.max(1));
        if let Ok((board, _)) = build(kernel(file)) {
            board.place_images().unwrap();
        }
    }
}
