//! Named barriers: sixteen meeting points of a block, each for as many of its warps as the program says.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

/// Waits at barrier `id` until `threads` threads have come to it, by [`sync`] or [`arrive`].
///
/// PTX: `bar.sync id, threads` (Parallel Synchronization, `bar`).
///
/// # Safety
/// `id < 16`, `threads` is a multiple of 32 and not 0, and all who come to this barrier in one phase give the same number.
///
/// # Threads
/// Whole warps, converged; barrier 0 is the one of [`sync_threads`](crate::thread::sync_threads).
#[inline(always)]
pub unsafe fn sync(id: u32, threads: u32) {
    // SAFETY: the caller's promise.
    device!("barrier::sync", unsafe { intrinsics::barrier_sync_count(id, threads) })
}

/// Counts at barrier `id` without waiting: the producer's half of a handshake whose consumer calls [`sync`].
///
/// PTX: `bar.arrive id, threads`.
///
/// # Safety
/// As [`sync`]; `threads` counts arriving and waiting threads together.
///
/// # Threads
/// Whole warps, converged.
#[inline(always)]
pub unsafe fn arrive(id: u32, threads: u32) {
    // SAFETY: the caller's promise.
    device!("barrier::arrive", unsafe { intrinsics::barrier_arrive_count(id, threads) })
}
