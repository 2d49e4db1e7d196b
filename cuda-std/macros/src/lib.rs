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
/// - `collectives("bar.sync" = COUNT, …)`: how many of these instructions the kernel's PTX must contain. `cuda_builder`
///   checks it; instructions not named are not checked.
///
/// They become comments in the assembly, which `cuda_builder` reads and acts on.
#[proc_macro_attribute]
pub fn kernel(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(attributes as kernel::Options);
    let function = parse_macro_input!(item as ItemFn);
    kernel::expand(options, function).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes a function one of the device: elsewhere its body is a panic that names it.
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
