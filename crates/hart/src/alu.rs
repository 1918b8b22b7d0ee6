//! Integer operations that are more than one operator, as pure functions (unprivileged specification, chapters 2, 13
//! and 28).

/// Sign-extends a word.
#[inline(always)]
pub(crate) fn word(value: u64) -> u64 {
    value as i32 as u64
}

/// `mulh`.
#[inline(always)]
pub(crate) fn mulh(a: u64, b: u64) -> u64 {
    ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
}

/// `mulhsu`.
#[inline(always)]
pub(crate) fn mulhsu(a: u64, b: u64) -> u64 {
    // The product of a signed and an unsigned 64-bit number fits 128 bits with its sign.
    ((i128::from(a as i64) * i128::from(b)) >> 64) as u64
}

/// `mulhu`.
#[inline(always)]
pub(crate) fn mulhu(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// `div`: by zero gives all ones; the overflow gives the dividend.
#[inline(always)]
pub(crate) fn div(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }
}

/// `divu`: by zero gives all ones.
#[inline(always)]
pub(crate) fn divu(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(u64::MAX)
}

/// `rem`: by zero gives the dividend; the overflow gives zero.
#[inline(always)]
pub(crate) fn rem(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

/// `remu`: by zero gives the dividend.
#[inline(always)]
pub(crate) fn remu(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(a)
}

/// `divw`.
#[inline(always)]
pub(crate) fn divw(a: u64, b: u64) -> u64 {
    let (a, b) = (a as i32, b as i32);
    if b == 0 { u64::MAX } else { a.wrapping_div(b) as u64 }
}

/// `divuw`.
#[inline(always)]
pub(crate) fn divuw(a: u64, b: u64) -> u64 {
    (a as u32).checked_div(b as u32).map_or(u64::MAX, |q| word(q.into()))
}

/// `remw`.
#[inline(always)]
pub(crate) fn remw(a: u64, b: u64) -> u64 {
    let (a, b) = (a as i32, b as i32);
    if b == 0 { a as u64 } else { a.wrapping_rem(b) as u64 }
}

/// `remuw`.
#[inline(always)]
pub(crate) fn remuw(a: u64, b: u64) -> u64 {
    let a = a as u32;
    word(a.checked_rem(b as u32).unwrap_or(a).into())
}

/// `orc.b`: every byte that is not zero becomes all ones.
#[inline(always)]
pub(crate) fn orc_b(a: u64) -> u64 {
    u64::from_le_bytes(a.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff }))
}
