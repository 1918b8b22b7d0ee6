//! The F and D extensions: registers, flags and modes around the arithmetic of [`fpu`].

use super::{Flow, StoreOutcome};
use crate::csr::status;
use crate::fpu::{self, RoundingMode, box_f32, unbox_f32};
use crate::hart::Hart;
use crate::op::{Code, Op};
use crate::trap::Trap;
use vmcore::Exit;

const SIGN32: u32 = 1 << 31;
const SIGN64: u64 = 1 << 63;

impl Hart {
    /// Whether the floating-point unit is on and its state dirty already: then nothing is left to check or note.
    #[inline(always)]
    pub(super) fn fp_is_dirty(&self) -> bool {
        self.csr.mstatus & status::FS == status::FS
    }

    fn fp_is_off(&self) -> bool {
        self.csr.mstatus & status::FS == 0
    }

    /// A floating-point load or store while the state is off, initial or clean.
    pub(super) fn float_access(&mut self, op: &Op, page: u64) -> Flow {
        if self.fp_is_off() {
            return Flow::Trap(Trap::illegal(op.fp_bits()));
        }
        let addr = self.x[usize::from(op.rs1)].wrapping_add(op.fp_imm() as u64);
        let value = self.x[usize::from(op.rs2)];
        let stored: StoreOutcome = match op.code {
            Code::Fsd => self.store_slow::<u64>(addr, value, op.left),
            Code::Fsw => self.store_slow::<u32>(addr, value as u32, op.left),
            _ => {
                let loaded = if op.code == Code::Fld {
                    self.load_slow::<u64>(addr, op.left)
                } else {
                    self.load_slow::<u32>(addr, op.left).map(box_f32)
                };
                return match loaded {
                    Ok(value) => {
                        self.x[usize::from(op.rd)] = value;
                        self.csr.mstatus |= status::FS;
                        Flow::Next
                    }
                    Err(trap) => Flow::Trap(trap),
                };
            }
        };
        match stored {
            Ok(None) => Flow::Next,
            Ok(Some(request)) => {
                let next = page.wrapping_add(u64::from(op.off) + u64::from(op.rd));
                Flow::Leave(next, Exit::Request { request, ecall: false })
            }
            Err(trap) => Flow::Trap(trap),
        }
    }

    /// Executes a floating-point operation other than loads and stores.
    pub(super) fn float(&mut self, op: &Op) -> Flow {
        let (rm, rs3) = op.fp_fields();
        let rm = if rm == 7 { self.csr.frm.into() } else { rm };
        let Some(rm) = RoundingMode::from_rm(rm).filter(|_| !self.fp_is_off()) else {
            return Flow::Trap(Trap::illegal(op.fp_bits()));
        };
        let operands = [op.rs1, op.rs2, rs3].map(|slot| self.x[usize::from(slot)]);
        let mut flags = self.csr.fflags;
        let result = match single(op.code, operands, rm, &mut flags) {
            Some(result) => result,
            None => double(op.code, operands, rm, &mut flags),
        };
        self.x[usize::from(op.rd)] = result;
        let writes_register = op.rd >= crate::op::F0;
        if writes_register || flags != self.csr.fflags {
            self.csr.fflags = flags;
            self.csr.mstatus |= status::FS;
        }
        Flow::Next
    }
}

/// The operations on binary32.
#[inline(always)]
#[rustfmt::skip]
fn single(code: Code, [ra, rb, rc]: [u64; 3], rm: RoundingMode, flags: &mut u8) -> Option<u64> {
    let (a, b, c) = (unbox_f32(ra), unbox_f32(rb), unbox_f32(rc));
    Some(match code {
        Code::FmaddS => box_f32(fpu::fma32(a, b, c, rm, flags)),
        Code::FmsubS => box_f32(fpu::fma32(a, b, c ^ SIGN32, rm, flags)),
        Code::FnmsubS => box_f32(fpu::fma32(a ^ SIGN32, b, c, rm, flags)),
        Code::FnmaddS => box_f32(fpu::fma32(a ^ SIGN32, b, c ^ SIGN32, rm, flags)),
        Code::FaddS => box_f32(fpu::add32(a, b, rm, flags)),
        Code::FsubS => box_f32(fpu::sub32(a, b, rm, flags)),
        Code::FmulS => box_f32(fpu::mul32(a, b, rm, flags)),
        Code::FdivS => box_f32(fpu::div32(a, b, rm, flags)),
        Code::FsqrtS => box_f32(fpu::sqrt32(a, rm, flags)),
        Code::FsgnjS => box_f32(fpu::sgnj32(a, b)),
        Code::FsgnjnS => box_f32(fpu::sgnjn32(a, b)),
        Code::FsgnjxS => box_f32(fpu::sgnjx32(a, b)),
        Code::FminS => box_f32(fpu::min32(a, b, flags)),
        Code::FmaxS => box_f32(fpu::max32(a, b, flags)),
        Code::FeqS => fpu::eq32(a, b, flags).into(),
        Code::FltS => fpu::lt32(a, b, flags).into(),
        Code::FleS => fpu::le32(a, b, flags).into(),
        Code::FclassS => fpu::class32(a),
        Code::FcvtWS => fpu::cvt_i32_f32(a, rm, flags) as u64,
        Code::FcvtWuS => fpu::cvt_u32_f32(a, rm, flags) as i32 as u64,
        Code::FcvtLS => fpu::cvt_i64_f32(a, rm, flags) as u64,
        Code::FcvtLuS => fpu::cvt_u64_f32(a, rm, flags),
        Code::FcvtSW => box_f32(fpu::cvt_f32_i32(ra as i32, rm, flags)),
        Code::FcvtSWu => box_f32(fpu::cvt_f32_u32(ra as u32, rm, flags)),
        Code::FcvtSL => box_f32(fpu::cvt_f32_i64(ra as i64, rm, flags)),
        Code::FcvtSLu => box_f32(fpu::cvt_f32_u64(ra, rm, flags)),
        Code::FmvXW => ra as i32 as u64,
        Code::FmvWX => box_f32(ra as u32),
        Code::FcvtSD => box_f32(fpu::cvt_f32_f64(ra, rm, flags)),
        Code::FcvtDS => fpu::cvt_f64_f32(a, flags),
        _ => return None,
    })
}

/// The operations on binary64.
#[inline(always)]
#[rustfmt::skip]
fn double(code: Code, [a, b, c]: [u64; 3], rm: RoundingMode, flags: &mut u8) -> u64 {
    match code {
        Code::FmaddD => fpu::fma64(a, b, c, rm, flags),
        Code::FmsubD => fpu::fma64(a, b, c ^ SIGN64, rm, flags),
        Code::FnmsubD => fpu::fma64(a ^ SIGN64, b, c, rm, flags),
        Code::FnmaddD => fpu::fma64(a ^ SIGN64, b, c ^ SIGN64, rm, flags),
        Code::FaddD => fpu::add64(a, b, rm, flags),
        Code::FsubD => fpu::sub64(a, b, rm, flags),
        Code::FmulD => fpu::mul64(a, b, rm, flags),
        Code::FdivD => fpu::div64(a, b, rm, flags),
        Code::FsqrtD => fpu::sqrt64(a, rm, flags),
        Code::FsgnjD => fpu::sgnj64(a, b),
        Code::FsgnjnD => fpu::sgnjn64(a, b),
        Code::FsgnjxD => fpu::sgnjx64(a, b),
        Code::FminD => fpu::min64(a, b, flags),
        Code::FmaxD => fpu::max64(a, b, flags),
        Code::FeqD => fpu::eq64(a, b, flags).into(),
        Code::FltD => fpu::lt64(a, b, flags).into(),
        Code::FleD => fpu::le64(a, b, flags).into(),
        Code::FclassD => fpu::class64(a),
        Code::FcvtWD => fpu::cvt_i32_f64(a, rm, flags) as u64,
        Code::FcvtWuD => fpu::cvt_u32_f64(a, rm, flags) as i32 as u64,
        Code::FcvtLD => fpu::cvt_i64_f64(a, rm, flags) as u64,
        Code::FcvtLuD => fpu::cvt_u64_f64(a, rm, flags),
        Code::FcvtDW => fpu::cvt_f64_i32(a as i32),
        Code::FcvtDWu => fpu::cvt_f64_u32(a as u32),
        Code::FcvtDL => fpu::cvt_f64_i64(a as i64, rm, flags),
        Code::FcvtDLu => fpu::cvt_f64_u64(a, rm, flags),
        // FmvXD, FmvDX
        _ => a,
    }
}
