//! Number formats and exact rounding: everything that is arithmetic rather than execution.

pub(crate) mod approx;
pub(crate) mod eight;
pub(crate) mod half;
pub(crate) mod round;
pub(crate) mod tensor;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tensor_avx2;
