//! What the driver answers, in words.

use std::ffi::CStr;
use std::fmt;

use cust::error::CudaError;
use cust::sys::{self, CUresult};

/// A call of the driver that failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure(String);

/// Faults of kernels, and of memory and links under them. The driver reports them late, at whatever is called next, and then at
/// every call: the context is lost (CUDA driver API, `CUresult`: "to continue using CUDA, the process must be terminated and
/// relaunched").
const FAULTS: [CUresult; 11] = [
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
];

impl Failure {
    /// What is said about a code.
    fn new(code: u32, words: &str) -> Failure {
        if FAULTS.iter().any(|&fault| fault as u32 == code) {
            return Failure(format!(
                "{words}. The driver reports this late: any kernel that this process launched before may be the cause. Nothing \
                 more runs on the device until the process is started again"
            ));
        }
        Failure(words.into())
    }

    /// Something that the driver was not even asked for.
    pub(super) fn refused(words: &str) -> Failure {
        Failure(words.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CudaError> for Failure {
    fn from(error: CudaError) -> Failure {
        Failure::new(error as u32, &error.to_string())
    }
}

/// The answer of a function that is called past `cust`.
pub(super) fn check(answer: CUresult) -> Result<(), Failure> {
    if answer == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let code = answer as u32;
    let mut words = std::ptr::null();
    // SAFETY: the driver writes a pointer to a text of its own that it never frees.
    let found = unsafe { sys::cuGetErrorString(answer, &mut words) };
    if found != CUresult::CUDA_SUCCESS || words.is_null() {
        return Err(Failure::new(code, &format!("CUDA error {code}")));
    }
    // SAFETY: not null, and a text that ends with 0.
    Err(Failure::new(code, &unsafe { CStr::from_ptr(words) }.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: &str = "any kernel that this process launched before may be the cause";

    #[test]
    fn faults_of_kernels_are_not_blamed_on_the_kernel_that_was_launched_next() {
        for fault in FAULTS {
            let words = check(fault).unwrap_err().to_string();
            assert!(words.contains(LATE), "{words}");
        }
        let words = Failure::from(CudaError::IllegalAddress).to_string();
        assert!(words.contains(LATE), "{words}");
    }

    #[test]
    fn errors_of_the_call_itself_are_said_as_they_are() {
        for error in [CUresult::CUDA_ERROR_INVALID_VALUE, CUresult::CUDA_ERROR_OUT_OF_MEMORY] {
            let words = check(error).unwrap_err().to_string();
            assert!(!words.is_empty() && !words.contains("before"), "{words}");
        }
        let words = Failure::from(CudaError::OutOfMemory).to_string();
        assert!(!words.contains("before"), "{words}");
        assert_eq!(check(CUresult::CUDA_SUCCESS), Ok(()));
    }
}
