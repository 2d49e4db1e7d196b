//! Two f32 to two 16-bit numbers with one instruction (sm_80).

#[cfg(not(target_arch = "nvptx64"))]
use super::{f32x2_to_bf16x2, f32x2_to_f16x2};

macro_rules! packed {
    ($($name:ident: $type:literal, $host:path;)*) => {$(
        #[doc = concat!("The nearest ", $type, " of each, ties to even, `low` in the lower half.")]
        ///
        #[doc = concat!("PTX: `cvt.rn.", $type, "x2.f32 packed, high, low`; needs sm_80.")]
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        #[must_use]
        pub fn $name(low: f32, high: f32) -> u32 {
            #[cfg(target_arch = "nvptx64")]
            {
                let packed: u32;
                // SAFETY: arithmetic on registers.
                unsafe {
                    core::arch::asm!(concat!("cvt.rn.", $type, "x2.f32 {p}, {h}, {l};"), p = out(reg32) packed,
                        h = in(reg32) high, l = in(reg32) low, options(pure, nomem, nostack, preserves_flags));
                }
                packed
            }
            #[cfg(not(target_arch = "nvptx64"))]
            $host(low, high)
        }
    )*};
}

packed! {
    pack_f16x2: "f16", f32x2_to_f16x2;
    pack_bf16x2: "bf16", f32x2_to_bf16x2;
}
