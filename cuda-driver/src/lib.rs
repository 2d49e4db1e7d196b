//! The CUDA driver functions that [`cust`](https://docs.rs/cust) links to, opened at run time.
//!
//! `cust` refers to about a hundred `cu…` symbols and expects the linker to find them in `libcuda.so`; a program built so
//! does not start on a machine without the NVIDIA driver. This crate defines those symbols itself. Each forwards to the
//! function of the same name in `libcuda.so.1`, which is opened at the first call; where there is none, the call answers
//! `CUDA_ERROR_STUB_LIBRARY` (34), which `cust` turns into an error.
//!
//! A program that uses `cust` calls [`available`] somewhere (or names the crate in a `use … as _;`), so that the linker
//! keeps the symbols. `cust`'s build script still wants a folder that looks like a toolkit; `stub/` is one that holds
//! nothing: `CUDA_LIBRARY_PATH=…/cuda-driver/stub`.

mod errors;
mod functions;
mod library;

pub use errors::{cuGetErrorName, cuGetErrorString};

/// Why the driver cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The driver's library is not there, or the loader refused it.
    #[error("the NVIDIA driver is not installed ({reason})")]
    NotOpened {
        /// The file that was looked for.
        file: &'static str,
        /// What the loader said.
        reason: String,
    },
    /// The library is there but too old to have a function.
    #[error("the NVIDIA driver is too old: {file} has no function {name}")]
    Missing {
        /// The file that was opened.
        file: &'static str,
        /// The first function that it lacks.
        name: &'static str,
    },
}

/// The functions without which nothing can be launched; a driver may lack others.
const REQUIRED: [&str; 8] = [
    "cuInit",
    "cuDeviceGet",
    "cuDevicePrimaryCtxRetain",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuModuleLoadDataEx",
    "cuLaunchKernel",
    "cuFuncSetAttribute",
];

/// Whether a driver is installed that has the functions a launch needs.
///
/// # Errors
/// [`DriverError`] with the file that could not be opened and the loader's reason, or with the first function that is
/// missing. It says nothing about devices: a driver without a GPU is available.
pub fn available() -> Result<(), DriverError> {
    let library = library::library()?;
    for name in REQUIRED {
        // SAFETY: the symbol is looked up and not used.
        if unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err() {
            return Err(DriverError::Missing { file: library::FILE, name });
        }
    }
    Ok(())
}

/// The name of every driver function that this crate forwards.
pub fn functions() -> impl Iterator<Item = &'static str> {
    functions::NAMES.iter().copied().chain(["cuGetErrorString", "cuGetErrorName"])
}
