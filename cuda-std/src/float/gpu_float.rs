//! Methods on `f32` for what the GPU does in one or a few instructions, named as Rust-CUDA's `GpuFloat` names them.

use super::{
    ceil, ex2_approx_ftz, floor, fma, lg2_approx_ftz, max, min, round_even, rsqrt_approx_ftz, sqrt, trunc,
};

/// The part of Rust-CUDA's `GpuFloat` that needs no library of approximations.
///
/// `exp`, `exp2`, `ln` and `log2` are the fast ones of the [special-function unit](super::ex2_approx_ftz).
pub trait GpuFloat: Copy {
    /// The greatest integer not above.
    fn floor(self) -> Self;
    /// The least integer not below.
    fn ceil(self) -> Self;
    /// The integer part.
    fn trunc(self) -> Self;
    /// The nearest integer, ties to even.
    fn round_ties_even(self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// 1 / the square root, approximately.
    fn rsqrt(self) -> Self;
    /// 2 to this power, approximately.
    fn exp2(self) -> Self;
    /// e to this power, approximately.
    fn exp(self) -> Self;
    /// The logarithm to base 2, approximately.
    fn log2(self) -> Self;
    /// The natural logarithm, approximately.
    fn ln(self) -> Self;
    /// The greater one; a NaN gives way to a number.
    fn max(self, other: Self) -> Self;
    /// The lesser one; a NaN gives way to a number.
    fn min(self, other: Self) -> Self;
}

impl GpuFloat for f32 {
    #[inline(always)]
    fn floor(self) -> Self {
        floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        ceil(self)
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        trunc(self)
    }
    #[inline(always)]
    fn round_ties_even(self) -> Self {
        round_even(self)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        fma(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        sqrt(self)
    }
    #[inline(always)]
    fn rsqrt(self) -> Self {
        rsqrt_approx_ftz(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        ex2_approx_ftz(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        ex2_approx_ftz(self * core::f32::consts::LOG2_E)
    }
    #[inline(always)]
    fn log2(self) -> Self {
        lg2_approx_ftz(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        lg2_approx_ftz(self) * core::f32::consts::LN_2
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        max(self, other)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        min(self, other)
    }
}
