//! Device standard library with the interface of Rust-CUDA's `cuda_std`, on the unmodified compiler.
//!
//! Everything a kernel asks of the hardware is here: who am I ([`thread`]), talking to the warp ([`warp`]) and to the
//! block ([`barrier`], [`shared`]), memory with its address space spelled out ([`mem`]), arithmetic that Rust has no
//! word for ([`float`]) and [`atomic`] operations. All inline assembly of the project is in this crate.
//!
//! On `nvptx64` the functions are `#[inline(always)]` and become the one PTX instruction their documentation names.
//! On any other target the crate compiles too, on a stable compiler: what only computes (floats, conversions)
//! computes, and what needs a GPU panics with its own name. So the arithmetic of a kernel can be tested on the host.
//!
//! # Collective operations
//! Barriers, shuffles, votes and the like must be executed by all threads they name, together. The optimiser knows this
//! of LLVM's intrinsics, which are `convergent`, and does not know it of `asm!`: it may then copy a barrier into both
//! arms of a branch, or move a shuffle into one. Every collective operation here goes through an intrinsic.
//! `cuda_builder` counts them in the PTX.
//!
//! # A kernel crate
//! ```ignore
//! #![cfg_attr(target_arch = "nvptx64", no_std, feature(abi_ptx, asm_experimental_arch))]
//! use cuda_std::prelude::*;
//!
//! cuda_std::declare_dynamic_shared!();
//!
//! /// Adds one to each of `n` elements.
//! ///
//! /// # Safety
//! /// `x` points to `n` elements in global memory.
//! #[kernel(launch_bounds(256, 2))]
//! pub unsafe fn increment(x: *mut f32, n: u32) {
//!     let i = thread::index_1d();
//!     if i < n {
//!         // SAFETY: `i < n`, and no other thread has this index.
//!         unsafe { *x.add(i as usize) += 1.0 };
//!     }
//! }
//! ```
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(
    target_arch = "nvptx64",
    feature(abi_unadjusted, asm_experimental_arch, f16, link_llvm_intrinsics)
)]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features))]
// The bodies of device-only functions are absent on the host, and so is the use of their arguments.
#![cfg_attr(not(target_arch = "nvptx64"), allow(unused_variables))]

/// The body of a device-only function: on the host it panics with the function's name.
macro_rules! device {
    ($path:literal, $body:expr) => {{
        #[cfg(target_arch = "nvptx64")]
        {
            $body
        }
        #[cfg(not(target_arch = "nvptx64"))]
        {
            unimplemented!(concat!("cuda_std::", $path, " runs on the device only"))
        }
    }};
}

pub mod atomic;
pub mod barrier;
pub mod float;
pub mod hint;
#[cfg(target_arch = "nvptx64")]
mod intrinsics;
pub mod mem;
pub mod misc;
pub mod mma;
#[cfg(target_arch = "nvptx64")]
mod panic;
pub mod ptr;
pub mod shared;
pub mod thread;
pub mod vector;
pub mod warp;

pub use cuda_std_macros::{gpu_only, kernel};
pub use vector::{UVec2, UVec3};

/// What nearly every kernel file uses.
pub mod prelude {
    pub use crate::mem::{GlobalAddr, SharedAddr};
    pub use crate::{UVec2, UVec3, kernel, thread};
}

/// Names that the macros of this crate expand to. Not an interface.
#[doc(hidden)]
pub mod __private {
    pub use core::arch::{asm, global_asm};
}
