//! Atomic operations on global memory, with the order and scope that they say.
//!
//! `core::sync::atomic` compiles on the device too, but the compiler drops the ordering asked for: every operation is
//! relaxed, for the whole GPU. Here the order is in the instruction.

mod float;

pub use float::*;

use crate::mem::GlobalAddr;

macro_rules! fetch {
    ($($name:ident($t:ty, $class:ident): $op:literal, $what:literal;)*) => {$(
        #[doc = concat!($what, " Answers the value before.")]
        ///
        #[doc = concat!("PTX: `", $op, " r, [address], value` (Parallel Synchronization, `atom`).")]
        ///
        /// # Safety
        /// The element is allocated, initialised and aligned to its size; other threads access it atomically only.
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name(address: GlobalAddr, value: $t) -> $t {
            device!("atomic", {
                let before: $t;
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!($op, " {r}, [{p}], {v};"), r = out($class) before,
                        p = in(reg64) address.get(), v = in($class) value, options(nostack, preserves_flags));
                }
                before
            })
        }
    )*};
}

fetch! {
    fetch_add_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.add.u32", "Adds `value`, wrapping; orders nothing else.";
    fetch_add_acquire_u32(u32, reg32): "atom.acquire.gpu.global.add.u32", "Adds `value`, wrapping; what follows here sees what was released before it.";
    fetch_add_release_u32(u32, reg32): "atom.release.gpu.global.add.u32", "Adds `value`, wrapping, after all that went before here.";
    fetch_add_acq_rel_u32(u32, reg32): "atom.acq_rel.gpu.global.add.u32", "Adds `value`, wrapping, after all that went before here and before all that follows.";
    fetch_add_relaxed_u64(u64, reg64): "atom.relaxed.gpu.global.add.u64", "Adds `value`, wrapping; orders nothing else.";
    fetch_max_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.max.u32", "Stores the greater of the old value and `value`; orders nothing else.";
    fetch_max_relaxed_i32(i32, reg32): "atom.relaxed.gpu.global.max.s32", "Stores the greater of the old value and `value`; orders nothing else.";
    fetch_min_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.min.u32", "Stores the lesser of the old value and `value`; orders nothing else.";
    fetch_min_relaxed_i32(i32, reg32): "atom.relaxed.gpu.global.min.s32", "Stores the lesser of the old value and `value`; orders nothing else.";
    fetch_or_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.or.b32", "Sets the bits of `value`; orders nothing else.";
    fetch_and_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.and.b32", "Keeps the bits of `value`; orders nothing else.";
    exchange_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.exch.b32", "Stores `value`; orders nothing else.";
    exchange_acq_rel_u32(u32, reg32): "atom.acq_rel.gpu.global.exch.b32", "Stores `value`, after all that went before here and before all that follows.";
    atomic_fetch_add_f32(f32, reg32): "atom.relaxed.gpu.global.add.f32", "Adds `value`, flushing subnormal numbers; orders nothing else.";
}

macro_rules! compare_exchange {
    ($($name:ident($t:ty, $class:ident): $op:literal, $what:literal;)*) => {$(
        #[doc = concat!("Stores `new` where the element equals `expected`", $what, ". Answers the value before.")]
        ///
        #[doc = concat!("PTX: `", $op, " r, [address], expected, new` (Parallel Synchronization, `atom`).")]
        ///
        /// # Safety
        /// The element is allocated, initialised and aligned to its size; other threads access it atomically only.
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name(address: GlobalAddr, expected: $t, new: $t) -> $t {
            device!("atomic", {
                let before: $t;
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!($op, " {r}, [{p}], {e}, {n};"), r = out($class) before,
                        p = in(reg64) address.get(), e = in($class) expected, n = in($class) new,
                        options(nostack, preserves_flags));
                }
                before
            })
        }
    )*};
}

compare_exchange! {
    compare_exchange_relaxed_u32(u32, reg32): "atom.relaxed.gpu.global.cas.b32", "; orders nothing else";
    compare_exchange_acq_rel_u32(u32, reg32): "atom.acq_rel.gpu.global.cas.b32", ", after all that went before here and before all that follows";
    compare_exchange_acq_rel_u64(u64, reg64): "atom.acq_rel.gpu.global.cas.b64", ", after all that went before here and before all that follows";
}

/// Adds `value` to an `f32` without asking for the old one. The sum of many depends on their order in the last bits.
///
/// PTX: `red.relaxed.gpu.global.add.f32 [address+OFFSET], value` (Parallel Synchronization, `red`).
///
/// # Safety
/// The element is allocated, initialised and aligned to 4; other threads access it atomically only.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn atomic_add_f32<const OFFSET: i32>(address: GlobalAddr, value: f32) {
    device!("atomic::atomic_add_f32", {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!("red.relaxed.gpu.global.add.f32 [{p}+{o}], {v};", p = in(reg64) address.get(),
                o = const OFFSET, v = in(reg32) value, options(nostack, preserves_flags));
        }
    })
}
