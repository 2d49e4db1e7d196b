//! Shared memory: the scratchpad that the threads of one block have in common.
//!
//! The compiler has no statics in shared memory, so arrays are declared to the assembler by macros that expand in the
//! kernel crate: [`declare_dynamic_shared!`](crate::declare_dynamic_shared), once a crate, for the memory whose size
//! the launch gives, and [`shared_array!`](crate::shared_array) for arrays of a fixed size.
//!
//! Addresses come in two kinds. A [`SharedAddr`] is 32 bits within the window; [`mem`](crate::mem) loads and stores
//! through it with one instruction. A generic pointer works with plain Rust, and each access then finds out at run
//! time which memory is meant, which costs: use it for set-up, not in loops.

use crate::mem::SharedAddr;
#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

/// Declares the dynamic shared memory of the kernels of this crate, aligned to 1024 bytes. Once, at the crate root.
///
/// PTX: `.extern .shared .align 1024 .b8 cuda_std_dynamic_shared[];`
#[macro_export]
macro_rules! declare_dynamic_shared {
    () => {
        #[cfg(target_arch = "nvptx64")]
        $crate::__private::global_asm!(".extern .shared .align 1024 .b8 cuda_std_dynamic_shared[];");
    };
}

/// Declares a shared array of fixed size and a function of the given name that answers its [`SharedAddr`].
///
/// `shared_array!(row_sums: [f32; 128]);` at module level, then `row_sums()` in a kernel. The array is not initialised,
/// and is one array for each block of each kernel that uses it. `shared_array!(name: [T; N], align = 128)` asks for more alignment than the
/// 16 bytes that it has otherwise. The name must be unique in the crate.
///
/// PTX: `.shared .align A .b8 shared_NAME[BYTES];`
#[macro_export]
macro_rules! shared_array {
    ($(#[$meta:meta])* $vis:vis $name:ident: [$t:ty; $n:expr]) => {
        $crate::shared_array!($(#[$meta])* $vis $name: [$t; $n], align = 16);
    };
    ($(#[$meta:meta])* $vis:vis $name:ident: [$t:ty; $n:expr], align = $align:expr) => {
        #[cfg(target_arch = "nvptx64")]
        $crate::__private::global_asm!(
            concat!(".shared .align {align} .b8 shared_", stringify!($name), "[{bytes}];"),
            align = const $align,
            bytes = const ::core::mem::size_of::<[$t; $n]>(),
        );

        $(#[$meta])*
        #[inline(always)]
        $vis fn $name() -> $crate::mem::SharedAddr {
            #[cfg(target_arch = "nvptx64")]
            {
                let address: u32;
                // SAFETY: the address of a symbol declared just above; touches no memory.
                unsafe {
                    $crate::__private::asm!(
                        concat!("mov.u32 {a}, shared_", stringify!($name), ";"),
                        a = out(reg32) address,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                $crate::mem::SharedAddr::new(address)
            }
            #[cfg(not(target_arch = "nvptx64"))]
            unimplemented!(concat!("shared array `", stringify!($name), "` exists on the device only"))
        }
    };
}

/// Where this block's dynamic shared memory begins in the shared window.
///
/// PTX: `mov.u32 r, cuda_std_dynamic_shared` (Data Movement, `mov` of an address). The crate must have called
/// [`declare_dynamic_shared!`](crate::declare_dynamic_shared).
///
/// # Threads
/// Any; all threads of a block get the same answer.
#[inline(always)]
pub fn dynamic_shared_address() -> SharedAddr {
    device!("shared::dynamic_shared_address", {
        let address: u32;
        // SAFETY: the address of a symbol; touches no memory.
        unsafe {
            asm!(
                "mov.u32 {a}, cuda_std_dynamic_shared;",
                a = out(reg32) address,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        SharedAddr::new(address)
    })
}

/// A generic pointer to this block's dynamic shared memory, aligned to 1024 bytes.
///
/// PTX: `cvta.shared.u64` of `cuda_std_dynamic_shared`. Accesses through it are generic: see the [module](self).
///
/// # Threads
/// Any; all threads of a block get the same answer.
#[inline(always)]
pub fn dynamic_shared_mem<T>() -> *mut T {
    dynamic_shared_address().to_generic()
}

/// Bytes of dynamic shared memory that the launch gave this block.
///
/// PTX: `mov.u32 r, %dynamic_smem_size` (Special Registers).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn dynamic_smem_size() -> u32 {
    device!("shared::dynamic_smem_size", {
        let bytes: u32;
        // SAFETY: reads a special register.
        unsafe {
            asm!("mov.u32 {r}, %dynamic_smem_size;", r = out(reg32) bytes, options(pure, nomem, nostack, preserves_flags));
        }
        bytes
    })
}

/// Bytes of shared memory, fixed and dynamic, that this block has.
///
/// PTX: `mov.u32 r, %total_smem_size` (Special Registers).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn total_smem_size() -> u32 {
    device!("shared::total_smem_size", {
        let bytes: u32;
        // SAFETY: reads a special register.
        unsafe {
            asm!("mov.u32 {r}, %total_smem_size;", r = out(reg32) bytes, options(pure, nomem, nostack, preserves_flags));
        }
        bytes
    })
}
