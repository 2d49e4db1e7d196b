//! Copies from global to shared memory that pass by the registers and go on while the thread does (sm_80).
//!
//! A thread's copies since the last commit are a group. What a copy wrote may be read by its own thread after a wait for its
//! group, and by others after a barrier behind that wait (PTX ISA, "Data Movement: Asynchronous copy").

use super::{GlobalAddr, SharedAddr};

/// Starts to copy `bytes` (0 to 16) and fills the rest of 16 with zeros; passes by L1.
///
/// PTX: `cp.async.cg.shared.global [to], [from], 16, bytes`.
///
/// # Safety
/// `to` is 16 allocated bytes, aligned to 16, that nobody reads or writes before the wait; `from` is readable for `bytes` bytes
/// and aligned to 16 (of 0 bytes nothing is read, but it must be an address of global memory).
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn cp_async_16(to: SharedAddr, from: GlobalAddr, bytes: u32) {
    device!("mem::async_copy", {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!("cp.async.cg.shared.global [{t}], [{f}], 16, {b};", t = in(reg32) to.get(), f = in(reg64) from.get(),
                b = in(reg32) bytes, options(nostack, preserves_flags));
        }
    })
}

/// Starts to copy 16 bytes; passes by L1.
///
/// PTX: `cp.async.cg.shared.global [to], [from], 16`.
///
/// # Safety
/// As [`cp_async_16`], of 16 bytes.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn cp_async_16_all(to: SharedAddr, from: GlobalAddr) {
    device!("mem::async_copy", {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!("cp.async.cg.shared.global [{t}], [{f}], 16;", t = in(reg32) to.get(), f = in(reg64) from.get(),
                options(nostack, preserves_flags));
        }
    })
}

/// Starts to copy 16 bytes where `condition` holds: one instruction under a predicate, where an `if` around it may become a jump.
///
/// PTX: `@p cp.async.cg.shared.global [to], [from], 16`.
///
/// # Safety
/// As [`cp_async_16`], of 16 bytes, where the condition holds.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn cp_async_16_where(condition: bool, to: SharedAddr, from: GlobalAddr) {
    device!("mem::async_copy", {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!("{{ .reg .pred p; setp.ne.u32 p, {c}, 0; @p cp.async.cg.shared.global [{t}], [{f}], 16; }}",
                c = in(reg32) u32::from(condition), t = in(reg32) to.get(), f = in(reg64) from.get(),
                options(nostack, preserves_flags));
        }
    })
}

/// Makes the thread's copies since the last commit a group.
///
/// PTX: `cp.async.commit_group`.
///
/// # Threads
/// Any.
#[inline(always)]
pub fn cp_async_commit() {
    device!("mem::async_copy", {
        // SAFETY: touches nothing that Rust knows of; the clobber keeps its place among memory accesses.
        unsafe { core::arch::asm!("cp.async.commit_group;", options(nostack, preserves_flags)) }
    })
}

/// Waits until at most `GROUPS` of the thread's groups are still on their way, the newest ones.
///
/// PTX: `cp.async.wait_group GROUPS`.
///
/// # Threads
/// Any.
#[inline(always)]
pub fn cp_async_wait<const GROUPS: u32>() {
    device!("mem::async_copy", {
        // SAFETY: as for the commit.
        unsafe {
            core::arch::asm!("cp.async.wait_group {n};", n = const GROUPS, options(nostack, preserves_flags))
        }
    })
}
