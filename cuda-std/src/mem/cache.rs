//! What the second-level cache should keep, said with each access.
//!
//! A hint changes no result. Data that many blocks read should stay ([`CachePolicy::evict_last`]); data that is read once should
//! be the first to go (PTX ISA, "Data Movement and Conversion Instructions: createpolicy", "Cache Eviction Priority Hints").

use super::{GlobalAddr, SharedAddr};

/// A cache policy, as instructions with `.L2::cache_hint` take it. Its bits are the hardware's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy(u64);

/// Writes one constructor a policy.
macro_rules! policies {
    ($($name:ident: $policy:literal, $what:literal;)*) => {
        impl CachePolicy {$(
            #[doc = $what]
            ///
            #[doc = concat!("PTX: `createpolicy.fractional.L2::", $policy, ".b64 policy, 1.0`; needs sm_80.")]
            ///
            /// # Threads
            /// Any.
            #[inline(always)]
            pub fn $name() -> Self {
                device!("mem::cache", {
                    let policy: u64;
                    // SAFETY: makes a number.
                    unsafe {
                        core::arch::asm!(concat!("createpolicy.fractional.L2::", $policy, ".b64 {p}, 0f3F800000;"),
                            p = out(reg64) policy, options(pure, nomem, nostack, preserves_flags));
                    }
                    CachePolicy(policy)
                })
            }
        )*}
    };
}

policies! {
    evict_first: "evict_first", "What is accessed goes before anything else does: it is used once.";
    evict_last: "evict_last", "What is accessed stays as long as anything does: it is used again, by other blocks too.";
}

/// Loads four numbers of memory that nobody writes while the kernel runs, without a place in L1, by a policy for L2.
///
/// PTX: `ld.global.nc.L1::no_allocate.L2::cache_hint.v4.b32 …, [address+OFFSET], policy`; needs sm_80.
///
/// # Safety
/// The 16 bytes are allocated, initialised and aligned to 16; nobody writes them while the kernel runs.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn ld_global_nc_hinted_v4_u32<const OFFSET: i32>(
    address: GlobalAddr,
    policy: CachePolicy,
) -> [u32; 4] {
    device!("mem::cache", {
        let (a, b, c, d): (u32, u32, u32, u32);
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(
                "ld.global.nc.L1::no_allocate.L2::cache_hint.v4.b32 {{{a}, {b}, {c}, {d}}}, [{p}+{o}], {h};",
                a = out(reg32) a, b = out(reg32) b, c = out(reg32) c, d = out(reg32) d,
                p = in(reg64) address.get(), h = in(reg64) policy.0, o = const OFFSET,
                options(nostack, preserves_flags, readonly)
            );
        }
        [a, b, c, d]
    })
}

/// As [`cp_async_16`](super::cp_async_16), by a policy for L2.
///
/// PTX: `cp.async.cg.shared.global.L2::cache_hint [to], [from], 16, bytes, policy`; needs sm_80.
///
/// # Safety
/// As [`cp_async_16`](super::cp_async_16).
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn cp_async_16_hinted(to: SharedAddr, from: GlobalAddr, bytes: u32, policy: CachePolicy) {
    device!("mem::cache", {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!("cp.async.cg.shared.global.L2::cache_hint [{t}], [{f}], 16, {b}, {h};",
                t = in(reg32) to.get(), f = in(reg64) from.get(), b = in(reg32) bytes, h = in(reg64) policy.0,
                options(nostack, preserves_flags));
        }
    })
}
