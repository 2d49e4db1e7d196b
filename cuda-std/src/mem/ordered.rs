//! Loads and stores of global memory that order other accesses, for flags that one thread sets and another awaits.

use super::GlobalAddr;

macro_rules! ordered {
    (load $($name:ident: $op:literal => $t:ty, $class:ident, $promise:literal;)*) => {$(
        #[doc = $promise]
        ///
        #[doc = concat!("PTX: `", $op, " r, [address]` (Memory Consistency Model; Data Movement, `ld`).")]
        ///
        /// # Safety
        /// The element is allocated, initialised and aligned to its size. Other threads may write it, with ordered stores or atomics.
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name(address: GlobalAddr) -> $t {
            device!("mem::ordered", {
                let value: $t;
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!($op, " {v}, [{p}];"), v = out($class) value, p = in(reg64) address.get(),
                        options(nostack, preserves_flags));
                }
                value
            })
        }
    )*};
    (store $($name:ident: $op:literal <= $t:ty, $class:ident, $promise:literal;)*) => {$(
        #[doc = $promise]
        ///
        #[doc = concat!("PTX: `", $op, " [address], value` (Memory Consistency Model; Data Movement, `st`).")]
        ///
        /// # Safety
        /// The element is allocated and aligned to its size. Other threads may access it, with ordered accesses or atomics.
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name(address: GlobalAddr, value: $t) {
            device!("mem::ordered", {
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!($op, " [{p}], {v};"), v = in($class) value, p = in(reg64) address.get(),
                        options(nostack, preserves_flags));
                }
            })
        }
    )*};
}

ordered! { load
    ld_relaxed_cta_u32: "ld.relaxed.cta.global.u32" => u32, reg32, "Loads what some thread of the block stored, without ordering anything else.";
    ld_relaxed_gpu_u32: "ld.relaxed.gpu.global.u32" => u32, reg32, "Loads what some thread of the GPU stored, without ordering anything else.";
    ld_relaxed_sys_u32: "ld.relaxed.sys.global.u32" => u32, reg32, "Loads what some thread of the system stored, without ordering anything else.";
    ld_acquire_cta_u32: "ld.acquire.cta.global.u32" => u32, reg32, "Loads; what the storing thread of this block did before its release is seen by all that follows here.";
    ld_acquire_gpu_u32: "ld.acquire.gpu.global.u32" => u32, reg32, "Loads; what the storing thread of this GPU did before its release is seen by all that follows here.";
    ld_acquire_sys_u32: "ld.acquire.sys.global.u32" => u32, reg32, "Loads; what the storing thread of the system did before its release is seen by all that follows here.";
    ld_relaxed_gpu_u64: "ld.relaxed.gpu.global.u64" => u64, reg64, "Loads what some thread of the GPU stored, without ordering anything else.";
    ld_acquire_gpu_u64: "ld.acquire.gpu.global.u64" => u64, reg64, "Loads; what the storing thread of this GPU did before its release is seen by all that follows here.";
}

ordered! { store
    st_relaxed_cta_u32: "st.relaxed.cta.global.u32" <= u32, reg32, "Stores for the threads of the block, without ordering anything else.";
    st_relaxed_gpu_u32: "st.relaxed.gpu.global.u32" <= u32, reg32, "Stores for the threads of the GPU, without ordering anything else.";
    st_relaxed_sys_u32: "st.relaxed.sys.global.u32" <= u32, reg32, "Stores for the threads of the system, without ordering anything else.";
    st_release_cta_u32: "st.release.cta.global.u32" <= u32, reg32, "Stores after all that went before here, for an acquiring thread of the block.";
    st_release_gpu_u32: "st.release.gpu.global.u32" <= u32, reg32, "Stores after all that went before here, for an acquiring thread of the GPU.";
    st_release_sys_u32: "st.release.sys.global.u32" <= u32, reg32, "Stores after all that went before here, for an acquiring thread of the system.";
    st_relaxed_gpu_u64: "st.relaxed.gpu.global.u64" <= u64, reg64, "Stores for the threads of the GPU, without ordering anything else.";
    st_release_gpu_u64: "st.release.gpu.global.u64" <= u64, reg64, "Stores after all that went before here, for an acquiring thread of the GPU.";
}
