//! What the driver answers, in words.

use std::ffi::CStr;
use std::fmt;

use cust::error::CudaError;
use cust::sys::{self, CUresult};

/// A call of the driver that failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CudaError> for Failure {
    fn from(error: CudaError) -> Failure {
        Failure(error.to_string())
    }
}

/// The answer of a function that is called past `cust`.
pub(super) fn check(answer: CUresult) -> Result<(), Failure> {
    if answer == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut words = std::ptr::null();
    // SAFETY: the driver writes a pointer to a text of its own that it never frees.
    let found = unsafe { sys::cuGetErrorString(answer, &mut words) };
    if found != CUresult::CUDA_SUCCESS || words.is_null() {
        return Err(Failure(format!("CUDA error {}", answer as u32)));
    }
    // SAFETY: not null, and a text that ends with 0.
    Err(Failure(unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()))
}
