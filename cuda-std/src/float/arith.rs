//! Exact arithmetic: fused multiply-add, extremes, roots and roundings.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

macro_rules! exact {
    ($($name:ident($($arg:ident),+) = $host:expr; $what:literal, $ptx:literal;)*) => {$(
        #[doc = $what]
        ///
        #[doc = concat!("PTX: `", $ptx, "` (Floating-Point Instructions).")]
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
                $host
            }
        }
    )*};
}

exact! {
    fma(a, b, c) = a.mul_add(b, c);
        "`a * b + c`, rounded once. Rust never fuses `a * b + c` by itself.", "fma.rn.f32";
    sqrt(x) = x.sqrt();
        "The square root, correctly rounded.", "sqrt.rn.f32";
    floor(x) = x.floor();
        "The greatest integer not above `x`.", "cvt.rmi.f32.f32";
    ceil(x) = x.ceil();
        "The least integer not below `x`.", "cvt.rpi.f32.f32";
    trunc(x) = x.trunc();
        "The integer part of `x`.", "cvt.rzi.f32.f32";
    round_even(x) = x.round_ties_even();
        "The nearest integer, the even one of two.", "cvt.rni.f32.f32";
}

/// The greater of two: of a NaN and a number the number, and +0.0 is above -0.0.
///
/// PTX: `max.f32` (Floating-Point Instructions, `max`).
///
/// # Threads
/// Any.
#[inline(always)]
#[must_use]
pub fn max(a: f32, b: f32) -> f32 {
    #[cfg(target_arch = "nvptx64")]
    // SAFETY: arithmetic on registers.
    unsafe {
        intrinsics::fmax(a, b)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    if a.is_nan() || (a <= b && !(a == b && b.is_sign_negative())) { b } else { a }
}

/// The lesser of two: of a NaN and a number the number, and -0.0 is below +0.0.
///
/// PTX: `min.f32` (Floating-Point Instructions, `min`).
///
/// # Threads
/// Any.
#[inline(always)]
#[must_use]
pub fn min(a: f32, b: f32) -> f32 {
    #[cfg(target_arch = "nvptx64")]
    // SAFETY: arithmetic on registers.
    unsafe {
        intrinsics::fmin(a, b)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    if a.is_nan() || (b <= a && !(a == b && b.is_sign_positive())) { b } else { a }
}

/// The magnitude.
///
/// PTX: `abs.f32` (or the `and` that clears the sign).
///
/// # Threads
/// Any.
#[inline(always)]
#[must_use]
pub const fn abs(x: f32) -> f32 {
    x.abs()
}

/// `a / b`, correctly rounded.
///
/// PTX: `div.rn.f32`.
///
/// # Threads
/// Any.
#[inline(always)]
#[must_use]
pub const fn div(a: f32, b: f32) -> f32 {
    a / b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_prefer_numbers_and_order_the_zeros() {
        let zeros = [(0.0f32, -0.0f32), (-0.0, 0.0), (0.0, 0.0), (-0.0, -0.0)];
        for (a, b) in zeros {
            assert_eq!(max(a, b).is_sign_negative(), a.is_sign_negative() && b.is_sign_negative());
            assert_eq!(min(a, b).is_sign_negative(), a.is_sign_negative() || b.is_sign_negative());
        }
        for x in [-1.0, 0.0, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(max(f32::NAN, x), x);
            assert_eq!(max(x, f32::NAN), x);
            assert_eq!(min(f32::NAN, x), x);
            assert_eq!(min(x, f32::NAN), x);
        }
        assert!(max(f32::NAN, f32::NAN).is_nan());
        assert_eq!((max(2.0, -3.0), max(-3.0, 2.0), min(2.0, -3.0), min(-3.0, 2.0)), (2.0, 2.0, -3.0, -3.0));
    }

    #[test]
    fn fma_rounds_once() {
        let a = 1.0 + f32::EPSILON;
        assert_eq!(fma(a, a, -(a * a)), f32::EPSILON * f32::EPSILON);
    }
}
