//! Arithmetic of the F and D extensions as pure functions on bit patterns.
//!
//! Every function takes operands as the bits of an IEEE 754 binary32 (`u32`) or binary64 (`u64`) number, the
//! resolved [`RoundingMode`], and the accrued exception flags (`fcsr.fflags`), into which it ORs what it
//! raises. Nothing here knows of registers, traps or `fcsr`: the hart resolves the dynamic rounding mode,
//! refuses the reserved ones, NaN-boxes with [`box_f32`] and flips operand signs for the `fmsub`, `fnmadd`
//! and `fnmsub` forms.
//!
//! ```text
//!   add64 .. cvt_f32_u64        double.rs, single.rs: host arithmetic where it provably gives the same
//!          |  anything else
//!          v
//!   soft::add::<F64> ..         integer arithmetic, right for every operand, mode and flag
//! ```
//!
//! Invariants:
//! * The fast paths never write the flags. They answer only if the operation raises nothing, or raises
//!   nothing but inexact while inexact is accrued already; since the flags are sticky, a loop pays for the
//!   soft path once.
//! * The fast paths never return a NaN, so that the host's NaN payloads and signs cannot be seen.
//! * The host's float environment is never touched: plain Rust operations round to nearest, ties to even.
//! * A NaN result is the canonical NaN (RISC-V unprivileged, F extension, "NaN Generation and Propagation"),
//!   and tininess is detected after rounding (F extension, "Subnormal Arithmetic").

mod double;
mod ops;
mod single;
pub mod soft;

pub use double::{
    add64, cvt_f64_f32, cvt_f64_i32, cvt_f64_i64, cvt_f64_u32, cvt_f64_u64, cvt_i32_f64, cvt_i64_f64,
    cvt_u32_f64, cvt_u64_f64, div64, fma64, mul64, sqrt64, sub64,
};
pub use ops::{
    class32, class64, eq32, eq64, le32, le64, lt32, lt64, max32, max64, min32, min64, sgnj32, sgnj64,
    sgnjn32, sgnjn64, sgnjx32, sgnjx64,
};
pub use single::{
    add32, cvt_f32_f64, cvt_f32_i32, cvt_f32_i64, cvt_f32_u32, cvt_f32_u64, cvt_i32_f32, cvt_i64_f32,
    cvt_u32_f32, cvt_u64_f32, div32, fma32, mul32, sqrt32, sub32,
};

/// Inexact: the rounded result differs from the exact one (`fflags` bit 0).
pub const NX: u8 = 1;
/// Underflow: the result is tiny after rounding, and inexact (`fflags` bit 1).
pub const UF: u8 = 2;
/// Overflow: the rounded result exceeds the largest finite number (`fflags` bit 2).
pub const OF: u8 = 4;
/// Divide by zero: an exact infinity from finite operands (`fflags` bit 3).
pub const DZ: u8 = 8;
/// Invalid operation (`fflags` bit 4).
pub const NV: u8 = 16;

/// The canonical NaN of binary32: positive, quiet, empty payload.
pub const QNAN32: u32 = 0x7fc0_0000;
/// The canonical NaN of binary64: positive, quiet, empty payload.
pub const QNAN64: u64 = 0x7ff8_0000_0000_0000;

/// The five static rounding modes (RISC-V unprivileged, F extension, "Rounding mode encoding").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RoundingMode {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards negative infinity.
    Rdn = 2,
    /// Up, towards positive infinity.
    Rup = 3,
    /// To nearest, ties to the larger magnitude.
    Rmm = 4,
}

impl RoundingMode {
    /// All modes, in the order of their encoding.
    pub const ALL: [Self; 5] = [Self::Rne, Self::Rtz, Self::Rdn, Self::Rup, Self::Rmm];

    /// Decodes an `rm` or `frm` field. `None` for the reserved encodings 5 and 6, for 7 (dynamic, which only
    /// the caller can resolve, and which is reserved in `frm` itself) and for anything wider than the field.
    #[inline]
    #[must_use]
    pub const fn from_rm(bits: u32) -> Option<Self> {
        match bits {
            0 => Some(Self::Rne),
            1 => Some(Self::Rtz),
            2 => Some(Self::Rdn),
            3 => Some(Self::Rup),
            4 => Some(Self::Rmm),
            _ => None,
        }
    }
}

/// Reads a binary32 operand from a 64-bit floating-point register: a value that is not NaN-boxed (upper 32
/// bits all ones) reads as the canonical NaN (D extension, "NaN Boxing of Narrower Values"). Sign injection
/// and FCLASS check too; the transfers FSW and FMV.X.W do not, they take the lower 32 bits as they are.
#[inline]
#[must_use]
pub const fn unbox_f32(reg: u64) -> u32 {
    if reg >> 32 == 0xffff_ffff { reg as u32 } else { QNAN32 }
}

/// NaN-boxes a binary32 result for a 64-bit floating-point register: upper 32 bits all ones.
#[inline]
#[must_use]
pub const fn box_f32(bits: u32) -> u64 {
    0xffff_ffff_0000_0000 | bits as u64
}
