//! An assembler for what this crate writes itself: the runtime, and the groups of instructions of a case.

use std::collections::HashMap;

use crate::isa::{self, Fields, branch_bits, jump_bits};

/// Instructions in the making, as 16-bit parcels. Offsets are in bytes from the start.
#[derive(Clone, Debug, Default)]
pub struct Asm {
    parcels: Vec<u16>,
    labels: HashMap<&'static str, usize>,
    fixups: Vec<(usize, &'static str)>,
}

impl Asm {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        2 * self.parcels.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Appends a 32-bit instruction.
    pub fn word(&mut self, word: u32) {
        self.parcels.extend([word as u16, (word >> 16) as u16]);
    }

    /// Appends a 16-bit instruction.
    pub fn half(&mut self, half: u16) {
        self.parcels.push(half);
    }

    /// Appends the instruction `name` with these fields.
    pub fn op(&mut self, name: &str, fields: Fields) {
        self.word(isa::named(name).encode(&fields));
    }

    /// Register-register operation.
    pub fn r(&mut self, name: &str, rd: u32, rs1: u32, rs2: u32) {
        self.op(name, Fields { rd, rs1, rs2, ..Fields::default() });
    }

    /// Register-immediate operation, load or `jalr`.
    pub fn i(&mut self, name: &str, rd: u32, rs1: u32, imm: i64) {
        self.op(name, Fields { rd, rs1, imm, ..Fields::default() });
    }

    /// Stores register `rs2` at `imm` + register `rs1`.
    pub fn s(&mut self, name: &str, rs2: u32, imm: i64, rs1: u32) {
        self.op(name, Fields { rs1, rs2, imm, ..Fields::default() });
    }

    /// CSR access; `rs1` is the immediate of the forms that have one.
    pub fn csr(&mut self, name: &str, rd: u32, csr: u32, rs1: u32) {
        self.op(name, Fields { rd, rs1, imm: csr.into(), ..Fields::default() });
    }

    /// Loads a constant in as few instructions as come to mind.
    pub fn li(&mut self, rd: u32, value: u64) {
        let signed = value as i64;
        let low = signed << 52 >> 52;
        if signed == low {
            self.i("addi", rd, 0, low);
        } else if signed == i64::from(signed as i32) {
            self.op("lui", Fields { rd, imm: signed.wrapping_sub(low), ..Fields::default() });
            self.i("addiw", rd, rd, low);
        } else {
            let high = signed.wrapping_sub(low) >> 12;
            let zeros = high.trailing_zeros();
            self.li(rd, (high >> zeros) as u64);
            self.i("slli", rd, rd, (12 + zeros).into());
            if low != 0 {
                self.i("addi", rd, rd, low);
            }
        }
    }

    /// Gives the present place a name.
    pub fn label(&mut self, name: &'static str) {
        self.labels.insert(name, self.parcels.len());
    }

    /// Byte offset of a label.
    ///
    /// # Panics
    /// There is no such label.
    pub fn offset_of(&self, name: &str) -> u64 {
        2 * *self.labels.get(name).unwrap_or_else(|| panic!("no label '{name}'")) as u64
    }

    /// Conditional branch to a label.
    pub fn branch(&mut self, name: &str, rs1: u32, rs2: u32, label: &'static str) {
        self.fixups.push((self.parcels.len(), label));
        self.s(name, rs2, 0, rs1);
    }

    /// Jump to a label.
    pub fn jump(&mut self, label: &'static str) {
        self.fixups.push((self.parcels.len(), label));
        self.i("jal", 0, 0, 0);
    }

    /// The code, with the labels filled in.
    pub fn finish(mut self) -> Vec<u16> {
        for (at, label) in std::mem::take(&mut self.fixups) {
            let displacement = (self.offset_of(label) as i64 - 2 * at as i64) as u32;
            let is_jump = self.parcels[at] & 0x7f == 0x6f;
            let bits = if is_jump { jump_bits(displacement) } else { branch_bits(displacement) };
            self.parcels[at] |= bits as u16;
            self.parcels[at + 1] |= (bits >> 16) as u16;
        }
        self.parcels
    }
}

/// A line of assembler for each instruction in `parcels`.
pub fn disassemble(parcels: &[u16]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = parcels;
    while let [first, tail @ ..] = rest {
        match tail {
            [second, tail @ ..] if first & 3 == 3 => {
                let word = u32::from(*first) | u32::from(*second) << 16;
                lines.push(format!("{word:08x}  {}", isa::disassemble(word)));
                rest = tail;
            }
            _ => {
                lines.push(format!("    {first:04x}  {}", crate::compressed::disassemble(*first)));
                rest = tail;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the instructions that `li` uses compute.
    fn evaluate(parcels: &[u16]) -> u64 {
        let mut value = 0_i64;
        for pair in parcels.chunks(2) {
            let word = u32::from(pair[0]) | u32::from(pair[1]) << 16;
            let imm = i64::from(word as i32 >> 20);
            value = match isa::find(word).unwrap().name {
                "addi" if word >> 15 & 31 == 0 => imm,
                "addi" => value.wrapping_add(imm),
                "addiw" => i64::from(value.wrapping_add(imm) as i32),
                "lui" => i64::from((word & 0xffff_f000) as i32),
                "slli" => value << (imm & 63),
                other => panic!("{other}"),
            };
        }
        value as u64
    }

    #[test]
    fn li_loads_every_kind_of_constant() {
        let mut rng = crate::rng::Rng::new(1);
        for value in (0..2000).map(|_| rng.value()).chain([0x7fff_ffff, 0x8000_0000, 0x7ffff800, u64::MAX]) {
            let mut asm = Asm::new();
            asm.li(5, value);
            assert_eq!(evaluate(&asm.finish()), value, "{value:#x}");
        }
    }
}
