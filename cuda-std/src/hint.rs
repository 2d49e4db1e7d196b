//! Hints to the optimiser.

#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

/// Gives `value` back, in a way the optimiser cannot see through: a loop up to `opaque(8)` is not unrolled.
///
/// PTX: `mov.b32 r, value`. On the host it is [`core::hint::black_box`].
///
/// # Threads
/// Any.
#[inline(always)]
pub fn opaque(value: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let out: u32;
        // SAFETY: copies a register. Not `pure`, so that LLVM neither merges nor moves it out of a loop.
        unsafe {
            asm!("mov.b32 {o}, {i};", o = out(reg32) out, i = in(reg32) value, options(nomem, nostack, preserves_flags));
        }
        out
    }
    #[cfg(not(target_arch = "nvptx64"))]
    core::hint::black_box(value)
}
