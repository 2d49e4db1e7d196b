//! Builds a device crate to PTX from a build script, with the interface of Rust-CUDA's `cuda_builder`.
//!
//! ```no_run
//! // build.rs
//! use cuda_builder::{CudaBuilder, NvvmArch};
//!
//! let output = CudaBuilder::new("../kernels-gpu").arch(NvvmArch::Compute70).copy_to("ptx").build();
//! match output {
//!     Ok(output) => println!("cargo:rustc-env=PTX_DIR={}", output.dir.display()),
//!     Err(error) => {
//!         eprintln!("error: {error}");
//!         std::process::exit(1);
//!     }
//! }
//! ```
//!
//! The stages, one file each: [`toolchain`] finds a compiler and its `core`; `compile` runs it on the device crate, all
//! kernels at once; [`ptx::split`] makes one module of each kernel and writes in what [`ptx::markers`] found;
//! [`ptx::lint`] compares the collective operations of each with what its source says.
//!
//! Kernels are one module each because a driver compiles a module as a whole when it is loaded.

mod arch;
mod builder;
mod compile;
mod error;
pub mod ptx;
pub mod toolchain;

pub use arch::NvvmArch;
pub use builder::{BuildOutput, CudaBuilder, Module};
pub use error::CudaBuilderError;
pub use ptx::lint;
pub use toolchain::Toolchain;
