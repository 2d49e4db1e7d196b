//! Attribute macros of `cuda_std`.

mod kernel;

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Makes a function a kernel that the host can launch.
///
/// The function must be `unsafe`, return nothing, and take `Copy` parameters (pointers, numbers, `#[repr(C)]` structs aligned
/// to at most 16). On `nvptx64` it becomes `extern "ptx-kernel"` under its own name; on the host it stays an
/// ordinary `unsafe fn`.
///
/// Arguments, all optional, whose numbers may be any constant expressions:
/// - `launch_bounds(MAX_THREADS)` or `launch_bounds(MAX_THREADS, MIN_BLOCKS)`: at most so many threads in a block
///   (`.maxntid`), and registers for at least so many blocks on a multiprocessor at a time (`.minnctapersm`);
/// - `align(PARAMETER = BYTES, …)`: the alignment of by-value struct parameters, counted from 0, where it is more than Rust's;
/// - `collectives("bar.sync" = COUNT, …)`: how many of these instructions the kernel's PTX must contain, and that it has no
///   other collective ones. `cuda_builder` checks it.
///
/// They become comments in the assembly, which `cuda_builder` reads and acts on.
///
/// ```
/// # use cuda_std_macros::kernel;
/// const THREADS: u32 = 256;
///
/// /// Does nothing.
/// ///
/// /// # Safety
/// /// Nothing is asked.
/// #[kernel(launch_bounds(THREADS / 2, 1), align(0 = 64), collectives("bar.sync" = 0))]
/// pub unsafe fn nothing(map: [u64; 16], x: *mut f32) {}
/// ```
///
/// What the host could not launch does not compile:
/// ```compile_fail
/// # use cuda_std_macros::kernel;
/// #[kernel]
/// pub fn not_unsafe() {}
/// ```
/// ```compile_fail
/// # use cuda_std_macros::kernel;
/// #[kernel]
/// pub unsafe fn returns() -> f32 { 1.0 }
/// ```
/// ```compile_fail
/// # use cuda_std_macros::kernel;
/// #[kernel]
/// pub unsafe fn generic<T: Copy>(x: *mut T) {}
/// ```
/// ```compile_fail
/// # use cuda_std_macros::kernel;
/// #[kernel]
/// pub unsafe fn owns(x: Vec<f32>) {}
/// ```
/// ```compile_fail
/// # use cuda_std_macros::kernel;
/// #[kernel(align(1 = 64))]
/// pub unsafe fn has_one_parameter(x: [u64; 16]) {}
/// ```
#[proc_macro_attribute]
pub fn kernel(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(attributes as kernel::Options);
    let function = parse_macro_input!(item as ItemFn);
    kernel::expand(options, function).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes a function one of the device: elsewhere its body is a panic that names it.
///
/// ```should_panic
/// # use cuda_std_macros::gpu_only;
/// #[gpu_only]
/// fn lane() -> u32 { 7 }
/// lane();
/// ```
#[proc_macro_attribute]
pub fn gpu_only(_: TokenStream, item: TokenStream) -> TokenStream {
    let ItemFn { attrs, vis, sig, block } = parse_macro_input!(item as ItemFn);
    let message = format!("`{}` runs on the device only", sig.ident);
    quote! {
        #[cfg_attr(not(target_arch = "nvptx64"), allow(unused_variables))]
        #(#attrs)* #vis #sig {
            #[cfg(target_arch = "nvptx64")]
            #block
            #[cfg(not(target_arch = "nvptx64"))]
            ::core::unimplemented!(#message)
        }
    }
    .into()
}
