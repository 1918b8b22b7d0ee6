//! Guest memory by host address: the one place where loads, stores and atomics of the guest happen.
//!
//! Guest memory is shared with other harts and with devices, so every access here is atomic at its own size. Plain
//! loads and stores are relaxed, which RVWMO allows; `fence` and the A extension order them.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use ram::{OpenError, Ram};

use crate::pmp::Access;

/// A value of 1, 2, 4 or 8 bytes, little-endian in guest memory.
pub(crate) trait Word: Copy {
    /// Width in bytes.
    const BYTES: u64;

    /// Reads.
    ///
    /// # Safety
    /// `at` is valid for reads and writes of `BYTES` bytes, aligned to them, and everybody else accesses it atomically.
    unsafe fn load(at: *mut u8) -> Self;

    /// Writes.
    ///
    /// # Safety
    /// As for [`Word::load`].
    unsafe fn store(at: *mut u8, value: Self);

    /// Zero-extends.
    fn widen(self) -> u64;

    /// Truncates.
    fn narrow(value: u64) -> Self;
}

macro_rules! word {
    ($int:ty, $atomic:ty) => {
        impl Word for $int {
            const BYTES: u64 = size_of::<$int>() as u64;

            #[inline(always)]
            unsafe fn load(at: *mut u8) -> Self {
                // SAFETY: passed on to the caller.
                let cell = unsafe { <$atomic>::from_ptr(at.cast()) };
                <$int>::from_le(cell.load(Ordering::Relaxed))
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: passed on to the caller.
                let cell = unsafe { <$atomic>::from_ptr(at.cast()) };
                cell.store(value.to_le(), Ordering::Relaxed);
            }

            #[inline(always)]
            fn widen(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn narrow(value: u64) -> Self {
                value as $int
            }
        }
    };
}

word!(u8, AtomicU8);
word!(u16, AtomicU16);
word!(u32, AtomicU32);
word!(u64, AtomicU64);

/// The host address of an aligned word of guest RAM, which lives for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct HostWord<'a> {
    at: *mut u8,
    ram: PhantomData<&'a Ram>,
}

impl<'a> HostWord<'a> {
    /// The word at `at`.
    ///
    /// # Safety
    /// `at` points into guest RAM that lives for `'a`, aligned to the size that the word will be accessed with and with
    /// as many bytes behind it.
    #[inline(always)]
    pub(crate) unsafe fn new(at: *mut u8) -> Self {
        Self { at, ram: PhantomData }
    }

    /// The word of `T`'s size at guest physical address `addr`, if that is aligned and in RAM, opened for `access`. Whoever
    /// writes to it says so to the code map.
    pub(crate) fn physical<T: Word>(ram: &'a Ram, addr: u64, access: Access) -> Result<Self, OpenError> {
        if !addr.is_multiple_of(T::BYTES) {
            return Err(OpenError::Outside);
        }
        let page = if access == Access::Write { ram.open_write(addr)? } else { ram.open_read(addr)? };
        let offset = (addr % ram::PAGE_SIZE) as usize;
        // SAFETY: the page is valid while `ram` lives; an aligned word does not leave it.
        Ok(unsafe { Self::new(page.add(offset)) })
    }

    /// The host address, to tell words apart.
    pub(crate) fn addr(self) -> usize {
        self.at as usize
    }

    /// Reads; `T` is of the size that the word was made for.
    #[inline(always)]
    pub(crate) fn load<T: Word>(self) -> T {
        debug_assert!((self.at as u64).is_multiple_of(T::BYTES));
        // SAFETY: by the contract of `new`.
        unsafe { T::load(self.at) }
    }

    /// Writes; `T` is of the size that the word was made for.
    #[inline(always)]
    pub(crate) fn store<T: Word>(self, value: T) {
        debug_assert!((self.at as u64).is_multiple_of(T::BYTES));
        // SAFETY: by the contract of `new`.
        unsafe { T::store(self.at, value) }
    }

    fn atomic32(self) -> &'a AtomicU32 {
        debug_assert!(self.addr().is_multiple_of(4));
        // SAFETY: by the contract of `new`.
        unsafe { AtomicU32::from_ptr(self.at.cast()) }
    }

    fn atomic64(self) -> &'a AtomicU64 {
        debug_assert!(self.addr().is_multiple_of(8));
        // SAFETY: by the contract of `new`.
        unsafe { AtomicU64::from_ptr(self.at.cast()) }
    }

    /// Loads with the ordering of `lr.aqrl`.
    pub(crate) fn reserve(self, double: bool) -> u64 {
        if double {
            u64::from_le(self.atomic64().load(Ordering::SeqCst))
        } else {
            u32::from_le(self.atomic32().load(Ordering::SeqCst)).into()
        }
    }

    /// Replaces `old` by `new` if that is still there.
    pub(crate) fn exchange(self, double: bool, old: u64, new: u64) -> bool {
        let order = Ordering::SeqCst;
        if double {
            self.atomic64().compare_exchange(old.to_le(), new.to_le(), order, order).is_ok()
        } else {
            let (old, new) = ((old as u32).to_le(), (new as u32).to_le());
            self.atomic32().compare_exchange(old, new, order, order).is_ok()
        }
    }

    /// Replaces the value by `change(value)`, atomically; returns what was there.
    pub(crate) fn update(self, double: bool, change: impl Fn(u64) -> u64) -> u64 {
        let order = Ordering::SeqCst;
        // The closure never declines, so both arms of the result hold the old value.
        if double {
            let next = |old| Some(change(u64::from_le(old)).to_le());
            u64::from_le(self.atomic64().fetch_update(order, order, next).unwrap_or_else(|old| old))
        } else {
            let next = |old| Some((change(u32::from_le(old).into()) as u32).to_le());
            u32::from_le(self.atomic32().fetch_update(order, order, next).unwrap_or_else(|old| old)).into()
        }
    }
}

/// One page of RAM to fetch from.
#[derive(Clone, Copy)]
pub(crate) struct CodePage<'a> {
    page: *mut u8,
    ram: PhantomData<&'a Ram>,
}

impl<'a> CodePage<'a> {
    /// The page that holds guest physical address `addr`.
    pub(crate) fn new(ram: &'a Ram, addr: u64) -> Result<Self, OpenError> {
        ram.open_read(addr).map(|page| Self { page, ram: PhantomData })
    }

    /// The 16 bits at `offset` (taken modulo the page, and even).
    pub(crate) fn half(self, offset: u16) -> u16 {
        let offset = usize::from(offset & 0xffe);
        // SAFETY: `page` is a whole page of RAM which lives for `'a`; an even offset below 4096 leaves room for two bytes.
        unsafe { u16::load(self.page.add(offset)) }
    }
}
