//! The head of a core file: ELF64 for RISC-V with one note a hart and one segment for the memory.
//!
//! ```text
//!   ELF header · program headers: PT_NOTE, PT_LOAD · notes: NT_PRSTATUS of each hart · padding · memory
//! ```
//!
//! Layouts: System V ABI, chapters 4 and 5; `struct elf_prstatus` as Linux has it for riscv64.

use engine::HartRegisters;

/// Where the memory begins in the file is a multiple of this.
const ALIGNMENT: u64 = 4096;

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PROGRAM_HEADERS: u64 = 2;

const ET_CORE: u16 = 4;
const EM_RISCV: u16 = 243;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const READ_WRITE_EXECUTE: u32 = 7;

const NT_PRSTATUS: u32 = 1;
const NOTE_NAME: &[u8; 8] = b"CORE\0\0\0\0";
const NOTE_NAME_LEN: u32 = 5;
/// Bytes before the registers in `struct elf_prstatus`, all zero but the process id.
const BEFORE_REGISTERS: usize = 112;
const PROCESS_ID_AT: usize = 32;
const REGISTERS: usize = 32;
/// `pr_fpvalid` and its padding.
const BEHIND_REGISTERS: usize = 8;
const PRSTATUS: usize = BEFORE_REGISTERS + 8 * REGISTERS + BEHIND_REGISTERS;

/// All of the file before the memory: `len` bytes of guest memory at guest physical address `base` follow it.
pub(crate) fn head(harts: &[HartRegisters], base: u64, len: u64) -> Vec<u8> {
    let notes: Vec<u8> = harts.iter().enumerate().flat_map(|(id, hart)| note(id, hart)).collect();
    let notes_at = HEADER + PROGRAM_HEADERS * PROGRAM_HEADER;
    let memory_at = (notes_at + notes.len() as u64).next_multiple_of(ALIGNMENT);
    let mut file = header();
    file.extend(program_header(PT_NOTE, notes_at, 0, notes.len() as u64));
    file.extend(program_header(PT_LOAD, memory_at, base, len));
    file.extend(notes);
    file.resize(memory_at as usize, 0);
    file
}

fn header() -> Vec<u8> {
    // 64-bit, little-endian, version 1.
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend(ET_CORE.to_le_bytes());
    header.extend(EM_RISCV.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    let (entry, program_headers_at, section_headers_at) = (0, HEADER, 0);
    header.extend([entry, program_headers_at, section_headers_at].into_iter().flat_map(u64::to_le_bytes));
    let flags = 0_u32;
    header.extend(flags.to_le_bytes());
    let sizes = [HEADER as u16, PROGRAM_HEADER as u16, PROGRAM_HEADERS as u16, 0, 0, 0];
    header.extend(sizes.into_iter().flat_map(u16::to_le_bytes));
    header
}

/// Guest memory is shown at its physical addresses, as both virtual and physical ones.
fn program_header(kind: u32, at: u64, addr: u64, len: u64) -> Vec<u8> {
    let flags = if kind == PT_LOAD { READ_WRITE_EXECUTE } else { 0 };
    let mut header: Vec<u8> = [kind, flags].into_iter().flat_map(u32::to_le_bytes).collect();
    let alignment = if kind == PT_LOAD { ALIGNMENT } else { 4 };
    header.extend([at, addr, addr, len, len, alignment].into_iter().flat_map(u64::to_le_bytes));
    header
}

/// NT_PRSTATUS of a hart. Debuggers want process ids that are not 0: they are the hart ids plus 1.
fn note(id: usize, hart: &HartRegisters) -> Vec<u8> {
    let mut note: Vec<u8> =
        [NOTE_NAME_LEN, PRSTATUS as u32, NT_PRSTATUS].into_iter().flat_map(u32::to_le_bytes).collect();
    note.extend(NOTE_NAME);
    let mut status = vec![0; PROCESS_ID_AT];
    status.extend((id as u32 + 1).to_le_bytes());
    status.resize(BEFORE_REGISTERS, 0);
    // The pc stands where x0 would.
    status.extend(std::iter::once(hart.pc).chain(hart.x).flat_map(u64::to_le_bytes));
    status.resize(PRSTATUS, 0);
    note.extend(status);
    note
}

#[cfg(test)]
mod tests {
    use object::elf;
    use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
    use object::{Endianness, LittleEndian};

    use super::*;

    #[test]
    fn a_foreign_reader_finds_registers_and_memory() {
        let hart = |pc| HartRegisters { pc, x: std::array::from_fn(|index| index as u64 + 1) };
        let mut file = head(&[hart(0x8020_0000), hart(0x8020_1000)], 0x8000_0000, 8);
        assert!(file.len().is_multiple_of(4096));
        file.extend(b"memories");
        let header = elf::FileHeader64::<Endianness>::parse(&*file).unwrap();
        let endian = header.endian().unwrap();
        assert_eq!((header.e_type(endian), header.e_machine(endian)), (elf::ET_CORE, elf::EM_RISCV));
        let [notes, memory] = header.program_headers(endian, &*file).unwrap() else { panic!() };
        assert_eq!(memory.data(endian, &*file).unwrap(), b"memories");
        assert_eq!((memory.p_paddr(endian), memory.p_vaddr(endian)), (0x8000_0000, 0x8000_0000));
        let mut found = Vec::new();
        let mut all = notes.notes(endian, &*file).unwrap().unwrap();
        while let Some(note) = all.next().unwrap() {
            assert_eq!((note.name(), note.n_type(endian)), (&b"CORE"[..], elf::NT_PRSTATUS));
            // The offsets at which debuggers look.
            let word = |at: usize| u64::from_le_bytes(note.desc()[at..at + 8].try_into().unwrap());
            assert_eq!(note.desc().len(), 376);
            found.push((note.desc()[32], word(112), word(112 + 8), word(112 + 8 * 31)));
        }
        assert_eq!(found, [(1, 0x8020_0000, 1, 31), (2, 0x8020_1000, 1, 31)]);
        assert!(ElfFile64::<LittleEndian>::parse(&*file).is_ok());
    }
}
