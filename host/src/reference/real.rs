//! The numbers that the reference computes with.

use std::ops::{Add, Div, Mul, Sub};

use crate::error::Result;
use crate::storage::reserve;

/// f32 or f64.
pub trait Real:
    Copy
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity, the score of a key that is not seen.
    const NEG_INFINITY: Self;
    /// `e` to this power.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// The nearest of these numbers.
    fn from_f64(x: f64) -> Self;
}

macro_rules! real {
    ($($type:ident)*) => {$(
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            fn from_f64(x: f64) -> Self {
                x as $type
            }
        }
    )*};
}
real!(f32 f64);

/// Zeros, or an error where there is not that much memory.
pub(crate) fn zeros<T: Real>(count: usize) -> Result<Vec<T>> {
    let mut zeros = reserve(count)?;
    zeros.resize(count, T::ZERO);
    Ok(zeros)
}

/// Partial sums of a scalar product: the compiler turns them into vector lanes, and they round less than one sum does.
const LANES: usize = 8;

/// The scalar product of two vectors of the same length.
pub(super) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let (chunks_a, chunks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    let mut lanes = [T::ZERO; LANES];
    for (a, b) in chunks_a.zip(chunks_b) {
        for l in 0..LANES {
            lanes[l] = lanes[l] + a[l] * b[l];
        }
    }
    let tail = rest.fold(T::ZERO, |sum, (&a, &b)| sum + a * b);
    lanes.into_iter().fold(tail, |sum, lane| sum + lane)
}

/// `y += a * x`.
pub(super) fn axpy<T: Real>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = *y + a * x;
    }
}
