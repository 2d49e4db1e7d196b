//! Floating-point arithmetic of all formats: one set of operations over the [`Real`] types.

use super::lanes::Value;
use crate::numeric::approx;
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_f32_odd};
use crate::numeric::round::add_odd;

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
            let less = if a < b {
                a
            } else if b < a {
                b
            } else {
                zero
            };
            self.with(pick_number::<NAN, $float>(a, b, a.is_nan(), b.is_nan(), less))
        }
        #[inline(always)]
        fn max<const NAN: bool>(self, o: Self) -> Self {
            let (a, b) = (self.0, o.0);
            let zero = <$float>::from_bits(a.to_bits() & b.to_bits());
            let more = if a > b {
                a
            } else if b > a {
                b
            } else {
                zero
            };
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
        true => {
            if a_nan {
                a
            } else if b_nan {
                b
            } else {
                chosen
            }
        }
        false => {
            if a_nan {
                b
            } else if b_nan {
                a
            } else {
                chosen
            }
        }
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
