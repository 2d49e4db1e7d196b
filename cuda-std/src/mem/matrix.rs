//! 8 x 8 matrices of 16-bit elements between shared memory and a warp's registers.
//!
//! Lane `8 i + r` gives the address of row `r` (16 bytes) of matrix `i`; of the forms for fewer than four matrices the other lanes'
//! addresses do not matter. Register `i` of lane `l` holds elements `2 (l % 4)` and `2 (l % 4) + 1` of row `l / 4` of matrix `i`; of
//! a transposed one, of column `l / 4` (PTX ISA, "Warp-level matrix load instruction: ldmatrix", "... store instruction: stmatrix").

use super::SharedAddr;

/// Writes loads of one, two or four matrices.
macro_rules! loads {
    ($($name:ident: $form:literal, $what:literal, $count:literal, $registers:literal, $($r:ident),+;)*) => {$(
        #[doc = concat!("Loads ", $what, "; each lane gives the address of a row, less `OFFSET` bytes.")]
        ///
        #[doc = concat!("PTX: `ldmatrix.sync.aligned.m8n8.", $form, ".shared.b16 …, [address+OFFSET]`; needs sm_75.")]
        ///
        /// # Safety
        /// The 16 bytes are allocated, initialised and aligned to 16; no thread writes them at the same time; all lanes of the
        /// warp execute it together.
        ///
        /// # Threads
        /// The whole warp.
        #[inline(always)]
        pub unsafe fn $name<const OFFSET: i32>(address: SharedAddr) -> [u32; $count] {
            device!("mem::matrix", {
                $(let $r: u32;)+
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!("ldmatrix.sync.aligned.m8n8.", $form, ".shared.b16 ", $registers, ", [{p}+{o}];"),
                        $($r = out(reg32) $r,)+
                        p = in(reg32) address.get(), o = const OFFSET, options(nostack, preserves_flags, readonly));
                }
                [$($r),+]
            })
        }
    )*};
}

loads! {
    ldmatrix_x1: "x1", "a matrix", 1, "{{{a}}}", a;
    ldmatrix_x1_trans: "x1.trans", "a matrix transposed", 1, "{{{a}}}", a;
    ldmatrix_x2: "x2", "two matrices", 2, "{{{a}, {b}}}", a, b;
    ldmatrix_x2_trans: "x2.trans", "two matrices transposed", 2, "{{{a}, {b}}}", a, b;
    ldmatrix_x4: "x4", "four matrices", 4, "{{{a}, {b}, {c}, {d}}}", a, b, c, d;
    ldmatrix_x4_trans: "x4.trans", "four matrices transposed", 4, "{{{a}, {b}, {c}, {d}}}", a, b, c, d;
}

/// Writes stores of one, two or four matrices.
macro_rules! stores {
    ($($name:ident: $form:literal, $what:literal, $count:literal, $registers:literal, $($r:ident $i:tt),+;)*) => {$(
        #[doc = concat!("Stores ", $what, "; each lane gives the address of a row, less `OFFSET` bytes.")]
        ///
        #[doc = concat!("PTX: `stmatrix.sync.aligned.m8n8.", $form, ".shared.b16 [address+OFFSET], …`; needs sm_90 and PTX 7.8.")]
        ///
        /// # Safety
        /// The 16 bytes are allocated and aligned to 16; no other thread reads or writes them at the same time; all lanes of the
        /// warp execute it together.
        ///
        /// # Threads
        /// The whole warp.
        #[inline(always)]
        pub unsafe fn $name<const OFFSET: i32>(address: SharedAddr, matrices: [u32; $count]) {
            device!("mem::matrix", {
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!("stmatrix.sync.aligned.m8n8.", $form, ".shared.b16 [{p}+{o}], ", $registers, ";"),
                        $($r = in(reg32) matrices[$i],)+
                        p = in(reg32) address.get(), o = const OFFSET, options(nostack, preserves_flags));
                }
            })
        }
    )*};
}

stores! {
    stmatrix_x1: "x1", "a matrix", 1, "{{{a}}}", a 0;
    stmatrix_x1_trans: "x1.trans", "a matrix transposed", 1, "{{{a}}}", a 0;
    stmatrix_x2: "x2", "two matrices", 2, "{{{a}, {b}}}", a 0, b 1;
    stmatrix_x2_trans: "x2.trans", "two matrices transposed", 2, "{{{a}, {b}}}", a 0, b 1;
    stmatrix_x4: "x4", "four matrices", 4, "{{{a}, {b}, {c}, {d}}}", a 0, b 1, c 2, d 3;
    stmatrix_x4_trans: "x4.trans", "four matrices transposed", 4, "{{{a}, {b}, {c}, {d}}}", a 0, b 1, c 2, d 3;
}
