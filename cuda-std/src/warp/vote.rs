//! Votes: one question to all lanes, and which lanes hold equal values.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

/// Whether `predicate` holds in all lanes of `mask`.
///
/// PTX: `vote.sync.all.pred` (Parallel Synchronization, `vote.sync`).
///
/// # Safety
/// The calling lane is in `mask`, and all lanes of `mask` call with the same one.
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_vote_all(mask: u32, predicate: bool) -> bool {
    // SAFETY: the caller's promise.
    device!("warp::warp_vote_all", unsafe { intrinsics::vote_all(mask, predicate) })
}

/// Whether `predicate` holds in any lane of `mask`.
///
/// PTX: `vote.sync.any.pred`.
///
/// # Safety
/// As [`warp_vote_all`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_vote_any(mask: u32, predicate: bool) -> bool {
    // SAFETY: the caller's promise.
    device!("warp::warp_vote_any", unsafe { intrinsics::vote_any(mask, predicate) })
}

/// The lanes of `mask` in which `predicate` holds, one bit each.
///
/// PTX: `vote.sync.ballot.b32`.
///
/// # Safety
/// As [`warp_vote_all`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_vote_ballot(mask: u32, predicate: bool) -> u32 {
    // SAFETY: the caller's promise.
    device!("warp::warp_vote_ballot", unsafe { intrinsics::vote_ballot(mask, predicate) })
}

mod sealed {
    pub trait Sealed {}
}

/// Values that lanes can be matched by: 32 or 64 bits, compared bit for bit (so that 0.0 and -0.0 differ).
pub trait WarpMatchValue: Copy + sealed::Sealed {
    #[doc(hidden)]
    unsafe fn any(self, mask: u32) -> u32;
    #[doc(hidden)]
    unsafe fn all(self, mask: u32) -> (u32, bool);
}

macro_rules! match_value {
    ($($t:ty: $any:ident, $all:ident, |$v:ident| $bits:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl WarpMatchValue for $t {
            #[inline(always)]
            unsafe fn any(self, mask: u32) -> u32 {
                let $v = self;
                // SAFETY: the caller's promise.
                device!("warp::warp_match_any", unsafe { intrinsics::$any(mask, $bits) })
            }
            #[inline(always)]
            unsafe fn all(self, mask: u32) -> (u32, bool) {
                let $v = self;
                // SAFETY: the caller's promise.
                device!("warp::warp_match_all", unsafe { intrinsics::$all(mask, $bits) })
            }
        }
    )*};
}

match_value! {
    u32: match_any_i32, match_all_i32p, |v| v;
    i32: match_any_i32, match_all_i32p, |v| v as u32;
    f32: match_any_i32, match_all_i32p, |v| v.to_bits();
    u64: match_any_i64, match_all_i64p, |v| v;
    i64: match_any_i64, match_all_i64p, |v| v as u64;
    f64: match_any_i64, match_all_i64p, |v| v.to_bits();
}

/// The lanes of `mask` that hold the same value as this one.
///
/// PTX: `match.any.sync.b32` or `.b64` (Parallel Synchronization, `match.sync`; sm_70).
///
/// # Safety
/// As [`warp_vote_all`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_match_any<T: WarpMatchValue>(mask: u32, value: T) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { value.any(mask) }
}

/// `mask` and true if all its lanes hold the same value, else 0 and false.
///
/// PTX: `match.all.sync.b32 d|p` or `.b64` (sm_70).
///
/// # Safety
/// As [`warp_vote_all`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_match_all<T: WarpMatchValue>(mask: u32, value: T) -> (u32, bool) {
    // SAFETY: the caller's promise.
    unsafe { value.all(mask) }
}
