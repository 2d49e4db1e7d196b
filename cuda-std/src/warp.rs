//! The warp: 32 threads that can look into each other's registers.
//!
//! `mask` names the lanes that take part, one bit each; `0xffff_ffff` is the whole warp.

mod reduce;
mod shuffle;
mod vote;

pub use reduce::*;
pub use shuffle::*;
pub use vote::*;

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

/// The mask of a whole warp.
pub const FULL_MASK: u32 = 0xffff_ffff;

/// The thread's number in its warp, 0 to 31.
///
/// PTX: `mov.u32 r, %laneid` (Special Registers).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn lane_id() -> u32 {
    // SAFETY: reads a special register.
    device!("warp::lane_id", unsafe { intrinsics::laneid() })
}

/// The lanes that happen to execute this together. Says nothing of lanes that could have come.
///
/// PTX: `activemask.b32` (Parallel Synchronization, `activemask`).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn activemask() -> u32 {
    // SAFETY: no precondition.
    device!("warp::activemask", unsafe { intrinsics::activemask() })
}

/// Waits for the lanes in `mask`, and orders memory among them.
///
/// PTX: `bar.warp.sync mask` (Parallel Synchronization, `bar.warp.sync`).
///
/// # Safety
/// The calling lane is in `mask`, and all lanes of `mask` call with the same one.
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn sync_warp(mask: u32) {
    // SAFETY: the caller's promise.
    device!("warp::sync_warp", unsafe { intrinsics::bar_warp_sync(mask) })
}
