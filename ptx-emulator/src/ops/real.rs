//! Floating-point arithmetic of all formats: one set of operations over the [`Real`] types.

use super::lanes::{Value, ops};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_f32_odd};
use crate::numeric::round::{self, Round, add_odd};
use crate::numeric::approx;

/// The NaN that f32 arithmetic makes.
const NAN32: u32 = 0x7fff_ffff;

/// An f32; with `FTZ`, subnormal operands and results are zeros of their sign.
#[derive(Clone, Copy)]
pub(crate) struct F32<const FTZ: bool>(pub f32);
/// An f64.
#[derive(Clone, Copy)]
pub(crate) struct F64(pub f64);
/// An f16 widened to f32; rounding happens when it is stored.
#[derive(Clone, Copy)]
pub(crate) struct F16<const FTZ: bool>(pub f32);
/// A bf16 widened to f32.
#[derive(Clone, Copy)]
pub(crate) struct BF16(pub f32);
/// Two values in one register.
#[derive(Clone, Copy)]
pub(crate) struct Two<T>(T, T);

#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

#[inline(always)]
fn flush_if<const FTZ: bool>(x: f32) -> f32 {
    if FTZ { flush(x) } else { x }
}

impl<const FTZ: bool> Value for F32<FTZ> {
    type Reg = u32;
    const ZERO: u32 = 0;
    #[inline(always)]
    fn load(r: u32) -> Self {
        F32(flush_if::<FTZ>(f32::from_bits(r)))
    }
    #[inline(always)]
    fn store(self) -> u32 {
        if self.0.is_nan() { NAN32 } else { flush_if::<FTZ>(self.0).to_bits() }
    }
}
impl Value for F64 {
    type Reg = u64;
    const ZERO: u64 = 0;
    #[inline(always)]
    fn load(r: u64) -> Self {
        F64(f64::from_bits(r))
    }
    #[inline(always)]
    fn store(self) -> u64 {
        self.0.to_bits()
    }
}
impl<const FTZ: bool> Value for F16<FTZ> {
    type Reg = u32;
    const ZERO: u32 = 0;
    #[inline(always)]
    fn load(r: u32) -> Self {
        let r = if FTZ && r & 0x7c00 == 0 { r & 0x8000 } else { r & 0xffff };
        F16(f16_to_f32(r))
    }
    #[inline(always)]
    fn store(self) -> u32 {
        let r = f32_to_f16(self.0);
        if FTZ && r & 0x7c00 == 0 { r & 0x8000 } else { r }
    }
}
impl Value for BF16 {
    type Reg = u32;
    const ZERO: u32 = 0;
    #[inline(always)]
    fn load(r: u32) -> Self {
        BF16(bf16_to_f32(r))
    }
    #[inline(always)]
    fn store(self) -> u32 {
        f32_to_bf16(self.0)
    }
}
impl<T: Value<Reg = u32>> Value for Two<T> {
    type Reg = u32;
    const ZERO: u32 = 0;
    #[inline(always)]
    fn load(r: u32) -> Self {
        Two(T::load(r & 0xffff), T::load(r >> 16))
    }
    #[inline(always)]
    fn store(self) -> u32 {
        self.0.store() & 0xffff | self.1.store() << 16
    }
}

/// Arithmetic with one rounding to nearest.
pub(crate) trait Real: Value {
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn fma(self, b: Self, c: Self) -> Self;
    /// With `NAN`, a NaN operand wins; without, the other operand does.
    fn min<const NAN: bool>(self, o: Self) -> Self;
    fn max<const NAN: bool>(self, o: Self) -> Self;
    fn saturate(self) -> Self;
    fn relu(self) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    fn ex2(self) -> Self;
    fn tanh(self) -> Self;
}

/// The sign of the last operand, xor-ed from both, for `min.xorsign.abs`.
pub(crate) trait XorSign: Real {
    fn with_sign_of(self, a: Self, b: Self) -> Self;
}

macro_rules! minmax {
    ($float:ty) => {
        #[inline(always)]
        fn min<const NAN: bool>(self, o: Self) -> Self {
            let (a, b) = (self.0, o.0);
            let zero = <$float>::from_bits(a.to_bits() | b.to_bits());
            let less = if a < b { a } else if b < a { b } else { zero };
            self.with(pick_number::<NAN, $float>(a, b, a.is_nan(), b.is_nan(), less))
        }
        #[inline(always)]
        fn max<const NAN: bool>(self, o: Self) -> Self {
            let (a, b) = (self.0, o.0);
            let zero = <$float>::from_bits(a.to_bits() & b.to_bits());
            let more = if a > b { a } else if b > a { b } else { zero };
            self.with(pick_number::<NAN, $float>(a, b, a.is_nan(), b.is_nan(), more))
        }
        #[inline(always)]
        fn saturate(self) -> Self {
            let x = self.0;
            // NaN gives +0.
            self.with(if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 })
        }
        #[inline(always)]
        fn relu(self) -> Self {
            let x = self.0;
            self.with(if x.is_nan() || x > 0.0 { x } else { 0.0 })
        }
        #[inline(always)]
        fn abs(self) -> Self {
            self.with(self.0.abs())
        }
        #[inline(always)]
        fn neg(self) -> Self {
            self.with(-self.0)
        }
    };
}

#[inline(always)]
fn pick_number<const NAN: bool, T: Copy>(a: T, b: T, a_nan: bool, b_nan: bool, chosen: T) -> T {
    match NAN {
        true => if a_nan { a } else if b_nan { b } else { chosen },
        false => if a_nan { b } else if b_nan { a } else { chosen },
    }
}

impl<const FTZ: bool> F32<FTZ> {
    #[inline(always)]
    fn with(self, x: f32) -> Self {
        F32(x)
    }
}
impl F64 {
    #[inline(always)]
    fn with(self, x: f64) -> Self {
        F64(x)
    }
}
impl<const FTZ: bool> F16<FTZ> {
    #[inline(always)]
    fn with(self, x: f32) -> Self {
        F16(x)
    }
}
impl BF16 {
    #[inline(always)]
    fn with(self, x: f32) -> Self {
        BF16(x)
    }
}

impl<const FTZ: bool> Real for F32<FTZ> {
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        F32(self.0 + o.0)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        F32(self.0 - o.0)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        F32(self.0 * o.0)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F32(f32::mul_add(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn ex2(self) -> Self {
        F32(approx::ex2(self.0))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        F32(f64::from(self.0).tanh() as f32)
    }
    minmax!(f32);
}
impl Real for F64 {
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        F64(self.0 + o.0)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        F64(self.0 - o.0)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        F64(self.0 * o.0)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F64(f64::mul_add(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn ex2(self) -> Self {
        F64(self.0.exp2())
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        F64(self.0.tanh())
    }
    minmax!(f64);
}
// f16: f32 holds products exactly, and its 24 bits are enough (2 * 11 + 2) that rounding sums twice equals rounding once.
impl<const FTZ: bool> Real for F16<FTZ> {
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        F16(self.0 + o.0)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        F16(self.0 - o.0)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        F16(self.0 * o.0)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F16(fma_odd(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn ex2(self) -> Self {
        F16(approx::ex2(self.0))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        F16(f64::from(self.0).tanh() as f32)
    }
    minmax!(f32);
}
// bf16: its exponent range is f32's, so tiny products go through f64.
impl Real for BF16 {
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        BF16(self.0 + o.0)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        BF16(self.0 - o.0)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        BF16(f64_to_f32_odd(f64::from(self.0) * f64::from(o.0)))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        BF16(fma_odd(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn ex2(self) -> Self {
        BF16(approx::ex2(self.0))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        BF16(f64::from(self.0).tanh() as f32)
    }
    minmax!(f32);
}

/// The product is exact in f64; the sum is rounded to odd twice, so that the final rounding is the only one.
#[inline(always)]
fn fma_odd(a: f32, b: f32, c: f32) -> f32 {
    f64_to_f32_odd(add_odd(f64::from(a) * f64::from(b), f64::from(c)))
}

impl<T: Real + Value<Reg = u32>> Real for Two<T> {
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Two(self.0.add(o.0), self.1.add(o.1))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Two(self.0.sub(o.0), self.1.sub(o.1))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Two(self.0.mul(o.0), self.1.mul(o.1))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Two(self.0.fma(b.0, c.0), self.1.fma(b.1, c.1))
    }
    #[inline(always)]
    fn min<const NAN: bool>(self, o: Self) -> Self {
        Two(self.0.min::<NAN>(o.0), self.1.min::<NAN>(o.1))
    }
    #[inline(always)]
    fn max<const NAN: bool>(self, o: Self) -> Self {
        Two(self.0.max::<NAN>(o.0), self.1.max::<NAN>(o.1))
    }
    #[inline(always)]
    fn saturate(self) -> Self {
        Two(self.0.saturate(), self.1.saturate())
    }
    #[inline(always)]
    fn relu(self) -> Self {
        Two(self.0.relu(), self.1.relu())
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Two(self.0.abs(), self.1.abs())
    }
    #[inline(always)]
    fn neg(self) -> Self {
        Two(self.0.neg(), self.1.neg())
    }
    #[inline(always)]
    fn ex2(self) -> Self {
        Two(self.0.ex2(), self.1.ex2())
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        Two(self.0.tanh(), self.1.tanh())
    }
}

macro_rules! xor_sign {
    ($($impl:tt)*) => {
        $($impl)* {
            #[inline(always)]
            fn with_sign_of(self, a: Self, b: Self) -> Self {
                let negative = a.0.is_sign_negative() != b.0.is_sign_negative();
                self.with(if negative { -self.0 } else { self.0 })
            }
        }
    };
}
xor_sign!(impl<const FTZ: bool> XorSign for F32<FTZ>);
xor_sign!(impl<const FTZ: bool> XorSign for F16<FTZ>);
xor_sign!(impl XorSign for BF16);
xor_sign!(impl XorSign for F64);
impl<T: XorSign + Value<Reg = u32>> XorSign for Two<T> {
    #[inline(always)]
    fn with_sign_of(self, a: Self, b: Self) -> Self {
        Two(self.0.with_sign_of(a.0, b.0), self.1.with_sign_of(a.1, b.1))
    }
}

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
