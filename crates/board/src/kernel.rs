//! The formats of things that can be started: RISC-V `Image`, ELF, and raw firmware.

use std::sync::Arc;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::pod;

use crate::image::{Image, ImageError, ImageFault};

/// Bytes to copy into guest memory when the machine is reset.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) image: Arc<Image>,
    /// From this offset of the image,
    pub(crate) offset: u64,
    /// so many bytes
    pub(crate) len: u64,
    /// to this guest physical address,
    pub(crate) addr: u64,
    /// with zeros behind up to this size. What is beyond `len` of an `Image` is its own to clear.
    pub(crate) size: u64,
    pub(crate) clear: bool,
}

/// An image with the places of its parts.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) entry: u64,
    pub(crate) segments: Vec<Segment>,
}

impl Program {
    /// First address behind all segments.
    pub(crate) fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.addr.saturating_add(segment.size)).max().unwrap_or(0)
    }
}

/// What a kernel must be, for messages.
const KERNEL: &str = "a RISC-V Image or a 64-bit RISC-V ELF executable";
const ELF: &str = "a 64-bit little-endian RISC-V ELF executable";

/// The header of an `Image` (Linux, Documentation/arch/riscv/boot-image-header.rst).
mod header {
    pub const LEN: usize = 64;
    pub const TEXT_OFFSET: usize = 8;
    pub const IMAGE_SIZE: usize = 16;
    pub const FLAGS: usize = 24;
    pub const MAGIC: usize = 0x30;
    pub const MAGIC_WORD: &[u8; 8] = b"RISCV\0\0\0";
    /// Bit 0 of the flags: the kernel is big-endian.
    pub const BIG_ENDIAN: u64 = 1;
}

/// Finds out what kind of kernel `image` is. An `Image` goes to `ram_base` plus its own offset, or to `forced` when
/// firmware will start it.
pub(crate) fn kernel(image: &Arc<Image>, ram_base: u64, forced: Option<u64>) -> Result<Program, ImageError> {
    let head = image.head(4096)?;
    if head.starts_with(&elf::ELFMAG) {
        return parse_elf(image);
    }
    if head.get(header::MAGIC..header::MAGIC + 8) == Some(header::MAGIC_WORD) {
        return parse_image(image, &head, ram_base, forced);
    }
    let fault = match foreign(&head) {
        Some(found) => ImageFault::Foreign { found, wanted: KERNEL },
        None if head.len() < header::LEN => {
            ImageFault::Truncated { expected: header::LEN as u64, found: image.len() }
        }
        None => ImageFault::Foreign { found: "of an unknown format", wanted: KERNEL },
    };
    Err(image.error(fault))
}

/// Firmware: an ELF executable, or raw bytes for the start of RAM.
pub(crate) fn firmware(image: &Arc<Image>, ram_base: u64) -> Result<Program, ImageError> {
    let head = image.head(4096)?;
    if head.starts_with(&elf::ELFMAG) {
        return parse_elf(image);
    }
    if let Some(found) = foreign(&head) {
        let wanted = "raw RISC-V firmware or a 64-bit RISC-V ELF executable";
        return Err(image.error(ImageFault::Foreign { found, wanted }));
    }
    let segment = Segment {
        image: Arc::clone(image),
        offset: 0,
        len: image.len(),
        addr: ram_base,
        size: image.len(),
        clear: false,
    };
    Ok(Program { entry: ram_base, segments: vec![segment] })
}

/// Names of formats that people mistake for a kernel.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    [
        (0, &[0x1f, 0x8b][..], "compressed with gzip"),
        (0, b"\xfd7zXZ\0", "compressed with xz"),
        (0, b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (0, b"BZh", "compressed with bzip2"),
        (0, b"\x02\x21\x4c\x18", "compressed with lz4"),
        (0, b"\x04\x22\x4d\x18", "compressed with lz4"),
        (0, b"\x27\x05\x19\x56", "a U-Boot image"),
        (0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
        (0x202, b"HdrS", "an x86 kernel"),
        (0x38, b"ARMd", "an arm64 kernel"),
        (0x24, b"\x18\x28\x6f\x01", "an arm kernel"),
        (4, b"zimg", "a compressed EFI kernel"),
        (0, b"MZ", "an EFI program for another machine"),
        (0, b"#!", "a script"),
        (0, b"070701", "a cpio archive"),
    ]
    .into_iter()
    .find_map(|(offset, magic, name)| at(offset, magic).then_some(name))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.copied().map_or(0, u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.copied().map_or(0, u32::from_le_bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.copied().map_or(0, u16::from_le_bytes)
}

fn parse_image(
    image: &Arc<Image>,
    head: &[u8],
    ram_base: u64,
    forced: Option<u64>,
) -> Result<Program, ImageError> {
    if head.len() < header::LEN {
        return Err(image.error(ImageFault::Truncated { expected: header::LEN as u64, found: image.len() }));
    }
    if u64_at(head, header::FLAGS) & header::BIG_ENDIAN != 0 {
        let found = "a big-endian kernel";
        return Err(image.error(ImageFault::Foreign { found, wanted: KERNEL }));
    }
    let expected = bytes_of_sections(head);
    if expected > image.len() {
        return Err(image.error(ImageFault::Truncated { expected, found: image.len() }));
    }
    let addr = forced.or_else(|| ram_base.checked_add(u64_at(head, header::TEXT_OFFSET)));
    let addr = addr.ok_or_else(|| image.error(ImageFault::Invalid { what: "text offset" }))?;
    // The size in memory, BSS included; kernels before Linux 5.4 may leave it out.
    let size = u64_at(head, header::IMAGE_SIZE).max(image.len());
    let segment = Segment { image: Arc::clone(image), offset: 0, len: image.len(), addr, size, clear: false };
    Ok(Program { entry: addr, segments: vec![segment] })
}

/// A kernel with an EFI stub is a PE file as well, whose sections say how long the file must be; 0 for others. (PE format:
/// offset of the header at 0x3c; sections behind the optional header; 40 bytes each, raw size at 16 and offset at 20.)
fn bytes_of_sections(head: &[u8]) -> u64 {
    let pe = u32_at(head, 0x3c) as usize;
    let is_pe = head.starts_with(b"MZ") && head.get(pe..).is_some_and(|rest| rest.starts_with(b"PE\0\0"));
    if !is_pe {
        return 0;
    }
    let count = usize::from(u16_at(head, pe + 6));
    let table = pe + 24 + usize::from(u16_at(head, pe + 20));
    (0..count)
        .map(|index| table + 40 * index)
        .take_while(|at| at + 40 <= head.len())
        .map(|at| u64::from(u32_at(head, at + 16)) + u64::from(u32_at(head, at + 20)))
        .max()
        .unwrap_or(0)
}

fn parse_elf(image: &Arc<Image>) -> Result<Program, ImageError> {
    let bytes = image.bytes(0, size_of::<FileHeader64<LE>>())?;
    let damaged = |what| image.error(ImageFault::Invalid { what });
    let (file, _) = pod::from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| damaged("ELF header"))?;
    if let Some(found) = foreign_elf(file) {
        return Err(image.error(ImageFault::Foreign { found, wanted: ELF }));
    }
    let count = usize::from(file.e_phnum.get(LE));
    let entry_size = usize::from(file.e_phentsize.get(LE));
    if count == 0 || entry_size != size_of::<ProgramHeader64<LE>>() {
        return Err(damaged("ELF program header table"));
    }
    let table = image.bytes(file.e_phoff.get(LE), count * entry_size)?;
    let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LE>>(&table, count)
        .map_err(|()| damaged("ELF program header table"))?;
    let mut segments = Vec::new();
    for part in headers.iter().filter(|part| part.p_type.get(LE) == elf::PT_LOAD) {
        let segment = Segment {
            image: Arc::clone(image),
            offset: part.p_offset.get(LE),
            len: part.p_filesz.get(LE),
            addr: part.p_paddr.get(LE),
            size: part.p_memsz.get(LE),
            clear: true,
        };
        if segment.size == 0 {
            continue;
        }
        if segment.len > segment.size {
            return Err(damaged("ELF segment size"));
        }
        let expected = segment.offset.saturating_add(segment.len);
        if expected > image.len() {
            return Err(image.error(ImageFault::Truncated { expected, found: image.len() }));
        }
        segments.push(segment);
    }
    let entry = file.e_entry.get(LE);
    if !segments.iter().any(|segment| entry >= segment.addr && entry - segment.addr < segment.size) {
        return Err(damaged("ELF entry point"));
    }
    Ok(Program { entry, segments })
}

fn foreign_elf(file: &FileHeader64<LE>) -> Option<&'static str> {
    if file.e_ident.class != elf::ELFCLASS64 {
        return Some("a 32-bit ELF file");
    }
    if file.e_ident.data != elf::ELFDATA2LSB {
        return Some("a big-endian ELF file");
    }
    match file.e_machine.get(LE) {
        elf::EM_RISCV => {}
        elf::EM_X86_64 => return Some("an x86-64 ELF file"),
        elf::EM_AARCH64 => return Some("an arm64 ELF file"),
        _ => return Some("an ELF file for another machine"),
    }
    match file.e_type.get(LE) {
        elf::ET_EXEC => None,
        elf::ET_DYN => Some("a position-independent ELF file"),
        elf::ET_REL => Some("an ELF object file that was not linked"),
        _ => Some("an ELF file that is not executable"),
    }
}
