//! 8 x 8 matrices of 16-bit elements between shared memory and a warp's registers.
//!
//! Lane `8 i + r` gives the address of row `r` (16 bytes) of matrix `i`. Register `i` of lane `l` then holds elements
//! `2 (l % 4)` and `2 (l % 4) + 1` of row `l / 4` of matrix `i`; of a transposed one, of column `l / 4`
//! (PTX ISA, "Warp-level matrix load instruction: ldmatrix").

use super::SharedAddr;

/// Writes the two loads of four matrices.
macro_rules! loads {
    ($($name:ident: $modifier:literal, $what:literal;)*) => {$(
        #[doc = concat!("Loads four matrices", $what, "; each lane gives the address of a row, less `OFFSET` bytes.")]
        ///
        #[doc = concat!("PTX: `ldmatrix.sync.aligned.m8n8.x4", $modifier, ".shared.b16 …, [address+OFFSET]`; needs sm_75.")]
        ///
        /// # Safety
        /// The 16 bytes are allocated, initialised and aligned to 16; no thread writes them at the same time; all lanes of the
        /// warp execute it together.
        ///
        /// # Threads
        /// The whole warp.
        #[inline(always)]
        pub unsafe fn $name<const OFFSET: i32>(address: SharedAddr) -> [u32; 4] {
            device!("mem::matrix", {
                let (a, b, c, d): (u32, u32, u32, u32);
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!("ldmatrix.sync.aligned.m8n8.x4", $modifier, ".shared.b16 {{{a}, {b}, {c}, {d}}}, [{p}+{o}];"),
                        a = out(reg32) a, b = out(reg32) b, c = out(reg32) c, d = out(reg32) d,
                        p = in(reg32) address.get(), o = const OFFSET, options(nostack, preserves_flags, readonly));
                }
                [a, b, c, d]
            })
        }
    )*};
}

loads! {
    ldmatrix_x4: "", "";
    ldmatrix_x4_trans: ".trans", " transposed";
}
