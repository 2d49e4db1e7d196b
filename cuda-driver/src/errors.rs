//! The texts of error codes, which must be there even where the driver is not.

use std::ffi::{CStr, c_char, c_void};

use crate::library::{Lazy, STUB_LIBRARY};

type Texts = unsafe extern "C" fn(u32, *mut *const c_char) -> u32;

fn text(function: &Lazy, error: u32, out: *mut *const c_char, fallback: &'static CStr) -> u32 {
    if let Some(address) = function.get() {
        // SAFETY: cuGetErrorString and cuGetErrorName have this signature.
        let function: Texts = unsafe { std::mem::transmute(address) };
        // SAFETY: the caller passes a writable pointer, as the driver's function demands.
        return unsafe { function(error, out) };
    }
    if out.is_null() {
        return 1; // CUDA_ERROR_INVALID_VALUE
    }
    // SAFETY: not null, and writable by the caller's contract.
    unsafe { *out = fallback.as_ptr() };
    0
}

/// Forwards to the driver's `cuGetErrorString`; without a driver it answers with a text of its own.
///
/// # Safety
/// `out` is null or writable.
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: u32, out: *mut c_void) -> u32 {
    static FUNCTION: Lazy = Lazy::new(c"cuGetErrorString");
    let fallback = match error {
        0 => c"no error",
        STUB_LIBRARY => c"no NVIDIA driver: libcuda could not be opened, or it lacks this function",
        _ => c"unknown error (no NVIDIA driver to name it)",
    };
    text(&FUNCTION, error, out.cast(), fallback)
}

/// Forwards to the driver's `cuGetErrorName`; without a driver it answers with a name of its own.
///
/// # Safety
/// `out` is null or writable.
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: u32, out: *mut c_void) -> u32 {
    static FUNCTION: Lazy = Lazy::new(c"cuGetErrorName");
    let fallback = match error {
        0 => c"CUDA_SUCCESS",
        STUB_LIBRARY => c"CUDA_ERROR_STUB_LIBRARY",
        _ => c"CUDA_ERROR_UNKNOWN",
    };
    text(&FUNCTION, error, out.cast(), fallback)
}
