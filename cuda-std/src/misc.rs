//! Clocks and full stops.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

/// The multiprocessor's cycle counter.
///
/// PTX: `mov.u64 r, %clock64` (Special Registers).
///
/// # Threads
/// Any; counters of different multiprocessors are unrelated.
#[inline(always)]
pub fn clock() -> u64 {
    // SAFETY: reads a special register.
    device!("misc::clock", unsafe { intrinsics::clock64() })
}

/// Stops in the debugger.
///
/// PTX: `brkpt` (Miscellaneous Instructions).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn breakpoint() {
    // SAFETY: no precondition; without a debugger it ends the kernel with an error.
    device!("misc::breakpoint", unsafe { intrinsics::debugtrap() })
}

/// Ends the kernel with an error on the host.
///
/// PTX: `trap` (Miscellaneous Instructions).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn trap() -> ! {
    // SAFETY: no precondition.
    device!("misc::trap", unsafe { intrinsics::trap() })
}

/// Increments hardware performance-monitor counter `N`, 0 to 15.
///
/// PTX: `pmevent N` (Miscellaneous Instructions).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn profiler_counter<const N: u32>() {
    const { assert!(N < 16, "there are sixteen counters") };
    device!("misc::profiler_counter", {
        // SAFETY: touches no memory.
        unsafe { core::arch::asm!("pmevent {n};", n = const N, options(nomem, nostack, preserves_flags)) }
    })
}
