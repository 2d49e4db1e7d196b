//! The floating-point instructions, over the types of `real`; arithmetic in directed rounding modes.

use super::lanes::{Value, ops};
use super::real::{F32, F64, Real, XorSign};
use crate::numeric::approx;
use crate::numeric::round::{self, Round};

/// The mode behind a const parameter: 0 nearest, 1 zero, 2 down, 3 up.
#[inline(always)]
pub(crate) const fn mode(k: u8) -> Round {
    match k {
        0 => Round::Nearest,
        1 => Round::Zero,
        2 => Round::Down,
        _ => Round::Up,
    }
}

/// Arithmetic in directed rounding modes, for f32 and f64.
pub(crate) trait Directed: Value {
    fn add(self, o: Self, mode: Round) -> Self;
    fn mul(self, o: Self, mode: Round) -> Self;
    fn fma(self, b: Self, c: Self, mode: Round) -> Self;
    fn div(self, o: Self, mode: Round) -> Self;
    fn sqrt(self, mode: Round) -> Self;
    fn negated(self) -> Self;
    fn one() -> Self;
}

macro_rules! directed {
    ($value:ident $(<$k:ident>)?, $add:ident, $mul:ident, $fma:ident, $div:ident, $sqrt:ident) => {
        impl $(<const $k: bool>)? Directed for $value $(<$k>)? {
            #[inline(always)]
            fn add(self, o: Self, mode: Round) -> Self { $value(round::$add(self.0, o.0, mode)) }
            #[inline(always)]
            fn mul(self, o: Self, mode: Round) -> Self { $value(round::$mul(self.0, o.0, mode)) }
            #[inline(always)]
            fn fma(self, b: Self, c: Self, mode: Round) -> Self { $value(round::$fma(self.0, b.0, c.0, mode)) }
            #[inline(always)]
            fn div(self, o: Self, mode: Round) -> Self { $value(round::$div(self.0, o.0, mode)) }
            #[inline(always)]
            fn sqrt(self, mode: Round) -> Self { $value(round::$sqrt(self.0, mode)) }
            #[inline(always)]
            fn negated(self) -> Self { $value(-self.0) }
            #[inline(always)]
            fn one() -> Self { $value(1.0) }
        }
    };
}
directed!(F32<FTZ>, add32, mul32, fma32, div32, sqrt32);
directed!(F64, add64, mul64, fma64, div64, sqrt64);

ops! {
    /// `.sat` after any operation.
    Saturate<T: Real> = |a: T| -> T { a.saturate() }
    /// `.relu` after any operation.
    Relu<T: Real> = |a: T| -> T { a.relu() }
    /// `ex2`.
    Ex2<T: Real> = |a: T| -> T { a.ex2() }
    /// `tanh`.
    Tanh<T: Real> slow true = |a: T| -> T { a.tanh() }
    /// `abs.ftz` and other forms that look at the value.
    Abs<T: Real> = |a: T| -> T { a.abs() }
    /// `neg.ftz`.
    Neg<T: Real> = |a: T| -> T { a.neg() }
    /// Clears the sign bits in a mask: `abs` as a bit operation.
    AbsBits16 = |a: u32| -> u32 { a & 0x7fff }
    /// `abs` of two.
    AbsBits16x2 = |a: u32| -> u32 { a & 0x7fff_7fff }
    /// `abs.f32`.
    AbsBits32 = |a: u32| -> u32 { a & 0x7fff_ffff }
    /// `abs.f64`.
    AbsBits64 = |a: u64| -> u64 { a & !(1 << 63) }
    /// `neg` as a bit operation.
    NegBits16 = |a: u32| -> u32 { a ^ 0x8000 }
    /// `neg` of two.
    NegBits16x2 = |a: u32| -> u32 { a ^ 0x8000_8000 }
    /// `neg.f32`.
    NegBits32 = |a: u32| -> u32 { a ^ 0x8000_0000 }
    /// `neg.f64`.
    NegBits64 = |a: u64| -> u64 { a ^ 1 << 63 }
    /// `lg2.approx`.
    Lg2<T: Single> = |a: T| -> T { T::of(approx::lg2(a.get())) }
    /// `rsqrt.approx`.
    Rsqrt<T: Single> = |a: T| -> T { T::of(approx::rsqrt(a.get())) }
    /// `rsqrt.approx.f64`.
    Rsqrt64 = |a: F64| -> F64 { F64(1.0 / a.0.sqrt()) }
    /// `sin.approx`.
    Sin<T: Single> slow true = |a: T| -> T { T::of(f64::from(a.get()).sin() as f32) }
    /// `cos.approx`.
    Cos<T: Single> slow true = |a: T| -> T { T::of(f64::from(a.get()).cos() as f32) }
    /// `rcp` in a mode.
    Rcp<T: Directed, const K: u8> = |a: T| -> T { T::one().div(a, mode(K)) }
    /// `sqrt` in a mode.
    Sqrt<T: Directed, const K: u8> = |a: T| -> T { a.sqrt(mode(K)) }
}
ops! {
    /// `add`.
    Add<T: Real> = |a: T, b: T| -> T { a.add(b) }
    /// `sub`.
    Sub<T: Real> = |a: T, b: T| -> T { a.sub(b) }
    /// `mul`.
    Mul<T: Real> = |a: T, b: T| -> T { a.mul(b) }
    /// `min`.
    Min<T: Real> = |a: T, b: T| -> T { a.min::<false>(b) }
    /// `max`.
    Max<T: Real> = |a: T, b: T| -> T { a.max::<false>(b) }
    /// `min.NaN`.
    MinNan<T: Real> = |a: T, b: T| -> T { a.min::<true>(b) }
    /// `max.NaN`.
    MaxNan<T: Real> = |a: T, b: T| -> T { a.max::<true>(b) }
    /// `min.xorsign.abs`.
    MinXor<T: XorSign> = |a: T, b: T| -> T { a.abs().min::<false>(b.abs()).with_sign_of(a, b) }
    /// `max.xorsign.abs`.
    MaxXor<T: XorSign> = |a: T, b: T| -> T { a.abs().max::<false>(b.abs()).with_sign_of(a, b) }
    /// `min.NaN.xorsign.abs`.
    MinNanXor<T: XorSign> = |a: T, b: T| -> T { a.abs().min::<true>(b.abs()).with_sign_of(a, b) }
    /// `max.NaN.xorsign.abs`.
    MaxNanXor<T: XorSign> = |a: T, b: T| -> T { a.abs().max::<true>(b.abs()).with_sign_of(a, b) }
    /// `add` in a mode.
    AddIn<T: Directed, const K: u8> = |a: T, b: T| -> T { a.add(b, mode(K)) }
    /// `sub` in a mode.
    SubIn<T: Directed, const K: u8> = |a: T, b: T| -> T { a.add(b.negated(), mode(K)) }
    /// `mul` in a mode.
    MulIn<T: Directed, const K: u8> = |a: T, b: T| -> T { a.mul(b, mode(K)) }
    /// `div` in a mode.
    DivIn<T: Directed, const K: u8> = |a: T, b: T| -> T { a.div(b, mode(K)) }
    /// `copysign.f32`: the sign of the first, the rest of the second.
    Copysign32 = |a: u32, b: u32| -> u32 { a & 0x8000_0000 | b & 0x7fff_ffff }
    /// `copysign.f64`.
    Copysign64 = |a: u64, b: u64| -> u64 { a & 1 << 63 | b & !(1 << 63) }
}
ops! {
    /// `fma`.
    Fma<T: Real> = |a: T, b: T, c: T| -> T { a.fma(b, c) }
    /// `fma` in a mode.
    FmaIn<T: Directed, const K: u8> = |a: T, b: T, c: T| -> T { a.fma(b, c, mode(K)) }
}

/// The f32 types of the approximations.
pub(crate) trait Single: Value {
    fn get(self) -> f32;
    fn of(x: f32) -> Self;
}
impl<const FTZ: bool> Single for F32<FTZ> {
    #[inline(always)]
    fn get(self) -> f32 {
        self.0
    }
    #[inline(always)]
    fn of(x: f32) -> Self {
        F32(x)
    }
}
