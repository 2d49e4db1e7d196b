//! The special-function unit: exponential, logarithm, reciprocal and roots, approximately and fast.
//!
//! On the host these are the standard library's functions with subnormal arguments and results flushed to zero.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

/// Subnormal numbers become zero of the same sign, as `.ftz` does.
#[cfg(not(target_arch = "nvptx64"))]
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

macro_rules! approximations {
    ($($name:ident($($arg:ident),+) = $host:expr; $what:literal, $ptx:literal, $error:literal;)*) => {$(
        #[doc = $what]
        ///
        #[doc = concat!("PTX: `", $ptx, "` (Floating-Point Instructions). ", $error)]
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        #[must_use]
        pub fn $name($($arg: f32),+) -> f32 {
            #[cfg(target_arch = "nvptx64")]
            // SAFETY: arithmetic on registers.
            unsafe {
                intrinsics::$name($($arg),+)
            }
            #[cfg(not(target_arch = "nvptx64"))]
            {
                $(let $arg = flush($arg);)+
                flush($host)
            }
        }
    )*};
}

approximations! {
    ex2_approx_ftz(x) = x.exp2();
        "2 to the power `x`; 0 at -inf, 1 at 0, +inf at +inf.", "ex2.approx.ftz.f32",
        "Relative error at most 2^-22.";
    lg2_approx_ftz(x) = x.log2();
        "The logarithm of `x` to base 2; -inf at 0 and at subnormal numbers, NaN below.", "lg2.approx.ftz.f32",
        "Absolute error at most 2^-22 where `x` is in (0.5, 2), else relative error at most 2^-22.";
    rcp_approx_ftz(x) = 1.0 / x;
        "1 / `x`.", "rcp.approx.ftz.f32", "Error at most 1 ulp.";
    rsqrt_approx_ftz(x) = 1.0 / x.sqrt();
        "1 / the square root of `x`.", "rsqrt.approx.ftz.f32", "Relative error at most 2^-22.4.";
    div_approx_ftz(x, y) = x / y;
        "`x` / `y`, for `y` between 2^-126 and 2^126 in magnitude.", "div.approx.ftz.f32", "Error at most 2 ulp.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnormal_arguments_and_results_are_zero() {
        assert_eq!(ex2_approx_ftz(-127.0), 0.0);
        assert_eq!(ex2_approx_ftz(f32::NEG_INFINITY), 0.0);
        assert_eq!(lg2_approx_ftz(1e-40), f32::NEG_INFINITY);
        assert_eq!(rcp_approx_ftz(-1e-40), f32::NEG_INFINITY);
        assert_eq!(ex2_approx_ftz(3.0), 8.0);
    }
}
