//! The image that both sides run: runtime, constants, descriptors, and each case's code and blobs.

use crate::case::{Blob, Case};
use crate::layout::{self, desc, record};
use crate::rng::Rng;
use crate::runtime;

/// The cases do not fit into one image.
#[derive(Debug, thiserror::Error)]
#[error("{cases} cases take {bytes} bytes, more than an image holds")]
pub struct TooLarge {
    /// How many cases.
    pub cases: usize,
    /// How many bytes they would take.
    pub bytes: usize,
}

/// Lays out `cases`, to be loaded at [`layout::RAM`].
pub fn build(cases: &[Case]) -> Result<Vec<u8>, TooLarge> {
    let mut image = Image { bytes: Vec::new() };
    image.put_parcels(layout::RAM, &runtime::assemble(cases.len() as u64));
    image.put_words(layout::CONSTANTS, &constants());
    let mut free = layout::CASES + (cases.len() * desc::SIZE as usize) as u64;
    for (index, case) in cases.iter().enumerate() {
        let descriptor = layout::CASES + index as u64 * desc::SIZE as u64;
        free = image.put_case(descriptor, free, case);
    }
    if layout::RAM + image.bytes.len() as u64 > layout::IMAGE_END {
        return Err(TooLarge { cases: cases.len(), bytes: image.bytes.len() });
    }
    Ok(image.bytes)
}

struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let start = (at - layout::RAM) as usize;
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }

    fn put_words(&mut self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    fn put_parcels(&mut self, at: u64, parcels: &[u16]) {
        let bytes: Vec<u8> = parcels.iter().flat_map(|half| half.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    /// Writes a case's descriptor, code and blobs; returns the next free address.
    fn put_case(&mut self, descriptor: u64, mut free: u64, case: &Case) -> u64 {
        let code = code_blob(case);
        let exit = case.code().len() as u64 * 2;
        let mut copies = Vec::new();
        for blob in std::iter::once(&code).chain(&case.blobs) {
            self.put_words(free, &blob.words);
            let bytes = blob.words.len() as u64 * 8;
            copies.extend([blob.at, free, bytes]);
            free += bytes;
        }
        self.put_words(free, &copies);
        let base = case.bases[case.mode as usize];
        for (at, value) in [
            (desc::ENTRY, base),
            (desc::EXIT, exit),
            (desc::MSTATUS, case.mstatus | (case.mode as u64) << 11),
            (desc::SATP, case.satp),
            (desc::MEDELEG, case.medeleg),
            (desc::MIDELEG, case.mideleg),
            (desc::MIE, case.mie),
            (desc::FCSR, case.fcsr),
            (desc::SEED, case.seed | 1),
            (desc::SCRATCH_LEN, case.scratch_len),
            (desc::COPIES, copies.len() as u64 / 3),
            (desc::COPY_LIST, free),
            (desc::COUNTEREN, case.counteren),
            (desc::DROP_TVAL, case.drop_tval.into()),
        ] {
            self.put_words(descriptor + at as u64, &[value]);
        }
        self.put_words(descriptor + desc::BASES as u64, &case.bases);
        self.put_words(descriptor + desc::X as u64, &case.x);
        self.put_words(descriptor + desc::F as u64, &case.f);
        free + 8 * copies.len() as u64
    }
}

/// The code of a case with the `ecall` behind it.
fn code_blob(case: &Case) -> Blob {
    let mut code = case.code();
    code.extend([0x73, 0]);
    code.resize(code.len().next_multiple_of(4), 0);
    let words = code
        .chunks(4)
        .map(|four| four.iter().rev().fold(0, |word, half| word << 16 | u64::from(*half)))
        .collect();
    Blob { at: layout::CODE, words }
}

/// 512 operands: the special values of both precisions and of integers, then random ones of each kind.
fn constants() -> Vec<u64> {
    let mut words = Vec::new();
    let doubles: [f64; 14] = [
        0.0,
        1.0,
        1.5,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::INFINITY,
        0.5,
        9_007_199_254_740_993.0,
        2_147_483_647.5,
        4_294_967_295.5,
        9_223_372_036_854_775_807.0,
        18_446_744_073_709_551_615.0,
        1e-310,
        2.5,
    ];
    for value in doubles {
        let bits = value.to_bits();
        words.extend([bits, bits | 1 << 63, bits.wrapping_add(1), bits.wrapping_sub(1)]);
        let single = (value as f32).to_bits();
        for bits in [single, single | 1 << 31, single.wrapping_add(1), single.wrapping_sub(1)] {
            words.push(u64::from(bits) | 0xffff_ffff << 32);
        }
    }
    // NaNs: quiet, signalling, negative, with payloads; singles in bad boxes.
    words.extend([
        0x7ff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0xfff8_dead_beef_0000,
        0xfff4_0000_0000_0000,
    ]);
    words.extend([0x7fc0_0000, 0x7f80_0001, 0xffc1_2345, 0xffa0_0000].map(|bits| bits | 0xffff_ffff << 32));
    words.extend([0x3f80_0000, 0xffff_fffe_3f80_0000, 0x7fff_ffff_7f80_0000, 1, 0x000f_ffff_ffff_ffff]);
    let mut rng = Rng::new(0x0063_6f6e_7374);
    while words.len() < 512 {
        let word = match rng.below(4) {
            0 => rng.value(),
            // Exponents near each other, so that sums cancel and products neither overflow nor vanish.
            1 => (rng.bits64() & !(0x7ff << 52)) | (1023 - 20 + rng.below(60)) << 52,
            2 => 0xffff_ffff << 32 | (rng.bits64() & 0x807f_ffff) | (127 - 10 + rng.below(40)) << 23,
            _ => rng.bits64() | if rng.one_in(2) { 0xffff_ffff << 32 } else { 0 },
        };
        words.push(word);
    }
    words.truncate(512);
    words
}

/// What a side left behind for one case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    words: Vec<u64>,
}

impl Record {
    /// The record of case `index`, from the bytes of RAM that begin at [`layout::RESULTS`]. `None`: the case did not end.
    pub fn read(results: &[u8], index: usize) -> Option<Self> {
        let bytes = results.get(index * record::WORDS * 8..(index + 1) * record::WORDS * 8)?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        (words[record::DONE] == record::DONE_MARK).then_some(Self { words })
    }

    /// The word at an index of [`record`].
    pub fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    /// Every value with its name.
    pub fn fields(&self) -> Vec<(String, u64)> {
        let mut fields = vec![
            ("traps".to_owned(), self.word(record::TRAPS)),
            ("fcsr".to_owned(), self.word(record::FCSR)),
            ("scratch hash".to_owned(), self.word(record::SCRATCH_HASH)),
            ("mstatus".to_owned(), self.word(record::CSR)),
        ];
        for (at, (name, _)) in layout::CSRS.iter().enumerate() {
            fields.push(((*name).to_owned(), self.word(record::CSR + 1 + at)));
        }
        for at in 0..32 {
            fields.push((format!("x{at}"), self.word(record::X + at)));
        }
        for at in 0..32 {
            fields.push((format!("f{at}"), self.word(record::F + at)));
        }
        let logged = (self.word(record::TRAPS) as usize).min(record::LOG_LEN);
        for entry in 0..logged {
            for (at, name) in ["cause", "epc", "tval", "status", "handler"].into_iter().enumerate() {
                let word = self.word(record::LOG + entry * record::LOG_ENTRY + at);
                fields.push((format!("trap {entry} {name}"), word));
            }
        }
        fields.push(("trap hash".to_owned(), self.word(record::TRAP_HASH)));
        fields
    }
}
