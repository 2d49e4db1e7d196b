//! Matrix multiply-accumulate on tensor cores: `mma.sync`, a warp's product of two small matrices in its registers.
//!
//! The layouts are those of the PTX ISA manual, "Matrix Fragments for mma.m16n8k16": with `g = lane / 4` and `t = lane % 4`,
//!
//! | operand | register | elements |
//! |---|---|---|
//! | A, 16 x 16, two a register | 0, 1, 2, 3 | rows g, g + 8, g, g + 8; columns 2t, 2t + 1, for 2 and 3 plus 8 |
//! | B, 16 x 8, two a register | 0, 1 | rows 2t, 2t + 1, for 1 plus 8; column g |
//! | C and D, 16 x 8, f32 | 0, 1, 2, 3 | rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1 |
//!
//! They are `asm!`, which LLVM does not know to be convergent: call them where the whole warp takes the same way.

/// Writes one function for each storage type.
macro_rules! products {
    ($($name:ident: $type:literal;)*) => {$(
        #[doc = concat!("`d += a * b` for ", $type, " operands and f32 sums: 16 x 16 times 16 x 8.")]
        ///
        #[doc = concat!("PTX: `mma.sync.aligned.m16n8k16.row.col.f32.", $type, ".", $type, ".f32` (Warp-level Matrix Instructions); needs sm_80.")]
        ///
        /// # Safety
        /// All lanes of the warp execute it together.
        ///
        /// # Threads
        /// The whole warp.
        #[inline(always)]
        pub unsafe fn $name(d: &mut [f32; 4], a: [u32; 4], b: [u32; 2]) {
            device!("mma", {
                // SAFETY: the caller's; arithmetic on registers.
                unsafe {
                    core::arch::asm!(
                        concat!("mma.sync.aligned.m16n8k16.row.col.f32.", $type, ".", $type,
                            ".f32 {{{d0}, {d1}, {d2}, {d3}}}, {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, {{{d0}, {d1}, {d2}, {d3}}};"),
                        d0 = inout(reg32) d[0], d1 = inout(reg32) d[1], d2 = inout(reg32) d[2], d3 = inout(reg32) d[3],
                        a0 = in(reg32) a[0], a1 = in(reg32) a[1], a2 = in(reg32) a[2], a3 = in(reg32) a[3],
                        b0 = in(reg32) b[0], b1 = in(reg32) b[1],
                        options(nomem, nostack, preserves_flags)
                    );
                }
            })
        }
    )*};
}

products! {
    m16n8k16_f16: "f16";
    m16n8k16_bf16: "bf16";
}
